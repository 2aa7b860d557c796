//! The Rust installation that a session uses, and the stand-ins through which evcxr meets it.
//!
//! evcxr asks `rustup which cargo` for its cargo. A folder first on our PATH answers with a script that starts this
//! binary in the role `cargo` (see [`super::stand_in`]); everything else goes to the real programs, whose paths stand
//! in the scripts.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::analysis;
use super::error::SessionError;
use super::{StartEvent, stand_in};

/// The Rust installation.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
    /// Output of `rustc -Vv`.
    pub version: String,
    /// Folder of the shared standard library.
    pub libdir: PathBuf,
    /// Folder of the standard library's source.
    pub library: PathBuf,
    /// PATH without any stand-ins, for the process that runs cells.
    pub path: OsString,
}

impl Toolchain {
    /// Asks rustup, then PATH, and checks that what it finds can do what a session needs.
    pub(crate) fn find() -> Result<Toolchain, SessionError> {
        let _unchanged = unchanged_environment();
        let rustc = tool("rustc")?;
        let cargo = tool("cargo")?;
        let version = output_of(&rustc, &["-Vv"])?;
        let printed = output_of(&rustc, &["--print=sysroot", "--print=target-libdir"])?;
        let mut lines = printed.lines().map(|line| PathBuf::from(line.trim()));
        let (Some(sysroot), Some(libdir)) = (lines.next(), lines.next()) else {
            return Err(SessionError::BrokenRust {
                program: rustc,
                reason: "it does not say where it lives".into(),
            });
        };
        let library = sysroot.join("lib/rustlib/src/rust/library");
        Ok(Toolchain {
            rustc,
            cargo,
            version,
            libdir,
            library,
            path: std::env::var_os("PATH").unwrap_or_default(),
        })
    }

    /// A line of `rustc -Vv`.
    fn said(&self, name: &str) -> &str {
        let mut lines = self.version.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .unwrap_or_default()
    }

    /// The platform that cells run on.
    pub(crate) fn host(&self) -> &str {
        self.said("host")
    }

    /// The compiler's version without anything else.
    pub(crate) fn release(&self) -> &str {
        self.said("release")
    }

    /// Has rustup add the standard library's source if it is not there: a toolchain made with rustup's minimal profile
    /// lacks it, and rust-analyzer names no variable's type without it.
    pub(crate) fn with_source(
        self,
        progress: &mut dyn FnMut(StartEvent),
    ) -> Result<Toolchain, SessionError> {
        let source = self.library.join("std/src/lib.rs");
        if source.exists() {
            return Ok(self);
        }
        progress(StartEvent::AddingRustSource);
        let reason = match add_source(&self.rustc) {
            // Another session may have added it meanwhile, whatever rustup says.
            _ if source.exists() => return Ok(self),
            Ok(said) | Err(said) => said,
        };
        Err(SessionError::NoRustSource {
            expected: source,
            reason,
        })
    }
}

/// Calls `rustup component add rust-src` for the toolchain of `rustc`; returns what rustup said.
fn add_source(rustc: &Path) -> Result<String, String> {
    let rustup = which::which("rustup").map_err(|_| "rustup is not on PATH".to_owned())?;
    let mut command = Command::new(rustup);
    command.args(["component", "add", "rust-src"]);
    // …/toolchains/NAME/bin/rustc
    if let Some(toolchain) = rustc.ancestors().nth(2) {
        command
            .arg("--toolchain")
            .arg(toolchain.file_name().unwrap_or_default());
    }
    let output = command.output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Held while the environment is changed, or read by something that must not meet the change.
static ENVIRONMENT: RwLock<()> = RwLock::new(());

/// No session of this process changes the environment while the guard lives.
pub(crate) fn unchanged_environment() -> RwLockReadGuard<'static, ()> {
    ENVIRONMENT.read().unwrap_or_else(PoisonError::into_inner)
}

/// Names the folder in which evcxr works.
pub(crate) const WORK_VARIABLE: &str = "EVCXR_TMPDIR";
/// In the session's folder: where evcxr works.
const WORK: &str = "work";
/// In the session's folder: what goes on PATH.
const ON_PATH: &str = "path";

fn tool(name: &'static str) -> Result<PathBuf, SessionError> {
    if let Ok(rustup) = which::which("rustup")
        && let Ok(output) = Command::new(rustup).args(["which", name]).output()
        && output.status.success()
    {
        let found = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if found.exists() {
            return Ok(found);
        }
    }
    which::which(name).map_err(|_| SessionError::NoRust { tool: name })
}

fn output_of(program: &Path, arguments: &[&str]) -> Result<String, SessionError> {
    let broken = |reason: String| SessionError::BrokenRust {
        program: program.to_owned(),
        reason,
    };
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| broken(error.to_string()))?;
    if !output.status.success() {
        return Err(broken(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes the stand-ins of one session into `folder`.
///
/// `program` is the binary that plays the role `cargo`.
pub(crate) fn install_stand_ins(
    folder: &Path,
    toolchain: &Toolchain,
    program: &Path,
) -> Result<(), SessionError> {
    let failed = |path: &Path| SessionError::io(format!("write {}", path.display()));
    let on_path = folder.join(ON_PATH);
    let tools = folder.join("tools");
    for dir in [&on_path, &tools, &folder.join(WORK)] {
        fs::create_dir_all(dir).map_err(failed(dir))?;
    }

    let cargo = tools.join("cargo");
    let role = format!(
        "exec {} {} {} \"$@\"\n",
        quoted(program)?,
        stand_in::ROLE,
        quoted(folder)?
    );
    write_script(&cargo, &role).map_err(failed(&cargo))?;

    // evcxr's first cell is a number, before it can be told of the prelude. For it rust-analyzer needs no standard
    // library: what it cannot find it does not read. It reads everything with the prelude, off this PATH.
    let rustc = on_path.join("rustc");
    let script = format!(
        "[ \"$*\" = '--print sysroot' ] && exit 1\nexec {} \"$@\"\n",
        quoted(&toolchain.rustc)?
    );
    write_script(&rustc, &script).map_err(failed(&rustc))?;
    let plain_cargo = on_path.join("cargo");
    let script = format!("exec {} \"$@\"\n", quoted(&toolchain.cargo)?);
    write_script(&plain_cargo, &script).map_err(failed(&plain_cargo))?;

    let rustup = on_path.join("rustup");
    let real = which::which("rustup").ok();
    let otherwise = match &real {
        Some(real) => format!("exec {} \"$@\"\n", quoted(real)?),
        None => "exit 127\n".to_owned(),
    };
    let script = format!(
        "if [ $# = 2 ] && [ \"$1\" = which ]; then\n  case \"$2\" in\n    cargo) echo {}; exit 0;;\n    rustc) echo {}; exit 0;;\n  esac\nfi\n{otherwise}",
        quoted(&cargo)?,
        quoted(&toolchain.rustc)?,
    );
    write_script(&rustup, &script).map_err(failed(&rustup))?;
    Ok(())
}

/// Puts the folder's stand-ins first on PATH while `work` runs: that is when evcxr looks for its tools.
///
/// One session at a time, so that none meets the stand-ins of another.
/// From then on rust-analyzer, which lives in this process, reads the standard library from `library`.
pub(crate) fn with_stand_ins_on_path<T>(
    folder: &Path,
    library: &Path,
    work: impl FnOnce() -> T,
) -> T {
    let _lock = ENVIRONMENT.write().unwrap_or_else(PoisonError::into_inner);
    let before = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.join(ON_PATH)).chain(std::env::split_paths(&before));
    // A folder whose name holds a colon cannot stand on PATH; the session's folder is named by us.
    let during = std::env::join_paths(folders).unwrap_or_else(|_| before.clone());
    // SAFETY: evcxr has no other way to be told where cargo is and where to work (and sets PATH itself in
    // `EvalContext::new`). Rust code reads the environment under std's lock; no C code of this process reads it while
    // a session starts.
    unsafe {
        std::env::set_var("PATH", during);
        std::env::set_var(WORK_VARIABLE, folder.join(WORK));
        std::env::set_var(analysis::LIBRARY_VARIABLE, library);
    }
    let result = work();
    // SAFETY: as above.
    unsafe {
        std::env::set_var("PATH", before);
        std::env::remove_var(WORK_VARIABLE);
    }
    result
}

fn write_script(path: &Path, body: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(path)?;
    file.write_all(b"#!/bin/sh\n")?;
    file.write_all(body.as_bytes())
}

/// A path as one word of a shell script.
fn quoted(path: &Path) -> Result<String, SessionError> {
    match path.to_str() {
        Some(text) => Ok(format!("'{}'", text.replace('\'', "'\\''"))),
        None => Err(SessionError::Io {
            action: format!("use {}", path.display()),
            source: std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "the path is not valid UTF-8",
            ),
        }),
    }
}
