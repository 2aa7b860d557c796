//! Image-question-answer triples: the question takes the place of the query, the answer that of the caption.
//!
//! scene or caption → [`QuestionAnswer`] → [`QuestionFormat`] → the text between image and answer.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::shapes::{Colour, Group, Scene, Shape, ShapesConfig};
use crate::{Error, Result};

/// A question about a picture with its answer.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let asked = Shapes::new(ShapesConfig::default())?.questions(Split::Train, 0);
/// let kinds: Vec<&str> = asked.iter().map(QuestionAnswer::kind).collect();
/// assert!(kinds.contains(&"count"));
/// let about = QuestionAnswer::from_caption(7, "a red star");
/// assert_eq!((about.answer.as_str(), about.kind()), ("a red star", "open"));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionAnswer {
    /// The dataset's number for the picture.
    pub image_id: u64,
    /// In plain words, without a mark at the end.
    pub question: String,
    /// A few words.
    pub answer: String,
}

impl QuestionAnswer {
    /// What kind of question it is, by its first words: count, colour, where, size, yes/no, or else open.
    pub fn kind(&self) -> &'static str {
        let question = self.question.trim().to_lowercase();
        let begins = |words: &[&str]| words.iter().any(|word| question.starts_with(word));
        if begins(&["how many", "how much"]) {
            "count"
        } else if begins(&["which colour", "what colour", "which color", "what color"]) {
            "colour"
        } else if begins(&["where"]) {
            "where"
        } else if begins(&["how big", "which size", "what size"]) {
            "size"
        } else if begins(&[
            "is ", "are ", "does ", "do ", "has ", "can ", "was ", "were ",
        ]) {
            "yes/no"
        } else {
            "open"
        }
    }

    /// Makes any caption an answer: "what does the picture show".
    pub fn from_caption(image_id: u64, caption: &str) -> QuestionAnswer {
        QuestionAnswer {
            image_id,
            question: "what does the picture show".into(),
            answer: caption.into(),
        }
    }
}

/// How a question is written into the prompt.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let format = QuestionFormat::default();
/// assert_eq!(format.query("how many stars?")?, "question: how many stars? answer: ");
/// let short = QuestionFormat { before: "Q: ".into(), between: " A: ".into() };
/// assert_eq!(short.query("how many stars?")?, "Q: how many stars A: ");
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionFormat {
    /// Stands before the question.
    pub before: String,
    /// Stands between question and answer.
    pub between: String,
}

impl Default for QuestionFormat {
    fn default() -> Self {
        QuestionFormat {
            before: "question: ".into(),
            between: "? answer: ".into(),
        }
    }
}

impl QuestionFormat {
    /// The text that stands where the blog's query "This image contains: " stands.
    ///
    /// # Errors
    /// `Input` for an empty question.
    pub fn query(&self, question: &str) -> Result<String> {
        let question = question.trim().trim_end_matches('?').trim_end();
        if question.is_empty() {
            return Err(Error::Input(
                "the question is empty: ask something about the picture".into(),
            ));
        }
        Ok(format!("{}{question}{}", self.before, self.between))
    }
}

/// Questions whose answers follow from the scene.
pub(super) fn about_scene(
    scene: &Scene,
    image_id: u64,
    config: &ShapesConfig,
    rng: &mut impl Rng,
) -> Vec<QuestionAnswer> {
    let mut triples = Vec::new();
    let mut ask = |question: String, answer: &str| {
        triples.push(QuestionAnswer {
            image_id,
            question,
            answer: answer.to_string(),
        });
    };
    ask(
        "how many shapes are there".into(),
        number(scene.objects.len()),
    );
    let groups = scene.groups();
    for group in &groups {
        let (colour, members) = (group.colour.name(), group.members.len());
        ask(
            format!("how many {colour} {} are there", group.shape.plural()),
            number(members),
        );
        ask(format!("is there a {colour} {}", group.shape.name()), "yes");
        if members == 1 {
            ask(
                format!("where is the {colour} {}", group.shape.name()),
                group.members[0].place(),
            );
            ask(
                format!("how big is the {colour} {}", group.shape.name()),
                group.members[0].size.name(),
            );
        }
    }
    for shape in Shape::ALL {
        let mut of_shape = scene.objects.iter().filter(|object| object.shape == shape);
        if let (Some(only), None) = (of_shape.next(), of_shape.next()) {
            ask(
                format!("which colour is the {}", shape.name()),
                only.colour.name(),
            );
        }
    }
    // As many that are not there as are: saying "yes" to all is right half of the time.
    let mut absent: Vec<(Colour, Shape)> = config
        .colours
        .iter()
        .flat_map(|colour| config.shapes.iter().map(|shape| (*colour, *shape)))
        .filter(|(colour, shape)| {
            let there = |group: &Group<'_>| group.colour == *colour && group.shape == *shape;
            !groups.iter().any(there)
        })
        .collect();
    absent.sort_unstable();
    absent.dedup();
    for (colour, shape) in absent.choose_multiple(rng, groups.len()) {
        ask(
            format!("is there a {} {}", colour.name(), shape.name()),
            "no",
        );
    }
    triples
}

fn number(count: usize) -> &'static str {
    ["none", "one", "two", "three", "four"]
        .get(count)
        .copied()
        .unwrap_or("many")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Shapes, Split};

    #[test]
    fn answers_are_true_of_the_scene() -> Result<()> {
        let shapes = Shapes::new(ShapesConfig::default())?;
        let mut kinds = std::collections::BTreeSet::new();
        for index in 0..200 {
            let scene = shapes.scene(Split::Val, index);
            let triples = shapes.questions(Split::Val, index);
            assert!(triples.len() >= 3);
            assert_eq!(triples, shapes.questions(Split::Val, index));
            for triple in &triples {
                let there = scene.objects.iter().any(|object| {
                    triple.question.ends_with(&format!(
                        "{} {}",
                        object.colour.name(),
                        object.shape.name()
                    ))
                });
                match triple.answer.as_str() {
                    "yes" => assert!(there, "{triple:?}"),
                    "no" => assert!(!there, "{triple:?}"),
                    _ => {}
                }
            }
            assert_eq!(triples[0].answer, number(scene.objects.len()));
            kinds.extend(triples.iter().map(QuestionAnswer::kind));
        }
        assert_eq!(
            Vec::from_iter(kinds),
            ["colour", "count", "size", "where", "yes/no"]
        );
        Ok(())
    }

    #[test]
    fn a_query_has_one_question_mark_and_needs_a_question() -> Result<()> {
        let format = QuestionFormat::default();
        assert_eq!(
            format.query(" which colour is the star? ")?,
            "question: which colour is the star? answer: "
        );
        assert!(format.query(" ? ").is_err());
        Ok(())
    }
}
