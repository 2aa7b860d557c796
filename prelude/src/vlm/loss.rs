//! Stage 3, the loss: how well the model predicts the target ids of prompts, a caption's next token from picture and prefix.
//!
//! ```text
//! prompts ─ which targets ─► each prompt up to its last one ─ sequence ─► llm ─► logits one place before each target ─► loss
//! ```
//! [`Vlm::random_prefix_loss`] is the blog's: one token a caption, at a random `predict_at_index`, from a forward pass over
//! the tokens before it. [`Vlm::full_sequence_loss`] gets every token of the caption from *one* forward pass, because
//! attention is causal; its value is the mean of the random-prefix loss over all indices.

use super::Vlm;
use super::prompt::{Piece, Prompt, Seen};
use super::query::Query;
use super::settings::{BosPlacement, Targets};
use crate::language::{LlmProcessor, LogitsAt};
use crate::nn::{cross_entropy_rows, dropout};
use crate::{Error, Result};
use candle_core::Tensor;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Pictures with the token ids of one caption each, and what is asked about them.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let images = [Image::filled(80, 80, [200, 30, 40])?, Image::filled(80, 80, [30, 40, 200])?];
/// let pixel_values = vlm.image_processor.preprocess_batch(&images)?; // [2, 3, 80, 80]
/// let batch = vlm.caption_batch(&pixel_values, &["a red square", "a blue square"])?;
/// assert_eq!(batch.caption_ids.len(), 2);
/// assert!(vlm.full_sequence_loss_of(&batch)?.value()? > 0.0);
/// # Ok(()) }
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// let output = vlm.full_sequence_loss_of(&prompt)?;
/// assert_eq!(output.targets.len(), 4); // three words and the end
/// assert_eq!(output.cross_entropy.dims(), [4]); // how wrong each was guessed
/// let gradients = output.loss.backward()?;
/// assert!(vlm.start_vec.var().is_some_and(|var| gradients.get(var).is_some()));
/// # Ok(()) }
/// ```
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
    /// (prompt, index among the ids of its answers) of each target: for captions (picture, index in its caption).
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let ids = vlm.caption_ids("a red square")?;
    /// assert_eq!(ids.len(), 4); // three words and the end, which is a target as well
    /// assert_eq!(vlm.llm_processor.decode(&ids)?, "a red square");
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let pixel_values = vlm.image_processor.preprocess(&Image::filled(80, 80, [200, 30, 40])?)?;
    /// let batch = vlm.caption_batch(&pixel_values, &["a red square"])?;
    /// assert_eq!(batch.caption_ids[0].len(), 4);
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// assert_eq!(vlm.target_range(4), 0..4); // every word and the end
    /// vlm.set_targets(Targets::Middle); // the blog's
    /// assert_eq!(vlm.target_range(4), 1..3);
    /// # Ok(()) }
    /// ```
    pub fn target_range(&self, length: usize) -> Range<usize> {
        match self.settings.targets {
            Targets::Middle => 1..length.saturating_sub(1).max(2).min(length.max(1)),
            Targets::AllAndEos => 0..length,
        }
    }

    /// The blog's loss: for each picture one target, at an index drawn from `rng`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let pixel_values = vlm.image_processor.preprocess(&Image::filled(80, 80, [200, 30, 40])?)?;
    /// let mut rng = ChaCha8Rng::seed_from_u64(1);
    /// let output = vlm.random_prefix_loss(&pixel_values, &["a red square".to_string()], &mut rng)?;
    /// assert_eq!(output.targets.len(), 1); // one word of the caption, at random
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For no pictures, an empty caption, or a caption that does not fit the context.
    pub fn random_prefix_loss(
        &self,
        pixel_values: &Tensor,
        captions: &[String],
        rng: &mut ChaCha8Rng,
    ) -> Result<LossOutput> {
        self.random_prefix_loss_of(&self.caption_batch(pixel_values, captions)?, rng)
    }

    /// As [`Vlm::random_prefix_loss`], for any prompts: one target of each, drawn from `rng`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let prompt = vlm.question_prompt(&Image::filled(80, 80, [200, 30, 40])?, "What is this?", "a square")?;
    /// let output = vlm.random_prefix_loss_of(&prompt, &mut ChaCha8Rng::seed_from_u64(1))?;
    /// assert_eq!(output.targets.len(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTarget`] for prompts without a target; and as [`Vlm::sequence`].
    pub fn random_prefix_loss_of(
        &self,
        batch: &dyn PromptBatch,
        rng: &mut ChaCha8Rng,
    ) -> Result<LossOutput> {
        let prompts = batch.prompts(self)?;
        let draw = |targets: Vec<usize>| targets[rng.random_range(0..targets.len())];
        let indices: Vec<usize> = all_targets(&prompts)?.into_iter().map(draw).collect();
        let places: Vec<(usize, usize)> = indices.into_iter().enumerate().collect();
        self.loss_at(&prompts, &places, &mean(places.len()), 0.0)
    }

    /// As [`Vlm::random_prefix_loss`], with given indices, one a picture.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let pixel_values = vlm.image_processor.preprocess(&Image::filled(80, 80, [200, 30, 40])?)?;
    /// let batch = vlm.caption_batch(&pixel_values, &["a red square"])?;
    /// let output = vlm.random_prefix_loss_at(&batch, &[1])?; // the second word, from image, query and the first
    /// assert_eq!(vlm.llm_processor.decode(&output.targets)?, "red");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When an index is not below its caption's length; and as [`Vlm::random_prefix_loss`].
    pub fn random_prefix_loss_at(
        &self,
        batch: &CaptionBatch,
        predict_at_index: &[usize],
    ) -> Result<LossOutput> {
        let prompts = batch.prompts(self)?;
        if predict_at_index.len() != prompts.len() {
            return Err(Error::Input(format!(
                "{} indices for {} captions",
                predict_at_index.len(),
                prompts.len()
            )));
        }
        let places: Vec<(usize, usize)> = predict_at_index.iter().copied().enumerate().collect();
        self.loss_at(&prompts, &places, &mean(places.len()), 0.0)
    }

    /// The loss of every target of every caption from one forward pass: the mean over the captions of the mean over each
    /// caption's targets.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let pixel_values = vlm.image_processor.preprocess(&Image::filled(80, 80, [200, 30, 40])?)?;
    /// let output = vlm.full_sequence_loss(&pixel_values, &["a red square".to_string()])?;
    /// assert_eq!(output.targets.len(), 4); // all words and the end, in one forward pass
    /// # Ok(()) }
    /// ```
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

    /// As [`Vlm::full_sequence_loss`], for any prompts: one, a list of them, or a [`CaptionBatch`].
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let prompt = vlm.question_prompt(&Image::filled(80, 80, [200, 30, 40])?, "What is this?", "a square")?;
    /// assert!(vlm.full_sequence_loss_of(&prompt)?.value()? > 0.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTarget`] for prompts without a target; and as [`Vlm::sequence`].
    pub fn full_sequence_loss_of(&self, batch: &dyn PromptBatch) -> Result<LossOutput> {
        self.smoothed_loss_of(batch, 0.0)
    }

    /// As [`Vlm::full_sequence_loss_of`], of a target that is `smoothing` parts any token and for the rest the right one: the
    /// model is told not to be too sure. 0.1 is usual.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let prompt = vlm.caption_prompt(&image, "a red square")?;
    /// let smoothed = vlm.smoothed_loss_of(&prompt, 0.1)?.value()?;
    /// # assert_ne!(smoothed, vlm.full_sequence_loss_of(&prompt)?.value()?);
    /// let config = TrainerConfig { label_smoothing: 0.1, steps: 1, batch_size: 1, ..TrainerConfig::tour() };
    /// Trainer::new(config)?.fit(&vlm, &vec![prompt.clone()], &vec![prompt])?; // the same in a trainer
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For a `smoothing` outside of 0 to 1; and as [`Vlm::full_sequence_loss_of`].
    pub fn smoothed_loss_of(&self, batch: &dyn PromptBatch, smoothing: f64) -> Result<LossOutput> {
        if !(0.0..=1.0).contains(&smoothing) {
            return Err(Error::Input(format!(
                "label smoothing is {smoothing}, it must be a part from 0 (none) to 1"
            )));
        }
        let prompts = batch.prompts(self)?;
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        for (b, targets) in all_targets(&prompts)?.into_iter().enumerate() {
            let weight = 1.0 / (prompts.len() as f32 * targets.len() as f32);
            weights.extend(std::iter::repeat_n(weight, targets.len()));
            places.extend(targets.into_iter().map(|index| (b, index)));
        }
        self.loss_at(&prompts, &places, &weights, smoothing)
    }

    /// Weighted sum of the cross-entropies at (prompt, index among its answer ids) places.
    pub(crate) fn loss_at(
        &self,
        prompts: &[Prompt],
        places: &[(usize, usize)],
        weights: &[f32],
        smoothing: f64,
    ) -> Result<LossOutput> {
        self.loss_in_rows(prompts, places, weights, (smoothing, None))
    }

    /// As [`Vlm::loss_at`]; with `packed`, prompts share rows of at most so many tokens.
    pub(crate) fn loss_in_rows(
        &self,
        prompts: &[Prompt],
        places: &[(usize, usize)],
        weights: &[f32],
        (smoothing, packed): (f64, Option<usize>),
    ) -> Result<LossOutput> {
        let answers: Vec<Vec<u32>> = prompts.iter().map(Prompt::answer_ids).collect();
        let mut last = vec![0; prompts.len()];
        for &(b, index) in places {
            if index >= answers[b].len() {
                return Err(Error::Input(format!(
                    "predict_at_index is {index}, caption {b} has only {} tokens",
                    answers[b].len()
                )));
            }
            last[b] = last[b].max(index);
        }
        // Nothing behind the last target's predecessor has a say: it is not even fed in.
        let read = prompts
            .iter()
            .zip(&last)
            .map(|(prompt, &index)| prompt.until(index));
        let read = read.collect::<Vec<_>>();
        let before = |b: usize, place: Option<usize>| match place {
            Some(place) if place > 0 => Ok(place - 1),
            _ => Err(Error::Input(format!(
                "prompt {b} begins with a target: give it something to predict it from"
            ))),
        };
        let (input, rows, tokens, _own) = match packed {
            None => {
                let sequence = self.sequence(&read)?; // [B, T, D]
                let starts: Vec<(usize, usize)> = (0..read.len()).map(|b| (b, 0)).collect();
                let own = dropout_rows(&starts, (read.len(), sequence.inputs_embeds.dim(1)?));
                let row = |&(b, index): &(usize, usize)| {
                    Ok((b, before(b, sequence.answer_place(b, index))?))
                };
                let rows = places.iter().map(row).collect::<Result<_>>()?;
                (sequence.input(), rows, sequence.lengths.iter().sum(), own)
            }
            Some(most) => {
                let packed = self.packed(&read, most)?; // [R, T, D]
                let row = |&(b, index): &(usize, usize)| {
                    let (row, start) = packed.places[b];
                    let place = before(b, packed.layouts[b].answer_place(index))?;
                    Ok((row, start + place))
                };
                let rows = places.iter().map(row).collect::<Result<_>>()?;
                let own = dropout_rows(&packed.places, packed.size);
                (packed.input, rows, packed.tokens, own)
            }
        };
        let output = self.llm.forward(&input.logits_at(LogitsAt::Chosen(rows)))?;
        let logits = output.logits()?; // [N, V]
        let targets: Vec<u32> = places.iter().map(|&(b, index)| answers[b][index]).collect();
        let cross_entropy = cross_entropy_rows(logits, &targets)?; // [N]
        let weights = Tensor::new(weights, cross_entropy.device())?; // [N]
        let asked = smoothed(&cross_entropy, logits, &targets, smoothing)?; // [N]
        let loss = (asked * weights)?.sum_all()?;
        Ok(LossOutput {
            loss,
            cross_entropy: cross_entropy.detach(),
            logits: logits.detach(),
            targets,
            places: places.to_vec(),
            tokens,
            words: self.llm_processor.clone(),
        })
    }
}

/// Has dropout know of whom each token of `[R, T]` is: of each prompt the row and its first token there.
fn dropout_rows(starts: &[(usize, usize)], (rows, tokens): (usize, usize)) -> dropout::Restore {
    dropout::rows(starts.len(), |seeds| {
        let mut prompts: Vec<_> = starts.iter().zip(seeds).collect();
        prompts.sort_by_key(|((_, start), _)| *start);
        let mut keys = vec![0; rows * tokens];
        for (&(row, start), &seed) in prompts {
            // Up to the row's end: who comes behind, or padding, is written over it.
            for (at, key) in keys[row * tokens + start..(row + 1) * tokens]
                .iter_mut()
                .enumerate()
            {
                *key = dropout::key(seed, at);
            }
        }
        keys
    })
}

/// What a loss is taken of: prompts, or something that becomes prompts.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let red = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// let blue = vlm.caption_prompt(&Image::filled(80, 80, [30, 40, 200])?, "a large blue square")?;
/// let loss = vlm.full_sequence_loss_of(&[red, blue])?; // prompts in an array or a `Vec`, or one alone
/// assert_eq!(loss.targets.len(), 4 + 5); // words of both captions, and the end of each
/// # Ok(()) }
/// ```
pub trait PromptBatch {
    /// The prompts; a loss of none is refused.
    ///
    /// # Errors
    /// When what they are made of does not fit together.
    fn prompts(&self, vlm: &Vlm) -> Result<Vec<Prompt>>;
}

impl PromptBatch for Prompt {
    fn prompts(&self, _: &Vlm) -> Result<Vec<Prompt>> {
        Ok(vec![self.clone()])
    }
}

impl PromptBatch for Vec<Prompt> {
    fn prompts(&self, _: &Vlm) -> Result<Vec<Prompt>> {
        Ok(self.clone())
    }
}

impl PromptBatch for &[Prompt] {
    fn prompts(&self, _: &Vlm) -> Result<Vec<Prompt>> {
        Ok(self.to_vec())
    }
}

impl<const N: usize> PromptBatch for [Prompt; N] {
    fn prompts(&self, _: &Vlm) -> Result<Vec<Prompt>> {
        Ok(self.to_vec())
    }
}

impl PromptBatch for CaptionBatch {
    /// start | image | end | query | caption
    fn prompts(&self, vlm: &Vlm) -> Result<Vec<Prompt>> {
        check_batch(self)?;
        let inputs = Piece::rows(&self.pixel_values, Seen::Prepared)?;
        let prompts = vlm.caption_prompts(inputs, &self.query)?;
        let prompts = prompts.into_iter().zip(&self.caption_ids);
        let whole = prompts.map(|(prompt, ids)| prompt.target_in(ids, vlm.target_range(ids.len())));
        Ok(whole.collect())
    }
}

/// The mean over `count`.
fn mean(count: usize) -> Vec<f32> {
    vec![1.0 / count as f32; count]
}

/// The targets of each prompt, at least one each.
pub(crate) fn all_targets(prompts: &[Prompt]) -> Result<Vec<Vec<usize>>> {
    let targets: Vec<Vec<usize>> = prompts.iter().map(Prompt::target_places).collect();
    let without = (0..prompts.len()).filter(|&b| targets[b].is_empty());
    let without: Vec<String> = without
        .map(|b| match prompts[b].answer_ids().len() {
            0 => format!("prompt {b}, which has no answer"),
            length => format!("prompt {b}, whose answer has the length {length}"),
        })
        .collect();
    match without.is_empty() {
        true => Ok(targets),
        false => Err(no_target(without)),
    }
}

pub(super) fn no_target(samples: Vec<String>) -> Error {
    Error::NoTarget {
        samples,
        hint: "leave it out or give it more words; with `Targets::AllAndEos` one token is enough, with \
               `Targets::Middle`, the blog's range, the first and the last are never targets"
            .into(),
    }
}

/// `(1 − s)·ce + s·mean over all tokens of −log p`, `[N]`.
fn smoothed(
    cross_entropy: &Tensor,
    logits: &Tensor,
    targets: &[u32],
    smoothing: f64,
) -> Result<Tensor> {
    if smoothing == 0.0 {
        return Ok(cross_entropy.clone());
    }
    // Both have the same log-sum-exp: they differ by the target's logit and the mean logit.
    let right = Tensor::new(targets, logits.device())?.unsqueeze(1)?; // [N, 1]
    let right = logits.gather(&right, 1)?.squeeze(1)?; // [N]
    let any = (right - logits.mean(1)?)?; // [N]
    Ok((cross_entropy + (any * smoothing)?)?)
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
