//! `:explain`: rustc's explanation of the last error.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(engine: &mut RustcEngine, _: &str, done: &mut Done) -> Result<(), EvalError> {
    let text = engine.explain().map_err(EvalError::Refused)?;
    say(done, &text);
    Ok(())
}
