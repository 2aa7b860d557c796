//! `:timing`: shows how long each phase of a cell takes, or no longer.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(engine: &mut RustcEngine, _: &str, done: &mut Done) -> Result<(), EvalError> {
    let on = engine.switch_timing();
    say(done, &format!("Timing: {on}"));
    Ok(())
}
