//! METEOR with its exact stage alone: words in common, weighed by kind, less for words that stand in another order.
//!
//! Equal to Meteor 1.5 for English run with `-m exact` on tokenised captions. The stages behind it (stems, WordNet's synonyms,
//! a table of paraphrases of 60 MB) are not here, so the figure is below that of a paper's METEOR, and is named so.

use super::metric::{Answered, Metric, Score, with_references};
use super::tokenizer;
use crate::Result;

/// Meteor 1.5's parameters for English.
const ALPHA: f64 = 0.85;
const BETA: f64 = 0.2;
const GAMMA: f64 = 0.6;
const DELTA: f64 = 0.75;
/// Partial alignments that are kept while words are aligned.
const BEAM: usize = 40;

/// Words that say little by themselves: they count 1 − δ, all others δ.
const FUNCTION_WORDS: &str = " the , . to of and a in that for \" is on 's it with was as said at he by be from have has are his \
    but an this not i will ’ they ) -rrb- ( -lrb- who their had we which were been more or s its would about new one after you : \
    also up when there than $ all out her people she year two - can if last first “ over other ” into some what so -- no time \
    years could ? 't — ' ";

/// METEOR's exact stage.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = [Answered::new("a red star", ["a red star"]), Answered::new("star red a", ["a red star"])];
/// let score = &MeteorExact::default().scores(&said)?[0];
/// assert!(score.each[1] < score.each[0]); // the same words in another order
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MeteorExact {
    /// The captions are tokenised already: words stand between spaces.
    pub tokenized: bool,
}

impl Metric for MeteorExact {
    fn name(&self) -> String {
        "METEOR (exact)".into()
    }

    fn scores(&self, answers: &[Answered]) -> Result<Vec<Score>> {
        with_references("METEOR", answers)?;
        let sums: Vec<Vec<f64>> = answers
            .iter()
            .map(|answer| self.best(answer).sums())
            .collect();
        let each = sums
            .iter()
            .map(|sums| Statistics::of(sums).score())
            .collect();
        Ok(vec![Score::of_sums("METEOR (exact)", each, sums, |sums| {
            Statistics::of(sums).score()
        })])
    }
}

impl MeteorExact {
    /// The reference that the caption fits best.
    fn best(&self, answer: &Answered) -> Statistics {
        let prepared = |text: &str| tokenizer::prepared(text, self.tokenized);
        let said = prepared(&answer.prediction);
        let said: Vec<&str> = said.split_whitespace().collect();
        let all = answer.references.iter().map(|reference| {
            let reference = prepared(reference);
            compare(&said, &reference.split_whitespace().collect::<Vec<_>>())
        });
        // The first of the best.
        all.reduce(|best, next| {
            if next.score() > best.score() {
                next
            } else {
                best
            }
        })
        .unwrap_or_default()
    }
}

/// What the score is made of; of a set, the sums.
#[derive(Clone, Copy, Default)]
struct Statistics {
    /// Words, and how many of them are function words: said and reference.
    words: [f64; 2],
    function: [f64; 2],
    /// Words in common: all, and those that are function words.
    matches: f64,
    function_matches: f64,
    /// Runs of words that stand side by side in both.
    chunks: f64,
}

impl Statistics {
    /// What a picture adds to the sums of a set. A caption that is the reference word for word adds no chunk, as in Meteor.
    fn sums(self) -> Vec<f64> {
        let chunks = if self.is_whole() { 0.0 } else { self.chunks };
        vec![
            self.words[0],
            self.words[1],
            self.function[0],
            self.function[1],
            self.matches,
            self.function_matches,
            chunks,
        ]
    }

    fn is_whole(&self) -> bool {
        self.matches == self.words[0] && self.matches == self.words[1] && self.chunks == 1.0
    }

    fn of(sums: &[f64]) -> Self {
        Self {
            words: [sums[0], sums[1]],
            function: [sums[2], sums[3]],
            matches: sums[4],
            function_matches: sums[5],
            chunks: sums[6],
        }
    }

    fn score(&self) -> f64 {
        let weighed = |content: f64, function: f64| DELTA * content + (1.0 - DELTA) * function;
        let matched = weighed(self.matches - self.function_matches, self.function_matches);
        let share =
            |at: usize| matched / weighed(self.words[at] - self.function[at], self.function[at]);
        let (precision, recall) = (share(0), share(1));
        let mean = precision * recall / (ALPHA * precision + (1.0 - ALPHA) * recall);
        if !mean.is_finite() || mean <= 0.0 {
            return 0.0;
        }
        let fragmentation = if self.is_whole() {
            0.0
        } else {
            self.chunks / self.matches
        };
        mean * (1.0 - GAMMA * fragmentation.powf(BETA))
    }
}

fn compare(said: &[&str], reference: &[&str]) -> Statistics {
    let is_function = |word: &str| FUNCTION_WORDS.contains(&format!(" {word} "));
    let function = |words: &[&str]| words.iter().filter(|word| is_function(word)).count() as f64;
    let pairs = align(said, reference);
    let mut chunks = 0;
    let mut last: Option<(usize, usize)> = None;
    for &(at, other) in &pairs {
        if last != Some((at.wrapping_sub(1), other.wrapping_sub(1))) {
            chunks += 1;
        }
        last = Some((at, other));
    }
    Statistics {
        words: [said.len() as f64, reference.len() as f64],
        function: [function(said), function(reference)],
        matches: pairs.len() as f64,
        function_matches: pairs
            .iter()
            .filter(|(at, _)| is_function(said[*at]))
            .count() as f64,
        chunks: f64::from(chunks),
    }
}

/// A partial alignment: best is most words, then fewest chunks, then the shortest ways.
#[derive(Clone, Default)]
struct Alignment {
    pairs: Vec<(usize, usize)>,
    used: Vec<bool>,
    chunks: usize,
    distance: usize,
}

/// Which word of `said` is which of `reference`, in the order of `said`.
fn align(said: &[&str], reference: &[&str]) -> Vec<(usize, usize)> {
    let mut beam = vec![Alignment {
        used: vec![false; reference.len()],
        ..Alignment::default()
    }];
    for (at, word) in said.iter().enumerate() {
        let mut next = Vec::with_capacity(beam.len() * 2);
        for partial in &beam {
            let places = reference
                .iter()
                .enumerate()
                .filter(|(place, other)| *other == word && !partial.used[*place]);
            for (place, _) in places {
                let mut longer = partial.clone();
                longer.used[place] = true;
                let follows = longer
                    .pairs
                    .last()
                    .is_some_and(|last| (last.0 + 1, last.1 + 1) == (at, place));
                longer.chunks += usize::from(!follows);
                longer.distance += at.abs_diff(place);
                longer.pairs.push((at, place));
                next.push(longer);
            }
            next.push(partial.clone());
        }
        next.sort_by_key(|partial| {
            (
                std::cmp::Reverse(partial.pairs.len()),
                partial.chunks,
                partial.distance,
            )
        });
        next.truncate(BEAM);
        beam = next;
    }
    beam.swap_remove(0).pairs
}
