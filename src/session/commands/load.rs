//! `:load FILE`: runs a file of Rust code as if it stood in the cell.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::Call;
use crate::regular;
use crate::session::outcome::CellOutcome;

/// A longer file is not what was meant.
const MAX_BYTES: u64 = 4 << 20;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let name = call.arguments.trim_matches('"');
    if name.is_empty() {
        return call.refuse("there is no file to load; write `:load FILE`");
    }
    let path = expand_home(name);
    let code = match regular::read_text(&path, MAX_BYTES) {
        Ok(code) => code,
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            return call.refuse(&format!("{name} is a folder; name a file of Rust code"));
        }
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            return call.refuse(&format!("{name} is too long to be a file of Rust code"));
        }
        Err(error) => return call.refuse(&format!("{name} can't be read: {error}")),
    };
    // A script's first line may name its interpreter; the line stays, so that the others keep their numbers.
    let code = match code.strip_prefix("#!") {
        Some(rest) if !rest.starts_with('[') => format!("//{rest}"),
        _ => code,
    };
    let mut outcome = call.session.evaluate_logged(&code, call.sink);
    if let Err(error) = &mut outcome.status {
        error.traceback.insert(0, format!("in {name}:"));
    }
    outcome
}

fn expand_home(name: &str) -> PathBuf {
    match (name.strip_prefix("~/"), dirs::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    }
}
