//! What a process that runs cells sets up and takes down around them: its descriptors, its signal, its panics, and the functions by which
//! our binary, the child, calls the prelude.
//!
//! Only of systems with processes and signals; elsewhere `no_process.rs` stands in its place.

use std::io::Write;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use glassbox_wire::names::CONTROL_VARIABLE;
use glassbox_wire::{Control, frame};

use crate::cell::by_name;

use super::{
    Event, INTERRUPTED, PanicReport, Surroundings, flush_live_displays, keep_freed_memory,
    last_words, panic_message, send as send_event, stop, stopping, surroundings,
};

/// Writes an event's frame to stdout, after what was printed before.
pub(super) fn send(event: &Event, nonce: &str) {
    let frame = frame::write(event, nonce);
    let mut stdout = std::io::stdout().lock();
    // A closed pipe has no one left to tell.
    let _ = stdout.flush();
    let _ = write_to_descriptor(libc::STDOUT_FILENO, &frame);
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

// ---- interrupt ------------------------------------------------------------------------------------------------

extern "C" fn on_sigint(
    _signal: libc::c_int,
    _information: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // Stores to atomics are about all that a signal handler may safely do.
    INTERRUPTED.store(true, Ordering::Relaxed);
    stop::asked(context);
}

/// The process that was prepared for cells, in which SIGTERM is an interrupt.
static OWN: AtomicI32 = AtomicI32::new(0);

/// SIGTERM asks the cell to stop: a batch system sends it to every process of a job at once, and the cell is to save. In a copy of the process that a
/// cell has made by `fork`, it ends the copy, as it would without this.
extern "C" fn on_sigterm(signal: libc::c_int) {
    // SAFETY: these calls may be made in a signal handler, and touch no memory.
    unsafe {
        if libc::getpid() != OWN.load(Ordering::Relaxed) {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
            return;
        }
    }
    INTERRUPTED.store(true, Ordering::Relaxed);
}

fn install_interrupt_handler() {
    // SAFETY: no memory is involved.
    OWN.store(unsafe { libc::getpid() }, Ordering::Relaxed);
    // SAFETY: the structure is plain data, zero is a valid value for every field, and the handler does only what is allowed in one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            on_sigint;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
        let handler: extern "C" fn(libc::c_int) = on_sigterm;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGTERM, &action, std::ptr::null_mut());
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
        send_event(&Event::Panic(PanicReport {
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
pub(super) fn trim_backtrace(full: &str) -> String {
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
    stopping::cell_begins();
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
    send_event(&end);
    if let Surroundings::Glassbox { nonce } = surroundings() {
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.flush();
        let _ = write_to_descriptor(libc::STDERR_FILENO, &frame::write(&end, nonce));
    }
}

/// Whether a variable can be shown by its name, without a compiled cell: its name is `length` bytes from `name` on.
///
/// # Safety
/// These bytes are there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn glassbox_can_show(name: *const u8, length: usize) -> bool {
    // SAFETY: the caller promises it.
    let name = unsafe { std::slice::from_raw_parts(name, length) };
    std::str::from_utf8(name).is_ok_and(by_name::can_show)
}

/// Shows a variable by its name, in the place of a cell's function. Nothing happens where [`glassbox_can_show`] says no.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn glassbox_show(name: *const u8, length: usize) {
    // SAFETY: the caller promises it.
    let name = unsafe { std::slice::from_raw_parts(name, length) };
    if let Ok(name) = std::str::from_utf8(name) {
        by_name::show(name);
    }
}
