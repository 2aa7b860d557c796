//! The forward passes of a generation: the prompt, then one token of each text at a time, with a cache or without.

use super::Vlm;
use super::prompt::Prompt;
use super::sequence::Sequence;
use crate::language::{KvCache, LlmInput, LogitsAt};
use crate::{Error, Result};
use candle_core::Tensor;

/// The forward passes of a generation.
pub(super) struct Steps<'a> {
    vlm: &'a Vlm,
    /// Their inputs have been through their encoders.
    prompts: Vec<Prompt>,
    sequence: Sequence,
    /// With a cache: the most tokens that will be made.
    cached: Option<usize>,
    cache: Option<KvCache>,
}

impl<'a> Steps<'a> {
    /// Forward passes behind `prompts`; with a cache that has room for `cached` new tokens, or none.
    pub(super) fn new(vlm: &'a Vlm, prompts: &[Prompt], cached: Option<usize>) -> Result<Self> {
        let mut prompts = vlm.embed_inputs(prompts)?;
        for input in prompts.iter_mut().flat_map(Prompt::inputs_mut) {
            input.detach();
        }
        let sequence = vlm.sequence(&prompts)?; // [B, T, D]
        Ok(Self {
            vlm,
            prompts,
            sequence,
            cached,
            cache: None,
        })
    }

    /// B.
    pub(super) fn batch(&self) -> usize {
        self.sequence.lengths.len()
    }

    /// The sequences of the prompts.
    pub(super) fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Goes on with these rows of the prompts, each as often as it is named.
    pub(super) fn repeat(&mut self, rows: &[usize]) -> Result<()> {
        self.prompts = rows.iter().map(|&row| self.prompts[row].clone()).collect();
        self.sequence = self.vlm.sequence(&self.prompts)?; // [rows, T, D]
        self.reorder(rows)
    }

    /// Goes on with the texts of these rows; their prompts are the same.
    pub(super) fn reorder(&mut self, rows: &[usize]) -> Result<()> {
        self.cache
            .as_ref()
            .map_or(Ok(()), |cache| cache.select(rows))
    }

    /// Logits of the next token of each text, `[B, V]`.
    pub(super) fn next(&mut self, made: &[Vec<u32>]) -> Result<Tensor> {
        let vlm = self.vlm;
        let Some(room) = self.cached else {
            let read = self.prompts.iter().zip(made);
            let read: Vec<Prompt> = read
                .map(|(prompt, ids)| prompt.clone().prefix(ids))
                .collect();
            return Ok(vlm.forward(&vlm.sequence(&read)?)?.logits()?.clone()); // [B, T + n, D]
        };
        let sequence = &self.sequence;
        let (batch, tokens) = (sequence.lengths.len(), sequence.inputs_embeds.dim(1)?);
        let input = match &self.cache {
            None => {
                self.cache = Some(vlm.llm.new_cache(batch, tokens + room)?);
                let places = LogitsAt::Chosen(sequence.last_places());
                sequence.input().logits_at(places)
            }
            Some(_) => {
                let last: Vec<u32> = made.iter().filter_map(|ids| ids.last().copied()).collect();
                let ids = Tensor::from_vec(last, (batch, 1), vlm.device())?; // [B, 1]
                LlmInput::ids(&ids).logits_at(LogitsAt::Last)
            }
        };
        let steps = made.first().map_or(0, Vec::len);
        let input = if sequence.is_ragged() {
            self.ragged(input, steps)?
        } else {
            input
        };
        let cache = self
            .cache
            .as_ref()
            .ok_or_else(|| Error::Input("the cache is gone".into()))?;
        Ok(vlm.llm.forward(&input.cache(cache))?.logits()?.clone())
    }

    /// Hides the padding between a short prompt and its new tokens, and numbers the new tokens behind their own prompt.
    fn ragged(&self, input: LlmInput, steps: usize) -> Result<LlmInput> {
        let prompt = self.sequence.attention_mask()?; // [B, T]
        if steps == 0 {
            return Ok(input);
        }
        let new = Tensor::ones(
            (self.sequence.lengths.len(), steps),
            prompt.dtype(),
            prompt.device(),
        )?;
        let mask = Tensor::cat(&[prompt, new], 1)?; // [B, T + n]
        let positions = self
            .sequence
            .lengths
            .iter()
            .map(|&length| vec![(length + steps - 1) as u32])
            .collect();
        Ok(input.attention_mask(&mask).position_ids(positions))
    }
}
