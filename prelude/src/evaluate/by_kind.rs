//! Any metric by kind of question: what is right about counts, colours, places … each by itself, and all together.

use super::metric::{Answered, Metric, Needs, Score};
use crate::display::{MimeBundle, Render};
use crate::{Error, Result};

/// A metric of all answers, and of those to each kind of question.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = [
///     Answered::new("two", ["two"]).of_kind("count"),
///     Answered::new("red", ["blue"]).of_kind("colour"),
/// ];
/// let scores = ByKind(ExactMatch).scores(&said)?;
/// let names: Vec<&str> = scores.iter().map(|score| score.name.as_str()).collect();
/// assert_eq!(names, ["exact match", "exact match: colour", "exact match: count"]);
/// assert_eq!((scores[0].value, scores[2].value), (0.5, 1.0));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ByKind<M>(pub M);

impl<M: Metric> Metric for ByKind<M> {
    fn name(&self) -> String {
        format!("{} by kind", self.0.name())
    }

    fn needs(&self) -> Needs {
        self.0.needs()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        let mut scores = self.0.scores(answers)?;
        let mut kinds: Vec<&str> = answers.iter().filter_map(|a| a.kind.as_deref()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() {
            return Err(Error::Input(format!(
                "{}: no answer tells of which kind its question is; `Questions` do",
                self.name()
            )));
        }
        for kind in kinds {
            let at: Vec<usize> = (0..answers.len())
                .filter(|at| answers[*at].kind.as_deref() == Some(kind))
                .collect();
            let some: Vec<Answered> = at.iter().map(|at| answers[*at].clone()).collect();
            for score in self.0.scores(&some)? {
                let name = format!("{}: {kind}", score.name);
                scores.push(score.among(name, &at, answers.len()));
            }
        }
        Ok(scores)
    }
}

impl<M: std::fmt::Debug> Render for ByKind<M> {
    fn render(&self) -> MimeBundle {
        MimeBundle::text(format!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExactMatch, YesNo};
    use super::*;

    #[test]
    fn figures_by_kind_are_those_of_the_kind_alone_with_their_intervals() -> Result<()> {
        let answers: Vec<Answered> = (0..40)
            .map(|n| {
                let (kind, right) = if n % 2 == 0 {
                    ("yes/no", n % 4 == 0)
                } else {
                    ("count", true)
                };
                let said = if right { "yes" } else { "no" };
                Answered::new(said, ["yes"]).of_kind(kind)
            })
            .collect();
        let scores = ByKind(ExactMatch).scores(&answers)?;
        let figures: Vec<(f64, usize)> = scores.iter().map(|s| (s.value, s.pictures())).collect();
        assert_eq!(figures, [(0.75, 40), (1.0, 20), (0.5, 20)]);
        let interval = scores[2].interval(3);
        assert!(
            interval.low > 0.2 && interval.high < 0.8 && interval.low < 0.5,
            "{interval:?}"
        );
        let sure = scores[1].interval(3);
        assert_eq!((sure.low, sure.high), (1.0, 1.0));
        // A metric of several figures.
        assert_eq!(ByKind(YesNo).scores(&answers)?.len(), 15);
        let unkind = ByKind(ExactMatch)
            .scores(&[Answered::new("a", ["a"])])
            .map(|_| ());
        assert!(unkind.is_err_and(|error| error.to_string().contains("of which kind")));
        Ok(())
    }
}
