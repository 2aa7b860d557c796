//! Which samples and captions a step learns from: (seed, step) → picks.
//!
//! A pure function of the step, so that a run that was interrupted or restored goes on with exactly the picks it would
//! have had.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::data::shuffled;

/// Every sample once per epoch, in a new order each epoch.
#[derive(Clone)]
pub(super) struct Order {
    samples: usize,
    seed: u64,
    batch_size: usize,
    /// How long each sample is, and how many batches' samples are sorted by that, where batches are to be of alike lengths.
    bucket: Option<(Arc<Vec<usize>>, usize)>,
    /// The last two epochs that were asked for, and their orders: steps look ahead into the next.
    current: VecDeque<(usize, Vec<usize>)>,
}

impl Order {
    /// An order over `samples` samples, at least one.
    pub(super) fn new(samples: usize, seed: u64, batch_size: usize) -> Self {
        Self {
            samples,
            seed,
            batch_size,
            bucket: None,
            current: VecDeque::new(),
        }
    }

    /// The same with samples of alike lengths in one batch: of `batches` batches in a row the samples are sorted by length, cut
    /// into batches, and these are shuffled.
    pub(super) fn bucketed(mut self, lengths: Vec<usize>, batches: usize) -> Self {
        self.bucket = (batches > 1).then(|| (Arc::new(lengths), batches));
        self.current.clear();
        self
    }

    /// Position of the sample at `slot` of a step's samples, or of the one that is `later` in the same epoch's order (behind its
    /// end its beginning follows): what takes the place of a sample that can't be read.
    pub(super) fn pick(&mut self, step: usize, slot: usize, later: usize) -> usize {
        let place = step * self.batch_size + slot;
        let epoch = place / self.samples;
        let at = (place % self.samples + later) % self.samples;
        if let Some((_, order)) = self.current.iter().find(|(number, _)| *number == epoch) {
            return order[at];
        }
        let order = self.epoch(epoch);
        let position = order[at];
        self.current.push_back((epoch, order));
        if self.current.len() > 2 {
            self.current.pop_front();
        }
        position
    }

    fn epoch(&self, epoch: usize) -> Vec<usize> {
        let mut order = shuffled(self.samples, self.seed, epoch as u64);
        let Some((lengths, batches)) = &self.bucket else {
            return order;
        };
        // Batches lie across the ends of epochs: the first begins where the last one of the epoch before ends.
        let begun = (epoch * self.samples) % self.batch_size;
        let first = (self.batch_size - begun) % self.batch_size;
        let first = first.min(order.len());
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::MAX - epoch as u64);
        for window in order[first..].chunks_mut(self.batch_size * batches) {
            window.sort_by_key(|&position| lengths.get(position).copied().unwrap_or(0));
            let mut whole: Vec<Vec<usize>> = window
                .chunks(self.batch_size)
                .map(<[usize]>::to_vec)
                .collect();
            // A batch that is not whole stays last: it goes on in the next epoch.
            let rest = whole.pop_if(|batch| batch.len() < self.batch_size);
            whole.shuffle(&mut rng);
            let dealt: Vec<usize> = whole.into_iter().chain(rest).flatten().collect();
            window.copy_from_slice(&dealt);
        }
        order
    }
}

/// The random stream of one step: caption choices and prefix lengths come from it.
pub(super) fn step_rng(seed: u64, step: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step as u64);
    rng
}

/// One of an example's captions or prompts.
pub(super) fn pick_choice(choices: usize, rng: &mut impl Rng) -> Option<usize> {
    (choices > 0).then(|| rng.random_range(0..choices))
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

    #[test]
    fn batches_of_alike_lengths_hold_every_sample_once_and_differ_less() {
        let lengths: Vec<usize> = (0..37).map(|at| (at * 7919) % 50).collect();
        let spread = |order: &mut Order| -> usize {
            let of = |batch: Vec<usize>| {
                let own = batch.iter().map(|&at| lengths[at]);
                own.clone().max().unwrap_or(0) - own.min().unwrap_or(0)
            };
            (0..9).map(|step| of(order.batch(step))).sum()
        };
        let plain = spread(&mut Order::new(37, 3, 4));
        let mut order = Order::new(37, 3, 4).bucketed(lengths.clone(), 4);
        assert!(2 * spread(&mut order) < plain, "{plain}");
        let places = |order: &mut Order, places: std::ops::Range<usize>| -> Vec<usize> {
            places
                .map(|place| order.pick(place / 4, place % 4, 0))
                .collect()
        };
        for epoch in 0..3 {
            let mut all = places(&mut order, epoch * 37..(epoch + 1) * 37);
            all.sort_unstable();
            assert_eq!(all, (0..37).collect::<Vec<_>>());
        }
        let mut resumed = Order::new(37, 3, 4).bucketed(lengths, 4);
        assert_eq!(
            resumed.batch(17),
            order.batch(17),
            "in the middle of an epoch"
        );
    }
}
