//! Standard input of the process in which cells run: empty, except for the answer to a question.
//!
//! Code made for evcxr (its crate `evcxr_input`) asks by printing a line that holds the question and then reading a line of
//! standard input. At once after the question the end of the file would be met: the host has not even read the question yet.
//! So each end of the file on descriptor 0 asks the host first, on the stream on which a question must have come before.
//!
//! ```text
//! println!("EVCXR_INPUT_REQUEST:who? ") ── stdout ──▶ Decoder keeps the question
//! stdin().read_line() ─▶ read ─ end of file ─ frame `stdin` ──▶ Decoder: is there a question? ──▶ Input ──▶ person
//!          ◀── the line, or the end of the file ◀── one line of JSON in the named pipe `stdin` ◀──┘
//! ```
//! A read without a question before it gets its end of the file at once, and so do programs that cells start: their descriptor 0 is
//! the system's own `/dev/null`. What code puts in place of descriptor 0 itself is read first.
//!
//! # Why a `read` of our own
//! Only who reads knows that it reads. From outside a pipe looks the same whether somebody waits at its other end or not, so a pipe
//! in place of `/dev/null` makes either the question lose against its answer or everybody else wait for ever. The program's
//! own symbols come before those of the C library for all libraries that it loads, the standard library of the cells among
//! them: so malloc is replaced too. In the other roles of this binary it is the system call and nothing else.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use glassbox_wire::names::STDIN_PIPE;
use glassbox_wire::{Answer, Event};

use super::forked;
use super::tell::send_frame;
use crate::session::pipes::pipe_path;

/// How often a waiting read looks whether its cell still runs, in milliseconds.
const INTERVAL: libc::c_int = 50;

/// Set in the process in which cells run, and nowhere else.
static HOST: OnceLock<Host> = OnceLock::new();
/// The number of the cell that runs, or 0: when none does the host hears nothing.
static CELL: AtomicU64 = AtomicU64::new(0);

/// The way to the host and back.
struct Host {
    nonce: String,
    /// One reader at a time: two would take each other's answers.
    answers: Mutex<Answers>,
}

struct Answers {
    pipe: File,
    /// How many times the host was asked.
    asked: u64,
    /// What did not fit where an answer was read to, and the cell that it belongs to.
    unread: (u64, Vec<u8>),
}

/// From now on the host is asked at the end of standard input.
pub(crate) fn start(folder: &Path, nonce: &str) -> std::io::Result<()> {
    let pipe = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(pipe_path(folder, STDIN_PIPE))?;
    let host = Host {
        nonce: nonce.to_owned(),
        answers: Mutex::new(Answers {
            pipe,
            asked: 0,
            unread: (0, Vec::new()),
        }),
    };
    // Set once: a process begins once.
    let _ = HOST.set(host);
    // Nothing of Rust's names the function, and a linker may leave out what nobody names.
    std::hint::black_box(read as *const ());
    Ok(())
}

/// The cell with this number, from 1, begins.
pub(crate) fn cell_begins(number: u64) {
    CELL.store(number, Ordering::Release);
}

/// No cell runs any more: what still reads meets the end of the file.
pub(crate) fn cell_ends() {
    CELL.store(0, Ordering::Release);
}

/// In place of the C library's function, see above.
///
/// # Safety
/// As for the C library's: `buffer` has room for `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(
    fd: libc::c_int,
    buffer: *mut libc::c_void,
    count: libc::size_t,
) -> libc::ssize_t {
    let descriptor = libc::c_long::from(fd);
    // SAFETY: what the caller promises is what the system call asks for.
    let got = unsafe { libc::syscall(libc::SYS_read, descriptor, buffer, count) } as libc::ssize_t;
    if fd != libc::STDIN_FILENO || got != 0 || count == 0 {
        return got;
    }
    // A copy of the process is not the one that is answered.
    let Some(host) = HOST.get().filter(|_| !forked::is_copy()) else {
        return got;
    };
    let answer = host.answer(count);
    // SAFETY: the answer is no longer than `count`, for which the caller has room, and nobody else has its memory.
    unsafe { std::ptr::copy_nonoverlapping(answer.as_ptr(), buffer.cast(), answer.len()) };
    answer.len() as libc::ssize_t
}

impl Host {
    /// At most `room` bytes of an answer; none if nothing was asked or nobody answers.
    fn answer(&self, room: usize) -> Vec<u8> {
        let cell = CELL.load(Ordering::Acquire);
        if cell == 0 {
            return Vec::new();
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, unread) = std::mem::take(&mut answers.unread);
        let mut line = if of == cell && !unread.is_empty() {
            unread
        } else {
            answers.fetch(&self.nonce, cell).unwrap_or_default()
        };
        let rest = line.split_off(room.min(line.len()));
        answers.unread = (cell, rest);
        line
    }
}

impl Answers {
    /// Asks the host, and waits for as long as the cell runs.
    fn fetch(&mut self, nonce: &str, cell: u64) -> Option<Vec<u8>> {
        self.asked += 1;
        // Bytes for a process that died meanwhile may still lie in the pipe.
        let id = u64::from(std::process::id()) << 20 | self.asked;
        send_frame(nonce, &Event::Stdin { id });
        let mut received = Vec::new();
        while CELL.load(Ordering::Acquire) == cell {
            let mut chunk = [0; 4096];
            match self.pipe.read(&mut chunk) {
                Ok(count @ 1..) => received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return None,
                _ => self.wait(),
            }
            while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = received.drain(..=end).collect();
                if let Some(answer) = Answer::parse(&line).filter(|answer| answer.id == id) {
                    return answer.value.map(|value| format!("{value}\n").into_bytes());
                }
            }
        }
        None
    }

    /// Waits until there is something to read, or until it is time to look whether the cell still runs.
    fn wait(&self) {
        let mut polled = libc::pollfd {
            fd: self.pipe.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the structure is alive.
        unsafe { libc::poll(&mut polled, 1, INTERVAL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_read_next_while_the_cell_runs() {
        let host = Host {
            nonce: String::new(),
            answers: Mutex::new(Answers {
                pipe: tempfile::tempfile().unwrap(),
                asked: 0,
                unread: (1, b"Ferris\n".to_vec()),
            }),
        };
        cell_begins(1);
        assert_eq!(host.answer(4), b"Ferr");
        assert_eq!(host.answer(2), b"is");
        cell_ends();
        assert_eq!(host.answer(8), b"");
        cell_begins(1);
        assert_eq!(host.answer(8), b"\n");
        cell_ends();
    }
}
