//! `:clear`: forgets all variables and items, and starts a new process.

use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, _: &str, _: &mut Done) -> Result<(), Trouble> {
    engine.clear()
}
