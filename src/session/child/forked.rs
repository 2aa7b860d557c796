//! A copy of the process that a cell made with `fork()`: it runs on in the cell's code, and is not the session.
//!
//! What it prints is shown, as that of any program that a cell starts. It answers nothing, sends no events and takes no commands: its
//! descriptors for those lead nowhere from the moment of the fork, frames are left out of what it writes, and where the cell's code
//! ends, so does it.

use std::os::fd::{IntoRawFd as _, RawFd};
use std::sync::OnceLock;

use glassbox_wire::frame;

use crate::session::pipes::frames::without_frames;

static SESSION: OnceLock<TheSession> = OnceLock::new();

struct TheSession {
    /// The process that runs the cells, of which a fork is a copy.
    process: u32,
    /// Descriptors by which it speaks with the host.
    private: [RawFd; 4],
    /// `/dev/null`.
    nowhere: RawFd,
    /// What its frames begin with.
    prefix: Vec<u8>,
}

/// From now on copies of this process are told apart.
pub(crate) fn start(private: [RawFd; 4], nonce: &str) -> std::io::Result<()> {
    let nowhere = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    // Set once: a process begins once.
    let _ = SESSION.set(TheSession {
        process: std::process::id(),
        private,
        nowhere: nowhere.into_raw_fd(),
        prefix: frame::prefix(nonce),
    });
    // SAFETY: the function is one that may run in a copy of a process with threads: system calls alone.
    match unsafe { libc::pthread_atfork(None, None, Some(begin)) } {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

/// Whether this is such a copy.
pub(crate) fn is_copy() -> bool {
    let session = SESSION.get();
    session.is_some_and(|session| session.process != std::process::id())
}

/// The first thing that a copy does.
extern "C" fn begin() {
    if let Some(session) = SESSION.get() {
        for fd in session.private {
            // Also closed when a program is started in this process, as the original is.
            // SAFETY: no memory is involved.
            unsafe { libc::dup3(session.nowhere, fd, libc::O_CLOEXEC) };
        }
    }
}

/// What a copy may write of these bytes to this descriptor: no frames, and nothing to the host.
pub(crate) fn allowed(fd: RawFd, bytes: &[u8]) -> Vec<u8> {
    let Some(session) = SESSION.get() else {
        return bytes.to_vec();
    };
    // A copy that was made by the system call alone has the descriptors still.
    if session.private.contains(&fd) {
        return Vec::new();
    }
    without_frames(bytes, &session.prefix)
}

/// Ends a copy whose part of the cell is over. What is registered to be done at the end of the process is the original's to do.
pub(crate) fn leave() -> ! {
    // SAFETY: no memory is involved.
    unsafe { libc::_exit(0) }
}
