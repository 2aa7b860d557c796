//! `:show_deps`: the crates that were added.

use super::show::say;
use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, _: &str, done: &mut Done) -> Result<(), Trouble> {
    let rows = engine.dependencies().iter();
    let rows = rows.map(|(name, config)| format!("{name} = {config}\n"));
    say(done, &rows.collect::<String>());
    Ok(())
}
