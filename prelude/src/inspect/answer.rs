//! How sure a model is of a prompt's answer, as a number that an instrument asks for many times: the encoders run once, the language
//! model each time.

use crate::error::{Error, Result};
use crate::language::LogitsAt;
use crate::nn::cross_entropy_rows;
use crate::vlm::loss::all_targets;
use crate::vlm::{Prompt, Sequence, Vlm};
use candle_core::{DType, Tensor};

/// A prompt with its answer, embedded.
pub(super) struct AskedAnswer<'a> {
    vlm: &'a Vlm,
    /// Up to the token before the last target.
    pub sequence: Sequence,
    /// Where each target is predicted.
    pub places: Vec<(usize, usize)>,
    pub targets: Vec<u32>,
}

impl<'a> AskedAnswer<'a> {
    /// # Errors
    /// [`Error::NoTarget`] for a prompt without one, and as [`Vlm::sequence`].
    pub fn new(vlm: &'a Vlm, prompt: &Prompt) -> Result<Self> {
        let indices = all_targets(std::slice::from_ref(prompt))?.concat();
        let answers = prompt.answer_ids();
        let last = indices.iter().copied().max().unwrap_or_default();
        let sequence = vlm.sequence(&[prompt.until(last)])?; // [1, T, D]
        let place = |&index: &usize| match sequence.answer_place(0, index) {
            Some(place) if place > 0 => Ok((0, place - 1)),
            _ => Err(Error::Input(
                "the prompt begins with its answer: give it something to predict it from".into(),
            )),
        };
        let places = indices.iter().map(place).collect::<Result<_>>()?;
        Ok(Self {
            vlm,
            places,
            targets: indices.iter().map(|&index| answers[index]).collect(),
            sequence,
        })
    }

    /// The mean log-probability of the answer's tokens in nats, from one pass of the language model.
    ///
    /// # Errors
    /// Those of the pass.
    pub fn log_probability(&self) -> Result<f64> {
        let at = LogitsAt::Chosen(self.places.clone());
        let output = self.vlm.llm.forward(&self.sequence.input().logits_at(at))?;
        let losses = cross_entropy_rows(output.logits()?, &self.targets)?; // [N]
        mean_log_probability(&losses)
    }

    /// The answer as words.
    pub fn words(&self) -> Result<String> {
        Ok(self
            .vlm
            .llm_processor
            .decode(&self.targets)?
            .trim()
            .to_owned())
    }

    /// What stands at each token.
    pub fn tokens(&self) -> Vec<String> {
        let parts = self.sequence.segments.first().into_iter().flatten();
        parts.flat_map(|(_, words)| words.iter().cloned()).collect()
    }
}

/// Of cross-entropies, `[N]`.
pub(super) fn mean_log_probability(losses: &Tensor) -> Result<f64> {
    Ok(-losses
        .to_dtype(DType::F64)?
        .mean_all()?
        .to_scalar::<f64>()?)
}
