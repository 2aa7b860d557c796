//! How what belongs to training shows itself.

use super::{
    AdamW, AdamWConfig, BestBy, CaptionRecord, CheckpointSettings, EarlyStop, Example, FailedSave,
    FeatureSettings, Gradients, LossAverage, LossKind, NotFinite, OptimizerKind, PartSettings,
    PlannedPart, Rates, RunCheckpoint, Schedule, ScheduleFree, SettingDifference, StepRecord,
    TooLong, TrainReport, TrainStage, TrainedPart, Trainer, TrainerSettings,
};
use crate::display::facts::{debug_by_first_line, shown_by_facts, shown_by_fields};
use crate::display::{Cell, Facts, MimeBundle, Render, Table, number};
use crate::nn::show;

impl Trainer {
    fn facts(&self) -> Facts {
        let config = self.config();
        let last = self.records().last();
        let next = match self.step() {
            0 => "Nothing has been trained yet: call `.fit(&vlm, &train_set, &held_out_set)?`."
                .to_owned(),
            step if step < config.steps => "Call `.fit(…)?` again to go on.".to_owned(),
            _ => "The run is complete: `.extend(steps)` makes it longer.".to_owned(),
        };
        Facts::new(format!(
            "Trainer: {} of {} steps done",
            self.step(),
            config.steps
        ))
        .fact_if("last loss", last.map(|record| number::float(record.loss)))
        .fact_if(
            "tokens seen",
            last.map(|record| number::count(record.tokens)),
        )
        .fact_if(
            "best so far",
            self.best()
                .map(|(step, value)| format!("step {step}: {}", number::float(value))),
        )
        .fact("batch_size", config.batch_size)
        .fact_if(
            "accumulate",
            (config.accumulate > 1).then_some(config.accumulate),
        )
        .fact("learning_rate", number::float(config.learning_rate))
        .fact("schedule", format!("{:?}", config.schedule))
        .fact("loss", format!("{:?}", config.loss))
        .fact("seed", config.seed)
        .hint(next)
    }
}

impl AdamW {
    fn facts(&self) -> Facts {
        let config = self.config();
        Facts::new("AdamW")
            .fact("parameters it has moved", self.tracked())
            .fact("learning_rate", number::float(config.learning_rate))
            .fact("betas", format!("{}, {}", config.beta1, config.beta2))
            .fact("weight_decay", config.weight_decay)
            .fact("eps", number::float(config.eps))
    }
}

impl ScheduleFree {
    fn facts(&self) -> Facts {
        let config = self.config();
        Facts::new("schedule-free AdamW")
            .fact("parameters it has moved", self.tracked())
            .fact("betas", format!("{}, {}", config.beta1, config.beta2))
            .fact("eps", number::float(config.eps))
    }
}

impl Gradients {
    fn facts(&self) -> Facts {
        let norm = self
            .norm()
            .map_or_else(|error| error.to_string(), number::float);
        let facts = Facts::new(format!("Gradients of {} parameters", self.iter().count()))
            .fact("length of all", norm);
        let facts = self.iter().take(20).fold(facts, |facts, (name, gradient)| {
            facts.fact(name.as_str(), show::shape(gradient))
        });
        facts.hint("`.get(name)` gives one")
    }
}

shown_by_facts!(Trainer, AdamW, ScheduleFree, Gradients, Example);
debug_by_first_line!(TrainReport);
shown_by_fields!(
    TrainerSettings,
    AdamWConfig,
    LossKind,
    Schedule,
    BestBy,
    CaptionRecord,
    CheckpointSettings,
    EarlyStop,
    FailedSave,
    FeatureSettings,
    LossAverage,
    NotFinite,
    OptimizerKind,
    PartSettings,
    PlannedPart,
    Rates,
    RunCheckpoint,
    SettingDifference,
    TrainStage,
    TooLong,
    TrainedPart,
    super::Unreadable
);

impl Render for StepRecord {
    fn render(&self) -> MimeBundle {
        Facts::fields(self).render()
    }

    /// The steps of a run are a table: the first of them, and those at which the held-out loss was measured.
    fn render_all(records: &[&Self]) -> MimeBundle {
        const SHOWN: usize = 20;
        let mut table = Table::new([
            "step",
            "loss",
            "held-out loss",
            "rate",
            "gradient",
            "tokens",
            "s",
        ])
        .title(format!("{} steps", number::count(records.len() as u64)));
        let every = records.len().div_ceil(SHOWN).max(1);
        let last = records.len().saturating_sub(1);
        for (at, record) in records.iter().enumerate() {
            if at % every != 0 && at != last {
                continue;
            }
            let held_out = record
                .validation_loss
                .map(number::float)
                .unwrap_or_default();
            table.push(vec![
                record.step.into(),
                record.loss.into(),
                Cell::figure(held_out),
                record.rate.into(),
                record.norm.into(),
                record.tokens.into(),
                record.seconds.into(),
            ]);
        }
        if every > 1 {
            table = table.note(format!("one step in {every} is shown"));
        }
        table.render()
    }
}
