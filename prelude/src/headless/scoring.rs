//! The section `[evaluate]`: which metrics on how many held-out pictures, with which baselines.

use serde::{Deserialize, Serialize};

use super::data::{DataConfig, Set};
use super::nearest;
use crate::evaluate::{
    AttributeAccuracy, Bleu, Calibration, CiderD, Evaluator, ExactMatch, MeteorExact, Perplexity,
    RougeL, VqaAccuracy, YesNo,
};
use crate::{Error, Result};

/// The metrics by name, and whether they are of captions, of answers, or of captions of shapes; those of all are all three.
const METRICS: [(&str, [bool; 3]); 10] = [
    ("bleu", [true, false, true]),
    ("rouge_l", [true, false, true]),
    ("cider_d", [true, false, true]),
    ("meteor_exact", [true, false, true]),
    ("exact_match", [true, true, true]),
    ("vqa_accuracy", [false, true, false]),
    ("yes_no", [false, false, false]),
    ("attributes", [false, false, true]),
    ("perplexity", [true, true, true]),
    ("calibration", [true, true, true]),
];

/// How a run is scored.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let evaluate = EvaluateConfig { metrics: vec!["bleu".into()], pictures: Some(50), ..EvaluateConfig::default() };
/// let run = RunConfig { evaluate, ..RunConfig::new("runs/a", ModelConfig::preset("tiny"), DataConfig::shapes())? };
/// let toml = run.to_toml()?;
/// assert_eq!(RunConfig::parse(&toml, "run.toml")?.evaluate.pictures, Some(50));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// Metrics by name; none named: all that fit the data.
    pub metrics: Vec<String>,
    /// The first readable held-out pictures; none: all.
    pub pictures: Option<usize>,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Whether the model is asked with a black and with another picture too, and the most frequent caption is scored.
    pub baselines: bool,
    /// So many held-out pictures are captioned whenever the validation loss is measured: shown, and kept in `captions.jsonl`.
    pub watch: usize,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            metrics: Vec::new(),
            pictures: Some(200),
            max_new_tokens: 40,
            baselines: true,
            watch: 4,
        }
    }
}

impl EvaluateConfig {
    pub(super) fn check(&self) -> Result<()> {
        let names: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
        if let Some(unknown) = self
            .metrics
            .iter()
            .find(|name| !names.contains(&name.as_str()))
        {
            let meant = match nearest::nearest(unknown, &names) {
                Some(meant) => format!(" did you mean {meant:?}?"),
                None => String::new(),
            };
            return Err(Error::Config(format!(
                "evaluate.metrics: there is no metric {unknown:?}:{meant} there are {}",
                names.join(", ")
            )));
        }
        match (self.pictures, self.max_new_tokens) {
            (Some(0), _) => Err(Error::Config(
                "evaluate.pictures is 0: it must be at least 1, or \"none\" for all".into(),
            )),
            (_, 0) => Err(Error::Config(
                "evaluate.max_new_tokens is 0: it must be at least 1".into(),
            )),
            _ => Ok(()),
        }
    }

    /// The evaluation, with the most frequent caption of what was learned from as a baseline.
    pub(super) fn evaluator(&self, data: &DataConfig, train: &Set, seed: u64) -> Result<Evaluator> {
        let fits = match (data.asks(), data.is_captioned_shapes()) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 0,
        };
        let usual = METRICS
            .iter()
            .filter(|(_, kinds)| kinds[fits])
            .map(|(name, _)| *name);
        let names: Vec<&str> = match self.metrics.is_empty() {
            true => usual.collect(),
            false => self.metrics.iter().map(String::as_str).collect(),
        };
        let evaluator = names
            .into_iter()
            .try_fold(Evaluator::new(), |evaluator, name| {
                Ok(match name {
                    "bleu" => evaluator.metric(Bleu::default()),
                    "rouge_l" => evaluator.metric(RougeL::default()),
                    "cider_d" => evaluator.metric(CiderD::default()),
                    "meteor_exact" => evaluator.metric(MeteorExact::default()),
                    "exact_match" => evaluator.metric(ExactMatch),
                    "vqa_accuracy" => evaluator.metric(VqaAccuracy),
                    "yes_no" => evaluator.metric(YesNo),
                    "attributes" => evaluator.metric(AttributeAccuracy),
                    "perplexity" => evaluator.metric(Perplexity),
                    "calibration" => evaluator.metric(Calibration),
                    other => return Err(Error::Config(format!("there is no metric {other:?}"))),
                })
            })?;
        let evaluator = evaluator.max_new_tokens(self.max_new_tokens).seed(seed);
        let evaluator = match self.pictures {
            Some(pictures) => evaluator.pictures(pictures),
            None => evaluator,
        };
        let references = train.references();
        Ok(match self.baselines {
            true => evaluator.usual_captions(references.iter().map(String::as_str)),
            false => evaluator.without_baselines(),
        })
    }
}
