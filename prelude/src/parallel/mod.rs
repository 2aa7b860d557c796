//! Several processes that do one piece of work together, each with a part of the data: what they tell each other.
//!
//! ```text
//! mpirun -n 4 program ─► 4 processes, ranks 0 to 3 ─ world() ─► Collective: sums, broadcasts ─ Group: one outcome ─► trainer
//! ```
//!
//! # Layout
//! - [`Collective`]: the few operations that all ranks call together; [`alone`]: of one process
//! - `mpi`: those of an MPI library, which is loaded when the program runs; `library`: finding it, and what its handles are
//! - [`threads`]: those of threads of one process, for tests
//! - `nccl`: sums of tensors that lie on the ranks' GPUs, which need not go by the host
//! - `group`: ranks that end together: an error or an interrupt of one is told to all
//! - `buckets`: gradients added up over all ranks
//! - [`plan`]: what more ranks would bring, from the time of a step and the bytes of its gradients
//! - `promised`: how many ranks the surroundings speak of, and whether there are as many

pub(crate) mod buckets;
pub(crate) mod group;
#[cfg(unix)]
mod library;
#[cfg(unix)]
mod mpi;
#[cfg(unix)]
mod nccl;
pub mod plan;
#[cfg_attr(not(unix), allow(dead_code))] // what only an MPI library asks
mod promised;
mod threads;

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};

use crate::{Error, Result};

pub use plan::{Link, ScalingPlan, StepTime};
pub use threads::threads;

/// The ranks of a run. Every operation is called by all of them, in the same order, with slices of the same length; it
/// returns when all have.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::parallel::{Collective, world};
///
/// # fn main() -> Result<()> {
/// let ranks = world()?; // one process, or those that `mpirun` started
/// let mut seen = [10u64]; // examples of this process's part
/// ranks.sum_u64(&mut seen)?; // now of all of them
/// assert_eq!(seen[0], 10 * ranks.ranks() as u64);
/// # Ok(()) }
/// ```
pub trait Collective: Send + Sync {
    /// This process's number, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn ranks(&self) -> usize;
    /// The library that carries the values, with its version.
    fn library(&self) -> String;
    /// The sum of each value over all ranks.
    ///
    /// # Errors
    /// `Rank` when another rank has gone, `Parallel` when the library reports an error.
    fn sum_f32(&self, values: &mut [f32]) -> Result<()>;
    /// As [`Collective::sum_f32`].
    ///
    /// # Errors
    /// As there.
    fn sum_f64(&self, values: &mut [f64]) -> Result<()>;
    /// As [`Collective::sum_f32`]. Waits without keeping a processor busy: the place to wait for slower ranks.
    ///
    /// # Errors
    /// As there.
    fn sum_u64(&self, values: &mut [u64]) -> Result<()>;
    /// Replaces the bytes of all ranks by those of one.
    ///
    /// # Errors
    /// As [`Collective::sum_f32`].
    fn broadcast(&self, bytes: &mut [u8], from: usize) -> Result<()>;
    /// Sums of tensors that lie on the ranks' GPUs, if those can reach each other; `None` where the values have to go by the host. Every rank
    /// asks, each for its own GPU.
    ///
    /// # Errors
    /// As [`Collective::sum_f32`].
    fn on_gpus(&self, device: &Device) -> Result<Option<Arc<dyn GpuSums>>> {
        let _ = device;
        Ok(None)
    }
    /// Ends all ranks at once, as the last means: of processes with exit code 1.
    fn abort(&self);
    /// Leaves: no operation can be called after it. Waits until all ranks do.
    ///
    /// # Errors
    /// As [`Collective::sum_f32`].
    fn leave(&self) -> Result<()>;
}

/// Sums over all ranks of what lies on their GPUs: NCCL's, where it is there. Every rank calls, in the same order, with as many values.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::parallel::{Collective, world};
///
/// # fn main() -> Result<()> {
/// let device = Device::chosen()?;
/// let own = Tensor::ones(4, DType::F32, &device)?;
/// let ranks = world()?;
/// let sum = match ranks.on_gpus(&device)? {
///     Some(gpus) => gpus.sum(&own)?, // never leaves the GPUs
///     None => {
///         let mut values = own.to_vec1::<f32>()?;
///         ranks.sum_f32(&mut values)?;
///         Tensor::from_vec(values, 4, &device)?
///     }
/// };
/// assert_eq!(sum.to_vec1::<f32>()?, [ranks.ranks() as f32; 4]);
/// # Ok(()) }
/// ```
pub trait GpuSums: Send + Sync {
    /// The sum of each value over all ranks, a tensor of the same shape: f32, on this rank's GPU.
    ///
    /// # Errors
    /// `Parallel` when the library reports an error; `Candle`.
    fn sum(&self, values: &Tensor) -> Result<Tensor>;
    /// The library that carries the values, with its version.
    fn library(&self) -> String;
}

/// One process.
struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }
    fn ranks(&self) -> usize {
        1
    }
    fn library(&self) -> String {
        "one process".into()
    }
    fn sum_f32(&self, _values: &mut [f32]) -> Result<()> {
        Ok(())
    }
    fn sum_f64(&self, _values: &mut [f64]) -> Result<()> {
        Ok(())
    }
    fn sum_u64(&self, _values: &mut [u64]) -> Result<()> {
        Ok(())
    }
    fn broadcast(&self, _bytes: &mut [u8], _from: usize) -> Result<()> {
        Ok(())
    }
    fn abort(&self) {}
    fn leave(&self) -> Result<()> {
        Ok(())
    }
}

/// The one rank of a process that works alone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::parallel::alone;
///
/// let one = alone();
/// assert_eq!((one.rank(), one.ranks()), (0, 1));
/// ```
pub fn alone() -> Arc<dyn Collective> {
    Arc::new(Alone)
}

/// What this process belongs to, once it was asked for.
enum World {
    Unknown,
    Joined(Arc<dyn Collective>),
    /// Its processes can't work together.
    Refused {
        joined: Arc<dyn Collective>,
        rank: usize,
        message: String,
    },
    Left,
}

/// The version that ranks compare before they do anything else together.
const VERSION: &str = concat!("Glassbox ", env!("CARGO_PKG_VERSION"));

/// Refuses ranks of which one is of another version: its sums, or the order of what it does, may be others.
fn same_version(joined: Arc<dyn Collective>, own: &str) -> Result<()> {
    let group = group::Group::of(joined);
    let same = group.same_text("program", own, "start the same program on all machines");
    // The group ends here, and the ranks go on or have all heard why not.
    group.finish();
    same
}

thread_local! {
    static BY_ITSELF: Cell<bool> = const { Cell::new(false) };
}

/// Work of this rank alone, while others wait for it: what it does is shared with nobody.
pub(crate) fn by_itself<T>(work: impl FnOnce() -> T) -> T {
    /// Also when the work panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            BY_ITSELF.set(self.0);
        }
    }
    let _restore = Restore(BY_ITSELF.replace(true));
    work()
}

/// The ranks that take part in what this thread does: those of [`world`], or within [`by_itself`] this one.
pub(crate) fn around() -> Result<Arc<dyn Collective>> {
    match BY_ITSELF.get() {
        true => Ok(alone()),
        false => world(),
    }
}

static WORLD: Mutex<World> = Mutex::new(World::Unknown);

/// The ranks that `mpirun`, `srun` or another launcher has started, this process among them; one rank where none has. The first
/// call joins them, and waits until all have called.
///
/// MPI wants all calls from the thread that joined: ask from the one that trains.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::parallel::world;
///
/// # fn main() -> Result<()> {
/// let ranks = world()?; // one, unless `mpirun` or another launcher has started more
/// assert!(ranks.rank() < ranks.ranks());
/// # Ok(()) }
/// ```
///
/// # Errors
/// `Parallel` when the surroundings promise several ranks (`OMPI_COMM_WORLD_SIZE`, `PMI_SIZE`, `SLURM_NTASKS`, `WORLD_SIZE`) and
/// no MPI library can be loaded, or the one that is loaded finds another number; when this process has left. `Rank`, the same on all, when one of them is
/// of another version.
pub fn world() -> Result<Arc<dyn Collective>> {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    match &*world {
        World::Joined(joined) => return Ok(joined.clone()),
        World::Left => {
            return Err(Error::Parallel(
                "this process has left the other ranks (MPI can't be begun twice in a process): train before that, or start the \
                 program again"
                    .into(),
            ));
        }
        World::Refused {
            joined,
            rank,
            message,
        } => {
            return Err(Error::Rank {
                rank: *rank,
                ranks: joined.ranks(),
                message: message.clone(),
            });
        }
        World::Unknown => {}
    }
    let joined: Arc<dyn Collective> = match promised::several()? {
        None => alone(),
        #[cfg(unix)]
        Some(promise) => mpi::join(&promise)?,
        #[cfg(not(unix))]
        Some(_) => {
            return Err(Error::Parallel(
                "several processes are promised, and no MPI library can be loaded here".into(),
            ));
        }
    };
    if joined.ranks() > 1
        && let Err(error) = same_version(joined.clone(), VERSION)
    {
        // Where the library itself has failed there is nothing to leave.
        *world = match &error {
            Error::Rank { rank, message, .. } => World::Refused {
                joined,
                rank: *rank,
                message: message.clone(),
            },
            _ => World::Joined(joined),
        };
        return Err(error);
    }
    *world = World::Joined(joined.clone());
    Ok(joined)
}

/// Leaves the other ranks, where there are any, and waits until all ranks do. A program that ends with exit code 0 leaves by itself
/// (by glibc, which tells the code; elsewhere let this be its last line). One that ends with another code ends all ranks, which might
/// wait for it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::parallel::{leave, world};
///
/// # fn main() -> Result<()> {
/// let ranks = world()?;
/// assert!(ranks.rank() < ranks.ranks()); // and now it trains
/// leave()?; // the last line: waits for the other ranks, where there are any
/// # Ok(()) }
/// ```
///
/// # Errors
/// What the library reports.
pub fn leave() -> Result<()> {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    match std::mem::replace(&mut *world, World::Left) {
        World::Joined(joined) | World::Refused { joined, .. } if joined.ranks() > 1 => {
            joined.leave()
        }
        before => {
            *world = before;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How ranks of these versions fare.
    fn met(versions: &[&str]) -> Vec<Result<()>> {
        std::thread::scope(|scope| {
            let running: Vec<_> = threads(versions.len())
                .into_iter()
                .zip(versions)
                .map(|(rank, own)| scope.spawn(move || same_version(rank, own)))
                .collect();
            let ended = running.into_iter().map(|one| one.join().expect("no panic"));
            ended.collect()
        })
    }

    #[test]
    fn a_rank_of_another_version_ends_all_with_one_report_that_names_it() {
        let outcomes = met(&["Glassbox 0.1.0", "Glassbox 0.1.0", "Glassbox 0.2.0-rc1"]);
        let told: Vec<String> = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Err(error @ Error::Rank { rank: 2, .. }) => error.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(told.iter().all(|text| *text == told[0]), "{told:?}");
        for word in [
            "rank 2 of 3",
            "0.2.0-rc1",
            "rank 0 is Glassbox 0.1.0",
            "same program",
        ] {
            assert!(told[0].contains(word), "{word} is not in {}", told[0]);
        }
    }

    #[test]
    fn ranks_of_one_version_go_on() {
        let outcomes = met(&[VERSION; 3]);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
}
