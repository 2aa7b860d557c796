//! Inputs that are no pictures: molecules against RDKit and MiniMol, spectra, social graphs, fields of flow; each read, drawn, encoded and
//! trained. Real files are read where `GLASSBOX_REAL` and `GLASSBOX_WHEELS` name folders that hold them.

// What is compared and how far apart it is, is for whoever runs the tests with `--nocapture`.
#![allow(clippy::print_stdout)]

mod minimol;
mod molecules;
mod signals;
mod training;

use std::io::Write as _;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Says what a test did without, past the harness, which hides the prints of tests that pass.
fn not_run(why: &str) {
    let _ = std::io::stderr().write_all(format!("NOT RUN: {why}\n").as_bytes());
}
