//! The program with rust-analyzer, beside the `glassbox` under test: cargo builds it there if it is not, or not of these sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where it is. `scripts/test` has built it; who runs one test by hand waits for it once, some minutes.
pub fn beside() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let glassbox = Path::new(env!("CARGO_BIN_EXE_glassbox"));
        let folder = glassbox.parent().expect("it is in a folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--locked", "--package", "glassbox-analyst"])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(folder.parent().expect("in the target folder"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let told = cargo.output().expect("cargo runs");
        assert!(
            told.status.success(),
            "`cargo build --release --package glassbox-analyst` fails:\n{}",
            String::from_utf8_lossy(&told.stderr)
        );
        folder.join("glassbox-analyst")
    })
}
