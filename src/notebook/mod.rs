//! Notebook files: read, parameterise, execute, write back, export.
//!
//! `.ipynb` text → [`Notebook`] → [`parameters::inject`] → [`run::run`] with a session → outputs inside the notebook →
//! [`save::save`] as `.ipynb` and, through [`html::page`], as a page.
//!
//! # Layout
//! - [`document`] the notebook in memory, and what is accepted; `lossless` writes it back without disturbing the rest,
//!   `python_json` reads what Python writes and strict JSON has not
//! - [`parameters`] `-p name=value`
//! - [`run`] cell after cell; [`outputs`] events → outputs; [`watch`] time limits and interrupts
//! - [`save`] whole files or none
//! - [`html`] the page; [`markdown`], [`pictures`], [`highlight`], [`ansi`] its parts; [`clean`] what of others' markup goes in
//!
//! This is the one module that knows the format of `.ipynb`.

pub mod ansi;
pub mod clean;
pub mod document;
pub mod highlight;
pub mod html;
mod lossless;
pub mod markdown;
pub mod outputs;
pub mod parameters;
pub mod pictures;
mod python_json;
pub mod run;
pub mod save;
pub mod watch;

pub use document::{Cell, CellKind, Notebook, NotebookError};
