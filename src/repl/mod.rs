//! The terminal REPL: cells typed line by line, or read from a pipe.
//!
//! keys (or a pipe) → cells → session → what they show, as text.
//!
//! # Layout
//! - [`run`] the loop, and the commands that are the loop's own
//! - `editor` typing: prompt, history, several lines; `keys` what keys do; `completion` and `layout` the menu of names
//! - `simple` typing where the terminal can do nothing but lines
//! - `pipe` cells from standard input that is not a terminal
//! - `question` lines that a running cell asks for
//! - `above` what threads of cells say while a person types
//! - `screen` what cells show: text, live lines, errors; `picture` pictures of displays
//! - `help`, `markdown`, `paint` help, documentation and code as text

mod above;
mod completion;
mod editor;
mod help;
mod keys;
mod layout;
mod markdown;
mod paint;
mod picture;
mod pipe;
mod question;
mod screen;
mod simple;

use std::io::IsTerminal as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::notebook::watch::{Stop, Watch};
use crate::patience;
use crate::session::{Asked, InputReader, Interrupter, Session, SessionError, asked, commands};

use above::Above;
use editor::Editor;
use screen::Screen;

/// A session that the loop and the completion share.
type Shared = Arc<Mutex<Session>>;

/// How often a running cell is looked at for that.
const LOOK: Duration = Duration::from_millis(250);
/// Columns of text where there is no terminal.
const COLUMNS: usize = 100;

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
pub fn run(mut session: Session, running: &dyn Running) -> Result<Left, ReplError> {
    let watch = Watch::start(session.interrupter());
    let screen = Arc::new(Mutex::new(Screen::new()));
    let interactive = std::io::stdin().is_terminal();
    session.set_input_reader(Some(match interactive {
        true => asking(&screen, session.interrupter()),
        false => Box::new(|_| {
            Err(
                "standard input holds the cells; run `glassbox repl` in a terminal to be asked"
                    .to_owned(),
            )
        }),
    }));
    let above = Above::new(&screen);
    let sink = above.clone();
    session.set_background(Some(Box::new(move |_, event| sink.event(&event))));
    let mut cells = CellRunner {
        above,
        session: Arc::new(Mutex::new(session)),
        screen,
        watch: watch.clone(),
        running,
    };
    let left = match interactive {
        true => typed(&mut cells),
        false => piped(&mut cells),
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

/// What was typed.
enum Read {
    /// A cell.
    Cell(String),
    /// ctrl-c: the line was given up.
    Cleared,
    /// ctrl-d.
    End,
}

fn typed(cells: &mut CellRunner<'_>) -> Result<Left, ReplError> {
    question::restore_at_exit();
    let mut read: Box<dyn FnMut() -> Result<Read, ReplError>> = match screen::size() {
        Some(_) => {
            let mut editor = Editor::new(&cells.session, cells.above.printer());
            Box::new(move || Ok(editor.read()?))
        }
        None => {
            let mut typing = simple::Typing::default();
            Box::new(move || Ok(typing.read()?))
        }
    };
    let mut cleared = 0;
    loop {
        cells.above.typing(true);
        let typed = read();
        cells.above.typing(false);
        let typed = typed?;
        cleared = match typed {
            Read::Cleared => cleared + 1,
            _ => 0,
        };
        match typed {
            Read::Cell(code) => match asked(&code) {
                Some(Asked::Quit) => return Ok(Left::Ended),
                Some(question) => cells.answer(question),
                None => drop(cells.run(&code)),
            },
            // Who presses it again wants to get out.
            Read::Cleared if cleared == 2 => screen::line("ctrl-d or :quit leaves"),
            Read::Cleared => {}
            Read::End => return Ok(Left::Ended),
        }
    }
}

fn piped(cells: &mut CellRunner<'_>) -> Result<Left, ReplError> {
    for cell in pipe::PipedCells::new(std::io::stdin().lock(), editor::is_complete) {
        let code = cell?;
        match asked(&code) {
            Some(Asked::Quit) => return Ok(Left::Ended),
            Some(question) => cells.answer(question),
            None => match cells.run(&code) {
                Ended::Well => {}
                Ended::Failed => return Ok(Left::CellFailed),
                Ended::Stopped => return Ok(Left::Interrupted),
            },
        }
    }
    Ok(Left::Ended)
}

/// Answers questions of cells with lines from the terminal.
fn asking(screen: &Arc<Mutex<Screen>>, interrupter: Interrupter) -> InputReader {
    let screen = Arc::clone(screen);
    Box::new(move |request| {
        lock(&screen).question(&request.prompt);
        let answer = question::read_line(request.password, &|| interrupter.is_asked());
        lock(&screen).answered(answer.is_ok() && !request.password);
        answer
    })
}

enum Ended {
    Well,
    Failed,
    Stopped,
}

struct CellRunner<'a> {
    above: Above,
    session: Shared,
    screen: Arc<Mutex<Screen>>,
    watch: Watch,
    running: &'a dyn Running,
}

impl CellRunner<'_> {
    fn run(&mut self, code: &str) -> Ended {
        if code.trim().is_empty() {
            return Ended::Well;
        }
        *lock(&self.screen) = Screen::new();
        self.watch.forget_requests();
        self.running.cell_starts(&self.watch);
        let hidden = question::Echo::set(false);
        let guard = self.watch.cell(None);
        let mut session = lock(&self.session);
        let interrupter = session.interrupter();
        let outcome = std::thread::scope(|scope| {
            let (ended, end) = channel::<()>();
            let screen = &self.screen;
            scope.spawn(move || warn(screen, &interrupter, &end));
            let outcome = session.evaluate(code, &mut |event| lock(&self.screen).event(&event));
            drop(ended);
            outcome
        });
        drop(session);
        let stop = guard.finish();
        self.running.cell_ended();
        let mut screen = lock(&self.screen);
        screen.end();
        drop(hidden);
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

    /// Answers a question that the loop has a way of its own for.
    fn answer(&mut self, question: Asked<'_>) {
        let mut session = lock(&self.session);
        let columns = screen::size().map_or(COLUMNS, |(columns, _)| columns);
        let coloured = console::colors_enabled();
        match question {
            Asked::Help => {
                screen::line(&help::text(&commands(), columns, coloured));
            }
            Asked::Doc { name: "", .. } => screen::line("write `?NAME`"),
            Asked::Doc { name, whole } => match session.inspect(name, name.len()) {
                Ok(Some(found)) => {
                    let text = markdown::to_terminal(&found.markdown, columns, coloured);
                    let rows = screen::size().map(|(_, rows)| rows).filter(|_| !whole);
                    screen::line(&beginning(&text, name, rows));
                }
                Ok(None) => screen::line(&format!("nothing is known of `{name}`")),
                Err(error) => screen::line(&error.to_string()),
            },
            // Seen by the loops.
            Asked::Quit => {}
        }
    }
}

/// Says what can be done about a cell that was asked to stop and does not.
fn warn(screen: &Mutex<Screen>, interrupter: &Interrupter, end: &Receiver<()>) {
    let mut asked: Option<Instant> = None;
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LOOK) {
        // What is finished first has been told of.
        if !interrupter.is_asked() || interrupter.finishing().is_some() {
            continue;
        }
        if asked.get_or_insert_with(Instant::now).elapsed() > patience::TELL {
            lock(screen).note(
                "the cell has not stopped yet; ctrl-c once more ends its process, and its variables are lost",
            );
            return;
        }
    }
}

/// As much of a text as fits a screen of so many rows, and how to see the rest.
fn beginning(text: &str, name: &str, rows: Option<usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // Two rows for the prompts around it, one for the last line.
    let room = rows.map_or(lines.len(), |rows| rows.saturating_sub(3));
    if lines.len() <= room {
        return text.to_owned();
    }
    format!(
        "{}\n… {} more lines: ??{name}",
        lines[..room].join("\n").trim_end(),
        lines.len() - room
    )
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in the session's code would leave it as that left it; there is no better one to be had.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_documentation_is_cut_to_the_screen() {
        let text = "a\nb\n\nc\nd";
        assert_eq!(beginning(text, "x", None), text);
        assert_eq!(beginning(text, "x", Some(8)), text);
        assert_eq!(beginning(text, "x", Some(6)), "a\nb\n… 2 more lines: ??x");
    }
}
