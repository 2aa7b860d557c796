//! The training log: one JSON object a line, written as training goes, readable while it runs.
//!
//! `{"step":12,"loss":1.93,"rate":0.002,"norm":0.8,"tokens":4096,"seconds":3.1}`, with `"validation_loss"` on the
//! steps that measured it and `"unreadable"` once examples were left out. Lines are appended, so that a run that goes on
//! continues its own log.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// What is known after one step.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let mut trainer = Trainer::new(TrainerSettings { steps: 2, batch_size: 1, ..TrainerSettings::tour() })?;
/// trainer.fit(&vlm, &set, &set)?;
/// let last = &trainer.records()[1];
/// assert_eq!(last.step, 2);
/// assert!(last.norms.contains_key("projector")); // length of its gradient
/// let lengths = Histogram::new("gradients").doubles("norm", trainer.records().iter().map(|record| record.norm));
/// assert!(lengths.render().plain().contains("norm: 2 values"));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Examples that were left out since the start because they can't be read or used.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: usize,
    /// Samples since the start whose end was cut off because they are too long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
    /// Seconds since the start in which the model waited for samples.
    #[serde(default)]
    pub waited: f64,
    /// Of each rank, the seconds since the start of the sitting in which it waited for the others: the one that waits least is the
    /// slowest. Empty where one process trains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waited_for_ranks: Vec<f64>,
    /// Length of the gradient of each part of the model before clipping: `projector`, `llm_lora` and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub norms: BTreeMap<String, f64>,
    /// Further figures of the step: those that were measured with the validation loss, and what callbacks logged.
    #[serde(
        default,
        deserialize_with = "figures",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub metrics: BTreeMap<String, f64>,
}

/// Figures of which some may be no finite number: JSON has no word for that but `null`, which is read as NaN.
fn figures<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, f64>, D::Error> {
    let figures = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?.into_iter();
    Ok(figures
        .map(|(name, figure)| (name, figure.unwrap_or(f64::NAN)))
        .collect())
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An open log file.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens `path` for appending; its folder is made if needed.
    pub(crate) fn append(path: &Path) -> Result<Log> {
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

    /// As [`Log::append`], for a run that goes on after `step`: what was written behind that step, by a run that ended before it
    /// saved that, is cut off; the steps are made again.
    pub(super) fn resume(path: &Path, step: usize) -> Result<Log> {
        let log = Self::append(path)?;
        let failed = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        let bytes = crate::files::bytes(path).map_err(failed)?;
        let mut end = 0;
        let mut kept = None;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            let record = serde_json::from_slice::<StepRecord>(line);
            if line.ends_with(b"\n") && record.is_ok_and(|record| record.step == step) {
                kept = Some(end);
            }
        }
        if let Some(kept) = kept {
            log.file.set_len(kept as u64).map_err(failed)?;
        }
        Ok(log)
    }

    /// Adds one line, complete on disk when this returns.
    pub(crate) fn write(&mut self, record: &StepRecord) -> Result<()> {
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
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::train::read_log;
///
/// # fn main() -> Result<()> {
/// let path = std::env::temp_dir().join(format!("log-{}.jsonl", std::process::id()));
/// # std::fs::write(&path, "").expect("a file in the temporary folder");
/// assert!(read_log(&path)?.is_empty()); // a record for each step, once it trains
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the file can't be read, or a line is not a record.
pub fn read_log(path: impl AsRef<Path>) -> Result<Vec<StepRecord>> {
    let path = path.as_ref();
    let text = crate::files::text(path).map_err(|source| Error::Io {
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
            ..StepRecord::default()
        };
        let second = StepRecord {
            step: 2,
            validation_loss: Some(2.25),
            unreadable: 3,
            ..first.clone()
        };
        Log::append(&path)?.write(&first)?;
        Log::append(&path)?.write(&second)?;
        assert_eq!(read_log(&path)?, [first, second]);
        let odd = StepRecord {
            step: 3,
            metrics: BTreeMap::from([("odd".to_owned(), f64::NAN), ("even".to_owned(), 2.0)]),
            ..StepRecord::default()
        };
        Log::append(&path)?.write(&odd)?;
        let read = &read_log(&path)?[2].metrics;
        assert!(read["odd"].is_nan() && read["even"] == 2.0);
        Ok(())
    }

    #[test]
    fn what_stands_behind_the_step_that_a_run_goes_on_from_is_cut_off() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|source| Error::Io {
            path: "tempdir".into(),
            source,
        })?;
        let path = folder.path().join("run.jsonl");
        let record = |step| StepRecord {
            step,
            ..StepRecord::default()
        };
        for step in 1..=3 {
            Log::append(&path)?.write(&record(step))?;
        }
        let torn = std::fs::read_to_string(&path).expect("it is there") + "{\"step\":4,\"lo";
        std::fs::write(&path, torn).expect("it can be written");
        let mut log = Log::resume(&path, 2)?;
        log.write(&record(3))?;
        assert_eq!(read_log(&path)?, [1, 2, 3].map(record));
        Ok(())
    }
}
