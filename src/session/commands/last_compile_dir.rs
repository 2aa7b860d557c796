//! `:last_compile_dir`: the folder of the last compilation.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(engine: &mut RustcEngine, _: &str, done: &mut Done) -> Result<(), EvalError> {
    say(done, &engine.last_folder().display().to_string());
    Ok(())
}
