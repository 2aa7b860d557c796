//! What `:export` wrote → a program, as fast as a cell compiles; and the launchers that start several of it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles an exported project's source as the session, whose folder is given, compiles cells: against the library that is there.
pub fn compile_exported(dir: &Path, session: &Path) -> PathBuf {
    let settings = std::fs::read(session.join("compiler.json")).expect("the session has settings");
    let settings: serde_json::Value = serde_json::from_slice(&settings).expect("they are JSON");
    let path = |name: &str| settings[name].as_str().expect("a path").to_owned();
    let program = dir.join("program");
    let compiled = Command::new(path("rustc"))
        .args([
            "--edition",
            "2024",
            "-Cprefer-dynamic",
            "-Crpath",
            "--extern",
        ])
        .arg(format!("glassbox_prelude={}", path("prelude")))
        .arg("-L")
        .arg(format!("dependency={}", path("dependencies")))
        .arg(dir.join("src/main.rs"))
        .arg("-o")
        .arg(&program)
        .output()
        .expect("rustc runs");
    let complaint = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{complaint}");
    program
}

/// The folders with `mpirun` of the installations that `GLASSBOX_MPI_FOLDERS` names, as for the tests of the prelude; says so where there is none.
pub fn mpi_folders() -> Vec<PathBuf> {
    let folders = std::env::var_os("GLASSBOX_MPI_FOLDERS").unwrap_or_default();
    let folders = std::env::split_paths(&folders).map(|folder| folder.join("bin"));
    let folders: Vec<PathBuf> = folders.filter(|bin| bin.join("mpirun").is_file()).collect();
    if folders.is_empty() {
        use std::io::Write as _;
        // Past the harness, which hides what a test that passes prints.
        let said = "NOT RUN: GLASSBOX_MPI_FOLDERS names no MPI";
        drop(writeln!(std::io::stderr(), "{said}"));
    }
    folders
}

/// What a process needs that finds this `mpirun` by its name, and may be root.
pub fn mpi_environment(bin: &Path) -> [(&'static str, String); 3] {
    let path = std::env::var("PATH").unwrap_or_default();
    [
        ("PATH", format!("{}:{path}", bin.display())),
        ("OMPI_ALLOW_RUN_AS_ROOT", "1".to_owned()),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1".to_owned()),
    ]
}
