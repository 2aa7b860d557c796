//! Attribute accuracy on shapes pictures: a caption counts as right when it names the right objects.
//!
//! picture → greedy caption → [`SceneAttributes`] → compared with those of the reference caption.

use super::metric::{Answered, Metric, Score, with_references};
use super::readable::Readable;
use crate::data::shapes::{AttributeScore, SceneAttributes};
use crate::data::{CocoCaptions, Sample};
use crate::display::facts::debug_by_first_line;
use crate::display::{Cell, GridItem, ImageGrid, MimeBundle, Progress, Render, Table, number};
use crate::train::unreadable::{self, Unreadable};
use crate::vision::Image;
use crate::vlm::Vlm;
use crate::{Error, Result};

/// Longest caption that is generated, in tokens; the longest of the shapes captions has fewer.
const MAX_NEW_TOKENS: usize = 40;
/// Pictures that are captioned together.
const BATCH: usize = 25;

/// What the model said about one picture.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::Prediction;
///
/// # fn main() -> Result<()> {
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let sample = shapes.sample(Split::Val, 0)?;
/// let set = Captions::of_images([(sample.image, sample.captions)])?;
/// let report = attribute_accuracy(&Vlm::tiny(&Device::Cpu)?, &set, 1)?;
/// let first: &Prediction = &report.predictions[0];
/// println!("{} instead of {}", first.prediction, first.reference);
/// assert_eq!(first.score, glassbox_prelude::data::shapes::score(&first.prediction, &first.reference));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Prediction {
    /// The picture.
    pub image: Image,
    /// Greedy caption.
    pub prediction: String,
    /// The picture's first caption.
    pub reference: String,
    /// What of it is right.
    pub score: AttributeScore,
}

/// Predictions and their scores. Renders as a table; [`AttributeReport::grid`] shows the pictures.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let sample = shapes.sample(Split::Val, 0)?;
/// let set = Captions::of_images([(sample.image, sample.captions)])?;
/// let report: AttributeReport = attribute_accuracy(&Vlm::tiny(&Device::Cpu)?, &set, 1)?;
/// assert!(report.all() <= report.colour()); // all right needs the colours right
/// assert!(report.grid(1).render().html().is_some()); // the picture with what was said of it
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct AttributeReport {
    /// One for each picture, in the order of the dataset.
    pub predictions: Vec<Prediction>,
    /// Pictures that were left out because they can't be read; the next ones took their places.
    pub unreadable: Vec<Unreadable>,
}

/// Captions the first `samples` readable pictures of a shapes dataset and scores them. Shows progress.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let sample = shapes.sample(Split::Val, 0)?;
/// let set = Captions::of_images([(sample.image, sample.captions)])?;
/// let report = attribute_accuracy(&Vlm::tiny(&Device::Cpu)?, &set, 100)?; // of the 1 that there is
/// assert_eq!(report.predictions.len(), 1);
/// assert!((0.0..=1.0).contains(&report.shape()));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// `Interrupted`; `Input` when `samples` is 0, when a reference caption names no coloured shape (not a shapes dataset), or
/// when more than a quarter of the dataset can't be read; whatever generating reports.
pub fn attribute_accuracy(
    vlm: &Vlm,
    dataset: &CocoCaptions,
    samples: usize,
) -> Result<AttributeReport> {
    if samples == 0 {
        return Err(Error::Input(
            "accuracy over 0 pictures: ask for at least 1".into(),
        ));
    }
    let samples = samples.min(dataset.len());
    let progress = Progress::new("captioning held-out pictures", samples);
    let mut predictions = Vec::with_capacity(samples);
    let mut readable = Readable::of(dataset.len());
    while predictions.len() < samples {
        let wanted = BATCH.min(samples - predictions.len());
        let batch = readable.next(wanted, |position| dataset.sample(position))?;
        let batch: Vec<Sample> = batch.into_iter().map(|(_, sample)| sample).collect();
        if batch.is_empty() {
            break;
        }
        let images: Vec<Image> = batch.iter().map(|sample| sample.image.clone()).collect();
        let generated = vlm
            .generate_batch(&images)?
            .max_new_tokens(MAX_NEW_TOKENS)
            .run_all()?;
        progress.advance(batch.len())?;
        for (sample, generation) in batch.into_iter().zip(generated) {
            predictions.push(judge(sample, generation.text)?);
        }
    }
    progress.finish("");
    Ok(AttributeReport {
        predictions,
        unreadable: readable.left_out.list().to_vec(),
    })
}

/// The same as a [`Metric`] among others: colours, shapes, number of objects, and all together.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = [Answered::new("two red stars", ["two blue stars"]), Answered::new("a circle", ["a red circle"])];
/// let scores = AttributeAccuracy.scores(&said)?;
/// let shares: Vec<(&str, f64)> = scores.iter().map(|score| (score.name.as_str(), score.value)).collect();
/// assert_eq!(shares, [("colours right", 0.0), ("shapes right", 0.5), ("number right", 1.0), ("all right", 0.0)]);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct AttributeAccuracy;

impl Metric for AttributeAccuracy {
    fn name(&self) -> String {
        "attribute accuracy".into()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        with_references("attribute accuracy", answers)?;
        let judged = answers.iter().enumerate();
        let judged: Vec<AttributeScore> = judged
            .map(|(at, answer)| {
                score(&answer.prediction, &answer.references[0], &|| {
                    format!("picture {at}")
                })
            })
            .collect::<Result<_>>()?;
        let figure = |name: &str, right: fn(&AttributeScore) -> bool| {
            Score::share(name, judged.iter().map(right))
        };
        Ok(vec![
            figure("colours right", |score| score.colour),
            figure("shapes right", |score| score.shape),
            figure("number right", |score| score.count),
            figure("all right", |score| score.all),
        ])
    }
}

fn score(
    prediction: &str,
    reference: &str,
    picture: &dyn Fn() -> String,
) -> Result<AttributeScore> {
    let truth = SceneAttributes::from_caption(reference);
    if truth.objects.is_empty() {
        return Err(Error::Input(format!(
            "{}: the caption {reference:?} names no coloured shape; attribute accuracy is for shapes pictures",
            picture()
        )));
    }
    Ok(SceneAttributes::from_caption(prediction).score(&truth))
}

fn judge(sample: Sample, prediction: String) -> Result<Prediction> {
    let reference = sample.captions.into_iter().next().unwrap_or_default();
    let score = score(&prediction, &reference, &|| sample.file_name.clone())?;
    Ok(Prediction {
        image: sample.image,
        prediction,
        reference,
        score,
    })
}

impl AttributeReport {
    /// Part of the pictures whose set of colours is right, 0 to 1.
    pub fn colour(&self) -> f64 {
        self.part(|score| score.colour)
    }

    /// Part of the pictures whose set of shapes is right.
    pub fn shape(&self) -> f64 {
        self.part(|score| score.shape)
    }

    /// Part of the pictures whose number of objects is right.
    pub fn count(&self) -> f64 {
        self.part(|score| score.count)
    }

    /// Part of the pictures with everything right: how many of each colour and shape. The number to quote.
    pub fn all(&self) -> f64 {
        self.part(|score| score.all)
    }

    fn part(&self, right: impl Fn(&AttributeScore) -> bool) -> f64 {
        let count = self
            .predictions
            .iter()
            .filter(|prediction| right(&prediction.score))
            .count();
        count as f64 / self.predictions.len().max(1) as f64
    }

    /// The first `pictures` with prediction, reference, and what is right.
    pub fn grid(&self, pictures: usize) -> ImageGrid {
        let shown = self.predictions.iter().take(pictures);
        ImageGrid::new(shown.map(Prediction::item).collect())
    }
}

impl Prediction {
    fn item(&self) -> GridItem {
        GridItem::new(&self.image)
            .prediction(self.prediction.clone())
            .reference(self.reference.clone())
            .mark("colour", self.score.colour)
            .mark("shape", self.score.shape)
            .mark("count", self.score.count)
            .mark("all", self.score.all)
    }
}

impl Render for Prediction {
    fn render(&self) -> MimeBundle {
        Self::render_all(&[self])
    }

    /// The pictures side by side.
    fn render_all(predictions: &[&Self]) -> MimeBundle {
        ImageGrid::new(
            predictions
                .iter()
                .map(|prediction| prediction.item())
                .collect(),
        )
        .render()
    }
}

debug_by_first_line!(Prediction, AttributeReport);

impl Render for AttributeReport {
    fn render(&self) -> MimeBundle {
        let mut title = format!(
            "{} held-out pictures",
            number::count(self.predictions.len() as u64)
        );
        if !self.unreadable.is_empty() {
            title.push_str(&format!(", {}", unreadable::words(self.unreadable.len())));
        }
        let mut table = Table::new(["right", "of the pictures"]).title(title);
        for (name, part) in [
            ("colours", self.colour()),
            ("shapes", self.shape()),
            ("number of objects", self.count()),
        ] {
            table.push(vec![name.into(), Cell::figure(number::percent(part))]);
        }
        table
            .total([
                "all together".into(),
                Cell::figure(number::percent(self.all())),
            ])
            .render()
    }
}
