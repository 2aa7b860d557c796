//! The folder of a job in that of its run: what it is, its log, its process and how it ended.
//!
//! ```text
//! OUTPUT/job/ job.json · log.txt · process · exit · cancelled · run.sbatch
//! ```

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::By;
use crate::{Error, Result, files};

const FOLDER: &str = "job";
/// What was started.
const ABOUT: &str = "job.json";
/// What it has said since it was handed over.
pub(super) const LOG: &str = "log.txt";
/// The process that is told to stop.
pub(super) const PROCESS: &str = "process";
/// The exit code, once it has ended.
pub(super) const EXIT: &str = "exit";
/// There once it was told to stop.
pub(super) const CANCELLED: &str = "cancelled";
/// The layout that is written here.
const FORMAT: u32 = 1;
/// Lines of a report that are repeated.
const LINES: usize = 20;
/// Of those before the word "error:", where it is in none.
const FEWER: usize = 12;

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    by: By,
}

/// A job's folder.
#[derive(Clone)]
pub(super) struct JobFolder(PathBuf);

pub(super) fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_path_buf(),
        source,
    }
}

impl JobFolder {
    /// That of a run's output.
    pub(super) fn of(output: &Path) -> JobFolder {
        JobFolder(output.join(FOLDER))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn make(&self) -> Result<()> {
        std::fs::create_dir_all(&self.0).map_err(|source| io(&self.0, source))
    }

    /// What an earlier job has left of its end.
    pub(super) fn forget(&self) -> Result<()> {
        [EXIT, PROCESS, CANCELLED]
            .iter()
            .try_for_each(|name| self.remove(name))
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&path, error)),
            _ => Ok(()),
        }
    }

    /// What was started; none where nothing was.
    pub(super) fn read(&self) -> Result<Option<By>> {
        let path = self.path(ABOUT);
        let Some(text) = text_of(&path)? else {
            return Ok(None);
        };
        let written: Written = files::of_format(&path, &text, FORMAT, "the run was handed over")?;
        Ok(Some(written.by))
    }

    pub(super) fn write(&self, by: &By) -> Result<()> {
        let path = self.path(ABOUT);
        let written = Written {
            format: FORMAT,
            by: by.clone(),
        };
        let text = serde_json::to_vec_pretty(&written).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        files::write_whole(&path, &text)
    }

    /// The exit code, once it has ended.
    pub(super) fn exit(&self) -> Result<Option<i32>> {
        let path = self.path(EXIT);
        let Some(text) = text_of(&path)? else {
            return Ok(None);
        };
        let code = text.trim().parse();
        code.map(Some)
            .map_err(|_| Error::Input(format!("{} holds no exit code", path.display())))
    }

    /// The process that is told to stop, once it is there.
    pub(super) fn process(&self) -> Result<Option<i32>> {
        let text = text_of(&self.path(PROCESS))?.unwrap_or_default();
        // Several ranks write it, each one a line.
        let first = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        Ok(first.filter(|process| *process > 1))
    }

    /// Whether anything runs that was started on this machine with the log.
    pub(super) fn is_held(&self) -> Result<bool> {
        let path = self.path(LOG);
        let log = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(|source| io(&path, source))?,
        };
        match log.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(io(&path, source)),
        }
    }

    pub(super) fn in_the_way(&self) -> Error {
        let output = self.0.parent().unwrap_or(&self.0);
        Error::Input(format!(
            "the run in {0} goes on: HandedOver::open({0:?})? has `.watch()`, `.status()` and `.cancel()`, another `output` begins another",
            output.display().to_string()
        ))
    }

    /// The last lines of what it said; of an error all of it, if it is not longer.
    pub(super) fn last_lines(&self) -> Result<Vec<String>> {
        let text = text_of(&self.path(LOG))?.unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let error = lines.iter().rposition(|line| {
            line.starts_with("error:") || (line.starts_with("rank ") && line.contains(": error:"))
        });
        let begin = error.unwrap_or(lines.len().saturating_sub(FEWER));
        let end = lines.len().min(begin + LINES);
        Ok(lines[begin..end]
            .iter()
            .map(|line| (*line).to_owned())
            .collect())
    }
}

/// A file's text; none if it is not there.
fn text_of(path: &Path) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io(path, source)),
    }
}
