//! Sweeps by files: one file of a run and what is varied → a folder with a run for each combination, for one machine or many.
//!
//! # Layout
//! - `axis`: `trainer.steps=100,200`, read; [`draft`]: every combination checked, then written
//! - [`SweepFolder`] (here): the folder read back; one run, all runs one after another, the table
//! - [`slurm`]: the script of a job array, one run a task
//!
//! ```text
//! run.toml × over ─ SweepDraft ─► FOLDER/ sweep.json · 000/run.toml · 001/run.toml · …
//!                                  ├─ train(K) ─► K's run: log, checkpoints, model     here, or as task K of a job array
//!                                  └─ table ◄── all of them
//! ```
//! The settings of one process are tried by [`Sweep`](crate::runs::Sweep) with a closure; here each run is a process's whole work, and nothing
//! but its own folder is written by it, so that any number of machines that see the folder work on it at once.

mod axis;
pub mod draft;
pub mod slurm;

use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use draft::SweepDraft;
pub use slurm::SlurmJob;

use super::{FILE as RUN_FILE, Resume, RunConfig};
use crate::display::{Cell, MimeBundle, Table, containers, display, number};
use crate::parallel::group::together;
use crate::runs::about::FILE as RUN;
use crate::runs::{Run, RunState};
use crate::session::{check_interrupt, panic_message};
use crate::{Error, Result, files};
use axis::Axis;

/// What a sweep's folder is known by.
const FILE: &str = "sweep.json";
/// Held while a run trains.
const LOCK: &str = "training.lock";
/// The layout that is written here.
const FORMAT: u32 = 1;

/// A sweep's `sweep.json`.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    runs: usize,
    over: Vec<Axis>,
}

/// A sweep whose runs are folders. Shows itself as the table of all its runs.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("sweep-folder-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).ok();
/// # let file = folder.join("run.toml");
/// let trainer = TrainerSettings { steps: 1, batch_size: 1, quiet: true, ..TrainerSettings::tour() };
/// let base = RunConfig {
///     trainer,
///     ..RunConfig::new(folder.join("runs"), ModelConfig::preset("tiny"), DataConfig::shapes())?
/// };
/// base.write(&file)?;
/// let sweep = SweepDraft::new(&file, ["seed=1,2"], None)?.write(Resume::No)?;
/// // Here it is read again by its folder, as a task on another machine does.
/// let sweep = SweepFolder::open(sweep.folder())?;
/// assert_eq!(sweep.words(1)?, "seed=2");
/// assert_eq!(sweep.train(1)?.about.seed, 2);
/// assert_eq!(sweep.unfinished()?, [0]);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SweepFolder {
    folder: PathBuf,
    axes: Vec<Axis>,
}

impl SweepFolder {
    /// Reads a sweep's folder.
    ///
    /// # Errors
    /// `Input` when it holds no sweep; `Json` for a damaged file; `Config` for one of a newer layout.
    pub fn open(folder: impl AsRef<Path>) -> Result<SweepFolder> {
        let folder = folder.as_ref();
        let path = folder.join(FILE);
        if !path.exists() {
            return Err(Error::Input(format!(
                "{} holds no sweep ({FILE} is missing): `glassbox sweep run.toml --over …` writes one",
                folder.display()
            )));
        }
        let text = files::text(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let written: Written = files::of_format(&path, &text, FORMAT, "the sweep was written")?;
        let sweep = SweepFolder {
            folder: folder.to_path_buf(),
            axes: written.over,
        };
        match sweep.count() == written.runs {
            true => Ok(sweep),
            false => Err(Error::Config(format!(
                "{} is damaged: it speaks of {} and its lists make {}",
                path.display(),
                containers::plural(written.runs, "run"),
                sweep.count()
            ))),
        }
    }

    /// Whether the folder holds a sweep.
    pub fn is_at(folder: impl AsRef<Path>) -> bool {
        folder.as_ref().join(FILE).exists()
    }

    fn json(&self) -> Result<String> {
        let written = Written {
            format: FORMAT,
            runs: self.count(),
            over: self.axes.clone(),
        };
        serde_json::to_string_pretty(&written)
            .map_err(|error| Error::Config(format!("the sweep can't be written: {error}")))
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many runs it has; their numbers begin with 0.
    pub fn count(&self) -> usize {
        let counts = self.axes.iter().map(|axis| axis.values.len());
        counts.fold(1, usize::saturating_mul)
    }

    /// What a run has of its own, as `trainer.learning_rate=0.001, seed=2`.
    ///
    /// # Errors
    /// `Input` when there is no run of this number.
    pub fn words(&self, number: usize) -> Result<String> {
        self.check(number)?;
        Ok(draft::words(
            &self.axes,
            &draft::values_of(&self.axes, number),
        ))
    }

    /// The file of a run.
    ///
    /// # Errors
    /// `Input` when there is no run of this number; as [`RunConfig::read`].
    pub fn config(&self, number: usize) -> Result<RunConfig> {
        self.check(number)?;
        RunConfig::read(self.of(number).join(RUN_FILE))
    }

    fn check(&self, number: usize) -> Result<()> {
        match self.count() {
            count if number < count => Ok(()),
            count => Err(Error::Input(format!(
                "the sweep in {} has no run {number}: its runs are 0 to {}",
                self.folder.display(),
                count.saturating_sub(1)
            ))),
        }
    }

    fn of(&self, number: usize) -> PathBuf {
        folder_of(&self.folder, number)
    }

    /// How far a run has come; none where it has not begun.
    ///
    /// # Errors
    /// `Input` when there is no run of this number; as [`Run::open`] for one that can't be read.
    pub fn run(&self, number: usize) -> Result<Option<Run>> {
        self.check(number)?;
        let folder = self.of(number);
        match folder.join(RUN).exists() {
            true => Run::open(folder).map(Some),
            false => Ok(None),
        }
    }

    /// The numbers of the runs that are not finished.
    ///
    /// # Errors
    /// As [`SweepFolder::run`].
    pub fn unfinished(&self) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for number in 0..self.count() {
            let run = self.run(number)?;
            if run.is_none_or(|run| run.about.state != RunState::Finished) {
                found.push(number);
            }
        }
        Ok(found)
    }

    /// Trains one run: from its start, or from its last checkpoint where it has begun; nothing where it is finished. Under `mpirun` or `srun` all
    /// ranks share its steps.
    ///
    /// # Errors
    /// `Input` when there is no run of this number or another process trains it; `Interrupted` after an interrupt, with everything
    /// saved; whatever [`RunConfig::train`] reports.
    pub fn train(&self, number: usize) -> Result<Run> {
        let (turn, _held) = together(|group| {
            let (turn, held) = match group.leads() {
                true => group.agree(self.turn(number))?,
                false => group.agree(self.check(number).map(|()| (Turn::Begins, None)))?,
            };
            let turn = Turn::of(&group.text_of_first(turn.words())?)?;
            Ok((turn, held))
        })?;
        let resume = match turn {
            Turn::Finished => return Run::open(self.of(number)),
            Turn::GoesOn => Resume::Yes,
            Turn::Begins => Resume::No,
        };
        let config = together(|_| self.config(number))?;
        config.prepare(resume)?;
        config.train(resume)?;
        Run::open(self.of(number))
    }

    /// What is to be done for a run, and the lock by which no other process does it.
    fn turn(&self, number: usize) -> Result<(Turn, Option<File>)> {
        let place = format!("run {number} of the sweep ({})", self.words(number)?);
        let lock = self.of(number).join(LOCK);
        let lock = File::create(&lock).map_err(|source| Error::Io { path: lock, source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Input(format!(
                    "{place} is trained by another process"
                )));
            }
            // A file system without locks: then the scheduler alone keeps two processes from one run.
            Err(TryLockError::Error(error)) => said(&format!(
                "{place}: whether another process trains it can't be seen here ({error})"
            )),
        }
        let turn = match self.run(number)? {
            Some(run) if run.about.state == RunState::Finished => Turn::Finished,
            Some(run) if !run.records().is_empty() => Turn::GoesOn,
            _ => Turn::Begins,
        };
        said(&format!("{place} {}", turn.words()));
        Ok((turn, Some(lock)))
    }

    /// Trains all runs that are not finished, one after another. One that fails is said with the reason, and the next begins; the last
    /// word has [`SweepFolder::all_finished`]. Under `mpirun` or `srun` all ranks share each.
    ///
    /// # Errors
    /// `Interrupted`, with everything saved; as [`SweepFolder::run`].
    pub fn train_all(&self) -> Result<()> {
        // Those that the first rank sees: another process may finish one meanwhile.
        let (leads, unfinished) = together(|group| {
            let own = group.agree(self.unfinished())?;
            let own = own.iter().map(usize::to_string).collect::<Vec<_>>();
            Ok((group.leads(), group.text_of_first(&own.join(" "))?))
        })?;
        let said = |text: &str| {
            if leads {
                said(text);
            }
        };
        for number in unfinished.split_whitespace() {
            let number = number.parse().map_err(|_| {
                Error::Parallel(format!("{number:?} came in place of a run's number"))
            })?;
            together(|_| check_interrupt())?;
            match catch_unwind(AssertUnwindSafe(|| self.train(number))) {
                Ok(Ok(_)) => {}
                Ok(Err(Error::Interrupted)) => return Err(Error::Interrupted),
                Ok(Err(error)) => said(&format!("run {number} failed: {error}")),
                Err(payload) => {
                    let message = panic_message(&*payload);
                    // A payload's own destructor may panic.
                    std::mem::forget(payload);
                    said(&format!("run {number} failed: it panicked: {message}"));
                }
            }
        }
        Ok(())
    }

    /// Looks that every run is finished.
    ///
    /// # Errors
    /// `Input` listing those that are not, with their state.
    pub fn all_finished(&self) -> Result<()> {
        let mut open = Vec::new();
        for number in self.unfinished()? {
            let run = self.run(number)?;
            let state = run.map_or("not begun", |run| run.about.state.name());
            open.push(format!("{number} ({}): {state}", self.words(number)?));
        }
        match open.is_empty() {
            true => Ok(()),
            false => Err(Error::Input(format!(
                "{} of {} are not finished: {}. `glassbox sweep {}` goes on with them",
                open.len(),
                containers::plural(self.count(), "run"),
                open.join("; "),
                self.folder.display()
            ))),
        }
    }

    /// All runs: what is varied, state, steps, losses. The lowest validation loss of the finished ones is marked.
    pub fn table(&self) -> Table {
        let keys = self.axes.iter().map(|axis| axis.key.clone());
        let rest = ["state", "steps", "loss", "validation", "time"];
        let mut table = Table::new(["run"])
            .headings(keys.chain(rest.map(str::to_owned)))
            .title(format!(
                "sweep of {} in {}",
                containers::plural(self.count(), "run"),
                self.folder.display()
            ))
            .fold_after(60);
        let runs: Vec<Result<Option<Run>>> =
            (0..self.count()).map(|number| self.run(number)).collect();
        let finished = |run: &&Run| run.about.state == RunState::Finished;
        let each = runs.iter().filter_map(|run| run.as_ref().ok()?.as_ref());
        let losses = each.filter(finished).filter_map(Run::validation_loss);
        let best = losses
            .filter(|loss| loss.is_finite())
            .min_by(f64::total_cmp);
        let mut notes = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let mut cells = vec![Cell::text(name_of(number))];
            let values = draft::values_of(&self.axes, number);
            cells.extend(
                values
                    .into_iter()
                    .map(|value| Cell::code(axis::text(value))),
            );
            match run {
                Ok(Some(run)) => cells.extend(figures(run, best)),
                Ok(None) => {
                    cells.push("waits".into());
                    cells.extend((0..4).map(|_| Cell::figure("")));
                }
                Err(error) => {
                    notes.push(error.to_string());
                    cells.push(Cell::bad("unreadable"));
                    cells.extend((0..4).map(|_| Cell::figure("")));
                }
            }
            table.push(cells);
        }
        table.note(notes.join("; ")).whole()
    }
}

/// State, steps, losses and time of a run.
fn figures(run: &Run, best: Option<f64>) -> Vec<Cell> {
    let state = match run.about.state {
        RunState::Failed => Cell::bad(run.about.state.name()),
        state => state.name().into(),
    };
    let validation = run.validation_loss();
    let written = validation.map(number::float).unwrap_or_default();
    vec![
        state,
        Cell::figure(run.steps_made()),
        Cell::figure(run.recent_loss().map(number::float).unwrap_or_default()),
        match validation.is_some() && validation == best && run.about.state == RunState::Finished {
            true => Cell::good(written).among_figures(),
            false => Cell::figure(written),
        },
        Cell::figure(number::time(run.seconds())),
    ]
}

/// What is to be done for a run.
#[derive(Clone, Copy)]
enum Turn {
    Begins,
    GoesOn,
    Finished,
}

impl Turn {
    fn words(self) -> &'static str {
        match self {
            Turn::Begins => "begins",
            Turn::GoesOn => "goes on",
            Turn::Finished => "is finished already",
        }
    }

    /// What the first rank has told the others.
    fn of(words: &str) -> Result<Turn> {
        let all = [Turn::Begins, Turn::GoesOn, Turn::Finished];
        let found = all.into_iter().find(|turn| turn.words() == words);
        found.ok_or_else(|| {
            Error::Parallel(format!("{words:?} came in place of what is to be done"))
        })
    }
}

/// The folder of a run is named by its number, as tasks of a job array are.
fn name_of(number: usize) -> String {
    format!("{number:03}")
}

fn folder_of(sweep: &Path, number: usize) -> PathBuf {
    sweep.join(name_of(number))
}

fn said(text: &str) {
    display(&MimeBundle::text(text));
}

#[cfg(test)]
mod tests;
