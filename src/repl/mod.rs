//! The terminal REPL: cells typed line by line, or read from a pipe.
//!
//! keys (or a pipe) → cells → session → what they show, as text.
//!
//! # Layout
//! - [`run`] the loop, and the commands that begin with a colon
//! - `editor` typing: prompt, completion, history, several lines
//! - `pipe` cells from standard input that is not a terminal
//! - `picture` pictures of displays in the terminal
//! - `screen` what cells show: text, live lines, errors

mod editor;
mod picture;
mod pipe;
mod screen;

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::notebook::watch::{Stop, Watch};
use crate::session::{Session, SessionError};

use editor::Editor;
use screen::Screen;

/// A session that the loop and the completion share.
type Shared = Arc<Mutex<Session>>;

/// What may be typed besides Rust.
pub const HELP: &str = "\
Type Rust; Enter runs it when it is complete, Alt-Enter adds a line in any case.
The last expression shows itself; variables stay for the next cell.

  Tab           complete a name
  ctrl-c        clear the line; while a cell runs: interrupt it (twice: end it, variables are lost)
  ctrl-d        leave
  ctrl-r        search what was typed before
  ?NAME         what is known of a name (also :doc NAME)
  :restart      start the session's process anew: variables go, the prelude stays
  :quit         leave
  :help         this text, and the session's commands";

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// End of input.
    Ended,
    /// A cell from a pipe failed; the cells after it were not run.
    CellFailed,
    /// A cell from a pipe was interrupted.
    Interrupted,
}

/// What the loop is told of cells, so that ctrl-c can be directed to them.
pub trait Running {
    /// A cell starts.
    fn cell_starts(&self, watch: &Watch);
    /// The cell has ended.
    fn cell_ended(&self);
}

/// Reads and runs cells until the input ends.
///
/// # Errors
/// The terminal can't be read or the session can't be restarted.
pub fn run(session: Session, running: &dyn Running) -> Result<Left, ReplError> {
    let watch = Watch::start(session.interrupter());
    let session: Shared = Arc::new(Mutex::new(session));
    let interactive = std::io::stdin().is_terminal();
    let mut cells = Cells {
        session: Arc::clone(&session),
        watch: watch.clone(),
        running,
    };
    let left = if interactive {
        typed(&session, &mut cells)
    } else {
        piped(&session, &mut cells)
    };
    watch.close();
    left
}

/// The loop can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplError {
    /// Standard input or the terminal failed.
    #[error("input can't be read: {0}")]
    Input(#[from] std::io::Error),
    /// The line editor failed.
    #[error("the terminal can't be used: {0}")]
    Editor(#[from] reedline::ReedlineError),
    /// The session failed.
    #[error("{0}")]
    Session(#[from] SessionError),
}

fn typed(session: &Shared, cells: &mut Cells<'_>) -> Result<Left, ReplError> {
    let mut editor = Editor::new(session);
    loop {
        match editor.read()? {
            editor::Read::Cell(code) => match command(&code) {
                Some(Command::Quit) => return Ok(Left::Ended),
                Some(command) => cells.obey(command)?,
                None => drop(cells.run(&code)),
            },
            editor::Read::Cleared => {}
            editor::Read::End => return Ok(Left::Ended),
        }
    }
}

fn piped(session: &Shared, cells: &mut Cells<'_>) -> Result<Left, ReplError> {
    let complete = |code: &str| editor::is_complete(&lock(session), code);
    for cell in pipe::Cells::new(std::io::stdin().lock(), complete) {
        let code = cell?;
        match command(&code) {
            Some(Command::Quit) => return Ok(Left::Ended),
            Some(command) => cells.obey(command)?,
            None => match cells.run(&code) {
                Ended::Well => {}
                Ended::Failed => return Ok(Left::CellFailed),
                Ended::Stopped => return Ok(Left::Interrupted),
            },
        }
    }
    Ok(Left::Ended)
}

#[derive(Debug, PartialEq, Eq)]
enum Command<'a> {
    Help,
    Doc(&'a str),
    Restart,
    Quit,
}

/// The loop's own commands; everything else is the session's.
fn command(line: &str) -> Option<Command<'_>> {
    let (word, rest) = line
        .trim()
        .split_once(char::is_whitespace)
        .unwrap_or((line.trim(), ""));
    match word {
        ":help" | ":h" | ":?" => Some(Command::Help),
        ":doc" => Some(Command::Doc(rest.trim())),
        ":restart" => Some(Command::Restart),
        ":quit" | ":q" | ":exit" => Some(Command::Quit),
        // No Rust code begins with a question mark.
        _ => line
            .trim()
            .strip_prefix('?')
            .map(|name| Command::Doc(name.trim())),
    }
}

enum Ended {
    Well,
    Failed,
    Stopped,
}

struct Cells<'a> {
    session: Shared,
    watch: Watch,
    running: &'a dyn Running,
}

impl Cells<'_> {
    fn run(&mut self, code: &str) -> Ended {
        if code.trim().is_empty() {
            return Ended::Well;
        }
        let mut screen = Screen::new();
        self.watch.forget_requests();
        self.running.cell_starts(&self.watch);
        let guard = self.watch.cell(None);
        let outcome = lock(&self.session).evaluate(code, &mut |event| screen.event(&event));
        let stop = guard.finish();
        self.running.cell_ended();
        screen.end();
        match outcome.status {
            Err(error) => {
                screen.error(&error);
                if stop == Some(Stop::User) {
                    Ended::Stopped
                } else {
                    Ended::Failed
                }
            }
            Ok(()) if stop == Some(Stop::User) => Ended::Stopped,
            Ok(()) => Ended::Well,
        }
    }

    fn obey(&mut self, command: Command<'_>) -> Result<(), ReplError> {
        let mut session = lock(&self.session);
        match command {
            Command::Help => {
                screen::line(HELP);
                screen::line("\nCommands of the session:");
                let mut screen = Screen::new();
                // Its only output is the table.
                let _ = session.evaluate(":help", &mut |event| screen.event(&event));
                screen.end();
            }
            Command::Doc("") => screen::line("write `?NAME`"),
            Command::Doc(name) => match session.inspect(name, name.len()) {
                Ok(Some(found)) => screen::line(&found.plain),
                Ok(None) => screen::line(&format!("nothing is known of `{name}`")),
                Err(error) => screen::line(&error.to_string()),
            },
            Command::Restart => {
                session.restart()?;
                screen::line(
                    "the session's process was started anew: variables are gone, the prelude is loaded",
                );
            }
            // Seen by the loops.
            Command::Quit => {}
        }
        Ok(())
    }
}

fn lock(session: &Shared) -> MutexGuard<'_, Session> {
    // A panic in the session's code would leave it as evcxr left it; there is no better one to be had.
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loop_s_own_commands_are_taken() {
        assert_eq!(command(" :help\n"), Some(Command::Help));
        assert_eq!(command(":doc  Tensor "), Some(Command::Doc("Tensor")));
        assert_eq!(command(":q"), Some(Command::Quit));
        assert_eq!(command("? vlm.llm"), Some(Command::Doc("vlm.llm")));
        for other in [
            "let x = 1;",
            ":dep serde = \"1\"",
            ":vars",
            "::std::mem::drop(1)",
            "",
        ] {
            assert_eq!(command(other), None, "{other}");
        }
    }
}
