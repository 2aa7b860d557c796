//! What a sweep has tried, one JSON line a trial, in `sweep.jsonl` of its folder. The last line of a trial counts.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Scores, Trial};
use crate::runs::about;
use crate::runs::recorder::write_lines;
use crate::runs::run::lines_of;
use crate::{Error, Result};

const FILE: &str = "sweep.jsonl";

/// A trial that was made.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::runs::TrialRecord;
///
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("trial-record-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let sweep = Sweep::grid(folder).over("rate", [0.1, 0.2])?;
/// let report = sweep.run(|trial| Ok(Scores::new().lower("loss", trial.get("rate")?)))?;
/// let first: &TrialRecord = &report.records()[0];
/// assert_eq!((first.scores.get("loss"), first.error.as_deref()), (Some(0.1), None));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The values of the axes.
    pub values: Map<String, Value>,
    /// The seed.
    pub seed: u64,
    /// What came out.
    pub scores: Scores,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// When it ended, in UTC.
    pub ended: String,
}

impl TrialRecord {
    /// Whether it is of these values and this seed.
    pub(super) fn is_of(&self, values: &Map<String, Value>, seed: u64) -> bool {
        (&self.values, self.seed) == (values, seed)
    }
}

/// The trials that were made, the last attempt of each.
pub(super) fn read(folder: &Path) -> Result<Vec<TrialRecord>> {
    let mut records: Vec<TrialRecord> = Vec::new();
    for record in lines_of::<TrialRecord>(&folder.join(FILE))? {
        records.retain(|earlier| !earlier.is_of(&record.values, record.seed));
        records.push(record);
    }
    Ok(records)
}

/// The open file.
pub(super) struct Store {
    path: PathBuf,
    file: File,
    records: Vec<TrialRecord>,
}

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Store> {
        let records = read(folder)?;
        let path = folder.join(FILE);
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        // Anew: what was half written when a process was killed goes.
        write_lines(&path, &records)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed)?;
        Ok(Store {
            path,
            file,
            records,
        })
    }

    pub(super) fn records(&self) -> &[TrialRecord] {
        &self.records
    }

    pub(super) fn find(&self, trial: &Trial) -> Option<&TrialRecord> {
        let mut records = self.records.iter();
        records.find(|record| record.is_of(trial.map(), trial.seed()))
    }

    pub(super) fn add(&mut self, record: TrialRecord) -> Result<()> {
        let line = about::json_line(&self.path, &record)?;
        self.file.write_all(&line).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })?;
        self.records
            .retain(|earlier| !earlier.is_of(&record.values, record.seed));
        self.records.push(record);
        Ok(())
    }
}
