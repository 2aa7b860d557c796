//! In the process that runs cells: which cell a thread belongs to, so that what it writes later is shown under that cell.
//!
//! ```text
//! cell 3: thread::spawn ─▶ pthread_create ─ the new thread is of cell 3 as its parent is
//! cell 5 runs, the thread prints ─▶ write ─ `of 3` ─ the text ─ `of 0` ──▶ Decoder ──▶ under cell 3
//! ```
//! What the running cell and its threads write while it runs goes as it is, and so does what nobody can be named for: threads
//! of no cell, programs that cells start, C's own buffers. Only what comes from another cell's thread, or while no cell runs,
//! stands between two marks. A thread is its parent's cell's if the code that asked for it is a cell's; one that a crate asked for, as for
//! a pool, works for whichever cell runs.
//!
//! Both functions take the place of the C library's, as [`super::stdin`] explains. In the other roles of this binary they are these
//! and nothing else.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{forked, tell::mark};

/// Set in the process in which cells run, and nowhere else.
static ORIGIN: OnceLock<Origin> = OnceLock::new();
/// The cell that runs or ran last, in the numbers of the host.
static CURRENT: AtomicU64 = AtomicU64::new(0);
/// Whether it runs.
static RUNS: AtomicBool = AtomicBool::new(false);

/// How many threads of cells there are.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The cell that began this thread; 0 for none.
    static CELL: Cell<u64> = const { Cell::new(0) };
}

struct Origin {
    nonce: String,
    /// A mark and what belongs to it are not to be parted: one writer at a time, for stdout and stderr.
    writers: [Mutex<()>; 2],
}

/// From now on threads inherit their cell, and what they write says whose it is.
pub(crate) fn start(nonce: &str) {
    // Set once: a process begins once.
    let _ = ORIGIN.set(Origin {
        nonce: nonce.to_owned(),
        writers: Default::default(),
    });
    // Nothing of Rust's names the functions, and a linker may leave out what nobody names.
    std::hint::black_box((write as *const (), pthread_create as *const ()));
}

/// How many threads of cells there are, for as long as the process lives.
pub(crate) fn threads() -> &'static AtomicUsize {
    &THREADS
}

/// A cell with this number begins on this thread.
pub(crate) fn cell_begins(number: u64) {
    CELL.set(number);
    CURRENT.store(number, Ordering::Release);
    RUNS.store(true, Ordering::Release);
}

/// It has ended, and what it wrote is written.
pub(crate) fn cell_ends() {
    RUNS.store(false, Ordering::Release);
}

/// In place of the C library's function, see above.
///
/// # Safety
/// As for the C library's: `buffer` holds `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(
    fd: libc::c_int,
    buffer: *const c_void,
    count: libc::size_t,
) -> libc::ssize_t {
    if count > 0
        && let Some(origin) = ORIGIN.get()
    {
        // SAFETY: the caller promises as many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast(), count) };
        if forked::is_copy() {
            return match all(fd, &forked::allowed(fd, bytes)) {
                -1 => -1,
                _ => count as libc::ssize_t,
            };
        }
        if fd == libc::STDOUT_FILENO || fd == libc::STDERR_FILENO {
            return origin.write(fd, bytes);
        }
    }
    // SAFETY: what the caller promises is what the system call asks for.
    unsafe {
        libc::syscall(libc::SYS_write, libc::c_long::from(fd), buffer, count) as libc::ssize_t
    }
}

impl Origin {
    fn write(&self, fd: libc::c_int, bytes: &[u8]) -> libc::ssize_t {
        let cell = CELL.get();
        let here = RUNS.load(Ordering::Acquire) && cell == CURRENT.load(Ordering::Acquire);
        let writer = &self.writers[usize::from(fd == libc::STDERR_FILENO)];
        let _alone = writer.lock().unwrap_or_else(PoisonError::into_inner);
        if cell == 0 || here {
            return all(fd, bytes);
        }
        let (before, after) = (self.mark(cell), self.mark(0));
        // As one piece where it is small: fewer calls, and nothing comes between even from other processes.
        if bytes.len() <= SMALL {
            let whole = [&before[..], bytes, &after].concat();
            return match all(fd, &whole) {
                -1 => -1,
                _ => bytes.len() as libc::ssize_t,
            };
        }
        all(fd, &before);
        let written = all(fd, bytes);
        all(fd, &after);
        written
    }

    fn mark(&self, cell: u64) -> Vec<u8> {
        mark(&self.nonce, cell)
    }
}

/// So many bytes go to a pipe at once.
const SMALL: usize = 3 * 1024;

/// Writes all bytes; -1 if that fails, with the reason in `errno`, before any is written.
fn all(fd: libc::c_int, bytes: &[u8]) -> libc::ssize_t {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let descriptor = libc::c_long::from(fd);
        // SAFETY: the pointer and length are those of a live slice.
        let written =
            unsafe { libc::syscall(libc::SYS_write, descriptor, rest.as_ptr(), rest.len()) };
        match usize::try_from(written) {
            Ok(0) => break,
            Ok(written) => done += written,
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {
            }
            Err(_) if done == 0 => return -1,
            Err(_) => break,
        }
    }
    done as libc::ssize_t
}

type Routine = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Routine,
    *mut c_void,
) -> libc::c_int;

/// What a new thread begins with.
struct Begin {
    cell: u64,
    routine: Routine,
    argument: *mut c_void,
}

extern "C" fn begin(data: *mut c_void) -> *mut c_void {
    // SAFETY: `pthread_create` below passes a box of this type to exactly one thread.
    let Begin {
        cell,
        routine,
        argument,
    } = *unsafe { Box::from_raw(data.cast::<Begin>()) };
    CELL.set(cell);
    let result = routine(argument);
    THREADS.fetch_sub(1, Ordering::AcqRel);
    result
}

/// Whether the code that asked for a thread, behind the standard library's, is in the library of a cell.
fn asked_by_a_cell() -> bool {
    unsafe extern "C" {
        fn _Unwind_Backtrace(
            visit: extern "C" fn(*mut c_void, *mut c_void) -> libc::c_int,
            data: *mut c_void,
        ) -> libc::c_int;
        fn _Unwind_GetIP(context: *mut c_void) -> usize;
    }
    const GO_ON: libc::c_int = 0;
    const STOP: libc::c_int = 4;
    extern "C" fn visit(context: *mut c_void, found: *mut c_void) -> libc::c_int {
        // SAFETY: zero is valid for every field of this plain structure.
        let mut place: libc::Dl_info = unsafe { std::mem::zeroed() };
        // SAFETY: the context is the unwinder's, the call only compares the address, and the structure is alive.
        let known =
            unsafe { libc::dladdr(_Unwind_GetIP(context) as *const c_void, &raw mut place) };
        if known == 0 || place.dli_fname.is_null() {
            return STOP;
        }
        // SAFETY: the name is a C string that lives as long as the library.
        let path = unsafe { std::ffi::CStr::from_ptr(place.dli_fname) }.to_string_lossy();
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.starts_with(CELL_LIBRARY) && name.ends_with(".so") {
            // SAFETY: it points to what `asked_by_a_cell` below passes.
            unsafe { *found.cast::<bool>() = true };
            return STOP;
        }
        // SAFETY: as above, and our own function is in this program.
        let own = unsafe {
            let mut own: libc::Dl_info = std::mem::zeroed();
            libc::dladdr(pthread_create as *const c_void, &raw mut own);
            own.dli_fbase
        };
        let passed_on =
            place.dli_fbase == own || name.starts_with("libstd-") || name.starts_with("libc.");
        if passed_on { GO_ON } else { STOP }
    }
    let mut found = false;
    // SAFETY: the function and the data that it gets fit each other, and both outlive the call.
    unsafe { _Unwind_Backtrace(visit, (&raw mut found).cast()) };
    found
}

/// What the files of cells' libraries begin with.
const CELL_LIBRARY: &str = "cell_";

/// In place of the C library's function, see above.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    routine: Routine,
    argument: *mut c_void,
) -> libc::c_int {
    static REAL: OnceLock<Option<Create>> = OnceLock::new();
    let real = REAL.get_or_init(|| {
        // SAFETY: the name is a C string; what is found under it has this signature.
        unsafe {
            let found = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr());
            (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, Create>(found))
        }
    });
    let Some(real) = real else {
        return libc::EAGAIN;
    };
    let cell = CELL.get();
    if ORIGIN.get().is_none() || cell == 0 || !asked_by_a_cell() {
        // SAFETY: what the caller promises is what the real function asks for.
        return unsafe { real(thread, attributes, routine, argument) };
    }
    let data = Box::into_raw(Box::new(Begin {
        cell,
        routine,
        argument,
    }));
    THREADS.fetch_add(1, Ordering::AcqRel);
    // SAFETY: as above; `begin` takes the box.
    let result = unsafe { real(thread, attributes, begin, data.cast()) };
    if result != 0 {
        THREADS.fetch_sub(1, Ordering::AcqRel);
        // SAFETY: no thread was begun that could have taken it.
        drop(unsafe { Box::from_raw(data) });
    }
    result
}
