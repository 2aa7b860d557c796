//! `:opt [LEVEL]`: how much cells are optimised. Without a level: 2, or 0 again.

use super::show::say;
use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, level: &str, done: &mut Done) -> Result<(), Trouble> {
    let level = match (level, engine.opt_level()) {
        ("", "0") => "2",
        ("", _) => "0",
        (level @ ("0" | "1" | "2" | "3" | "s" | "z"), _) => level,
        (other, _) => {
            return Err(Trouble::Refused(format!(
                "there is no optimization level `{other}`; write 0, 1, 2 or 3"
            )));
        }
    };
    engine.set_opt_level(level);
    say(done, &format!("Optimization: {level}"));
    Ok(())
}
