//! Calibration: of the answers of which a model is 80% sure, are 80% right?
//!
//! (confidence, right or wrong) → bins of confidence → the expected calibration error: the distance of sureness and truth,
//! weighed by how many answers lie in a bin. [`Reliability`] is the picture.

use super::exact_match::ExactMatch;
use super::metric::{Answered, Metric, Needs, Score, with_references};
use crate::display::facts::debug_by_first_line;
use crate::display::{Cell, Figure, LinePlot, MimeBundle, Render, Table, number};
use crate::{Error, Result};

/// Bins of equal width.
const BINS: usize = 10;

/// Expected calibration error; an answer is right if it is an [`ExactMatch`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let sure = |confidence, said: &str| Answered { confidence: Some(confidence), ..Answered::new(said, ["red"]) };
/// // 90% sure four times, and right three times.
/// let said = [sure(0.9, "red"), sure(0.9, "red"), sure(0.9, "red"), sure(0.9, "blue")];
/// let error = &Calibration.scores(&said)?[0];
/// assert!((error.value - 0.15).abs() < 1e-9);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Calibration;

impl Metric for Calibration {
    fn name(&self) -> String {
        "calibration".into()
    }

    fn needs(&self) -> Needs {
        Needs {
            confidence: true,
            ..Needs::default()
        }
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        let reliability = Reliability::of(answers)?;
        let each = reliability
            .answers
            .iter()
            .map(|(sure, right)| (sure - f64::from(u8::from(*right))).abs());
        let sums = reliability.answers.iter().map(|(sure, right)| {
            let mut sums = vec![0.0; 3 * BINS];
            let bin = 3 * bin(*sure);
            sums[bin] = 1.0;
            sums[bin + 1] = *sure;
            sums[bin + 2] = f64::from(u8::from(*right));
            sums
        });
        let score = Score::of_sums(
            "calibration error",
            each.collect(),
            sums.collect(),
            |sums| {
                let count: f64 = sums.chunks(3).map(|bin| bin[0]).sum();
                sums.chunks(3)
                    .map(|bin| (bin[1] - bin[2]).abs())
                    .sum::<f64>()
                    / count
            },
        );
        Ok(vec![score.as_share()])
    }
}

fn bin(confidence: f64) -> usize {
    ((confidence * BINS as f64) as usize).min(BINS - 1)
}

/// How sure a model was and how often it was right, bin by bin.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let sure = |confidence, said: &str| Answered { confidence: Some(confidence), ..Answered::new(said, ["red"]) };
/// let said = [sure(0.25, "blue"), sure(0.75, "red"), sure(0.75, "blue")];
/// let reliability = Reliability::of(&said)?; // shows itself as a plot
/// assert_eq!(reliability.bins(), [(0.25, 0.0, 1), (0.75, 0.5, 2)]); // how sure, how often right, of how many
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Reliability {
    /// Confidence, and whether the answer is right.
    answers: Vec<(f64, bool)>,
}

impl Reliability {
    /// Of answers with their confidence.
    ///
    /// # Errors
    /// `Input` for an answer without confidence or reference, or whose confidence is not between 0 and 1.
    pub fn of(answers: &[Answered]) -> Result<Reliability> {
        with_references("calibration", answers)?;
        let answers = answers.iter().map(|answer| match answer.confidence {
            Some(sure) if (0.0..=1.0).contains(&sure) => Ok((sure, ExactMatch::is_right(answer))),
            Some(sure) => Err(Error::Input(format!(
                "calibration: a confidence of {sure} is not between 0 and 1"
            ))),
            None => Err(Error::Input(
                "calibration: the answers have no confidence, which only a model can give".into(),
            )),
        });
        Ok(Reliability {
            answers: answers.collect::<Result<_>>()?,
        })
    }

    /// Mean confidence, share of right answers and number of answers of each bin that has any.
    pub fn bins(&self) -> Vec<(f64, f64, usize)> {
        let bins = (0..BINS).map(|wanted| {
            let inside: Vec<_> = self
                .answers
                .iter()
                .filter(|(sure, _)| bin(*sure) == wanted)
                .collect();
            let count = inside.len();
            let mean = |sum: f64| sum / count as f64;
            let sure = mean(inside.iter().map(|(sure, _)| sure).sum());
            let right = mean(inside.iter().filter(|(_, right)| *right).count() as f64);
            (sure, right, count)
        });
        bins.filter(|(_, _, count)| *count > 0).collect()
    }

    /// How often right over how sure; a model that knows what it knows lies on the diagonal.
    ///
    /// # Errors
    /// When there is nothing to draw.
    pub fn figure(&self) -> Result<Figure> {
        let points = self
            .bins()
            .into_iter()
            .map(|(sure, right, _)| (sure, right))
            .collect();
        LinePlot::new(format!(
            "{} answers",
            number::count(self.answers.len() as u64)
        ))
        .axes("confidence", "right")
        .line("perfectly calibrated", vec![(0.0, 0.0), (1.0, 1.0)])
        .line("the model", points)
        .figure()
    }
}

debug_by_first_line!(Reliability);

impl Render for Reliability {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["confidence", "right", "answers"]).title(format!(
            "Reliability of {} answers",
            number::count(self.answers.len() as u64)
        ));
        for (sure, right, count) in self.bins() {
            table.push(vec![
                Cell::figure(number::percent(sure)),
                Cell::figure(number::percent(right)),
                count.into(),
            ]);
        }
        let table = table.render();
        match self.figure() {
            Ok(figure) => MimeBundle::text(table.plain().to_string()).with_html(figure.html()),
            Err(_) => table,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(confidence: f64, right: bool) -> Answered {
        Answered {
            confidence: Some(confidence),
            ..Answered::new(if right { "yes" } else { "no" }, ["yes"])
        }
    }

    #[test]
    fn the_error_is_the_distance_of_sureness_and_truth() -> Result<()> {
        let answers = [
            said(0.9, true),
            said(0.9, false),
            said(0.2, false),
            said(1.0, true),
        ];
        // Bin 0.9–1.0: sure 2.8 of 3, right 2; bin 0.2: sure 0.2, right 0.
        let wanted = ((2.8 - 2.0) + 0.2) / 4.0;
        let score = &Calibration.scores(&answers)?[0];
        assert!((score.value - wanted).abs() < 1e-12, "{score:?}");
        let reliability = Reliability::of(&answers)?;
        assert_eq!(reliability.bins().len(), 2);
        assert!(
            reliability
                .render()
                .html()
                .is_some_and(|html| html.contains("svg"))
        );
        assert!(Reliability::of(&[said(1.5, true)]).is_err());
        assert!(Reliability::of(&[Answered::new("a", ["a"])]).is_err());
        Ok(())
    }
}
