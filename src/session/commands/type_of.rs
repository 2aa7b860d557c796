//! `:type EXPRESSION`: the type of a variable, or of an expression, which is not run.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(
    engine: &mut RustcEngine,
    expression: &str,
    done: &mut Done,
) -> Result<(), EvalError> {
    let ty = engine.type_of(expression).map_err(EvalError::Refused)?;
    let ty = ty.ok_or_else(|| {
        EvalError::Refused(format!(
            "the type of `{expression}` is not known; write a variable or an expression"
        ))
    })?;
    say(done, &format!("{expression}: {ty}"));
    Ok(())
}
