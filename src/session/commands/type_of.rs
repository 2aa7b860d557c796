//! `:type EXPRESSION`: the type of a variable, or of an expression, which is not run.

use super::show::say;
use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, expression: &str, done: &mut Done) -> Result<(), Trouble> {
    let ty = engine.type_of(expression).map_err(Trouble::Refused)?;
    let ty = ty.ok_or_else(|| {
        Trouble::Refused(format!(
            "the type of `{expression}` is not known; write a variable or an expression"
        ))
    })?;
    say(done, &format!("{expression}: {ty}"));
    Ok(())
}
