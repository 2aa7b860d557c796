//! `:load_config`: runs the cells of evcxr's own start-up configuration.

use std::path::PathBuf;

use super::Call;
use crate::session::outcome::CellOutcome;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let mut phases = Vec::new();
    for (name, cell) in configuration() {
        let mut outcome = call.session.evaluate_logged(&cell, call.sink);
        phases.append(&mut outcome.phases);
        if let Err(mut error) = outcome.status {
            error.traceback.insert(0, format!("in {name}:"));
            return call.outcome(Err(error), phases);
        }
    }
    call.outcome(Ok(()), phases)
}

/// Where evcxr looks for it.
fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("EVCXR_CONFIG_DIR").map(PathBuf::from);
    named.or_else(|| Some(dirs::config_dir()?.join("evcxr")))
}

/// The files that are there, and what they hold.
fn configuration() -> Vec<(&'static str, String)> {
    let Some(folder) = folder() else {
        return Vec::new();
    };
    ["init.evcxr", "prelude.rs"]
        .into_iter()
        .filter_map(|name| Some((name, std::fs::read_to_string(folder.join(name)).ok()?)))
        .collect()
}
