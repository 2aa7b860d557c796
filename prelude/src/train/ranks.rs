//! What trainers of several processes tell each other: whether they are at the same run, the first weights, what rank 0 decides.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::log::StepRecord;
use super::set::TrainingSet;
use super::step::Picked;
use super::trainer::{Run, Trainer};
use super::validation::HeldOut;
use crate::nn::Parameter;
use crate::parallel::group::Group;
use crate::vlm::Vlm;
use crate::vlm::fingerprint::Fingerprints;
use crate::{Error, Result, fnv, notes};

/// Settings that each rank may have for itself.
const OWN: [&str; 9] = [
    "run",
    "log",
    "checkpoints",
    "quiet",
    "workers",
    "prefetch",
    "cache_megabytes",
    "features",
    "pictures",
];

/// What helps ranks that differ.
const ALIKE: &str = "give all ranks the same files and settings";

/// What rank 0 decides after a step, for all: figures as bits, so that they arrive as they were.
#[derive(serde::Serialize, serde::Deserialize)]
struct Decided {
    rate_factor: u64,
    stopped: Option<String>,
    metrics: BTreeMap<String, u64>,
}

impl Trainer {
    /// Refuses what can't be done by several ranks.
    pub(super) fn check_ranks(&self, group: &Group) -> Result<()> {
        if group.ranks() == 1 {
            return Ok(());
        }
        let samples = self.config.samples_a_step();
        if samples < group.ranks() {
            return Err(Error::Config(format!(
                "trainer: a step has {samples} samples (batch_size × accumulate), and {} ranks share them: raise batch_size, or start \
                 fewer ranks",
                group.ranks()
            )));
        }
        Ok(())
    }

    /// Makes sure that all ranks are at the same step of the same run with the same weights: what differs is refused, the weights that
    /// train are those of rank 0.
    pub(super) fn agree_on_all(
        &mut self,
        group: &Group,
        vlm: &Vlm,
        (train, validation): (&dyn TrainingSet, &dyn TrainingSet),
        parameters: &[Parameter],
    ) -> Result<()> {
        if group.ranks() == 1 {
            return Ok(());
        }
        let hashes = self.hashes(vlm, (train, validation), parameters);
        group.same(&group.agree(hashes)?, ALIKE)?;
        self.rate_factor = f64::from_bits(group.gather(self.rate_factor.to_bits())?[0]);
        for parameter in parameters {
            let Some(var) = &parameter.var else { continue };
            let values = var.as_tensor().detach().to_dtype(DType::F32)?;
            let values = values.flatten_all()?.to_vec1::<f32>()?;
            let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
            group.broadcast(&mut bytes)?;
            if !group.leads() {
                let (chunks, _) = bytes.as_chunks::<4>();
                let values: Vec<f32> = chunks.iter().map(|c| f32::from_ne_bytes(*c)).collect();
                let values = Tensor::from_vec(values, var.dims(), var.device())?;
                var.set(&values.to_dtype(var.dtype())?)?;
            }
        }
        if group.leads() {
            notes::say(&format!(
                "{} ranks train together, over {}: each takes its part of a step's {} samples",
                group.ranks(),
                group.library(),
                self.config.samples_a_step()
            ));
        }
        Ok(())
    }

    /// What must be the same on all ranks.
    fn hashes(
        &self,
        vlm: &Vlm,
        (train, validation): (&dyn TrainingSet, &dyn TrainingSet),
        parameters: &[Parameter],
    ) -> Result<Vec<(&'static str, u64)>> {
        let text = |text: &str| fnv::bytes(fnv::START, text.as_bytes());
        let json = |error: serde_json::Error| Error::Config(format!("trainer: {error}"));
        let mut settings = serde_json::to_value(&self.config).map_err(json)?;
        if let Some(fields) = settings.as_object_mut() {
            OWN.iter().for_each(|name| _ = fields.remove(*name));
        }
        let model = serde_json::to_string(&*vlm.settings).map_err(json)?;
        let shapes = parameters.iter().fold(text(&model), |hash, parameter| {
            let shape = format!("{} {:?}", parameter.name, parameter.tensor.dims());
            fnv::bytes(hash, shape.as_bytes())
        });
        let data = [train, validation]
            .into_iter()
            .fold(fnv::START, |hash, set| {
                let words = format!("{} {:?}", set.len(), set.fingerprint());
                fnv::bytes(hash, words.as_bytes())
            });
        let base = serde_json::to_string(&Fingerprints::of(vlm)?).map_err(json)?;
        let last = self
            .records
            .last()
            .map_or(0, |record| record.loss.to_bits());
        Ok(vec![
            ("trainer's settings", text(&settings.to_string())),
            ("model's settings or parameters", shapes),
            ("base model", text(&base)),
            ("data", data),
            ("step", self.step as u64),
            ("record of the last step", last),
        ])
    }

    /// Refuses a step for which ranks have read other samples, which is so where one of them can't read a file.
    pub(super) fn same_samples(&self, run: &Run<'_>, picked: &[Picked]) -> Result<()> {
        let hash = picked.iter().fold(fnv::START, |hash, one| {
            let answers = one.prompt.answer_ids();
            let hash = fnv::step(hash, one.position as u64);
            answers
                .iter()
                .fold(hash, |hash, id| fnv::step(hash, u64::from(*id)))
        });
        let hashes = run.group.gather(hash)?;
        let left_out = run.group.gather(run.left_out.list().len() as u64)?;
        if hashes.iter().all(|other| *other == hashes[0]) {
            return Ok(());
        }
        // Who left out most is the one that lacks something.
        let most = left_out.iter().max().copied().unwrap_or_default();
        let alike = left_out.iter().all(|count| *count == most);
        let rank = match alike {
            true => hashes.iter().position(|other| *other != hashes[0]),
            false => left_out.iter().position(|count| *count == most),
        };
        let outcome = match rank == Some(run.group.rank()) {
            false => Ok(()),
            true => {
                let why = match run.left_out.list().last().filter(|_| !alike) {
                    Some(one) => format!("it can't use {one}"),
                    None => "its data is another".to_owned(),
                };
                Err(Error::Input(format!(
                    "in step {} it reads other samples than the others: {why}; give every rank the same files",
                    self.step + 1
                )))
            }
        };
        run.group.agree(outcome)
    }

    /// Refuses held-out samples that are not the same on all ranks.
    pub(super) fn same_held_out(&self, group: &Group, held_out: &HeldOut) -> Result<()> {
        if group.ranks() == 1 {
            return Ok(());
        }
        let hash = held_out.prompts().fold(fnv::START, |hash, prompt| {
            let answers = prompt.answer_ids();
            let hash = fnv::step(hash, answers.len() as u64);
            answers
                .iter()
                .fold(hash, |hash, id| fnv::step(hash, u64::from(*id)))
        });
        group.same(
            &[("list of held-out samples that can be read", hash)],
            ALIKE,
        )
    }

    /// Seconds that each rank waited for the others; nothing for one process.
    pub(super) fn waited_for_ranks(&self, group: &Group) -> Result<Vec<f64>> {
        if group.ranks() == 1 {
            return Ok(Vec::new());
        }
        let bits = group.gather(group.waited().to_bits())?;
        Ok(bits.into_iter().map(f64::from_bits).collect())
    }

    /// Has what callbacks decided on rank 0 count on all.
    pub(super) fn share_decisions(&mut self, group: &Group, record: &mut StepRecord) -> Result<()> {
        if group.ranks() == 1 {
            return Ok(());
        }
        let decided = Decided {
            rate_factor: self.rate_factor.to_bits(),
            stopped: self.stopped.clone(),
            metrics: bits(&record.metrics),
        };
        let decided: Decided = shared(group, &decided)?;
        self.rate_factor = f64::from_bits(decided.rate_factor);
        self.stopped = decided.stopped;
        record.metrics = figures(decided.metrics);
        Ok(())
    }
}

/// Has all ranks know the figures that rank 0 measured.
pub(super) fn share_metrics(group: &Group, metrics: &mut BTreeMap<String, f64>) -> Result<()> {
    if group.ranks() > 1 {
        *metrics = figures(shared(group, &bits(metrics))?);
    }
    Ok(())
}

fn bits(metrics: &BTreeMap<String, f64>) -> BTreeMap<String, u64> {
    let pairs = metrics.iter();
    pairs.map(|(name, v)| (name.clone(), v.to_bits())).collect()
}

fn figures(bits: BTreeMap<String, u64>) -> BTreeMap<String, f64> {
    let pairs = bits.into_iter();
    pairs.map(|(name, v)| (name, f64::from_bits(v))).collect()
}

/// Rank 0's value, on all ranks.
fn shared<T: serde::Serialize + serde::de::DeserializeOwned>(group: &Group, own: &T) -> Result<T> {
    let json = |error: serde_json::Error| Error::Parallel(format!("what rank 0 decided: {error}"));
    let text = serde_json::to_string(own).map_err(json)?;
    serde_json::from_str(&group.text_of_first(&text)?).map_err(json)
}
