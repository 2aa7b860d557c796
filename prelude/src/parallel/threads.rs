//! Ranks that are threads of one process: the same operations as MPI's, for tests of what is built on them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Collective;
use crate::{Error, Result};

/// One for each of `ranks` threads.
///
/// ```
/// let ranks = glassbox_prelude::parallel::threads(3);
/// let sums = std::thread::scope(|scope| {
///     let work = ranks.iter().map(|rank| {
///         scope.spawn(move || {
///             let mut values = [1.0, rank.rank() as f32];
///             rank.sum_f32(&mut values).map(|()| values)
///         })
///     });
///     let work: Vec<_> = work.collect();
///     work.into_iter().map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
/// });
/// for sum in sums {
///     assert_eq!(sum?, [3.0, 3.0]);
/// }
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::parallel::threads;
///
/// # fn main() -> Result<()> {
/// let sums: Vec<Vec<f32>> = std::thread::scope(|scope| {
///     let ranks: Vec<_> = threads(2)
///         .into_iter()
///         .map(|rank| {
///             scope.spawn(move || {
///                 let mut values = [rank.rank() as f32 + 1.0];
///                 rank.sum_f32(&mut values).map(|()| values.to_vec())
///             })
///         })
///         .collect();
///     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect::<Result<_>>()
/// })?;
/// assert_eq!(sums, [[3.0], [3.0]]); // both know 1 + 2
/// # Ok(()) }
/// ```
pub fn threads(ranks: usize) -> Vec<Arc<dyn Collective>> {
    let shared = Arc::new(Shared {
        ranks,
        meeting: Mutex::default(),
        changed: Condvar::new(),
    });
    let one = |rank| -> Arc<dyn Collective> {
        Arc::new(Thread {
            rank,
            shared: shared.clone(),
        })
    };
    (0..ranks).map(one).collect()
}

struct Thread {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    ranks: usize,
    meeting: Mutex<Meeting>,
    changed: Condvar,
}

/// One operation, to which each rank brings its bytes.
#[derive(Default)]
struct Meeting {
    number: u64,
    brought: Vec<(usize, Vec<u8>)>,
    /// What all brought to the last one that is complete, by rank.
    last: Arc<Vec<Vec<u8>>>,
    aborted: Option<usize>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Meeting> {
        self.meeting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Thread {
    /// Brings bytes, and takes what all ranks brought, by rank.
    fn meet(&self, bytes: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>> {
        let mut meeting = self.shared.lock();
        if let Some(rank) = meeting.aborted {
            return Err(self.gone(rank));
        }
        let number = meeting.number;
        meeting.brought.push((self.rank, bytes));
        if meeting.brought.len() == self.shared.ranks {
            let mut brought = std::mem::take(&mut meeting.brought);
            brought.sort_by_key(|(rank, _)| *rank);
            meeting.last = Arc::new(brought.into_iter().map(|(_, bytes)| bytes).collect());
            meeting.number += 1;
            self.shared.changed.notify_all();
        }
        while meeting.number == number {
            if let Some(rank) = meeting.aborted {
                return Err(self.gone(rank));
            }
            let woken = self.shared.changed.wait(meeting);
            meeting = woken.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(meeting.last.clone())
    }

    fn gone(&self, rank: usize) -> Error {
        Error::Rank {
            rank,
            ranks: self.shared.ranks,
            message: "it has gone".into(),
        }
    }

    /// Adds up in the order of ranks, so that every rank has the same bits.
    fn sum<T: Copy, const N: usize>(
        &self,
        values: &mut [T],
        to: fn(T) -> [u8; N],
        from: fn([u8; N]) -> T,
        add: fn(T, T) -> T,
    ) -> Result<()> {
        let all = self.meet(values.iter().flat_map(|value| to(*value)).collect())?;
        for (rank, bytes) in all.iter().enumerate() {
            let (chunks, rest) = bytes.as_chunks::<N>();
            if chunks.len() != values.len() || !rest.is_empty() {
                return Err(Error::Parallel(format!(
                    "rank {rank} brought {} bytes to a sum, rank {} {} values of {N} bytes: all ranks call the same operations",
                    bytes.len(),
                    self.rank,
                    values.len()
                )));
            }
            for (value, chunk) in values.iter_mut().zip(chunks) {
                *value = match rank {
                    0 => from(*chunk),
                    _ => add(*value, from(*chunk)),
                };
            }
        }
        Ok(())
    }
}

impl Collective for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.shared.ranks
    }

    fn library(&self) -> String {
        "threads of one process".into()
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.sum(values, f32::to_ne_bytes, f32::from_ne_bytes, |a, b| a + b)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.sum(values, f64::to_ne_bytes, f64::from_ne_bytes, |a, b| a + b)
    }

    fn sum_u64(&self, values: &mut [u64]) -> Result<()> {
        self.sum(
            values,
            u64::to_ne_bytes,
            u64::from_ne_bytes,
            u64::wrapping_add,
        )
    }

    fn broadcast(&self, bytes: &mut [u8], from: usize) -> Result<()> {
        let own = match self.rank == from {
            true => bytes.to_vec(),
            false => Vec::new(),
        };
        let all = self.meet(own)?;
        match all.get(from) {
            Some(sent) if sent.len() == bytes.len() => {
                bytes.copy_from_slice(sent);
                Ok(())
            }
            _ => Err(Error::Parallel(format!(
                "rank {from} broadcasts another number of bytes than rank {} expects, {}",
                self.rank,
                bytes.len()
            ))),
        }
    }

    fn abort(&self) {
        self.shared.lock().aborted.get_or_insert(self.rank);
        self.shared.changed.notify_all();
    }

    fn leave(&self) -> Result<()> {
        self.meet(Vec::new()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `work` comes to on each of some ranks.
    fn on_ranks<T: Send>(ranks: usize, work: impl Fn(&dyn Collective) -> T + Sync) -> Vec<T> {
        let (all, work) = (threads(ranks), &work);
        std::thread::scope(|scope| {
            let running = all.iter().map(|rank| scope.spawn(move || work(&**rank)));
            let running: Vec<_> = running.collect();
            let ended = running.into_iter().map(|one| one.join().expect("no panic"));
            ended.collect()
        })
    }

    #[test]
    fn all_ranks_have_the_same_sums_and_bytes() {
        let outcomes = on_ranks(4, |rank| -> Result<_> {
            let own = rank.rank() as u64;
            let (mut whole, mut real) = ([own, 1 << 60], [0.1 * own as f64]);
            rank.sum_u64(&mut whole)?;
            rank.sum_f64(&mut real)?;
            let mut bytes = [own as u8; 3];
            rank.broadcast(&mut bytes, 2)?;
            rank.leave()?;
            Ok((whole, real[0].to_bits(), bytes))
        });
        let expected = (
            [6, 4 << 60],
            (0.0 + 0.1 + 0.2 + 0.1 * 3.0f64).to_bits(),
            [2; 3],
        );
        for outcome in outcomes {
            assert_eq!(outcome.expect("all came"), expected);
        }
    }

    #[test]
    fn a_rank_that_aborts_ends_those_that_wait() {
        let outcomes = on_ranks(3, |rank| match rank.rank() {
            1 => {
                rank.abort();
                Ok(())
            }
            _ => rank.sum_u64(&mut [1]),
        });
        assert!(matches!(
            outcomes[0],
            Err(Error::Rank {
                rank: 1,
                ranks: 3,
                ..
            })
        ));
        assert!(outcomes[2].is_err());
    }

    #[test]
    fn ranks_that_bring_other_lengths_are_told() {
        let outcomes = on_ranks(2, |rank| rank.sum_f32(&mut vec![1.0; 1 + rank.rank()]));
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    }
}
