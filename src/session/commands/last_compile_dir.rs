//! `:last_compile_dir`: the folder of the last compilation.

use super::show::say;
use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, _: &str, done: &mut Done) -> Result<(), Trouble> {
    say(done, &engine.last_folder().display().to_string());
    Ok(())
}
