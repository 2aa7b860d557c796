//! `:explain`: rustc's explanation of the last error.

use super::show::say;
use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, _: &str, done: &mut Done) -> Result<(), Trouble> {
    let text = engine.explain().map_err(Trouble::Refused)?;
    say(done, &text);
    Ok(())
}
