//! Glassbox's host side: sessions, the Jupyter kernel, the REPL and the notebook runner.
//!
//! # Layout
//! - [`session`] runs cells; [`kernel`], [`repl`] and [`notebook`] are its front ends, [`commands`] the command line
//! - `ranks`: which of several processes this one is
//! - `figures`, `html`, `terminal_text`, `patience`, `private`, `programs`, `regular`: what all of them have in common: sizes and times for
//!   people, escaped text, text that a terminal only shows, how long who waits, what belongs to the user alone, the programs that are called,
//!   files that are files

pub mod commands;
mod figures;
mod html;
pub mod kernel;
pub mod notebook;
mod patience;
mod private;
mod programs;
mod ranks;
mod regular;
pub mod repl;
pub mod session;
mod terminal_text;
