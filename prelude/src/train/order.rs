//! Which samples and captions a step learns from: (seed, step) → picks.
//!
//! A pure function of the step, so that a run that was interrupted or restored goes on with exactly the picks it would
//! have had.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::data::CocoCaptions;

/// Every sample once per epoch, in a new order each epoch.
#[derive(Clone)]
pub(super) struct Order {
    dataset: CocoCaptions,
    seed: u64,
    batch_size: usize,
    /// The epoch whose order is kept, and the order.
    current: (usize, Vec<usize>),
}

impl Order {
    /// An order over the samples of `dataset`.
    pub(super) fn new(dataset: &CocoCaptions, seed: u64, batch_size: usize) -> Self {
        Self {
            dataset: dataset.clone(),
            seed,
            batch_size,
            current: (0, dataset.order(seed, 0)),
        }
    }

    /// Positions of the samples of a step; its length is the batch size.
    pub(super) fn batch(&mut self, step: usize) -> Vec<usize> {
        let samples = self.dataset.len();
        let first = step * self.batch_size;
        let mut picks = Vec::with_capacity(self.batch_size);
        for position in first..first + self.batch_size {
            let epoch = position / samples;
            if self.current.0 != epoch {
                self.current = (epoch, self.dataset.order(self.seed, epoch as u64));
            }
            picks.push(self.current.1[position % samples]);
        }
        picks
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
    use crate::Result;
    use crate::data::{Shapes, ShapesConfig, Split};

    fn dataset() -> Result<(tempfile::TempDir, CocoCaptions)> {
        let folder = tempfile::tempdir().map_err(|source| crate::Error::Io {
            path: "tempdir".into(),
            source,
        })?;
        Shapes::new(ShapesConfig {
            image_size: 16,
            ..ShapesConfig::default()
        })?
        .write_coco(folder.path(), 10, 1)?;
        let dataset = CocoCaptions::open(folder.path(), Split::Train)?;
        Ok((folder, dataset))
    }

    #[test]
    fn an_epoch_holds_every_sample_once() -> Result<()> {
        let (_folder, dataset) = dataset()?;
        let mut order = Order::new(&dataset, 7, 3);
        let picks: Vec<usize> = (0..10).flat_map(|step| order.batch(step)).collect(); // three epochs
        for epoch in picks.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(picks[..10], picks[10..20], "a new order each epoch");
        Ok(())
    }

    #[test]
    fn a_step_has_the_same_picks_whenever_it_is_asked() -> Result<()> {
        let (_folder, dataset) = dataset()?;
        let mut all = Order::new(&dataset, 7, 4);
        let batches: Vec<Vec<usize>> = (0..8).map(|step| all.batch(step)).collect();
        assert_eq!(Order::new(&dataset, 7, 4).batch(6), batches[6]);
        assert_eq!(all.batch(1), batches[1]);
        Ok(())
    }
}
