//! A command that is a few lines of Rust in a session: each stage a cell with its own exit code.
//!
//! The host knows nothing of models: it starts a session as `glassbox run` does, evaluates the stages, and shows what they show. Results
//! go to standard output, progress to standard error: a live line with what is drawn above it in a terminal; in a log plain lines now and
//! then, and each display as it ended.

use std::path::Path;

use super::failure::{Exit, Failure};
use super::interrupts::Interrupts;
use super::terminal::{self, Live, Starting};
use super::{SessionArgs, say};
use crate::figures::time;
use crate::notebook::watch::{Stop, Watch};
use crate::ranks;
use crate::session::{CellError, CellErrorKind, Event, Session, SessionConfig};
use crate::terminal_text::{tame, tame_line};

/// Some lines of Rust, and how the program ends when they fail.
pub struct Stage {
    /// The cell.
    pub code: String,
    /// What a failure of it means.
    pub exit: Exit,
}

/// A path as Rust writes it in code.
pub fn literal(path: &Path) -> Result<String, Failure> {
    match path.to_str() {
        Some(text) => Ok(format!("{text:?}")),
        None => Err(Failure::new(
            Exit::Usage,
            format!("{}: the name is no UTF-8 text", path.display()),
        )),
    }
}

/// Runs the stages in a fresh session, in the present folder.
pub fn run(stages: &[Stage], session: &SessionArgs) -> Result<Exit, Failure> {
    let interrupts = Interrupts::listen()
        .map_err(|e| Failure::new(Exit::NoSession, format!("signals can't be handled: {e}")))?;
    let mut starting = Starting::new();
    let config = SessionConfig {
        features: session.features.clone(),
        ..SessionConfig::default()
    };
    let started = Session::start(config, &mut |event| starting.step(&event));
    let start = starting.end();
    let mut session = started.map_err(|e| Failure::new(Exit::NoSession, e))?;
    terminal::line(&format!("session ready in {}", time(start)));
    let watch = Watch::start(session.interrupter());
    interrupts.gently();
    interrupts.send_to(&watch);
    let mut ended = Exit::Done;
    for stage in stages {
        let mut shown = Shown::new();
        let guard = watch.cell(None);
        let outcome = session.evaluate(&stage.code, &mut |event| shown.event(&event));
        let stop = guard.finish();
        shown.end();
        let Err(error) = outcome.status else { continue };
        ended = match (stop, &error.kind) {
            (Some(Stop::User), _) | (_, CellErrorKind::Interrupted) => Exit::Interrupted,
            _ if ranks::follows() && ranks::is_told(&error.evalue) => break,
            _ => stage.exit,
        };
        match ended {
            Exit::Interrupted => terminal::line("interrupted"),
            _ => complain(&error),
        }
        break;
    }
    interrupts.release();
    watch.close();
    if ended == Exit::Done && ranks::own().is_some() {
        leave(&mut session)?;
    }
    Ok(ended)
}

/// What a session does at its end that was started as one of several processes, where its cells ran well.
const LEAVE: &str = "glassbox_prelude::parallel::leave()?;";

/// Leaves the other processes, and waits until all have.
pub fn leave(session: &mut Session) -> Result<(), Failure> {
    let left = session.evaluate(LEAVE, &mut |_| {}).status;
    left.map_err(|error| Failure::new(Exit::CellFailed, error.evalue))
}

/// What went wrong: in words where the prelude says it, else with the whole report.
fn complain(error: &CellError) {
    match error.kind {
        CellErrorKind::Error => terminal::complain(&error.evalue),
        _ => {
            terminal::complain(&error.to_string());
            for line in &error.traceback {
                terminal::line(&terminal::coloured(line));
            }
        }
    }
}

/// What a stage shows.
struct Shown {
    live: Live,
    /// The display that changes, by its name, as it is now.
    changing: Option<(String, String)>,
}

impl Shown {
    fn new() -> Shown {
        Shown {
            live: Live::new("{msg}"),
            changing: None,
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Stream { text, .. } => {
                let text = console::strip_ansi_codes(text).into_owned();
                // A line that a carriage return would have replaced is not worth one in a log.
                for line in text.split('\n').filter(|line| !line.trim().is_empty()) {
                    self.line(line.rsplit('\r').next().unwrap_or(line).trim_end());
                }
            }
            Event::Result(shown) => {
                self.settle();
                if let Some(text) = shown.plain() {
                    self.live.hidden(|| {
                        for line in text.lines() {
                            say(line);
                        }
                    });
                }
            }
            Event::Display(shown) => match (&shown.display_id, shown.plain()) {
                (Some(id), Some(text)) => {
                    self.settle();
                    self.change(id, text);
                }
                (None, Some(text)) => self.lines(text),
                _ => {}
            },
            Event::Update(shown) => {
                let (Some(id), Some(text)) = (&shown.display_id, shown.plain()) else {
                    return;
                };
                if self.changing.as_ref().is_some_and(|(known, _)| known != id) {
                    self.settle();
                }
                self.change(id, text);
            }
            Event::ClearOutput { .. } | Event::Comm(_) => {}
            Event::Background { event, .. } => self.event(event),
        }
    }

    fn change(&mut self, id: &str, text: &str) {
        self.changing = Some((id.to_owned(), text.to_owned()));
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        let last = tame_line(last.unwrap_or_default());
        self.live.show(|| tame(text).into_owned(), || last);
    }

    /// Keeps the display that changed as it is now.
    fn settle(&mut self) {
        if let Some((_, text)) = self.changing.take() {
            self.live.clear();
            self.lines(&text);
        }
    }

    fn lines(&self, text: &str) {
        for line in text.lines() {
            self.line(line);
        }
    }

    fn line(&self, text: &str) {
        self.live.hidden(|| terminal::line(text));
    }

    fn end(&mut self) {
        self.settle();
        self.live.end();
    }
}
