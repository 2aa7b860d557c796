//! A cell hands its run over: it trains in a process of its own, or as a job of Slurm, and the cell keeps a handle.
//!
//! # Layout
//! - [`HandedOver`] (here): the handle: how far the run is, stop it, load what it trained; `launch`: [`Launch`], how it is started
//! - `place`: the job's files in the run's folder; `watch`: its log as one live display
//!
//! ```text
//! RunConfig ─ hand_over(Launch) ─► OUTPUT/run.toml · OUTPUT/job/… ─► glassbox train ─► OUTPUT/log.jsonl · … · model/
//!                └─ HandedOver ── watch, status, cancel, load ◄──────────────────────────────┘
//! ```
//! The files are all that the handle knows, so that [`HandedOver::open`] finds the run again in another session.

mod launch;
mod place;
mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use launch::Launch;

use super::{Resume, RunConfig, Scored};
use crate::display::facts::{shown_by_facts, shown_by_fields};
use crate::display::{Facts, number};
use crate::runs::about::FILE as RUN;
use crate::runs::{Run, RunState};
use crate::session::check_interrupt;
use crate::vlm::Vlm;
use crate::{Error, Result};
use launch::{said_by, slurms};
use place::{CANCELLED, JobFolder, LOG, io};

/// The script of a job of Slurm, in the job's folder.
const SCRIPT: &str = "run.sbatch";
/// How long a process that was just started may take until it can be told to stop.
const START: Duration = Duration::from_secs(10);
/// How often is looked whether it can.
const GLANCE: Duration = Duration::from_millis(20);

/// What trains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    /// Processes on this machine.
    Here { ranks: usize },
    /// A job of Slurm, by its number.
    Slurm { job: String },
}

/// A run that a cell has handed over ([`RunConfig::hand_over`]). Shows itself as [`HandedOver::status`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("handed-over-{}", std::process::id()));
/// let run = RunConfig::new(&folder, ModelConfig::preset("tiny"), DataConfig::shapes())?;
/// // A notebook leaves the program out. Here one is named that fails at once, and the handle says so.
/// let job = run.hand_over(&Launch::here().program("false"), Resume::No)?;
/// assert!(job.watch().is_err()); // else one display that follows the run to its end
/// assert_eq!(job.status()?.state, JobState::Failed);
/// assert!(job.load().is_err()); // else the trained model
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HandedOver {
    config: RunConfig,
    job: JobFolder,
    by: By,
}

/// How far a run is that was handed over.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// assert!(JobState::Failed.has_ended() && !JobState::Waiting.has_ended());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Slurm has not begun it yet.
    Waiting,
    /// Its process is there: it starts, or trains.
    Running,
    /// All its steps are done.
    Finished,
    /// It was told to stop, and has saved what there was to save.
    Stopped,
    /// An error ended it.
    Failed,
    /// It is not there any more, and nothing says why: it was killed, or its machine was lost.
    Gone,
}

impl JobState {
    /// Whether it goes on no more.
    pub fn has_ended(self) -> bool {
        !matches!(self, JobState::Waiting | JobState::Running)
    }

    /// In a word.
    fn name(self) -> &'static str {
        match self {
            JobState::Waiting => "waits in the queue",
            JobState::Running => "running",
            JobState::Finished => "finished",
            JobState::Stopped => "stopped",
            JobState::Failed => "failed",
            JobState::Gone => "gone",
        }
    }
}

/// What [`HandedOver::status`] tells.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("job-status-{}", std::process::id()));
/// let run = RunConfig::new(&folder, ModelConfig::preset("tiny"), DataConfig::shapes())?;
/// let job = run.hand_over(&Launch::here().program("false"), Resume::No)?; // named here: one that fails at once
/// # drop(job.watch());
/// let status: JobStatus = job.status()?;
/// assert_eq!((status.made, status.steps), (0, run.trainer.steps));
/// assert_eq!((status.state, status.exit_code), (JobState::Failed, Some(1)));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct JobStatus {
    /// How far it is.
    pub state: JobState,
    /// Steps that are made.
    pub made: usize,
    /// Steps that it is to have.
    pub steps: usize,
    /// The mean training loss of the last tenth of its steps, in nats a token.
    pub loss: Option<f64>,
    /// The last validation loss, in nats a token.
    pub validation_loss: Option<f64>,
    /// The exit code, once there is one.
    pub exit_code: Option<i32>,
    /// The last lines that it said; of an error its report.
    pub said: Vec<String>,
    /// The run's folder.
    pub folder: PathBuf,
}

impl RunConfig {
    /// Hands the run over: writes its file into its folder and has `glassbox train` run it, on this machine in the background or by Slurm. It
    /// goes on when the cell, the notebook or the kernel ends; [`HandedOver::open`] finds it again. Paths are as seen from the present folder.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// let run = RunConfig::new("runs/a", ModelConfig::preset("tiny"), DataConfig::shapes())?;
    /// // `run.hand_over(&Launch::here(), Resume::No)?.watch()?` in a notebook; what is missing is said:
    /// let error = run.hand_over(&Launch::here().program("glossbax"), Resume::No).unwrap_err();
    /// assert!(error.to_string().contains("glossbax is not found"));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// `Input` when `glassbox`, `mpirun` or `sbatch` is not found, when the folder holds a run (or none to go on with), or its run goes on;
    /// `Config` for a launch that contradicts itself; `Parallel` in one of several processes; as [`RunConfig::prepare`]; `Io`.
    pub fn hand_over(&self, launch: &Launch, resume: Resume) -> Result<HandedOver> {
        let ranks = crate::parallel::world()?.ranks();
        if ranks > 1 {
            return Err(Error::Parallel(format!(
                "these are {ranks} processes, each of which would hand the run over: train in the cell, which they share"
            )));
        }
        let ready = launch.ready()?;
        if let Some(earlier) = HandedOver::at(self)?
            && !earlier.state()?.has_ended()
        {
            return Err(earlier.job.in_the_way());
        }
        self.prepare(resume)?;
        let job = JobFolder::of(&absolute(&self.output)?);
        job.make()?;
        let by = ready.start(self, resume, &job)?;
        job.write(&by)?;
        Ok(HandedOver {
            config: RunConfig {
                output: absolute(&self.output)?,
                ..self.clone()
            },
            job,
            by,
        })
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| io(path, source))
}

impl HandedOver {
    /// The run that was handed over into a folder, by this session or an earlier one.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// let error = HandedOver::open("runs/nowhere").err().map(|error| error.to_string());
    /// assert!(error.is_some_and(|error| error.contains("runs/nowhere")));
    /// ```
    ///
    /// # Errors
    /// `Input` when none was; as [`RunConfig::read`].
    pub fn open(folder: impl AsRef<Path>) -> Result<HandedOver> {
        let folder = folder.as_ref();
        let none = || {
            Error::Input(format!(
                "{} holds no run that a cell has handed over: `run.hand_over(&Launch::here(), Resume::No)?` does",
                folder.display()
            ))
        };
        if !folder.is_dir() {
            return Err(none());
        }
        let config = RunConfig::of_run(folder)?;
        Self::at(&config)?.ok_or_else(none)
    }

    /// The job in a run's folder, if there is one.
    fn at(config: &RunConfig) -> Result<Option<HandedOver>> {
        let output = absolute(&config.output)?;
        let job = JobFolder::of(&output);
        let by = job.read()?;
        Ok(by.map(|by| HandedOver {
            config: RunConfig {
                output,
                ..config.clone()
            },
            job,
            by,
        }))
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.config.output
    }

    /// The run as its folder tells it; none before it has begun to train.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn run(&self) -> Result<Option<Run>> {
        let folder = self.folder();
        if !folder.join(RUN).exists() {
            return Ok(None);
        }
        match Run::open(folder) {
            // It is just being written.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            run => run.map(Some),
        }
    }

    /// How far it is.
    ///
    /// # Errors
    /// `Input` when Slurm does not answer; as [`Run::open`]; `Io`.
    pub fn status(&self) -> Result<JobStatus> {
        let state = self.state()?;
        let run = self.run()?;
        let run = run.as_ref();
        Ok(JobStatus {
            state,
            made: run.map_or(0, |run| run.records().len()),
            steps: self.config.trainer.steps,
            loss: run.and_then(Run::recent_loss),
            validation_loss: run.and_then(Run::validation_loss),
            exit_code: self.job.exit()?,
            said: self.job.last_lines()?,
            folder: self.folder().to_path_buf(),
        })
    }

    /// How far it is, without its steps.
    fn state(&self) -> Result<JobState> {
        if let Some(code) = self.job.exit()? {
            return self.ended_with(code);
        }
        let alive = match &self.by {
            By::Here { .. } => self.job.is_held()?.then_some(JobState::Running),
            By::Slurm { job } => in_queue(job)?,
        };
        if let Some(state) = alive {
            return Ok(state);
        }
        // It may have ended between the two looks.
        match self.job.exit()? {
            Some(code) => self.ended_with(code),
            None if self.job.path(CANCELLED).exists() => Ok(JobState::Stopped),
            None if self.trained()? == Some(RunState::Finished) => Ok(JobState::Finished),
            None => Ok(JobState::Gone),
        }
    }

    fn trained(&self) -> Result<Option<RunState>> {
        Ok(self.run()?.map(|run| run.about.state))
    }

    /// What an exit code says of it: 130 is a run that was told to stop and has saved.
    fn ended_with(&self, code: i32) -> Result<JobState> {
        let trained = self.trained()?;
        Ok(match (code, trained) {
            (0, Some(RunState::Finished)) => JobState::Finished,
            (0, _) => JobState::Failed,
            (130, _) => JobState::Stopped,
            // It was told so before it could train, or by a launcher that has codes of its own.
            (_, trained)
                if trained != Some(RunState::Failed) && self.job.path(CANCELLED).exists() =>
            {
                JobState::Stopped
            }
            _ => JobState::Failed,
        })
    }

    /// Tells it to stop: it ends after its step and saves; one that Slurm has not begun leaves the queue. Nothing where it has ended.
    /// [`HandedOver::watch`] sees the end. [`Resume::Yes`] goes on later.
    ///
    /// # Errors
    /// `Input` when its process can't be told (it is of another user, or of another machine), or Slurm does not answer.
    pub fn cancel(&self) -> Result<()> {
        let state = self.state()?;
        if state.has_ended() {
            return Ok(());
        }
        let told = self.job.path(CANCELLED);
        std::fs::write(&told, "").map_err(|source| io(&told, source))?;
        match &self.by {
            By::Slurm { job } => {
                let mut scancel = slurms("scancel")?;
                if state == JobState::Running {
                    // To the script alone, which tells its run: a plain one is followed by SIGKILL some 30 s later, and ends `srun` and its ranks at once.
                    scancel.args(["--batch", "--signal=TERM"]);
                }
                scancel.arg(job);
                said_by(scancel, "scancel").map(drop)
            }
            By::Here { .. } => {
                let begun = Instant::now();
                loop {
                    if let Some(process) = self.job.process()? {
                        return terminate(process);
                    }
                    if self.state()?.has_ended() {
                        return Ok(());
                    }
                    if begun.elapsed() > START {
                        return Err(Error::Input(format!(
                            "the run in {} has not begun within {} s, so that there is nothing to stop yet: look at `.status()`",
                            self.folder().display(),
                            START.as_secs()
                        )));
                    }
                    check_interrupt()?;
                    std::thread::sleep(GLANCE);
                }
            }
        }
    }

    /// The model that it trained, also one of a run that was stopped.
    ///
    /// # Errors
    /// `Input` when there is none yet, with how far the run is; whatever loading reports.
    pub fn load(&self) -> Result<Vlm> {
        let state = self.state()?;
        if !state.has_ended() {
            return Err(Error::Input(format!(
                "the run in {} has not ended ({}): `.watch()` follows it to its end, `.cancel()` stops it",
                self.folder().display(),
                state.name()
            )));
        }
        if matches!(state, JobState::Failed | JobState::Gone) {
            return Err(self.failure(state)?);
        }
        Ok(self.config.state(Scored::Last)?.0)
    }

    /// Why it came to no good end, and what to do.
    fn failure(&self, state: JobState) -> Result<Error> {
        let folder = self.folder().display();
        let why = match (state, self.job.exit()?) {
            (JobState::Gone, _) => {
                "is not there any more, and nothing says why: it was killed, or its machine was lost".to_owned()
            }
            (_, Some(0)) => "ended well and has trained nothing: its program is no `glassbox`".to_owned(),
            (_, Some(code)) if code > 128 => format!(
                "was ended by signal {} from outside (9 is what the system sends when memory runs out)",
                code - 128
            ),
            (_, code) => format!("failed (exit code {})", code.unwrap_or_default()),
        };
        let said = self.job.last_lines()?;
        // The first line is what is seen at once: the error, or what came last.
        let headline = match said.first() {
            Some(line) if line.contains("error:") => Some(line),
            _ => said.last(),
        };
        let headline = headline.map_or(String::new(), |line| format!(": {line}"));
        let rest = match said.len() {
            0 | 1 => String::new(),
            _ => format!("\n{}", said.join("\n")),
        };
        Ok(Error::Input(format!(
            "the run in {folder} {why}{headline} (all that it said is in {}; Resume::Yes goes on from its last checkpoint, once what ended it is \
             mended){rest}",
            self.job.path(LOG).display()
        )))
    }

    fn place(&self) -> String {
        match &self.by {
            By::Here { ranks: 1 } => "a process on this machine".into(),
            By::Here { ranks } => format!("{ranks} processes on this machine"),
            By::Slurm { job } => format!("job {job} of Slurm"),
        }
    }

    fn facts(&self) -> Facts {
        match self.status() {
            Ok(status) => status.facts().fact("trained by", self.place()),
            Err(error) => Facts::new("A run that was handed over")
                .fact("folder", self.folder().display())
                .fact("trained by", self.place())
                .fact("state", error),
        }
        .hint("`.watch()` follows it, `.cancel()` stops it, `.load()` gives what it trained")
    }
}

impl JobStatus {
    fn facts(&self) -> Facts {
        let name = self.folder.file_name().unwrap_or_default();
        let facts = Facts::new(format!(
            "Run {} ({})",
            name.to_string_lossy(),
            self.state.name()
        ))
        .fact("folder", self.folder.display())
        .fact("steps", format!("{} of {}", self.made, self.steps))
        .fact_if("loss", self.loss.map(number::float))
        .fact_if("validation loss", self.validation_loss.map(number::float))
        .fact_if("exit code", self.exit_code);
        match self.said.last() {
            Some(_) if self.state == JobState::Failed => facts.fact("said", self.said.join(" ")),
            Some(line) => facts.fact("last line", line),
            None => facts,
        }
    }
}

shown_by_facts!(HandedOver);
shown_by_fields!(Launch, JobState);

impl crate::display::Render for JobStatus {
    fn render(&self) -> crate::display::MimeBundle {
        self.facts().render()
    }
}

/// What Slurm says of a job that has not ended.
fn in_queue(job: &str) -> Result<Option<JobState>> {
    let mut squeue = slurms("squeue")?;
    squeue.args(["--noheader", "--format=%T", "--jobs", job]);
    match said_by(squeue, "squeue") {
        Ok(said) => Ok(match said.trim() {
            "" | "COMPLETED" | "CANCELLED" | "FAILED" | "TIMEOUT" | "OUT_OF_MEMORY"
            | "NODE_FAIL" | "BOOT_FAIL" | "DEADLINE" | "PREEMPTED" => None,
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "CONFIGURING" => {
                Some(JobState::Waiting)
            }
            _ => Some(JobState::Running),
        }),
        // A job that ended a while ago is forgotten.
        Err(error) if error.to_string().contains("Invalid job id") => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn terminate(process: i32) -> Result<()> {
    // SAFETY: no memory is involved.
    if unsafe { libc::kill(process, libc::SIGTERM) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        // It has just ended.
        Some(libc::ESRCH) => Ok(()),
        _ => Err(Error::Input(format!(
            "process {process} can't be told to stop: {error}"
        ))),
    }
}

#[cfg(not(unix))]
fn terminate(process: i32) -> Result<()> {
    Err(Error::Input(format!(
        "process {process} can't be told to stop: there are no signals here"
    )))
}
