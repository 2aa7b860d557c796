//! A run's folder read back: config, seed, versions, steps, captions over time.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::about::AboutRun;
use crate::display::number;
use crate::train::StepRecord;
use crate::train::validation::CaptionRecord;
use crate::{Error, Result, files};

/// Files of a run's folder besides [`about::FILE`](super::about).
pub(super) const CONFIG: &str = "config.json";
pub(super) const LOG: &str = "log.jsonl";
pub(super) const CAPTIONS: &str = "captions.jsonl";
pub(super) const CURVE: &str = "curve.svg";

/// A run, as its folder tells it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("run-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let settings = TrainerSettings { steps: 2, batch_size: 1, run: Some(folder.join("a")), ..TrainerSettings::tour() };
/// Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// let run = Run::open(folder.join("a"))?; // such as "runs/a", later or elsewhere
/// assert_eq!((run.name().as_str(), run.records().len()), ("a", 2));
/// assert!(run.validation_loss().is_some_and(f64::is_finite));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Run {
    /// Where it lies.
    pub folder: PathBuf,
    /// Seed, versions, data, state.
    pub about: AboutRun,
    /// Every setting that was in force.
    pub config: Value,
    records: Vec<StepRecord>,
    captions: Vec<CaptionRecord>,
}

impl Run {
    /// Reads a run's folder, also while it is written.
    ///
    /// # Errors
    /// `Io` when it is no run's folder; `Json` for a damaged file; `Config` for one of a newer layout.
    pub fn open(folder: impl AsRef<Path>) -> Result<Run> {
        let folder = folder.as_ref();
        let about = AboutRun::read(folder)?;
        let path = folder.join(CONFIG);
        let text = files::text(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let config = serde_json::from_str(&text).map_err(|source| Error::Json { path, source })?;
        Ok(Run {
            records: lines_of(&folder.join(LOG))?,
            captions: lines_of(&folder.join(CAPTIONS))?,
            folder: folder.to_path_buf(),
            about,
            config,
        })
    }

    /// What its folder is called.
    pub fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Every step.
    pub fn records(&self) -> &[StepRecord] {
        &self.records
    }

    /// What the model said of fixed pictures, step by step.
    pub fn captions(&self) -> &[CaptionRecord] {
        &self.captions
    }

    /// The mean training loss of the last tenth of its steps.
    pub fn recent_loss(&self) -> Option<f64> {
        let records = self.records();
        let tail = &records[records.len() - records.len().div_ceil(10)..];
        let sum: f64 = tail.iter().map(|record| record.loss).sum();
        (!tail.is_empty()).then(|| sum / tail.len() as f64)
    }

    /// Steps that were made of those that it is to have, as `40/100`.
    pub(crate) fn steps_made(&self) -> String {
        let made = number::count(self.records.len() as u64);
        format!("{made}/{}", number::count(self.about.steps as u64))
    }

    /// How long it trained, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.records.last().map_or(0.0, |record| record.seconds)
    }

    /// The last validation loss.
    pub fn validation_loss(&self) -> Option<f64> {
        let mut newest = self.records.iter().rev();
        newest.find_map(|record| record.validation_loss)
    }
}

/// The lines of a file of JSON lines; none if there is no such file. A last line that is not whole yet is left out: a process that
/// was killed, or goes on, left it.
pub(super) fn lines_of<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = match files::text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::Io {
                path: path.to_path_buf(),
                source,
            });
        }
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(serde_json::from_str);
    let lines: std::result::Result<Vec<T>, _> = lines.collect();
    lines.map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })
}
