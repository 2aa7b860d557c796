//! What a metric is: (what was said, what is right) for every picture → named figures.
//!
//! A figure of a whole set is a function of sums over its pictures, [`Score::of_sums`]: a mean, BLEU's counts, an F1. That
//! is all that the [bootstrap](mod@super::bootstrap) needs to say how sure it is.

use std::sync::Arc;

use super::bootstrap::{self, Interval};
use crate::{Error, Result};

/// What was said about one picture, beside what is right.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = Answered::new("a red star", ["a red star", "one red star"]);
/// assert!(ExactMatch::is_right(&said));
/// let counted = Answered::new("two", ["three"]).of_kind("count"); // for `ByKind`
/// assert_eq!(ExactMatch.scores(&[said, counted])?[0].value, 0.5);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// What the model said.
    pub prediction: String,
    /// What people say: captions of the picture, or answers to the question.
    pub references: Vec<String>,
    /// What kind of question it answers, where the set tells.
    pub kind: Option<String>,
    /// How sure the model was of its prediction, 0 to 1: the probability of all its tokens.
    pub confidence: Option<f64>,
    /// How surprised the model was by the references.
    pub surprise: Option<Surprise>,
}

impl Answered {
    /// A prediction beside its references.
    pub fn new<S: Into<String>>(
        prediction: impl Into<String>,
        references: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            prediction: prediction.into(),
            references: references.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The same as an answer to a kind of question.
    pub fn of_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }
}

/// The loss of the references' tokens, summed.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::Surprise;
///
/// let surprise = Surprise { nats: 4f64.ln() * 2.0, tokens: 2 };
/// let per_token = surprise.nats / surprise.tokens as f64;
/// assert!((per_token.exp() - 4.0).abs() < 1e-9); // as if undecided between four words each time
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Surprise {
    /// Sum of the cross-entropies in nats.
    pub nats: f64,
    /// Tokens that they are of.
    pub tokens: usize,
}

/// What a metric needs to be told besides texts. Each costs forward passes.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::Needs;
///
/// assert_eq!(ExactMatch.needs(), Needs::default()); // texts are enough
/// assert!(Perplexity.needs().surprise); // the loss of what is right
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// [`Answered::confidence`].
    pub confidence: bool,
    /// [`Answered::surprise`].
    pub surprise: bool,
}

/// A way to score. A metric of your own is one `impl` with [`Score::mean`]:
///
/// ```
/// use glassbox_prelude::evaluate::{Answered, Metric, Score};
/// struct Words;
/// impl Metric for Words {
///     fn name(&self) -> String {
///         "words".into()
///     }
///     fn scores(&self, answers: &[Answered]) -> glassbox_prelude::Result<Vec<Score>> {
///         let words = answers.iter().map(|answer| answer.prediction.split_whitespace().count() as f64);
///         Ok(vec![Score::mean("words", words.collect())])
///     }
/// }
/// let said = [Answered::new("a red star", ["a star"]), Answered::new("a star", ["a star"])];
/// assert_eq!(Words.scores(&said)?[0].value, 2.5);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub trait Metric {
    /// How messages call it.
    fn name(&self) -> String;

    /// What it needs besides texts.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// One or more figures over all answers.
    ///
    /// # Errors
    /// `Input` where the answers are not of the kind that it scores.
    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>>;
}

/// How a figure is written.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::Unit;
///
/// let share = Score::share("right", [true, false]);
/// assert_eq!(share.unit, Unit::Share);
/// assert_eq!(share.written(share.value), "50.0%");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// As a number.
    #[default]
    Number,
    /// A share, as per cent.
    Share,
}

type Whole = Arc<dyn Fn(&[f64]) -> f64 + Send + Sync>;

/// One figure: of the whole set, and of each picture.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let score = Score::share("right", [true, true, false, true]);
/// assert_eq!((score.value, score.written(score.value).as_str()), (0.75, "75.0%"));
/// let interval = score.interval(0); // 95%, by the bootstrap with seed 0
/// assert!(interval.low < 0.75 && interval.high > 0.75);
/// ```
#[derive(Clone)]
pub struct Score {
    /// `BLEU-4`.
    pub name: String,
    /// Of the whole set.
    pub value: f64,
    /// Of each picture, in the order of the answers; NaN for one that has none.
    pub each: Vec<f64>,
    /// How it is written.
    pub unit: Unit,
    /// What each picture adds to the sums.
    sums: Vec<Vec<f64>>,
    whole: Whole,
}

impl Score {
    /// The mean of the pictures' figures; NaN stands for a picture that does not count.
    pub fn mean(name: impl Into<String>, each: Vec<f64>) -> Score {
        let sums = each.iter().map(|value| match value.is_nan() {
            true => vec![0.0, 0.0],
            false => vec![*value, 1.0],
        });
        let sums = sums.collect();
        Self::of_sums(name, each, sums, |sums| sums[0] / sums[1])
    }

    /// The mean of yes and no, as per cent.
    pub fn share(name: impl Into<String>, each: impl IntoIterator<Item = bool>) -> Score {
        let each = each.into_iter().map(|right| f64::from(u8::from(right)));
        Self::mean(name, each.collect()).as_share()
    }

    /// A function of sums over the pictures: `sums` has what each of them adds, all of one length.
    pub fn of_sums(
        name: impl Into<String>,
        each: Vec<f64>,
        sums: Vec<Vec<f64>>,
        whole: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
    ) -> Score {
        let mut score = Score {
            name: name.into(),
            value: f64::NAN,
            each,
            unit: Unit::Number,
            sums,
            whole: Arc::new(whole),
        };
        score.value = score.of_pictures(0..score.sums.len());
        score
    }

    /// The same figure, written as per cent.
    pub fn as_share(mut self) -> Score {
        self.unit = Unit::Share;
        self
    }

    /// The figure of some of `pictures` answers: `at` says where they stand among all, `name` what it is called.
    pub(super) fn among(self, name: String, at: &[usize], pictures: usize) -> Score {
        let none = vec![0.0; self.sums.first().map_or(0, Vec::len)];
        let (mut each, mut sums) = (vec![f64::NAN; pictures], vec![none; pictures]);
        for ((at, value), sum) in at.iter().zip(&self.each).zip(&self.sums) {
            each[*at] = *value;
            sums[*at] = sum.clone();
        }
        Score {
            name,
            each,
            sums,
            ..self
        }
    }

    /// How many pictures count.
    pub fn pictures(&self) -> usize {
        self.each.iter().filter(|value| !value.is_nan()).count()
    }

    /// The figure of a choice of pictures, in which one may stand several times.
    pub(super) fn of_pictures(&self, pictures: impl IntoIterator<Item = usize>) -> f64 {
        let mut total = vec![0.0; self.sums.first().map_or(0, Vec::len)];
        for picture in pictures {
            for (total, value) in total.iter_mut().zip(&self.sums[picture]) {
                *total += value;
            }
        }
        match total.is_empty() {
            true => f64::NAN,
            false => (self.whole)(&total),
        }
    }

    /// Pictures that the sums are of.
    pub(super) fn all_pictures(&self) -> usize {
        self.sums.len()
    }

    /// Between which values the figure would lie for other pictures of the same kind, in 95 of 100 draws of them.
    pub fn interval(&self, seed: u64) -> Interval {
        bootstrap::interval(self, bootstrap::RESAMPLES, bootstrap::LEVEL, seed)
    }

    /// A value of this figure as it is written.
    pub fn written(&self, value: f64) -> String {
        match (value.is_nan(), self.unit) {
            (true, _) => "–".into(),
            (_, Unit::Share) => format!("{:.1}%", 100.0 * value),
            (_, Unit::Number) if value.abs() >= 100.0 => format!("{value:.1}"),
            (_, Unit::Number) => format!("{value:.3}"),
        }
    }
}

impl std::fmt::Debug for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pictures = self.pictures();
        write!(
            f,
            "{} {} ({pictures} pictures)",
            self.name,
            self.written(self.value)
        )
    }
}

impl crate::display::Render for Score {
    fn render(&self) -> crate::display::MimeBundle {
        crate::display::MimeBundle::text(format!("{self:?}"))
    }
}

/// Every answer needs something to be compared with.
pub(super) fn with_references(metric: &str, answers: &[Answered]) -> Result<()> {
    match answers
        .iter()
        .position(|answer| answer.references.is_empty())
    {
        Some(at) => Err(Error::Input(format!(
            "{metric}: answer {at} ({:?}) has no reference to be compared with: leave the picture out",
            answers[at].prediction
        ))),
        None => Ok(()),
    }
}
