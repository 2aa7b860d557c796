//! CIDEr-D: how much a caption says of what people say of this picture and of few others.
//!
//! As `pycocoevalcap` 1.2 has it, whose class `Cider` is CIDEr-D: runs of one to four words weighed by tf·idf, the document
//! frequencies from the references of the pictures that are scored; the clipped cosine with each reference, less for another
//! length, mean over references and lengths, times 10. With a single picture every weight is 0, and so is the figure.

use std::collections::BTreeMap;

use super::metric::{Answered, Metric, Score, with_references};
use super::ngrams::{self, Counts, LONGEST};
use super::tokenizer;
use crate::Result;

/// Words of difference in length that cost much.
const SIGMA: f64 = 6.0;

/// CIDEr-D.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = [Answered::new("a red star", ["a red star"]), Answered::new("a blue circle", ["two green squares"])];
/// let score = &CiderD::default().scores(&said)?[0];
/// assert!(score.each[0] > 1.0); // what is said of this picture alone
/// assert_eq!(score.each[1], 0.0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CiderD {
    /// The captions are tokenised already: words stand between spaces.
    pub tokenized: bool,
}

/// Pictures in whose references a run of words stands.
type DocumentFrequency<'a> = BTreeMap<&'a [&'a str], f64>;

impl Metric for CiderD {
    fn name(&self) -> String {
        "CIDEr-D".into()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        with_references("CIDEr-D", answers)?;
        let prepared = |text: &String| tokenizer::prepared(text, self.tokenized);
        let texts: Vec<(String, Vec<String>)> = answers
            .iter()
            .map(|answer| {
                (
                    prepared(&answer.prediction),
                    answer.references.iter().map(prepared).collect(),
                )
            })
            .collect();
        let words: Vec<(Vec<&str>, Vec<Vec<&str>>)> = texts
            .iter()
            .map(|(said, references)| {
                (
                    ngrams::words(said),
                    references.iter().map(|text| ngrams::words(text)).collect(),
                )
            })
            .collect();
        let counts: Vec<(Counts<'_>, Vec<Counts<'_>>)> = words
            .iter()
            .map(|(said, references)| {
                (
                    ngrams::count(said),
                    references
                        .iter()
                        .map(|words| ngrams::count(words))
                        .collect(),
                )
            })
            .collect();
        let mut frequency = DocumentFrequency::new();
        for (_, references) in &counts {
            let mut seen: Vec<&[&str]> = references
                .iter()
                .flat_map(|counts| &counts.of)
                .flat_map(BTreeMap::keys)
                .copied()
                .collect();
            seen.sort_unstable();
            seen.dedup();
            for run in seen {
                *frequency.entry(run).or_default() += 1.0;
            }
        }
        let pictures = (answers.len() as f64).ln();
        let each = counts.iter().map(|(said, references)| {
            let said = Weights::new(said, &frequency, pictures);
            let all = references
                .iter()
                .map(|reference| said.similarity(&Weights::new(reference, &frequency, pictures)));
            10.0 * all.sum::<f64>() / references.len() as f64
        });
        Ok(vec![Score::mean("CIDEr-D", each.collect())])
    }
}

/// The tf·idf weights of a caption, by length of runs.
struct Weights<'a> {
    of: [BTreeMap<&'a [&'a str], f64>; LONGEST],
    norms: [f64; LONGEST],
    /// Pairs of words: what the reference calls length.
    pairs: f64,
}

impl<'a> Weights<'a> {
    fn new(counts: &Counts<'a>, frequency: &DocumentFrequency<'_>, pictures: f64) -> Self {
        let mut weights = Self {
            of: Default::default(),
            norms: [0.0; LONGEST],
            pairs: counts.of[1].values().sum::<usize>() as f64,
        };
        for (order, of) in counts.of.iter().enumerate() {
            for (run, count) in of {
                let seen = frequency.get(run).copied().unwrap_or(0.0).max(1.0);
                let weight = *count as f64 * (pictures - seen.ln());
                weights.norms[order] += weight * weight;
                weights.of[order].insert(run, weight);
            }
            weights.norms[order] = weights.norms[order].sqrt();
        }
        weights
    }

    /// Mean over the lengths of runs.
    fn similarity(&self, reference: &Weights<'_>) -> f64 {
        let difference = self.pairs - reference.pairs;
        let length = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        let cosines = (0..LONGEST).map(|order| {
            let shared = self.of[order].iter().map(|(run, weight)| {
                let other = reference.of[order].get(run).copied().unwrap_or(0.0);
                weight.min(other) * other
            });
            let shared: f64 = shared.sum();
            let norms = self.norms[order] * reference.norms[order];
            length * if norms == 0.0 { shared } else { shared / norms }
        });
        cosines.sum::<f64>() / LONGEST as f64
    }
}
