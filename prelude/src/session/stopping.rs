//! Work that is finished before a cell stops, such as saving a model: nothing stops it, and who waits is told how long it may take.
//!
//! ```text
//! stopping_takes(2 minutes, "saving the model") ─▶ Event::Stopping ─▶ the host ends nothing for so long
//!            └─ held: nobody who asks for interrupts is told of one, and nothing is stopped by force
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::Event;

/// Nobody waits longer than this, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(600);

static HOLDS: Mutex<Holds> = Mutex::new(Holds {
    next: 0,
    all: Vec::new(),
});

struct Holds {
    next: u64,
    all: Vec<Hold>,
}

struct Hold {
    id: u64,
    until: Instant,
    what: String,
    /// Who does it.
    thread: ThreadId,
}

/// Work that is not to be interrupted, as long as this is there.
#[must_use = "the work is over when this is dropped: keep it in a variable, `let _saving = stopping_takes(…);`"]
#[derive(Debug)]
pub struct Stopping {
    id: u64,
}

/// What follows is finished before the cell stops, up to `time` from now, at most ten minutes: an interrupt, also that of a time limit, waits
/// until the value returned here is dropped or the cell ends, and whoever asked for it is told "stopping, up to 2 min: saving the model". Then it comes to
/// the next loop that asks for it.
///
/// ```
/// use std::time::Duration;
/// use glassbox_prelude::prelude::*;
///
/// fn work(step: usize) -> Result<()> {
///     check_interrupt()
/// }
/// # fn main() -> Result<()> {
/// for step in 0..10 {
///     if work(step).is_err() {
///         let _saving = stopping_takes(Duration::from_secs(120), "saving the model");
///         // … save it …
///         break;
///     }
/// }
/// # Ok(()) }
/// ```
pub fn stopping_takes(time: Duration, what: impl Into<String>) -> Stopping {
    begin(time.min(LONGEST), what.into())
}

fn begin(time: Duration, what: String) -> Stopping {
    let mut holds = lock();
    holds.next += 1;
    let id = holds.next;
    let until = Instant::now() + time;
    let thread = std::thread::current().id();
    holds.all.push(Hold {
        id,
        until,
        what,
        thread,
    });
    let event = holds.event();
    drop(holds);
    super::send(&event);
    Stopping { id }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        let mut holds = lock();
        holds.all.retain(|hold| hold.id != self.id);
        let event = holds.event();
        drop(holds);
        super::send(&event);
    }
}

impl Holds {
    /// What the host is to know: the work that takes longest.
    fn event(&mut self) -> Event {
        let now = Instant::now();
        self.all.retain(|hold| hold.until > now);
        let longest = self.all.iter().max_by_key(|hold| hold.until);
        Event::Stopping {
            milliseconds: longest.map_or(0, |hold| {
                u64::try_from((hold.until - now).as_millis()).unwrap_or(u64::MAX)
            }),
            what: longest.map(|hold| hold.what.clone()).unwrap_or_default(),
        }
    }
}

/// Whether something is being finished that nothing may stop.
pub(super) fn held() -> bool {
    let now = Instant::now();
    lock().all.iter().any(|hold| hold.until > now)
}

/// A cell begins: what an earlier one began in this thread is over with that one, also where a variable still holds it.
pub(super) fn cell_begins() {
    let here = std::thread::current().id();
    lock().all.retain(|hold| hold.thread != here);
}

/// Says once more how long it takes, for somebody who did not wait for it before.
pub(super) fn tell() {
    let event = lock().event();
    super::send(&event);
}

fn lock() -> MutexGuard<'static, Holds> {
    HOLDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long it may take to write so many bytes: a slow network folder takes 20 MB a second.
pub(crate) fn writing(bytes: usize) -> Duration {
    const RATE: usize = 20_000_000;
    Duration::from_secs(10 + (bytes / RATE) as u64)
}
