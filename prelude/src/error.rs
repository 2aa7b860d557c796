//! The one error type of the prelude: what was wrong, where, and what to do about it.

use std::path::{Path, PathBuf};

use crate::display::containers::plural;

/// A result whose error a cell can show.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// fn mean_loss(vlm: &Vlm, colors: &[[u8; 3]]) -> Result<f32> {
///     let mut sum = 0.0;
///     for color in colors {
///         let prompt = vlm.caption_prompt(&Image::filled(64, 64, *color)?, "a red square")?;
///         sum += vlm.full_sequence_loss_of(&prompt)?.value()?;
///     }
///     Ok(sum / colors.len() as f32)
/// }
/// assert!(mean_loss(&Vlm::tiny(&Device::Cpu)?, &[[200, 30, 40]])? > 0.0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in a cell that uses the prelude.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig { image_size: 0, ..ShapesConfig::default() });
/// match shapes {
///     Err(Error::Config(why)) => assert!(why.contains("image")), // which kind it is
///     other => panic!("{:?}", other.err()),
/// }
/// let refused = Image::load("photos/missing.jpg").unwrap_err();
/// assert!(refused.to_string().contains("photos/missing.jpg")); // what a cell shows
/// ```
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
    /// Parameters whose gradient is not the slope of the loss: they would move another way than down.
    #[error("the gradient of {} of what trains is wrong: {}. {hint}", parameters.len(), crate::train::gradient_check::named(parameters))]
    WrongGradient {
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
    /// The loss or the gradient of a training step is no finite number: the step was not taken.
    #[error(
        "step {step}: the loss is {loss} and the gradient's length {norm}, so the step was not taken; it comes from {}: \
         look at these samples, train with a lower learning rate, or leave them out with \
         TrainerSettings {{ not_finite: NotFinite::LeaveOut, .. }}",
        samples.join(", ")
    )]
    NotFinite {
        /// The step that was not taken.
        step: usize,
        /// Its loss.
        loss: f64,
        /// The length of its gradient.
        norm: f64,
        /// The samples whose own loss or gradient is not finite; all of the step, if only all together are.
        samples: Vec<String>,
    },
    /// A set without a single sample that can be used.
    #[error("{set} holds no sample that can be used: {why}")]
    NoSamples {
        /// Which set.
        set: String,
        /// Why, and what to do.
        why: String,
    },
    /// Sequences whose attention mask hides every token.
    #[error(
        "the attention mask hides every token of {}: give 1 to the tokens and 0 to padding only",
        numbered("sequence", sequences)
    )]
    NothingVisible {
        /// Their numbers in the batch, from 0.
        sequences: Vec<usize>,
    },
    /// A sequence does not fit the language model's context.
    #[error(
        "{what} has {tokens} tokens, the model's context is {context} tokens: {} — shorten what can be shortened",
        parts(pieces)
    )]
    ContextOverflow {
        /// Which sequence.
        what: String,
        /// Its tokens in all.
        tokens: usize,
        /// What the language model can read.
        context: usize,
        /// Its pieces in order, with the tokens of each.
        pieces: Vec<(String, usize)>,
    },
    /// The inputs (pictures, say) that a prompt has places for are not those that it was given.
    #[error("the prompt has {} for {}: give one input for each place", plural(*places, "place"), plural(*inputs, "input"))]
    InputCount {
        /// Places for inputs in the prompt.
        places: usize,
        /// Inputs that were given.
        inputs: usize,
    },
    /// A prompt shows something to an encoder that the model does not have.
    #[error("a piece of the prompt is for the encoder {encoder:?}, which the model lacks; it has {}: add it with \
             `vlm.add_encoder(name, encoder, projector, seed)?`", encoders.join(", "))]
    NoSuchEncoder {
        /// The encoder that the piece names.
        encoder: String,
        /// Those that there are.
        encoders: Vec<String>,
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
    /// An edit, or a name to be read, is of an activation that nothing in the pass has.
    #[error("there is no activation {name:?} in this pass{}", meant(nearest))]
    NoSuchActivation {
        /// The name that was asked for.
        name: String,
        /// Names that the pass has, the nearest first; empty where no model ran in it.
        nearest: Vec<String>,
    },
    /// What an edit puts somewhere has another shape than what is there.
    #[error(
        "{name} is {expected:?} where the edit changes it, and {found:?} is put there: give it the same shape, or one vector for all tokens"
    )]
    ActivationShape {
        /// The activation.
        name: String,
        /// Shape of the part that the edit is about.
        expected: Vec<usize>,
        /// Shape of what was given.
        found: Vec<usize>,
    },
    /// An edit is of tokens, heads or rows that an activation does not have in this pass.
    #[error("{name} has no {what} in this pass: {has}")]
    NotInPass {
        /// The activation.
        name: String,
        /// What the edit is about.
        what: String,
        /// What there is.
        has: String,
    },
    /// A SMILES is no molecule.
    #[error("SMILES, character {}: {message}\n  {}", at + 1, pointed_at(smiles, *at))]
    Smiles {
        /// The whole of it.
        smiles: String,
        /// The place of what is wrong, in characters from 0.
        at: usize,
        /// What is wrong there.
        message: String,
    },
    /// There is no chemical element of this symbol.
    #[error("{place}: there is no element {element:?}")]
    UnknownElement {
        /// What stands in a symbol's place.
        element: String,
        /// Where.
        place: String,
    },
    /// A line of a file of molecules, spectra, edges or fields is wrong.
    #[error("{what}, line {line}: {message}")]
    Line {
        /// The file, or how the text is called.
        what: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A graph or a molecule without a node.
    #[error("{graph} has no nodes: there is nothing to encode or to draw")]
    NoNodes {
        /// Which.
        graph: String,
    },
    /// A spectrum without a peak.
    #[error("{spectrum} has no peaks: there is nothing to encode or to draw")]
    NoPeaks {
        /// Which.
        spectrum: String,
    },
    /// A measured or computed value is no finite number.
    #[error("{what}: {place} is {value}; replace or leave out what was not measured")]
    NotANumber {
        /// What the value belongs to.
        what: String,
        /// Where in it.
        place: String,
        /// NaN or an infinity.
        value: f64,
    },
    /// A model could not be found, fetched or trusted.
    #[error("{0}")]
    Hub(#[from] crate::hub::HubError),
    /// Several processes can't work together: no MPI library, or one that does not fit.
    #[error("several processes: {0}")]
    Parallel(String),
    /// Another process of the same run failed, and all of them ended with it.
    #[error("rank {rank} of {ranks} ended the run: {message}")]
    Rank {
        /// Which, from 0.
        rank: usize,
        /// How many there are.
        ranks: usize,
        /// What it reported.
        message: String,
    },
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

/// A text of one line, with a mark below its character `at`; of a long one what is near.
fn pointed_at(text: &str, at: usize) -> String {
    let from = at.saturating_sub(30);
    let near: String = text.chars().skip(from).take(60).collect();
    format!("{near}\n  {}^", " ".repeat(at - from))
}

/// `sequence 3`, `sequences 0, 2`
fn numbered(what: &str, numbers: &[usize]) -> String {
    let list: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("{what}{plural} {}", list.join(", "))
}

/// `start 3, image 64, query 12`
fn parts(pieces: &[(String, usize)]) -> String {
    let list: Vec<String> = pieces
        .iter()
        .map(|(name, tokens)| format!("{name} {tokens}"))
        .collect();
    list.join(", ")
}

/// The names that a wrong one may have meant.
fn meant(nearest: &[String]) -> String {
    match nearest {
        [] => ": no model ran in it on this thread".to_owned(),
        _ => format!(
            "; the nearest are {}: read \"*\" to see all",
            nearest.join(", ")
        ),
    }
}

/// From where a relative path that is not there was looked for.
fn looked_for(path: &Path, source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound => crate::files::looked_for_from(path),
        _ => String::new(),
    }
}
