//! The transport under Jupyter's messages: the accepting side of ZMTP 3, as far as a kernel needs it.
//!
//! ```text
//! listener ─ accept ─▶ handshake ─▶ frames ─▶ router (shell, control, stdin): messages with who sent them, and back to them
//!                                        └──▶ iopub's subscribers and the heartbeat, which lie beside this folder
//! ```
//! Whoever reaches a port may send anything before anybody knows whether he has the key. So nothing is reserved for bytes that
//! have not come, whatever they announce; what may be sent, held and left unfinished has [limits]; and a connection that breaks them is
//! closed alone. A connection is trusted once a message with a good signature came by it.
//!
//! # Layout
//! - [`listener`]: a port or a Unix socket, and the connections on it
//! - [`handshake`]: greeting and READY, without which nothing else is read
//! - [`frames`]: bytes to messages, within limits, and messages to bytes
//! - [`router`]: many clients at one socket, each answered where it asked
//! - [`limits`]: how much, how many, how long

pub mod frames;
pub mod handshake;
pub mod limits;
pub mod listener;
pub mod router;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::task::AbortHandle;

/// What ends a connection from our side.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Also how a client leaves.
    #[error("the connection is gone: {0}")]
    Gone(#[from] std::io::Error),
    #[error("it does not begin as ZMTP 3 does")]
    NoGreeting,
    #[error("it speaks ZMTP {0}, and 3 is the oldest that is understood")]
    OldVersion(u8),
    #[error("it asks for the security mechanism {0:?}: only NULL is known")]
    Mechanism(String),
    #[error("its READY cannot be read")]
    BadReady,
    #[error("its socket is a {0:?}, which does not fit this one")]
    SocketKind(String),
    #[error("its handshake did not end within {0:?}")]
    SlowHandshake(std::time::Duration),
    #[error("a message by it did not end within {0:?}")]
    SlowMessage(std::time::Duration),
    #[error("it announces a message of {announced} bytes: {limit} are the most")]
    TooLong { announced: u64, limit: usize },
    #[error("it sends a message of more than {0} frames")]
    TooManyFrames(usize),
    #[error("it sends a frame with the unknown flags {0:#x}")]
    Flags(u8),
    #[error("too much is held for messages that are not complete")]
    NoRoom,
    #[error("it subscribes to more than is kept for one connection")]
    TooManyTopics,
    #[error("it does not read what is sent to it")]
    DoesNotRead,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Told apart from all others of this process.
    pub id: u64,
    /// Where it comes from, for the log.
    pub from: String,
    since: Instant,
    identity: OnceLock<Vec<u8>>,
    trusted: AtomicBool,
    task: OnceLock<AbortHandle>,
}

impl Peer {
    /// A message with a good signature came from it.
    pub fn trust(&self) {
        self.trusted.store(true, Ordering::Release);
    }

    pub fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Acquire)
    }

    /// What it calls itself, which proves nothing; empty before its handshake has ended.
    pub fn identity(&self) -> &[u8] {
        self.identity.get().map_or(&[], Vec::as_slice)
    }

    fn has_shaken_hands(&self) -> bool {
        self.identity.get().is_some()
    }

    /// Ends the connection.
    pub fn close(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}
