//! Exact match: the prediction is one of the references, capitals, punctuation and spaces aside.

use super::metric::{Answered, Metric, Score, with_references};
use super::tokenizer::CaptionTokenizer;
use crate::Result;

/// Share of the pictures of which exactly a reference was said.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = [Answered::new("Two.", ["two"]), Answered::new("red", ["blue", "green"])];
/// let score = &ExactMatch.scores(&said)?[0];
/// assert_eq!((score.value, &score.each[..]), (0.5, &[1.0, 0.0][..]));
/// assert!(ExactMatch::same("A red star!", "a red star"));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactMatch;

impl ExactMatch {
    /// Whether an answer is one of its references.
    pub fn is_right(answer: &Answered) -> bool {
        let mut references = answer.references.iter();
        references.any(|reference| Self::same(&answer.prediction, reference))
    }

    /// Whether two texts say the same: the same words, capitals, punctuation and spaces aside. What is nothing but punctuation says what
    /// it is.
    pub fn same(one: &str, other: &str) -> bool {
        let (a, b) = (
            CaptionTokenizer::tokenize(one),
            CaptionTokenizer::tokenize(other),
        );
        a == b && (!a.is_empty() || one.trim() == other.trim())
    }
}

impl Metric for ExactMatch {
    fn name(&self) -> String {
        "exact match".into()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        with_references("exact match", answers)?;
        let each = answers.iter().map(Self::is_right);
        Ok(vec![Score::share("exact match", each)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_and_marks_do_not_count_and_any_reference_does() -> Result<()> {
        let answers = [
            Answered::new("Two.", ["three", "two"]),
            Answered::new("a  red star", ["A red star!"]),
            Answered::new("red", ["blue"]),
            Answered::new("", ["?"]),
        ];
        assert_eq!(ExactMatch.scores(&answers)?[0].value, 0.5);
        assert!(ExactMatch::same("!", "!") && !ExactMatch::same("!", "?"));
        assert!(
            ExactMatch
                .scores(&[Answered::new("x", Vec::<String>::new())])
                .is_err()
        );
        Ok(())
    }
}
