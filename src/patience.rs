//! How long who waits for a cell, a process or a person, in one place: the times stand in order to each other.
//!
//! ```text
//! interrupt ─ 1.5 s ─▶ the prelude stops the cell's own code ─▶ TELL: the user is told what to do ─▶ END: a time limit ends the process
//! session gone ─▶ ORPHAN: its process ends
//! ```
//! The first of these times is the prelude's: see `prelude/src/session/stop.rs`.

use std::time::Duration;

/// An interrupted cell that goes on for so long is one that the prelude could not stop: the user is told what to do.
pub(crate) const TELL: Duration = Duration::from_secs(3);
/// What a cell may take after the first interrupt before a time limit ends it for good: several times a step of a model that is large
/// for a CPU. The prelude stops within a second or so; code that looks for no interrupt is stopped when the call that it is in returns.
pub(crate) const END: Duration = Duration::from_secs(60);
/// How long a session may take to end before its front end ends without it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);
/// How long the process that runs cells may go on after its session has gone.
pub(crate) const ORPHAN: Duration = Duration::from_secs(2);
/// From a keyboard, a ctrl-c this soon after another one is the same key still held down.
pub(crate) const REPEAT: Duration = Duration::from_millis(700);
/// So many times ctrl-c in one cell, and the program ends without waiting for anything.
pub(crate) const LAST: usize = 4;

const _: () = assert!(TELL.as_millis() < END.as_millis());
