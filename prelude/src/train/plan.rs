//! Before the first step: what trains at which rate, and about how much memory and time the run will take.
//!
//! Weights, gradients and the optimizer's state are counted. What the passes need is measured: the longest sample of the first step
//! goes forward and backward alone, and a batch is taken for as many of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::part::{TrainedPart, is_lora_b};
use super::settings::{TrainStage, TrainerSettings};
use super::step::Asked;
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::memory::{self, Peak};
use crate::nn::{Parameter, recompute};
use crate::train::Gradients;
use crate::vision::{Tower, Vit};
use crate::vlm::{Prompt, Vlm};
use crate::{Error, Result};

/// A part that trains.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let mut trainer = Trainer::new(TrainerSettings { steps: 1, batch_size: 1, ..TrainerSettings::tour() })?;
/// trainer.fit(&vlm, &set, &set)?;
/// let parts = &trainer.plan().unwrap().parts;
/// let projector = parts.iter().find(|planned| planned.part == TrainedPart::Projector).unwrap();
/// assert!(projector.values > 1000);
/// assert_eq!(projector.learning_rate, 3e-3);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedPart {
    /// Which.
    pub part: TrainedPart,
    /// Its tensors.
    pub tensors: usize,
    /// Their values.
    pub values: usize,
    /// The highest learning rate; LoRA's B has `lora_plus` times this.
    pub learning_rate: f64,
    /// The weight decay.
    pub weight_decay: f64,
}

/// What a run is about to do and to need: shown before its first step.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let mut trainer = Trainer::new(TrainerSettings { steps: 1, batch_size: 1, ..TrainerSettings::tour() })?;
/// trainer.fit(&vlm, &set, &set)?; // shows the plan before the first step
/// let plan = trainer.plan().unwrap();
/// assert_eq!(plan.samples, 1);
/// assert!(plan.gradients < plan.weights); // most of the model is frozen
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TrainPlan {
    /// What trains.
    pub parts: Vec<PlannedPart>,
    /// Bytes of all weights, frozen ones too.
    pub weights: usize,
    /// Bytes of the gradients of a step.
    pub gradients: usize,
    /// Bytes of the optimizer's state.
    pub optimizer: usize,
    /// Bytes that forward and backward of one sample take at their highest, and the tokens of that sample; `None` where this system
    /// or device does not say.
    pub sample: Option<(usize, usize)>,
    /// Samples that are computed together.
    pub batch_size: usize,
    /// With packing: rows of the first step's largest batch, and tokens of each.
    pub packed: Option<(usize, usize)>,
    /// How long forward and backward of that sample took.
    pub sample_seconds: f64,
    /// Samples of the whole run.
    pub samples: usize,
    /// Bytes of everything at once as the second step found it, the first that the optimizer's state is there in; `None` before, and
    /// where it can't be measured.
    pub measured: Option<usize>,
    /// What trains in each stage, with its part of the run and its learning rate; empty where all trains all the time.
    pub stages: Vec<TrainStage>,
    /// With gradient checkpointing: encoders that train and keep everything all the same, since only a ViT and the towers are computed
    /// again layer by layer.
    pub not_recomputed: Vec<String>,
}

impl TrainPlan {
    /// The plan for a model and the samples of a step.
    ///
    /// # Errors
    /// `Interrupted`, and what the passes report.
    pub(super) fn of(
        vlm: &Vlm,
        settings: &TrainerSettings,
        parameters: &[Parameter],
        longest: &Prompt,
        packed: Option<(usize, usize)>,
    ) -> Result<Self> {
        let mut parts: BTreeMap<TrainedPart, PlannedPart> = BTreeMap::new();
        for parameter in parameters {
            let part = TrainedPart::of(parameter);
            let rates = settings.rates(None, parameter);
            let planned = parts.entry(part).or_insert(PlannedPart {
                part,
                tensors: 0,
                values: 0,
                learning_rate: rates.rate,
                weight_decay: rates.weight_decay,
            });
            if !is_lora_b(parameter) {
                planned.learning_rate = rates.rate;
            }
            planned.tensors += 1;
            planned.values += parameter.count();
        }
        let values: usize = parameters.iter().map(Parameter::count).sum();
        let weights = vlm.named_parameters();
        let weights = weights.iter().map(Parameter::bytes);
        // Those of the batch that is computed, beside the sum of those before it.
        let sums = if settings.accumulate > 1 { 2 } else { 1 };
        let (sample, sample_seconds) = probe(vlm, settings, parameters, longest)?;
        let gradients = sums * values * size_of::<f32>();
        let own = values * size_of::<f32>();
        Ok(Self {
            parts: parts.into_values().collect(),
            weights: weights.sum(),
            gradients,
            optimizer: settings.optimizer.moments() * own,
            // Its gradients are counted above.
            sample: sample.map(|(bytes, tokens)| (bytes.saturating_sub(own), tokens)),
            batch_size: settings.batch_size,
            packed,
            sample_seconds,
            samples: settings.steps.saturating_mul(settings.samples_a_step()),
            measured: None,
            stages: settings.stages.clone(),
            not_recomputed: match settings.gradient_checkpointing {
                true => kept_whole(vlm),
                false => Vec::new(),
            },
        })
    }

    /// Bytes that the passes of a batch of so many samples of so many tokens take; `None` where it could not be measured.
    pub fn activations(&self, batch_size: usize, tokens: usize) -> Option<usize> {
        let (bytes, measured) = self.sample?;
        let each = bytes as f64 * tokens as f64 / measured.max(1) as f64;
        Some((each * batch_size as f64) as usize)
    }

    /// Bytes of everything at once, in the first step's largest batch.
    pub fn memory(&self) -> Option<usize> {
        let (rows, tokens) = self.largest()?;
        let passes = self.activations(rows, tokens)?;
        Some(self.weights + self.gradients + self.optimizer + passes)
    }

    /// Rows of the largest batch, and tokens of each.
    fn largest(&self) -> Option<(usize, usize)> {
        let (_, tokens) = self.sample?;
        Some(self.packed.unwrap_or((self.batch_size, tokens)))
    }

    /// Takes note of what a step took beyond weights and optimizer.
    pub(super) fn found(&mut self, step: Option<Peak>) {
        self.measured = step.map(|Peak { bytes }| self.weights + self.optimizer + bytes);
    }

    /// About how long the run takes, without validation.
    pub fn time(&self) -> Duration {
        let seconds = self.sample_seconds * self.samples as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// The encoders that train and have no layers that could be computed again, by their places and kinds.
fn kept_whole(vlm: &Vlm) -> Vec<String> {
    let others = vlm.other_encoders.iter();
    let others = others.map(|other| (format!("other_encoders.{}", other.name), &other.encoder));
    let all = std::iter::once(("image_encoder".to_owned(), &vlm.image_encoder)).chain(others);
    let kept = all.filter(|(_, encoder)| {
        let known = encoder.get::<Vit>().is_some() || encoder.get::<Tower>().is_some();
        !known && !encoder.trainable_parameters().is_empty()
    });
    kept.map(|(place, encoder)| format!("{place} ({})", encoder.kind()))
        .collect()
}

/// What one sample takes at its highest (bytes, tokens), and its seconds. Nothing that lasts changes.
fn probe(
    vlm: &Vlm,
    settings: &TrainerSettings,
    parameters: &[Parameter],
    longest: &Prompt,
) -> Result<(Option<(usize, usize)>, f64)> {
    let prompts = [longest.clone()];
    let mut rng = super::order::step_rng(settings.seed, 0);
    let asked = Asked::of(settings, &prompts, &mut rng)?;
    let (places, weights) = asked.part(0..1);
    let passes = || -> Result<usize> {
        let output = recompute::recomputing(settings.gradient_checkpointing, || {
            vlm.loss_at(&prompts, &places, &weights, settings.label_smoothing)
        })?;
        Gradients::of(&output.loss, parameters)?;
        Ok(output.tokens)
    };
    vlm.set_training(true);
    let begun = std::time::Instant::now();
    let outcome = match vlm.device().is_cpu() {
        true => memory::peak_of(passes),
        false => passes().map(|tokens| (tokens, None)),
    };
    let seconds = begun.elapsed().as_secs_f64();
    vlm.set_training(false);
    vlm.take_back_draws();
    let (tokens, peak) = outcome?;
    Ok((peak.map(|Peak { bytes }| (bytes, tokens)), seconds))
}

impl Render for TrainPlan {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new([
            "what trains",
            "tensors",
            "values",
            "learning rate",
            "weight decay",
        ])
        .title("before the first step");
        for part in &self.parts {
            table.push(vec![
                part.part.name().into(),
                Cell::figure(number::count(part.tensors as u64)),
                Cell::figure(number::count(part.values as u64)),
                part.learning_rate.into(),
                part.weight_decay.into(),
            ]);
        }
        let bytes = |bytes: usize| number::bytes(bytes as u64);
        let counted = format!(
            "weights {}, gradients {}, optimizer {}",
            bytes(self.weights),
            bytes(self.gradients),
            bytes(self.optimizer)
        );
        let memory = match (self.largest(), self.memory()) {
            (Some((rows, tokens)), Some(all)) => {
                let passes = |batch| {
                    self.activations(batch, tokens)
                        .map_or_else(String::new, bytes)
                };
                let each = match self.packed {
                    None => "a sample",
                    Some(_) => "a row of several samples",
                };
                format!(
                    "memory about {}: {counted}, passes of {rows} × {tokens} tokens {} ({} {each})",
                    bytes(all),
                    passes(rows),
                    passes(1)
                )
            }
            _ => format!("memory: {counted}; what the passes take can't be measured here"),
        };
        let measured = self
            .measured
            .map(|found| format!(" (measured: {})", bytes(found)));
        let memory = memory + &measured.unwrap_or_default();
        let time = format!(
            "time about {} without validation: {} samples, one alone took {}",
            number::duration(self.time()),
            number::count(self.samples as u64),
            number::duration(Duration::try_from_secs_f64(self.sample_seconds).unwrap_or_default())
        );
        let stages = self.stages.iter().enumerate().map(|(at, stage)| {
            let names: Vec<&str> = stage.train.iter().map(|part| part.name()).collect();
            let rate = stage.learning_rate.map(|rate| format!(" at {rate}"));
            format!(
                ". Stage {}, {} of the run: {}{}",
                at + 1,
                number::percent(stage.share),
                names.join(", "),
                rate.unwrap_or_default()
            )
        });
        let stages: String = stages.collect();
        let kept = match self.not_recomputed.is_empty() {
            true => String::new(),
            false => format!(
                ". Gradient checkpointing does nothing for {}: only a ViT and the towers have layers that are computed again",
                self.not_recomputed.join(", ")
            ),
        };
        table
            .note(format!("{memory}. {time}{stages}{kept}"))
            .render()
    }
}

/// What becomes of a plan that could not be made: the first step will say what is wrong, by name.
pub(super) fn unless_interrupted(plan: Result<TrainPlan>) -> Result<Option<TrainPlan>> {
    match plan {
        Ok(plan) => Ok(Some(plan)),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(_) => Ok(None),
    }
}
