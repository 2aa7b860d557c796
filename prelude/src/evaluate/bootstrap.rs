//! How sure a figure is: pictures are drawn again and again from the set, with repetition, and the figure is computed anew.
//!
//! CIDEr-D's document frequencies stay those of the whole set: what is drawn are the pictures' own figures.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::metric::Score;

/// Draws of a whole set of pictures.
pub const RESAMPLES: usize = 1000;
/// Part of the draws whose figures lie inside.
pub const LEVEL: f64 = 0.95;

/// Between which values a figure lies.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::Interval;
///
/// let score = Score::share("right", [true, true, false, true]);
/// let interval: Interval = score.interval(0); // 95%, by drawing the answers anew, with seed 0
/// assert!(interval.low <= score.value && score.value <= interval.high);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// So many draws lie below as above the other end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The interval of a figure from `resamples` draws, with the part `level` of them, 0 to 1, inside; the same seed gives the same.
/// Both ends are NaN where there is no picture, no draw or no figure.
pub fn interval(score: &Score, resamples: usize, level: f64, seed: u64) -> Interval {
    let pictures = score.all_pictures();
    if pictures == 0 || resamples == 0 {
        return Interval {
            low: f64::NAN,
            high: f64::NAN,
        };
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut figures: Vec<f64> = (0..resamples)
        .map(|_| {
            score.of_pictures(
                (0..pictures)
                    .map(|_| rng.random_range(0..pictures))
                    .collect::<Vec<_>>(),
            )
        })
        .filter(|figure| !figure.is_nan())
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |part: f64| match figures.len() {
        0 => f64::NAN,
        count => figures[((part * (count - 1) as f64).round() as usize).min(count - 1)],
    };
    Interval {
        low: at((1.0 - level) / 2.0),
        high: at((1.0 + level) / 2.0),
    }
}

/// Whether two ways of answering the same pictures differ: the share of draws, 0 to 1, in which the first is not above the second.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::not_above;
///
/// let good = Score::share("right", [true, true, true, true]);
/// let bad = Score::share("right", [false, false, false, false]);
/// assert_eq!(not_above(&good, &bad, 100, 0), 0.0); // in no draw is it not better
/// ```
pub fn not_above(one: &Score, other: &Score, resamples: usize, seed: u64) -> f64 {
    let pictures = one.all_pictures().min(other.all_pictures());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let below = (0..resamples)
        .filter(|_| {
            let drawn: Vec<usize> = (0..pictures)
                .map(|_| rng.random_range(0..pictures))
                .collect();
            let above = one.of_pictures(drawn.iter().copied()) > other.of_pictures(drawn);
            !above
        })
        .count();
    below as f64 / resamples.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_that_of_its_standard_error() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let values: Vec<f64> = (0..400).map(|_| rng.random_range(0.0..1.0)).collect();
        let score = Score::mean("m", values);
        let found = score.interval(1);
        assert_eq!(found, score.interval(1));
        // ± 1.96 · sqrt(1/12) / sqrt(400)
        assert!(
            (score.value - found.low - 0.0283).abs() < 0.004,
            "{found:?} of {}",
            score.value
        );
        assert!(
            (found.high - score.value - 0.0283).abs() < 0.004,
            "{found:?} of {}",
            score.value
        );
    }

    #[test]
    fn pictures_that_do_not_count_and_empty_sets_do_no_harm() {
        let score = Score::mean("m", vec![1.0, f64::NAN, 3.0]);
        assert_eq!((score.value, score.pictures()), (2.0, 2));
        let none = Score::mean("m", vec![]);
        assert!(none.value.is_nan() && none.interval(0).low.is_nan());
    }

    #[test]
    fn a_difference_that_every_picture_shows_is_certain() {
        let one = Score::mean("one", vec![1.0, 2.0, 3.0]);
        let other = Score::mean("other", vec![0.5, 1.5, 2.5]);
        assert_eq!(not_above(&one, &other, 200, 0), 0.0);
        assert_eq!(not_above(&other, &one, 200, 0), 1.0);
    }
}
