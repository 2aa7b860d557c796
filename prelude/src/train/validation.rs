//! What is measured between steps: the validation loss, chosen figures, captions of fixed pictures, and which state was the best.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::log::StepRecord;
use super::settings::{BestBy, EarlyStop};
use crate::display::{GridItem, ImageGrid, LivePlot};
use crate::evaluate::{EvaluationSet, Evaluator};
use crate::parallel::{self, group::Group};
use crate::session::check_interrupt;
use crate::vision::Image;
use crate::vlm::{Prompt, Vlm};
use crate::{Error, Result};

/// Longest caption of a watched picture, in tokens.
const CAPTION: usize = 40;

/// What the model said of a watched picture at a step.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = vec![Example::new(&image, "a red square")];
/// let mut trainer = Trainer::new(TrainerSettings { steps: 1, batch_size: 1, ..TrainerSettings::tour() })?;
/// trainer.watch_pictures(vec![image]).fit(&vlm, &set, &set)?;
/// let last = trainer.captions().last();
/// assert_eq!(last.map(|record| (record.step, record.picture)), Some((1, 0)));
/// assert!(last.is_some_and(|record| !record.caption.is_empty()));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptionRecord {
    /// Steps that were done.
    pub step: usize,
    /// Which of the watched pictures, from 0.
    pub picture: usize,
    /// What was said of it.
    pub caption: String,
}

/// Batches that the validation loss is measured on.
pub(super) struct HeldOut {
    pub(super) batches: Vec<Vec<Prompt>>,
}

impl HeldOut {
    /// The samples.
    pub(super) fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        self.batches.iter().flatten()
    }

    /// Mean full-sequence loss over the samples; each rank measures its part of the batches.
    pub(super) fn loss(&self, vlm: &Vlm, group: &Group) -> Result<f64> {
        let part = self.part(vlm, &self.batches[group.part(self.batches.len())]);
        let (sum, samples) = group.agree(part)?;
        let mut all = [sum, samples as f64];
        group.sum_f64(&mut all)?;
        Ok(all[0] / all[1])
    }

    /// The sum of the samples' losses in some batches, and how many samples they are.
    fn part(&self, vlm: &Vlm, batches: &[Vec<Prompt>]) -> Result<(f64, usize)> {
        let (mut sum, mut samples) = (0.0, 0);
        for prompts in batches {
            check_interrupt()?;
            let output = vlm.full_sequence_loss_of(prompts)?;
            sum += f64::from(output.value()?) * prompts.len() as f64;
            samples += prompts.len();
        }
        Ok((sum, samples))
    }
}

/// A figure of the model.
type Figure = Box<dyn FnMut(&Vlm) -> Result<f64> + Send>;

/// What is measured beside the validation loss.
#[derive(Default)]
pub(super) struct Measures {
    figures: Vec<(String, Figure)>,
    scores: Vec<(Evaluator, Box<dyn EvaluationSet + Send>)>,
    pictures: Vec<Image>,
}

impl Measures {
    pub(super) fn add(&mut self, name: String, measure: Figure) {
        self.figures.push((name, measure));
    }

    pub(super) fn add_scores(&mut self, evaluator: Evaluator, set: Box<dyn EvaluationSet + Send>) {
        self.scores.push((evaluator.without_baselines(), set));
    }

    pub(super) fn watch(&mut self, pictures: Vec<Image>) {
        self.pictures = pictures;
    }

    /// The figures now: the first rank's own, and those of evaluations, which all ranks make together.
    pub(super) fn figures(&mut self, vlm: &Vlm, group: &Group) -> Result<BTreeMap<String, f64>> {
        let own = match group.leads() {
            true => parallel::by_itself(|| self.own_figures(vlm)),
            false => Ok(BTreeMap::new()),
        };
        let mut figures = group.agree(own)?;
        for (evaluator, set) in &self.scores {
            let evaluation = evaluator.run_in(group, vlm, &**set)?;
            let scores = evaluation.rows.first().map(|row| &row.scores[..]);
            let scores = scores.unwrap_or_default().iter();
            figures.extend(scores.map(|score| (score.name.clone(), score.value)));
        }
        Ok(figures)
    }

    fn own_figures(&mut self, vlm: &Vlm) -> Result<BTreeMap<String, f64>> {
        let figures = self.figures.iter_mut().map(|(name, measure)| {
            check_interrupt()?;
            Ok((name.clone(), measure(vlm)?))
        });
        figures.collect()
    }

    /// What the model says now of the watched pictures; they stand below the run's plot.
    pub(super) fn captions(
        &self,
        vlm: &Vlm,
        step: usize,
        plot: &LivePlot,
    ) -> Result<Vec<CaptionRecord>> {
        if self.pictures.is_empty() {
            return Ok(Vec::new());
        }
        let said = vlm
            .generate_batch(&self.pictures)?
            .max_new_tokens(CAPTION)
            .run_all()?;
        let records: Vec<CaptionRecord> = said
            .into_iter()
            .enumerate()
            .map(|(picture, generation)| CaptionRecord {
                step,
                picture,
                caption: generation.text,
            })
            .collect();
        let items = self.pictures.iter().zip(&records);
        let items =
            items.map(|(picture, record)| GridItem::new(picture).prediction(&record.caption));
        let grid = ImageGrid::new(items.collect());
        plot.pictures(format!("what the model says after step {step}"), grid);
        Ok(records)
    }
}

/// The best state so far, and for how long none was better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Watch {
    /// Its step and its figure.
    pub(super) best: Option<(usize, f64)>,
    /// Measurements since.
    pub(super) waiting: usize,
}

impl Watch {
    /// Takes note of a step at which was measured: whether it is the best.
    ///
    /// # Errors
    /// `Config` when the figure that decides is none of those that were measured.
    pub(super) fn note(
        &mut self,
        record: &StepRecord,
        by: &BestBy,
        stop: Option<EarlyStop>,
    ) -> Result<bool> {
        let value = match by.figure.as_str() {
            "validation_loss" => record.validation_loss,
            name => record.metrics.get(name).copied(),
        };
        let Some(value) = value else {
            let names = record.metrics.keys().map(String::as_str);
            let names: Vec<&str> = std::iter::once("validation_loss").chain(names).collect();
            return Err(Error::Config(format!(
                "trainer: best_by names the figure {:?}, which is not measured; measured are {}: name one of them, or add it with \
                 `trainer.measure(name, …)`",
                by.figure,
                names.join(", ")
            )));
        };
        let least = stop.map_or(0.0, |stop| stop.least);
        let better = |best: f64| match by.highest {
            true => value > best + least,
            false => value < best - least,
        };
        let is_best = value.is_finite() && self.best.is_none_or(|(_, best)| better(best));
        if is_best {
            self.best = Some((record.step, value));
            self.waiting = 0;
        } else {
            self.waiting += 1;
        }
        Ok(is_best)
    }

    /// Why the run should end, if it should.
    pub(super) fn stop(&self, by: &BestBy, stop: Option<EarlyStop>) -> Option<String> {
        let stop = stop.filter(|stop| self.waiting >= stop.patience)?;
        let (step, value) = self.best?;
        Some(format!(
            "{} was best after step {step} ({value:.4}) and not better in {} measurements since",
            by.figure, stop.patience
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_when_its_figure_no_longer_gets_better() -> Result<()> {
        let by = BestBy {
            figure: "CIDEr-D".into(),
            highest: true,
        };
        let stop = Some(EarlyStop {
            patience: 2,
            least: 0.1,
        });
        let mut watch = Watch::default();
        let mut seen = Vec::new();
        for (at, value) in [1.0, 2.0, 2.05, f64::NAN].into_iter().enumerate() {
            let record = StepRecord {
                step: at + 1,
                validation_loss: Some(9.0),
                metrics: BTreeMap::from([("CIDEr-D".to_owned(), value)]),
                ..StepRecord::default()
            };
            seen.push((
                watch.note(&record, &by, stop)?,
                watch.stop(&by, stop).is_some(),
            ));
        }
        assert_eq!(
            seen,
            [(true, false), (true, false), (false, false), (false, true)]
        );
        assert_eq!(watch.best, Some((2, 2.0)));
        let unknown = BestBy {
            figure: "CIDEr".into(),
            highest: true,
        };
        let error = watch.note(&StepRecord::default(), &unknown, stop);
        assert!(error.unwrap_err().to_string().contains("validation_loss"));
        Ok(())
    }
}
