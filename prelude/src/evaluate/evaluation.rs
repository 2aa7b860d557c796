//! The outcome of an evaluation: a table of metrics by condition, each figure with its interval and its number of pictures.

use super::bootstrap::Interval;
use super::metric::{Answered, Score};
use crate::display::facts::debug_by_first_line;
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::train::Unreadable;
use crate::train::unreadable;

/// Under what the answers were given.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = vec![(image, vec!["a red square".to_string()]), (Image::filled(64, 64, [30, 40, 200])?, vec!["all blue".into()])];
/// let found = Evaluator::new().metric(ExactMatch).max_new_tokens(4).run(&Vlm::tiny(&Device::Cpu)?, &set)?;
/// let asked: Vec<&str> = found.rows.iter().map(|row| row.condition.name()).collect();
/// assert_eq!(asked.len(), 4); // the model, with a black picture, with another one, and the most frequent caption
/// let blind = found.of(Condition::Blind, "exact match").unwrap();
/// assert_eq!(blind.each.len(), 2);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The model with the picture.
    Model,
    /// The model with a black picture.
    Blind,
    /// The model with the picture of another sample.
    Shuffled,
    /// No model: always the most frequent caption.
    MostFrequent,
}

impl Condition {
    /// As the table of an evaluation of captions of pictures calls it.
    pub fn name(self) -> &'static str {
        self.named(true, true)
    }

    /// As the table calls it where pictures are shown, or inputs of another sense, and where captions are said, or answers.
    fn named(self, pictures: bool, captions: bool) -> &'static str {
        match self {
            Condition::Model => "the model",
            Condition::Blind if pictures => "blind (black picture)",
            Condition::Blind => "blind (input of zeros)",
            Condition::Shuffled if pictures => "another picture",
            Condition::Shuffled => "another input",
            Condition::MostFrequent if captions => "most frequent caption",
            Condition::MostFrequent => "most frequent answer",
        }
    }
}

/// The answers under one condition with their scores.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::Row;
///
/// # fn main() -> Result<()> {
/// let set = vec![(Image::filled(80, 80, [200, 30, 40])?, vec!["a red square".to_string()])];
/// let evaluator = Evaluator::new().metric(ExactMatch).without_baselines().max_new_tokens(4);
/// let evaluation = evaluator.run(&Vlm::tiny(&Device::Cpu)?, &set)?;
/// let row: &Row = &evaluation.rows[0];
/// assert_eq!((row.scores.len(), row.intervals.len(), row.answers.len()), (1, 1, 1));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Row {
    /// Under what they were given.
    pub condition: Condition,
    /// The figures; those that need a model are missing where there is none.
    pub scores: Vec<Score>,
    /// How sure each figure is.
    pub intervals: Vec<Interval>,
    /// One for each picture.
    pub answers: Vec<Answered>,
}

/// Figures by condition. Shows itself as a table.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let set = vec![(Image::filled(64, 64, [200, 30, 40])?, vec!["a red square".to_string()])];
/// let evaluator = Evaluator::new().metric(ExactMatch).without_baselines().max_new_tokens(8);
/// let found: Evaluation = evaluator.run(&Vlm::tiny(&Device::Cpu)?, &set)?;
/// let score = found.score("exact match").unwrap();
/// assert_eq!(score.value == 1.0, ExactMatch::is_right(&found.answers()[0]));
/// assert!(found.score("BLEU-4").is_none()); // was not asked for
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Evaluation {
    /// The model first.
    pub rows: Vec<Row>,
    /// Decides the draws of the intervals.
    pub seed: u64,
    /// What the baseline without a model says.
    pub usual: String,
    /// Whether that came from captions that were given for it.
    pub(super) usual_is_given: bool,
    /// Pictures that were left out because they can't be read.
    pub unreadable: Vec<Unreadable>,
    /// Which state of the model it is of, where that is one of several of a run; in the table's title.
    pub of: Option<String>,
    /// Whether what was shown is pictures, not molecules, spectra or anything else: the table's words follow it.
    pub pictures: bool,
}

impl Evaluation {
    /// A figure by its name, such as `BLEU-4`, of the model.
    pub fn score(&self, name: &str) -> Option<&Score> {
        self.of(Condition::Model, name)
    }

    /// A figure by its name under a condition.
    pub fn of(&self, condition: Condition, name: &str) -> Option<&Score> {
        let row = self.rows.iter().find(|row| row.condition == condition)?;
        row.scores.iter().find(|score| score.name == name)
    }

    /// The answers of the model.
    pub fn answers(&self) -> &[Answered] {
        self.rows.first().map_or(&[], |row| &row.answers)
    }

    /// The metrics as rows, the conditions as columns.
    pub fn table(&self) -> Table {
        let pictures = self.answers().len();
        let shown = self.shown();
        let mut title = format!("{} {shown}", number::count(pictures as u64));
        if !self.unreadable.is_empty() {
            title.push_str(&format!(", {}", unreadable::words(self.unreadable.len())));
        }
        if let Some(of) = &self.of {
            title.push_str(&format!(" · {of}"));
        }
        let mut table = Table::new(["metric", shown])
            .headings(
                self.rows
                    .iter()
                    .map(|row| self.named(row.condition).to_string()),
            )
            .title(title)
            .note(self.note());
        let Some(model) = self.rows.first() else {
            return table;
        };
        for score in &model.scores {
            let mut cells: Vec<Cell> = vec![score.name.as_str().into(), score.pictures().into()];
            cells.extend(
                self.rows
                    .iter()
                    .map(|row| Cell::figure(row.written(&score.name))),
            );
            table.push(cells);
        }
        table
    }

    fn named(&self, condition: Condition) -> &'static str {
        condition.named(self.pictures, self.of_captions())
    }

    /// Whether what is said are captions of pictures, not answers to questions, whose kind is told.
    fn of_captions(&self) -> bool {
        self.pictures && self.answers().iter().all(|answer| answer.kind.is_none())
    }

    /// What was asked about, each once, as a word.
    fn shown(&self) -> &'static str {
        match self.pictures {
            true if self.of_captions() => "pictures",
            true => "questions",
            false => "inputs",
        }
    }

    fn note(&self) -> String {
        let mut note = format!(
            "in brackets: 95% of {} draws of as many {} (seed {})",
            number::count(super::bootstrap::RESAMPLES as u64),
            self.shown(),
            self.seed
        );
        if self
            .rows
            .iter()
            .any(|row| row.condition == Condition::MostFrequent)
        {
            let from = match self.usual_is_given {
                true if self.of_captions() => "the captions that were given for it",
                true => "the answers that were given for it",
                false => "these references themselves, which favours it",
            };
            note.push_str(&format!(
                "; {}, from {from}: {:?}",
                self.named(Condition::MostFrequent),
                self.usual
            ));
        }
        note
    }
}

debug_by_first_line!(Row, Evaluation);

impl Row {
    /// A figure with its interval, or a dash where it has none under this condition.
    fn written(&self, name: &str) -> String {
        let Some(at) = self.scores.iter().position(|score| score.name == name) else {
            return "–".into();
        };
        let score = &self.scores[at];
        let value = score.written(score.value);
        match self.intervals.get(at) {
            Some(interval) => format!(
                "{value} [{}, {}]",
                score.written(interval.low),
                score.written(interval.high)
            ),
            None => value,
        }
    }
}

impl Render for Row {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["metric", "pictures", self.condition.name()]);
        for score in &self.scores {
            let figure = Cell::figure(self.written(&score.name));
            table.push(vec![
                score.name.as_str().into(),
                score.pictures().into(),
                figure,
            ]);
        }
        table.render()
    }
}

impl Render for Evaluation {
    fn render(&self) -> MimeBundle {
        self.table().render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(kind: Option<&str>, pictures: bool) -> String {
        let answered = Answered {
            kind: kind.map(str::to_owned),
            ..Answered::new("red", ["red"])
        };
        let row = |condition| Row {
            condition,
            scores: Vec::new(),
            intervals: Vec::new(),
            answers: vec![answered.clone()],
        };
        let evaluation = Evaluation {
            rows: vec![row(Condition::Model), row(Condition::MostFrequent)],
            seed: 0,
            usual: "red".into(),
            usual_is_given: true,
            unreadable: Vec::new(),
            of: None,
            pictures,
        };
        evaluation.render().plain().to_owned()
    }

    #[test]
    fn answers_to_questions_are_not_called_captions() {
        let captions = table_of(None, true);
        assert!(
            captions.contains("most frequent caption, from the captions"),
            "{captions}"
        );
        assert!(captions.contains("1 pictures"), "{captions}");
        for answers in [table_of(Some("colour"), true), table_of(None, false)] {
            assert!(
                answers.contains("most frequent answer, from the answers"),
                "{answers}"
            );
            assert!(!answers.contains("caption"), "{answers}");
        }
        assert!(table_of(Some("colour"), true).contains("1 questions"));
    }
}
