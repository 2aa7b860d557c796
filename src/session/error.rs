//! Why a session cannot start or go on, each with what to do about it.

use std::path::PathBuf;

/// A session cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// There is no Rust compiler.
    #[error(
        "no Rust compiler found: neither `rustup` nor `{tool}` is on PATH; install Rust from https://rustup.rs and open a new terminal"
    )]
    NoRust {
        /// The program that was looked for.
        tool: &'static str,
    },
    /// The compiler is there but does not run.
    #[error("`{}` does not run: {reason}", program.display())]
    BrokenRust {
        /// The program.
        program: PathBuf,
        /// What it or the system said.
        reason: String,
    },
    /// The source of the standard library, which completion and variables need, is not installed.
    #[error("the source of Rust's standard library is missing ({} does not exist) and could not be added ({reason}); run `rustup component add rust-src`", expected.display())]
    NoRustSource {
        /// Where it was looked for.
        expected: PathBuf,
        /// What rustup said.
        reason: String,
    },
    /// The prelude's source is nowhere to be found.
    #[error("the prelude's source was not found: {reason}")]
    PreludeSource {
        /// What was searched.
        reason: String,
    },
    /// The prelude does not compile.
    #[error("the prelude did not build ({}):\n{log}", source_dir.display())]
    PreludeBuild {
        /// Where its source is.
        source_dir: PathBuf,
        /// The compiler's errors.
        log: String,
    },
    /// The cache folder cannot be used.
    #[error("cannot {action} {}: {source}; set GLASSBOX_CACHE_DIR to a folder on a disk with space that you may write to", path.display())]
    Cache {
        /// What was tried, such as "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others could put what they like where the session's libraries are.
    #[error(
        "the cache is not used: {exposed}. What others put there would run as you: see to it that the folder and its parents belong to you or the system and only you write there (remove what is not yours; it is built anew), or set GLASSBOX_CACHE_DIR to a folder of your own"
    )]
    Exposed {
        /// What is wrong with it.
        exposed: crate::private::Exposed,
    },
    /// The path of a folder can't be used.
    #[error(
        "the folder {reason}, which compilers and loaders would read as something else; set {variable} to another one"
    )]
    OddPath {
        /// The path and what is wrong with it.
        reason: String,
        /// The variable that names the folder.
        variable: &'static str,
    },
    /// A file or process of the session failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// rust-analyzer refused.
    #[error("{0}")]
    Engine(String),
    /// A cell of [`crate::session::SessionConfig::init`] failed.
    #[error("the session's first cells failed: {0}")]
    Init(Box<crate::session::CellError>),
}

impl SessionError {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> SessionError {
        let mut action = action.into();
        move |source| {
            let full = [
                std::io::ErrorKind::StorageFull,
                std::io::ErrorKind::QuotaExceeded,
            ];
            if full.contains(&source.kind()) && !action.contains("TMPDIR") {
                action += " (free some space, or set TMPDIR to a folder on another disk)";
            }
            SessionError::Io { action, source }
        }
    }

    pub(crate) fn cache(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> SessionError {
        let path = path.into();
        move |source| SessionError::Cache {
            action,
            path,
            source,
        }
    }
}
