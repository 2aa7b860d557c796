//! `:timing`: shows how long each phase of a cell takes, or no longer.

use super::show::say;
use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, _: &str, done: &mut Done) -> Result<(), Trouble> {
    let on = engine.switch_timing();
    say(done, &format!("Timing: {on}"));
    Ok(())
}
