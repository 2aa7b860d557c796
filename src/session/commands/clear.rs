//! `:clear`: forgets all variables and items, and starts a new process.

use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(engine: &mut RustcEngine, _: &str, _: &mut Done) -> Result<(), EvalError> {
    engine.clear()
}
