//! Typing cells where the terminal can do nothing but lines (`TERM=dumb`, output that goes elsewhere).

use std::io::{BufRead as _, Result, Write as _};

use super::{Read, editor};
use crate::session::asked;

/// The prompt's number.
pub struct Typing {
    next: usize,
}

impl Default for Typing {
    fn default() -> Typing {
        Typing { next: 1 }
    }
}

impl Typing {
    /// Waits for a cell: lines up to the one that completes it.
    pub fn read(&mut self) -> Result<Read> {
        let mut code = String::new();
        let mut prompt = format!("[{}] > ", self.next);
        loop {
            // To standard error, where the line editor too has its prompt: output may be a file.
            let mut err = std::io::stderr().lock();
            drop(err.write_all(prompt.as_bytes()).and_then(|()| err.flush()));
            drop(err);
            if std::io::stdin().lock().read_line(&mut code)? == 0 {
                return Ok(match code.trim() {
                    "" => Read::End,
                    _ => Read::Cell(code),
                });
            }
            if editor::is_complete(&code) {
                if !code.trim().is_empty() && asked(&code).is_none() {
                    self.next += 1;
                }
                return Ok(Read::Cell(code));
            }
            prompt = format!("{}. ", " ".repeat(prompt.len() - 2));
        }
    }
}
