//! Lines that a running cell asks for with `input`, read from the terminal.
//!
//! While a cell runs the terminal does not show what is typed, so that nothing is mixed into what the cell shows; it
//! does while a question waits for its answer. ctrl-c is a signal meanwhile, as always while a cell runs.

use std::sync::{Mutex, Once, PoisonError};

/// How often a waiting question looks whether it still shall wait, in milliseconds.
const LOOK: libc::c_int = 50;

/// The terminal as it was, for when the program ends in the middle of a cell.
static BEFORE: Mutex<Option<libc::termios>> = Mutex::new(None);

/// As long as it lives, the terminal shows what is typed, or does not.
pub struct Echo {
    before: Option<libc::termios>,
}

impl Echo {
    /// Shows what is typed, or hides it. Nothing happens where standard input is no terminal.
    pub fn set(visible: bool) -> Echo {
        let Some(before) = settings() else {
            return Echo { before: None };
        };
        let mut changed = before;
        if visible {
            changed.c_lflag |= libc::ECHO;
        } else {
            changed.c_lflag &= !libc::ECHO;
        }
        apply(&changed);
        Echo {
            before: Some(before),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            apply(before);
        }
    }
}

fn settings() -> Option<libc::termios> {
    let mut found = std::mem::MaybeUninit::uninit();
    // SAFETY: the call fills the structure if it succeeds.
    unsafe {
        (libc::tcgetattr(libc::STDIN_FILENO, found.as_mut_ptr()) == 0).then(|| found.assume_init())
    }
}

fn apply(settings: &libc::termios) {
    // SAFETY: the structure is alive and was filled by `tcgetattr`.
    unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, settings) };
}

/// Has the terminal as it is now put back when the program ends, also when a signal ends it while the editor reads keys.
pub fn restore_at_exit() {
    if let Some(before) = settings() {
        remember(before);
    }
}

/// The first settings are put back when the program ends, however it does so.
fn remember(settings: libc::termios) {
    static AT_EXIT: Once = Once::new();
    extern "C" fn restore() {
        if let Ok(before) = BEFORE.try_lock()
            && let Some(before) = &*before
        {
            apply(before);
        }
    }
    AT_EXIT.call_once(|| {
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings);
        // SAFETY: the function needs nothing that could be gone by then.
        unsafe { libc::atexit(restore) };
    });
}

/// Reads a line from the terminal; `given_up` tells whether nobody waits for it any more.
///
/// # Errors
/// Why there is none, in words.
pub fn read_line(hidden: bool, given_up: &dyn Fn() -> bool) -> Result<String, String> {
    let _echo = Echo::set(!hidden);
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        if given_up() {
            return Err("the cell was interrupted".to_owned());
        }
        if !ready()? {
            continue;
        }
        let mut bytes = [0; 4096];
        // The terminal hands out at most a line; what comes after it is for the next reader.
        // SAFETY: the buffer is alive and as long as said.
        let read =
            unsafe { libc::read(libc::STDIN_FILENO, bytes.as_mut_ptr().cast(), bytes.len()) };
        match usize::try_from(read) {
            Ok(0) => return Err("the input was ended with ctrl-d".to_owned()),
            Ok(count) => line.extend_from_slice(&bytes[..count]),
            Err(_) => failed()?,
        }
    }
    let text = String::from_utf8_lossy(&line);
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Waits a moment for something to read.
fn ready() -> Result<bool, String> {
    let mut polled = libc::pollfd {
        fd: libc::STDIN_FILENO,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the structure is alive.
    match unsafe { libc::poll(&mut polled, 1, LOOK) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => failed().map(|()| false),
    }
}

/// A call that a signal has interrupted did not fail.
fn failed() -> Result<(), String> {
    let error = std::io::Error::last_os_error();
    match error.kind() {
        std::io::ErrorKind::Interrupted => Ok(()),
        _ => Err(format!("the terminal can't be read: {error}")),
    }
}
