//! The one error type of the prelude: what was wrong, where, and what to do about it.

use std::path::{Path, PathBuf};

/// A result whose error a cell can show.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in a cell that uses the prelude.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed (shapes, dtypes, devices).
    #[error("{0}")]
    Candle(#[source] candle_core::Error),
    /// A file could not be read or written.
    #[error("{}: {source}{}", path.display(), looked_for(path, source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{} is not valid: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// A picture could not be decoded or encoded.
    #[error("picture {what}: {source}")]
    Image {
        /// The picture's file name or a description.
        what: String,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// The tokenizer refused.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A tensor in a weights file has another shape than the config asks for.
    #[error("{}: tensor {tensor} has shape {found:?}, the config asks for {expected:?}", path.display())]
    Weights {
        /// Name in the file.
        tensor: String,
        /// Shape from the config.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
        /// The weights file or folder.
        path: PathBuf,
    },
    /// A tensor that the model needs is not in the file.
    #[error("{}: tensor {tensor} is missing{hint}", path.display())]
    MissingTensor {
        /// Name that was looked for.
        tensor: String,
        /// The weights file or folder.
        path: PathBuf,
        /// What was there instead, beginning with "; ", or empty.
        hint: String,
    },
    /// A weights file is damaged, incomplete or of another kind.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The weights file or folder.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A configuration value is wrong or contradicts another.
    #[error("{0}")]
    Config(String),
    /// An argument is wrong; the message says what to do.
    #[error("{0}")]
    Input(String),
    /// Parameters that train got no gradient: they would never move.
    #[error("no gradient reaches {} of what trains, so that it would never move: {}. {hint}", parameters.len(), crate::train::gradient_check::named(parameters))]
    NoGradient {
        /// Their names.
        parameters: Vec<String>,
        /// What may be the reason, and what to do.
        hint: String,
    },
    /// Samples whose captions have no token that carries loss: there is nothing to learn from them.
    #[error("no token carries loss in {}: {hint}", samples.join("; "))]
    NoTarget {
        /// Which samples, with their captions.
        samples: Vec<String>,
        /// What to do.
        hint: String,
    },
    /// An encoder does not have what was asked for, such as attention maps or a place for pictures.
    #[error("the encoder {encoder} offers no {what}: {hint}")]
    Unsupported {
        /// The encoder's kind.
        encoder: String,
        /// What was asked for.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A model could not be found, fetched or trusted.
    #[error("{0}")]
    Hub(#[from] crate::hub::HubError),
    /// The user interrupted. All state is consistent: the next cell can go on.
    #[error("interrupted: everything made so far is kept, run the cell again to go on")]
    Interrupted,
}

impl Error {
    /// [`Error::Interrupted`] in the form in which a backward pass can pass it on.
    pub(crate) fn interrupted_in_candle() -> candle_core::Error {
        candle_core::Error::Wrapped(Box::new(Error::Interrupted))
    }

    /// Whether an error of candle's says that the user interrupted.
    pub(crate) fn is_interrupt(error: &candle_core::Error) -> bool {
        use candle_core::Error as Candle;
        match error {
            Candle::Wrapped(inner) => inner.to_string() == Error::Interrupted.to_string(),
            Candle::WithBacktrace { inner, .. }
            | Candle::Context { inner, .. }
            | Candle::WithPath { inner, .. } => Error::is_interrupt(inner),
            _ => false,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Error {
        match Error::is_interrupt(&error) {
            true => Error::Interrupted,
            false => Error::Candle(error),
        }
    }
}

/// From where a relative path that is not there was looked for.
fn looked_for(path: &Path, source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound => crate::files::looked_for_from(path),
        _ => String::new(),
    }
}
