//! `:env KEY=VALUE`: sets an environment variable for the process that runs cells, which is started anew.

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(
    engine: &mut RustcEngine,
    setting: &str,
    done: &mut Done,
) -> Result<(), EvalError> {
    let (key, value) = setting
        .split_once('=')
        .ok_or_else(|| EvalError::Refused("write `:env KEY=VALUE`".to_owned()))?;
    engine.set_env(key.trim(), value.trim())?;
    say(
        done,
        &format!("Set {setting}; the process that runs cells was started anew"),
    );
    Ok(())
}
