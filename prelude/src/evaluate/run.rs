//! Runs an evaluation: (model, pictures) → what it says with the picture, without it and with another one → metrics.
//!
//! The baselines say how much of a figure comes from looking: *blind* (a black picture; of prompts with other inputs zeros),
//! *shuffled* (each question with another picture), *most frequent caption* (always the same words, no model).

use super::evaluation::{Condition, Evaluation, Row};
use super::frequent::most_frequent;
use super::item::Item;
use super::metric::{Answered, Metric, Needs, Score};
use super::others::Others;
use super::readable::Readable;
use super::set::EvaluationSet;
use super::{Bleu, CiderD, Perplexity, RougeL, shared, speak};
use crate::display::Progress;
use crate::parallel::{self, Collective, group::Group};
use crate::session::check_interrupt;
use crate::train::unreadable::LeftOut;
use crate::vlm::Vlm;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pictures that are answered together.
const BATCH: usize = 16;

/// Scores a model on all pictures of a set by the captions' metrics (BLEU, ROUGE-L, CIDEr-D, perplexity), with baselines.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let samples = [shapes.sample(Split::Val, 0)?, shapes.sample(Split::Val, 1)?];
/// let set: Vec<(Image, Vec<String>)> = samples.map(|sample| (sample.image, sample.captions)).into();
/// let found = evaluate(&Vlm::tiny(&Device::Cpu)?, &set)?; // the usual metrics, beside baselines
/// assert!(found.score("BLEU-4").is_some());
/// assert_eq!(found.answers().len(), 2);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// As [`Evaluator::run`].
pub fn evaluate(vlm: &Vlm, set: &dyn EvaluationSet) -> Result<Evaluation> {
    Evaluator::captions().run(vlm, set)
}

/// An evaluation to be set up and run.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let questions = Questions::of_shapes(&shapes, Split::Val, 2).of_kind("count")?;
/// let evaluator = Evaluator::new().metric(ExactMatch).metric(RougeL::default()).without_baselines().pictures(1).max_new_tokens(4);
/// let found = evaluator.run(&Vlm::tiny(&Device::Cpu)?, &questions)?;
/// assert_eq!(found.rows[0].scores.len(), 2);
/// assert_eq!(found.answers().len(), 1);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub struct Evaluator {
    metrics: Vec<Box<dyn Metric + Send + Sync>>,
    pictures: Option<usize>,
    max_new_tokens: usize,
    baselines: bool,
    seed: u64,
    usual: Option<String>,
    /// The ranks that answer together, where they are not those of the launcher.
    ranks: Option<Arc<dyn Collective>>,
}

impl Default for Evaluator {
    fn default() -> Self {
        Self {
            metrics: Vec::new(),
            pictures: None,
            max_new_tokens: 40,
            baselines: true,
            seed: 0,
            usual: None,
            ranks: None,
        }
    }
}

impl Evaluator {
    /// No metric yet: add some with [`Evaluator::metric`].
    pub fn new() -> Self {
        Self::default()
    }

    /// The metrics of captions: BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D, and the perplexity of the references.
    pub fn captions() -> Self {
        Self::new()
            .metric(Bleu::default())
            .metric(RougeL::default())
            .metric(CiderD::default())
            .metric(Perplexity)
    }

    /// Adds a metric.
    pub fn metric(mut self, metric: impl Metric + Send + Sync + 'static) -> Self {
        self.metrics.push(Box::new(metric));
        self
    }

    /// Only the first readable pictures.
    pub fn pictures(mut self, pictures: usize) -> Self {
        self.pictures = Some(pictures);
        self
    }

    /// Longest answer, in tokens; 40 unless set.
    pub fn max_new_tokens(mut self, tokens: usize) -> Self {
        self.max_new_tokens = tokens;
        self
    }

    /// The model alone, which takes a third of the time.
    pub fn without_baselines(mut self) -> Self {
        self.baselines = false;
        self
    }

    /// Decides the draws of the intervals.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What the baseline *most frequent caption* says: the most frequent of these, which should be those of training. Unless
    /// set it is the most frequent of the references themselves, which favours the baseline.
    pub fn usual_captions<'a>(mut self, captions: impl IntoIterator<Item = &'a str>) -> Self {
        self.usual = most_frequent(captions);
        self
    }

    /// Answers together with other ranks than those of the launcher ([`parallel::world`]): threads of a test.
    pub fn answer_with(mut self, ranks: Arc<dyn Collective>) -> Self {
        self.ranks = Some(ranks);
        self
    }

    pub(super) fn metric_names(&self) -> Vec<String> {
        self.metrics.iter().map(|metric| metric.name()).collect()
    }

    pub(super) fn has_baselines(&self) -> bool {
        self.baselines
    }

    /// Answers all pictures and scores the answers. Shows progress.
    ///
    /// Under `mpirun` or `srun` each process answers its part of the pictures, and all have the whole evaluation, which is that of one
    /// process. Call it on all of them.
    ///
    /// # Errors
    /// `Parallel` and `Rank` for what goes wrong between several processes; `Interrupted`; `Input` for no metric, no picture, or more than a quarter of the pictures unreadable; whatever generating
    /// and the metrics report.
    pub fn run(&self, vlm: &Vlm, set: &dyn EvaluationSet) -> Result<Evaluation> {
        let ranks = match &self.ranks {
            Some(ranks) => ranks.clone(),
            None => parallel::around()?,
        };
        let group = Group::of(ranks);
        let evaluation = self.run_in(&group, vlm, set);
        group.end(evaluation)
    }

    /// As [`Evaluator::run`], by the ranks of a group.
    pub(crate) fn run_in(
        &self,
        group: &Group,
        vlm: &Vlm,
        set: &dyn EvaluationSet,
    ) -> Result<Evaluation> {
        if self.metrics.is_empty() {
            return Err(Error::Input(
                "no metric to score by: add one, as in `Evaluator::new().metric(ExactMatch)`"
                    .into(),
            ));
        }
        let wanted = self.pictures.unwrap_or(usize::MAX).min(set.len());
        if wanted == 0 {
            return Err(Error::Input(
                "an evaluation on 0 pictures: give at least one".into(),
            ));
        }
        let needs =
            self.metrics
                .iter()
                .map(|metric| metric.needs())
                .fold(Needs::default(), |all, one| Needs {
                    confidence: all.confidence || one.confidence,
                    surprise: all.surprise || one.surprise,
                });
        let asked = format!(
            "{:?} {wanted} of {} {} {} {} {:?}",
            self.metric_names(),
            set.len(),
            self.max_new_tokens,
            self.baselines,
            self.seed,
            self.usual
        );
        shared::same_question(group, vlm, &asked)?;
        let mut asked = Asked {
            group,
            vlm,
            needs,
            max_new_tokens: self.max_new_tokens,
            rows: Vec::new(),
        };
        let conditions: &[Condition] = match self.baselines {
            // There is no other picture than the only one.
            true if wanted == 1 => &[Condition::Model, Condition::Blind],
            true => &[Condition::Model, Condition::Blind, Condition::Shuffled],
            false => &[Condition::Model],
        };
        asked.rows.extend(
            conditions
                .iter()
                .map(|condition| (*condition, Vec::with_capacity(wanted))),
        );
        let left_out = asked.all(set, wanted)?;
        let usual = Usual::of(&asked.rows[0].1, self.usual.as_deref());
        if let (true, false) = (self.baselines, usual.0.is_empty()) {
            let constant = asked.rows[0].1.iter().map(|answer| Answered {
                kind: answer.kind.clone(),
                ..Answered::new(usual.said(answer), answer.references.clone())
            });
            let constant = constant.collect();
            asked.rows.push((Condition::MostFrequent, constant));
        }
        let rows = asked
            .rows
            .into_iter()
            .map(|(condition, answers)| self.row(condition, answers));
        Ok(Evaluation {
            rows: rows.collect::<Result<_>>()?,
            seed: self.seed,
            usual: usual.to_string(),
            usual_is_given: self.usual.is_some(),
            unreadable: left_out.list().to_vec(),
            of: None,
            pictures: vlm.image_encoder.image_processor().is_some(),
        })
    }

    /// Scores the answers of one condition. What no model said has no confidence and no loss: those figures are left empty.
    fn row(&self, condition: Condition, answers: Vec<Answered>) -> Result<Row> {
        let mut scores: Vec<Score> = Vec::new();
        for metric in &self.metrics {
            check_interrupt()?;
            let needs = metric.needs();
            if condition == Condition::MostFrequent && (needs.confidence || needs.surprise) {
                continue;
            }
            scores.extend(metric.scores(&answers)?);
        }
        // Once, not each time that the table is shown: a thousand draws of thousands of pictures take a second.
        let intervals = scores
            .iter()
            .map(|score| score.interval(self.seed))
            .collect();
        Ok(Row {
            condition,
            scores,
            intervals,
            answers,
        })
    }
}

/// What is said without a look, by kind of question where there are kinds.
struct Usual(BTreeMap<Option<String>, String>);

impl Usual {
    fn of(answers: &[Answered], given: Option<&str>) -> Self {
        let mut references: BTreeMap<Option<String>, Vec<&str>> = BTreeMap::new();
        for answer in answers {
            let of_kind = references.entry(answer.kind.clone()).or_default();
            of_kind.extend(answer.references.iter().map(String::as_str));
        }
        let usual = references.into_iter().filter_map(|(kind, references)| {
            let usual = match given {
                Some(given) => Some(given.to_string()),
                None => most_frequent(references),
            };
            Some((kind, usual?))
        });
        Self(usual.collect())
    }

    fn said(&self, answer: &Answered) -> String {
        self.0.get(&answer.kind).cloned().unwrap_or_default()
    }
}

impl std::fmt::Display for Usual {
    /// The words alone where they are the same for all.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut different: Vec<&String> = self.0.values().collect();
        different.dedup();
        if let [only] = different.as_slice() {
            return f.write_str(only);
        }
        let each = self.0.iter().map(|(kind, said)| {
            let kind = kind.as_deref().unwrap_or("other");
            format!("{kind}: {said}")
        });
        f.write_str(&each.collect::<Vec<_>>().join("; "))
    }
}

/// The answers so far.
struct Asked<'a> {
    group: &'a Group,
    vlm: &'a Vlm,
    needs: Needs,
    max_new_tokens: usize,
    rows: Vec<(Condition, Vec<Answered>)>,
}

impl Asked<'_> {
    /// Asks about the first `wanted` readable pictures, round by round.
    fn all(&mut self, set: &dyn EvaluationSet, wanted: usize) -> Result<LeftOut> {
        let progress = Progress::new("answering", wanted);
        let mut readable = Readable::of(set.len());
        let mut done = 0;
        let mut others = Others::default();
        while done < wanted {
            let round = self.round(&mut readable, set, wanted - done, &mut others);
            let Round { batches, said } = self.group.agree(round)?;
            let count: usize = batches.iter().map(Vec::len).sum();
            if count == 0 {
                break;
            }
            for answers in shared::exchanged(self.group, &batches, said)? {
                for ((_, all), new) in self.rows.iter_mut().zip(answers) {
                    all.extend(new);
                }
            }
            done += count;
            progress.advance(count)?;
        }
        progress.finish("");
        if done == 0 {
            return Err(Error::Input("no picture of the set can be read".into()));
        }
        Ok(readable.left_out)
    }

    /// Reads a batch for each rank, `most` pictures at the most, and answers this rank's. Where all pictures are the same there is no
    /// *another picture*.
    fn round(
        &mut self,
        readable: &mut Readable,
        set: &dyn EvaluationSet,
        most: usize,
        others: &mut Others,
    ) -> Result<Round> {
        let (mut batches, mut own, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for rank in 0..self.group.ranks() {
            let batch = readable.next(BATCH.min(most - positions.len()), |position| {
                Item::of(self.vlm, set, position)
            })?;
            let (at, batch): (Vec<usize>, Vec<Item>) = batch.into_iter().unzip();
            positions.extend(at);
            let shown = self.others(&batch, set, others)?;
            if rank == self.group.rank() {
                own = shown;
            }
            batches.push(batch);
            if positions.len() == most {
                break;
            }
        }
        shared::same_pictures(self.group, &positions)?;
        let said = match batches.get(self.group.rank()) {
            Some(batch) if !batch.is_empty() => self.answered(batch, &own)?,
            _ => Vec::new(),
        };
        Ok(Round { batches, said })
    }

    /// For each of a batch what is shown instead, where that is asked for.
    fn others(
        &mut self,
        batch: &[Item],
        set: &dyn EvaluationSet,
        others: &mut Others,
    ) -> Result<Vec<Option<Item>>> {
        let is_shuffled =
            |(condition, _): &(Condition, Vec<Answered>)| *condition == Condition::Shuffled;
        let mut shown = vec![None; batch.len()];
        if self.rows.iter().any(is_shuffled) {
            for (item, shown) in batch.iter().zip(&mut shown) {
                *shown = others.other_than(item, || first_other(self.vlm, set, item))?;
            }
            if shown.iter().any(Option::is_none) {
                self.rows.retain(|row| !is_shuffled(row));
            }
        }
        Ok(shown)
    }

    /// What the model says of a batch, under each condition.
    fn answered(&self, batch: &[Item], shown: &[Option<Item>]) -> Result<Vec<Vec<Answered>>> {
        let each = self.rows.iter().map(|(condition, _)| {
            check_interrupt()?;
            let asked = batch.iter().zip(shown).map(|(item, other)| {
                Ok(speak::Asking {
                    prompt: item.asked(self.vlm, *condition, other.as_ref())?,
                    references: item.references(),
                    kind: item.kind(),
                })
            });
            let asked = asked.collect::<Result<Vec<_>>>()?;
            speak::answer(self.vlm, &asked, self.needs, self.max_new_tokens)
        });
        each.collect()
    }
}

/// A batch for each rank, and what the model says of this rank's.
struct Round {
    batches: Vec<Vec<Item>>,
    said: Vec<Vec<Answered>>,
}

/// The first item of a set that can be read and shows something else than `item`.
fn first_other(vlm: &Vlm, set: &dyn EvaluationSet, item: &Item) -> Result<Option<Item>> {
    for position in 0..set.len() {
        check_interrupt()?;
        // What can't be read is counted where it is asked.
        if let Ok(other) = Item::of(vlm, set, position)
            && !item.shows_the_same(&other)?
        {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
