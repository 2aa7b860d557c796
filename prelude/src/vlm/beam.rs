//! Beam search: several texts side by side, of which the best as a whole wins, not the one with the best first token.
//!
//! Each step extends every running text by every token, keeps the best [`BeamSearch::num_beams`] and sets those aside that
//! ended. Scores are sums of log-probabilities, divided by length to the power of `length_penalty` when texts of different
//! lengths meet. The rules, and the words for them, are those of transformers (`GenerationMixin._beam_search`).
//! This file knows nothing of the model: log-probabilities in, rows of the batch out.

use super::generate::Stopped;
use super::sampling::Sampling;
use crate::{Error, Result};

/// When the search for one picture ends, before `max_new_tokens`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let written = vlm
///     .generate(&image)?
///     .num_beams(2)
///     .early_stopping(EarlyStopping::WhenFull) // two finished texts are enough
///     .max_new_tokens(4)
///     .run()?;
/// assert_eq!(written.beams.len(), 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When the best running text, at its present length, could not displace the worst finished one. transformers'
    /// `early_stopping=False`.
    #[default]
    Heuristic,
    /// As soon as `num_beams` texts are finished. `early_stopping=True`.
    WhenFull,
    /// When no running text could displace a finished one at any length. `early_stopping="never"`.
    Never,
}

/// Settings of the search.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamSearch {
    /// Texts side by side; 1 is greedy.
    pub num_beams: usize,
    /// The exponent of the length by which a text's log-probability is divided: above 0 favours long texts, below 0
    /// short ones.
    pub length_penalty: f64,
    /// When to end.
    pub early_stopping: EarlyStopping,
}

impl Default for BeamSearch {
    fn default() -> Self {
        Self {
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
        }
    }
}

impl BeamSearch {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the field, its value and its range.
    pub fn validate(&self, sampling: &Sampling) -> Result<()> {
        if self.num_beams == 0 {
            return Err(Error::Input(
                "num_beams is 0, it must be at least 1 (greedy)".into(),
            ));
        }
        if !self.length_penalty.is_finite() {
            return Err(Error::Input(format!(
                "length_penalty is {}, it must be a number (0 for none)",
                self.length_penalty
            )));
        }
        if self.num_beams > 1 && sampling.temperature > 0.0 {
            return Err(Error::Input(
                "beam search draws nothing: leave temperature at 0, or num_beams at 1".into(),
            ));
        }
        Ok(())
    }
}

/// A text with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The new token ids.
    pub ids: Vec<u32>,
    /// Sum of the log-probabilities; of finished texts divided by length to the power of `length_penalty`.
    pub score: f64,
    /// Why it ended; a running text has not.
    pub stopped: Stopped,
    /// The row of the picture's beams from which each token was predicted.
    pub(super) rows: Vec<usize>,
}

/// The search for one picture.
#[derive(Clone, Debug)]
pub(super) struct Beams {
    settings: BeamSearch,
    sampling: Sampling,
    stop_ids: Vec<u32>,
    max_new_tokens: usize,
    /// Best first; always `num_beams`, the hopeless with a score of −∞.
    running: Vec<Hypothesis>,
    /// Best first; at most `num_beams`.
    finished: Vec<Hypothesis>,
    /// Whether a running text may still finish among the best.
    open: bool,
}

impl Beams {
    pub(super) fn new(
        settings: &BeamSearch,
        sampling: &Sampling,
        stop_ids: &[u32],
        max_new_tokens: usize,
    ) -> Self {
        // All texts begin alike: only the first counts, or the same tokens would be found num_beams times.
        let running = (0..settings.num_beams)
            .map(|beam| Hypothesis {
                ids: Vec::new(),
                score: if beam == 0 { 0.0 } else { f64::NEG_INFINITY },
                stopped: Stopped::Length,
                rows: Vec::new(),
            })
            .collect();
        Self {
            settings: settings.clone(),
            sampling: sampling.clone(),
            stop_ids: stop_ids.to_vec(),
            max_new_tokens,
            running,
            finished: Vec::new(),
            open: true,
        }
    }

    /// The running texts, best first.
    pub(super) fn running(&self) -> &[Hypothesis] {
        &self.running
    }

    /// Whether nothing can change any more.
    pub(super) fn is_done(&self) -> bool {
        let full = self.finished.len() == self.settings.num_beams;
        !self.open || (full && self.settings.early_stopping == EarlyStopping::WhenFull)
    }

    /// The finished texts, best first; before the first is finished, the running ones.
    pub(super) fn into_best(self) -> Vec<Hypothesis> {
        if self.finished.is_empty() {
            let mut running = self.running;
            running.retain(|text| text.score.is_finite());
            return running;
        }
        self.finished
    }

    /// How many tokens all texts that may still win have in common: these are certain.
    pub(super) fn agreed(&self) -> &[u32] {
        let running = self.running.iter().filter(|_| !self.is_done());
        let best = self.finished.first();
        let mut texts = best
            .into_iter()
            .chain(running.filter(|text| text.score.is_finite()))
            .map(|text| text.ids.as_slice());
        let first = texts.next().unwrap_or_default();
        let common = texts.fold(first.len(), |common, ids| {
            let same = first.iter().zip(ids).take_while(|(a, b)| a == b).count();
            common.min(same)
        });
        &first[..common]
    }

    /// Takes the logits of the next token of each running text, one row each, and gives for each of the next running
    /// texts the row that it goes on from.
    pub(super) fn advance(&mut self, logits: &[Vec<f32>]) -> Result<Vec<usize>> {
        let width = self.settings.num_beams;
        let length = self.running[0].ids.len() + 1;
        let last = length == self.max_new_tokens;
        // Enough that `width` go on even if every text could end in every way.
        let keep = width * (1 + self.stop_ids.len()).max(2);
        let candidates = self.candidates(logits, keep)?;
        let may_finish = !self.is_done();
        let mut next = Vec::with_capacity(width);
        for (rank, &(row, id, score)) in candidates.iter().enumerate() {
            let stops = self.stop_ids.contains(&id);
            if !stops && next.len() < width {
                next.push(self.extended(row, id, score, Stopped::Length));
            }
            if (stops || last) && rank < width && may_finish {
                let stopped = if stops { Stopped::Eos } else { Stopped::Length };
                let score = score / (length as f64).powf(self.settings.length_penalty);
                self.finished.push(self.extended(row, id, score, stopped));
            }
        }
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(width);
        // A vocabulary smaller than the beams: fill up with what can't win.
        while next.len() < width {
            let (row, id, _) = candidates[0];
            next.push(self.extended(row, id, f64::NEG_INFINITY, Stopped::Length));
        }
        self.running = next;
        self.open = self.open && !last && self.may_improve(length);
        let row = |text: &Hypothesis| text.rows.last().copied().unwrap_or(0);
        Ok(self.running.iter().map(row).collect())
    }

    /// The best continuations as (row, token, sum of log-probabilities), best first.
    fn candidates(&self, logits: &[Vec<f32>], keep: usize) -> Result<Vec<(usize, u32, f64)>> {
        let mut all = Vec::new();
        for (row, (text, logits)) in self.running.iter().zip(logits).enumerate() {
            if text.score.is_finite() {
                let scores = self.sampling.penalised(&log_softmax(logits), &text.ids)?;
                let score = |(id, score)| (row, id as u32, text.score + f64::from(score));
                all.extend(scores.into_iter().enumerate().map(score));
            }
        }
        let best_first = |a: &(usize, u32, f64), b: &(usize, u32, f64)| {
            b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1)))
        };
        if keep < all.len() {
            all.select_nth_unstable_by(keep, best_first);
            all.truncate(keep);
        }
        all.sort_by(best_first);
        Ok(all)
    }

    fn extended(&self, row: usize, id: u32, score: f64, stopped: Stopped) -> Hypothesis {
        let mut text = self.running[row].clone();
        text.ids.push(id);
        text.rows.push(row);
        (text.score, text.stopped) = (score, stopped);
        text
    }

    /// Whether the best running text might displace a finished one.
    fn may_improve(&self, length: usize) -> bool {
        let BeamSearch {
            num_beams,
            length_penalty,
            early_stopping,
        } = self.settings;
        let Some(worst) = self.finished.get(num_beams - 1) else {
            return true;
        };
        let reach = if early_stopping == EarlyStopping::Never && length_penalty > 0.0 {
            self.max_new_tokens
        } else {
            length
        };
        self.running[0].score / (reach as f64).powf(length_penalty) > worst.score
    }
}

/// Log-probabilities of a row of logits.
fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
    let shift = f64::from(top) + sum.ln();
    logits
        .iter()
        .map(|&x| (f64::from(x) - shift) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VOCABULARY: usize = 4;
    const EOS: u32 = 3;

    /// Logits that depend on everything made so far.
    fn logits(ids: &[u32], seed: u64) -> Vec<f32> {
        let mut state = ids.iter().fold(seed.wrapping_mul(31) + 7, |state, &id| {
            crate::fnv::step(state, u64::from(id + 1))
        });
        (0..VOCABULARY)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                ((state >> 40) as f32 / (1 << 24) as f32) * 4.0
            })
            .collect()
    }

    fn search(settings: &BeamSearch, tokens: usize, seed: u64) -> Result<Vec<Hypothesis>> {
        let mut beams = Beams::new(settings, &Sampling::default(), &[EOS], tokens);
        let mut certain = Vec::new();
        for _ in 0..tokens {
            let rows: Vec<_> = beams
                .running()
                .iter()
                .map(|t| logits(&t.ids, seed))
                .collect();
            beams.advance(&rows)?;
            assert!(
                beams.agreed().starts_with(&certain),
                "a certain token changed"
            );
            certain = beams.agreed().to_vec();
            if beams.is_done() {
                break;
            }
        }
        let best = beams.into_best();
        assert!(best[0].ids.starts_with(&certain));
        Ok(best)
    }

    /// Every text of at most `tokens` tokens with its score.
    fn all(settings: &BeamSearch, tokens: usize, seed: u64) -> Vec<(Vec<u32>, f64)> {
        let mut open = vec![(Vec::new(), 0.0)];
        let mut ended = Vec::new();
        for length in 1..=tokens {
            let mut next = Vec::new();
            for (ids, sum) in open {
                for (id, log_p) in log_softmax(&logits(&ids, seed)).into_iter().enumerate() {
                    let mut ids = ids.clone();
                    ids.push(id as u32);
                    let sum = sum + f64::from(log_p);
                    match id as u32 == EOS || length == tokens {
                        true => {
                            let score = sum / (length as f64).powf(settings.length_penalty);
                            ended.push((ids, score));
                        }
                        false => next.push((ids, sum)),
                    }
                }
            }
            open = next;
        }
        ended.sort_by(|a, b| b.1.total_cmp(&a.1));
        ended
    }

    proptest! {
        /// With as many beams as there are texts nothing is lost, so that the best of all texts must come out.
        #[test]
        fn enough_beams_find_the_best_of_all_texts(
            seed in 0u64..1 << 40,
            tokens in 1usize..4,
            length_penalty in -1.0f64..2.0,
        ) {
            let settings = BeamSearch {
                num_beams: VOCABULARY.pow(tokens as u32),
                length_penalty,
                early_stopping: EarlyStopping::Never,
            };
            let found = search(&settings, tokens, seed).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let want = all(&settings, tokens, seed);
            prop_assert_eq!(found.len(), want.len());
            for (found, (ids, score)) in found.iter().zip(&want) {
                prop_assert!((found.score - score).abs() < 1e-9);
                prop_assert_eq!(&found.ids, ids);
            }
        }

        #[test]
        fn one_beam_takes_the_best_token_each_time(seed in 0u64..1 << 40) {
            let settings = BeamSearch { early_stopping: EarlyStopping::WhenFull, ..BeamSearch::default() };
            let found = search(&settings, 6, seed).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let mut greedy = Vec::new();
            while greedy.len() < 6 && greedy.last() != Some(&EOS) {
                let row = logits(&greedy, seed);
                let best = (0..VOCABULARY).max_by(|&a, &b| row[a].total_cmp(&row[b]));
                greedy.push(best.unwrap_or(0) as u32);
            }
            prop_assert_eq!(&found[0].ids, &greedy);
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let zero = BeamSearch {
            num_beams: 0,
            ..BeamSearch::default()
        };
        let nan = BeamSearch {
            length_penalty: f64::NAN,
            ..BeamSearch::default()
        };
        let two = BeamSearch {
            num_beams: 2,
            ..BeamSearch::default()
        };
        let hot = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        for (settings, sampling, word) in [
            (zero, Sampling::default(), "num_beams"),
            (nan, Sampling::default(), "length_penalty"),
            (two, hot, "temperature"),
        ] {
            let error = settings.validate(&sampling).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.contains(word)), "{word}");
        }
    }
}
