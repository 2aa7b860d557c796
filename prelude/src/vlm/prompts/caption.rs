//! The blog's prompt: start │ input │ end │ query │ caption.
//!
//! input, caption → [`Prompt`], the caption's ids its target. A question takes the query's place, its answer the caption's.

use crate::vlm::prompt::{Piece, Prompt, PromptPart, Seen};
use crate::vlm::query::Query;
use crate::vlm::words::PromptWords;
use crate::vlm::{Vlm, VlmInput};
use crate::{Error, Result};
use candle_core::Tensor;

impl Vlm {
    /// An input and a caption of it, as the blog puts them together: the caption is the target. Of an open [`Prompt`] in the input's
    /// place the caption is the answer.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let prompt = vlm.caption_prompt(&image, "a red square")?;
    /// let loss = vlm.full_sequence_loss_of(&prompt)?.value()?;
    /// let written = vlm.generate(&prompt.without_answer())?.run()?; // the model's own caption
    /// # assert!(loss > 0.0 && !written.ids.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For an empty caption, or an input that can't be prepared.
    pub fn caption_prompt(&self, input: &dyn VlmInput, caption: &str) -> Result<Prompt> {
        self.answered(input, &Query::Vector, &self.caption_ids(caption)?)
    }

    /// An input, a question about it and its answer: the answer is the target.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(80, 80, [200, 30, 40])?;
    /// let learnt = vlm.question_prompt(&image, "What colour is it?", "red")?; // for the loss
    /// assert_eq!(vlm.llm_processor.decode(&learnt.answer_ids())?, "red");
    /// let asked = learnt.without_answer(); // for the model to answer
    /// assert!(vlm.generate(&asked)?.max_new_tokens(2).run()?.ids.len() <= 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For an empty answer, or an input that can't be prepared.
    pub fn question_prompt(
        &self,
        input: &dyn VlmInput,
        question: &str,
        answer: &str,
    ) -> Result<Prompt> {
        self.answered(input, &question.into(), &self.caption_ids(answer)?)
    }

    /// Image tokens `[1, P, D]`, which a cell has cut or changed, and a caption: as [`Vlm::caption_prompt`] for the rest.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image_tokens = vlm.embed_images(&[Image::filled(80, 80, [200, 30, 40])?])?; // [1, 26, 128]
    /// let half = image_tokens.narrow(1, 0, 13)?; // what if half of them were missing?
    /// let loss = vlm.full_sequence_loss_of(&vlm.prompt_of_tokens(&half, "a red square")?)?;
    /// assert_eq!(loss.targets.len(), 4);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For an empty caption.
    pub fn prompt_of_tokens(&self, image_tokens: &Tensor, caption: &str) -> Result<Prompt> {
        let ids = self.caption_ids(caption)?;
        let input = vec![Piece::of(Seen::Embedded(image_tokens.clone()))];
        let prompts = self.caption_prompts(vec![input], &Query::Vector)?;
        let prompt = prompts.into_iter().next().unwrap_or_default();
        Ok(prompt.target_in(&ids, self.target_range(ids.len())))
    }

    /// start │ input │ end │ query │ answer; a prompt that the input is already is read as it is, its last query replaced by another.
    pub(crate) fn answered(
        &self,
        input: &dyn VlmInput,
        query: &Query,
        ids: &[u32],
    ) -> Result<Prompt> {
        let prompt = self.open_prompt(input)?;
        let prompt = match query {
            Query::Vector => prompt,
            Query::Words(text) => prompt.asked(&self.query_ids(text)?)?,
            Query::Shared(ids) => prompt.asked(ids)?,
            Query::Each(lists) => match &lists[..] {
                [ids] => prompt.asked(ids)?,
                _ => {
                    return Err(Error::Input(format!(
                        "{} queries for one input",
                        lists.len()
                    )));
                }
            },
        };
        Ok(prompt.answer(ids, self.target_range(ids.len())))
    }

    /// start │ input │ end │ query for each input: what stands before a caption.
    pub(in crate::vlm) fn caption_prompts(
        &self,
        inputs: Vec<Vec<Piece>>,
        query: &Query,
    ) -> Result<Vec<Prompt>> {
        let spelling = self.spelling()?;
        let shared = match query {
            Query::Words(text) => self.query_ids(text)?,
            _ => Vec::new(),
        };
        if let Query::Each(lists) = query
            && lists.len() != inputs.len()
        {
            return Err(Error::Input(format!(
                "{} queries for {} pictures",
                lists.len(),
                inputs.len()
            )));
        }
        let prompts = inputs.into_iter().enumerate().map(|(b, pieces)| {
            let prompt = Prompt {
                spelling: Some(spelling.clone()),
                ..Prompt::new()
            };
            let prompt = pieces
                .into_iter()
                .fold(prompt.vector(PromptPart::Start), Prompt::piece)
                .vector(PromptPart::End);
            match query {
                Query::Vector => prompt.vector(PromptPart::Query),
                Query::Words(_) => prompt.query(&shared),
                Query::Shared(ids) => prompt.query(ids),
                Query::Each(lists) => prompt.query(&lists[b]),
            }
        });
        Ok(prompts.collect())
    }

    /// A question as a [`Query`], in the wording that the settings ask for.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let query = vlm.query("What colour is it?")?;
    /// assert!(matches!(query, Query::Shared(ids) if !ids.is_empty())); // in the chat template's wording
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn query(&self, text: &str) -> Result<Query> {
        Ok(Query::Shared(self.query_ids(text)?))
    }

    pub(in crate::vlm) fn query_ids(&self, text: &str) -> Result<Vec<u32>> {
        Ok(PromptWords::with_query(&self.llm_processor, &self.settings, text)?.query)
    }
}
