//! Runs a cell: its commands in the order in which they stand, then its Rust.
//!
//! Commands of the engine, and the Rust below, are one part: they fail and are remembered together. A command of the session is a part by
//! itself. What belongs to other parts is blanked out of each, so that every report names the lines of the cell.

use std::time::{Duration, Instant};

use super::{Does, Takes, Written, only, parse, table};
use crate::session::Session;
use crate::session::engine::{Done, EvalError, RustcEngine};
use crate::session::event::{Display, Event};
use crate::session::outcome::{CellError, CellErrorKind, CellOutcome};
use crate::session::{reports, syntax};

/// A command of the session as it was written.
pub(crate) struct Call<'a> {
    pub(super) session: &'a mut Session,
    pub(super) sink: &'a mut (dyn FnMut(Event) + Send),
    /// For a command that takes code: the cell with all else blanked out.
    pub(super) code: String,
    /// The rest of the command's line.
    pub(super) arguments: &'a str,
    begin: Instant,
}

impl Call<'_> {
    /// The command did its work and shows this, if anything.
    pub(super) fn done(self, shown: Option<Display>) -> CellOutcome {
        if let Some(display) = shown {
            (self.sink)(Event::Result(display));
        }
        self.outcome(Ok(()), Vec::new())
    }

    /// The command could not do its work.
    pub(super) fn refuse(self, message: &str) -> CellOutcome {
        self.outcome(Err(refusal(message)), Vec::new())
    }

    /// How the command ended, with the phases of cells that it ran.
    pub(super) fn outcome(
        &self,
        status: Result<(), CellError>,
        phases: Vec<(String, Duration)>,
    ) -> CellOutcome {
        CellOutcome {
            status,
            duration: self.begin.elapsed(),
            phases,
            ran: None,
        }
    }
}

fn refusal(message: &str) -> CellError {
    reports::plain(CellErrorKind::Command, "CommandError", message)
}

/// A part of a cell.
enum Part<'a> {
    Session(Written<'a>, fn(Call<'_>) -> CellOutcome),
    /// From here to there, without what was before.
    Engine(usize, usize),
}

/// The parts of a cell, in order.
fn parts(cell: &str) -> Vec<Part<'_>> {
    let (lines, rust) = parse(cell);
    let mut parts = Vec::new();
    // Where the engine's part that is being gathered begins, and whether there is anything in it.
    let (mut start, mut any) = (0, false);
    for line in lines {
        match line.command.map(|command| &command.does) {
            Ok(&Does::Session(run)) => {
                if any {
                    parts.push(Part::Engine(start, line.range.start));
                }
                (start, any) = (line.range.end, false);
                if line
                    .command
                    .is_ok_and(|command| command.takes == Takes::Code)
                {
                    start = cell.len();
                }
                parts.push(Part::Session(line, run));
            }
            _ => any = true,
        }
    }
    if any || parts.is_empty() || syntax::has_code(&cell[rust.max(start)..]) {
        parts.push(Part::Engine(start, cell.len()));
    }
    parts
}

impl Session {
    /// Runs a cell. `sink` receives what it prints and shows while it runs, from another thread.
    ///
    /// Commands at its top (`:help` lists them) do what they say, then the Rust below them runs.
    pub fn evaluate(&mut self, cell: &str, sink: &mut (dyn FnMut(Event) + Send)) -> CellOutcome {
        let begin = Instant::now();
        self.count_cell();
        let mut whole: Option<CellOutcome> = None;
        for part in parts(cell) {
            let outcome = match part {
                Part::Session(line, run) => call(self, cell, &line, run, sink),
                Part::Engine(0, end) if end == cell.len() => self.evaluate_logged(cell, sink),
                Part::Engine(start, end) => self.evaluate_logged(&only(cell, start..end), sink),
            };
            let joined = match whole.take() {
                None => outcome,
                Some(before) => CellOutcome {
                    status: outcome.status,
                    duration: begin.elapsed(),
                    phases: before.phases.into_iter().chain(outcome.phases).collect(),
                    ran: outcome.ran.or(before.ran),
                },
            };
            let failed = joined.status.is_err();
            whole = Some(joined);
            if failed {
                break;
            }
        }
        // There is a part at least, if an empty one.
        whole.unwrap_or_else(|| self.evaluate_logged(cell, sink))
    }
}

fn call(
    session: &mut Session,
    cell: &str,
    line: &Written<'_>,
    run: fn(Call<'_>) -> CellOutcome,
    sink: &mut (dyn FnMut(Event) + Send),
) -> CellOutcome {
    let takes = line.command.map_or(Takes::Text, |command| command.takes);
    let code = match takes {
        Takes::Code => only(cell, line.range.end..cell.len()),
        _ => String::new(),
    };
    let call = Call {
        session,
        sink,
        code,
        arguments: line.arguments,
        begin: Instant::now(),
    };
    match nothing_too_much(line) {
        Ok(()) => run(call),
        Err(message) => call.refuse(&message),
    }
}

/// What follows a command that takes nothing is not dropped silently.
fn nothing_too_much(line: &Written<'_>) -> Result<(), String> {
    match line.command {
        Ok(command) if command.takes == Takes::Nothing && !line.arguments.is_empty() => {
            Err(format!(
                "`{}` takes nothing after it, and `{}` stands there; code goes on the next line",
                command.words[0], line.arguments
            ))
        }
        _ => Ok(()),
    }
}

/// Does what the engine's commands at the top of a cell ask for. Returns the Rust below them.
pub(crate) fn engine_part<'a>(
    engine: &mut RustcEngine,
    cell: &'a str,
    done: &mut Done,
) -> Result<&'a str, EvalError> {
    let (lines, rust) = parse(cell);
    for line in &lines {
        match line.command.map(|command| (command, &command.does)) {
            Ok((command, Does::Engine(run))) => {
                nothing_too_much(line).map_err(EvalError::Refused)?;
                if command.words[0] != ":dep" {
                    engine.add_waiting(done)?;
                }
                run(engine, line.arguments, done)?;
            }
            Ok((command, Does::Session(_))) => {
                return Err(EvalError::Refused(format!(
                    "`{}` stands where only Rust and commands of the engine can; give it a cell of its own",
                    command.words[0]
                )));
            }
            Err(word) => return Err(EvalError::Refused(table::unknown(word))),
        }
    }
    Ok(&cell[rust..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cell: &str) -> Vec<String> {
        let part = |part: Part<'_>| match part {
            Part::Session(line, _) => line
                .command
                .map_or("", |command| command.words[0])
                .to_owned(),
            Part::Engine(start, end) => format!("{:?}", cell[start..end].trim()),
        };
        parts(cell).into_iter().map(part).collect()
    }

    #[test]
    fn nothing_of_a_cell_is_left_out() {
        assert_eq!(told(""), [r#""""#]);
        assert_eq!(told("let x = 1;"), [r#""let x = 1;""#]);
        assert_eq!(told(":vars"), [":vars"]);
        assert_eq!(told(":vars\n// a comment\n"), [":vars"]);
        assert_eq!(told(":vars\nlet x = 1;"), [":vars", r#""let x = 1;""#]);
        assert_eq!(
            told(":dep a\n!ls\n:vars\n:opt 2\nx"),
            [r#"":dep a\n!ls""#, ":vars", r#"":opt 2\nx""#]
        );
        assert_eq!(told(":dep a\n:time x\n:vars"), [r#"":dep a""#, ":time"]);
        assert_eq!(told(":nonsense\n1"), [r#"":nonsense\n1""#]);
    }
}
