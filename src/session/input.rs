//! Lines of text that cells ask for: the question comes as an event frame, the answer goes back through a named pipe.
//!
//! ```text
//! input("name? ") ── frame ──▶ Decoder ──▶ Input::answer ──▶ the front end's reader ──▶ person
//!       ◀── one line of JSON in the pipe `input` ◀──────────────────────┘
//! ```
//! Who answers is for the front end to say; without a reader the cell gets an error.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;

/// Name of the pipe in the session's folder.
const PIPE: &str = "input";
/// Longest answer, in bytes of JSON: the pipe takes this much at once although nobody may be reading any more.
const LONGEST: usize = 32 * 1024;

/// A cell's question to the person at the notebook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRequest {
    /// What to show before the line.
    pub prompt: String,
    /// Whether what is typed is kept hidden.
    pub password: bool,
}

/// Answers a question with the line typed, or says why there is no answer. Called while the cell waits.
pub type InputReader = Box<dyn FnMut(&InputRequest) -> Result<String, String> + Send>;

/// The way back to the cell.
pub(crate) struct Input {
    pipe: File,
    reader: Option<InputReader>,
}

impl Input {
    /// Makes the pipe in `folder`.
    pub(crate) fn open(folder: &Path) -> std::io::Result<Input> {
        let path = folder.join(PIPE);
        let name = CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::other)?;
        // SAFETY: `name` is a valid C string for the duration of the call.
        if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // For both directions, so that it opens although nobody reads yet.
        let pipe = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        Ok(Input { pipe, reader: None })
    }

    /// From now on `reader` answers.
    pub(crate) fn set_reader(&mut self, reader: Option<InputReader>) {
        self.reader = reader;
    }

    /// Has the question `id` answered and passes the answer on.
    pub(crate) fn answer(&mut self, id: u64, request: &InputRequest) {
        let answer = match &mut self.reader {
            Some(read) => read(request),
            None => Err("the notebook runs without anyone to type".to_owned()),
        };
        let line = |answer| match answer {
            Ok(value) => format!("{}\n", json!({ "id": id, "value": value })),
            Err(why) => format!("{}\n", json!({ "id": id, "refused": why })),
        };
        let mut text = line(answer);
        if text.len() > LONGEST {
            text = line(Err(format!("the answer is longer than {LONGEST} bytes")));
        }
        // A pipe that is full belongs to a cell that does not read: it has ended.
        let _ = self.pipe.write_all(text.as_bytes());
    }
}
