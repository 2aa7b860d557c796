//! `:env KEY=VALUE`: sets an environment variable for the process that runs cells, which is started anew.

use super::show::say;
use crate::session::engine::{Direct, Done, Trouble};

pub(super) fn run(engine: &mut Direct, setting: &str, done: &mut Done) -> Result<(), Trouble> {
    let (key, value) = setting
        .split_once('=')
        .ok_or_else(|| Trouble::Refused("write `:env KEY=VALUE`".to_owned()))?;
    engine.set_env(key.trim(), value.trim())?;
    say(
        done,
        &format!("Set {setting}; the process that runs cells was started anew"),
    );
    Ok(())
}
