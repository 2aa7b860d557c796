//! `:restart`: starts the process that runs cells anew. Variables go, items are kept.

use super::show::say;
use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, _: &str, done: &mut Done) -> Result<(), Trouble> {
    engine.restart()?;
    say(done, "the process that runs cells was started anew");
    Ok(())
}
