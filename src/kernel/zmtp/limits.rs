//! How much a connection may send, hold and leave unfinished, and how long.
//!
//! What a connection sends is counted as its bytes arrive, and given back when the message was looked at. Those who have shown that
//! they know the key share one amount, all others a smaller one; what is small is not counted, so that an honest client
//! is read even while others hold all there is: the number of connections bounds it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A handshake has to end in this time.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// A message has to end in this time, from a connection that has not shown that it knows the key.
pub const UNFINISHED: Duration = Duration::from_secs(30);
/// Frames of one message.
pub const FRAMES: usize = 1024;
/// The bytes of READY and of other commands.
pub const COMMAND: usize = 8 * 1024;
/// Bytes of one message that are not counted, and all that a message on iopub or the heartbeat may have.
pub const SMALL: usize = 64 * 1024;
/// Bytes that wait to be sent to a connection which has not shown that it knows the key.
pub const REPLIES_BEFORE_TRUST: usize = 64 * 1024;
/// Bytes of replies that wait for a client to read them.
pub const REPLIES: usize = 256 * 1024 * 1024;
/// Complete messages of one socket that wait to be looked at.
pub const QUEUE: usize = 64;

/// The longest message of a connection, in bytes.
pub const fn message(trusted: bool) -> usize {
    if trusted {
        512 * 1024 * 1024
    } else {
        32 * 1024 * 1024
    }
}

static UNKNOWN: Budget = Budget::new(64 * 1024 * 1024);
static TRUSTED: Budget = Budget::new(1024 * 1024 * 1024);

/// Connections that one socket takes at a time: all five sockets together leave two thirds of the process's descriptors to the session.
pub fn connections() -> usize {
    // SAFETY: zero is valid for every field of this plain structure.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is alive.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let files = if known { limit.rlim_cur } else { 1024 };
    usize::try_from(files / 16)
        .unwrap_or(usize::MAX)
        .clamp(8, 128)
}

/// Bytes that may be held at the same time.
#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    const fn new(limit: usize) -> Budget {
        Budget {
            used: AtomicUsize::new(0),
            limit,
        }
    }
}

/// What one message holds of a [`Budget`]; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    budget: &'static Budget,
    /// Bytes of the message.
    all: usize,
    /// Those that are counted.
    counted: usize,
}

impl Held {
    pub fn new(trusted: bool) -> Held {
        Held {
            budget: if trusted { &TRUSTED } else { &UNKNOWN },
            all: 0,
            counted: 0,
        }
    }

    /// Counts more bytes, if there is room for them.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.all += bytes;
        let more = self.all.saturating_sub(SMALL) - self.counted;
        let limit = self.budget.limit;
        let taken = self
            .budget
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(more).filter(|used| *used <= limit)
            });
        if taken.is_ok() {
            self.counted += more;
        }
        taken.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.counted, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back_and_what_is_small_is_free() {
        static SMALL_ONE: Budget = Budget::new(1000);
        let new = || Held {
            budget: &SMALL_ONE,
            all: 0,
            counted: 0,
        };
        let (mut one, mut other) = (new(), new());
        assert!(one.grow(SMALL) && other.grow(SMALL));
        assert!(one.grow(900) && !other.grow(101));
        drop(one);
        let mut third = new();
        assert!(third.grow(SMALL + 1000) && !third.grow(1));
        drop((other, third));
        assert_eq!(SMALL_ONE.used.load(Ordering::Acquire), 0);
    }
}
