//! `!COMMAND`: runs a shell command and shows what it wrote.

use std::process::Command;

use super::show::say;
use crate::session::engine::{Done, EvalError, RustcEngine};

pub(super) fn run(_: &mut RustcEngine, command: &str, done: &mut Done) -> Result<(), EvalError> {
    say(done, &output(command).map_err(EvalError::Refused)?);
    Ok(())
}

fn output(command: &str) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .map_err(|error| format!("cannot run the shell: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(said.into_owned())
    } else {
        Err(format!(
            "the shell command failed ({}): {}",
            output.status,
            said.trim_end()
        ))
    }
}
