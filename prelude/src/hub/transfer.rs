//! The bytes of one file over the network: fetched, and continued after a cut.
//!
//! The network runs on a thread of its own and hands over pieces, so that an interrupt is noticed within a tenth of a
//! second even when the server is silent.

use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::HubError;
use super::listing::{RemoteFile, Server, error_code};
use super::partial::PartialFile;
use crate::error::{Error, Result};
use crate::session::check_interrupt;

/// How often an interrupt is looked for while nothing arrives.
const TICK: Duration = Duration::from_millis(100);
/// Attempts in a row that bring no byte before giving up.
const FRUITLESS_ATTEMPTS: u32 = 4;
/// The wait before another attempt; doubled with each that brings nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Bytes handed over at a time.
const PIECE: usize = 1 << 18;

/// What the network thread hands over.
enum Piece {
    /// The answer's status, the hub's word for a failure, and the position of the first byte.
    Head {
        status: u16,
        code: Option<String>,
        start: u64,
    },
    Bytes(Vec<u8>),
    /// The connection failed, with the reason.
    Failed(String),
}

/// How one connection ended.
enum Ending {
    /// The server closed it properly.
    Done,
    /// It broke, or the server is busy; another attempt may go on.
    Cut(String),
}

/// Fetches `file` into `partial`, continuing what is there, and moves it to `place` once it is whole.
///
/// `moved` is told how many bytes of the file are on disk.
///
/// # Errors
/// [`HubError::Cut`] (the partial file stays), [`HubError::Checksum`] (it is removed), what the server refused,
/// `Error::Io`, `Error::Interrupted` (the partial file stays).
pub(super) fn transfer(
    server: &Server,
    commit: &str,
    file: &RemoteFile,
    partial: &Path,
    place: &Path,
    moved: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut partial = PartialFile::open(partial, file)?;
    let mut fruitless = 0;
    while partial.have() < file.size {
        let before = partial.have();
        moved(before);
        let ending = one_connection(server, commit, file, &mut partial, moved)?;
        if partial.have() == file.size {
            break;
        }
        fruitless = if partial.have() > before {
            0
        } else {
            fruitless + 1
        };
        if fruitless == FRUITLESS_ATTEMPTS {
            return Err(gave_up(server, commit, file, partial.have(), ending).into());
        }
        pause(FIRST_PAUSE * 2u32.pow(fruitless))?;
    }
    moved(file.size);
    partial.finish(file, place)
}

/// The error after too many attempts that brought nothing.
fn gave_up(server: &Server, commit: &str, file: &RemoteFile, have: u64, last: Ending) -> HubError {
    match last {
        Ending::Cut(what) if have == 0 => HubError::Network {
            url: server.url(&file.name, commit),
            what,
        },
        _ => HubError::Cut {
            file: file.name.clone(),
            have,
            size: file.size,
        },
    }
}

/// One request and as many bytes of its answer as come.
fn one_connection(
    server: &Server,
    commit: &str,
    file: &RemoteFile,
    partial: &mut PartialFile,
    moved: &mut dyn FnMut(u64),
) -> Result<Ending> {
    let url = server.url(&file.name, commit);
    let pieces = fetch_on_a_thread(server, commit, &file.name, partial.have());
    loop {
        match next(&pieces)? {
            None => return Ok(Ending::Done),
            Some(Piece::Failed(what)) => return Ok(Ending::Cut(what)),
            // Busy or briefly broken: worth another attempt.
            Some(Piece::Head { status, .. }) if status == 429 || status >= 500 => {
                return Ok(Ending::Cut(format!("HTTP {status}")));
            }
            Some(Piece::Head {
                status: 200 | 206,
                start,
                ..
            }) => {
                if start != partial.have() {
                    // The server does not continue where it was asked to: take the whole file again.
                    if start != 0 {
                        return Err(HubError::BadAnswer {
                            url,
                            what: format!(
                                "asked for bytes from {}, got them from {start}",
                                partial.have()
                            ),
                        }
                        .into());
                    }
                    partial.restart(file)?;
                }
            }
            Some(Piece::Head { status, code, .. }) => {
                return Err(server
                    .refusal(status, code.as_deref(), &url, Some(&file.name))
                    .into());
            }
            Some(Piece::Bytes(bytes)) => {
                if partial.have() + bytes.len() as u64 > file.size {
                    return Err(HubError::BadAnswer {
                        url,
                        what: format!("more than the {} bytes that the listing gives", file.size),
                    }
                    .into());
                }
                partial.append(&bytes)?;
                moved(partial.have());
            }
        }
    }
}

fn fetch_on_a_thread(server: &Server, commit: &str, name: &str, start: u64) -> Receiver<Piece> {
    let (sender, receiver) = sync_channel(4);
    let request = server.request(name, commit, start);
    std::thread::spawn(move || {
        // A send fails when nobody waits any more: then there is nothing left to do.
        let mut response = match request.call() {
            Ok(response) => response,
            Err(error) => {
                let _ = sender.send(Piece::Failed(error.to_string()));
                return;
            }
        };
        let head = Piece::Head {
            status: response.status().as_u16(),
            code: error_code(&response),
            start: first_byte(&response),
        };
        if sender.send(head).is_err() {
            return;
        }
        let mut reader = response.body_mut().as_reader();
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Piece::Bytes(buffer[..count].to_vec()),
                Err(error) => Piece::Failed(error.to_string()),
            };
            let last = matches!(piece, Piece::Failed(_));
            if sender.send(piece).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// Where the answer's bytes begin: `Content-Range: bytes START-END/SIZE` of a partial answer, else 0.
fn first_byte(response: &ureq::http::Response<ureq::Body>) -> u64 {
    if response.status().as_u16() != 206 {
        return 0;
    }
    response
        .headers()
        .get("content-range")
        .and_then(|value| value.to_str().ok())
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next())
        .and_then(|start| start.parse().ok())
        .unwrap_or(0)
}

/// The next piece, `None` at the end; looks for an interrupt while it waits.
fn next<T>(receiver: &Receiver<T>) -> Result<Option<T>> {
    loop {
        check_interrupt()?;
        match receiver.recv_timeout(TICK) {
            Ok(piece) => return Ok(Some(piece)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Runs `work` on a thread and waits for it, looking for an interrupt meanwhile.
pub(super) fn without_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        // Nobody waits after an interrupt.
        let _ = sender.send(work());
    });
    next(&receiver)?.ok_or_else(|| {
        Error::Input("the network thread ended without an answer; run it again".to_owned())
    })
}

/// Waits, unless the user interrupts.
pub(super) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check_interrupt()?;
        std::thread::sleep(TICK.min(time));
    }
    Ok(())
}
