//! Is there a compiler that can make cells: rustc, cargo, the library source, a linker, the built prelude.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{Check, State, output, size_of_tree};
use crate::figures::size;
use crate::programs;
use crate::session::{
    AnalystStatus, PreludeState, analyst_status, called_rust, kept_cells, prelude_status,
    sessions_place,
};

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
        checks.push(cells());
        checks.push(analyst());
    }
    checks
}

fn compiler() -> Result<(PathBuf, String), String> {
    let path = programs::find("rustc").ok_or("not on PATH")?;
    match output(&path, &["--version"]) {
        Some(version) => Ok((path, version)),
        None => Err(format!("{} does not run", path.display())),
    }
}

fn cargo() -> Check {
    let version = programs::find("cargo").and_then(|path| output(&path, &["--version"]));
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
    // Where sessions compile.
    let place = match sessions_place() {
        Ok(place) => place,
        Err(error) => return missing(error.to_string()),
    };
    let Ok(folder) = tempfile::tempdir_in(&place) else {
        return missing(format!("no folder can be made in {}", place.display()));
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
    let result = called_rust(rustc)
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
    let cc = programs::find("cc");
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

/// What is kept of cells that were compiled, so that they need not be again.
fn cells() -> Check {
    let name = "compiled cells";
    let kept = match kept_cells() {
        Ok(kept) => kept,
        Err(error) => {
            return Check::other(name, State::Warning, error.to_string(), "see the message");
        }
    };
    let folder = kept.folder.display();
    let advice = format!(
        "remove {folder} to forget them; GLASSBOX_CELL_CACHE=MEGABYTES sets how many are kept, `off` keeps none"
    );
    let held = format!("{} kept, {}", kept.files, size(kept.bytes));
    match (kept.limit, kept.fault) {
        (_, Some(fault)) => Check::other(name, State::Warning, fault, advice),
        (None, None) => Check::other(
            name,
            State::Absent,
            format!("none is kept: GLASSBOX_CELL_CACHE says so ({held} in {folder})"),
            "nothing: each cell is compiled each time",
        ),
        (Some(limit), None) => Check {
            advice: Some(advice),
            ..Check::ok(name, format!("{held} of {} ({folder})", size(limit)))
        },
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

/// The program with rust-analyzer, which completion and inspection need.
fn analyst() -> Check {
    let name = "completion";
    let later = "nothing: the first session that is typed into builds it in the background, which takes minutes, once";
    match analyst_status() {
        Ok(AnalystStatus::Found(program)) => Check::ok(name, program.display().to_string()),
        Ok(AnalystStatus::Building) => Check::other(
            name,
            State::Absent,
            "its program is being built now",
            "nothing: it takes some minutes, once",
        ),
        Ok(AnalystStatus::NotBuilt(folder)) => Check::other(
            name,
            State::Absent,
            format!("its program is not built yet ({})", folder.display()),
            later,
        ),
        Ok(AnalystStatus::Failed(reason)) => Check::other(
            name,
            State::Warning,
            format!("its program could not be built: {reason}"),
            "see the message; cells run, and the next session that is typed into tries again",
        ),
        Err(error) => Check::other(name, State::Warning, error.to_string(), "see the message"),
    }
}
