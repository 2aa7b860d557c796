//! Lines of text that cells ask for: the question comes as an event frame, the answer goes back through a named pipe.
//!
//! ```text
//! input("name? ") ── frame ──▶ Decoder ──▶ Input::answer ──▶ the front end's reader ──▶ person
//!       ◀── one line of JSON in the pipe `input` ◀──────────────────────┘
//! ```
//! Who answers is for the front end to say; without a reader the cell gets an error. Questions in evcxr's way are answered on
//! standard input (see [`crate::session::child::stdin`]), through a pipe of their own: two readers of one would take each other's answers.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use glassbox_wire::Answer;
use glassbox_wire::names::{INPUT_PIPE, STDIN_PIPE};

use super::{held, open_pipe};
use crate::session::event::InputRequest;

/// Longest answer, in bytes of JSON: the pipe takes this much at once although nobody may be reading any more.
const LONGEST: usize = 32 * 1024;

/// Answers a question with the line typed, or says why there is no answer. Called while the cell waits.
pub type InputReader = Box<dyn FnMut(&InputRequest) -> Result<String, String> + Send>;

/// The way back to the cell.
pub(crate) struct Input {
    pipe: File,
    stdin: File,
    reader: Option<InputReader>,
}

impl Input {
    /// Makes the pipes in `folder`.
    pub(crate) fn open(folder: &Path) -> std::io::Result<Input> {
        Ok(Input {
            pipe: open_pipe(&folder.join(INPUT_PIPE))?,
            stdin: open_pipe(&folder.join(STDIN_PIPE))?,
            reader: None,
        })
    }

    /// Where a child finds the pipes, see [`held`].
    pub(crate) fn pipes(&self) -> String {
        format!(
            "{} {}",
            held(INPUT_PIPE, &self.pipe),
            held(STDIN_PIPE, &self.stdin)
        )
    }

    /// From now on `reader` answers.
    pub(crate) fn set_reader(&mut self, reader: Option<InputReader>) {
        self.reader = reader;
    }

    /// Has the question `id` answered and passes the answer on.
    pub(crate) fn answer(&mut self, id: u64, request: &InputRequest) {
        let answer = self.ask(request);
        send(&mut self.pipe, id, answer);
    }

    /// Answers the read `id` of standard input: with the line typed if it comes after a question, else with nothing.
    ///
    /// # Errors
    /// Says why a question is not answered: who reads can't be told more than that there is nothing.
    pub(crate) fn fill_stdin(
        &mut self,
        id: u64,
        request: Option<&InputRequest>,
    ) -> Result<(), String> {
        let Some(request) = request else {
            send(&mut self.stdin, id, Err("nothing was asked".to_owned()));
            return Ok(());
        };
        // The next question would read the second of two lines.
        let answer = self
            .ask(request)
            .map(|line| line.trim_end().replace(['\r', '\n'], " "));
        send(&mut self.stdin, id, answer.clone());
        answer.map(|_| ())
    }

    /// Answers the question `id` of a thread that asks while no cell runs.
    pub(crate) fn refuse(&mut self, id: u64) {
        let why = "no cell runs: only a running cell can ask".to_owned();
        send(&mut self.pipe, id, Err(why));
    }

    /// The same for a read of standard input.
    pub(crate) fn refuse_stdin(&mut self, id: u64) {
        send(&mut self.stdin, id, Err("no cell runs".to_owned()));
    }

    fn ask(&mut self, request: &InputRequest) -> Result<String, String> {
        let answer = match &mut self.reader {
            Some(read) => read(request),
            None => Err("the notebook runs without anyone to type".to_owned()),
        };
        let length = answer
            .as_ref()
            .map_or(0, |line| Answer::new(0, Ok(line.clone())).to_line().len());
        if length > LONGEST {
            return Err(format!("the answer is longer than {LONGEST} bytes"));
        }
        answer
    }
}

/// Writes an answer into a pipe, as one line.
fn send(pipe: &mut File, id: u64, answer: Result<String, String>) {
    // A pipe that is full belongs to a cell that does not read: it has ended.
    let _ = pipe.write_all(Answer::new(id, answer).to_line().as_bytes());
}
