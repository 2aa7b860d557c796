//! Jupyter: is it there, does it know our kernels, and do those point to a program that exists.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Check, State, folder_from, output};
use crate::programs;

pub fn checks() -> Vec<Check> {
    vec![program(), kernels()]
}

fn program() -> Check {
    let name = "jupyter";
    let Some(path) = programs::find("jupyter") else {
        let advice = "only for use from Jupyter: `pip install jupyterlab`; `glassbox run` and `glassbox repl` need none";
        return Check::other(name, State::Absent, "not on PATH", advice);
    };
    let versions = output(&path, &["--version"]).unwrap_or_default();
    let lab = versions.lines().find(|line| line.starts_with("jupyterlab"));
    let lab = lab.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    Check::ok(
        name,
        format!(
            "{}{}",
            path.display(),
            lab.map(|lab| format!(", {lab}")).unwrap_or_default()
        ),
    )
}

fn kernels() -> Check {
    let name = "kernels";
    let mut found = Vec::new();
    let mut broken = Vec::new();
    for folder in data_folders() {
        let entries = std::fs::read_dir(folder.join("kernels"))
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        for entry in entries {
            let Some(program) = our_program(&entry.path()) else {
                continue;
            };
            let shown = entry.path().display().to_string();
            if program.is_file() {
                found.push(shown);
            } else {
                broken.push(format!(
                    "{shown} starts {}, which is not there",
                    program.display()
                ));
            }
        }
    }
    if !broken.is_empty() {
        return Check::other(
            name,
            State::Warning,
            broken.join("; "),
            "run `glassbox install` again",
        );
    }
    if found.is_empty() {
        return Check::other(
            name,
            State::Absent,
            "no glassbox kernel installed",
            "run `glassbox install`",
        );
    }
    found.sort();
    Check::ok(name, found.join(", "))
}

/// The program of a kernelspec, if `glassbox install` wrote the spec.
fn our_program(folder: &Path) -> Option<PathBuf> {
    let spec: Value =
        serde_json::from_slice(&std::fs::read(folder.join("kernel.json")).ok()?).ok()?;
    spec.pointer("/metadata/glassbox")?;
    Some(spec.pointer("/argv/0")?.as_str()?.into())
}

/// Where Jupyter looks for kernels, as far as that is known without asking it.
fn data_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("JUPYTER_PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .collect();
    folders.extend(folder_from("JUPYTER_DATA_DIR"));
    folders.extend(dirs::data_dir().map(|data| data.join("jupyter")));
    folders.extend(dirs::home_dir().map(|home| home.join("Library/Jupyter")));
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        folders.extend(folder_from(variable).map(|prefix| prefix.join("share/jupyter")));
    }
    if let Some(program) = programs::find("jupyter") {
        let prefix = program
            .parent()
            .and_then(Path::parent)
            .map(|prefix| prefix.join("share/jupyter"));
        folders.extend(prefix);
    }
    folders.extend(["/usr/local/share/jupyter", "/usr/share/jupyter"].map(PathBuf::from));
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}
