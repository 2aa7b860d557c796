//! Gets text out of stdout's buffer while a cell runs, and when its process is about to die.
//!
//! What `print!` wrote without a newline waits in a buffer of Rust's stdout, which goes down with the process if the cell
//! aborts. A thread of ours flushes it: some times a second while a cell runs, and at once when a signal is about to end
//! the process. It also does so as long as threads that cells began run on between cells, and sends what their live displays hold back.
//! The signal's handler may not touch the buffer, whose lock may be held by the very code that it
//! interrupted; it asks the thread over a pipe and waits a moment for the answer. While it is awake the thread also watches over
//! interrupts, see [`stop`].
//!
//! ```text
//! cell begins, ends ──┐
//!                     ├─ REQUESTS ──▶ thread: flush ── ANSWERS ──▶ handler: let the signal do its work
//! SIGABRT, SIGSEGV … ─┘
//! ```

use std::io::Write;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use super::{mapping, stop};

/// How long text without a newline waits while a cell runs, in milliseconds: as long as a reader hardly notices.
const INTERVAL: libc::c_int = 100;
/// Every so many intervals live displays of threads are sent between cells.
const LIVE: u32 = 5;
/// How long a dying process waits for the flush, in milliseconds: the lock may be held by what dies.
const PATIENCE: libc::c_int = 250;
/// The signals that mean that the code went wrong and that a handler can still see.
const DEADLY: [libc::c_int; 5] = [
    libc::SIGABRT,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
];

/// The writing end of the pipe that the thread reads.
static REQUESTS: AtomicI32 = AtomicI32::new(-1);
/// The reading end of the pipe that the thread answers on.
static ANSWERS: AtomicI32 = AtomicI32::new(-1);
static CELL_RUNS: AtomicBool = AtomicBool::new(false);
/// What each signal did before; never freed.
static BEFORE: [AtomicPtr<libc::sigaction>; DEADLY.len()] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; DEADLY.len()];

/// A cell has begun or ended: so the thread wakes up.
const CELL: u8 = b'c';
/// The process is about to die: so the thread answers.
const LAST: u8 = b'l';

/// Starts the thread and takes over the signals. Without the thread text is merely lost as it would be anyway.
pub(super) fn start() {
    let (Some((asked, requests)), Some((answers, answered))) = (pipe(), pipe()) else {
        return;
    };
    // Made before there is a thread that could be making it while a cell calls `fork`: the copy would wait for it for ever.
    drop(std::io::stdout());
    let started = std::thread::Builder::new()
        .name("stdout".to_owned())
        .spawn(move || serve(asked, answered));
    if started.is_ok() {
        REQUESTS.store(requests, Ordering::Release);
        ANSWERS.store(answers, Ordering::Release);
        install_handlers();
    }
}

/// From now on text without a newline is on its way after [`INTERVAL`].
pub(super) fn cell_begins() {
    CELL_RUNS.store(true, Ordering::Release);
    request(CELL);
}

/// The end of a cell flushes by itself; from now on nothing happens until the next.
pub(super) fn cell_ends() {
    CELL_RUNS.store(false, Ordering::Release);
}

fn serve(asked: RawFd, answered: RawFd) {
    let mut interrupts = stop::Watch::default();
    let mut rounds = 0_u32;
    loop {
        let runs = CELL_RUNS.load(Ordering::Acquire);
        let others = !runs && threads() > 0;
        let patience = if runs || others { INTERVAL } else { -1 };
        let request = ready(asked, patience).then(|| read_byte(asked)).flatten();
        interrupts.look();
        // A host that has gone away reads nothing any more.
        let _ = std::io::stdout().flush();
        rounds = rounds.wrapping_add(1);
        if others && rounds.is_multiple_of(LIVE) {
            super::flush_live_displays();
        }
        if request == Some(LAST) {
            write_byte(answered, LAST);
        }
    }
}

/// How many threads of cells there are, for who knows: the process around us.
static THREADS: AtomicPtr<AtomicUsize> = AtomicPtr::new(std::ptr::null_mut());

/// From now on it is known how many threads of cells there are.
pub(super) fn watch_threads(count: &'static AtomicUsize) {
    THREADS.store(std::ptr::from_ref(count).cast_mut(), Ordering::Release);
}

fn threads() -> usize {
    // SAFETY: it is null or points to what lives as long as the process.
    unsafe { THREADS.load(Ordering::Acquire).as_ref() }
        .map_or(0, |count| count.load(Ordering::Acquire))
}

fn install_handlers() {
    for (signal, before) in DEADLY.into_iter().zip(&BEFORE) {
        // SAFETY: both structures are plain data for which zero is valid, and live during the calls; the handler only does
        // what is allowed in one.
        unsafe {
            let old = Box::into_raw(Box::new(std::mem::zeroed::<libc::sigaction>()));
            before.store(old, Ordering::Release);
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                on_deadly_signal;
            action.sa_sigaction = handler as libc::sighandler_t;
            // On the stack set aside for handlers: the usual one may be what has overflowed.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, old);
        }
    }
}

/// Has stdout flushed, then lets the signal do what it would have done without us.
extern "C" fn on_deadly_signal(
    signal: libc::c_int,
    information: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if signal == libc::SIGSEGV && stop::caught(information, context) {
        return;
    }
    if signal == libc::SIGBUS {
        // SAFETY: the system passes a valid pointer to a handler with SA_SIGINFO, and this signal has an address.
        mapping::tell(unsafe { (*information).si_addr() } as usize);
    }
    if request(LAST) {
        ready(ANSWERS.load(Ordering::Acquire), PATIENCE);
    }
    for (other, before) in DEADLY.iter().zip(&BEFORE) {
        let before = before.load(Ordering::Acquire);
        if *other == signal && !before.is_null() {
            // SAFETY: what `before` points to is never freed and was filled by sigaction.
            unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
        }
    }
    // SAFETY: the kernel passes a valid pointer to a handler with SA_SIGINFO.
    let by_the_processor = unsafe { (*information).si_code } > 0;
    if !by_the_processor {
        // Nobody will send it a second time. It comes when this handler returns, to the action that was just restored.
        // SAFETY: no memory is involved.
        unsafe { libc::raise(signal) };
    }
}

/// Tells the thread something; whether it was told. May be called in a signal handler.
fn request(what: u8) -> bool {
    let requests = REQUESTS.load(Ordering::Acquire);
    requests >= 0 && write_byte(requests, what)
}

/// Waits until a descriptor can be read. May be called in a signal handler.
fn ready(descriptor: RawFd, patience: libc::c_int) -> bool {
    let mut polled = libc::pollfd {
        fd: descriptor,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the structure is alive.
    unsafe { libc::poll(&mut polled, 1, patience) == 1 }
}

fn read_byte(descriptor: RawFd) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: the pointer is to one live byte.
    (unsafe { libc::read(descriptor, (&raw mut byte).cast(), 1) } == 1).then_some(byte)
}

fn write_byte(descriptor: RawFd, byte: u8) -> bool {
    // SAFETY: the pointer is to one live byte.
    unsafe { libc::write(descriptor, (&raw const byte).cast(), 1) == 1 }
}

/// A pipe that programs started by cells do not inherit: reading end, writing end. Neither is ever closed.
fn pipe() -> Option<(RawFd, RawFd)> {
    let mut ends = [0; 2];
    // SAFETY: the array has room for both descriptors.
    (unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0).then_some((ends[0], ends[1]))
}
