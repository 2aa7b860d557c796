//! `:last_error_json`: the last compilation's errors as JSON.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(engine: &mut RustcEngine, _: &str, done: &mut Done) -> Result<(), EvalError> {
    let lines = engine.last_errors().iter();
    let lines = lines.map(|error| format!("{}\n", error.json));
    say(done, &lines.collect::<String>());
    Ok(())
}
