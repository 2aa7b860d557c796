//! Exit codes, and an error that knows its own.

use std::fmt::Display;
use std::process::ExitCode;

/// How the program ends; `glassbox --help` lists the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// A cell, training or evaluating failed, or something needed is missing.
    CellFailed,
    /// The command line is wrong in a way that the parser does not see.
    Usage,
    /// The notebook, a parameter or the file of a run is wrong.
    BadNotebook,
    /// The session can't start.
    NoSession,
    /// An output can't be written.
    NotWritten,
    /// Interrupted by the user.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::CellFailed => 1,
            Exit::Usage => 2,
            Exit::BadNotebook => 3,
            Exit::NoSession => 4,
            Exit::NotWritten => 5,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// A command could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How to end.
    pub exit: Exit,
    /// What happened, to what, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with this message.
    pub fn new(exit: Exit, message: impl Display) -> Failure {
        Failure {
            exit,
            message: message.to_string(),
        }
    }
}
