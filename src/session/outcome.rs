//! How a cell ended, and what is true of the variables afterwards.

use std::fmt;
use std::time::Duration;

/// How a cell ended.
#[derive(Clone, Debug)]
pub struct CellOutcome {
    /// Whether the cell did what it says.
    pub status: Result<(), CellError>,
    /// From the call of `evaluate` to the last output.
    pub duration: Duration,
    /// Where the time went, in order. Empty for a cell that failed to compile.
    pub phases: Vec<(String, Duration)>,
    /// How long the cell's own code ran; `None` if nothing ran to its end.
    pub ran: Option<Duration>,
}

/// Why a cell failed.
#[derive(Clone, Debug)]
pub struct CellError {
    /// What kind of failure.
    pub kind: CellErrorKind,
    /// Short name of the error, distinct for each kind (for compile errors the error code, such as `E0308`).
    pub ename: String,
    /// One line that says what happened.
    pub evalue: String,
    /// The report, line by line, with ANSI colours.
    pub traceback: Vec<String>,
    /// What state survived. The sentence also stands at the end of `traceback`.
    pub state: StateKept,
}

impl fmt::Display for CellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.ename, self.evalue)
    }
}

impl std::error::Error for CellError {}

/// What kind of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellErrorKind {
    /// The cell did not compile; nothing ran.
    Compile,
    /// The cell panicked.
    Panic,
    /// A `?` met an error.
    Error,
    /// The user stopped it.
    Interrupted,
    /// The process was ended by this signal.
    Aborted {
        /// Signal number, such as 11 for a segmentation fault.
        signal: i32,
    },
    /// The cell called `exit`.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// The front end's time limit was reached.
    Timeout,
    /// A command (`:time`, `:load` …) was used in a wrong way or could not do its work.
    Command,
    /// Something in Glassbox went wrong.
    Internal,
}

/// What variables survived a failed cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateKept {
    /// Variables of earlier cells that are still there, sorted.
    pub kept: Vec<String>,
    /// Variables of earlier cells that are gone, sorted.
    pub lost: Vec<String>,
    /// Variables that this cell was to define and that were not stored, sorted.
    pub not_stored: Vec<String>,
    /// Whether the process that holds the variables was started anew.
    pub restarted: bool,
    /// How many earlier cells `:replay` would run to bring the lost variables back.
    pub replayable: usize,
}

impl fmt::Display for StateKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.restarted {
            write!(
                f,
                "The process that runs cells was started anew with the prelude loaded; "
            )?;
            match self.lost.as_slice() {
                [] => write!(f, "no variables were lost.")?,
                lost => write!(f, "lost: {}.", list(lost))?,
            }
            write!(f, " Functions, types and imports are kept.")?;
            return self.offer(f);
        }
        match (self.lost.as_slice(), self.kept.as_slice()) {
            ([], []) => write!(f, "No variables were lost.")?,
            ([], kept) => write!(f, "All variables are kept: {}.", list(kept))?,
            (lost, []) => write!(f, "Lost, because the cell had taken them: {}.", list(lost))?,
            (lost, kept) => {
                write!(
                    f,
                    "Lost, because the cell had taken them: {}. Kept: {}.",
                    list(lost),
                    list(kept)
                )?;
            }
        }
        if !self.not_stored.is_empty() {
            write!(
                f,
                " Not stored, because the cell did not finish: {}.",
                list(&self.not_stored)
            )?;
        }
        self.offer(f)
    }
}

impl StateKept {
    /// How to get back what was lost.
    fn offer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replayable {
            0 => Ok(()),
            1 => write!(f, " `:replay` runs the cell again that defined it."),
            n => write!(f, " `:replay` runs the {n} cells again that defined them."),
        }
    }
}

/// At most this many names are spelt out in a sentence.
const NAMES_SHOWN: usize = 12;

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(NAMES_SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.len().checked_sub(NAMES_SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}
