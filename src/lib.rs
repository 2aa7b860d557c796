//! Glassbox's host side: sessions, the Jupyter kernel, the REPL and the notebook runner.

pub mod session;
