//! The ranks of an MPI job: slices → MPI's calls.
//!
//! MPI is begun for calls from one thread (`MPI_THREAD_FUNNELED`), and each call looks that it is that one. Errors of the library end
//! the whole job, as is MPI's default: there is nothing to go on with after one.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::library::{self, Handle, Library};
use super::promised::Promise;
use super::{Collective, GpuSums, group, nccl};
use crate::session::{Surroundings, surroundings};
use crate::{Error, Result, notes};
use candle_core::Device;

/// Values of one call: MPI counts in `int`, and its buffers should stay small.
const MOST: usize = 1 << 26;
/// So long a wait keeps a processor busy; after that it sleeps in between.
const BUSY: Duration = Duration::from_millis(2);
const NAP: Duration = Duration::from_micros(200);
/// Words of a status: MPI writes at most 40 bytes in any of the libraries.
const STATUS: usize = 32;

/// This process's place in `MPI_COMM_WORLD`.
struct Mpi {
    library: Library,
    name: String,
    rank: usize,
    ranks: usize,
    thread: usize,
    /// Once asked for: the ranks' GPUs, if they reach each other.
    gpus: Mutex<Option<Option<Arc<dyn GpuSums>>>>,
}

/// For the end of a program that did not leave.
static JOINED: OnceLock<(Library, usize)> = OnceLock::new();

/// Joins the job that the launcher has started.
///
/// # Errors
/// `Parallel` when no library can be loaded, or it finds another number of ranks than was promised.
pub(super) fn join(promise: &Promise) -> Result<Arc<dyn Collective>> {
    let library = library::load(promise)?;
    let mut begun = 0;
    // SAFETY: the function is MPI's, which may be called at any time, and writes one int.
    check("MPI_Initialized", unsafe {
        (library.initialized)(&raw mut begun)
    })?;
    if begun == 0 {
        let mut provided = 0;
        // SAFETY: null arguments are allowed since MPI 2; the last is an int that is written.
        check("MPI_Init_thread", unsafe {
            (library.init_thread)(
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                library.handles.funneled,
                &raw mut provided,
            )
        })?;
    }
    let (mut rank, mut ranks): (c_int, c_int) = (0, 0);
    // SAFETY: MPI has begun, the handle is its world's, and each call writes one int.
    unsafe {
        check(
            "MPI_Comm_rank",
            (library.rank)(library.handles.world, &raw mut rank),
        )?;
        check(
            "MPI_Comm_size",
            (library.size)(library.handles.world, &raw mut ranks),
        )?;
    }
    let thread = this_thread();
    if JOINED.set((library, thread)).is_ok() {
        call_at_exit();
    }
    let name = version(&library);
    promise.kept(ranks as usize, &name).inspect_err(|_| {
        // Nobody waits for a process that is alone.
        if ranks == 1 {
            _ = finalize(&library);
        }
    })?;
    Ok(Arc::new(Mpi {
        library,
        name,
        rank: rank as usize,
        ranks: ranks as usize,
        thread,
        gpus: Mutex::default(),
    }))
}

/// What the library calls itself, in one line.
fn version(library: &Library) -> String {
    let mut text = vec![0u8; 8192 + 1]; // MPI_MAX_LIBRARY_VERSION_STRING: 256 in Open MPI, 8192 in MPICH and the ABI
    let mut length: c_int = 0;
    // SAFETY: the buffer is as long as the longest text of any of the libraries.
    let code = unsafe { (library.version)(text.as_mut_ptr().cast::<c_char>(), &raw mut length) };
    if code != 0 {
        return "an MPI library".into();
    }
    let text = text.get(..length.max(0) as usize).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let line = text.trim_matches(['\0', ' ', '\n']).lines().next();
    let line = line.unwrap_or("an MPI library");
    let words = line.split(',').next().unwrap_or(line);
    words
        .replace("Version: ", "")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn check(call: &str, code: c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Error::Parallel(format!("{call} failed with code {code}"))),
    }
}

/// The number of the thread that calls, which it also has while the process ends.
fn this_thread() -> usize {
    // SAFETY: the call takes nothing and can't fail.
    unsafe { libc::pthread_self() as usize }
}

/// Has [`end_at_exit`] called when the process ends.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn call_at_exit() {
    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    extern "C" fn with_code(code: c_int, _: *mut c_void) {
        end_at_exit(Some(code));
    }
    // SAFETY: the function has the type that glibc asks for; a failure only means that nothing is called.
    unsafe { on_exit(with_code, std::ptr::null_mut()) };
}

/// Has [`end_at_exit`] called when the process ends; with which code, other C libraries do not tell.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn call_at_exit() {
    extern "C" fn without_code() {
        end_at_exit(None);
    }
    // SAFETY: the function is `extern "C"` and takes nothing; a failure only means that nothing is called.
    unsafe { libc::atexit(without_code) };
}

/// What is done with MPI when the process ends.
#[derive(Debug, PartialEq, Eq)]
enum Exit {
    /// MPI has ended already, or never begun.
    Nothing,
    /// Leaves, and waits for the others as long as they work.
    Leave,
    /// Leaves with the others, which are at their end too.
    LeaveSoon,
    /// Ends the others, which would wait for ever.
    Abort,
}

/// A program that ran well leaves, and so does one whose ranks have agreed on the end. Else the other ranks may wait for this one. The
/// exit code of a session's process says nothing of how its cells went.
fn at_exit(code: Option<c_int>, agreed: bool, in_session: bool, own_thread: bool) -> Exit {
    match (agreed, code) {
        _ if !own_thread => Exit::Abort,
        (true, _) => Exit::LeaveSoon,
        (false, Some(0)) if !in_session => Exit::Leave,
        (false, _) => Exit::Abort,
    }
}

/// After so long ranks that agreed on the end are not waited for: one of them has gone another way.
const SOON: Duration = Duration::from_secs(30);

/// Before a rank ends all: what it wrote reaches the launcher, which reads no more once the job is aborted (MPICH's).
const HEARD: Duration = Duration::from_millis(300);

fn end_at_exit(code: Option<c_int>) {
    let Some((library, thread)) = JOINED.get() else {
        return;
    };
    let mut ended = 0;
    // SAFETY: the function may be called at any time, and writes one int.
    let asked = unsafe { (library.finalized)(&raw mut ended) };
    let in_session = *surroundings() != Surroundings::Program;
    let own_thread = this_thread() == *thread;
    let exit = match asked == 0 && ended == 0 {
        true => at_exit(code, group::ended_together(), in_session, own_thread),
        false => Exit::Nothing,
    };
    match exit {
        Exit::Nothing => {}
        Exit::Leave => _ = finalize(library),
        Exit::LeaveSoon => {
            std::thread::spawn(|| {
                std::thread::sleep(SOON);
                // SAFETY: nothing of this process is used any more.
                unsafe { libc::_exit(1) };
            });
            _ = finalize(library);
        }
        Exit::Abort => {
            let (mut rank, mut ranks): (c_int, c_int) = (-1, 0);
            // SAFETY: MPI has begun and not ended, the handle is its world's, and each call writes one int.
            unsafe {
                (library.rank)(library.handles.world, &raw mut rank);
                (library.size)(library.handles.world, &raw mut ranks);
            }
            notes::write(&format!(
                "rank {rank} of {ranks} ends without having left the others, so all of them end"
            ));
            std::thread::sleep(HEARD);
            // SAFETY: MPI has begun and not ended. The call does not return.
            unsafe { (library.abort)(library.handles.world, 1) };
        }
    }
}

fn finalize(library: &Library) -> Result<()> {
    let mut ended = 0;
    // SAFETY: the function may be called at any time, and writes one int.
    check("MPI_Finalized", unsafe {
        (library.finalized)(&raw mut ended)
    })?;
    if ended != 0 {
        return Ok(());
    }
    // SAFETY: MPI has begun and has not ended, and this is the thread that began it.
    check("MPI_Finalize", unsafe { (library.finalize)() })
}

impl Mpi {
    fn check_thread(&self) -> Result<()> {
        match this_thread() == self.thread {
            true => Ok(()),
            false => Err(Error::Parallel(
                "MPI was begun on another thread of this process, and takes calls from that one only: train on the thread that asked \
                 for `parallel::world()` first"
                    .into(),
            )),
        }
    }

    /// Adds up whole slices, some values a call.
    fn sum<T: Copy>(&self, values: &mut [T], kind: Handle) -> Result<()> {
        self.check_thread()?;
        let handles = self.library.handles;
        for part in values.chunks_mut(MOST) {
            let own = part.to_vec();
            // SAFETY: both buffers hold as many values of the type as is said, and do not overlap.
            check("MPI_Allreduce", unsafe {
                (self.library.allreduce)(
                    own.as_ptr().cast::<c_void>(),
                    part.as_mut_ptr().cast::<c_void>(),
                    part.len() as c_int,
                    kind,
                    handles.sum,
                    handles.world,
                )
            })?;
        }
        Ok(())
    }
}

impl Collective for Mpi {
    fn on_gpus(&self, device: &Device) -> Result<Option<Arc<dyn GpuSums>>> {
        let mut gpus = self.gpus.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*gpus {
            return Ok(known.clone());
        }
        let found = nccl::join(self, device, nccl::load())?;
        *gpus = Some(found.clone());
        Ok(found)
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn library(&self) -> String {
        self.name.clone()
    }

    fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.sum(values, self.library.handles.float)
    }

    fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.sum(values, self.library.handles.double)
    }

    fn sum_u64(&self, values: &mut [u64]) -> Result<()> {
        self.check_thread()?;
        let handles = self.library.handles;
        for part in values.chunks_mut(MOST) {
            let own = part.to_vec();
            let mut request: Handle = 0;
            // SAFETY: as in `sum`; both buffers stay where they are until the request is done, which the loop waits for. A request is
            // an address or an int: a word has room for either.
            check("MPI_Iallreduce", unsafe {
                (self.library.iallreduce)(
                    own.as_ptr().cast::<c_void>(),
                    part.as_mut_ptr().cast::<c_void>(),
                    part.len() as c_int,
                    handles.u64,
                    handles.sum,
                    handles.world,
                    &raw mut request,
                )
            })?;
            let begun = Instant::now();
            loop {
                let mut done: c_int = 0;
                let mut status = [0u64; STATUS];
                // SAFETY: the request is the one that was started; flag and status are written, and have room for it.
                let code = unsafe {
                    (self.library.test)(
                        &raw mut request,
                        &raw mut done,
                        status.as_mut_ptr().cast::<c_void>(),
                    )
                };
                if code != 0 {
                    // The library may still write into the buffers, so nothing can go on: this does not return.
                    self.abort();
                }
                if done != 0 {
                    break;
                }
                match begun.elapsed() < BUSY {
                    true => std::thread::yield_now(),
                    false => std::thread::sleep(NAP),
                }
            }
        }
        Ok(())
    }

    fn broadcast(&self, bytes: &mut [u8], from: usize) -> Result<()> {
        self.check_thread()?;
        for part in bytes.chunks_mut(MOST) {
            // SAFETY: the buffer holds as many bytes as is said.
            check("MPI_Bcast", unsafe {
                (self.library.bcast)(
                    part.as_mut_ptr().cast::<c_void>(),
                    part.len() as c_int,
                    self.library.handles.byte,
                    from as c_int,
                    self.library.handles.world,
                )
            })?;
        }
        Ok(())
    }

    fn abort(&self) {
        // SAFETY: MPI has begun. The call may come from any thread: the process is at its end either way.
        unsafe { (self.library.abort)(self.library.handles.world, 1) };
        // MPI_Abort does not return; should it, nothing can go on.
        std::process::abort();
    }

    fn leave(&self) -> Result<()> {
        self.check_thread()?;
        finalize(&self.library)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_leaves_at_its_end_where_it_ran_well_or_all_ended_together() {
        let (alone, agreed) = (false, true);
        let (program, session) = (false, true);
        assert_eq!(at_exit(Some(0), alone, program, true), Exit::Leave);
        assert_eq!(at_exit(Some(1), alone, program, true), Exit::Abort);
        assert_eq!(at_exit(None, alone, program, true), Exit::Abort);
        assert_eq!(at_exit(Some(0), alone, session, true), Exit::Abort);
        assert_eq!(at_exit(Some(1), agreed, program, true), Exit::LeaveSoon);
        assert_eq!(at_exit(Some(0), agreed, session, true), Exit::LeaveSoon);
        assert_eq!(at_exit(Some(0), agreed, program, false), Exit::Abort);
    }
}
