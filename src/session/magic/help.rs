//! `:help`: our commands, then those of the engine.

use super::{Call, MAGICS, two_columns};
use crate::session::Session;
use crate::session::event::Event;
use crate::session::outcome::CellOutcome;

/// Commands of evcxr that change how it calls cargo, which a session does not do for cells.
const WITHOUT_EFFECT: [&str; 8] = [
    "sccache",
    "cache",
    "clear_cache",
    "linker",
    "codegen_backend",
    "allow_static_linking",
    "time_passes",
    "toolchain",
];

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    let table = two_columns(&rows(call.session));
    call.done(Some(table))
}

/// The commands as they are written, and what each does.
pub(crate) fn rows(session: &mut Session) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = MAGICS
        .iter()
        .map(|magic| {
            let usage = format!(":{} {}", magic.name, magic.arguments);
            (usage.trim_end().to_owned(), magic.summary.to_owned())
        })
        .collect();
    let mut engine = String::new();
    // If it refuses, its commands are missing from the table and nothing else.
    let _ = session.evaluate_aside(":help", &mut |event| {
        if let Event::Result(display) = event {
            engine = display.plain().unwrap_or_default().to_owned();
        }
    });
    for line in engine.lines() {
        let Some((name, summary)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let word = name.trim_start_matches(':');
        let known = MAGICS.iter().any(|magic| magic.name == word);
        if !known && !WITHOUT_EFFECT.contains(&word) {
            rows.push((name.to_owned(), summary.trim().to_owned()));
        }
    }
    rows.push((
        "?NAME".to_owned(),
        "what is known of a name, with its documentation".to_owned(),
    ));
    rows.push(("!COMMAND".to_owned(), "run a shell command".to_owned()));
    rows
}
