//! Draws the figures of the notebooks: the sizes of the tiny model, measured while it runs → `notebooks/figures/NAME.svg`.
//!
//! `cargo run --release -p glassbox-prelude --example concept_figures` (another folder may be given). A notebook shows one by
//! `![what it shows](figures/NAME.svg)`; `tests/concept_figures.rs` checks that the files are what this draws.

#![allow(clippy::print_stdout)] // a program that reports to a terminal

mod figures;

use std::path::{Path, PathBuf};

use glassbox_prelude::{Error, Result};

fn main() -> Result<()> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../notebooks/figures");
    let folder = std::env::args().nth(1).map_or(beside, PathBuf::from);
    let cannot = |path: &Path, error: std::io::Error| {
        Error::Input(format!("{} cannot be written: {error}", path.display()))
    };
    std::fs::create_dir_all(&folder).map_err(|error| cannot(&folder, error))?;
    for (name, svg) in figures::all(&figures::measure::tiny()?) {
        let path = folder.join(format!("{name}.svg"));
        std::fs::write(&path, &svg).map_err(|error| cannot(&path, error))?;
        println!("{}: {} bytes", path.display(), svg.len());
    }
    Ok(())
}
