//! ROUGE-L: the longest sequence of words that a caption and a reference share, in order, with gaps.
//!
//! As `pycocoevalcap` 1.2 has it: the best precision and the best recall of any reference, β = 1.2.

use super::metric::{Answered, Metric, Score, with_references};
use super::tokenizer;
use crate::Result;

const BETA: f64 = 1.2;

/// ROUGE-L.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = [Answered::new("a star", ["a red star"])];
/// let score = &RougeL::default().scores(&said)?[0];
/// assert!(score.value > 0.7 && score.value < 1.0); // both words in order, one is missing
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RougeL {
    /// The captions are tokenised already: words stand between single spaces.
    pub tokenized: bool,
}

impl Metric for RougeL {
    fn name(&self) -> String {
        "ROUGE-L".into()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        with_references("ROUGE-L", answers)?;
        let each = answers.iter().map(|answer| self.score(answer)).collect();
        Ok(vec![Score::mean("ROUGE-L", each)])
    }
}

impl RougeL {
    fn score(&self, answer: &Answered) -> f64 {
        let prepared = |text: &str| tokenizer::prepared(text, self.tokenized);
        // The reference splits at each space: an empty caption is one empty word.
        let prediction = prepared(&answer.prediction);
        let said: Vec<&str> = prediction.split(' ').collect();
        let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
        for reference in &answer.references {
            let reference = prepared(reference);
            let reference: Vec<&str> = reference.split(' ').collect();
            let common = common(&said, &reference) as f64;
            precision = precision.max(common / said.len() as f64);
            recall = recall.max(common / reference.len() as f64);
        }
        if precision == 0.0 || recall == 0.0 {
            return 0.0;
        }
        let square = BETA * BETA;
        (1.0 + square) * precision * recall / (recall + square * precision)
    }
}

/// Length of the longest common subsequence.
fn common(one: &[&str], other: &[&str]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for word in one {
        let mut diagonal = 0;
        for (at, other) in other.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = match word == other {
                true => diagonal + 1,
                false => above.max(row[at]),
            };
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}
