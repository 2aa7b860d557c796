//! A question to the host of a session, and its answer from a named pipe in the session's folder.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use glassbox_wire::Answer;
use glassbox_wire::names::{FOLDER_VARIABLE, INPUT_PIPE, PIPES_VARIABLE};

use super::nobody;
use crate::error::Result;
use crate::session::{Event, check_interrupt, send};

/// How often a waiting cell looks for an interrupt, in milliseconds.
const INTERVAL: libc::c_int = 50;

/// Sends the question and waits for its answer.
///
/// # Errors
/// As for [`super::input`].
pub(super) fn ask_the_host(prompt: &str, password: bool) -> Result<String> {
    static QUESTIONS: Mutex<u64> = Mutex::new(0);
    // One question at a time: two threads would read each other's answers.
    let mut questions = QUESTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    *questions += 1;
    // An answer may lie in the pipe that a process before this one, which died, had asked for.
    let id = u64::from(std::process::id()) << 20 | *questions;
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else {
        return Err(nobody("the session has no folder"));
    };
    let held = std::env::var(PIPES_VARIABLE).unwrap_or_default();
    let path = held
        .split(' ')
        .find_map(|pipe| pipe.strip_prefix(INPUT_PIPE)?.strip_prefix('='))
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(folder).join(INPUT_PIPE));
    let mut pipe = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .map_err(|error| nobody(&format!("{}: {error}", path.display())))?;
    send(&Event::Input {
        id,
        prompt: prompt.to_owned(),
        password,
    });
    let mut answers = Vec::new();
    loop {
        check_interrupt()?;
        let mut chunk = [0; 4096];
        match pipe.read(&mut chunk) {
            Ok(count @ 1..) => answers.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                return Err(nobody(&error.to_string()));
            }
            _ => wait(&pipe),
        }
        while let Some(end) = answers.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = answers.drain(..=end).collect();
            // One that came too late for a question of an interrupted cell is passed over.
            if let Some(answer) = Answer::parse(&line).filter(|answer| answer.id == id) {
                return answer.into_result().map_err(|why| nobody(&why));
            }
        }
    }
}

/// Waits until there is something to read, or until it is time to look for an interrupt.
fn wait(pipe: &File) {
    let mut polled = libc::pollfd {
        fd: pipe.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the structure is alive.
    unsafe { libc::poll(&mut polled, 1, INTERVAL) };
}
