//! Which sample each row of a batch is of: LoRA's dropout then draws for each sample by itself, whoever shares its batch.
//!
//! ```text
//! a seed for each sample ─ by_sample ─► a key for each row (sample, place in it) ─► a layer's draws for that row
//! ```
//! So a sample loses the same values in a batch of eight, in a part of it on another rank, and in a row that it shares with others.
//! Where nobody says which samples these are, a layer draws from a stream of its own, value by value.

use std::cell::RefCell;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result, fnv};

thread_local! {
    static NOW: RefCell<Option<Samples>> = const { RefCell::new(None) };
}

/// The samples of the pass that this thread is in.
#[derive(Clone)]
pub(crate) struct Samples {
    /// One for each sample.
    seeds: Arc<[u64]>,
    /// A key for each row of the tensors that pass now, or for each of equal runs of rows.
    rows: Option<Arc<[u64]>>,
    unknown: Unknown,
}

/// What a layer does whose rows can't be told apart by sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It draws from a stream of its own.
    OwnStream,
    /// It is an error: other ranks would draw otherwise.
    Refused,
}

/// Puts back what was there, also when a pass panics.
pub(crate) struct Restore(Option<Samples>);

impl Drop for Restore {
    fn drop(&mut self) {
        NOW.set(self.0.take());
    }
}

/// A pass over samples, each with a seed of its own.
pub(crate) fn by_sample<T>(seeds: Vec<u64>, unknown: Unknown, pass: impl FnOnce() -> T) -> T {
    let _restore = with(Some(Samples {
        seeds: seeds.into(),
        rows: None,
        unknown,
    }));
    pass()
}

/// The samples of this pass, for a part of it that is computed again.
pub(crate) fn now() -> Option<Samples> {
    NOW.with_borrow(Clone::clone)
}

/// Has these be the samples, as long as what is given back lives.
pub(crate) fn with(samples: Option<Samples>) -> Restore {
    Restore(NOW.replace(samples))
}

/// Says which rows pass from here on, as long as what is given back lives: `keys` are made of the seeds of `samples` samples.
pub(crate) fn rows(samples: usize, keys: impl FnOnce(&[u64]) -> Vec<u64>) -> Restore {
    let now = now().map(|now| Samples {
        rows: (now.seeds.len() == samples).then(|| keys(&now.seeds).into()),
        ..now
    });
    with(now)
}

/// Has only some of the rows pass from here on.
pub(crate) fn chosen(rows: &[u32]) -> Restore {
    let now = now().map(|now| {
        let key = |keys: &Arc<[u64]>, row: &u32| keys.get(*row as usize).copied();
        let keys = now.rows.as_ref();
        let keys = keys.and_then(|keys| rows.iter().map(|row| key(keys, row)).collect());
        Samples { rows: keys, ..now }
    });
    with(now)
}

/// The key of a sample's token, or of what else has a number in it.
pub(crate) fn key(seed: u64, number: usize) -> u64 {
    fnv::step(seed, number as u64)
}

/// What a layer multiplies its `rows` × `width` inputs by: 0, or 1 / `keep` for the part `keep` of them. `None` where it is not known
/// which samples they are.
///
/// # Errors
/// `Config` naming the layer where that is asked for and can't be told.
pub(super) fn mask(
    layer: &str,
    (rows, width): (usize, usize),
    keep: f64,
) -> Result<Option<Vec<f32>>> {
    let Some(now) = now() else {
        return Ok(None);
    };
    let keys = now.rows.as_deref().unwrap_or_default();
    if keys.is_empty() || !rows.is_multiple_of(keys.len()) {
        return match now.unknown {
            Unknown::OwnStream => Ok(None),
            Unknown::Refused => Err(Error::Config(format!(
                "{layer} has dropout and reads {rows} rows, which are not those of the step's samples, so ranks can't draw alike: set \
                 lora_dropout = 0 for it, or train in one process"
            ))),
        };
    }
    let (each, layer) = (rows / keys.len(), fnv::bytes(fnv::START, layer.as_bytes()));
    let mut mask = Vec::with_capacity(rows * width);
    for (&row, at) in keys
        .iter()
        .flat_map(|row| (0..each).map(move |at| (row, at)))
    {
        let mut rng = ChaCha8Rng::seed_from_u64(key(row, at) ^ layer);
        draw(&mut mask, width, keep, &mut rng);
    }
    Ok(Some(mask))
}

/// As [`mask`], from a stream.
pub(super) fn mask_from(values: usize, keep: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut mask = Vec::with_capacity(values);
    draw(&mut mask, values, keep, rng);
    mask
}

fn draw(mask: &mut Vec<f32>, values: usize, keep: f64, rng: &mut ChaCha8Rng) {
    let (threshold, scale) = ((keep * f64::from(u32::MAX)) as u32, (1.0 / keep) as f32);
    mask.extend((0..values).map(|_| match rng.random::<u32>() <= threshold {
        true => scale,
        false => 0.0,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mask of a layer for some samples of two tokens.
    fn of(layer: &str, seeds: &[u64]) -> Result<Option<Vec<f32>>> {
        by_sample(seeds.to_vec(), Unknown::Refused, || {
            let _rows = rows(seeds.len(), |seeds| {
                let tokens = |seed: &u64| [key(*seed, 0), key(*seed, 1)];
                seeds.iter().flat_map(tokens).collect()
            });
            mask(layer, (2 * seeds.len(), 50), 0.5)
        })
    }

    #[test]
    fn a_sample_loses_the_same_whoever_is_in_its_batch() -> Result<()> {
        let both = of("a", &[7, 8])?.unwrap_or_default();
        let (first, second) = (of("a", &[7])?, of("a", &[8])?);
        let apart = [first.unwrap_or_default(), second.unwrap_or_default()];
        assert_eq!((both.len(), both), (200, apart.concat()));
        assert_ne!(apart[0], apart[1]);
        assert_ne!(apart[0][..50], apart[0][50..], "each token its own");
        assert_ne!(of("b", &[7])?, of("a", &[7])?, "each layer its own");
        let dropped = apart.concat().iter().filter(|v| **v == 0.0).count();
        assert!((60..140).contains(&dropped), "{dropped} of 200");
        Ok(())
    }

    #[test]
    fn rows_of_a_picture_share_its_key_and_chosen_rows_keep_theirs() -> Result<()> {
        by_sample(vec![3, 4], Unknown::Refused, || {
            let _rows = rows(2, <[u64]>::to_vec);
            let whole = mask("a", (6, 10), 0.5)?.unwrap_or_default(); // three rows each
            {
                let _chosen = chosen(&[1]);
                let second = mask("a", (3, 10), 0.5)?.unwrap_or_default();
                assert_eq!(second, whole[30..]);
            }
            assert_eq!(mask("a", (6, 10), 0.5)?, Some(whole), "as before");
            Ok(())
        })
    }

    #[test]
    fn rows_that_nobody_knows_are_refused_by_name_or_drawn_from_a_stream() -> Result<()> {
        assert_eq!(mask("a", (3, 4), 0.5)?, None);
        for (unknown, refused) in [(Unknown::OwnStream, false), (Unknown::Refused, true)] {
            by_sample(vec![1, 2], unknown, || {
                let not_said = mask("a", (4, 4), 0.5);
                let _rows = rows(2, <[u64]>::to_vec);
                for drawn in [not_said, mask("a", (3, 4), 0.5)] {
                    match drawn {
                        Ok(mask) => assert!(!refused && mask.is_none()),
                        Err(error) => assert!(refused && error.to_string().starts_with("a has")),
                    }
                }
            });
        }
        Ok(())
    }
}
