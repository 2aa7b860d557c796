//! Asking the person at the notebook for a line of text.
//!
//! ```text
//! input("name? ") ── Event::Input ──▶ host ──▶ front end ──▶ person
//!        ◀── one line of JSON in the named pipe `input` of the session's folder ◀── host
//! ```
//! The stock kernel has lines of its own for that, and a program its terminal.

use std::io::{BufRead, Write};

use glassbox_wire::evcxr::{QUESTION, SECRET_QUESTION};

use super::{Surroundings, surroundings};
use crate::error::{Error, Result};

#[cfg(unix)]
mod pipe;

/// Asks the person at the notebook for a line of text, shown after `prompt`; returns it without the line's end.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// match input("your name: ") {
///     Ok(name) => println!("hello {name}"),
///     Err(error) => assert!(error.to_string().contains("no one can be asked")), // as where a notebook runs by itself
/// }
/// ```
///
/// # Errors
/// [`Error::Interrupted`] if the cell is interrupted meanwhile; [`Error::Input`] if nobody can be asked, as when a notebook is run by
/// `glassbox run` or `nbconvert`, or when `glassbox repl` reads its cells from a pipe.
pub fn input(prompt: &str) -> Result<String> {
    ask(prompt, false)
}

/// The same for a password: what is typed is not shown.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// match input_password("token: ") {
///     Ok(token) => println!("{} letters", token.chars().count()),
///     Err(error) => assert!(error.to_string().contains("no one can be asked")),
/// }
/// ```
///
/// # Errors
/// As for [`input`].
pub fn input_password(prompt: &str) -> Result<String> {
    ask(prompt, true)
}

fn ask(prompt: &str, password: bool) -> Result<String> {
    match surroundings() {
        #[cfg(unix)]
        Surroundings::Glassbox { .. } => pipe::ask_the_host(prompt, password),
        #[cfg(not(unix))]
        Surroundings::Glassbox { .. } => Err(nobody("there is no session here")),
        Surroundings::StockEvcxr => {
            let mark = if password { SECRET_QUESTION } else { QUESTION };
            // The request is one line.
            let prompt = prompt.replace('\n', " ");
            crate::display::print_line(&format!("{mark}{prompt}"));
            read_stdin()
        }
        Surroundings::Program => {
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(prompt.as_bytes());
            let _ = stdout.flush();
            read_stdin()
        }
    }
}

fn read_stdin() -> Result<String> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read {
        Ok(1..) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Ok(0) => Err(nobody("standard input has ended")),
        Err(error) => Err(nobody(&error.to_string())),
    }
}

fn nobody(why: &str) -> Error {
    Error::Input(format!("no one can be asked for input: {why}"))
}
