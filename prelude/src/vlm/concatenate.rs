//! Stage 2, concatenation: start | image | end | query | prefix, as embeddings in one sequence.
//!
//! Sequences of a batch may differ in length (another query, another prefix): the shorter ones are padded with zeros on
//! the right. Attention is causal, so nothing before the padding sees it, and logits are taken before it.

use super::Vlm;
use super::prompt::Prompt;
use super::settings::PromptVectors;
use crate::display::{MimeBundle, Render, SegmentKind, TokenStrip};
use crate::language::{LogitsAt, Phi3Input, Phi3Output};
use crate::nn::Weight;
use crate::{Error, Result};
use candle_core::Tensor;

/// What stands between picture and caption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Query {
    /// The model's own `query_vec`.
    #[default]
    Vector,
    /// The same token ids for every picture of the batch.
    Shared(Vec<u32>),
    /// Token ids for each picture of the batch.
    Each(Vec<Vec<u32>>),
}

impl Query {
    fn ids(&self, index: usize) -> Option<&[u32]> {
        match self {
            Self::Vector => None,
            Self::Shared(ids) => Some(ids),
            Self::Each(lists) => lists.get(index).map(Vec::as_slice),
        }
    }
}

/// A batch of sequences, ready for the language model.
#[derive(Clone)]
pub struct Sequence {
    /// `[B, T, D]`, padded with zeros on the right.
    pub inputs_embeds: Tensor,
    /// Tokens of each sequence, padding left out.
    pub lengths: Vec<usize>,
    /// Tokens of each sequence before the caption prefix.
    pub prompt_lengths: Vec<usize>,
    /// Per sequence, its parts with their tokens, in order.
    pub segments: Vec<Vec<(SegmentKind, Vec<String>)>>,
}

impl Sequence {
    /// The (sequence, token) places of the last tokens, where the next token is predicted.
    pub fn last_places(&self) -> Vec<(usize, usize)> {
        self.lengths
            .iter()
            .enumerate()
            .map(|(b, &length)| (b, length - 1))
            .collect()
    }

    /// Whether the sequences differ in length.
    pub fn is_ragged(&self) -> bool {
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

/// What stands around every picture, with its words.
struct FixedParts {
    start: (Tensor, Vec<String>),
    end: (Tensor, Vec<String>),
    query: (Tensor, Vec<String>),
}

impl Vlm {
    /// A question as a [`Query`], in the wording that the settings ask for.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn query(&self, text: &str) -> Result<Query> {
        Ok(Query::Shared(
            Prompt::with_query(&self.llm_processor, &self.settings, text)?.query,
        ))
    }

    /// Image tokens `[B, P, D]`, a query, and the token ids of each caption prefix (or no list at all, for none)
    /// → sequences.
    ///
    /// # Errors
    /// When queries or prefixes are not one per picture, or an id is outside the vocabulary.
    pub fn concatenate(
        &self,
        image_tokens: &Tensor,
        query: &Query,
        prefixes: &[Vec<u32>],
    ) -> Result<Sequence> {
        let (batch, patches, width) = image_tokens.dims3()?;
        if batch == 0 {
            return Err(Error::Input(
                "a batch of no pictures: give at least one".into(),
            ));
        }
        if width != self.llm.config.hidden_size {
            return Err(Error::Input(format!(
                "image tokens are {width} wide, the language model's hidden_size is {}: run them through the projector",
                self.llm.config.hidden_size
            )));
        }
        for (what, count) in [
            (
                "queries",
                if let Query::Each(lists) = query {
                    lists.len()
                } else {
                    batch
                },
            ),
            (
                "caption prefixes",
                if prefixes.is_empty() {
                    batch
                } else {
                    prefixes.len()
                },
            ),
        ] {
            if count != batch {
                return Err(Error::Input(format!("{count} {what} for {batch} pictures")));
            }
        }
        let none = Vec::new();
        let prefix = |b: usize| prefixes.get(b).unwrap_or(&none);
        let fixed = self.fixed_parts()?;
        let (start, end) = (&fixed.start.0, &fixed.end.0); // [1, Ls, D], [1, Le, D]
        let query_tokens = |b: usize| query.ids(b).map_or(fixed.query.1.len(), <[u32]>::len);
        let head = start.dim(1)? + patches + end.dim(1)?;
        let prompt_lengths: Vec<usize> = (0..batch).map(|b| head + query_tokens(b)).collect();
        let lengths: Vec<usize> = (0..batch)
            .map(|b| prompt_lengths[b] + prefix(b).len())
            .collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);

        let dtype = image_tokens.dtype();
        let tail = |b: usize| -> Result<Vec<Tensor>> {
            let mut parts = Vec::new();
            let ids: Vec<u32> = match query.ids(b) {
                None => {
                    parts.push(fixed.query.0.to_dtype(dtype)?); // [1, Lq, D]
                    prefix(b).clone()
                }
                Some(query) => query.iter().chain(prefix(b)).copied().collect(),
            };
            if !ids.is_empty() {
                parts.push(self.llm.embed_ids(&ids)?.to_dtype(dtype)?); // [1, Lq + p, D]
            }
            if lengths[b] < longest {
                parts.push(Tensor::zeros(
                    (1, longest - lengths[b], width),
                    dtype,
                    self.device(),
                )?);
            }
            Ok(parts)
        };
        let tails = (0..batch)
            .map(|b| {
                let parts = tail(b)?;
                if parts.is_empty() {
                    return Ok(Tensor::zeros((1, 0, width), dtype, self.device())?);
                }
                Ok(Tensor::cat(&parts, 1)?) // [1, T − head, D]
            })
            .collect::<Result<Vec<_>>>()?;
        let expand = |vector: &Tensor| {
            let vector = vector.to_dtype(dtype)?;
            vector.broadcast_as((batch, vector.dim(1)?, width))
        };
        let mut pieces = vec![expand(start)?, image_tokens.clone(), expand(end)?]; // [B, Ls, D], [B, P, D], [B, Le, D]
        pieces.push(Tensor::cat(&tails, 0)?); // [B, T − head, D]
        pieces.retain(|piece| piece.dims()[1] > 0);
        let inputs_embeds = Tensor::cat(&pieces, 1)?; // [B, T, D]
        let segments = (0..batch)
            .map(|b| self.segments(&fixed, patches, query.ids(b), prefix(b)))
            .collect();
        Ok(Sequence {
            inputs_embeds,
            lengths,
            prompt_lengths,
            segments,
        })
    }

    /// Start, end and query as the language model reads them: the prompt vectors, or with [`PromptVectors::Tokens`] the
    /// embeddings of their words, `[1, L, D]` each.
    ///
    /// # Errors
    /// When the tokenizer or the chat template refuses.
    pub fn prompt_embeds(&self) -> Result<[Tensor; 3]> {
        let FixedParts { start, end, query } = self.fixed_parts()?;
        Ok([start.0, end.0, query.0])
    }

    fn fixed_parts(&self) -> Result<FixedParts> {
        let prompt = Prompt::new(&self.llm_processor, &self.settings)?;
        let part = |ids: &[u32], vector: &Weight, name: &str| -> Result<(Tensor, Vec<String>)> {
            let embeds = match self.settings.prompt_vectors {
                PromptVectors::Tokens => self.llm.embed_ids(ids)?, // [1, L, D]
                PromptVectors::Fixed | PromptVectors::Trained => vector.tensor().clone(), // [1, L, D]
            };
            let length = embeds.dim(1)?;
            // A loaded fine-tune may have vectors of another length than the words of its prompt.
            let words = match ids.len() == length {
                true => self.words(ids),
                false => vec![name.to_string(); length],
            };
            Ok((embeds, words))
        };
        Ok(FixedParts {
            start: part(&prompt.start, &self.start_vec, "start")?,
            end: part(&prompt.end, &self.end_vec, "end")?,
            query: part(&prompt.query, &self.query_vec, "query")?,
        })
    }

    fn words(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.llm_processor.token(id)).collect()
    }

    /// The parts of one sequence with their tokens as text.
    fn segments(
        &self,
        fixed: &FixedParts,
        patches: usize,
        query: Option<&[u32]>,
        prefix: &[u32],
    ) -> Vec<(SegmentKind, Vec<String>)> {
        let query = query.map_or_else(|| fixed.query.1.clone(), |ids| self.words(ids));
        let mut segments = vec![
            (SegmentKind::Start, fixed.start.1.clone()),
            (
                SegmentKind::Image,
                (0..patches).map(|i| format!("image {i}")).collect(),
            ),
            (SegmentKind::End, fixed.end.1.clone()),
            (SegmentKind::Query, query),
            (SegmentKind::Prefix, self.words(prefix)),
        ];
        segments.retain(|(_, tokens)| !tokens.is_empty());
        segments
    }

    /// Stage 3's forward pass: logits of the token that follows each sequence, `[B, V]` in `output.logits`.
    ///
    /// # Errors
    /// When a sequence is longer than the language model's context.
    pub fn forward(&self, sequence: &Sequence) -> Result<Phi3Output> {
        let places = LogitsAt::Chosen(sequence.last_places());
        self.llm
            .forward(&Phi3Input::embeds(&sequence.inputs_embeds).logits_at(places))
    }
}
