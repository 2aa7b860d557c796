//! Yes or no, as POPE asks whether an object is in the picture: accuracy, precision, recall, F1, and how often "yes" is said.
//!
//! A model that always says "yes" has a recall of 1: the share of "yes" stands beside it. An answer is "no" if its first
//! sentence holds the word no or not, else "yes", as POPE has it.

use super::metric::{Answered, Metric, Score, with_references};
use crate::{Error, Result};

/// POPE's five figures for questions that are answered by yes or no.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = [("yes", "yes"), ("yes", "no"), ("no", "no")].map(|(said, truth)| Answered::new(said, [truth]));
/// let scores = YesNo.scores(&said)?;
/// let recall = scores.iter().find(|score| score.name == "recall").unwrap();
/// assert_eq!((scores[0].name.as_str(), recall.value), ("accuracy", 1.0));
/// assert!(!YesNo::is_yes("No, there is none."));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct YesNo;

impl YesNo {
    /// How an answer is understood.
    pub fn is_yes(answer: &str) -> bool {
        let sentence = answer
            .split('.')
            .next()
            .unwrap_or_default()
            .replace(',', "");
        !sentence
            .split_whitespace()
            .any(|word| matches!(word, "No" | "no" | "not"))
    }
}

impl Metric for YesNo {
    fn name(&self) -> String {
        "yes/no".into()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        with_references("yes/no", answers)?;
        // True yes, false yes, false no, true no.
        let mut sums = Vec::with_capacity(answers.len());
        for (at, answer) in answers.iter().enumerate() {
            let truth = match answer.references[0]
                .trim()
                .trim_end_matches('.')
                .to_lowercase()
                .as_str()
            {
                "yes" => true,
                "no" => false,
                other => {
                    return Err(Error::Input(format!(
                        "yes/no: the answer to question {at} is {other:?}; it has to be yes or no"
                    )));
                }
            };
            let said = Self::is_yes(&answer.prediction);
            let place = match (said, truth) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            };
            let mut sum = vec![0.0; 4];
            sum[place] = 1.0;
            sums.push(sum);
        }
        let right: Vec<f64> = sums.iter().map(|sum| sum[0] + sum[3]).collect();
        let said: Vec<f64> = sums.iter().map(|sum| sum[0] + sum[1]).collect();
        let figure = |name: &str, each: Vec<f64>, whole: fn(&[f64]) -> f64| {
            Score::of_sums(name, each, sums.clone(), whole).as_share()
        };
        // What precision and recall are of: those that were said, and those that are, yes.
        let among = |which: fn(&[f64]) -> bool| -> Vec<f64> {
            sums.iter()
                .map(|sum| if which(sum) { sum[0] } else { f64::NAN })
                .collect()
        };
        Ok(vec![
            figure("accuracy", right.clone(), |s| {
                (s[0] + s[3]) / s.iter().sum::<f64>()
            }),
            figure("precision", among(|s| s[0] + s[1] > 0.0), |s| {
                s[0] / (s[0] + s[1])
            }),
            figure("recall", among(|s| s[0] + s[2] > 0.0), |s| {
                s[0] / (s[0] + s[2])
            }),
            figure("F1", right, |s| 2.0 * s[0] / (2.0 * s[0] + s[1] + s[2])),
            figure("says yes", said, |s| (s[0] + s[1]) / s.iter().sum::<f64>()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_follow_from_the_four_counts() -> Result<()> {
        let said = [
            "yes",
            "Yes, there is.",
            "No, there is not.",
            "no",
            "yes",
            "There is not one. Yes.",
        ];
        let truth = ["yes", "no", "yes", "no", "yes", "no"];
        let answers: Vec<Answered> = said
            .iter()
            .zip(truth)
            .map(|(said, truth)| Answered::new(*said, [truth]))
            .collect();
        let values: Vec<f64> = YesNo
            .scores(&answers)?
            .iter()
            .map(|score| score.value)
            .collect();
        let wanted = [4.0 / 6.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 3.0 / 6.0];
        for (value, wanted) in values.iter().zip(wanted) {
            assert!((value - wanted).abs() < 1e-12, "{values:?}");
        }
        let other = YesNo.scores(&[Answered::new("yes", ["two"])]).map(|_| ());
        assert!(other.is_err_and(|error| error.to_string().contains("yes or no")));
        Ok(())
    }
}
