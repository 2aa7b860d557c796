//! The script of a job array: a sweep's folder → a file for `sbatch`, one run a task.
//!
//! ```text
//! sbatch FILE ─► task K on some node: [srun -n N] glassbox sweep FOLDER --task K ─► FOLDER/K
//!                 └─ shortly before the time limit USR1 ─► TERM ─► saved ─► scontrol requeue ─► goes on
//! ```
//! Of several ranks the first one is told, which tells the others; its launcher would end them.
//! A task that is put back into the queue, by Slurm or by itself, goes on from its last checkpoint.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::SweepFolder;
use crate::{Error, Result};

/// Where the tasks' logs lie in a sweep's folder.
const LOGS: &str = "logs";
/// Seconds before the time limit at which a run is told to stop.
const WARNING: u64 = 120;
/// Times that a task puts itself back into the queue.
const REQUEUES: usize = 100;
/// What starts the ranks of a run.
const LAUNCHERS: [&str; 3] = ["srun", "mpirun", "mpiexec"];
/// The first rank notes its process, by which the script tells it to stop, and each rank becomes the program.
const NOTE: &str = r#"if [ "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${SLURM_PROCID:-0}}}" = 0 ]; then echo "$$" >"$0"; fi; exec "$@""#;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What a job array asks of Slurm. What is none is left to the cluster.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let job = SlurmJob {
///     time: Some("2:00:00".into()),
///     at_once: Some(4),
///     more: vec!["--gres=gpu:1".into()],
///     ..SlurmJob::default()
/// };
/// job.check().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlurmJob {
    /// The program that each task runs.
    pub program: PathBuf,
    /// So many tasks at once, at most.
    pub at_once: Option<usize>,
    /// The time limit of a task, in Slurm's words: `30` (minutes), `2:00:00`, `1-12`.
    pub time: Option<String>,
    /// The partition.
    pub partition: Option<String>,
    /// Ranks that share each run, started by `launcher`; 1 is a process without MPI.
    pub ntasks: usize,
    /// What starts several ranks: `srun --mpi=pmix` (or `pmi2` for MPICH), or `mpirun --bind-to none` where Slurm does not speak to the MPI library.
    pub launcher: String,
    /// Processors of a rank.
    pub cpus: usize,
    /// Memory of a task, such as `8G`.
    pub memory: Option<String>,
    /// More options of `sbatch`, such as `--account=physics`.
    pub more: Vec<String>,
}

impl Default for SlurmJob {
    /// One rank on one processor, and `glassbox` as it is found in PATH.
    fn default() -> SlurmJob {
        SlurmJob {
            program: "glassbox".into(),
            at_once: None,
            time: None,
            partition: None,
            ntasks: 1,
            launcher: "srun --mpi=pmix".into(),
            cpus: 1,
            memory: None,
            more: Vec::new(),
        }
    }
}

/// Options that the script sets itself, because it would not work with others.
const OWN: [&str; 17] = [
    "--array",
    "-a",
    "--chdir",
    "-D",
    "--output",
    "-o",
    "--error",
    "-e",
    "--open-mode",
    "--requeue",
    "--no-requeue",
    "--signal",
    "--wrap",
    "--ntasks",
    "-n",
    "--cpus-per-task",
    "-c",
];

impl SlurmJob {
    /// Looks at what can be seen without a cluster.
    ///
    /// # Errors
    /// `Config` naming what Slurm would not understand, or what the script sets itself.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(format!("the job array's {what}")));
        if self.at_once == Some(0) || self.cpus == 0 || self.ntasks == 0 {
            return wrong(
                "limit of tasks at once, ranks (ntasks) and processors are at least 1".into(),
            );
        }
        self.launcher()?;
        if let Some(time) = &self.time {
            seconds(time)?;
        }
        if let Some(memory) = &self.memory {
            let digits = memory.trim_end_matches(['K', 'M', 'G', 'T']);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if !plain || memory.len() - digits.len() > 1 {
                return wrong(format!("memory {memory:?} is none: give it as 800M or 16G"));
            }
        }
        if let Some(partition) = &self.partition
            && (partition.is_empty()
                || !partition
                    .chars()
                    .all(|letter| letter.is_alphanumeric() || "_-.,".contains(letter)))
        {
            return wrong(format!(
                "partition {partition:?} is no name of one (`sinfo` lists them)"
            ));
        }
        for option in &self.more {
            let name = option.split(['=', ' ']).next().unwrap_or_default();
            let plain = option.starts_with('-') && !option.chars().any(char::is_control);
            if !plain {
                return wrong(format!(
                    "option {option:?} is none of sbatch: give it as --account=physics"
                ));
            }
            if OWN.contains(&name) {
                return wrong(format!(
                    "option {name} is set by the script itself: leave it out"
                ));
            }
        }
        Ok(())
    }

    /// The launcher's program and its options.
    fn launcher(&self) -> Result<(&str, &str)> {
        let launcher = self.launcher.trim();
        let (program, options) = launcher.split_once(' ').unwrap_or((launcher, ""));
        let name = program.rsplit('/').next().unwrap_or_default();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "/_-.+:@,= ".contains(letter);
        match LAUNCHERS.contains(&name) && launcher.chars().all(plain) {
            true => Ok((program, options)),
            false => Err(Error::Config(format!(
                "the job array's launcher {launcher:?} starts no ranks: give srun, mpirun or mpiexec with options in plain words, such as \
                 \"srun --mpi=pmix\" or \"mpirun --bind-to none\""
            ))),
        }
    }

    /// The script for these runs of a sweep, as seen from the folder `from`.
    fn script(&self, sweep: &SweepFolder, runs: &[usize], from: &Path) -> Result<String> {
        let folder = sweep.folder();
        let limit = self
            .at_once
            .map_or(String::new(), |most| format!("%{most}"));
        let words = shell(words_of(folder)?);
        let program = shell(words_of(&self.program)?);
        self.task_script(&Task {
            about: format!(
                "One run of a sweep in each task. The table of all: glassbox runs {words}"
            ),
            name: folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            array: Some(format!("{}{limit}", ranges(runs))),
            from,
            log: from.join(folder).join(LOGS).join("%A_%a.log"),
            begin: String::new(),
            run: format!("{program} sweep {words} --task \"$SLURM_ARRAY_TASK_ID\""),
            requeued: "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}",
            end: String::new(),
        })
    }

    /// The script of what a job or each task of one runs.
    pub(in crate::headless) fn task_script(&self, task: &Task<'_>) -> Result<String> {
        let log = directive(&pattern(&task.log)?)?;
        let mut options = vec![format!("--job-name={}", directive(&task.name)?)];
        options.extend(task.array.as_ref().map(|array| format!("--array={array}")));
        options.extend([
            format!("--chdir={}", directive(words_of(task.from)?)?),
            format!("--output={log}"),
            "--open-mode=append".into(),
        ]);
        // Several ranks may lie on several nodes.
        options.extend((self.ntasks == 1).then(|| "--nodes=1".into()));
        options.extend([
            format!("--ntasks={}", self.ntasks),
            format!("--cpus-per-task={}", self.cpus),
            "--requeue".into(),
        ]);
        let warning = match &self.time {
            // A short limit has no two minutes to spare.
            Some(time) => seconds(time)?.map(|limit| (limit / 10).min(WARNING)),
            None => Some(WARNING),
        };
        options.extend(warning.map(|warning| format!("--signal=B:USR1@{warning}")));
        options.extend(self.time.as_ref().map(|time| format!("--time={time}")));
        options
            .extend((self.partition.as_ref()).map(|partition| format!("--partition={partition}")));
        options.extend(self.memory.as_ref().map(|memory| format!("--mem={memory}")));
        options.extend(self.more.iter().cloned());
        let options = options.iter().fold(String::new(), |mut all, option| {
            // Writing to a text can't fail.
            let _ = writeln!(all, "#SBATCH {option}");
            all
        });
        let Task {
            about,
            begin,
            run,
            requeued,
            end,
            ..
        } = task;
        let (run, stop) = match self.ntasks {
            1 => (run.clone(), r#"kill -TERM "$run" 2>/dev/null"#.to_owned()),
            ranks => {
                let (program, more) = self.launcher()?;
                let more = match more {
                    "" => String::new(),
                    more => format!(" {more}"),
                };
                (
                    format!("{program}{more} -n {ranks} sh -c '{NOTE}' \"$first\" {run}"),
                    // Before it has begun there is nothing to save.
                    r#"first_rank=$(cat "$first"); kill -TERM "${first_rank:-$run}" 2>/dev/null"#
                        .to_owned(),
                )
            }
        };
        let shared = match self.ntasks {
            1 => "",
            _ => {
                r#"# srun does not take this from the job by itself.
export SRUN_CPUS_PER_TASK="$RAYON_NUM_THREADS"
# The process of the first rank, which tells the others to stop: what starts them would end them.
first=$(mktemp)
trap 'rm -f "$first"' EXIT
"#
            }
        };
        Ok(format!(
            r#"#!/bin/bash
# {about}
{options}
# As many threads as a rank has processors.
export RAYON_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-{cpus}}}"
{shared}{begin}
stop() {{ {stop}; }}
limit=
trap 'limit=reached; stop' USR1
trap stop TERM INT
{run} &
run=$!
# A signal ends a wait before the run has ended.
while true; do
    wait "$run"
    code=$?
    if [ "$code" -le 128 ] || ! kill -0 "$run" 2>/dev/null; then break; fi
done
# Stopped for the time limit, and saved: the rest in another turn.
if [ -n "$limit" ] && [ "$code" -gt 128 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {REQUEUES} ]; then
    scontrol requeue "{requeued}" && exit 0
fi
{end}exit "$code"
"#,
            cpus = self.cpus,
        ))
    }
}

/// What a script of Slurm runs, in words of the shell.
pub(in crate::headless) struct Task<'a> {
    /// A line for a reader.
    pub about: String,
    /// The job's name.
    pub name: String,
    /// The numbers of a job array.
    pub array: Option<String>,
    /// The folder in which it runs.
    pub from: &'a Path,
    /// Where it writes; the name may be a pattern of Slurm.
    pub log: PathBuf,
    /// Lines before the run.
    pub begin: String,
    /// The run, which is to end well when it gets TERM.
    pub run: String,
    /// What `scontrol requeue` calls it.
    pub requeued: &'a str,
    /// Lines after the run that has come to its end; `$code` is its exit code.
    pub end: String,
}

impl SweepFolder {
    /// Writes the script of a job array for the runs that are not finished: `sbatch FILE` submits it. The file is not to be there yet.
    ///
    /// # Errors
    /// `Config` as [`SlurmJob::check`], and for names that a script can't hold; `Input` when all runs are finished or the file is there;
    /// `Io`.
    pub fn slurm(&self, job: &SlurmJob, file: impl AsRef<Path>) -> Result<()> {
        job.check()?;
        let file = file.as_ref();
        let io = |path: &Path, source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        let runs = self.unfinished()?;
        if runs.is_empty() {
            return Err(Error::Input(format!(
                "all runs of the sweep in {} are finished: there is nothing to submit",
                self.folder().display()
            )));
        }
        let here = std::env::current_dir().map_err(|source| io(Path::new("."), source))?;
        let script = job.script(self, &runs, &here)?;
        let logs = self.folder().join(LOGS);
        std::fs::create_dir_all(&logs).map_err(|source| io(&logs, source))?;
        let mut new = match OpenOptions::new().write(true).create_new(true).open(file) {
            Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Input(format!(
                    "{} is there already: give the script another name, or remove it",
                    file.display()
                )));
            }
            opened => opened.map_err(|source| io(file, source))?,
        };
        new.write_all(script.as_bytes())
            .map_err(|source| io(file, source))
    }
}

/// `0-3,7`
fn ranges(numbers: &[usize]) -> String {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match found.last_mut() {
            Some((_, end)) if *end + 1 == *number => *end = *number,
            _ => found.push((*number, *number)),
        }
    }
    let words = found.into_iter().map(|(begin, end)| match begin == end {
        true => begin.to_string(),
        false => format!("{begin}-{end}"),
    });
    words.collect::<Vec<_>>().join(",")
}

/// A time limit in seconds; none for Slurm's "no limit".
fn seconds(time: &str) -> Result<Option<u64>> {
    let wrong = || {
        Error::Config(format!(
            "the job array's time {time:?} is none: give it as minutes (30), hours:minutes:seconds (2:00:00) or days-hours (1-12)"
        ))
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    let numbers = |text: &str| text.split(':').map(number).collect::<Result<Vec<u64>>>();
    let (units, numbers): (&[u64], Vec<u64>) = match time.split_once('-') {
        Some((days, rest)) => {
            let mut all = vec![number(days)?];
            all.extend(numbers(rest)?);
            (&[DAY, HOUR, MINUTE, 1], all)
        }
        None => match numbers(time)? {
            short if short.len() < 3 => (&[MINUTE, 1], short),
            long => (&[HOUR, MINUTE, 1], long),
        },
    };
    if numbers.len() > units.len() {
        return Err(wrong());
    }
    let mut sum = 0u64;
    for (count, unit) in numbers.iter().zip(units) {
        let part = count.checked_mul(*unit).ok_or_else(wrong)?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
    }
    Ok((sum > 0).then_some(sum))
}

pub(in crate::headless) fn words_of(path: &Path) -> Result<&str> {
    let text = path
        .to_str()
        .filter(|text| !text.chars().any(char::is_control));
    text.ok_or_else(|| {
        Error::Config(format!(
            "{:?} can't stand in a script: it is no plain text of one line",
            path.display().to_string()
        ))
    })
}

/// A path in a pattern of Slurm, which knows `%` and `\`. What follows the folder stays a pattern.
fn pattern(log: &Path) -> Result<String> {
    let (folder, name) = match (log.parent(), log.file_name()) {
        (Some(folder), Some(name)) => (words_of(folder)?, words_of(Path::new(name))?),
        _ => ("", words_of(log)?),
    };
    if folder.contains('\\') {
        return Err(Error::Config(format!(
            "{folder} can't be the place of Slurm's logs: it has a backslash in its name"
        )));
    }
    Ok(format!("{}/{name}", folder.replace('%', "%%")))
}

/// A value in a line of `#SBATCH`, in quotes where it needs them.
fn directive(text: &str) -> Result<String> {
    let plain = |letter: char| letter.is_alphanumeric() || "/_-.%+:@,=".contains(letter);
    if text.contains(['"', '\\']) {
        return Err(Error::Config(format!(
            "{text} can't stand in a script of Slurm: it has a quote or a backslash in its name"
        )));
    }
    match text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Ok(format!("\"{text}\"")),
    }
}

/// A word of the shell.
pub(in crate::headless) fn shell(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/_-.+:@,=".contains(letter);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_slurms_ranges() {
        for (numbers, expected) in [
            (vec![0], "0"),
            (vec![0, 1, 2], "0-2"),
            (vec![0, 2, 3, 7, 8, 9, 11], "0,2-3,7-9,11"),
        ] {
            assert_eq!(ranges(&numbers), expected);
        }
    }

    #[test]
    fn time_limits_are_read_as_slurm_reads_them() {
        // The six forms of sbatch's manual.
        for (text, expected) in [
            ("30", Some(1800)),
            ("30:15", Some(1815)),
            ("2:00:05", Some(7205)),
            ("1-12", Some(129_600)),
            ("1-12:30", Some(131_400)),
            ("1-12:30:10", Some(131_410)),
            ("0", None),
        ] {
            assert_eq!(seconds(text).ok(), Some(expected), "{text}");
        }
        for text in [
            "",
            "2h",
            "1:2:3:4",
            "-5",
            "1-2-3",
            "1.5",
            "+3",
            "99999999999999999999",
            "9999999999999999-0",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_slurm_would_not_understand_is_refused_by_name() {
        let refused = |job: SlurmJob, why: &str| {
            let error = job.check().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let job = SlurmJob::default;
        refused(
            SlurmJob {
                at_once: Some(0),
                ..job()
            },
            "at least 1",
        );
        refused(SlurmJob { cpus: 0, ..job() }, "at least 1");
        refused(SlurmJob { ntasks: 0, ..job() }, "at least 1");
        for launcher in ["", "sh -c", "srun; rm", "srun --x=$(id)", "srun\n#"] {
            refused(
                SlurmJob {
                    launcher: launcher.into(),
                    ..job()
                },
                "launcher",
            );
        }
        for memory in ["", "G", "16GB", "8 G", "-1"] {
            refused(
                SlurmJob {
                    memory: Some(memory.into()),
                    ..job()
                },
                "memory",
            );
        }
        for partition in ["", "a b", "x\n#SBATCH --wrap"] {
            refused(
                SlurmJob {
                    partition: Some(partition.into()),
                    ..job()
                },
                "partition",
            );
        }
        for more in [
            "account=x",
            "--a\n#SBATCH -b",
            "",
            "-a 0-3",
            "--array=1",
            "--signal=B:USR2",
        ] {
            refused(
                SlurmJob {
                    more: vec![more.into()],
                    ..job()
                },
                "option",
            );
        }
        let fine = SlurmJob {
            memory: Some("16G".into()),
            partition: Some("gpu,long".into()),
            time: Some("1-0".into()),
            more: vec!["--gres=gpu:1".into(), "--account=physics".into()],
            at_once: Some(3),
            ntasks: 4,
            launcher: "/opt/mpi/bin/mpirun --bind-to none".into(),
            ..job()
        };
        assert!(fine.check().is_ok());
    }

    #[test]
    fn names_are_put_in_quotes_where_they_need_them() -> Result<()> {
        assert_eq!(directive("/a/b-1.c")?, "/a/b-1.c");
        assert_eq!(directive("/a b/#c")?, "\"/a b/#c\"");
        assert!(directive("a\"b").is_err() && directive("a\\b").is_err());
        assert_eq!(pattern(Path::new("/50% of/x/%a.log"))?, "/50%% of/x/%a.log");
        assert!(pattern(Path::new("/a\\b/%a.log")).is_err());
        assert_eq!(shell("/a/b"), "/a/b");
        assert_eq!(shell("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell(""), "''");
        assert!(words_of(Path::new("a\nb")).is_err());
        Ok(())
    }
}
