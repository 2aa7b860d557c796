//! Glassbox's host side: sessions, the Jupyter kernel, the REPL and the notebook runner.

pub mod commands;
pub mod kernel;
pub mod notebook;
pub mod repl;
pub mod session;
