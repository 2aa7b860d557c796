//! Stage 2, concatenation: the pieces of each prompt as embeddings side by side, the rows of a batch padded to one length.
//!
//! ```text
//! start │ image │ end │ query │ prefix          a row, [1, T, D]
//! start │ image │ end │ query                ░░ a shorter one, padded with zeros on the right
//! ```
//! Attention goes forward only, or further within an input, so nothing before the padding sees it, and logits are taken
//! before it.

use super::Vlm;
use super::prompt::{Piece, Prompt, PromptPart, Seen};
use super::query::Query;
use super::sequence::Sequence;
use super::settings::PromptVectors;
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// One prompt as embeddings.
pub(super) struct Row {
    /// `[1, T, D]`.
    pub(super) embeds: Tensor,
    /// Tokens of each piece.
    pub(super) lengths: Vec<usize>,
}

impl Row {
    /// T.
    pub(super) fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }
}

impl Vlm {
    /// Prompts → sequences: their inputs through their encoders (stage 1), then everything side by side.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(80, 80, [200, 30, 40])?;
    /// let short = vlm.caption_prompt(&image, "a red square")?;
    /// let long = vlm.caption_prompt(&image, "a large red square")?;
    /// let batch = vlm.sequence(&[short, long])?; // the shorter one is padded
    /// assert_eq!(batch.inputs_embeds.dim(0)?, 2);
    /// assert_eq!(batch.lengths[1] - batch.lengths[0], 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::ContextOverflow`] for a prompt that is longer than the language model's context, [`Error::NoSuchEncoder`] and
    /// [`Error::InputCount`] for inputs that the model can't read or that are not there; for no prompts, or an id outside the
    /// vocabulary.
    pub fn sequence(&self, prompts: &[Prompt]) -> Result<Sequence> {
        let mut prompts = self.embed_inputs(prompts)?;
        if let Ok(spelling) = self.spelling() {
            // So that the ids of prompts that a cell has put together are shown as words.
            for prompt in &mut prompts {
                prompt.spelling.get_or_insert_with(|| spelling.clone());
            }
        }
        let rows = prompts.iter().enumerate();
        let rows = rows
            .map(|(b, prompt)| self.row(b, prompt))
            .collect::<Result<Vec<_>>>()?;
        let lengths: Vec<usize> = rows.iter().map(Row::tokens).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0); // T
        let padded = rows.iter().map(|row| padded(&row.embeds, longest)); // [1, T, D] each
        let inputs_embeds = Tensor::cat(&padded.collect::<Result<Vec<_>>>()?, 0)?; // [B, T, D]
        Sequence::of(
            inputs_embeds,
            lengths,
            self.settings.attention,
            prompts,
            rows,
        )
    }

    /// The pieces of one prompt side by side.
    pub(super) fn row(&self, b: usize, prompt: &Prompt) -> Result<Row> {
        let embeds = prompt.pieces.iter().map(|piece| match piece {
            Piece::Vector(part) => self.prompt_vector(*part), // [1, L, D]
            Piece::Input(input) => input.embedded(),          // [1, P, D]
            Piece::Text(_, ids) => self.llm.embed_ids(ids),   // [1, t, D]
            Piece::Target(target) => self.llm.embed_ids(&target.ids), // [1, t, D]
        });
        let embeds = embeds.collect::<Result<Vec<_>>>()?;
        let lengths = embeds
            .iter()
            .map(|piece| Ok(piece.dim(1)?))
            .collect::<Result<Vec<_>>>()?;
        self.check_row(b, prompt, &embeds, &lengths)?;
        let read = embeds.iter().filter(|piece| piece.elem_count() > 0);
        let read = read
            .map(|piece| piece.to_dtype(DType::F32))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Row {
            embeds: Tensor::cat(&read, 1)?,
            lengths,
        }) // [1, T, D]
    }

    /// Start, end or query as the language model reads it: the prompt vector, or with [`PromptVectors::Tokens`] the embeddings
    /// of its words, `[1, L, D]`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let end = vlm.prompt_vector(PromptPart::End)?; // stands behind the image
    /// assert_eq!(end.dims(), vlm.end_vec.tensor().dims());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the tokenizer or the chat template refuses.
    pub fn prompt_vector(&self, part: PromptPart) -> Result<Tensor> {
        if self.settings.prompt_vectors != PromptVectors::Tokens {
            let vector = self.vector_of(part).tensor();
            // A tensor of its own: a frozen one in a `cat` would be given a gradient that nobody asked for.
            return Ok(vector.reshape(vector.shape())?); // [1, L, D]
        }
        let words = &self.spelling()?.words;
        self.llm.embed_ids(match part {
            PromptPart::Start => &words.start,
            PromptPart::End => &words.end,
            PromptPart::Query => &words.query,
        }) // [1, L, D]
    }

    /// Start, end and query as the language model reads them, `[1, L, D]` each.
    ///
    /// # Errors
    /// When the tokenizer or the chat template refuses.
    pub fn prompt_embeds(&self) -> Result<[Tensor; 3]> {
        Ok([
            self.prompt_vector(PromptPart::Start)?,
            self.prompt_vector(PromptPart::End)?,
            self.prompt_vector(PromptPart::Query)?,
        ])
    }

    /// Image tokens `[B, P, D]`, a query, and the token ids of each caption prefix (or no list at all, for none)
    /// → the blog's sequences, start | image | end | query | prefix.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image_tokens = vlm.embed_images(&[Image::filled(80, 80, [200, 30, 40])?])?; // [1, P, D]
    /// let words = vlm.llm_processor.encode_plain("a red")?;
    /// let sequence = vlm.concatenate(&image_tokens, &Query::Vector, &[words])?;
    /// let logits = vlm.forward(&sequence)?.logits()?.clone(); // of the word behind "a red"
    /// assert_eq!(logits.dims(), [1, vlm.llm.config.vocab_size]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When queries or prefixes are not one per picture, or an id is outside the vocabulary.
    pub fn concatenate(
        &self,
        image_tokens: &Tensor,
        query: &Query,
        prefixes: &[Vec<u32>],
    ) -> Result<Sequence> {
        let (batch, _, _) = image_tokens.dims3()?;
        if !prefixes.is_empty() && prefixes.len() != batch {
            return Err(Error::Input(format!(
                "{} caption prefixes for {batch} pictures",
                prefixes.len()
            )));
        }
        let prompts = self.caption_prompts(Piece::rows(image_tokens, Seen::Embedded)?, query)?;
        let prefixes = prefixes
            .iter()
            .map(Vec::as_slice)
            .chain(std::iter::repeat(&[][..]));
        let prompts = prompts
            .into_iter()
            .zip(prefixes)
            .map(|(prompt, ids)| prompt.prefix(ids));
        self.sequence(&prompts.collect::<Vec<_>>())
    }
}

/// `[1, t, D]` with zeros behind → `[1, T, D]`.
pub(super) fn padded(row: &Tensor, tokens: usize) -> Result<Tensor> {
    Ok(row.pad_with_zeros(1, 0, tokens - row.dim(1)?)?)
}
