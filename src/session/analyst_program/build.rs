//! Builds the analyst by cargo, at the lowest priority.
//!
//! ```text
//! source that `glassbox` carries, else its checkout ─ cargo, in <cache>/analyst/build ─▶ <cache>/analyst/<key>/glassbox-analyst
//! <cache>/analyst/lock      held while building
//! <cache>/analyst/failed    what was said when it failed last
//! ```
//! cargo's folder goes when the program is there: it is not built again before its source changes. A build that was stopped goes on where it was.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use super::{AnalystProgram, EMBEDDED, KEY, NAME};
use crate::session::prelude::cache::count_packages;
use crate::session::prelude::source::{self, own_checkout};
use crate::session::prelude::toolchain::Toolchain;
use crate::{private, programs};

const LOCK: &str = "lock";
const FAILED: &str = "failed";
const BUILD: &str = "build";
const SOURCE: &str = "source";
/// How often is looked whether to stop.
const GLANCE: Duration = Duration::from_millis(200);
/// So many programs of other versions are kept.
const KEPT: usize = 2;

/// How far a build is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process builds it.
    Waiting,
    /// Crates finished, and crates in all, if that is known.
    Crates(usize, Option<usize>),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Waiting => f.write_str("another process is building it"),
            Progress::Crates(done, Some(total)) => write!(f, "{done} of {total} crates done"),
            Progress::Crates(done, None) => write!(f, "{done} crates done"),
        }
    }
}

pub(super) fn build(
    program: &AnalystProgram,
    toolchain: &Toolchain,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, String> {
    let cache = &program.cache;
    let text = |error: std::io::Error| format!("{}: {error}", cache.display());
    private::make_folders(cache).map_err(text)?;
    if let Err(exposed) = private::checked(cache).map_err(text)? {
        return Err(format!("{exposed}: what others put there would run as you"));
    }
    let lock = File::create(cache.join(LOCK)).map_err(text)?;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(text(error)),
            Err(TryLockError::WouldBlock) => progress(Progress::Waiting),
        }
        if stop.load(Ordering::Acquire) {
            return Err("it was to stop".to_owned());
        }
        std::thread::sleep(GLANCE);
    }
    // Another process may have built it meanwhile.
    if let Some(found) = program.find() {
        return Ok(found);
    }
    let built = by_cargo(cache, toolchain, stop, progress).and_then(|made| {
        publish(&made, cache)?;
        program
            .find()
            .ok_or_else(|| format!("{} does not say that it is of this version", made.display()))
    });
    match &built {
        Ok(_) => {
            let _ = fs::remove_file(cache.join(FAILED));
            let _ = fs::remove_dir_all(cache.join(BUILD));
            let _ = fs::remove_dir_all(cache.join(SOURCE));
            remove_old(cache);
        }
        Err(_) if stop.load(Ordering::Acquire) => {}
        // Whoever is told at once may not be there any more.
        Err(reason) => drop(fs::write(cache.join(FAILED), reason)),
    }
    built
}

/// Whether a process builds it now.
pub(super) fn runs(program: &AnalystProgram) -> bool {
    let lock = File::open(program.cache.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Why it could not be built when that was tried last.
pub(super) fn failure(program: &AnalystProgram) -> Option<String> {
    fs::read_to_string(program.cache.join(FAILED)).ok()
}

/// The program that cargo made.
fn by_cargo(
    cache: &Path,
    toolchain: &Toolchain,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, String> {
    let workspace = workspace(cache)?;
    let manifest = workspace.join("Cargo.toml");
    let package = ["--package", NAME];
    let total = count_packages(toolchain, &manifest, &package);
    progress(Progress::Crates(0, total));
    let mut command = programs::cargo(&toolchain.cargo);
    command
        .args(["build", "--release", "--message-format=json"])
        .args(package)
        .arg("--manifest-path")
        .arg(&manifest)
        .env("CARGO_TARGET_DIR", cache.join(BUILD))
        .env("RUSTC", &toolchain.rustc)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    programs::aside(&mut command);
    let mut cargo = command
        .spawn()
        .map_err(|error| format!("{} does not run: {error}", toolchain.cargo.display()))?;
    let messages = lines(cargo.stdout.take());
    let said = lines(cargo.stderr.take());
    let mut found = Found::default();
    loop {
        match messages.recv_timeout(GLANCE) {
            Ok(line) => {
                if found.take(&line) {
                    progress(Progress::Crates(found.crates.len(), total));
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if stop.load(Ordering::Acquire) {
            end(&mut cargo);
            return Err("it was to stop".to_owned());
        }
    }
    let status = cargo.wait().map_err(|error| error.to_string())?;
    match found.program {
        Some(program) if status.success() => Ok(program),
        _ if found.errors.is_empty() => {
            let said: Vec<String> = said
                .iter()
                .filter(|line| !line.trim_start().starts_with("Compiling "))
                .collect();
            Err(said.join("\n"))
        }
        _ => Err(found.errors),
    }
}

/// Ends cargo with its compilers.
fn end(cargo: &mut Child) {
    if let Ok(group) = i32::try_from(cargo.id()) {
        // SAFETY: no memory is involved. The group is cargo's own, which is not waited for yet.
        unsafe { libc::killpg(group, libc::SIGKILL) };
    }
    let _ = cargo.wait();
}

fn lines(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (send, receive) = unbounded();
    // Without a thread nothing is read, and cargo's exit says how it went.
    let _ = std::thread::Builder::new().spawn(move || {
        let lines = from
            .into_iter()
            .flat_map(|from| BufReader::new(from).lines());
        for line in lines.map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// What cargo's JSON lines say.
#[derive(Default)]
struct Found {
    crates: std::collections::HashSet<String>,
    program: Option<PathBuf>,
    errors: String,
}

impl Found {
    /// Takes one line; whether it says that one more crate is finished.
    fn take(&mut self, line: &str) -> bool {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            return false;
        };
        if message["reason"] == "compiler-message" && message["message"]["level"] == "error" {
            let text = message["message"]["rendered"].as_str();
            self.errors.push_str(text.unwrap_or_default());
        }
        if message["reason"] != "compiler-artifact" {
            return false;
        }
        if message["target"]["name"] == NAME
            && let Some(program) = message["executable"].as_str()
        {
            self.program = Some(program.into());
        }
        let package = message["package_id"].as_str().unwrap_or_default();
        self.crates.insert(package.to_owned())
    }
}

/// The folder of the workspace to build in.
fn workspace(cache: &Path) -> Result<PathBuf, String> {
    if let Some(files) = EMBEDDED.get() {
        return source::written(files, &cache.join(SOURCE)).map_err(|error| error.to_string());
    }
    let checkout = own_checkout().filter(|checkout| checkout.join(super::CACHE).is_dir());
    checkout.map(Path::to_owned).ok_or_else(|| {
        "this program carries no source of it, and the checkout that it was built from is gone"
            .to_owned()
    })
}

/// Puts the program where it is looked for, whole or not at all.
fn publish(made: &Path, cache: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{}: {error}", cache.display());
    let staged = tempfile::Builder::new()
        .prefix("new-")
        .tempdir_in(cache)
        .map_err(text)?;
    fs::copy(made, staged.path().join(NAME)).map_err(text)?;
    let finished = cache.join(KEY);
    if finished.exists() {
        // What is there was not what it should be.
        fs::remove_dir_all(&finished).map_err(text)?;
    }
    fs::rename(staged.path(), &finished).map_err(text)
}

/// Removes all but the newest few programs of other versions. One that still runs goes on.
fn remove_old(cache: &Path) {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let mut old: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| !path.ends_with(KEY) && path.join(NAME).is_file())
        .filter_map(|path| Some((fs::metadata(path.join(NAME)).ok()?.modified().ok()?, path)))
        .collect();
    old.sort();
    let surplus = old.len().saturating_sub(KEPT);
    for (_, path) in old.into_iter().take(surplus) {
        let _ = fs::remove_dir_all(path);
    }
}
