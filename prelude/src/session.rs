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

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, Weak};

use glassbox_wire::evcxr::RUNTIME_VARIABLE;
use glassbox_wire::names::NONCE_VARIABLE;

mod input;
#[cfg(unix)]
mod last_words;
#[cfg(unix)]
mod mapping;
#[cfg(unix)]
mod process;
#[cfg(not(unix))]
#[path = "session/no_process.rs"]
mod process;
#[cfg(unix)]
pub(crate) mod stop;
#[cfg(not(unix))]
#[path = "session/no_stop.rs"]
pub(crate) mod stop;
#[cfg_attr(not(unix), allow(dead_code))] // no cells begin and end there
pub(crate) mod stopping;

#[doc(hidden)]
pub use glassbox_wire::{Comm, CommKind, Event, PanicReport};
pub use input::{input, input_password};
#[doc(hidden)]
pub use process::control;
pub(crate) use process::library_of;
#[doc(hidden)]
#[cfg(unix)]
pub use process::{
    glassbox_cell_begin, glassbox_cell_end, glassbox_session_start, glassbox_watch_threads,
};
pub use stopping::{Stopping, stopping_takes};

use crate::display::MimeBundle;
use crate::error::{Error, Result};

/// Who reads our output.
#[doc(hidden)]
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
#[doc(hidden)]
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
#[doc(hidden)]
pub fn send(event: &Event) {
    if let Surroundings::Glassbox { nonce } = surroundings() {
        process::send(event, nonce);
    }
}

/// Shows `text` as the value of the cell's last expression.
#[doc(hidden)]
pub fn send_result(text: &str) {
    crate::display::show_result(MimeBundle::text(text));
}

/// Reports that a `?` in the cell met this error, with the messages of its sources.
#[doc(hidden)]
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
#[doc(hidden)]
#[allow(clippy::print_stderr)] // outside a session stderr is where an error belongs
pub fn cell_error_with_chain(message: &str, chain: Vec<String>) {
    match surroundings() {
        Surroundings::Glassbox { .. } => send(&Event::Error {
            message: message.to_owned(),
            chain,
            trail: crate::trail::take(),
        }),
        _ => {
            let mut said = message.to_owned();
            for inner in chain {
                said += &format!("\n  because: {inner}");
            }
            eprintln!("{said}");
        }
    }
}

// ---- interrupt -------------------------------------------------------------------------------------------------

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the user asked to stop. Asking does not clear the wish. What [`stopping_takes`] protects is not asked to.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let mut steps = 0;
/// while steps < 100 && !interrupted() {
///     steps += 1; // stops in the middle and keeps what there is
/// }
/// assert_eq!(steps, 100); // nobody has asked to stop
/// ```
pub fn interrupted() -> bool {
    let interrupted = INTERRUPTED.load(Ordering::Relaxed) && !stopping::held();
    if interrupted {
        stop::looked();
    }
    interrupted
}

/// Called once a step by every loop that may run long.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// fn slow_sum(numbers: &[f64]) -> Result<f64> {
///     let mut sum = 0.0;
///     for number in numbers {
///         check_interrupt()?; // the stop button ends the cell here
///         sum += number;
///     }
///     Ok(sum)
/// }
/// assert_eq!(slow_sum(&[1.0, 2.0])?, 3.0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// [`Error::Interrupted`] if the user asked to stop since the cell began; the wish is then fulfilled and forgotten.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed)
        && !stopping::held()
        && INTERRUPTED.swap(false, Ordering::Relaxed)
    {
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
#[doc(hidden)]
pub fn request_interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
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

// ---- panics ----------------------------------------------------------------------------------------------------

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

#[cfg(unix)] // called when a cell ends
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

#[cfg(test)]
mod tests;
