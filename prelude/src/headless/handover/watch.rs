//! The log of a run that another process makes → one live display, as training in a cell has.
//!
//! ```text
//! OUTPUT/log.jsonl ─ Tail: lines that are new ─► LivePlot ─► one display, replaced while the run goes on
//! ```

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::place::io;
use super::{By, HandedOver, JobState};
use crate::display::{DisplayHandle, LivePlot, MimeBundle, Render, display};
use crate::runs::Run;
use crate::session::check_interrupt;
use crate::train::{StepRecord, Trainer};
use crate::{Error, Result};

/// How often is looked for new steps, and for an interrupt.
const GLANCE: Duration = Duration::from_millis(200);
/// How often the plot is drawn anew, at most.
const REDRAW: Duration = Duration::from_secs(1);
/// How often Slurm is asked: one program answers for a whole cluster.
const ASK: Duration = Duration::from_secs(5);
/// The log of a run's steps.
const STEPS: &str = "log.jsonl";

impl HandedOver {
    /// Follows the run on one display until it ends, as training in a cell does. An interrupt ends the looking, and the run goes on. Gives the
    /// run that is finished, or was stopped.
    ///
    /// # Errors
    /// `Interrupted` after an interrupt; `Input` with the last lines of the run's report when it failed or is gone; as
    /// [`HandedOver::status`].
    pub fn watch(&self) -> Result<Run> {
        let mut shown = Shown::new(self);
        let mut asked: Option<(Instant, JobState)> = None;
        loop {
            // Before the steps: what is there at the end has then been read.
            let state = match (&asked, &self.by) {
                (Some((at, state)), By::Slurm { .. })
                    if at.elapsed() < ASK && self.job.exit()?.is_none() =>
                {
                    *state
                }
                _ => {
                    let state = self.state()?;
                    asked = Some((Instant::now(), state));
                    state
                }
            };
            shown.look(state)?;
            if state.has_ended() {
                return self.ended(state);
            }
            if let Err(interrupted) = check_interrupt() {
                display(&MimeBundle::text(format!(
                    "not watched any more; the run in {} goes on: `.watch()` looks again, `.cancel()` stops it",
                    self.folder().display()
                )));
                return Err(interrupted);
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn ended(&self, state: JobState) -> Result<Run> {
        let none = || {
            Error::Input(format!(
                "the run in {} was stopped before it had begun to train",
                self.folder().display()
            ))
        };
        match state {
            JobState::Failed | JobState::Gone => Err(self.failure(state)?),
            _ => self.run()?.ok_or_else(none),
        }
    }
}

/// What is shown of a run.
struct Shown<'a> {
    job: &'a HandedOver,
    tail: Tail,
    plot: LivePlot,
    last: Option<StepRecord>,
    /// The validation loss before the first step was looked for.
    begun: bool,
    display: Option<DisplayHandle>,
    drawn: Option<Instant>,
    /// What is shown in place of a plot.
    words: String,
    fresh: bool,
}

impl<'a> Shown<'a> {
    fn new(job: &'a HandedOver) -> Shown<'a> {
        Shown {
            job,
            tail: Tail::of(job.folder().join(STEPS)),
            plot: plot_of(job),
            last: None,
            begun: false,
            display: None,
            drawn: None,
            words: String::new(),
            fresh: false,
        }
    }

    /// Reads what is new, and shows it.
    fn look(&mut self, state: JobState) -> Result<()> {
        let (again, records) = self.tail.read()?;
        let follows = |before: &StepRecord| {
            let first = records.first();
            first.is_none_or(|first| first.step == before.step + 1)
        };
        if again || !self.last.as_ref().is_none_or(follows) {
            // A run that goes on from a checkpoint makes the steps behind it again.
            self.tail = Tail::of(self.tail.path.clone());
            self.plot = plot_of(self.job);
            (self.last, self.begun) = (None, false);
            let (_, records) = self.tail.read()?;
            self.add(records)?;
        } else {
            self.add(records)?;
        }
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW);
        if self.last.is_none() {
            self.say(state)?;
        } else if state.has_ended() || (self.fresh && due) {
            (self.fresh, self.drawn) = (false, Some(Instant::now()));
            if state.has_ended() {
                let run = self.job.run()?;
                let result = run.map(|run| run.about.result).unwrap_or_default();
                self.plot.finish(match result.is_empty() {
                    true => state.name().to_owned(),
                    false => result,
                });
            }
            self.replace(self.plot.render());
        }
        Ok(())
    }

    fn add(&mut self, records: Vec<StepRecord>) -> Result<()> {
        self.fresh |= !records.is_empty();
        for record in records {
            if !std::mem::replace(&mut self.begun, true)
                && let Some(loss) = self.job.run()?.and_then(|run| run.about.untrained)
            {
                self.plot.validation(0, loss);
            }
            let before = self.last.as_ref().map_or(0, |last| last.tokens);
            let tokens = record.tokens.saturating_sub(before);
            let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
            self.plot.step(record.step - 1, record.loss, tokens);
            if let Some(loss) = record.validation_loss {
                self.plot.validation(record.step, loss);
            }
            Trainer::draw(&self.plot, self.last.as_ref(), &record);
            self.plot.clock(record.seconds);
            self.last = Some(record);
        }
        Ok(())
    }

    /// Says in words what a run without steps does.
    fn say(&mut self, state: JobState) -> Result<()> {
        let said = self.job.job.last_lines()?.pop();
        let words = match (state, said) {
            (JobState::Running, None) => "starts".to_owned(),
            (JobState::Running, Some(line)) => format!("starts: {line}"),
            (state, _) => state.name().to_owned(),
        };
        if words != self.words {
            let folder = self.job.folder().display();
            self.replace(MimeBundle::text(format!("run {folder}: {words}")));
            self.words = words;
        }
        Ok(())
    }

    fn replace(&mut self, bundle: MimeBundle) {
        match &self.display {
            Some(display) => display.replace(bundle),
            None => self.display = Some(DisplayHandle::show(bundle)),
        }
    }
}

fn plot_of(job: &HandedOver) -> LivePlot {
    let name = job.folder().file_name().unwrap_or_default();
    LivePlot::of_log(name.to_string_lossy(), job.config.trainer.steps)
}

/// A file of JSON lines that grows.
struct Tail {
    path: PathBuf,
    read: u64,
    /// The beginning of a line that is not whole yet.
    rest: Vec<u8>,
}

impl Tail {
    fn of(path: PathBuf) -> Tail {
        Tail {
            path,
            read: 0,
            rest: Vec::new(),
        }
    }

    /// The steps that are new, and whether the file has become shorter instead.
    fn read(&mut self) -> Result<(bool, Vec<StepRecord>)> {
        let failed = |source| io(&self.path, source);
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((self.read > 0, Vec::new()));
            }
            opened => opened.map_err(failed)?,
        };
        if file.metadata().map_err(failed)?.len() < self.read {
            return Ok((true, Vec::new()));
        }
        file.seek(SeekFrom::Start(self.read)).map_err(failed)?;
        let count = file.read_to_end(&mut self.rest).map_err(failed)?;
        self.read += count as u64;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Ok((false, Vec::new()));
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = whole.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty());
        let records = lines.map(|line| {
            serde_json::from_slice(line).map_err(|source| Error::Json {
                path: self.path.clone(),
                source,
            })
        });
        Ok((false, records.collect::<Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(step: usize) -> String {
        format!(
            "{{\"step\":{step},\"loss\":2.0,\"rate\":0.1,\"norm\":1.0,\"tokens\":{},\"seconds\":1.0}}\n",
            step * 10
        )
    }

    #[test]
    fn a_log_that_grows_is_read_by_whole_lines_and_one_that_shrinks_is_known() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.jsonl");
        let put = |text: &str, append: bool| {
            let mut file = File::options()
                .create(true)
                .write(true)
                .append(append)
                .truncate(!append)
                .open(&path)
                .expect("a file");
            file.write_all(text.as_bytes()).expect("it is written");
        };
        let steps = |(again, records): (bool, Vec<StepRecord>)| {
            (
                again,
                records.iter().map(|one| one.step).collect::<Vec<_>>(),
            )
        };
        let mut tail = Tail::of(path.clone());
        assert_eq!(steps(tail.read()?), (false, vec![]), "there is no file yet");
        let (whole, half) = (line(1), line(2));
        put(&format!("{whole}{}", &half[..20]), true);
        assert_eq!(steps(tail.read()?), (false, vec![1]));
        assert_eq!(steps(tail.read()?), (false, vec![]));
        put(&format!("{}{}", &half[20..], line(3)), true);
        assert_eq!(steps(tail.read()?), (false, vec![2, 3]));
        put(&line(1), false);
        assert_eq!(steps(tail.read()?), (true, vec![]));
        put("no JSON at all, and longer than all lines that were read before it, so that it is new\n".repeat(9).as_str(), true);
        assert!(matches!(tail.read(), Err(Error::Json { .. })));
        Ok(())
    }
}
