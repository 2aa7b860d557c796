//! What is worth knowing and no error: a line on stderr, which a notebook shows under the cell and a terminal as it comes.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Lines that were said. A model's files are opened several times on the way to a model.
static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Says a line, once in the life of the process.
pub(crate) fn say(line: &str) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(line.to_owned()) {
        // Whoever closed stderr wants no lines.
        _ = writeln!(std::io::stderr(), "note: {line}");
    }
}
