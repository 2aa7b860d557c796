//! One evaluation session: what the kernel, the REPL and the notebook runner use, and nothing else.
//!
//! ```text
//! code ─▶ Session::evaluate ─▶ engine: one generated crate ─▶ rustc ─▶ ld ─▶ child process
//!                 ▲                                                               │
//!                 └── events while the cell runs ◀── frames ◀── streams ◀── fd 1, fd 2
//! ```
//!
//! # Layout
//! - [`error`], [`event`], [`outcome`], `start`: what front ends see, plain data
//! - `driver`: the [`Session`] itself; [`interrupt`]: stopping a cell from another thread; `cell_log`: the cells that ran
//! - `commands`: the lines of a cell that are not Rust; `syntax`: what can be said of a cell without compiling it
//! - `engine`: from Rust to a library that runs in the child, and rust-analyzer; `aids`: completion and inspection
//! - `child`: this binary as the process that runs cells, see [`role`]; `pipes`: from its bytes to events, and answers back
//! - `reports`: what is said of cells that failed
//! - `prelude`: the prelude as one shared library, and the Rust that builds it
//! - `folder`: a session's own folder, and whose it is; `place`: where it lies; `offspring`: processes that cells start

mod aids;
mod cell_log;
mod child;
mod commands;
mod driver;
mod engine;
pub mod error;
pub mod event;
mod folder;
pub mod interrupt;
mod nesting;
mod offspring;
pub mod outcome;
mod pipes;
mod place;
mod prelude;
mod reports;
mod start;
mod syntax;
mod tokens;

use std::path::PathBuf;

pub use aids::Aids;
pub use commands::{Asked, asked, commands};
pub use driver::Session;
pub use engine::kept::status::{KeptCells, kept_cells};
pub use error::SessionError;
pub use event::{Comm, CommKind, Display, Event, InputRequest, StreamName};
pub use interrupt::{Interrupted, Interrupter};
pub use outcome::{CellError, CellErrorKind, CellOutcome, StateKept};
pub use pipes::background::BackgroundSink;
pub use pipes::input::InputReader;
pub use place::{free_bytes, sessions_place};
pub use prelude::source::{EmbeddedSource, embed_prelude_source};
pub use prelude::status::{PreludeState, PreludeStatus, prelude_status};
pub(crate) use prelude::toolchain::called as called_rust;
pub(crate) use prelude::{SharedPrelude, shared_prelude};
pub use start::StartEvent;
pub use syntax::Completeness;

/// How to start a session.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Features of the prelude to build it with, such as `cuda`.
    pub features: Vec<String>,
    /// Bring the prelude's names into every cell (`use glassbox_prelude::prelude::*;`). It is loaded either way.
    pub prelude: bool,
    /// The front end passes on [`Event::Comm`], and what comes back by [`Session::deliver`]: controls can be moved.
    pub comms: bool,
    /// Cells to run before the first one.
    pub init: Vec<String>,
    /// The `glassbox` binary, which plays the other roles. By default the running program.
    pub program: Option<PathBuf>,
    /// Where to find the prelude's source; see [`SessionError::PreludeSource`] for where it is found by default.
    pub prelude_source: Option<PathBuf>,
    /// Where to keep built preludes. By default `$GLASSBOX_CACHE_DIR`, else `glassbox` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
}

/// Names the features of the prelude, separated by commas, for sessions that no command line starts.
pub const FEATURES_VARIABLE: &str = "GLASSBOX_FEATURES";

impl SessionConfig {
    /// The default with the features that [`FEATURES_VARIABLE`] names: what Jupyter's kernel starts with.
    pub fn from_environment() -> SessionConfig {
        let named = std::env::var(FEATURES_VARIABLE).unwrap_or_default();
        let features = named
            .split(',')
            .map(str::trim)
            .filter(|feature| !feature.is_empty());
        SessionConfig {
            features: features.map(str::to_owned).collect(),
            ..SessionConfig::default()
        }
    }
}

impl Default for SessionConfig {
    fn default() -> SessionConfig {
        SessionConfig {
            features: Vec::new(),
            prelude: true,
            comms: false,
            init: Vec::new(),
            program: None,
            prelude_source: None,
            cache_dir: None,
        }
    }
}

/// What can stand at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completions {
    /// First byte to be replaced.
    pub start: usize,
    /// One past the last byte to be replaced.
    pub end: usize,
    /// The proposals, best first.
    pub items: Vec<Completion>,
}

/// One proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// What to insert.
    pub text: String,
    /// What to show: the name with its type or signature, in one line.
    pub label: String,
    /// Jupyter's word for what it is: `function`, `class`, `module`, `instance`, `keyword`, `magic`, `statement`…
    pub kind: &'static str,
    /// The type of a value, the declaration of a function; `None` for what has neither.
    pub detail: Option<String>,
    /// What the documentation begins with, in one line.
    pub documentation: Option<String>,
    /// Its documentation advises against it.
    pub deprecated: bool,
}

impl Completion {
    /// What stands behind the name in the label: `(&self, number: u8) -> u8` of a function, `Vec<String>` of a value.
    pub fn signature(&self) -> &str {
        let rest = self.label.strip_prefix(&self.text).unwrap_or_default();
        rest.strip_prefix(':').unwrap_or(rest).trim()
    }
}

/// What is known of the name at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Declaration and documentation as text.
    pub plain: String,
    /// The same as Markdown.
    pub markdown: String,
    /// The same as HTML.
    pub html: String,
}

/// A variable that later cells can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its type as Rust code.
    pub type_name: String,
}

/// Whether `code` can be run as it stands; needs no session.
pub fn completeness(code: &str) -> Completeness {
    syntax::completeness(&commands::code_of(code, None))
}

/// If this process was started by a session to play another role, plays it and returns the exit code.
///
/// `main` calls this before anything else, with its arguments after the program's name.
pub fn role(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<i32> {
    if std::env::var_os(engine::dependencies::wrapper::VARIABLE).is_some() {
        return engine::dependencies::wrapper::role(arguments);
    }
    (arguments.next()? == child::ROLE).then(child::main)
}
