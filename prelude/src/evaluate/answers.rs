//! Exact answers: how often the model writes just what a set's example says, for captions, questions and prompts of any form.
//!
//! example ─ its prompt without the answer ─► greedy text ─ compared with the answer as [`ExactMatch`] compares

use super::ExactMatch;
use super::readable::Readable;
use crate::display::facts::debug_by_first_line;
use crate::display::{Cell, MimeBundle, Progress, Render, Table};
use crate::train::TrainingSet;
use crate::train::Unreadable;
use crate::vlm::{Prompt, Vlm};
use crate::{Error, Result};

/// New tokens beyond the length of the expected answer.
const SPARE: usize = 4;
/// Examples that are answered together.
const BATCH: usize = 16;

/// What the model answered to one example.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let report = answer_accuracy(&Vlm::tiny(&Device::Cpu)?, &set, 1)?;
/// let answer: &Answer = &report.answers[0];
/// assert_eq!(answer.expected, ["a red square"]);
/// assert_eq!(answer.is_right(), ExactMatch::same(&answer.written, "a red square"));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What messages call the example.
    pub example: String,
    /// What it wrote.
    pub written: String,
    /// What the example says: one of its captions or answers each counts as right.
    pub expected: Vec<String>,
}

impl Answer {
    /// Whether it is one of the expected, by [`ExactMatch::same`].
    pub fn is_right(&self) -> bool {
        let mut expected = self.expected.iter();
        expected.any(|expected| ExactMatch::same(&self.written, expected))
    }
}

/// Answers with how many are right.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = vec![Example::new(&image, "four").asked("how many corners?"), Example::new(&image, "a red square")];
/// let report: AnswerReport = answer_accuracy(&Vlm::tiny(&Device::Cpu)?, &set, 2)?;
/// let right = report.answers.iter().filter(|answer| answer.is_right()).count();
/// assert_eq!(report.accuracy(), right as f64 / 2.0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct AnswerReport {
    /// One for each example, in the order of the set.
    pub answers: Vec<Answer>,
    /// Examples that were left out because they can't be read.
    pub unreadable: Vec<Unreadable>,
}

impl AnswerReport {
    /// Part of the answers that are right, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.right() as f64 / self.answers.len().max(1) as f64
    }

    fn right(&self) -> usize {
        let answers = self.answers.iter();
        answers.filter(|answer| answer.is_right()).count()
    }
}

/// Has the model answer the first `samples` readable examples of any [`TrainingSet`] and compares. Shows progress.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = vec![Example::new(&image, "four").asked("how many corners?")];
/// let report = answer_accuracy(&Vlm::tiny(&Device::Cpu)?, &set, 10)?;
/// assert!(report.accuracy() <= 1.0);
/// # Ok(()) }
/// ```
///
/// # Errors
/// `Interrupted`; `Input` when there is nothing to answer; whatever reading an example or generating reports.
pub fn answer_accuracy(vlm: &Vlm, set: &dyn TrainingSet, samples: usize) -> Result<AnswerReport> {
    if samples == 0 || set.is_empty() {
        return Err(Error::Input(
            "accuracy over 0 examples: ask for at least 1".into(),
        ));
    }
    let samples = samples.min(set.len());
    let progress = Progress::new("answering held-out examples", samples);
    let (mut readable, mut answers) = (Readable::of(set.len()), Vec::new());
    while answers.len() < samples {
        let (mut prompts, mut asked, mut longest) = (Vec::new(), Vec::new(), 0);
        let wanted = BATCH.min(samples - answers.len());
        for (position, example) in readable.next(wanted, |position| set.example(vlm, position))? {
            let whole: Vec<Prompt> = (0..example.choices())
                .map(|choice| example.prompt(vlm, Some(choice)))
                .collect::<Result<_>>()?;
            let Some(first) = whole.first() else {
                return Err(Error::Input(format!(
                    "{} has no answer to compare with",
                    set.name(position)
                )));
            };
            let ids: Vec<Vec<u32>> = whole.iter().map(last_answer).collect();
            longest = ids.iter().map(Vec::len).fold(longest, usize::max);
            let expected = ids.iter().map(|ids| vlm.llm_processor.decode(ids));
            asked.push((set.name(position), expected.collect::<Result<Vec<_>>>()?));
            prompts.push(first.without_answer());
        }
        if prompts.is_empty() {
            break;
        }
        progress.advance(prompts.len())?;
        let written = vlm
            .generate_prompts(&prompts)?
            .max_new_tokens(longest + SPARE)
            .run_all()?;
        for ((example, expected), written) in asked.into_iter().zip(written) {
            let written = written.text;
            answers.push(Answer {
                example,
                written,
                expected,
            });
        }
    }
    progress.finish("");
    Ok(AnswerReport {
        answers,
        unreadable: readable.left_out.list().to_vec(),
    })
}

fn last_answer(prompt: &Prompt) -> Vec<u32> {
    prompt
        .answers()
        .next_back()
        .map_or_else(Vec::new, |last| last.ids.clone())
}

impl Render for Answer {
    fn render(&self) -> MimeBundle {
        Self::render_all(&[self])
    }

    fn render_all(answers: &[&Self]) -> MimeBundle {
        let mut table = Table::new(["example", "written", "expected", ""]);
        for answer in answers {
            let right = if answer.is_right() {
                Cell::good("right")
            } else {
                Cell::text("wrong")
            };
            let expected = answer.expected.join(" · ");
            table.push(vec![
                answer.example.as_str().into(),
                answer.written.as_str().into(),
                expected.into(),
                right,
            ]);
        }
        table.render()
    }
}

impl Render for AnswerReport {
    fn render(&self) -> MimeBundle {
        Table::new(["examples", "right", "accuracy", "left out"])
            .row([
                self.answers.len().into(),
                self.right().into(),
                Cell::figure(format!("{:.1}%", 100.0 * self.accuracy())),
                self.unreadable.len().into(),
            ])
            .title("Exact answers")
            .render()
    }
}

debug_by_first_line!(AnswerReport);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_marks_and_spaces_do_not_count() {
        let answer = |written: &str| Answer {
            example: "0".into(),
            written: written.into(),
            expected: vec!["four".into(), "4".into()],
        };
        assert!(answer(" Four,").is_right() && answer("4").is_right());
        assert!(!answer("fourteen").is_right() && !answer("").is_right());
    }
}
