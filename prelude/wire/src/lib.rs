//! What a session (the host) and the process that runs its cells (the child, with the prelude in it) say to each other.
//!
//! ```text
//! host ── Command: a line ──▶ child
//! host ◀── Control: lines, past the user's text ── child, prelude
//! host ◀── Event: frames between the user's text, on stdout ── child, prelude
//! host ── Answer: a line in a named pipe ──▶ child, prelude
//! ```
//! Both sides use this crate and spell nothing of it by themselves. It lies in the prelude's folder, so that it travels with the prelude's
//! source; it knows neither tensors nor Jupyter, and opens nothing.
//!
//! # Layout
//! - [`event`]: what happens in a cell; [`frame`]: how an event stands between text
//! - [`control`]: lines on how a cell ended and what it left
//! - [`command`]: what the child is told to do; [`answer`]: lines that cells asked for
//! - [`evcxr`]: words of evcxr's kernel and of crates made for it
//! - [`names`]: variables of the environment, and files in a session's folder
//! - [`launcher`]: variables of `mpirun`, `srun` and others

pub mod answer;
pub mod command;
pub mod control;
pub mod evcxr;
pub mod event;
pub mod frame;
pub mod launcher;
pub mod names;

pub use answer::Answer;
pub use command::Command;
pub use control::Control;
pub use event::{Bundle, Comm, CommKind, Event, PanicReport, Passed};
