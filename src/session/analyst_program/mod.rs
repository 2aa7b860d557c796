//! The program with rust-analyzer and evcxr in it, `glassbox-analyst`: where it is, or how it comes to be there.
//!
//! ```text
//! beside `glassbox` (a wheel, a checkout's target folder) ─┐
//! <cache>/analyst/<key>/glassbox-analyst ──────────────────┴─ says our key ─▶ it is used
//! neither ─▶ [`build`]: by cargo, once, from the source that `glassbox` carries
//! ```
//! It takes most of the time that building all of Glassbox takes, and no cell needs it: so it is built when somebody types, beside what
//! they do. The key is a sum over its source, which both build scripts work out (`analyst/key.rs`): a program of another version is passed over.

mod build;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use super::prelude::cache;
use super::prelude::source::EmbeddedSource;
use super::prelude::toolchain::Toolchain;
use super::{SessionError, StartEvent};
use crate::{private, programs};

pub use build::Progress;

/// The program's name, and its package's.
pub(crate) const NAME: &str = "glassbox-analyst";
/// The argument of this program that has it build the analyst and nothing else.
pub(super) const ROLE: &str = "__build-analyst";
/// What the analyst has to say that it was built from.
const KEY: &str = env!("GLASSBOX_ANALYST_KEY");
/// Beside the folder of preludes: programs by key.
const CACHE: &str = "analyst";

static EMBEDDED: OnceLock<EmbeddedSource> = OnceLock::new();

/// Tells sessions of the copy of the analyst's source inside the binary.
pub fn embed_analyst_source(files: EmbeddedSource) {
    // A second call would bring the same copy.
    let _ = EMBEDDED.set(files);
}

/// Where the program may be.
#[derive(Clone, Debug)]
pub(crate) struct AnalystProgram {
    beside: PathBuf,
    cache: PathBuf,
}

impl AnalystProgram {
    /// For the `glassbox` that is `program`, with its folder of preludes.
    pub(crate) fn new(program: &Path, preludes: &Path) -> AnalystProgram {
        AnalystProgram {
            beside: program.with_file_name(NAME),
            cache: preludes.with_file_name(CACHE),
        }
    }

    /// For the program that runs, with the user's folders.
    fn own() -> Result<AnalystProgram, SessionError> {
        let program =
            std::env::current_exe().map_err(SessionError::io("find the running program"))?;
        Ok(AnalystProgram::new(&program, &cache::own_cache(None)?))
    }

    /// The program, if it is there.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        if says_key(&self.beside) {
            return Some(self.beside.clone());
        }
        let folder = self.cache.join(KEY);
        let own = matches!(private::checked(&folder), Ok(Ok(_)))
            && matches!(private::exposed_in(&folder), Ok(None));
        let built = folder.join(NAME);
        (own && says_key(&built)).then_some(built)
    }

    /// Builds it, unless it is there by then.
    ///
    /// # Errors
    /// What cargo said, or that it was to stop.
    pub(crate) fn build(
        &self,
        toolchain: &Toolchain,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, String> {
        build::build(self, toolchain, stop, progress)
    }
}

/// Whether a program is an analyst of our version.
fn says_key(program: &Path) -> bool {
    if !program.is_file() {
        return false;
    }
    let said = programs::command(program)
        .arg(glassbox_analyst_wire::KEY)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    said.is_ok_and(|said| said.status.success() && said.stdout.trim_ascii() == KEY.as_bytes())
}

/// The program, built now if it is not there, told by `progress`.
pub(crate) fn ready(progress: &mut dyn FnMut(StartEvent)) -> Result<PathBuf, String> {
    let program = AnalystProgram::own().map_err(|error| error.to_string())?;
    if let Some(found) = program.find() {
        return Ok(found);
    }
    let toolchain = Toolchain::find().map_err(|error| error.to_string())?;
    program.build(&toolchain, &AtomicBool::new(false), &mut |step| {
        progress(StartEvent::BuildingAnalyst(step));
    })
}

/// Whether the program is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnalystStatus {
    /// Here.
    Found(PathBuf),
    /// A process builds it.
    Building,
    /// It could not be built: why.
    Failed(String),
    /// Who types first has it built, below this folder.
    NotBuilt(PathBuf),
}

/// Looks for the program, without building it.
///
/// # Errors
/// There is no folder to look in.
pub fn analyst_status() -> Result<AnalystStatus, SessionError> {
    let program = AnalystProgram::own()?;
    Ok(match program.find() {
        Some(found) => AnalystStatus::Found(found),
        None if build::runs(&program) => AnalystStatus::Building,
        None => match build::failure(&program) {
            Some(reason) => AnalystStatus::Failed(reason),
            None => AnalystStatus::NotBuilt(program.cache),
        },
    })
}

/// Has another process build the program, which outlives this one; `false` if it is there.
///
/// # Errors
/// There is no folder for it, or the process does not start.
pub fn build_analyst_aside() -> Result<bool, SessionError> {
    let program = AnalystProgram::own()?;
    if program.find().is_some() {
        return Ok(false);
    }
    let own = std::env::current_exe().map_err(SessionError::io("find the running program"))?;
    let mut command = programs::command(&own);
    command
        .arg(ROLE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    programs::aside(&mut command);
    command
        .spawn()
        .map_err(SessionError::io("start the build of the analyst"))?;
    Ok(true)
}

/// The role of that process.
pub(super) fn role() -> i32 {
    private::keep_to_oneself();
    i32::from(ready(&mut |_| {}).is_err())
}
