//! The forward passes of a generation: the prompt, then one token of each text at a time, with a cache or without.
//!
//! ```text
//! prompts ─▶ what all begin with, read once ─▶ the rest of each ─▶ a token of each, or one and a proposal behind it …
//! ```

use super::Vlm;
use super::prompt::{Piece, Prompt};
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
    /// Tokens that all prompts begin with and that see nothing behind them.
    shared: usize,
}

impl<'a> Steps<'a> {
    /// Forward passes behind `prompts`; with a cache that has room for `cached` new tokens, or none.
    pub(super) fn new(vlm: &'a Vlm, prompts: &[Prompt], cached: Option<usize>) -> Result<Self> {
        let mut prompts = prompts.to_vec();
        let pieces = beginning(&prompts);
        if pieces > 0 {
            let read = Prompt {
                pieces: prompts[0].pieces[..pieces].to_vec(),
                ..prompts[0].clone()
            };
            let read = vlm.embed_inputs(&[read])?;
            for (prompt, read) in prompts.iter_mut().zip(read.iter().cycle()) {
                prompt.pieces[..pieces].clone_from_slice(&read.pieces);
            }
        }
        let mut prompts = vlm.embed_inputs(&prompts)?;
        for input in prompts.iter_mut().flat_map(Prompt::inputs_mut) {
            input.detach();
        }
        let sequence = vlm.sequence(&prompts)?; // [B, T, D]
        let shared = match sequence.visibility.is_causal() {
            true => sequence.segments.tokens_of_first(pieces),
            false => 0,
        };
        Ok(Self {
            vlm,
            prompts,
            sequence,
            cached,
            cache: None,
            shared,
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
            None if self.shared > 0 => {
                let (embeds, shared) = (&sequence.inputs_embeds, self.shared);
                let cache = vlm.llm.new_cache(1, tokens + room)?;
                let first = embeds.narrow(0, 0, 1)?.narrow(1, 0, shared)?; // [1, S, D]
                let first = LlmInput::embeds(&first).logits_at(LogitsAt::Nowhere);
                vlm.llm.forward(&first.cache(&cache))?;
                cache.select(&vec![0; batch])?;
                self.cache = Some(cache);
                let places = sequence.last_places().into_iter();
                let places = places.map(|(b, t)| (b, t - shared)).collect();
                let rest = embeds.narrow(1, shared, tokens - shared)?; // [B, T - S, D]
                LlmInput::embeds(&rest).logits_at(LogitsAt::Chosen(places))
            }
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
        let input = input.cache(self.cache()?);
        Ok(vlm.llm.forward(&input)?.logits()?.clone())
    }

    /// Of the one text: logits behind its last token and behind each of a proposal, `[1 + proposed, V]`; all of them are read then.
    pub(super) fn checked(&self, last: Option<u32>, proposal: &[u32]) -> Result<Tensor> {
        let ids: Vec<u32> = last.into_iter().chain(proposal.iter().copied()).collect();
        let ids = Tensor::new(ids, self.vlm.device())?.unsqueeze(0)?; // [1, 1 + proposed]
        let input = LlmInput::ids(&ids).cache(self.cache()?);
        Ok(self.vlm.llm.forward(&input)?.logits()?.squeeze(0)?)
    }

    /// Forgets what was read behind the prompt and the first `made` tokens of the one text.
    pub(super) fn forget(&self, made: usize) -> Result<()> {
        let tokens = self.sequence.inputs_embeds.dim(1)? + made;
        self.cache()?.truncate(tokens)
    }

    /// As much of a proposal as is read with the same rotary angles as single tokens.
    pub(super) fn within_angles(&self, mut proposal: Vec<u32>) -> Vec<u32> {
        let read = self.cache.as_ref().map_or(0, KvCache::len);
        if let Some(border) = self.vlm.llm.rope_border().filter(|&border| read < border) {
            proposal.truncate(border.saturating_sub(read + 1));
        }
        proposal
    }

    fn cache(&self) -> Result<&KvCache> {
        let gone = || Error::Input("the cache is gone".into());
        self.cache.as_ref().ok_or_else(gone)
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

/// How many pieces several prompts have in common at their beginning; each has one more. None while activations are changed, as
/// these have places in each sequence.
fn beginning(prompts: &[Prompt]) -> usize {
    let Some((first, others)) = prompts
        .split_first()
        .filter(|(_, others)| !others.is_empty())
    else {
        return 0;
    };
    if crate::edits::are_on() {
        return 0;
    }
    let shortest = prompts.iter().map(|prompt| prompt.pieces.len()).min();
    let most = shortest.unwrap_or(0).saturating_sub(1);
    let alike = |at: &usize| {
        let mut others = others.iter();
        others
            .all(|other| other.rule == first.rule && first.pieces[*at].is_same(&other.pieces[*at]))
    };
    let alike = (0..most).take_while(alike).count();
    // Each must have words left, to be told apart and to give logits.
    let left =
        |count: usize| move |prompt: &Prompt| prompt.pieces[count..].iter().any(Piece::has_words);
    let fit = (0..=alike)
        .rev()
        .find(|&count| prompts.iter().all(left(count)));
    fit.unwrap_or(0)
}
