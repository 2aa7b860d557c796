//! Stage 3, the loss: how well the model predicts a caption's next token from picture and prefix.
//!
//! [`Vlm::random_prefix_loss`] is the blog's: one token a caption, at a random `predict_at_index`, from a forward pass over
//! the tokens before it. [`Vlm::full_sequence_loss`] gets every token of the caption from *one* forward pass, because
//! attention is causal; its value is the mean of the random-prefix loss over all indices.

use super::Vlm;
use super::concatenate::Query;
use super::settings::{BosPlacement, Targets};
use crate::language::{LlmProcessor, LogitsAt, Phi3Input};
use crate::nn::cross_entropy_rows;
use crate::{Error, Result};
use candle_core::Tensor;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Pictures with the token ids of one caption each, and what is asked about them.
#[derive(Clone)]
pub struct CaptionBatch {
    /// `[B, 3, H, W]`, or a batch of what another encoder takes.
    pub pixel_values: Tensor,
    /// One list of token ids a picture; lengths may differ.
    pub caption_ids: Vec<Vec<u32>>,
    /// What stands between picture and caption.
    pub query: Query,
}

/// A loss with what it was computed from.
#[derive(Clone)]
pub struct LossOutput {
    /// Mean cross-entropy in nats, a scalar with gradient.
    pub loss: Tensor,
    /// Cross-entropy of each target, `[N]`.
    pub cross_entropy: Tensor,
    /// Logits from which each target was predicted, `[N, V]`.
    pub logits: Tensor,
    /// The targets.
    pub targets: Vec<u32>,
    /// (picture, index in its caption) of each target.
    pub places: Vec<(usize, usize)>,
    /// Tokens that the language model read, image tokens included, padding left out.
    pub tokens: usize,
    /// Names the tokens where the loss is shown.
    pub(super) words: LlmProcessor,
}

impl LossOutput {
    /// The loss as a number.
    ///
    /// # Errors
    /// When the tensor cannot be read.
    pub fn value(&self) -> Result<f32> {
        Ok(self.loss.to_scalar::<f32>()?)
    }
}

impl Vlm {
    /// Token ids of a caption as the loss uses them: by the settings with or without `<s>` in front and the
    /// end-of-sequence token behind.
    ///
    /// # Errors
    /// For a caption without words.
    pub fn caption_ids(&self, caption: &str) -> Result<Vec<u32>> {
        let caption = caption.trim();
        if caption.is_empty() {
            return Err(Error::Input(
                "a caption is empty: leave the sample out or give it words".into(),
            ));
        }
        let mut ids = match self.settings.bos {
            BosPlacement::EveryString => self.llm_processor.encode(caption)?,
            BosPlacement::Once => self.llm_processor.encode_plain(caption)?,
        };
        if self.settings.targets == Targets::AllAndEos {
            ids.extend(self.llm_processor.eos_id());
        }
        Ok(ids)
    }

    /// Puts pictures and captions together for a loss, with the model's own query.
    ///
    /// # Errors
    /// When their numbers differ or are zero, or a caption is empty.
    pub fn caption_batch<S: AsRef<str>>(
        &self,
        pixel_values: &Tensor,
        captions: &[S],
    ) -> Result<CaptionBatch> {
        let caption_ids = captions
            .iter()
            .map(|caption| self.caption_ids(caption.as_ref()))
            .collect::<Result<_>>()?;
        Ok(CaptionBatch {
            pixel_values: pixel_values.clone(),
            caption_ids,
            query: Query::Vector,
        })
    }

    /// Indices of a caption of `length` token ids that can be targets.
    pub fn target_range(&self, length: usize) -> Range<usize> {
        match self.settings.targets {
            Targets::Middle => 1..length.saturating_sub(1).max(2).min(length.max(1)),
            Targets::AllAndEos => 0..length,
        }
    }

    /// The blog's loss: for each picture one target, at an index drawn from `rng`.
    ///
    /// # Errors
    /// For no pictures, an empty caption, or a caption that does not fit the context.
    pub fn random_prefix_loss(
        &self,
        pixel_values: &Tensor,
        captions: &[String],
        rng: &mut ChaCha8Rng,
    ) -> Result<LossOutput> {
        let batch = self.caption_batch(pixel_values, captions)?;
        let indices = batch
            .caption_ids
            .iter()
            .map(|ids| {
                let range = self.target_range(ids.len());
                if range.is_empty() {
                    Err(too_short(ids.len()))
                } else {
                    Ok(rng.random_range(range))
                }
            })
            .collect::<Result<Vec<_>>>()?;
        self.random_prefix_loss_at(&batch, &indices)
    }

    /// As [`Vlm::random_prefix_loss`], with given indices, one a picture.
    ///
    /// # Errors
    /// When an index is not below its caption's length; and as [`Vlm::random_prefix_loss`].
    pub fn random_prefix_loss_at(
        &self,
        batch: &CaptionBatch,
        predict_at_index: &[usize],
    ) -> Result<LossOutput> {
        check_batch(batch)?;
        if predict_at_index.len() != batch.caption_ids.len() {
            return Err(Error::Input(format!(
                "{} indices for {} captions",
                predict_at_index.len(),
                batch.caption_ids.len()
            )));
        }
        let places: Vec<(usize, usize)> = predict_at_index.iter().copied().enumerate().collect();
        let weight = 1.0 / places.len() as f32;
        self.loss_at(batch, &places, &vec![weight; places.len()])
    }

    /// The loss of every target of every caption from one forward pass: the mean over the captions of the mean over each
    /// caption's targets.
    ///
    /// # Errors
    /// For no pictures, an empty caption, or a caption that does not fit the context.
    pub fn full_sequence_loss(
        &self,
        pixel_values: &Tensor,
        captions: &[String],
    ) -> Result<LossOutput> {
        self.full_sequence_loss_of(&self.caption_batch(pixel_values, captions)?)
    }

    /// As [`Vlm::full_sequence_loss`], for token ids.
    ///
    /// # Errors
    /// As [`Vlm::full_sequence_loss`].
    pub fn full_sequence_loss_of(&self, batch: &CaptionBatch) -> Result<LossOutput> {
        check_batch(batch)?;
        let captions = batch.caption_ids.len() as f32;
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        for (b, ids) in batch.caption_ids.iter().enumerate() {
            let range = self.target_range(ids.len());
            if range.is_empty() {
                return Err(too_short(ids.len()));
            }
            weights.extend(std::iter::repeat_n(
                1.0 / (captions * range.len() as f32),
                range.len(),
            ));
            places.extend(range.map(|index| (b, index)));
        }
        self.loss_at(batch, &places, &weights)
    }

    /// Weighted sum of the cross-entropies at (picture, index in its caption) places.
    fn loss_at(
        &self,
        batch: &CaptionBatch,
        places: &[(usize, usize)],
        weights: &[f32],
    ) -> Result<LossOutput> {
        let captions = &batch.caption_ids;
        // Nothing behind the last target's predecessor has a say: it is not even fed in.
        let mut prefixes: Vec<Vec<u32>> = vec![Vec::new(); captions.len()];
        for &(b, index) in places {
            let ids = &captions[b];
            if index >= ids.len() {
                return Err(Error::Input(format!(
                    "predict_at_index is {index}, caption {b} has only {} tokens",
                    ids.len()
                )));
            }
            if index > prefixes[b].len() {
                prefixes[b] = ids[..index].to_vec();
            }
        }
        let image_tokens = self.image_tokens(&batch.pixel_values)?; // [B, P, D]
        let sequence = self.concatenate(&image_tokens, &batch.query, &prefixes)?; // [B, T, D]
        let rows = places
            .iter()
            .map(|&(b, index)| (b, sequence.prompt_lengths[b] + index - 1))
            .collect();
        let input = Phi3Input::embeds(&sequence.inputs_embeds).logits_at(LogitsAt::Chosen(rows));
        let output = self.llm.forward(&input)?;
        let logits = output.logits()?; // [N, V]
        let targets: Vec<u32> = places
            .iter()
            .map(|&(b, index)| captions[b][index])
            .collect();
        let cross_entropy = cross_entropy_rows(logits, &targets)?; // [N]
        let weights = Tensor::new(weights, cross_entropy.device())?; // [N]
        let loss = (&cross_entropy * weights)?.sum_all()?;
        Ok(LossOutput {
            loss,
            cross_entropy: cross_entropy.detach(),
            logits: logits.detach(),
            targets,
            places: places.to_vec(),
            tokens: sequence.lengths.iter().sum(),
            words: self.llm_processor.clone(),
        })
    }
}

fn check_batch(batch: &CaptionBatch) -> Result<()> {
    let (pictures, captions) = (
        batch.pixel_values.dims().first().copied().unwrap_or(0),
        batch.caption_ids.len(),
    );
    if pictures == 0 || captions == 0 {
        return Err(Error::Input(
            "a batch of no pictures: give at least one".into(),
        ));
    }
    if pictures != captions {
        return Err(Error::Input(format!(
            "{captions} captions for {pictures} pictures: give one each"
        )));
    }
    Ok(())
}

fn too_short(length: usize) -> Error {
    Error::Input(format!(
        "a caption of {length} tokens has no target: the blog's range needs at least two, `Targets::AllAndEos` needs one"
    ))
}
