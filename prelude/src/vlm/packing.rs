//! Packing: several short prompts in one row of a batch, so that less of it is padding.
//!
//! ```text
//! a a a a a a b b b c c      positions 0 1 2 3 4 5 0 1 2 0 1      each token sees its own prompt only
//! d d d d d d d d ░ ░ ░                0 1 2 3 4 5 6 7 0 0 0
//! ```
//! So every prompt is read as if it were alone ([`Visibility::packed`]). The longest are placed first, each in the first row that has
//! room for it.

use super::Vlm;
use super::concatenate::padded;
use super::prompt::Prompt;
use super::sequence::Layout;
use crate::Result;
use crate::language::LlmInput;
use crate::nn::Visibility;
use candle_core::Tensor;
use std::cmp::Reverse;

/// Prompts as rows for the language model.
pub(super) struct Packed {
    /// `[R, T, D]` with positions and rule.
    pub input: LlmInput,
    /// R and T.
    pub size: (usize, usize),
    /// Of each prompt its row and its first token there.
    pub places: Vec<(usize, usize)>,
    /// Of each prompt where its parts lie, counted from its first token.
    pub layouts: Vec<Layout>,
    /// Tokens of all prompts.
    pub tokens: usize,
}

impl Vlm {
    /// Prompts → rows of at most `most` tokens; a longer prompt is a row of its own.
    pub(super) fn packed(&self, prompts: &[Prompt], most: usize) -> Result<Packed> {
        let prompts = self.embed_inputs(prompts)?;
        let rows = prompts.iter().enumerate();
        let rows = rows
            .map(|(b, prompt)| self.row(b, prompt))
            .collect::<Result<Vec<_>>>()?; // [1, t, D] each
        let lengths: Vec<usize> = rows.iter().map(|row| row.tokens()).collect();
        let bins = packed_rows(&lengths, most);
        let longest = bins.iter().map(|bin| filled(bin, &lengths)).max();
        let longest = longest.unwrap_or(0); // T
        let layouts: Vec<Layout> = prompts
            .iter()
            .zip(&rows)
            .map(|(prompt, row)| Layout::of(prompt, row, self.settings.attention))
            .collect();
        let mut places = vec![(0, 0); prompts.len()];
        let (mut embeds, mut positions, mut sights) = (Vec::new(), Vec::new(), Vec::new());
        for (r, bin) in bins.iter().enumerate() {
            let (mut own, mut start) = (Vec::new(), 0);
            let (mut list, mut pieces) = (Vec::with_capacity(longest), Vec::new());
            for &b in bin {
                places[b] = (r, start);
                own.push((start, layouts[b].sight_from(start)));
                list.extend(0..lengths[b] as u32);
                pieces.push(&rows[b].embeds); // [1, t, D]
                start += lengths[b];
            }
            list.resize(longest, 0);
            embeds.push(padded(&Tensor::cat(&pieces, 1)?, longest)?); // [1, T, D]
            positions.push(list);
            sights.push(own);
        }
        let input = LlmInput::embeds(&Tensor::cat(&embeds, 0)?) // [R, T, D]
            .position_ids(positions)
            .visibility(&Visibility::packed(sights)?);
        Ok(Packed {
            input,
            size: (bins.len(), longest),
            places,
            layouts,
            tokens: lengths.iter().sum(),
        })
    }
}

/// Which prompts of these lengths share a row of at most `most` tokens: the longest first, each in the first row with room for it.
fn packed_rows(lengths: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&at| Reverse(lengths[at]));
    let mut bins: Vec<(usize, Vec<usize>)> = Vec::new();
    for at in order {
        let room = |(used, _): &&mut (usize, Vec<usize>)| used.saturating_add(lengths[at]) <= most;
        match bins.iter_mut().find(room) {
            Some((used, bin)) => {
                *used += lengths[at];
                bin.push(at);
            }
            None => bins.push((lengths[at], vec![at])),
        }
    }
    bins.into_iter().map(|(_, bin)| bin).collect()
}

/// Tokens in a row.
fn filled(bin: &[usize], lengths: &[usize]) -> usize {
    bin.iter().map(|&at| lengths[at]).sum()
}

/// Rows, and tokens of each with its padding, that prompts of these lengths become.
pub(crate) fn packed_size(lengths: &[usize], most: usize) -> (usize, usize) {
    let bins = packed_rows(lengths, most);
    let longest = bins.iter().map(|bin| filled(bin, lengths)).max();
    (bins.len(), longest.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_has_a_place_and_no_row_is_too_long() {
        let lengths = [3, 9, 4, 4, 12, 1, 2, 7];
        let bins = packed_rows(&lengths, 10);
        let mut all: Vec<usize> = bins.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        for bin in &bins {
            assert!(filled(bin, &lengths) <= 10 || bin.len() == 1, "{bins:?}");
        }
        assert_eq!(packed_size(&lengths, 10), (4, 12)); // 12 │ 9 1 │ 7 3 │ 4 4 2
        assert_eq!(packed_size(&lengths, 100), (1, 42));
        assert_eq!(packed_size(&[], 10), (0, 0));
    }
}
