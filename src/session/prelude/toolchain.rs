//! The Rust installation that a session uses.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::session::StartEvent;
use crate::session::error::SessionError;

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
}

impl Toolchain {
    /// Asks rustup, then PATH, and checks that what it finds can do what a session needs.
    pub(crate) fn find() -> Result<Toolchain, SessionError> {
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
