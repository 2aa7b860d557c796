//! Completion and inspection as Jupyter wants them.
//!
//! The session's [`Aids`] answer, past the worker, so that no cell waits for an answer and no question for a cell. They are the
//! worker's to give while no cell runs or waits, so that they know all cells so far; else they know all before the one that runs.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::cursor;
use super::failure::{Failure, error_reply};
use super::wire::Request;
use crate::session::{Aids, Completions, Inspection, SessionError};

/// Filled while there is a session that can answer beside its cells.
pub type AidsSlot = Arc<Mutex<Option<Aids>>>;

/// The reply to a `complete_request` or `inspect_request` by who can be asked from any thread.
pub fn reply(aids: &Aids, request: &Request) -> Value {
    match request.kind() {
        "complete_request" => complete(request, |code, at| aids.complete(code, at)),
        _ => inspect(request, |code, at| aids.inspect(code, at)),
    }
}

/// The content of `complete_reply`; `ask` is given code and cursor, in bytes.
fn complete(
    request: &Request,
    ask: impl FnOnce(&str, usize) -> Result<Completions, SessionError>,
) -> Value {
    let code = request.text("code");
    let found = match ask(code, cursor_byte(request, code)) {
        Ok(found) => found,
        Err(error) => return error_reply(&Failure::plain("CompletionError", error.to_string())),
    };
    let (start, end) = (
        cursor::to_points(code, found.start),
        cursor::to_points(code, found.end),
    );
    let matches: Vec<&str> = found.items.iter().map(|item| item.text.as_str()).collect();
    let types: Vec<Value> = found
        .items
        .iter()
        .map(|item| json!({ "text": item.text, "type": item.kind, "signature": item.signature(), "start": start, "end": end }))
        .collect();
    json!({
        "status": "ok", "matches": matches, "cursor_start": start, "cursor_end": end,
        "metadata": { "_jupyter_types_experimental": types },
    })
}

/// The content of `inspect_reply`; `ask` is given code and cursor, in bytes.
fn inspect(
    request: &Request,
    ask: impl FnOnce(&str, usize) -> Result<Option<Inspection>, SessionError>,
) -> Value {
    let code = request.text("code");
    match ask(code, cursor_byte(request, code)) {
        Ok(Some(found)) => {
            json!({ "status": "ok", "found": true, "data": documentation(found), "metadata": {} })
        }
        Ok(None) => json!({ "status": "ok", "found": false, "data": {}, "metadata": {} }),
        Err(error) => error_reply(&Failure::plain("InspectError", error.to_string())),
    }
}

/// A MIME bundle of what is known of a name.
pub fn documentation(found: Inspection) -> Value {
    json!({ "text/plain": found.plain, "text/markdown": found.markdown, "text/html": found.html })
}

fn cursor_byte(request: &Request, code: &str) -> usize {
    let end = code.chars().count();
    let points = request
        .integer("cursor_pos")
        .and_then(|at| usize::try_from(at).ok())
        .unwrap_or(end);
    cursor::to_bytes(code, points)
}
