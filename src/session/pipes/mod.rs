//! Named pipes in a session's folder.
//!
//! # Layout
//! - [`background`]: what threads of cells write while no cell runs
//! - [`frames`]: from its bytes to events
//! - [`input`]: lines of text that cells ask for
//! - [`streams`]: the thread that reads what the child writes

pub(crate) mod background;
pub(crate) mod frames;
pub(crate) mod input;
pub(crate) mod streams;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use glassbox_wire::names::PIPES_VARIABLE;

/// Makes a named pipe and opens it.
pub(crate) fn open_pipe(path: &Path) -> std::io::Result<File> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::other)?;
    // SAFETY: `name` is a valid C string for the duration of the call.
    if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // Open for both directions: it never blocks, also while the other end is not open, and there is never an end of file between two
    // children.
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// The name of a pipe and where a child of ours finds it for as long as we hold it open, also if its folder is removed.
pub(crate) fn held(name: &str, pipe: &File) -> String {
    let (process, fd) = (std::process::id(), pipe.as_raw_fd());
    format!("{name}=/proc/{process}/fd/{fd}")
}

/// The pipe of this name, by the descriptor with which the host holds it open: it is there also when the session's folder is not.
pub(crate) fn pipe_path(folder: &Path, name: &str) -> PathBuf {
    let held = std::env::var(PIPES_VARIABLE).unwrap_or_default();
    let path = held.split(' ').find_map(|pipe| {
        let (of, path) = pipe.split_once('=')?;
        (of == name && Path::new(path).exists()).then(|| path.into())
    });
    path.unwrap_or_else(|| folder.join(name))
}
