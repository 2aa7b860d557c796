//! Questions for captions: templates that a cell can list, change and add to.
//!
//! caption → a question drawn among the templates → [`QuestionAnswer`]; the list is LLaVA's idea of asking for a short description
//! in many wordings, so that a model learns what is asked and not one sentence.

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::question::QuestionAnswer;
use crate::display::{MimeBundle, Render, Table};
use crate::{Error, Result};

/// Wordings of one question: what does the picture show?
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let templates = QuestionTemplates::default().with("name what you see");
/// assert_eq!(templates.questions.len(), 9);
/// let asked = templates.ask(7, "a red star", 0)?; // picture 7, seed 0: the same wording each time
/// assert!(templates.questions.contains(&asked.question));
/// assert_eq!(asked.answer, "a red star");
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionTemplates {
    /// The wordings, without a mark at the end.
    pub questions: Vec<String>,
}

impl Default for QuestionTemplates {
    /// Eight wordings.
    fn default() -> Self {
        let questions = [
            "what does the picture show",
            "what is in this picture",
            "describe the picture in one sentence",
            "what can be seen here",
            "give a short description of the image",
            "what is going on in this picture",
            "write a caption for the picture",
            "summarize what you see",
        ];
        Self {
            questions: questions.map(String::from).to_vec(),
        }
    }
}

impl QuestionTemplates {
    /// Wordings of one's own.
    pub fn new<S: Into<String>>(questions: impl IntoIterator<Item = S>) -> Self {
        Self {
            questions: questions.into_iter().map(Into::into).collect(),
        }
    }

    /// One more.
    pub fn with(mut self, question: impl Into<String>) -> Self {
        self.questions.push(question.into());
        self
    }

    /// A question for which `caption` is the answer. The same seed and picture give the same wording.
    ///
    /// # Errors
    /// `Input` when there is no template or a wording is empty.
    pub fn ask(&self, image_id: u64, caption: &str, seed: u64) -> Result<QuestionAnswer> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(image_id);
        let question = self.questions.choose(&mut rng).ok_or_else(|| {
            Error::Input(
                "there is no template to ask by: add a wording, as in QuestionTemplates::default()"
                    .into(),
            )
        })?;
        if question.trim().is_empty() {
            return Err(Error::Input(
                "a template is empty: give it words or take it out".into(),
            ));
        }
        Ok(QuestionAnswer {
            image_id,
            question: question.clone(),
            answer: caption.to_string(),
        })
    }
}

impl Render for QuestionTemplates {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["", "question"]);
        for (number, question) in self.questions.iter().enumerate() {
            table.push(vec![number.into(), question.as_str().into()]);
        }
        table.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wordings_are_drawn_by_seed_and_picture() -> Result<()> {
        let templates = QuestionTemplates::default().with("und was ist das");
        let asked: Vec<String> = (0..200)
            .map(|id| Ok(templates.ask(id, "a cat", 5)?.question))
            .collect::<Result<_>>()?;
        assert_eq!(asked[3], templates.ask(3, "a cat", 5)?.question);
        for question in &templates.questions {
            assert!(asked.contains(question), "{question}");
        }
        assert!(
            QuestionTemplates::new(Vec::<String>::new())
                .ask(0, "x", 0)
                .is_err()
        );
        assert!(QuestionTemplates::new([" "]).ask(0, "x", 0).is_err());
        Ok(())
    }
}
