//! The training log: one JSON object a line, written as training goes, readable while it runs.
//!
//! `{"step":12,"loss":1.93,"rate":0.002,"norm":0.8,"tokens":4096,"seconds":3.1}`, with `"validation_loss"` on the
//! steps that measured it and `"unreadable"` once examples were left out. Lines are appended, so that a run that goes on
//! continues its own log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What is known after one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the step, the first is 1.
    pub step: usize,
    /// Mean loss of the batch, in nats a token.
    pub loss: f64,
    /// Learning rate of the step.
    pub rate: f64,
    /// Length of the gradient before clipping.
    pub norm: f64,
    /// Tokens that the language model has read since the start, image tokens included.
    pub tokens: u64,
    /// Seconds of training since the start, pauses left out.
    pub seconds: f64,
    /// Mean loss over held-out samples, on the steps that measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Examples that were left out since the start because they can't be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An open log file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens `path` for appending; its folder is made if needed.
    pub(super) fn append(path: &Path) -> Result<Log> {
        let failed = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(failed)?;
        Ok(Log {
            path: path.to_path_buf(),
            file,
        })
    }

    /// Adds one line, complete on disk when this returns.
    pub(super) fn write(&mut self, record: &StepRecord) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|source| Error::Json {
            path: self.path.clone(),
            source,
        })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// Reads a log back.
///
/// # Errors
/// When the file can't be read, or a line is not a record.
pub fn read_log(path: impl AsRef<Path>) -> Result<Vec<StepRecord>> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let line = |line: &str| serde_json::from_str(line);
    text.lines()
        .map(line)
        .collect::<std::result::Result<_, _>>()
        .map_err(|source| Error::Json {
            path: path.to_path_buf(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_reads_back_and_grows() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|source| Error::Io {
            path: "tempdir".into(),
            source,
        })?;
        let path = folder.path().join("logs/run.jsonl");
        let first = StepRecord {
            step: 1,
            loss: 2.5,
            rate: 1e-3,
            norm: 0.7,
            tokens: 640,
            seconds: 0.25,
            validation_loss: None,
            unreadable: 0,
        };
        let second = StepRecord {
            step: 2,
            validation_loss: Some(2.25),
            unreadable: 3,
            ..first
        };
        Log::append(&path)?.write(&first)?;
        Log::append(&path)?.write(&second)?;
        assert_eq!(read_log(&path)?, [first, second]);
        Ok(())
    }
}
