//! Glassbox's host side: sessions, the Jupyter kernel, the REPL and the notebook runner.
//!
//! # Layout
//! - [`session`] runs cells; [`kernel`], [`repl`] and [`notebook`] are its front ends, [`commands`] the command line
//! - `figures`, `html`, `patience`: what all of them have in common: sizes and times for people, escaped text, how long who waits

pub mod commands;
mod figures;
mod html;
pub mod kernel;
pub mod notebook;
mod patience;
pub mod repl;
pub mod session;
