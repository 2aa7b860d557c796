//! BLEU-1 to BLEU-4: the share of a caption's words, pairs, triples and fours that stand in a reference.
//!
//! As `pycocoevalcap` 1.2 has it: counts of the whole set, each run of words counted at most as often as in the reference
//! that has most of it; the brevity penalty with the closest reference length; the geometric mean of the shares.

use super::metric::{Answered, Metric, Score, with_references};
use super::ngrams::{self, LONGEST};
use super::tokenizer;
use crate::Result;

/// Added to the share's denominator and numerator, so that nothing is divided by 0.
const SMALL: f64 = 1e-9;
const TINY: f64 = 1e-15;

/// BLEU-1 to BLEU-4.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = [Answered::new("a red star and a blue circle", ["a red star and a green circle"])];
/// let scores = Bleu::default().scores(&said)?;
/// assert_eq!((scores[0].name.as_str(), scores.len()), ("BLEU-1", 4));
/// assert!((scores[0].value - 6.0 / 7.0).abs() < 1e-6); // six of seven words
/// assert!(scores[3].value < scores[0].value); // two of four runs of four words
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Bleu {
    /// The captions are tokenised already: words stand between spaces.
    pub tokenized: bool,
}

impl Metric for Bleu {
    fn name(&self) -> String {
        "BLEU".into()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        with_references("BLEU", answers)?;
        let sums: Vec<Vec<f64>> = answers.iter().map(|answer| self.counts(answer)).collect();
        let scores = (1..=LONGEST).map(|order| {
            let each = sums.iter().map(|sums| bleu(sums, order));
            Score::of_sums(
                format!("BLEU-{order}"),
                each.collect(),
                sums.clone(),
                move |sums| bleu(sums, order),
            )
        });
        Ok(scores.collect())
    }
}

impl Bleu {
    /// Words, closest reference length, and for each length of runs how many are right of how many.
    fn counts(&self, answer: &Answered) -> Vec<f64> {
        let prepared = |text: &str| tokenizer::prepared(text, self.tokenized);
        let prediction = prepared(&answer.prediction);
        let words = ngrams::words(&prediction);
        let said = ngrams::count(&words);
        let references: Vec<String> = answer
            .references
            .iter()
            .map(|text| prepared(text))
            .collect();
        let references: Vec<Vec<&str>> =
            references.iter().map(|text| ngrams::words(text)).collect();
        let counted: Vec<_> = references
            .iter()
            .map(|words| ngrams::count(words))
            .collect();
        let lengths = counted.iter().map(|reference| reference.words);
        let closest = lengths.min_by_key(|length| (length.abs_diff(said.words), *length));
        let mut counts = vec![said.words as f64, closest.unwrap_or(0) as f64];
        for (order, of) in said.of.iter().enumerate() {
            let right = of.iter().map(|(run, count)| {
                let most = counted
                    .iter()
                    .filter_map(|reference| reference.of[order].get(run))
                    .max();
                most.copied().unwrap_or(0).min(*count)
            });
            let all = (said.words + 1).saturating_sub(order + 1);
            counts.extend([right.sum::<usize>() as f64, all as f64]);
        }
        counts
    }
}

fn bleu(sums: &[f64], order: usize) -> f64 {
    let (said, reference) = (sums[0], sums[1]);
    let shares = (0..order).map(|at| (sums[2 + 2 * at] + TINY) / (sums[3 + 2 * at] + SMALL));
    let mean = shares.product::<f64>().powf(1.0 / order as f64);
    let ratio = (said + TINY) / (reference + SMALL);
    match ratio < 1.0 {
        true => mean * (1.0 - 1.0 / ratio).exp(),
        false => mean,
    }
}
