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
//! - `engine`: from Rust to a library that runs in the child, and the way to rust-analyzer; `aids`: completion and inspection
//! - `analyst_program`: the program with rust-analyzer in it: where it is, and how it is built
//! - `child`: this binary as the process that runs cells, see [`role`]; `pipes`: from its bytes to events, and answers back
//! - `reports`: what is said of cells that failed
//! - `prelude`: the prelude as one shared library, and the Rust that builds it
//! - `folder`: a session's own folder, and whose it is; `place`: where it lies; `offspring`: processes that cells start

mod aids;
mod analyst_program;
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
pub(crate) use analyst_program::ready as analyst_ready;
pub use analyst_program::{
    AnalystStatus, Progress as AnalystProgress, analyst_status, build_analyst_aside,
    embed_analyst_source,
};
pub use commands::{Asked, asked, commands};
pub use driver::Session;
pub use engine::kept::status::{KeptCells, kept_cells};
pub use error::SessionError;
pub use event::{Comm, CommKind, Display, Event, InputRequest, StreamName};
pub use glassbox_analyst_wire::{Completion, Completions, Inspection};
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
    let role = arguments.next()?;
    if role == analyst_program::ROLE {
        return Some(analyst_program::role());
    }
    (role == child::ROLE).then(child::main)
}
