//! Stops a running cell from outside: at its time limit, or when the user asks.
//!
//! The front end's thread is busy in `evaluate`, so this has a thread of its own: it waits for the limit or for a
//! request, interrupts the session, and ends the cell for good only if it has not stopped long after that or the user asks again: what
//! was computed so far is worth the wait.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::patience;
use crate::session::{Interrupted, Interrupter};

/// Who stopped a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The time limit.
    TimeLimit,
    /// The user.
    User,
}

/// How to interrupt: the first call asks, the second ends.
pub trait Interrupt: Send + 'static {
    /// Asks the running cell to stop, or ends it if it was asked before. If it finishes something first: how long that may take.
    fn interrupt(&self) -> Option<Duration>;
}

impl Interrupt for Interrupter {
    fn interrupt(&self) -> Option<Duration> {
        match Interrupter::interrupt(self) {
            Interrupted::Finishing(left) => Some(left),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    deadline: Option<Instant>,
    requests: usize,
    stop: Option<Stop>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is plain data that is whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Watches the cells of one session. Cheap to clone; the thread ends with [`Watch::close`].
#[derive(Debug, Clone, Default)]
pub struct Watch {
    shared: Arc<Shared>,
}

/// A cell is running while this lives.
#[derive(Debug)]
pub struct CellGuard<'a> {
    shared: &'a Shared,
}

impl Watch {
    /// Starts watching the session that `target` interrupts.
    pub fn start(target: impl Interrupt) -> Watch {
        let watch = Watch::default();
        let shared = Arc::clone(&watch.shared);
        std::thread::spawn(move || {
            let mut state = shared.lock();
            while !state.closed {
                let now = Instant::now();
                let due = state.running && state.deadline.is_some_and(|deadline| now >= deadline);
                if state.running && state.requests > 0 {
                    state.requests -= 1;
                    state.stop = Some(Stop::User);
                    target.interrupt();
                } else if due {
                    // Kept as it is when the user was first.
                    state.stop.get_or_insert(Stop::TimeLimit);
                    let wait = target.interrupt().unwrap_or(patience::END);
                    state.deadline = Some(now + wait);
                } else {
                    let wait = state
                        .deadline
                        .filter(|_| state.running)
                        .map(|deadline| deadline - now);
                    state = match wait {
                        Some(wait) => {
                            shared
                                .changed
                                .wait_timeout(state, wait)
                                .unwrap_or_else(PoisonError::into_inner)
                                .0
                        }
                        None => shared
                            .changed
                            .wait(state)
                            .unwrap_or_else(PoisonError::into_inner),
                    };
                }
            }
        });
        watch
    }

    /// A cell starts; from now on requests and the time limit reach it.
    pub fn cell(&self, timeout: Option<Duration>) -> CellGuard<'_> {
        self.shared.change(|state| {
            state.running = true;
            state.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            state.stop = None;
        });
        CellGuard {
            shared: &self.shared,
        }
    }

    /// The user asks to stop. Between two cells this stops the next one.
    pub fn request(&self) {
        self.shared.change(|state| state.requests += 1);
    }

    /// Forgets requests that no cell has taken.
    pub fn forget_requests(&self) {
        self.shared.change(|state| state.requests = 0);
    }

    /// Ends the thread.
    pub fn close(&self) {
        self.shared.change(|state| state.closed = true);
    }
}

impl CellGuard<'_> {
    /// The cell ended: who stopped it, if anybody did.
    pub fn finish(self) -> Option<Stop> {
        let mut state = self.shared.lock();
        state.running = false;
        // A request that the thread has not taken yet counts as well.
        if std::mem::take(&mut state.requests) > 0 {
            state.stop = Some(Stop::User);
        }
        state.stop
    }
}

impl Drop for CellGuard<'_> {
    fn drop(&mut self) {
        self.shared.lock().running = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    impl Interrupt for mpsc::Sender<()> {
        fn interrupt(&self) -> Option<Duration> {
            let _ = self.send(());
            None
        }
    }

    #[test]
    fn the_time_limit_interrupts() {
        let (sender, receiver) = mpsc::channel();
        let watch = Watch::start(sender);
        let guard = watch.cell(Some(Duration::from_millis(20)));
        receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(guard.finish(), Some(Stop::TimeLimit));
        assert_eq!(watch.cell(None).finish(), None);
        watch.close();
    }

    #[test]
    fn a_request_reaches_the_running_cell_only_once() {
        let (sender, receiver) = mpsc::channel();
        let watch = Watch::start(sender);
        let guard = watch.cell(None);
        watch.request();
        receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(guard.finish(), Some(Stop::User));
        let guard = watch.cell(None);
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        assert_eq!(guard.finish(), None);
        watch.close();
    }

    #[test]
    fn two_requests_interrupt_twice() {
        let (sender, receiver) = mpsc::channel();
        let watch = Watch::start(sender);
        let guard = watch.cell(None);
        watch.request();
        watch.request();
        for _ in 0..2 {
            receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        }
        assert_eq!(guard.finish(), Some(Stop::User));
        watch.close();
    }
}
