//! What tests against other libraries share, those of language models too.

use crate::Outcome;
use glassbox_prelude::candle_core::Tensor;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Says what a test did without, past the harness, which hides the prints of tests that pass.
pub fn not_run(why: &str) {
    let _ = std::io::stderr().write_all(format!("NOT RUN: {why}\n").as_bytes());
}

pub fn assert_close(what: &str, got: &Tensor, want: &Tensor, tolerance: f32) -> Outcome {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let worst = (got - want)?
        .abs()?
        .flatten_all()?
        .max(0)?
        .to_scalar::<f32>()?;
    println!("{what}: {worst:.2e}");
    assert!(worst <= tolerance, "{what}: {worst:e} of {tolerance:e}");
    Ok(())
}
