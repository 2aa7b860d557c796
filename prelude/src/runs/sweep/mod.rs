//! Sweeps: axes of settings × seeds → a trial each → a table of scores that fills itself, with intervals over the seeds.
//!
//! # Layout
//! - [`Sweep`] (here): which trials there are, tries them one by one
//! - `trial`: [`Trial`], one choice of values and a seed, and the [`Scores`] that come of it
//! - `report`: [`SweepReport`], the table; `interval`: what a few seeds say of all
//! - `store`: what was tried, in the sweep's folder, so that a sweep goes on where it stopped
//!
//! ```text
//! Sweep::grid ─ over, seeds ─► Trial ─ closure builds, trains, scores ─► Scores ─► sweep.jsonl ─► SweepReport
//! ```

mod interval;
mod report;
mod store;
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

pub use report::SweepReport;
pub use store::TrialRecord;
pub use trial::{Best, Scores, Trial};

use super::clock;
use crate::display::display_live;
use crate::session::check_interrupt;
use crate::{Error, Result};

/// More trials than anybody waits for: a slip in the axes.
const MOST: usize = 100_000;

/// Which settings are tried. A sweep has a folder, and goes on where it stopped when it is run again.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("sweep-{}", std::process::id()));
/// # let folder = &folder;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = vec![Example::new(&image, "a red square")];
/// let sweep = Sweep::grid(folder)
///     .over("rank", [2, 4])?
///     .over("projector", [ProjectorKind::Linear, ProjectorKind::Mlp2xGelu])?
///     .seeds(2);
/// let report = sweep.run(|trial| {
///     let lora = LoraConfig::new(trial.get("rank")?, 8.0, &["qkv_proj"]);
///     let settings = VlmSettings {
///         llm_lora: Some(lora),
///         projector: trial.get("projector")?,
///         ..VlmSettings::tiny()
///     };
///     let vlm = Vlm::tiny(&Device::Cpu)?.with_settings(settings, trial.seed())?;
///     let settings = TrainerSettings { steps: 1, batch_size: 1, seed: trial.seed(), quiet: true, ..TrainerSettings::tour() };
///     let report = Trainer::new(settings)?.fit(&vlm, &set, &set)?;
///     Ok(Scores::new().lower("training loss", report.loss))
/// })?;
/// assert_eq!(report.records().len(), 8);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sweep {
    folder: PathBuf,
    /// The values of each choice, by name.
    choices: Vec<Map<String, Value>>,
    /// Names and values as they were given, for people.
    axes: Vec<(String, Vec<String>)>,
    seeds: Vec<u64>,
    retry_failed: bool,
}

impl Sweep {
    /// All combinations of the values that [`Sweep::over`] adds. What comes out is kept in `folder`.
    pub fn grid(folder: impl AsRef<Path>) -> Sweep {
        Sweep {
            folder: folder.as_ref().to_path_buf(),
            choices: vec![Map::new()],
            axes: Vec::new(),
            seeds: vec![0],
            retry_failed: true,
        }
    }

    /// A list of choices, each with names and values, such as a map, `serde_json::json!({"rank": 2, "alpha": 4.0})` or a struct of
    /// yours.
    ///
    /// # Errors
    /// `Input` for a choice without names, an empty list, or the same choice twice.
    pub fn list<T: Serialize>(
        folder: impl AsRef<Path>,
        choices: impl IntoIterator<Item = T>,
    ) -> Result<Sweep> {
        let mut sweep = Self::grid(folder);
        sweep.choices.clear();
        for choice in choices {
            let Value::Object(choice) = value_of("a choice of the list", &choice)? else {
                return Err(Error::Input(
                    "a choice of a sweep's list needs names, as in `serde_json::json!({\"rank\": 2})`"
                        .into(),
                ));
            };
            if sweep.choices.contains(&choice) {
                let choice = Value::Object(choice);
                return Err(Error::Input(format!(
                    "the choice {choice} stands twice in the sweep's list: more seeds are `.seeds(n)`"
                )));
            }
            for (name, value) in &choice {
                let text = trial::text(value);
                match sweep.axes.iter_mut().find(|(known, _)| known == name) {
                    Some((_, values)) if values.contains(&text) => {}
                    Some((_, values)) => values.push(text),
                    None => sweep.axes.push((name.clone(), vec![text])),
                }
            }
            sweep.choices.push(choice);
        }
        match sweep.choices.is_empty() {
            true => Err(Error::Input("the sweep's list is empty".into())),
            false => Ok(sweep),
        }
    }

    /// Another axis: every choice so far with each of these values.
    ///
    /// # Errors
    /// `Input` for a name that is there already, no values, the same value twice, a value that JSON has no words for, and more than
    /// 100,000 choices.
    pub fn over<T: Serialize>(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Result<Sweep> {
        let wrong = |what: String| Error::Input(format!("the sweep's axis {name:?} {what}"));
        if name == "seed" {
            return Err(wrong("is set by `.seeds(n)`".into()));
        }
        if self.axes.iter().any(|(known, _)| known == name) {
            return Err(wrong("is there twice".into()));
        }
        let values = values.into_iter().map(|value| value_of(name, &value));
        let values: Vec<Value> = values.collect::<Result<_>>()?;
        if values.is_empty() {
            return Err(wrong("has no values".into()));
        }
        if let Some((_, twice)) =
            (values.iter().enumerate()).find(|(at, value)| values[..*at].contains(value))
        {
            return Err(wrong(format!(
                "has the value {twice} twice: more seeds are `.seeds(n)`"
            )));
        }
        if self.choices.len().saturating_mul(values.len()) > MOST {
            return Err(wrong(format!("makes more than {MOST} choices")));
        }
        let with = |choice: &Map<String, Value>, value: &Value| {
            let mut choice = choice.clone();
            choice.insert(name.to_owned(), value.clone());
            choice
        };
        let each = self.choices.iter();
        let each = each.flat_map(|choice| values.iter().map(move |value| with(choice, value)));
        self.choices = each.collect();
        self.axes
            .push((name.to_owned(), values.iter().map(trial::text).collect()));
        Ok(self)
    }

    /// Every choice with the seeds 0 to `count` − 1, at least one: the table then has intervals.
    pub fn seeds(mut self, count: u64) -> Sweep {
        self.seeds = (0..count.max(1)).collect();
        self
    }

    /// Leaves trials that failed as they are when the sweep goes on, instead of trying them again.
    pub fn keep_failed(mut self) -> Sweep {
        self.retry_failed = false;
        self
    }

    /// Where results are kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names and their values.
    pub(super) fn axes(&self) -> &[(String, Vec<String>)] {
        &self.axes
    }

    /// All trials, in the order in which they are tried: one seed of everything before the next seed.
    pub fn trials(&self) -> Vec<Trial> {
        let each = self.seeds.iter().flat_map(|seed| {
            let choices = self.choices.iter();
            choices.map(|choice| Trial::new(choice.clone(), *seed, &self.folder))
        });
        each.collect()
    }

    /// The table so far, without trying anything.
    ///
    /// # Errors
    /// `Io` or `Json` when the sweep's folder can't be read.
    pub fn report(&self) -> Result<SweepReport> {
        Ok(SweepReport::new(self, store::read(&self.folder)?))
    }

    /// Tries what was not tried yet, one trial after the other: `try_it` builds a model from the trial's values, trains it and says
    /// its scores. The table fills itself meanwhile.
    ///
    /// A trial that fails or panics is noted with the reason and the sweep goes on; it is tried again the next time. What `try_it`
    /// does is not known: after a change of it, results of before stand beside new ones. Give another folder then.
    ///
    /// # Errors
    /// `Interrupted`, with all finished trials kept; `Io` when results can't be written.
    pub fn run(&self, mut try_it: impl FnMut(&Trial) -> Result<Scores>) -> Result<SweepReport> {
        let mut store = store::Store::open(&self.folder)?;
        let mut report = SweepReport::new(self, store.records().to_vec());
        let display = display_live(&report);
        for trial in self.trials() {
            let kept = |record: &&TrialRecord| record.error.is_none() || !self.retry_failed;
            if store.find(&trial).filter(kept).is_some() {
                continue;
            }
            check_interrupt()?;
            trial.clear()?;
            report.trying(Some(&trial));
            display.update(&report);
            let begun = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| try_it(&trial)));
            let (scores, error) = match outcome {
                Ok(Ok(scores)) if scores.is_empty() => {
                    (scores, Some("it said no score".to_owned()))
                }
                Ok(Ok(scores)) => (scores, None),
                Ok(Err(Error::Interrupted)) => {
                    report.trying(None);
                    display.update(&report);
                    return Err(Error::Interrupted);
                }
                Ok(Err(error)) => (Scores::new(), Some(error.to_string())),
                Err(payload) => {
                    let message = crate::session::panic_message(&*payload);
                    // A payload's own destructor may panic.
                    std::mem::forget(payload);
                    (Scores::new(), Some(format!("it panicked: {message}")))
                }
            };
            let record = TrialRecord {
                values: trial.map().clone(),
                seed: trial.seed(),
                scores,
                error,
                seconds: begun.elapsed().as_secs_f64(),
                ended: clock::now(),
            };
            store.add(record.clone())?;
            report.add(record);
            report.trying(None);
            display.update(&report);
        }
        display.settle();
        Ok(report)
    }
}

/// A value as JSON.
fn value_of<T: Serialize>(name: &str, value: &T) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::Input(format!("a value of {name} is none for a sweep: {error}")))
}

#[cfg(test)]
mod tests;
