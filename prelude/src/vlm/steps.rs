//! The forward passes of a generation: the prompt, then one token of each text at a time, with a cache or without.

use super::Vlm;
use super::concatenate::{Query, Sequence};
use crate::language::{KvCache, LogitsAt, Phi3Input};
use crate::{Error, Result};
use candle_core::Tensor;

/// The forward passes of a generation.
pub(super) struct Steps<'a> {
    vlm: &'a Vlm,
    image_tokens: Tensor,
    query: Query,
    sequence: Sequence,
    /// With a cache: the most tokens that will be made.
    cached: Option<usize>,
    cache: Option<KvCache>,
}

impl<'a> Steps<'a> {
    /// Forward passes behind `sequence`, which was put together from `image_tokens` and `query`; with a cache that has room
    /// for `cached` new tokens, or none.
    pub(super) fn new(
        vlm: &'a Vlm,
        image_tokens: Tensor,
        query: &Query,
        sequence: Sequence,
        cached: Option<usize>,
    ) -> Self {
        Self {
            vlm,
            image_tokens,
            query: query.clone(),
            sequence,
            cached,
            cache: None,
        }
    }

    /// B.
    pub(super) fn batch(&self) -> usize {
        self.sequence.lengths.len()
    }

    /// Goes on with these rows of the prompts, each as often as it is named.
    pub(super) fn repeat(&mut self, rows: &[usize]) -> Result<()> {
        let wanted: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let wanted = Tensor::new(wanted, self.image_tokens.device())?;
        self.image_tokens = self.image_tokens.index_select(&wanted, 0)?; // [rows, P, D]
        if let Query::Each(queries) = &mut self.query {
            *queries = rows.iter().map(|&row| queries[row].clone()).collect();
        }
        let sequence = &mut self.sequence;
        sequence.inputs_embeds = sequence.inputs_embeds.index_select(&wanted, 0)?; // [rows, T, D]
        sequence.lengths = rows.iter().map(|&row| sequence.lengths[row]).collect();
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
            let sequence = vlm.concatenate(&self.image_tokens, &self.query, made)?; // [B, T + n, D]
            return Ok(vlm.forward(&sequence)?.logits()?.clone());
        };
        let sequence = &self.sequence;
        let (batch, tokens) = (sequence.lengths.len(), sequence.inputs_embeds.dim(1)?);
        let input = match &self.cache {
            None => {
                let cache = vlm.llm.new_cache(batch, tokens + room)?;
                self.cache = Some(cache);
                Phi3Input::embeds(&sequence.inputs_embeds.detach())
                    .logits_at(LogitsAt::Chosen(sequence.last_places()))
            }
            Some(_) => {
                let last: Vec<u32> = made.iter().filter_map(|ids| ids.last().copied()).collect();
                let ids = Tensor::from_vec(last, (batch, 1), vlm.device())?; // [B, 1]
                Phi3Input::ids(&ids).logits_at(LogitsAt::Last)
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
    fn ragged(&self, input: Phi3Input, steps: usize) -> Result<Phi3Input> {
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
