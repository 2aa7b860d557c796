//! `:show_deps`: the crates that were added.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(engine: &mut RustcEngine, _: &str, done: &mut Done) -> Result<(), EvalError> {
    let rows = engine.dependencies().iter();
    let rows = rows.map(|(name, config)| format!("{name} = {config}\n"));
    say(done, &rows.collect::<String>());
    Ok(())
}
