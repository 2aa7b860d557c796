//! Questions about pictures with their answers, each of a kind: what image-question-answer training and accuracy by kind are made of.
//!
//! ```text
//! pictures of a cell │ shapes' own scenes │ captions and templates ─▶ Questions ─ picture, question, answers, kind ─▶ trainer, evaluation
//! ```
//! What can be said without looking is told by [`Questions::priors`]; [`Questions::balanced`] makes all answers of a kind equally
//! frequent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::question::{QuestionAnswer, QuestionFormat};
use super::{Captions, QuestionTemplates, Shapes, Split};
use crate::display::facts::debug_by_first_line;
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::train::PictureFile;
use crate::vision::Image;
use crate::{Error, Result};

/// The kind of a question that asks for a description, whatever its wording.
const DESCRIPTION: &str = "caption";

/// A picture, a question about it, and its answers.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::Question;
///
/// # fn main() -> Result<()> {
/// let one: Question = (Image::filled(64, 64, [200, 30, 40])?, "which colour?".into(), vec!["red".into()]);
/// let set = Questions::new([one]);
/// assert_eq!(set.len(), 1);
/// # Ok(()) }
/// ```
pub type Question = (Image, String, Vec<String>);

/// Questions about pictures, written into the prompt by a format. Cheap to clone; pictures are drawn or decoded when asked for.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let questions = Questions::of_shapes(&shapes, Split::Train, 100);
/// println!("{:?}", questions.priors());
/// let counts = questions.of_kind("count")?.balanced(0);
/// assert!(counts.priors().iter().all(|prior| prior.share <= 0.5));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Questions {
    pool: Pool,
    entries: Arc<Vec<Entry>>,
    format: QuestionFormat,
}

/// Where the pictures are.
#[derive(Clone)]
enum Pool {
    Given(Arc<Vec<Image>>),
    Drawn(Shapes, Split),
    Read(Captions),
}

struct Entry {
    /// In the pool.
    picture: usize,
    question: String,
    answers: Vec<String>,
    kind: String,
}

/// What is right about the questions of a kind without a look at the pictures.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let priors = Questions::of_shapes(&shapes, Split::Train, 50).priors();
/// let counts: &Prior = priors.iter().find(|prior| prior.kind == "count").unwrap();
/// println!("always {:?} is right in {:.0}% of cases", counts.usual, 100.0 * counts.share);
/// assert!(counts.share >= 1.0 / counts.answers as f64);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    /// `count`, `colour`, …
    pub kind: String,
    /// How many questions are of it.
    pub questions: usize,
    /// How many different answers they have.
    pub answers: usize,
    /// The most frequent answer.
    pub usual: String,
    /// What share of the questions it answers, 0 to 1.
    pub share: f64,
}

impl Questions {
    /// Questions about pictures that are values; the kind follows from the first words, see [`QuestionAnswer::kind`].
    pub fn new(questions: impl IntoIterator<Item = Question>) -> Self {
        let (mut images, mut entries) = (Vec::new(), Vec::new());
        for (image, question, answers) in questions {
            let asked = QuestionAnswer {
                image_id: images.len() as u64,
                question,
                answer: String::new(),
            };
            entries.push(Entry {
                picture: images.len(),
                kind: asked.kind().into(),
                question: asked.question,
                answers,
            });
            images.push(image);
        }
        Self::of(Pool::Given(Arc::new(images)), entries)
    }

    /// Shapes' own questions about the first `pictures` scenes of a split: how many, which colour, where, how big, yes or no.
    pub fn of_shapes(shapes: &Shapes, split: Split, pictures: usize) -> Self {
        let entries = (0..pictures).flat_map(|picture| {
            let asked = shapes.questions(split, picture as u64);
            asked.into_iter().map(move |asked| Entry {
                picture,
                kind: asked.kind().into(),
                question: asked.question,
                answers: vec![asked.answer],
            })
        });
        let entries = entries.collect();
        Self::of(Pool::Drawn(shapes.clone(), split), entries)
    }

    /// Captions recast: each picture is asked about once, in a wording that is drawn among the templates, and each of its captions
    /// is a right answer. All are of the kind `caption`.
    ///
    /// ```no_run
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let coco = Captions::open("coco", Split::Train)?;
    /// let templates = QuestionTemplates::default().with("what would you tell a friend about it");
    /// let questions = Questions::of_captions(&coco, &templates, 17)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` when there is no template or a wording is empty.
    pub fn of_captions(
        captions: &Captions,
        templates: &QuestionTemplates,
        seed: u64,
    ) -> Result<Self> {
        let entries = (0..captions.len()).map(|picture| {
            let answers = captions.captions(picture)?;
            let asked = templates.ask(picture as u64, "", seed)?;
            Ok(Entry {
                picture,
                question: asked.question,
                answers,
                kind: DESCRIPTION.into(),
            })
        });
        let entries = entries.collect::<Result<_>>()?;
        Ok(Self::of(Pool::Read(captions.clone()), entries))
    }

    fn of(pool: Pool, entries: Vec<Entry>) -> Self {
        Self {
            pool,
            entries: Arc::new(entries),
            format: QuestionFormat::default(),
        }
    }

    /// The same in another wording around each question.
    pub fn format(mut self, format: QuestionFormat) -> Self {
        self.format = format;
        self
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The question at a position as it was asked, without the words around it.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub fn question(&self, position: usize) -> Result<&str> {
        Ok(&self.entry(position)?.question)
    }

    /// What stands between picture and answer.
    ///
    /// # Errors
    /// `Input` when there is no such position, or the question is empty.
    pub fn query(&self, position: usize) -> Result<String> {
        self.format.query(&self.entry(position)?.question)
    }

    /// The right answers.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub fn answers(&self, position: usize) -> Result<&[String]> {
        Ok(&self.entry(position)?.answers)
    }

    /// What kind of question it is.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub fn kind(&self, position: usize) -> Result<&str> {
        Ok(&self.entry(position)?.kind)
    }

    /// The picture: drawn or decoded now.
    ///
    /// # Errors
    /// `Input` when there is no such position; `Io` or `Image` for a file that can't be read.
    pub fn image(&self, position: usize) -> Result<Image> {
        let picture = self.entry(position)?.picture;
        match &self.pool {
            Pool::Given(images) => images
                .get(picture)
                .cloned()
                .ok_or_else(|| missing(picture, images.len())),
            Pool::Drawn(shapes, split) => shapes.draw(&shapes.scene(*split, picture as u64)),
            Pool::Read(captions) => Ok(captions.sample(picture)?.image),
        }
    }

    /// The file that the picture lies in; `None` for one that is drawn or given.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub(crate) fn picture_file(&self, position: usize) -> Result<Option<PictureFile>> {
        match &self.pool {
            Pool::Read(captions) => captions.picture_file(self.entry(position)?.picture),
            Pool::Given(_) | Pool::Drawn(..) => Ok(None),
        }
    }

    /// The kinds that there are, in alphabetical order.
    pub fn kinds(&self) -> Vec<String> {
        let kinds = self.entries.iter().map(|entry| entry.kind.clone());
        Vec::from_iter(kinds.collect::<std::collections::BTreeSet<_>>())
    }

    /// Only the questions of a kind.
    ///
    /// # Errors
    /// `Input` when there is none, naming the kinds that there are.
    pub fn of_kind(&self, kind: &str) -> Result<Self> {
        let some = self.keep(|_, entry| entry.kind == kind);
        match some.is_empty() {
            true => Err(Error::Input(format!(
                "no question is of the kind {kind:?}: there are {}",
                self.kinds().join(", ")
            ))),
            false => Ok(some),
        }
    }

    /// As many questions for each answer of a kind as its rarest answer has, drawn by the seed: whoever says the same to all questions
    /// of the kind is right no more often than whoever guesses. Kinds without repeated answers, such as captions, stay as they are.
    pub fn balanced(&self, seed: u64) -> Self {
        let mut places: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if let Some(answer) = entry.answers.first() {
                let of = (entry.kind.as_str(), answer.as_str());
                places.entry(of).or_default().push(at);
            }
        }
        let mut rarest: BTreeMap<&str, usize> = BTreeMap::new();
        for ((kind, _), places) in &places {
            let least = rarest.entry(kind).or_insert(usize::MAX);
            *least = places.len().min(*least);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut kept = vec![false; self.len()];
        for ((kind, _), places) in &mut places {
            places.shuffle(&mut rng);
            let most = match *kind {
                DESCRIPTION => places.len(),
                kind => rarest.get(kind).copied().unwrap_or_default(),
            };
            places.iter().take(most).for_each(|at| kept[*at] = true);
        }
        self.keep(|at, _| kept[at])
    }

    /// At most so many questions of each kind, those that come first.
    pub fn at_most(&self, questions: usize) -> Self {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let kept: Vec<bool> = self
            .entries
            .iter()
            .map(|entry| {
                let count = seen.entry(&entry.kind).or_default();
                *count += 1;
                *count <= questions
            })
            .collect();
        self.keep(|at, _| kept[at])
    }

    fn keep(&self, which: impl Fn(usize, &Entry) -> bool) -> Self {
        let entries = self.entries.iter().enumerate();
        let kept = entries.filter(|(at, entry)| which(*at, entry));
        let kept = kept.map(|(_, entry)| Entry {
            picture: entry.picture,
            question: entry.question.clone(),
            answers: entry.answers.clone(),
            kind: entry.kind.clone(),
        });
        Self {
            entries: Arc::new(kept.collect()),
            ..self.clone()
        }
    }

    /// For each kind what its most frequent answer is, and how often that is right.
    pub fn priors(&self) -> Vec<Prior> {
        let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        let mut questions: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in self.entries.iter() {
            *questions.entry(&entry.kind).or_default() += 1;
            // Ten people may have given one answer: it is right for this question once.
            for answer in entry.answers.iter().collect::<BTreeSet<_>>() {
                let of_kind = counts.entry(&entry.kind).or_default();
                *of_kind.entry(answer).or_default() += 1;
            }
        }
        let prior = |(kind, questions): (&str, usize)| {
            let answers = counts.get(kind);
            let usual = answers.and_then(|answers| answers.iter().max_by_key(|(_, count)| **count));
            let (usual, count) = usual.map_or(("", 0), |(answer, count)| (*answer, *count));
            Prior {
                kind: kind.to_string(),
                questions,
                answers: answers.map_or(0, BTreeMap::len),
                usual: usual.to_string(),
                share: count as f64 / questions as f64,
            }
        };
        questions.into_iter().map(prior).collect()
    }

    fn entry(&self, position: usize) -> Result<&Entry> {
        let entry = self.entries.get(position);
        entry.ok_or_else(|| missing(position, self.len()))
    }
}

fn missing(position: usize, count: usize) -> Error {
    Error::Input(format!(
        "there is no question {position} among {count}: the first is number 0"
    ))
}

impl Render for Questions {
    fn render(&self) -> MimeBundle {
        let title = format!(
            "Questions({} about pictures)",
            number::count(self.len() as u64)
        );
        let priors = self.priors();
        table(&priors.iter().collect::<Vec<_>>())
            .title(title)
            .render()
    }
}

impl Render for Prior {
    fn render(&self) -> MimeBundle {
        Self::render_all(&[self])
    }

    fn render_all(priors: &[&Self]) -> MimeBundle {
        table(priors).title("Right without a look").render()
    }
}

fn table(priors: &[&Prior]) -> Table {
    let headings = [
        "kind",
        "questions",
        "answers",
        "most frequent answer",
        "right with it",
    ];
    let mut table = Table::new(headings);
    for prior in priors {
        table.push(vec![
            prior.kind.as_str().into(),
            prior.questions.into(),
            prior.answers.into(),
            prior.usual.as_str().into(),
            Cell::figure(format!("{:.1}%", 100.0 * prior.share)),
        ]);
    }
    table
}

debug_by_first_line!(Questions);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ShapesConfig;

    fn shapes() -> Result<Shapes> {
        Shapes::new(ShapesConfig::default())
    }

    #[test]
    fn an_answer_that_several_people_gave_counts_once() -> Result<()> {
        let image = Image::filled(8, 8, [0; 3])?;
        let asked = "is it red".to_string();
        let many = vec!["yes".to_string(), "yes".into(), "no".into()];
        let questions = Questions::new([(image, asked, many)]);
        let priors = questions.priors();
        assert!(
            matches!(&priors[..], [one] if one.share == 1.0),
            "{priors:?}"
        );
        Ok(())
    }

    #[test]
    fn shapes_ask_of_every_kind_with_the_picture_that_was_asked_about() -> Result<()> {
        let shapes = shapes()?;
        let questions = Questions::of_shapes(&shapes, Split::Val, 300);
        assert_eq!(
            questions.kinds(),
            ["colour", "count", "size", "where", "yes/no"]
        );
        let last = questions.len() - 1;
        assert_eq!(
            questions.image(last)?,
            shapes.sample(Split::Val, 299)?.image
        );
        assert!(questions.query(last)?.starts_with("question: "));
        // As many are answered by yes as by no.
        let yes = questions
            .priors()
            .into_iter()
            .find(|prior| prior.kind == "yes/no");
        let yes = yes.expect("there are some");
        assert_eq!((yes.answers, yes.share), (2, 0.5), "{yes:?}");
        let error = questions.of_kind("weather").map(|_| ()).expect_err("none");
        assert!(error.to_string().contains("colour, count"), "{error}");
        assert!(questions.question(last + 1).is_err() && questions.image(last + 1).is_err());
        Ok(())
    }

    #[test]
    fn balanced_answers_are_equally_frequent_and_the_seed_decides_which_stay() -> Result<()> {
        let questions = Questions::of_shapes(&shapes()?, Split::Train, 400);
        let balanced = questions.balanced(3);
        for prior in balanced.priors() {
            let even = 1.0 / prior.answers as f64;
            assert!((prior.share - even).abs() < 1e-12, "{prior:?}");
        }
        let all = |questions: &Questions| -> Vec<(usize, String)> {
            let entries = questions.entries.iter();
            entries
                .map(|entry| (entry.picture, entry.question.clone()))
                .collect()
        };
        assert_eq!(all(&balanced), all(&questions.balanced(3)));
        assert_ne!(all(&balanced), all(&questions.balanced(4)));
        let few = questions.at_most(7);
        assert!(few.priors().iter().all(|prior| prior.questions == 7));
        let rendered = questions.render();
        assert!(rendered.plain().contains("most frequent answer"));
        Ok(())
    }

    #[test]
    fn captions_become_answers_to_templates() -> std::result::Result<(), Box<dyn std::error::Error>>
    {
        let root = tempfile::tempdir()?;
        shapes()?.write_coco(root.path(), 40, 1)?;
        let captions = Captions::open(root.path(), Split::Train)?;
        let templates = QuestionTemplates::new(["what is it", "was ist das"]);
        let questions = Questions::of_captions(&captions, &templates, 5)?;
        assert_eq!(
            (questions.len(), questions.kinds()),
            (40, vec!["caption".to_string()])
        );
        for position in 0..40 {
            assert_eq!(questions.answers(position)?, captions.captions(position)?);
            assert!(
                templates
                    .questions
                    .contains(&questions.question(position)?.to_string())
            );
        }
        assert_eq!(questions.image(7)?, captions.sample(7)?.image);
        // Hardly a caption stands there twice: there is nothing to balance.
        assert_eq!(questions.balanced(0).len(), 40);
        let none = QuestionTemplates::new(Vec::<String>::new());
        assert!(Questions::of_captions(&captions, &none, 5).is_err());
        Ok(())
    }
}
