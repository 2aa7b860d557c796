//! Is there a compiler that can make cells: rustc, cargo, the library source, a linker, the built prelude.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Check, State, output, size_of_tree};
use crate::figures::size;
use crate::session::{PreludeState, prelude_status};

const INSTALL: &str = "install Rust from https://rustup.rs and open a new terminal";

pub fn checks(features: &[String]) -> Vec<Check> {
    let mut checks = Vec::new();
    let rustc = compiler();
    match &rustc {
        Ok((path, version)) => checks.push(Check::ok(
            "rustc",
            format!("{version} ({})", path.display()),
        )),
        Err(found) => checks.push(Check::other("rustc", State::Missing, found, INSTALL)),
    }
    checks.push(cargo());
    if let Ok((rustc, _)) = &rustc {
        checks.push(library_source(rustc));
        checks.push(linker(rustc));
        checks.push(prelude(features));
    }
    checks
}

fn compiler() -> Result<(PathBuf, String), String> {
    let path = which::which("rustc").map_err(|_| "not on PATH".to_owned())?;
    match output(&path, &["--version"]) {
        Some(version) => Ok((path, version)),
        None => Err(format!("{} does not run", path.display())),
    }
}

fn cargo() -> Check {
    let version = which::which("cargo")
        .ok()
        .and_then(|path| output(&path, &["--version"]));
    match version {
        Some(version) => Check::ok("cargo", version),
        None => Check::other(
            "cargo",
            State::Missing,
            "not on PATH, or it does not run",
            INSTALL,
        ),
    }
}

fn library_source(rustc: &Path) -> Check {
    let name = "rust-src";
    let sysroot = output(rustc, &["--print", "sysroot"]).unwrap_or_default();
    let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library");
    if library.join("std").is_dir() {
        return Check::ok(name, library.display().to_string());
    }
    Check::other(
        name,
        State::Missing,
        format!("{} is not there", library.display()),
        "rustup component add rust-src",
    )
}

/// Links a small shared library, as every cell does.
fn linker(rustc: &Path) -> Check {
    let name = "linker";
    let advice = "install a C compiler: `apt-get install gcc`, `dnf install gcc`, or `xcode-select --install` on macOS";
    let missing = |found: String| Check::other(name, State::Missing, found, advice);
    let Ok(folder) = tempfile::tempdir() else {
        return missing(format!(
            "no temporary folder can be made in {}",
            std::env::temp_dir().display()
        ));
    };
    let source = folder.path().join("cell.rs");
    if std::fs::write(
        &source,
        "#[unsafe(no_mangle)] pub extern \"C\" fn cell() {}",
    )
    .is_err()
    {
        return missing(format!("{} can't be written to", folder.path().display()));
    }
    let result = Command::new(rustc)
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "cdylib",
            "-Cprefer-dynamic",
            "--out-dir",
        ])
        .arg(folder.path())
        .arg(&source)
        .stdin(Stdio::null())
        .output();
    let cc = which::which("cc").ok();
    match result {
        Ok(done) if done.status.success() => {
            let version = cc.and_then(|cc| Some((output(&cc, &["--version"])?, cc)));
            Check::ok(
                name,
                match version {
                    Some((text, cc)) => format!(
                        "{} ({})",
                        text.lines().next().unwrap_or_default(),
                        cc.display()
                    ),
                    None => "rustc links, with no `cc` on PATH".to_owned(),
                },
            )
        }
        Ok(done) => {
            let report = String::from_utf8_lossy(&done.stderr).into_owned();
            missing(
                report
                    .lines()
                    .next()
                    .unwrap_or("rustc can't link")
                    .to_owned(),
            )
        }
        Err(error) => missing(format!("rustc does not run: {error}")),
    }
}

fn prelude(features: &[String]) -> Check {
    let name = "prelude";
    let status = match prelude_status(features) {
        Ok(status) => status,
        Err(error) => {
            return Check::other(name, State::Missing, error.to_string(), "see the message");
        }
    };
    let place = format!("{}, key {}", status.cache.display(), status.key);
    let all = size(size_of_tree(&status.cache));
    match status.state {
        PreludeState::Built => {
            let own = size(size_of_tree(&status.cache.join(&status.key)));
            Check::ok(
                name,
                format!("built, {own} ({place}; the folder holds {all})"),
            )
        }
        PreludeState::Broken => Check::other(
            name,
            State::Warning,
            format!("damaged ({place})"),
            "nothing: the next session builds it again, which takes minutes",
        ),
        PreludeState::NotBuilt => Check::other(
            name,
            State::Absent,
            format!("not built yet ({place}; the folder holds {all})"),
            "nothing: the next session builds it, which takes minutes, once",
        ),
    }
}
