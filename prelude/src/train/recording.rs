//! What of a run is kept and seen: its folder ([`crate::runs`]), the small multiples of its plot, and how it ended.

use super::log::StepRecord;
use super::report::TrainReport;
use super::resident;
use super::set::TrainingSet;
use super::trainer::{Run, Trainer};
use crate::display::{LivePlot, Render, display, number};
use crate::runs::{Beginning, DataFacts, Recorder, RunState};
use crate::vlm::Vlm;
use crate::{Error, Result};

impl Trainer {
    /// Shows a value, unless nothing is to be shown.
    pub(super) fn show(&self, value: &impl Render) {
        if !self.config.quiet && !self.follows {
            display(value);
        }
    }

    /// What writes the run's folder, if it is to have one.
    pub(super) fn recorder(
        &self,
        vlm: &Vlm,
        train: &dyn TrainingSet,
        validation: &dyn TrainingSet,
    ) -> Result<Option<Recorder>> {
        let Some(folder) = &self.config.run else {
            return Ok(None);
        };
        let json = |error: serde_json::Error| Error::Config(format!("trainer: {error}"));
        let facts = |role: &str, set: &dyn TrainingSet| DataFacts {
            role: role.to_owned(),
            examples: set.len(),
            hash: set.fingerprint(),
        };
        let mut config = self.notes.clone();
        let trainer = serde_json::to_value(&self.config).map_err(json)?;
        config.insert("trainer".to_owned(), trainer);
        let settings = serde_json::to_value(&*vlm.settings).map_err(json)?;
        config.insert("settings".to_owned(), settings);
        let beginning = Beginning {
            config: serde_json::Value::Object(config),
            seed: self.config.seed,
            steps: self.config.steps,
            data: vec![facts("train", train), facts("validation", validation)],
            earlier: &self.records,
            untrained: self.untrained,
        };
        Recorder::begin(folder, &beginning).map(Some)
    }

    /// Ends plot and folder of a sitting, and says how it went.
    pub(super) fn finish(
        &self,
        run: &mut Run<'_>,
        outcome: Result<()>,
        steps_before: usize,
    ) -> Result<TrainReport> {
        let (state, result) = match &outcome {
            Ok(()) => (RunState::Finished, self.report(steps_before).summary()),
            Err(Error::Interrupted) => {
                let step = self.step;
                let result = format!("interrupted after step {step}; call fit again to go on");
                (RunState::Interrupted, result)
            }
            Err(_) => (
                RunState::Failed,
                format!("failed in step {}", self.step + 1),
            ),
        };
        run.plot.finish(&result);
        let recorded = match &mut run.recorder {
            Some(recorder) => recorder.end(state, &result, self),
            None => Ok(()),
        };
        outcome?;
        recorded?;
        Ok(self.report(steps_before))
    }

    /// The small multiples of a step, and what is said of it behind the figures.
    pub(crate) fn draw(plot: &LivePlot, before: Option<&StepRecord>, record: &StepRecord) {
        let step = record.step - 1;
        plot.panel("learning rate", "", step, record.rate);
        match record.norms.len() {
            0 => plot.panel("gradient's length", "", step, record.norm),
            _ => {
                for (part, norm) in &record.norms {
                    plot.panel("gradient's length", part, step, *norm);
                }
            }
        }
        let since = |figure: fn(&StepRecord) -> f64| figure(record) - before.map_or(0.0, figure);
        let seconds = since(|record| record.seconds);
        if seconds > 0.0 {
            let tokens = since(|record| record.tokens as f64);
            plot.panel("tokens a second", "", step, tokens / seconds);
            let waited = 100.0 * since(|record| record.waited) / seconds;
            plot.panel("waited for data, %", "", step, waited);
        }
        if record.seconds > 0.0 {
            let share = record.waited / record.seconds;
            plot.note("waited for data", number::percent(share));
        }
        for (name, value) in &record.metrics {
            plot.panel(name, "", step, *value);
        }
    }

    /// How much memory the process has now.
    pub(super) fn draw_memory(&self, plot: &LivePlot) {
        if let (Some(bytes), false) = (resident::bytes(), self.config.quiet || self.follows) {
            plot.note("memory", number::bytes(bytes));
            plot.panel("memory, GB", "", self.step() - 1, bytes as f64 / 1e9);
        }
    }
}
