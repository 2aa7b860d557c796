//! One evaluation session: what the kernel, the REPL and the notebook runner use, and nothing else.
//!
//! ```text
//! code ─▶ Session::evaluate ─▶ direct: one generated crate ─▶ rustc ─▶ ld ─▶ child process
//!                 ▲                                                               │
//!                 └── events while the cell runs ◀── frames ◀── streams ◀── fd 1, fd 2
//! ```
//!
//! # Layout
//! - [`event`], [`outcome`], [`error`], `start`: what front ends see, plain data
//! - [`interrupt`]: stopping a cell from another thread
//! - [`input`]: lines of text that cells ask for
//! - `syntax`: what can be said of a cell without compiling it
//! - `direct`: the engine that runs cells; `engine`: what is around it
//! - `commands`: the lines of a cell that are not Rust; `cell_log`: the cells that ran, for `:replay` and `:export`
//! - `child`: this binary as the process that runs cells, see [`role`]
//! - `dependencies`: crates of `:dep`, as one shared library; `prelude_crates`: those that the prelude has already
//! - `stdin`: what a cell finds that reads standard input; `pages`: memory of cells that have run
//! - `pipe`, `streams`, `frames`: from the child's bytes to events; `tell`: what the child itself has to say there
//! - `origin`, `background`: of which cell what threads write is, and what becomes of it
//! - `folder`: the session's folder, and whose it is
//! - `toolchain`, `prelude_source`, `prelude_cache`, `metadata`, `prelude_status`: Rust, and the prelude as one shared library
//! - `analysis`: what of the prelude rust-analyzer is shown; `aids`, `targets`: completion and inspection
//! - `last_words`: why a process that ended did so
//! - `source_map`, `report`: from what is compiled back to the cell's lines

mod aids;
mod analysis;
mod background;
mod cell_log;
mod child;
mod commands;
mod dependencies;
mod direct;
mod engine;
pub mod error;
pub mod event;
mod folder;
mod frames;
pub mod input;
pub mod interrupt;
mod last_words;
mod metadata;
mod namespaces;
mod origin;
pub mod outcome;
mod pages;
mod panics;
mod pipe;
mod prelude_cache;
mod prelude_crates;
mod prelude_source;
mod prelude_status;
mod report;
mod source_map;
mod start;
mod stdin;
mod streams;
mod syntax;
mod targets;
mod tell;
mod toolchain;

use std::path::PathBuf;

pub use aids::Aids;
pub use background::BackgroundSink;
pub use commands::{Asked, asked, commands};
pub use engine::Session;
pub use error::SessionError;
pub use event::{Comm, CommKind, Display, Event, InputRequest, StreamName};
pub use input::InputReader;
pub use interrupt::{Interrupted, Interrupter};
pub use outcome::{CellError, CellErrorKind, CellOutcome, StateKept};
pub use prelude_source::{EmbeddedSource, embed_prelude_source};
pub use prelude_status::{PreludeState, PreludeStatus, prelude_status};
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

/// The prelude as a shared library, for who runs cells in another way than a session does.
pub(crate) struct SharedPrelude {
    /// Glassbox's cache folder for preludes.
    pub cache: PathBuf,
    /// The library.
    pub library: PathBuf,
    /// Where the metadata of the crates in it is.
    pub dependencies: PathBuf,
    /// The package that shows rust-analyzer what is in it.
    pub shown: PathBuf,
    /// The standard library's sources that rust-analyzer needs to read.
    pub standard_library: PathBuf,
    /// The variable that tells rust-analyzer so.
    pub standard_library_variable: &'static str,
    /// Folder of the shared standard library that it was linked to.
    pub libdir: PathBuf,
}

/// The prelude without extra features, built now if it has not been.
pub(crate) fn shared_prelude(
    progress: &mut dyn FnMut(StartEvent),
) -> Result<SharedPrelude, SessionError> {
    progress(StartEvent::Checking);
    let toolchain = toolchain::Toolchain::find()?;
    let cache = prelude_cache::cache_dir(None)?;
    let source = prelude_source::PreludeSource::find(None, &cache)?;
    let prelude = prelude_cache::get(&source, &toolchain, &[], &cache, progress)?;
    Ok(SharedPrelude {
        shown: analysis::prelude(&prelude.analysis),
        standard_library: analysis::library(&prelude.analysis),
        standard_library_variable: analysis::LIBRARY_VARIABLE,
        cache,
        library: prelude.library,
        dependencies: prelude.dependencies,
        libdir: toolchain.libdir,
    })
}

/// If this process was started by a session to play another role, plays it and returns the exit code.
///
/// `main` calls this before anything else, with its arguments after the program's name.
pub fn role(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<i32> {
    if std::env::var_os(dependencies::wrapper::VARIABLE).is_some() {
        return dependencies::wrapper::role(arguments);
    }
    (arguments.next()? == child::ROLE).then(child::main)
}
