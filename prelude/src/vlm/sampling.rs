//! How a token is picked from logits: the best one, or a draw among the likely ones.

use crate::{Error, Result};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Settings of the choice; the default is greedy, as in the blog. The filters apply in the order of the fields, as in
/// transformers. The prompt stands there as embeddings, so only new tokens count as made already.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let sampling = Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() };
/// let chances = sampling.distribution(&[2.0, 1.0, 0.0], &[])?; // of three tokens by their logits
/// assert_eq!(chances.len(), 2); // the third is left out
/// assert!((chances.iter().map(|(_, chance)| chance).sum::<f64>() - 1.0).abs() < 1e-6);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits of tokens that were made already are divided (when positive; else multiplied) by this; 1: no change.
    pub repetition_penalty: f32,
    /// Logits are divided by this before the draw; 0: take the best token.
    pub temperature: f32,
    /// Only the best this many tokens; 0: all.
    pub top_k: usize,
    /// Only the best tokens that together reach this probability; 1: all.
    pub top_p: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
        }
    }
}

impl Sampling {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the field, its value and its range.
    pub fn validate(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::Input(format!(
                "temperature is {}, it must be 0 (greedy) or above",
                self.temperature
            )));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::Input(format!(
                "top_p is {}, it must be above 0 and at most 1",
                self.top_p
            )));
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return Err(Error::Input(format!(
                "repetition_penalty is {}, it must be above 0 (1 for none)",
                self.repetition_penalty
            )));
        }
        Ok(())
    }

    /// Picks a token from logits over the vocabulary, `made` being the tokens so far.
    ///
    /// # Errors
    /// When no logit is a number.
    pub fn pick(&self, logits: &[f32], made: &[u32], rng: &mut ChaCha8Rng) -> Result<u32> {
        if self.temperature == 0.0 {
            let logits = self.penalised(logits, made)?;
            let first_best = |best: usize, id: usize| match logits[id] > logits[best] {
                true => id,
                false => best,
            };
            return Ok((0..logits.len()).fold(0, first_best) as u32);
        }
        let kept = self.distribution(logits, made)?;
        let mut left = rng.random::<f64>();
        for &(id, probability) in &kept {
            left -= probability;
            if left <= 0.0 {
                return Ok(id);
            }
        }
        // Rounding left a little over.
        Ok(kept.last().map_or(0, |&(id, _)| id))
    }

    /// The tokens that may be drawn, best first, with their probabilities (which sum to 1). With temperature 0 that of
    /// temperature 1.
    ///
    /// # Errors
    /// When no logit is a number.
    pub fn distribution(&self, logits: &[f32], made: &[u32]) -> Result<Vec<(u32, f64)>> {
        let logits = self.penalised(logits, made)?;
        let temperature = match self.temperature {
            0.0 => 1.0,
            temperature => f64::from(temperature),
        };
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if self.top_k > 0 && self.top_k < order.len() {
            // Tokens that are as good as the last of the best stay, as in transformers.
            let least = logits[order[self.top_k - 1]];
            order.retain(|&id| logits[id] >= least);
        }
        let top = f64::from(logits[order[0]]);
        let mut kept: Vec<(u32, f64)> = order
            .into_iter()
            .map(|id| {
                let weight = ((f64::from(logits[id]) - top) / temperature).exp();
                (id as u32, weight)
            })
            .collect();
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut reached = 0.0;
        let enough = kept.iter().take_while(|(_, weight)| {
            let more = reached < f64::from(self.top_p) * total;
            reached += weight;
            more
        });
        let enough = enough.count().max(1);
        kept.truncate(enough);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        kept.iter_mut().for_each(|(_, weight)| *weight /= total);
        Ok(kept)
    }

    /// `scores` (logits, or log-probabilities for beams) with the repetition penalty.
    ///
    /// # Errors
    /// When there are none, or one is not a number.
    pub(super) fn penalised(&self, scores: &[f32], made: &[u32]) -> Result<Vec<f32>> {
        if scores.is_empty() || scores.iter().any(|score| score.is_nan()) {
            return Err(Error::Input(
                "the logits are not numbers: do the weights or the picture hold NaN?".into(),
            ));
        }
        let mut scores = scores.to_vec();
        if self.repetition_penalty != 1.0 {
            let mut seen = made.to_vec();
            seen.sort_unstable();
            seen.dedup();
            for id in seen {
                if let Some(score) = scores.get_mut(id as usize) {
                    *score = if *score > 0.0 {
                        *score / self.repetition_penalty
                    } else {
                        *score * self.repetition_penalty
                    };
                }
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn draws(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[sampling.pick(logits, &[], &mut rng).expect("finite logits") as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        assert_eq!(
            Sampling::default().pick(&[0.0, 3.0, 3.0, 1.0], &[], &mut rng)?,
            1
        );
        let penalised = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::default()
        };
        assert_eq!(penalised.pick(&[0.0, 3.0, 2.5, 1.0], &[1], &mut rng)?, 2);
        assert!(
            Sampling::default()
                .pick(&[f32::NAN, 1.0], &[], &mut rng)
                .is_err()
        );
        Ok(())
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let counts = draws(
            &Sampling {
                temperature: 1.0,
                ..Sampling::default()
            },
            &logits,
        );
        for (count, share) in counts.iter().zip([0.125, 0.25, 0.625]) {
            assert!((*count as f64 / 4000.0 - share).abs() < 0.03, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let sampling = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        assert_eq!(
            draws(
                &Sampling {
                    top_k: 2,
                    ..sampling.clone()
                },
                &logits
            )[0],
            0
        );
        let counts = draws(
            &Sampling {
                top_p: 0.6,
                ..sampling.clone()
            },
            &logits,
        );
        assert_eq!((counts[0], counts[1]), (0, 0));
        assert!(
            Sampling {
                top_p: 0.0,
                ..sampling
            }
            .validate()
            .is_err()
        );
    }
}
