//! `:opt [LEVEL]`: how much cells are optimised. Without a level: 2, or 0 again.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(engine: &mut RustcEngine, level: &str, done: &mut Done) -> Result<(), EvalError> {
    let level = match (level, engine.opt_level()) {
        ("", "0") => "2",
        ("", _) => "0",
        (level @ ("0" | "1" | "2" | "3" | "s" | "z"), _) => level,
        (other, _) => {
            return Err(EvalError::Refused(format!(
                "there is no optimization level `{other}`; write 0, 1, 2 or 3"
            )));
        }
    };
    engine.set_opt_level(level);
    say(done, &format!("Optimization: {level}"));
    Ok(())
}
