//! The one place where the prelude talks to whoever runs the cell.
//!
//! Pictures, errors and the end of a cell leave as *events*: JSON objects in frames that carry a secret of the
//! session, written to stdout between the user's own text so that both keep their order. The interrupt comes in here
//! too, as a flag that every loop of the prelude asks for.
//!
//! Three surroundings are told apart once, by environment variables (see [`Surroundings`]): a Glassbox session, the stock
//! `evcxr_jupyter` kernel, and a plain program. What each shows for a live display is decided in
//! [`crate::display`]; this file only knows how bytes get out.
//!
//! ```text
//! value ── Render ──▶ MimeBundle ── display ──▶ Event ── session ──▶ ESC _ GBX nonce ; length ; JSON ESC \
//! ```

use std::io::Write;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, Weak};

use glassbox_wire::evcxr::RUNTIME_VARIABLE;
use glassbox_wire::names::{CONTROL_VARIABLE, NONCE_VARIABLE};
use glassbox_wire::{Control, frame};

mod input;
mod last_words;
mod mapping;
pub(crate) mod stop;

pub use glassbox_wire::{Comm, CommKind, Event, PanicReport};
pub use input::{input, input_password};

use crate::display::MimeBundle;
use crate::error::{Error, Result};

/// Who reads our output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// A Glassbox session: events in frames that carry this nonce.
    Glassbox {
        /// The session's secret, 32 hexadecimal digits.
        nonce: String,
    },
    /// The stock `evcxr_jupyter` kernel: one display per MIME type per cell, shown when the cell ends.
    StockEvcxr,
    /// A plain program: text on stdout.
    Program,
}

/// Who reads our output, found out once per process.
pub fn surroundings() -> &'static Surroundings {
    static FOUND: OnceLock<Surroundings> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var(NONCE_VARIABLE) {
        Ok(nonce) if !nonce.is_empty() => Surroundings::Glassbox { nonce },
        _ if std::env::var_os(RUNTIME_VARIABLE).is_some() => Surroundings::StockEvcxr,
        _ => Surroundings::Program,
    })
}

/// Sends an event to the host. Outside a Glassbox session this does nothing.
///
/// Text printed before arrives before it: stdout is flushed and stays locked while the frame is written at once.
/// If the host has gone away the event is lost and the cell goes on.
pub fn send(event: &Event) {
    if let Surroundings::Glassbox { nonce } = surroundings() {
        let frame = frame::write(event, nonce);
        let mut stdout = std::io::stdout().lock();
        // A closed pipe has no one left to tell.
        let _ = stdout.flush();
        let _ = write_to_descriptor(libc::STDOUT_FILENO, &frame);
    }
}

/// Shows `text` as the value of the cell's last expression.
pub fn send_result(text: &str) {
    crate::display::show_result(MimeBundle::text(text));
}

/// Reports that a `?` in the cell met this error, with the messages of its sources.
pub fn cell_error_with_sources(error: &dyn std::error::Error) {
    let mut chain = Vec::new();
    let mut source = error.source();
    while let Some(inner) = source {
        chain.push(inner.to_string());
        source = inner.source();
    }
    cell_error_with_chain(&error.to_string(), chain);
}

/// Reports that a `?` in the cell met an error with this message and, outermost first, those of its causes.
///
/// In a session it becomes an `error` event; elsewhere it goes to stderr.
#[allow(clippy::print_stderr)] // outside a session stderr is where an error belongs
pub fn cell_error_with_chain(message: &str, chain: Vec<String>) {
    match surroundings() {
        Surroundings::Glassbox { .. } => send(&Event::Error {
            message: message.to_owned(),
            chain,
        }),
        _ => {
            eprintln!("{message}");
            for inner in chain {
                eprintln!("  because: {inner}");
            }
        }
    }
}

static CONTROL: AtomicI32 = AtomicI32::new(-1);

/// Writes one line to whoever drives the cells (evcxr), past the user's text.
///
/// Without a private descriptor the line goes to stdout, where stock evcxr looks for it.
#[allow(clippy::print_stdout)] // the stock protocol is lines on stdout
pub fn control(line: &Control) {
    let descriptor = match CONTROL.load(Ordering::Acquire) {
        -1 => std::env::var(CONTROL_VARIABLE)
            .ok()
            .and_then(|text| text.parse().ok()),
        open => Some(open),
    };
    match descriptor {
        Some(descriptor) => {
            let _ = write_to_descriptor(descriptor, format!("{line}\n").as_bytes());
        }
        None => println!("{line}"),
    }
}

fn write_to_descriptor(descriptor: RawFd, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length are those of a live slice.
        let written = unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
        if written < 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error);
            }
        } else {
            bytes = bytes.get(written as usize..).unwrap_or_default();
        }
    }
    Ok(())
}

// ---- interrupt -------------------------------------------------------------------------------------------------

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the user asked to stop. Asking does not clear the wish.
pub fn interrupted() -> bool {
    let interrupted = INTERRUPTED.load(Ordering::Relaxed);
    if interrupted {
        stop::looked();
    }
    interrupted
}

/// Called once a step by every loop that may run long.
///
/// # Errors
/// [`Error::Interrupted`] if the user asked to stop since the cell began; the wish is then fulfilled and forgotten.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.swap(false, Ordering::Relaxed) {
        stop::looked();
        Err(Error::Interrupted)
    } else {
        Ok(())
    }
}

/// [`check_interrupt`] for code that candle calls in the middle of a backward pass, which can only give back errors of candle's.
pub(crate) fn check_interrupt_in_pass() -> candle_core::Result<()> {
    check_interrupt().map_err(|_| Error::interrupted_in_candle())
}

/// Asks the running cell to stop at its next step, as the interrupt button does.
pub fn request_interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

extern "C" fn on_sigint(
    _signal: libc::c_int,
    _information: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // Stores to atomics are about all that a signal handler may safely do.
    INTERRUPTED.store(true, Ordering::Relaxed);
    stop::asked(context);
}

/// Lets the allocator keep what tensors free: a training step frees and asks for the same megabytes again, and handing them
/// back to the system each time took a third of the CPU time of the tour as page faults. A session does this at its start;
/// a program of your own may call it before its first tensor. Only Linux with glibc needs it; elsewhere nothing happens.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets numbers of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

fn install_interrupt_handler() {
    // SAFETY: the structure is plain data, zero is a valid value for every field, and the handler does only what is allowed in one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            on_sigint;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
}

// ---- panics ----------------------------------------------------------------------------------------------------

fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let message = panic_message(info.payload());
        let (file, line, column) = info
            .location()
            .map(|place| (place.file().to_owned(), place.line(), place.column()))
            .unwrap_or_default();
        let library = info
            .location()
            .and_then(|place| library_of(place.file().as_ptr().cast()))
            .unwrap_or_default();
        send(&Event::Panic(PanicReport {
            message,
            file,
            line,
            column,
            thread: thread_name(),
            library,
            backtrace: trim_backtrace(&std::backtrace::Backtrace::force_capture().to_string()),
        }));
    }));
}

/// What the present thread is called: `main` if it is the one that runs cells, of which the shared standard library does not know that
/// it is the main one.
fn thread_name() -> String {
    // SAFETY: no memory is involved.
    let cells = unsafe { libc::gettid() == libc::getpid() };
    let thread = std::thread::current();
    match thread.name() {
        _ if cells => "main",
        Some(name) => name,
        None => "unnamed",
    }
    .to_owned()
}

/// What a panic says: its text, or the value that it was begun with if that has one.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    macro_rules! shown {
        ($($ty:ty),+) => {
            $(if let Some(value) = payload.downcast_ref::<$ty>() {
                return value.to_string();
            })+
        };
    }
    type Boxed = Box<dyn std::error::Error + Send + Sync>;
    shown!(
        &'static str,
        String,
        Box<str>,
        std::borrow::Cow<'static, str>,
        char,
        bool
    );
    shown!(
        i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, f32, f64
    );
    shown!(Boxed, Error, candle_core::Error, std::io::Error);
    "a panic with a value that is not text".to_owned()
}

/// The file of the library that an address lies in.
pub(crate) fn library_of(address: *const libc::c_void) -> Option<String> {
    // SAFETY: zero is valid for every field of this plain structure.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the call only compares the address, and fills the structure, which is alive.
    if unsafe { libc::dladdr(address, &raw mut found) } == 0 || found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the name is a C string that lives as long as the library, which is never unloaded.
    let name = unsafe { std::ffi::CStr::from_ptr(found.dli_fname) };
    Some(name.to_string_lossy().into_owned())
}

/// Longest backtrace that is worth reading in a notebook.
const MAX_FRAMES: usize = 24;

/// The frames between the panic machinery and the machinery that called the cell, one function a line.
fn trim_backtrace(full: &str) -> String {
    let mut frames: Vec<String> = Vec::new();
    for line in full.lines() {
        let line = line.trim();
        if let Some(place) = line.strip_prefix("at ") {
            if let Some(frame) = frames.last_mut() {
                frame.push_str(" at ");
                frame.push_str(place);
            }
        } else if let Some((number, name)) = line.split_once(": ")
            && number.parse::<usize>().is_ok()
        {
            frames.push(name.to_owned());
        }
    }
    let first = frames
        .iter()
        .rposition(|frame| is_panic_machinery(frame))
        .map_or(0, |last| last + 1);
    let mut kept = Vec::new();
    for frame in frames.iter().skip(first) {
        if frame.contains("__rust_try")
            || frame.contains("catch_unwind")
            || frame.contains("__libc_start")
        {
            break;
        }
        kept.push(frame.as_str());
        if frame.contains("run_user_code") || kept.len() == MAX_FRAMES {
            break;
        }
    }
    kept.join("\n")
}

/// Functions between a panic and the code that caused it. The unwinding that a cell is wrapped in is not among them.
fn is_panic_machinery(frame: &str) -> bool {
    let inner = [
        "core::panicking::",
        "std::panicking::",
        "rust_begin_unwind",
        "core::option::",
        "core::result::",
    ];
    inner.iter().any(|mark| frame.contains(mark))
        && !frame.contains("catch_unwind")
        && !frame.contains("panicking::try")
}

// ---- what must be shown before a cell ends -----------------------------------------------------------------------

/// A display whose last state may not have been sent yet.
pub(crate) trait Live: Send {
    /// Sends the present state if it has not been sent.
    fn flush(&mut self);
}

static LIVE: Mutex<Vec<Weak<Mutex<dyn Live>>>> = Mutex::new(Vec::new());

/// Has `live` flushed at the end of every cell for as long as it exists.
pub(crate) fn flush_at_cell_end(live: Weak<Mutex<dyn Live>>) {
    let mut all = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|other| other.strong_count() > 0);
    all.push(live);
}

pub(crate) fn flush_live_displays() {
    let all: Vec<_> = LIVE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .filter_map(Weak::upgrade)
        .collect();
    for live in all {
        // One that another thread is just updating will send its state itself.
        if let Ok(mut live) = live.try_lock() {
            live.flush();
        }
    }
}

// ---- called by the process that runs cells -----------------------------------------------------------------------

/// Prepares this process for cells: the interrupt flag, the panic report and the descriptor for control lines.
///
/// Called once, before the first cell. `control_fd` is the descriptor for [`control`], or -1 for none.
#[unsafe(no_mangle)]
pub extern "C" fn glassbox_session_start(control_fd: i32) {
    CONTROL.store(control_fd, Ordering::Release);
    keep_freed_memory();
    install_interrupt_handler();
    if matches!(surroundings(), Surroundings::Glassbox { .. }) {
        install_panic_hook();
        last_words::start();
    }
}

/// Says how many threads of cells there are, in a place that lives as long as the process.
///
/// # Safety
/// `count` points to such a place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn glassbox_watch_threads(count: *const std::sync::atomic::AtomicUsize) {
    // SAFETY: the caller promises it.
    if let Some(count) = unsafe { count.as_ref() } {
        last_words::watch_threads(count);
    }
}

/// Called before each cell, whose code is `length` bytes from `code` on, whole pages of a library, or nowhere that is known: an interrupt
/// that came when nothing ran is forgotten.
#[unsafe(no_mangle)]
pub extern "C" fn glassbox_cell_begin(code: *const u8, length: usize) {
    INTERRUPTED.store(false, Ordering::Relaxed);
    stop::cell_begins(code as usize..code as usize + length);
    last_words::cell_begins();
}

/// Called after each cell, however it ended: sends what is still unsent, flushes, and marks the end in stdout and stderr
/// so that the host knows when it has read everything.
#[unsafe(no_mangle)]
pub extern "C" fn glassbox_cell_end(seq: u64) {
    last_words::cell_ends();
    flush_live_displays();
    // SAFETY: a null stream asks for all of C's output streams to be flushed.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    let end = Event::CellEnd { seq };
    send(&end);
    if let Surroundings::Glassbox { nonce } = surroundings() {
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.flush();
        let _ = write_to_descriptor(libc::STDERR_FILENO, &frame::write(&end, nonce));
    }
}

#[cfg(test)]
mod tests;
