//! Who sees whom beyond plain causality: for each sequence a rule and the places of its inputs → for each query the keys it sees.
//!
//! A rule is kept as a few ranges a sequence, not as a mask of all pairs, so that training, a cache and a prompt read in chunks
//! ask the same description. With s(k) and e(k) for where input k begins and one past where it ends, query i sees key j when
//!
//! ```text
//! Causal     j ≤ i
//! LastInput  j ≤ i, and j is in no input but the last one k with s(k) ≤ i
//! PrefixLm   j ≤ i, or i and j are in the same input: s(k) ≤ i < e(k), s(k) ≤ j < e(k)
//! ```
//! Where several sequences are packed into one row of a batch, each by its own rule, i and j must be of the same one as well.

use crate::display::Facts;
use crate::display::facts::{shown_by_facts, shown_by_fields};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// What a token of a sequence with inputs (pictures, say) sees of what stands before it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let settings = VlmSettings { attention: AttentionRule::PrefixLm, ..VlmSettings::tiny() };
/// let vlm = Vlm::from_pretrained(&Preset::tiny().settings(settings), &Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let sequence = vlm.sequence(&[vlm.caption_prompt(&image, "a red square")?])?;
/// let sight = &sequence.visibility.sequences()[0];
/// assert_eq!(sight.rule, AttentionRule::PrefixLm); // the image's tokens see each other, also those behind them
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionRule {
    /// Everything up to itself.
    #[default]
    Causal,
    /// Flamingo's: all words up to itself, and of the inputs only the last that has begun. So a word sees the picture
    /// right before it and no earlier one, and the tokens of a picture see the words before it and no other picture.
    LastInput,
    /// Everything up to itself, and within an input all of its tokens each other, as PaliGemma's pictures do.
    PrefixLm,
}

/// The rule of one sequence, and where its inputs lie.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// // Of six tokens, the second to the fourth are an image's.
/// let sight = Sight { rule: AttentionRule::PrefixLm, inputs: vec![1..4] };
/// let visibility = Visibility::new(vec![sight.clone()])?;
/// assert_eq!(visibility.sequences(), [sight]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// What a token sees.
    pub rule: AttentionRule,
    /// The places of the inputs, in their order; counted from the row's first token, also with a cache.
    pub inputs: Vec<Range<usize>>,
}

shown_by_fields!(AttentionRule, Sight);
shown_by_facts!(Visibility);

/// One [`Sight`] for each sequence of a batch. Cheap to clone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let ids = Tensor::new(&[[5u32, 6, 7, 8]], &Device::Cpu)?;
/// let sight = Sight { rule: AttentionRule::PrefixLm, inputs: vec![0..3] }; // the first three see each other
/// let input = LlmInput::ids(&ids).visibility(&Visibility::new(vec![sight])?).with_attentions();
/// let seen = llm.forward(&input)?.attentions[0].i((0, 0, 0))?.to_vec1::<f32>()?; // by the first token
/// assert!(seen[2] > 0.0 && seen[3] == 0.0);
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Visibility {
    sights: Arc<[Sight]>,
    /// `None`: each is a row of its own.
    rows: Option<Arc<[Packed]>>,
}

/// The sequences in a row, as (first token, which of the sights).
type Packed = Vec<(usize, usize)>;

impl Visibility {
    /// Of the sequences of a batch, in order.
    ///
    /// # Errors
    /// When inputs overlap, are empty, or are out of order.
    pub fn new(sequences: Vec<Sight>) -> Result<Self> {
        for (b, sight) in sequences.iter().enumerate() {
            sight.check(b, 0..usize::MAX)?;
        }
        Ok(Self {
            sights: sequences.into(),
            rows: None,
        })
    }

    /// Of rows that hold several sequences one behind the other: each sees itself only. A sequence is given with the place of its
    /// first token; its inputs are counted from the row's first token, as that is. Positions that begin anew in each are the
    /// caller's part ([`LlmInput::position_ids`](crate::language::LlmInput::position_ids)).
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let ids = [5, 6, 7, 8, 9]; // two sequences: 5 6 7 and 8 9
    /// let packed = Visibility::packed(vec![vec![(0, Sight::default()), (3, Sight::default())]])?;
    /// let input = LlmInput::embeds(&vlm.llm.embed_ids(&ids)?)
    ///     .visibility(&packed)
    ///     .position_ids(vec![vec![0, 1, 2, 0, 1]]);
    /// let together = vlm.llm.forward(&input)?.last_hidden_state.narrow(1, 3, 2)?;
    /// let alone = LlmInput::embeds(&vlm.llm.embed_ids(&ids[3..])?);
    /// let apart = (vlm.llm.forward(&alone)?.last_hidden_state - together)?.abs()?.max_all()?;
    /// assert!(apart.to_scalar::<f32>()? < 1e-5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When a row has no sequence at its first token, sequences are out of order, or one's inputs lie outside of it.
    pub fn packed(rows: Vec<Vec<(usize, Sight)>>) -> Result<Self> {
        let (mut sights, mut places) = (Vec::new(), Vec::new());
        for (b, row) in rows.into_iter().enumerate() {
            let starts: Vec<usize> = row.iter().map(|(start, _)| *start).collect();
            let ordered = starts.windows(2).all(|two| two[0] < two[1]);
            if starts.first() != Some(&0) || !ordered {
                return Err(Error::Input(format!(
                    "row {b}: its sequences begin at {starts:?}: give the first at 0, and the others in order behind it"
                )));
            }
            let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
            let mut own = Vec::with_capacity(starts.len());
            for ((start, sight), end) in row.into_iter().zip(ends) {
                sight.check(b, start..end)?;
                own.push((start, sights.len()));
                sights.push(sight);
            }
            places.push(own);
        }
        Ok(Self {
            sights: sights.into(),
            rows: Some(places.into()),
        })
    }

    /// The sequences, row by row.
    pub fn sequences(&self) -> &[Sight] {
        &self.sights
    }

    /// The sequence that token `i` of a row is in: its first token, and what it sees.
    fn at(&self, row: usize, i: usize) -> (usize, &Sight) {
        match &self.rows {
            None => (0, &self.sights[row]),
            Some(rows) => {
                let own = &rows[row];
                let (start, sight) = own[own.partition_point(|(start, _)| *start <= i) - 1];
                (start, &self.sights[sight])
            }
        }
    }

    /// Whether it hides and shows just what plain causal attention does.
    pub(crate) fn is_causal(&self) -> bool {
        let alone = |row: &Packed| row.len() == 1;
        let alone = self.rows.as_ref().is_none_or(|rows| rows.iter().all(alone));
        let mut sights = self.sights.iter();
        alone
            && sights.all(|sight| match sight.rule {
                AttentionRule::Causal => true,
                AttentionRule::LastInput => sight.inputs.len() < 2,
                AttentionRule::PrefixLm => sight.inputs.iter().all(|input| input.len() < 2),
            })
    }

    /// Goes on with these sequences, each as often as it is named.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        match &self.rows {
            None => {
                let sights = rows.iter().filter_map(|&row| self.sights.get(row).cloned());
                Self {
                    sights: sights.collect(),
                    rows: None,
                }
            }
            Some(packed) => {
                let rows = rows.iter().filter_map(|&row| packed.get(row).cloned());
                Self {
                    sights: self.sights.clone(),
                    rows: Some(rows.collect()),
                }
            }
        }
    }

    /// The first key that query `i` may see.
    pub(super) fn start(&self, batch: usize, i: usize) -> usize {
        self.at(batch, i).0
    }

    /// One past the last key that query `i` sees.
    pub(super) fn end(&self, batch: usize, i: usize) -> usize {
        let (_, sight) = self.at(batch, i);
        let own = match sight.rule {
            AttentionRule::PrefixLm => sight.last_begun(i).map_or(0, |k| sight.inputs[k].end),
            AttentionRule::Causal | AttentionRule::LastInput => 0,
        };
        own.max(i + 1)
    }

    /// The keys from [`Visibility::start`] up to [`Visibility::end`] that query `i` does not see.
    pub(super) fn holes(&self, batch: usize, i: usize) -> &[Range<usize>] {
        let (_, sight) = self.at(batch, i);
        match sight.rule {
            AttentionRule::LastInput => &sight.inputs[..sight.last_begun(i).unwrap_or(0)],
            AttentionRule::Causal | AttentionRule::PrefixLm => &[],
        }
    }

    /// Checks that it speaks of `batch` sequences, of which `read` tokens have been read when this pass is over: tokens that see
    /// each other must be read together.
    pub(crate) fn check(&self, batch: usize, read: usize) -> Result<()> {
        let rows = self
            .rows
            .as_ref()
            .map_or(self.sights.len(), |rows| rows.len());
        if rows != batch {
            return Err(Error::Input(format!(
                "an attention rule for {rows} sequences, this batch has {batch}: give one for each"
            )));
        }
        for (b, sight) in self.sights.iter().enumerate() {
            let cut = |input: &&Range<usize>| input.start < read && read < input.end;
            if sight.rule == AttentionRule::PrefixLm
                && let Some(input) = sight.inputs.iter().find(cut)
            {
                return Err(Error::Input(format!(
                    "sequence {b}: the tokens {} to {} of an input see each other (prefix-LM), and this pass ends with token \
                     {}: read the whole input in one pass",
                    input.start,
                    input.end - 1,
                    read - 1
                )));
            }
        }
        Ok(())
    }

    fn facts(&self) -> Facts {
        let facts = Facts::new("Visibility: who sees whom");
        let rows = self.rows.as_ref();
        let facts = facts.fact_if(
            "rows that they are packed into",
            rows.map(|rows| rows.len()),
        );
        let sights = self.sights.iter().take(12).enumerate();
        sights.fold(facts, |facts, (b, sight)| {
            let places = sight.inputs.iter().map(|input| format!("{input:?}"));
            let places = places.collect::<Vec<_>>().join(", ");
            facts.fact(
                format!("sequence {b}"),
                format!("{:?}, inputs at {places}", sight.rule),
            )
        })
    }
}

impl Sight {
    /// That the inputs of sequence `b` lie within its `tokens`, in order.
    fn check(&self, b: usize, tokens: Range<usize>) -> Result<()> {
        let mut from = tokens.start;
        for input in &self.inputs {
            if input.start < from || input.is_empty() || input.end > tokens.end {
                return Err(Error::Input(format!(
                    "sequence {b}: its inputs lie at {:?}: name each once, in order, none empty, within the sequence",
                    self.inputs
                )));
            }
            from = input.end;
        }
        Ok(())
    }

    /// The last input that begins at or before token `i`.
    fn last_begun(&self, i: usize) -> Option<usize> {
        self.inputs
            .partition_point(|input| input.start <= i)
            .checked_sub(1)
    }

    /// Whether query `i` sees key `j`, word for word as the head of this file says it.
    #[cfg(test)]
    pub(crate) fn sees(&self, i: usize, j: usize) -> bool {
        let same = |k: &Range<usize>| k.contains(&i) && k.contains(&j);
        match self.rule {
            AttentionRule::Causal => j <= i,
            AttentionRule::PrefixLm => j <= i || self.inputs.iter().any(same),
            AttentionRule::LastInput => {
                let begun = self.inputs.iter().filter(|k| k.start <= i);
                let last = begun.max_by_key(|k| k.start);
                let of = self.inputs.iter().find(|k| k.contains(&j));
                j <= i && (of.is_none() || of == last)
            }
        }
    }
}

#[cfg(test)]
// A sequence with one input has a list of one range.
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};
    use crate::nn::{Attention, Rotary, attention, attention_probabilities, rotary_attention};
    use candle_core::{D, Device, Tensor};

    const RULES: [AttentionRule; 3] = [
        AttentionRule::Causal,
        AttentionRule::LastInput,
        AttentionRule::PrefixLm,
    ];

    /// Two sequences of 13 tokens with their inputs in different places.
    fn sights(rule: AttentionRule) -> [Sight; 2] {
        let sight = |inputs: &[Range<usize>]| Sight {
            rule,
            inputs: inputs.to_vec(),
        };
        [sight(&[1..4, 4..6, 9..12]), sight(&[0..5, 8..9])]
    }

    /// Attention by an explicit mask over all pairs, with the sliding window if there is one: q `[B, Tq, H·d]`, the last of
    /// the Tk tokens.
    fn dense(
        form: &Attention,
        sights: &[Sight],
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<Tensor> {
        masked(form, &|b, i, j| sights[b].sees(i, j), q, k, v)
    }

    /// The same by what sequence `b`'s query `i` sees of its keys `j`.
    fn masked(
        form: &Attention,
        sees: &dyn Fn(usize, usize, usize) -> bool,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<Tensor> {
        let (batch, queries, _) = q.dims3()?;
        let (keys, d, group) = (k.dim(1)?, form.head_dim, form.heads / form.kv_heads);
        let mut mask = Vec::new();
        for b in 0..batch {
            for i in keys - queries..keys {
                for j in 0..keys {
                    let near = form.sliding_window.is_none_or(|window| j + window > i);
                    mask.push(if sees(b, i, j) && near { 0f32 } else { -1e9 });
                }
            }
        }
        let mask = Tensor::from_vec(mask, (batch, 1, queries, keys), &Device::Cpu)?;
        let split = |x: &Tensor, heads: usize| -> Result<Tensor> {
            let (_, tokens, _) = x.dims3()?;
            Ok(x.reshape((batch, tokens, heads, d))?
                .transpose(1, 2)?
                .contiguous()?)
        };
        let repeat = |x: &Tensor| -> Result<Tensor> {
            let x = split(x, form.kv_heads)?;
            let heads: Vec<Tensor> = (0..form.heads)
                .map(|head| x.narrow(1, head / group, 1))
                .collect::<candle_core::Result<_>>()?;
            Ok(Tensor::cat(&heads, 1)?.contiguous()?)
        };
        let scores = (split(q, form.heads)?.matmul(&repeat(k)?.t()?)? / (d as f64).sqrt())?;
        let p = candle_nn::ops::softmax(&scores.broadcast_add(&mask)?, D::Minus1)?; // [B, H, Tq, Tk]
        let y = p.matmul(&repeat(v)?)?.transpose(1, 2)?;
        Ok(y.reshape((batch, queries, form.heads * d))?)
    }

    fn forms(rule: AttentionRule) -> Result<[Attention; 2]> {
        let visibility = Some(Visibility::new(sights(rule).to_vec())?);
        let form = Attention {
            visibility,
            ..Attention::causal(4, 2, 8)
        };
        let windowed = Attention {
            sliding_window: Some(4),
            ..form.clone()
        };
        Ok([form, windowed])
    }

    #[test]
    fn every_rule_equals_an_explicit_mask_forward_and_backward() -> Result<()> {
        for rule in RULES {
            for form in forms(rule)? {
                for queries in [13, 4, 1] {
                    let q = random(&[2, queries, 32], 1.0, 1);
                    let (k, v) = (random(&[2, 13, 16], 1.0, 2), random(&[2, 13, 16], 1.0, 3));
                    let ours = |a: &[Tensor]| attention(&form, &a[0], &a[1], &a[2], None);
                    let want = |a: &[Tensor]| dense(&form, &sights(rule), &a[0], &a[1], &a[2]);
                    let all = [q, k, v];
                    assert_close(&ours(&all)?, &want(&all)?, 2e-6);
                    crate::nn::with_composed_ops(|| {
                        assert_close(&ours(&all)?, &want(&all)?, 2e-6);
                        Ok::<_, Error>(())
                    })?;
                    check_gradient(&all, ours, want, 4e-6)?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn packed_attention_with_rotary_follows_every_rule() -> Result<()> {
        let rotary = Rotary::new(&[1.0, 0.3, 0.1, 0.02], &[(0..13).collect()], 1.0)?;
        for rule in RULES {
            for form in forms(rule)? {
                let want = |a: &[Tensor]| -> Result<Tensor> {
                    let q = rotary.rotate(&a[0].narrow(2, 0, 32)?, 8)?;
                    let k = rotary.rotate(&a[0].narrow(2, 32, 16)?, 8)?;
                    dense(&form, &sights(rule), &q, &k, &a[0].narrow(2, 48, 16)?)
                };
                let ours = |a: &[Tensor]| rotary_attention(&form, &a[0], &rotary, None);
                let qkv = [random(&[2, 13, 64], 1.0, 5)];
                assert_close(&ours(&qkv)?, &want(&qkv)?, 2e-6);
                check_gradient(&qkv, ours, want, 4e-6)?;
            }
        }
        Ok(())
    }

    #[test]
    fn long_sequences_cross_block_borders_under_every_rule() -> Result<()> {
        for rule in RULES {
            let sight = Sight {
                rule,
                inputs: vec![3..70, 90..130, 130..140],
            };
            let visibility = Some(Visibility::new(vec![sight.clone()])?);
            let form = Attention {
                visibility,
                ..Attention::causal(2, 1, 8)
            };
            let q = random(&[1, 150, 16], 1.0, 1);
            let (k, v) = (random(&[1, 150, 8], 1.0, 2), random(&[1, 150, 8], 1.0, 3));
            let all = [q, k, v];
            let ours = |a: &[Tensor]| attention(&form, &a[0], &a[1], &a[2], None);
            let sight = std::slice::from_ref(&sight);
            let want = |a: &[Tensor]| dense(&form, sight, &a[0], &a[1], &a[2]);
            assert_close(&ours(&all)?, &want(&all)?, 2e-6);
            check_gradient(&all, ours, want, 6e-6)?;
        }
        Ok(())
    }

    /// Three sequences in a row of 150 tokens, each by a rule of its own, across the borders of blocks; and one alone.
    fn packed_rows() -> Vec<Vec<(usize, Sight)>> {
        let sight = |rule, inputs: &[Range<usize>]| Sight {
            rule,
            inputs: inputs.to_vec(),
        };
        vec![
            vec![
                (0, sight(AttentionRule::PrefixLm, &[0..5, 20..40])),
                (60, sight(AttentionRule::LastInput, &[60..66, 70..80])),
                (101, sight(AttentionRule::Causal, &[104..110])),
            ],
            vec![(0, sight(AttentionRule::PrefixLm, &[2..100]))],
        ]
    }

    #[test]
    fn packed_sequences_see_themselves_only_each_by_its_rule() -> Result<()> {
        let rows = packed_rows();
        let sees = |b: usize, i: usize, j: usize| {
            let at = |token: usize| rows[b].partition_point(|(start, _)| *start <= token) - 1;
            at(i) == at(j) && rows[b][at(i)].1.sees(i, j)
        };
        let form = Attention {
            visibility: Some(Visibility::packed(rows.clone())?),
            ..Attention::causal(2, 1, 8)
        };
        let windowed = Attention {
            sliding_window: Some(9),
            ..form.clone()
        };
        let qkv = [
            random(&[2, 150, 16], 1.0, 1),
            random(&[2, 150, 8], 1.0, 2),
            random(&[2, 150, 8], 1.0, 3),
        ];
        for form in [form, windowed] {
            let ours = |a: &[Tensor]| attention(&form, &a[0], &a[1], &a[2], None);
            let want = |a: &[Tensor]| masked(&form, &sees, &a[0], &a[1], &a[2]);
            assert_close(&ours(&qkv)?, &want(&qkv)?, 2e-6);
            crate::nn::with_composed_ops(|| {
                assert_close(&ours(&qkv)?, &want(&qkv)?, 2e-6);
                Ok::<_, Error>(())
            })?;
            check_gradient(&qkv, ours, want, 6e-6)?;
        }
        Ok(())
    }

    #[test]
    fn rows_that_are_packed_wrongly_are_refused() -> Result<()> {
        let sight = |inputs: &[Range<usize>]| Sight {
            rule: AttentionRule::Causal,
            inputs: inputs.to_vec(),
        };
        for row in [
            vec![],
            vec![(1, sight(&[]))],
            vec![(0, sight(&[])), (4, sight(&[])), (4, sight(&[]))],
            vec![(0, sight(&[2..5])), (4, sight(&[]))],
            vec![(0, sight(&[])), (4, sight(&[3..5]))],
        ] {
            let error = Visibility::packed(vec![row.clone()])
                .map(|_| ())
                .unwrap_err();
            assert!(error.to_string().contains("in order"), "{row:?}: {error}");
        }
        let packed = Visibility::packed(packed_rows())?;
        assert!(packed.check(3, 150).is_err() && packed.check(2, 150).is_ok());
        assert!(!packed.is_causal());
        let alone = Visibility::packed(vec![vec![(0, sight(&[]))]])?;
        assert!(alone.is_causal());
        Ok(())
    }

    #[test]
    fn what_is_looked_at_is_what_the_rule_shows() -> Result<()> {
        for rule in RULES {
            let [form, _] = forms(rule)?;
            let (q, k) = (random(&[2, 13, 32], 1.0, 1), random(&[2, 13, 16], 1.0, 2));
            let p = attention_probabilities(&form, &q, &k, None)?.mean(1)?; // [B, Tq, Tk]
            for (b, rows) in p.to_vec3::<f32>()?.iter().enumerate() {
                for (i, row) in rows.iter().enumerate() {
                    for (j, p) in row.iter().enumerate() {
                        assert_eq!(*p > 0.0, sights(rule)[b].sees(i, j), "{rule:?} {b} {i} {j}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn padding_goes_with_every_rule() -> Result<()> {
        let mask = Tensor::new(
            &[[1u8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0], [1; 13]],
            &Device::Cpu,
        )?;
        for rule in RULES {
            let [form, _] = forms(rule)?;
            let (q, k) = (random(&[2, 13, 32], 1.0, 1), random(&[2, 13, 16], 1.0, 2));
            let fused = attention(&form, &q, &k, &k, Some(&mask))?;
            let composed =
                crate::nn::with_composed_ops(|| attention(&form, &q, &k, &k, Some(&mask)))?;
            assert_close(&fused, &composed, 2e-6);
        }
        Ok(())
    }

    #[test]
    fn a_rule_that_does_not_fit_is_refused() -> Result<()> {
        let sight = |rule, inputs: &[Range<usize>]| Sight {
            rule,
            inputs: inputs.to_vec(),
        };
        for inputs in [vec![3..5, 4..6], vec![3..3], vec![5..6, 1..2]] {
            let error = Visibility::new(vec![sight(AttentionRule::LastInput, &inputs)]);
            assert!(error.is_err_and(|error| error.to_string().contains("in order")));
        }
        let (q, k) = (random(&[2, 3, 8], 1.0, 1), random(&[2, 3, 4], 1.0, 2));
        let run = |rule, inputs: &[Range<usize>], times: usize| {
            let visibility = Some(Visibility::new(vec![sight(rule, inputs); times])?);
            let form = Attention {
                visibility,
                ..Attention::causal(2, 1, 4)
            };
            attention(&form, &q, &k, &k, None)
        };
        let error = run(AttentionRule::PrefixLm, &[1..9], 2)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("read the whole input in one pass"),
            "{error}"
        );
        let error = run(AttentionRule::PrefixLm, &[1..3], 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("this batch has 2"), "{error}");
        let visibility = Some(Visibility::new(vec![Sight::default(); 2])?);
        let form = Attention {
            visibility,
            ..Attention::bidirectional(2, 4)
        };
        assert!(attention(&form, &q, &q, &q, None).is_err());
        Ok(())
    }
}
