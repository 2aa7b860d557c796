//! The table of a sweep: a row for each choice, its scores as means over the seeds with 95% intervals.

use serde_json::{Map, Value};

use super::store::TrialRecord;
use super::trial::{Best, Trial, text};
use super::{Sweep, interval};
use crate::display::{Cell, Table, limits, number};

/// What a sweep has found so far.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("sweep-report-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let sweep = Sweep::grid(folder).over("rate", [0.1, 0.2])?.seeds(3);
/// // In place of a training here: a score that rate and seed decide.
/// let report = sweep.run(|trial| Ok(Scores::new().higher("accuracy", trial.get::<f64>("rate")? + trial.seed() as f64)))?;
/// assert_eq!(report.records().len(), 6);
/// let choice = &report.records()[0].values;
/// let (mean, half) = report.mean(choice, "accuracy").unwrap(); // over the seeds 0, 1 and 2, with half its interval
/// assert!((mean - 1.1).abs() < 1e-9 && half.is_some());
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct SweepReport {
    names: Vec<String>,
    choices: Vec<Map<String, Value>>,
    seeds: Vec<u64>,
    records: Vec<TrialRecord>,
    trying: Option<(Map<String, Value>, u64)>,
    folder: String,
}

impl SweepReport {
    pub(super) fn new(sweep: &Sweep, mut records: Vec<TrialRecord>) -> SweepReport {
        // Of other axes than those of now.
        records.retain(|record| {
            sweep.choices.contains(&record.values) && sweep.seeds.contains(&record.seed)
        });
        SweepReport {
            names: sweep.axes.iter().map(|(name, _)| name.clone()).collect(),
            choices: sweep.choices.clone(),
            seeds: sweep.seeds.clone(),
            records,
            trying: None,
            folder: sweep.folder.display().to_string(),
        }
    }

    pub(super) fn add(&mut self, record: TrialRecord) {
        self.records
            .retain(|other| !other.is_of(&record.values, record.seed));
        self.records.push(record);
    }

    pub(super) fn trying(&mut self, trial: Option<&Trial>) {
        self.trying = trial.map(|trial| (trial.map().clone(), trial.seed()));
    }

    /// Every trial that was made, failed ones too.
    pub fn records(&self) -> &[TrialRecord] {
        &self.records
    }

    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &TrialRecord> {
        self.records.iter().filter(|record| record.error.is_some())
    }

    /// Mean of a score over the seeds of the choice with these values, and half the width of its 95% interval; `None` before there
    /// is one.
    pub fn mean(&self, values: &Map<String, Value>, score: &str) -> Option<(f64, Option<f64>)> {
        let of = self
            .records
            .iter()
            .filter(|record| record.values == *values);
        let found: Vec<f64> = of.filter_map(|record| record.scores.get(score)).collect();
        (!found.is_empty()).then(|| interval::of(&found))
    }

    /// Names of scores and which is better, in the order in which they came.
    fn scores(&self) -> Vec<(String, Best)> {
        let mut names: Vec<(String, Best)> = Vec::new();
        for (name, _, best) in self.records.iter().flat_map(|record| record.scores.iter()) {
            if !names.iter().any(|(known, _)| known == name) {
                names.push((name.to_owned(), best));
            }
        }
        names
    }

    /// The best mean of a score.
    fn best(&self, name: &str, best: Best) -> Option<f64> {
        let means = self.choices.iter();
        let means = means.filter_map(|choice| self.mean(choice, name));
        let means = means.map(|(mean, _)| mean).filter(|mean| mean.is_finite());
        means.reduce(match best {
            Best::Higher => f64::max,
            Best::Lower => f64::min,
        })
    }

    /// The rows.
    pub fn table(&self) -> Table {
        let scores = self.scores();
        let all = self.choices.len() * self.seeds.len();
        let failed = self.failed().count();
        let words = match failed {
            0 => String::new(),
            count => format!(", {count} failed"),
        };
        let mut notes = Vec::new();
        if self.seeds.len() > 1 {
            notes.push(format!(
                "±: half the 95% interval of the mean over {} seeds (Student's); green: the best mean",
                self.seeds.len()
            ));
        } else {
            notes.push(
                "one seed: no interval, and differences may be chance (`.seeds(n)` tries more)"
                    .to_owned(),
            );
        }
        for record in self.failed().take(5) {
            let values: Vec<String> = (record.values.iter())
                .map(|(name, value)| format!("{name} {}", text(value)))
                .collect();
            let why = record.error.as_deref().unwrap_or_default();
            notes.push(format!(
                "failed: {}, seed {}: {}",
                values.join(", "),
                record.seed,
                limits::shortened(why, 300)
            ));
        }
        if failed > 5 {
            notes.push(format!("and {} more that failed: `.failed()`", failed - 5));
        }
        let mut table = Table::new([])
            .headings(self.names.iter().cloned())
            .headings(scores.iter().map(|(name, _)| name.clone()))
            .headings(["trials".to_owned(), "time".to_owned(), "state".to_owned()])
            .title(format!(
                "{} of {all} trials in {}{words}",
                self.records.len(),
                self.folder
            ))
            .note(notes.join("; "))
            .fold_after(60);
        for choice in &self.choices {
            table.push(self.row(choice, &scores));
        }
        table
    }

    fn row(&self, choice: &Map<String, Value>, scores: &[(String, Best)]) -> Vec<Cell> {
        let mut cells: Vec<Cell> = (self.names.iter())
            .map(|name| Cell::code(choice.get(name).map(text).unwrap_or_default()))
            .collect();
        for (name, best) in scores {
            cells.push(match self.mean(choice, name) {
                None => Cell::figure(""),
                Some((mean, half)) => {
                    let half = half.map(|half| format!(" ± {}", number::float(half)));
                    let written = format!("{}{}", number::float(mean), half.unwrap_or_default());
                    match self.best(name, *best) == Some(mean) && self.choices.len() > 1 {
                        true => Cell::good(written).among_figures(),
                        false => Cell::figure(written),
                    }
                }
            });
        }
        let of = || {
            self.records
                .iter()
                .filter(|record| record.values == *choice)
        };
        let done = of().filter(|record| record.error.is_none()).count();
        let failed = of().filter(|record| record.error.is_some()).count();
        let seconds: f64 = of().map(|record| record.seconds).sum();
        cells.push(Cell::figure(format!("{done}/{}", self.seeds.len())));
        cells.push(Cell::figure(match of().count() {
            0 => String::new(),
            _ => number::time(seconds),
        }));
        let trying = self.trying.as_ref().filter(|(values, _)| values == choice);
        cells.push(match (trying, failed) {
            (Some((_, seed)), _) => Cell::text(format!("trying seed {seed}")),
            (None, 0) if done == self.seeds.len() => Cell::text("done"),
            (None, 0) => Cell::text("waits"),
            (None, failed) => Cell::bad(format!("{failed} failed")),
        });
        cells
    }
}
