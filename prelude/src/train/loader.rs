//! Threads that read examples while the model trains: positions that are asked for → examples, in whatever order they are ready.
//!
//! The threads hold the set, and a handle to the model whose image processor prepares pictures, as their own: nothing of a cell's
//! stack. They end when the [`Loader`] is dropped.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::inputs::{OnDisk, read_one};
use super::set::{Example, TrainingSet};
use crate::session::{check_interrupt, panic_message};
use crate::vlm::Vlm;
use crate::{Error, Result};

/// How long to wait before looking for an interrupt.
const LOOK: Duration = Duration::from_millis(20);

/// The threads, and what they are asked for.
pub(super) struct Loader {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something was asked for, or it is over.
    asked: Condvar,
    /// Something is there.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<usize>,
    working: HashSet<usize>,
    done: HashMap<usize, Result<Example>>,
    /// A thread was the one that was told of an interrupt.
    interrupted: bool,
    over: bool,
}

impl Loader {
    pub(super) fn start(
        workers: usize,
        vlm: &Vlm,
        set: Arc<dyn TrainingSet + Send + Sync>,
        kept: OnDisk,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            asked: Condvar::new(),
            ready: Condvar::new(),
        });
        let loader = Self {
            shared: shared.clone(),
        };
        let vlm = Arc::new(vlm.share());
        for number in 0..workers {
            let (shared, vlm, set, kept) = (shared.clone(), vlm.clone(), set.clone(), kept.clone());
            let thread = std::thread::Builder::new().name(format!("loader {number}"));
            thread
                .spawn(move || shared.work(|position| read_one(&vlm, &*set, &kept, position)))
                .map_err(|source| Error::Io {
                    path: "a thread that reads examples".into(),
                    source,
                })?;
        }
        Ok(loader)
    }

    /// Has an example read, unless it was asked for already.
    pub(super) fn ask(&self, position: usize) {
        let mut state = self.shared.lock();
        if !state.knows(position) {
            state.queue.push_back(position);
            self.shared.asked.notify_one();
        }
    }

    /// Waits for an example, which is gone then. What others wait for comes later.
    ///
    /// # Errors
    /// `Interrupted`, and what reading it reports.
    pub(super) fn take(&self, position: usize) -> Result<Example> {
        let mut state = self.shared.lock();
        loop {
            if std::mem::take(&mut state.interrupted) {
                return Err(Error::Interrupted);
            }
            if let Some(example) = state.done.remove(&position) {
                return example;
            }
            if !state.working.contains(&position) {
                state.queue.retain(|waiting| *waiting != position);
                state.queue.push_front(position);
                self.shared.asked.notify_one();
            }
            let waited = self.shared.ready.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            drop(state);
            check_interrupt()?;
            state = self.shared.lock();
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.asked.notify_all();
    }
}

impl State {
    fn knows(&self, position: usize) -> bool {
        self.done.contains_key(&position)
            || self.working.contains(&position)
            || self.queue.contains(&position)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, read: impl Fn(usize) -> Result<Example>) {
        let mut state = self.lock();
        while !state.over {
            let Some(position) = state.queue.pop_front() else {
                state = self
                    .asked
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.working.insert(position);
            drop(state);
            // A set may be anybody's: whoever waits must hear of its end.
            let example = catch_unwind(AssertUnwindSafe(|| read(position)));
            let example = example.unwrap_or_else(|panic| {
                Err(Error::Input(format!(
                    "reading training example {position} panicked: {}",
                    panic_message(&*panic)
                )))
            });
            state = self.lock();
            state.working.remove(&position);
            match example {
                Err(Error::Interrupted) => state.interrupted = true,
                example => _ = state.done.insert(position, example),
            }
            self.ready.notify_all();
        }
    }
}
