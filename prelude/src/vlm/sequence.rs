//! What stage 2 makes: a batch of sequences as vectors, with everything that later stages ask about them.

use super::Vlm;
use super::concatenate::Row;
use super::prompt::{Piece, Prompt};
use crate::display::{MimeBundle, Render, SegmentKind, TokenStrip};
use crate::language::{LlmInput, LlmOutput, LogitsAt};
use crate::nn::{AttentionRule, Sight, Visibility};
use crate::{Error, Result};
use candle_core::Tensor;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

/// A batch of sequences, ready for the language model.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// let sequence = vlm.sequence(&[prompt])?; // image, query and caption as one sequence of vectors
/// let length = sequence.lengths[0];
/// assert_eq!(sequence.inputs_embeds.dims(), [1, length, 128]);
/// assert_eq!(vlm.forward(&sequence)?.logits()?.dims(), [1, 576]); // of the token that comes next
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sequence {
    /// `[B, T, D]`, padded with zeros on the right.
    pub inputs_embeds: Tensor,
    /// Tokens of each sequence, padding left out.
    pub lengths: Vec<usize>,
    /// Tokens of each sequence before the beginning of its (first) answer.
    pub prompt_lengths: Vec<usize>,
    /// Per sequence, its parts with their tokens, in order.
    pub segments: Segments,
    /// Who sees whom.
    pub visibility: Visibility,
    /// Per sequence, where each of its answers stands.
    pub answers: Vec<Vec<Range<usize>>>,
}

impl Sequence {
    /// The sequences as the language model takes them, with their attention rules.
    pub fn input(&self) -> LlmInput {
        let input = LlmInput::embeds(&self.inputs_embeds);
        match self.visibility.is_causal() {
            true => input,
            false => input.visibility(&self.visibility),
        }
    }

    /// The (sequence, token) places of the last tokens, where the next token is predicted.
    pub fn last_places(&self) -> Vec<(usize, usize)> {
        self.lengths
            .iter()
            .enumerate()
            .map(|(b, &length)| (b, length - 1))
            .collect()
    }

    /// Where the id at `index` of a sequence's answers stands, counted through all of them, or would stand next.
    pub(crate) fn answer_place(&self, b: usize, index: usize) -> Option<usize> {
        answer_place(self.answers.get(b)?, index)
    }

    /// Whether the sequences differ in length.
    pub(crate) fn is_ragged(&self) -> bool {
        self.lengths.windows(2).any(|pair| pair[0] != pair[1])
    }

    /// `[B, T]`: 1 for tokens, 0 for padding.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn attention_mask(&self) -> Result<Tensor> {
        let tokens = self.inputs_embeds.dim(1)?;
        let mask: Vec<u8> = self
            .lengths
            .iter()
            .flat_map(|&length| (0..tokens).map(move |t| u8::from(t < length)))
            .collect();
        Ok(Tensor::from_vec(
            mask,
            (self.lengths.len(), tokens),
            self.inputs_embeds.device(),
        )?)
    }

    /// The parts of one sequence as a strip of tokens with their norms.
    ///
    /// # Errors
    /// When there is no such sequence.
    pub fn strip(&self, index: usize) -> Result<TokenStrip> {
        let segments = self.segments.get(index).ok_or_else(|| {
            Error::Input(format!(
                "there are {} sequences, no number {index}",
                self.segments.len()
            ))
        })?;
        let mut strip = TokenStrip::new();
        let mut start = 0;
        for (kind, tokens) in segments {
            let embeddings = self
                .inputs_embeds
                .get(index)?
                .narrow(0, start, tokens.len())?; // [tokens, D]
            strip = strip.embedded(*kind, tokens.iter().cloned(), &embeddings)?;
            start += tokens.len();
        }
        Ok(strip)
    }
}

impl Render for Sequence {
    fn render(&self) -> MimeBundle {
        match self.strip(0) {
            Ok(strip) => strip.render(),
            Err(error) => MimeBundle::text(error.to_string()),
        }
    }
}

/// The parts of each sequence with their tokens as words, spelled when somebody looks: reads as a
/// `Vec<Vec<(SegmentKind, Vec<String>)>>`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// let sequence = vlm.sequence(&[prompt])?;
/// let kinds: Vec<SegmentKind> = sequence.segments[0].iter().map(|(kind, _)| *kind).collect();
/// assert!(kinds.contains(&SegmentKind::Image)); // which tokens are the image's, the query's, the caption's
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Segments(Arc<Unspelled>);

struct Unspelled {
    /// The prompts, and how many tokens each of their pieces has.
    prompts: Vec<(Prompt, Vec<usize>)>,
    spelled: OnceLock<Vec<Spelled>>,
}

/// The parts of one sequence, each with its words.
type Spelled = Vec<(SegmentKind, Vec<String>)>;

impl Segments {
    pub(super) fn of(prompts: Vec<(Prompt, Vec<usize>)>) -> Self {
        // What was embedded is in the sequence: kept here it would keep the forward pass alive.
        let light = |(mut prompt, lengths): (Prompt, Vec<usize>)| {
            for input in prompt.inputs_mut() {
                input.seen = super::prompt::Seen::Nothing;
            }
            (prompt, lengths)
        };
        Self(Arc::new(Unspelled {
            prompts: prompts.into_iter().map(light).collect(),
            spelled: OnceLock::new(),
        }))
    }

    /// The names of a prompt's pieces with their numbers of tokens, those without any left out.
    pub(super) fn counts(prompt: &Prompt, lengths: &[usize]) -> Vec<(String, usize)> {
        let counts = prompt
            .pieces
            .iter()
            .map(Piece::name)
            .zip(lengths.iter().copied());
        counts.filter(|(_, tokens)| *tokens > 0).collect()
    }

    /// Tokens of the first `pieces` pieces of the first sequence.
    pub(super) fn tokens_of_first(&self, pieces: usize) -> usize {
        let first = self.0.prompts.first();
        first.map_or(0, |(_, lengths)| lengths.iter().take(pieces).sum())
    }

    /// The pieces of one sequence with their numbers of tokens, as [`Segments::counts`] has them.
    pub(super) fn counts_of(&self, b: usize) -> Vec<(String, usize)> {
        self.0
            .prompts
            .get(b)
            .map_or_else(Vec::new, |(prompt, lengths)| Self::counts(prompt, lengths))
    }
}

impl Deref for Segments {
    type Target = Vec<Spelled>;

    fn deref(&self) -> &Self::Target {
        self.0.spelled.get_or_init(|| {
            let spell = |(prompt, lengths): &(Prompt, Vec<usize>)| prompt.segments(Some(lengths));
            self.0.prompts.iter().map(spell).collect()
        })
    }
}

impl Render for Segments {
    fn render(&self) -> MimeBundle {
        let strip = |segments: &Spelled| {
            let segments = segments.iter();
            segments.fold(TokenStrip::new(), |strip, (kind, words)| {
                strip.segment(*kind, words.iter().cloned(), Vec::new())
            })
        };
        let strips: Vec<TokenStrip> = self.iter().map(strip).collect();
        TokenStrip::render_all(&strips.iter().collect::<Vec<_>>())
    }
}

impl Vlm {
    /// Stage 3's forward pass: logits of the token that follows each sequence, `[B, V]` in `output.logits`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(80, 80, [200, 30, 40])?;
    /// let sequence = vlm.sequence(&[vlm.caption_prompt(&image, "a red square")?.until(2)])?; // up to "a red"
    /// let logits = vlm.forward(&sequence)?.logits()?.clone(); // [1, V]
    /// let next = logits.argmax(1)?.to_vec1::<u32>()?[0];
    /// assert!((next as usize) < vlm.llm.config.vocab_size);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When a sequence is longer than the language model's context.
    pub fn forward(&self, sequence: &Sequence) -> Result<LlmOutput> {
        let places = LogitsAt::Chosen(sequence.last_places());
        self.llm.forward(&sequence.input().logits_at(places))
    }
}

impl Vlm {
    /// Refuses a row that is empty, too wide or too long for the language model.
    pub(super) fn check_row(
        &self,
        b: usize,
        prompt: &Prompt,
        embeds: &[Tensor],
        lengths: &[usize],
    ) -> Result<()> {
        let (width, context) = (
            self.llm.config.hidden_size,
            self.llm.config.max_position_embeddings,
        );
        let tokens = lengths.iter().sum::<usize>();
        let other_width = |piece: &&Tensor| piece.dims().last() != Some(&width);
        if let Some(wide) = embeds.iter().find(other_width) {
            return Err(Error::Input(format!(
                "image tokens are {} wide, the language model's hidden_size is {width}: run them through the projector",
                wide.dims().last().copied().unwrap_or_default()
            )));
        }
        if tokens == 0 {
            return Err(Error::Input(format!(
                "prompt {b} has no tokens: give it at least one piece that has some"
            )));
        }
        if tokens > context {
            return Err(Error::ContextOverflow {
                what: format!("prompt {b}"),
                tokens,
                context,
                pieces: Segments::counts(prompt, lengths),
            });
        }
        Ok(())
    }
}

/// Where the parts of a prompt lie in its row that later stages ask about.
pub(super) struct Layout {
    /// Tokens before the beginning of its first answer, `None` where it has none.
    given: Option<usize>,
    sight: Sight,
    answers: Vec<Range<usize>>,
}

impl Layout {
    /// That of a prompt as this row; `rule` is the model's.
    pub(super) fn of(prompt: &Prompt, row: &Row, rule: AttentionRule) -> Self {
        let mut sight = Sight {
            rule: prompt.rule.unwrap_or(rule),
            inputs: Vec::new(),
        };
        let (mut answers, mut given, mut start) = (Vec::new(), None, 0);
        for (piece, &tokens) in prompt.pieces.iter().zip(&row.lengths) {
            let place = start..start + tokens;
            start = place.end;
            match piece {
                Piece::Input(_) if tokens > 0 => sight.inputs.push(place),
                Piece::Target(_) => {
                    given.get_or_insert(place.start);
                    answers.push(place);
                }
                Piece::Text(SegmentKind::Prefix, _) => {
                    given.get_or_insert(place.start);
                }
                _ => {}
            }
        }
        Self {
            given,
            sight,
            answers,
        }
    }

    /// As [`Sequence::answer_place`].
    pub(super) fn answer_place(&self, index: usize) -> Option<usize> {
        answer_place(&self.answers, index)
    }

    /// What it sees where its first token is another's `start`th.
    pub(super) fn sight_from(&self, start: usize) -> Sight {
        let inputs = self.sight.inputs.iter();
        Sight {
            rule: self.sight.rule,
            inputs: inputs
                .map(|input| start + input.start..start + input.end)
                .collect(),
        }
    }
}

fn answer_place(answers: &[Range<usize>], index: usize) -> Option<usize> {
    let mut left = index;
    for (at, answer) in answers.iter().enumerate() {
        let is_last = at + 1 == answers.len();
        if left < answer.len() || (is_last && left == answer.len()) {
            return Some(answer.start + left);
        }
        left -= answer.len();
    }
    None
}

impl Sequence {
    /// What is to be known of `prompts` as these rows, already padded.
    pub(super) fn of(
        inputs_embeds: Tensor,
        lengths: Vec<usize>,
        rule: AttentionRule,
        prompts: Vec<Prompt>,
        rows: Vec<Row>,
    ) -> Result<Self> {
        let (mut prompt_lengths, mut sights, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for ((prompt, row), &length) in prompts.iter().zip(&rows).zip(&lengths) {
            let layout = Layout::of(prompt, row, rule);
            prompt_lengths.push(layout.given.unwrap_or(length));
            sights.push(layout.sight);
            answers.push(layout.answers);
        }
        let lengths_of = rows.into_iter().map(|row| row.lengths);
        Ok(Self {
            inputs_embeds,
            lengths,
            prompt_lengths,
            segments: Segments::of(prompts.into_iter().zip(lengths_of).collect()),
            visibility: Visibility::new(sights)?,
            answers,
        })
    }
}
