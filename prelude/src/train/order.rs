//! Which samples and captions a step learns from: (seed, step) → picks.
//!
//! A pure function of the step, so that a run that was interrupted or restored goes on with exactly the picks it would
//! have had.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::data::shuffled;

/// Every sample once per epoch, in a new order each epoch.
#[derive(Clone)]
pub(super) struct Order {
    samples: usize,
    seed: u64,
    batch_size: usize,
    /// The epoch whose order is kept, and the order.
    current: (usize, Vec<usize>),
}

impl Order {
    /// An order over `samples` samples, at least one.
    pub(super) fn new(samples: usize, seed: u64, batch_size: usize) -> Self {
        Self {
            samples,
            seed,
            batch_size,
            current: (0, shuffled(samples, seed, 0)),
        }
    }

    /// Position of the sample at `slot` of a step's batch, or of the one that is `later` in the same epoch's order (behind its
    /// end its beginning follows): what takes the place of a sample that can't be read.
    pub(super) fn pick(&mut self, step: usize, slot: usize, later: usize) -> usize {
        let place = step * self.batch_size + slot;
        let epoch = place / self.samples;
        if self.current.0 != epoch {
            self.current = (epoch, shuffled(self.samples, self.seed, epoch as u64));
        }
        self.current.1[(place % self.samples + later) % self.samples]
    }
}

/// The random stream of one step: caption choices and prefix lengths come from it.
pub(super) fn step_rng(seed: u64, step: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step as u64);
    rng
}

/// One of a picture's captions.
pub(super) fn pick_caption<'a>(captions: &'a [String], rng: &mut impl Rng) -> Option<&'a String> {
    if captions.is_empty() {
        None
    } else {
        captions.get(rng.random_range(0..captions.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Order {
        /// Positions of the samples of a step.
        fn batch(&mut self, step: usize) -> Vec<usize> {
            (0..self.batch_size)
                .map(|slot| self.pick(step, slot, 0))
                .collect()
        }
    }

    #[test]
    fn every_sample_may_take_the_place_of_one() {
        let mut order = Order::new(10, 7, 4);
        let mut places: Vec<usize> = (0..10).map(|later| order.pick(1, 2, later)).collect();
        assert_eq!(places[0], order.batch(1)[2]);
        places.sort_unstable();
        assert_eq!(places, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn an_epoch_holds_every_sample_once() {
        let mut order = Order::new(10, 7, 3);
        let picks: Vec<usize> = (0..10).flat_map(|step| order.batch(step)).collect(); // three epochs
        for epoch in picks.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(picks[..10], picks[10..20], "a new order each epoch");
    }

    #[test]
    fn a_step_has_the_same_picks_whenever_it_is_asked() {
        let mut all = Order::new(10, 7, 4);
        let batches: Vec<Vec<usize>> = (0..8).map(|step| all.batch(step)).collect();
        assert_eq!(Order::new(10, 7, 4).batch(6), batches[6]);
        assert_eq!(all.batch(1), batches[1]);
    }
}
