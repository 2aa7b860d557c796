//! What a model is asked: pictures with questions or without, prompts of any form, and what is right about them.

use crate::data::{CocoCaptions, Conversations, Questions};
use crate::train::{Example, TrainingSet};
use crate::vision::Image;
use crate::vlm::{Prompt, Vlm};
use crate::{Error, Result};
use candle_core::Tensor;

/// One picture, what is asked of it, and what is right.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::{EvaluationItem, EvaluationSet};
///
/// # fn main() -> Result<()> {
/// let set = vec![(Image::filled(80, 80, [200, 30, 40])?, vec!["a red square".to_string()])];
/// let item: EvaluationItem = set.item(0)?;
/// assert_eq!(item.references, ["a red square"]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct EvaluationItem {
    /// The picture.
    pub image: Image,
    /// What stands between picture and answer; `None` for the model's own query.
    pub query: Option<String>,
    /// Captions, or answers: at least one.
    pub references: Vec<String>,
    /// What kind of question it is, for figures by kind: `count`.
    pub kind: Option<String>,
}

/// A prompt that ends where the answer begins, and what is right.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::PromptItem;
///
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let prompt = vlm.question_prompt(&image, "How many?", "one")?.without_answer();
/// let item = PromptItem { prompt, references: vec!["one".into(), "1".into()] };
/// assert!(vlm.generate(&item.prompt)?.max_new_tokens(2).run()?.ids.len() <= 2);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PromptItem {
    /// What the model reads.
    pub prompt: Prompt,
    /// Answers: at least one.
    pub references: Vec<String>,
}

/// Numbered pictures with references. A COCO folder is one; so are a `Vec` of `(Image, Vec<String>)`, captions, and a
/// [`Questions`] of any source. So is what else a model can be trained on: a `Vec` of [`Prompt`]s, of [`Example`]s, or of
/// `(Tensor, Vec<String>)` with inputs that are prepared for the model's encoder; and [`Conversations`], whose last answer is asked for.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = vec![vlm.question_prompt(&image, "how many corners?", "four")?];
/// let found = Evaluator::new().metric(ExactMatch).max_new_tokens(4).run(&vlm, &set)?;
/// assert_eq!(found.answers()[0].references, ["four"]);
/// # Ok(()) }
/// ```
pub trait EvaluationSet {
    /// Number of pictures.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The picture at `position`.
    ///
    /// # Errors
    /// `Io`, `Image` and `Json` say that it can't be read: it is left out, and counted.
    fn item(&self, position: usize) -> Result<EvaluationItem>;

    /// What is asked at `position` as a prompt, of a set that is none of pictures; `None`: it is what [`EvaluationSet::item`] says.
    ///
    /// # Errors
    /// As [`EvaluationSet::item`].
    fn prompt(&self, vlm: &Vlm, position: usize) -> Result<Option<PromptItem>> {
        let _ = (vlm, position);
        Ok(None)
    }
}

/// Sets that a trainer takes, asked as the prompts that it learns from.
macro_rules! asked_as_prompts {
    ($($set:ty),+) => {$(
        impl EvaluationSet for $set {
            fn len(&self) -> usize {
                TrainingSet::len(self)
            }

            fn item(&self, position: usize) -> Result<EvaluationItem> {
                Err(Error::Input(format!(
                    "{} is a prompt and no single picture: ask for `EvaluationSet::prompt`",
                    TrainingSet::name(self, position)
                )))
            }

            fn prompt(&self, vlm: &Vlm, position: usize) -> Result<Option<PromptItem>> {
                let name = TrainingSet::name(self, position);
                prompt_of(vlm, &self.example(vlm, position)?, &name).map(Some)
            }
        }
    )+};
}

asked_as_prompts!(
    Vec<Prompt>,
    Vec<Example>,
    Vec<(Tensor, Vec<String>)>,
    Conversations
);

/// An example without its answer, and all that is right about it.
fn prompt_of(vlm: &Vlm, example: &Example, name: &str) -> Result<PromptItem> {
    let whole = (0..example.choices()).map(|choice| example.prompt(vlm, Some(choice)));
    let whole = whole.collect::<Result<Vec<Prompt>>>()?;
    let mut references = example.captions().to_vec();
    if references.is_empty() {
        for prompt in &whole {
            let last = prompt.answers().next_back();
            references.extend(
                last.map(|last| vlm.llm_processor.decode(&last.ids))
                    .transpose()?,
            );
        }
    }
    references.retain(|reference| !reference.trim().is_empty());
    match whole.first() {
        Some(first) if !references.is_empty() => Ok(PromptItem {
            prompt: first.without_answer(),
            references,
        }),
        _ => Err(Error::Input(format!(
            "{name} has no answer to compare with: give it one, as in `prompt.target(&ids)`"
        ))),
    }
}

impl EvaluationSet for CocoCaptions {
    fn len(&self) -> usize {
        CocoCaptions::len(self)
    }

    fn item(&self, position: usize) -> Result<EvaluationItem> {
        let sample = self.sample(position)?;
        Ok(EvaluationItem {
            image: sample.image,
            query: None,
            references: sample.captions,
            kind: None,
        })
    }
}

impl EvaluationSet for Vec<(Image, Vec<String>)> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn item(&self, position: usize) -> Result<EvaluationItem> {
        let (image, references) = self
            .get(position)
            .ok_or_else(|| missing(position, Vec::len(self)))?;
        Ok(EvaluationItem {
            image: image.clone(),
            query: None,
            references: references.clone(),
            kind: None,
        })
    }
}

impl EvaluationSet for Questions {
    fn len(&self) -> usize {
        Questions::len(self)
    }

    fn item(&self, position: usize) -> Result<EvaluationItem> {
        Ok(EvaluationItem {
            image: self.image(position)?,
            query: Some(self.query(position)?),
            references: self.answers(position)?.to_vec(),
            kind: Some(self.kind(position)?.to_string()),
        })
    }
}

fn missing(position: usize, count: usize) -> Error {
    Error::Input(format!("there is no picture {position} among {count}"))
}
