//! The Rust installation that a session uses: that of `RUSTUP_TOOLCHAIN`, else of the checkout that this program was built from, else the
//! user's default one.
//!
//! What a `rust-toolchain.toml` in the notebook's folder asks for is not obeyed: it may name programs of its author's, which nobody has agreed to
//! run by opening a notebook. That it is passed over is said.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::source;
use crate::programs;
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
        let found = tool("rustc")?;
        let cargo = tool("cargo")?;
        let version = output_of(&found, &["-Vv"])?;
        let printed = output_of(&found, &["--print=sysroot", "--print=target-libdir"])?;
        let mut lines = printed.lines().map(|line| PathBuf::from(line.trim()));
        let (Some(sysroot), Some(libdir)) = (lines.next(), lines.next()) else {
            return Err(SessionError::BrokenRust {
                program: found,
                reason: "it does not say where it lives".into(),
            });
        };
        // What was found may be a stand-in of rustup's, which chooses a compiler anew by the folder that it is called in.
        let own = |name: &str, found: PathBuf| {
            let own = sysroot.join("bin").join(name);
            if own.is_file() { own } else { found }
        };
        let (rustc, cargo) = (own("rustc", found), own("cargo", cargo));
        let library = sysroot.join("lib/rustlib/src/rust/library");
        Ok(Toolchain {
            rustc,
            cargo,
            version,
            libdir,
            library,
        })
    }

    /// The file by which the present folder, or a parent, asks for another toolchain: it is passed over.
    pub(crate) fn passed_over() -> Option<PathBuf> {
        let here = std::env::current_dir().ok()?;
        let mut files = here.ancestors().flat_map(|folder| {
            ["rust-toolchain.toml", "rust-toolchain"].map(|name| folder.join(name))
        });
        let file = files.find(|file| file.is_file())?;
        let obeyed = source::own_checkout().is_some_and(|checkout| file.starts_with(checkout));
        (!obeyed).then_some(file)
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
    let rustup = programs::find("rustup").ok_or("rustup is not on PATH")?;
    let mut command = called(&rustup);
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

/// A call of rustup, or of what may be a stand-in of it, from where nobody but the user chooses the toolchain.
pub(crate) fn called(program: &Path) -> Command {
    let mut command = programs::rust(program);
    if let Some(checkout) = source::own_checkout() {
        command.current_dir(checkout);
    }
    command
}

fn tool(name: &'static str) -> Result<PathBuf, SessionError> {
    if let Some(rustup) = programs::find("rustup")
        && let Ok(output) = called(&rustup).args(["which", name]).output()
        && output.status.success()
    {
        let found = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if found.exists() {
            return Ok(found);
        }
    }
    programs::find(name).ok_or(SessionError::NoRust { tool: name })
}

fn output_of(program: &Path, arguments: &[&str]) -> Result<String, SessionError> {
    let broken = |reason: String| SessionError::BrokenRust {
        program: program.to_owned(),
        reason,
    };
    let output = called(program)
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
