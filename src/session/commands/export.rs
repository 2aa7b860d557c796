//! `:export DIR`: writes the cells that ran as a Cargo project that builds and gives the same output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::Call;
use super::program::{Cell, Program, program};
use crate::session::event::Display;
use crate::session::outcome::CellOutcome;
use crate::session::prelude::prelude_crates;
use crate::{private, programs};

/// First line of a manifest that may be replaced by a later export.
const MARK: &str = "# Written by `:export` of Glassbox; a later export replaces it.";

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let name = call.arguments.trim_matches('"');
    if name.is_empty() {
        return call.refuse("there is no folder to write to; write `:export DIR`");
    }
    let codes: Vec<String> = call
        .session
        .log()
        .cells()
        .iter()
        .map(|cell| cell.code.clone())
        .collect();
    let calls: Vec<_> = codes
        .iter()
        .map(|code| call.session.item_calls(code))
        .collect();
    let logged = call.session.log().cells().iter().zip(&calls);
    let cells: Vec<Cell<'_>> = logged
        .map(|(cell, calls)| Cell {
            code: &cell.code,
            gone: &cell.gone,
            calls,
        })
        .collect();
    if cells.is_empty() {
        return call.refuse("no cell has run yet");
    }
    let count = cells.len();
    let crates = call.session.prelude_crates();
    let written = program(&cells, &call.session.set_aside()).and_then(|mut program| {
        for (name, line) in prelude_crates::manifest_lines(crates, &program.source) {
            program.dependencies.entry(name).or_insert(line);
        }
        let prelude = Prelude {
            package: call.session.prelude_package(),
            features: call.session.features(),
        };
        write(Path::new(name), &prelude, &program)?;
        Ok(program.notes)
    });
    match written {
        Err(message) => call.refuse(&message),
        Ok(notes) => {
            let cells = if count == 1 {
                "1 cell".to_owned()
            } else {
                format!("{count} cells")
            };
            let mut text = format!(
                "wrote {name} ({cells}); run it: cargo run --release --manifest-path {}",
                Path::new(name).join("Cargo.toml").display()
            );
            for note in notes {
                text += &format!("\nnote: {note}");
            }
            call.done(Some(Display::text(text)))
        }
    }
}

/// What the project depends on.
struct Prelude<'a> {
    package: PathBuf,
    features: &'a [String],
}

fn write(dir: &Path, prelude: &Prelude<'_>, program: &Program) -> Result<(), String> {
    let manifest = dir.join("Cargo.toml");
    let ours = fs::read_to_string(&manifest).is_ok_and(|text| text.starts_with(MARK));
    let empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !ours && !empty {
        return Err(format!(
            "{} holds something else; name a folder that is empty or does not exist",
            dir.display()
        ));
    }
    let fault = |error: std::io::Error| format!("{} can't be written: {error}", dir.display());
    private::make_ordinary_folders(&dir.join("src")).map_err(fault)?;
    let source = dir.join("src/main.rs");
    fs::write(&source, &program.source).map_err(fault)?;
    fs::write(&manifest, manifest_text(dir, prelude, program)).map_err(fault)?;
    // The versions with which the session ran: without them the program may get others, and still builds.
    let lock = [
        prelude.package.join("Cargo.lock"),
        prelude.package.join("../Cargo.lock"),
    ]
    .into_iter()
    .find(|lock| lock.exists());
    if let Some(lock) = lock {
        fs::copy(lock, dir.join("Cargo.lock")).map_err(fault)?;
        private::make_ordinary(&dir.join("Cargo.lock")).map_err(fault)?;
    }
    for file in [&source, &manifest] {
        private::make_ordinary(file).map_err(fault)?;
    }
    // Where there is no rustfmt the source is as right and less pretty.
    if let Some(rustfmt) = programs::find("rustfmt") {
        let _ = programs::rust(&rustfmt)
            .args(["--edition", "2024"])
            .arg(std::path::absolute(&source).map_err(fault)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
    Ok(())
}

fn manifest_text(dir: &Path, prelude: &Prelude<'_>, program: &Program) -> String {
    let name = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    // Strings and lists of strings of JSON are those of TOML.
    let path = serde_json::Value::from(prelude.package.to_string_lossy().into_owned());
    let features = serde_json::Value::from(prelude.features);
    format!(
        "{MARK}\n[package]\nname = \"{}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         glassbox-prelude = {{ path = {path}, features = {features} }}\n{}\n[profile.release]\ndebug = false\ncodegen-units = 16\n",
        package_name(&name),
        program
            .dependencies
            .values()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    )
}

/// What cargo allows of a folder's name, else a name of our own.
fn package_name(folder: &str) -> String {
    let name: String = folder
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches('-');
    match name.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => name.to_owned(),
        _ => format!("notebook-{name}").trim_end_matches('-').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_names_that_cargo_takes() {
        assert_eq!(package_name("My Notes.v2"), "my-notes-v2");
        assert_eq!(package_name("2024"), "notebook-2024");
        assert_eq!(package_name("é"), "notebook");
    }

    #[test]
    fn a_folder_with_something_else_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let program = Program {
            source: "fn main() {}".to_owned(),
            ..Program::default()
        };
        let dir = root.path().join("project");
        let prelude = Prelude {
            package: "/prelude".into(),
            features: &[],
        };
        write(&dir, &prelude, &program).unwrap();
        write(&dir, &prelude, &program).unwrap();
        fs::write(dir.join("Cargo.toml"), "[package]").unwrap();
        let refused = write(&dir, &prelude, &program).unwrap_err();
        assert!(refused.contains("holds something else"), "{refused}");
    }
}
