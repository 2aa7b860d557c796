//! `:restart`: starts the process that runs cells anew. Variables go, items are kept.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(engine: &mut RustcEngine, _: &str, done: &mut Done) -> Result<(), EvalError> {
    engine.restart()?;
    say(done, "the process that runs cells was started anew");
    Ok(())
}
