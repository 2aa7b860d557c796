//! A port or a Unix socket of the connection file: connections in, each a task of its own that has shaken hands.
//!
//! The loop that takes connections never ends: without descriptors it waits for some. There are only so many [seats](Room); where
//! all are taken the oldest stranger gives his up.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jupyter_protocol::{ConnectionInfo, Transport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::frames::Reader;
use super::handshake::{Kind, shake_hands};
use super::{Fault, Peer, limits};
use crate::kernel::wire::log;

/// How long the loop waits when the system has no descriptor or memory for a connection.
const NO_DESCRIPTORS: Duration = Duration::from_millis(100);

type Input = Box<dyn AsyncRead + Send + Unpin>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection that has shaken hands.
pub struct Connection {
    pub peer: Arc<Peer>,
    pub reader: Reader<Input>,
    pub writer: Output,
}

enum Accepting {
    Tcp(TcpListener),
    Ipc(UnixListener, PathBuf),
}

/// A bound socket.
pub struct Listener {
    accepting: Accepting,
    pub name: &'static str,
    kind: Kind,
}

impl Listener {
    /// Binds the socket `name` of the connection file, which has this number there.
    pub async fn bind(
        connection: &ConnectionInfo,
        port: u16,
        name: &'static str,
        kind: Kind,
    ) -> io::Result<Listener> {
        let accepting = match connection.transport {
            Transport::TCP => {
                let ip = match connection.ip.as_str() {
                    "*" => "0.0.0.0",
                    ip => ip.trim_start_matches('[').trim_end_matches(']'),
                };
                Accepting::Tcp(TcpListener::bind((ip, port)).await?)
            }
            Transport::IPC => {
                let path = PathBuf::from(format!("{}-{port}", connection.ip));
                remove_socket(&path);
                let listener = UnixListener::bind(&path)?;
                // Who may write to it may connect: nobody else, whatever the umask.
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
                Accepting::Ipc(listener, path)
            }
        };
        Ok(Listener {
            accepting,
            name,
            kind,
        })
    }

    /// Takes connections for as long as the process lives, and has each served.
    pub fn serve<F, S>(self, longest: usize, serve: F)
    where
        F: Fn(Connection) -> S + Clone + Send + Sync + 'static,
        S: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        tokio::spawn(async move {
            let room = Arc::new(Room::new(self.name, self.kind));
            let mut failures: u64 = 0;
            loop {
                let (input, output, from) = match self.accepting.next().await {
                    Ok(connected) => connected,
                    Err(error) => {
                        failures += 1;
                        if failures.is_power_of_two() {
                            let name = self.name;
                            log(&format!(
                                "a connection on {name} cannot be taken now ({failures} times so far): {error}"
                            ));
                        }
                        tokio::time::sleep(pause(&error)).await;
                        continue;
                    }
                };
                let Some(peer) = room.admit(from) else {
                    continue;
                };
                let (seat, serve, kind) =
                    (Seat(room.clone(), peer.clone()), serve.clone(), self.kind);
                let task = tokio::spawn(async move {
                    let Seat(room, peer) = &seat;
                    let (mut reader, mut writer) = (Reader::new(input, longest), output);
                    let ended = match shake_hands(&mut reader, &mut writer, kind).await {
                        Ok(identity) => {
                            let _ = peer.identity.set(identity);
                            let peer = peer.clone();
                            serve(Connection {
                                peer,
                                reader,
                                writer,
                            })
                            .await
                        }
                        Err(fault) => Err(fault),
                    };
                    if let Err(fault) = ended {
                        room.note(peer, &fault);
                    }
                });
                // Set once, here.
                let _ = peer.task.set(task.abort_handle());
            }
        });
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        if let Accepting::Ipc(_, path) = self {
            remove_socket(path);
        }
    }
}

impl Accepting {
    async fn next(&self) -> io::Result<(Input, Output, String)> {
        match self {
            Accepting::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // What the system cannot set costs time, not the connection.
                let _ = stream.set_nodelay(true);
                notice_when_gone(stream.as_raw_fd());
                let (input, output) = stream.into_split();
                Ok((Box::new(input), Box::new(output), from.to_string()))
            }
            Accepting::Ipc(listener, path) => {
                let (stream, _) = listener.accept().await?;
                let (input, output) = stream.into_split();
                let from = path.display().to_string();
                Ok((Box::new(input), Box::new(output), from))
            }
        }
    }
}

/// Removes a socket that an earlier process left at the path, and nothing else.
fn remove_socket(path: &Path) {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        // What cannot be removed is said when it is bound.
        let _ = std::fs::remove_file(path);
    }
}

/// Has the system ask a silent client whether it is still there, so that one whose machine went away is noticed.
fn notice_when_gone(fd: RawFd) {
    for (level, option, value) in [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 15),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 4),
    ] {
        let value: libc::c_int = value;
        // SAFETY: the value is alive and of the given size.
        unsafe {
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(fd, level, option, (&raw const value).cast(), size);
        }
    }
}

fn pause(error: &io::Error) -> Duration {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => NO_DESCRIPTORS,
        // A client that left before it was taken.
        _ => Duration::from_millis(1),
    }
}

/// The connections of one socket.
struct Room {
    name: &'static str,
    kind: Kind,
    seats: usize,
    peers: Mutex<Vec<Arc<Peer>>>,
    faults: AtomicU64,
    refused: AtomicBool,
}

/// A place among the connections, which is free again when this is dropped.
struct Seat(Arc<Room>, Arc<Peer>);

impl Drop for Seat {
    fn drop(&mut self) {
        let Seat(room, peer) = self;
        let mut peers = room.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|other| other.id != peer.id);
    }
}

impl Room {
    fn new(name: &'static str, kind: Kind) -> Room {
        Room {
            name,
            kind,
            seats: limits::connections(),
            peers: Mutex::default(),
            faults: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// A seat for a newcomer. Where none is free, the oldest that has not shaken hands loses his, then the oldest that has not
    /// shown the key. Listeners of iopub never show it: they keep theirs.
    fn admit(&self, from: String) -> Option<Arc<Peer>> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= self.seats {
            let strangers = peers.iter().position(|peer| !peer.has_shaken_hands());
            let untrusted = || match self.kind {
                Kind::Publisher => None,
                _ => peers.iter().position(|peer| !peer.is_trusted()),
            };
            let Some(at) = strangers.or_else(untrusted) else {
                if !self.refused.swap(true, Ordering::AcqRel) {
                    log(&format!(
                        "{} has {} connections, as many as it takes: others are closed until one leaves",
                        self.name, self.seats
                    ));
                }
                return None;
            };
            let given_up = peers.remove(at);
            given_up.close();
            if !self.refused.swap(true, Ordering::AcqRel) {
                log(&format!(
                    "{} has {} connections, as many as it takes: the oldest that has not shown the key is closed for each new one ({} after {:?})",
                    self.name,
                    self.seats,
                    given_up.from,
                    given_up.since.elapsed()
                ));
            }
        }
        let peer = Arc::new(Peer {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            from,
            since: Instant::now(),
            identity: OnceLock::new(),
            trusted: AtomicBool::new(false),
            task: OnceLock::new(),
        });
        peers.push(peer.clone());
        Some(peer)
    }

    /// Says why a connection was closed from our side.
    fn note(&self, peer: &Peer, fault: &Fault) {
        if matches!(fault, Fault::Gone(_)) {
            return;
        }
        let seen = self.faults.fetch_add(1, Ordering::Relaxed) + 1;
        // Whoever attacks does so often: the log says each power of two.
        if seen.is_power_of_two() {
            let (name, from) = (self.name, &peer.from);
            log(&format!(
                "closed a connection on {name} from {from} ({seen} so far): {fault}"
            ));
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Somebody who has not shown the key.
    pub fn peer() -> Arc<Peer> {
        Room::new("test", Kind::Router)
            .admit("a test".to_owned())
            .expect("there is room")
    }

    #[test]
    fn strangers_make_room_and_those_with_the_key_stay() {
        let room = Room {
            seats: 3,
            ..Room::new("test", Kind::Router)
        };
        let admit = || room.admit("a test".to_owned());
        let all: Vec<Arc<Peer>> = (0..3).filter_map(|_| admit()).collect();
        all[0].trust();
        for peer in [&all[0], &all[1]] {
            let _ = peer.identity.set(Vec::new());
        }
        let ids = || -> Vec<u64> {
            let peers = room.peers.lock().expect("nobody panicked");
            peers.iter().map(|peer| peer.id).collect()
        };
        let fourth = admit().expect("the third had not shaken hands");
        assert_eq!(ids(), [all[0].id, all[1].id, fourth.id]);
        let _ = fourth.identity.set(Vec::new());
        let fifth = admit().expect("the second had not shown the key");
        assert_eq!(ids(), [all[0].id, fourth.id, fifth.id]);
        for peer in [&fourth, &fifth] {
            peer.trust();
            let _ = peer.identity.set(Vec::new());
        }
        assert!(admit().is_none(), "who has shown the key stays");
    }
}
