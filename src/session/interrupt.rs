//! Stops a running cell from another thread.
//!
//! The first request asks: the compiler is stopped if it is still compiling, else the child gets SIGINT, whose handler
//! in the prelude sets a flag that every loop of the prelude looks at; code that does not look is stopped by the prelude a moment
//! later. The second request ends the child, and with it all variables: unless the cell has said that it finishes something and how
//! long that may take. For so long, at most [`LONGEST`] after the first request, nothing is ended.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use glassbox_wire::names::INTERRUPT_FILE;

use super::offspring;
use crate::figures;

/// In the session's folder: the id of the process that compiles.
pub(crate) const PROCESS_FILE: &str = "compiler";

/// Stops the cell that runs in a session. Cheap to clone; every clone stops the same session.
#[derive(Clone, Debug)]
pub struct Interrupter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    child: Mutex<Option<Arc<Mutex<Child>>>>,
    state: AtomicU8,
    work: Mutex<Work>,
}

/// What the running cell finishes before it stops.
#[derive(Debug, Default)]
struct Work {
    /// When the cell was asked to stop.
    asked: Option<Instant>,
    /// Until when it is worked on, and at what.
    until: Option<(Instant, String)>,
    /// What the user was told of.
    told: String,
}

/// Nobody waits longer for a cell that was asked to stop, whatever it says.
const LONGEST: Duration = Duration::from_secs(600);

/// Nothing runs.
const IDLE: u8 = 0;
/// A cell runs and nobody has asked to stop it.
const RUNNING: u8 = 1;
/// A cell runs and was asked to stop.
const ASKED: u8 = 2;
/// The cell's process was ended on request.
const KILLED: u8 = 3;

/// What an interrupt did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// No cell was running.
    NothingRuns,
    /// The cell was asked to stop and keeps its variables when it does.
    Asked,
    /// The cell finishes something first, which takes up to this time: nothing was ended.
    Finishing(Duration),
    /// The process that runs cells was ended; its variables are lost.
    Killed,
}

impl Interrupter {
    pub(crate) fn new(folder: PathBuf) -> Interrupter {
        Interrupter {
            shared: Arc::new(Shared {
                folder,
                child: Mutex::new(None),
                state: AtomicU8::new(IDLE),
                work: Mutex::default(),
            }),
        }
    }

    /// Asks the running cell to stop; if it was asked before, ends its process, but not while it finishes what it said it would.
    pub fn interrupt(&self) -> Interrupted {
        let state = &self.shared.state;
        if state
            .compare_exchange(RUNNING, ASKED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.work().asked = Some(Instant::now());
            // The file catches a cell that has not begun to run: the engine and the child look for it.
            let _ = fs::write(self.shared.folder.join(INTERRUPT_FILE), "");
            self.signal_compiler();
            self.signal_child(libc::SIGINT, false);
            return Interrupted::Asked;
        }
        match self.finishing() {
            Some(left) if state.load(Ordering::Acquire) == ASKED => Interrupted::Finishing(left),
            _ => self.kill(),
        }
    }

    /// How much longer the cell that was asked to stop may finish something.
    pub fn finishing(&self) -> Option<Duration> {
        let work = self.work();
        let (until, _) = work.until.as_ref()?;
        let latest = work
            .asked
            .map_or(*until, |asked| (asked + LONGEST).min(*until));
        let left = latest.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// The running cell finishes something, which takes up to this time; or nothing any more. Returns what the user is to be told.
    pub(crate) fn finishes(&self, time: Duration, what: &str) -> Option<String> {
        {
            let mut work = self.work();
            work.until = Instant::now()
                .checked_add(time)
                .filter(|_| !time.is_zero())
                .map(|until| (until, what.to_owned()));
            if !self.is_asked() || work.told == what {
                return None;
            }
        }
        let left = self.finishing()?;
        what.clone_into(&mut self.work().told);
        Some(format!(
            "stopping, up to {}: {what}\n",
            figures::about(left)
        ))
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        let work = &self.shared.work;
        work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the running cell was asked to stop.
    pub fn is_asked(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) >= ASKED
    }

    /// Ends the process of the running cell.
    pub fn kill(&self) -> Interrupted {
        if self.shared.state.load(Ordering::Acquire) == IDLE {
            return Interrupted::NothingRuns;
        }
        self.shared.state.store(KILLED, Ordering::Release);
        self.signal_compiler();
        self.signal_child(libc::SIGKILL, true);
        Interrupted::Killed
    }

    pub(crate) fn set_child(&self, child: Arc<Mutex<Child>>) {
        *self
            .shared
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    /// The id of the process that runs cells, while it is there.
    pub(crate) fn child_id(&self) -> Option<u32> {
        let child = self
            .shared
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        // Held only while a process that has ended is waited for.
        let child = child.try_lock().ok()?;
        Some(child.id())
    }

    /// The processor time that the process that runs cells has used so far.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child_id()?)).ok()?;
        // pid (name) state …; the name may hold spaces. User and system time are the 14th and 15th field.
        let fields: Vec<&str> = stat
            .get(stat.rfind(')')? + 1..)?
            .split_whitespace()
            .collect();
        let ticks: u64 =
            fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        // SAFETY: sysconf has no preconditions.
        let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
        Some(Duration::from_millis(ticks * 1000 / per_second.max(1)))
    }

    pub(crate) fn begin_cell(&self) {
        let _ = fs::remove_file(self.shared.folder.join(INTERRUPT_FILE));
        *self.work() = Work::default();
        self.shared.state.store(RUNNING, Ordering::Release);
    }

    /// Whether the cell that ends now was interrupted, and whether its process was ended for it.
    pub(crate) fn end_cell(&self) -> (bool, bool) {
        let state = self.shared.state.swap(IDLE, Ordering::AcqRel);
        let _ = fs::remove_file(self.shared.folder.join(INTERRUPT_FILE));
        (state >= ASKED, state == KILLED)
    }

    fn signal_child(&self, signal: i32, group: bool) {
        let child = self
            .shared
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(child) = child else { return };
        // The engine holds the lock only while it waits for a child that has ended: nothing to signal then.
        let Ok(mut child) = child.try_lock() else {
            return;
        };
        if let Ok(None) = child.try_wait()
            && let Ok(pid) = i32::try_from(child.id())
        {
            // Found first, for they are nobody's children after it, and ended last: a cell that waits for one must not go on.
            let started = group.then(|| offspring::of(child.id()));
            // SAFETY: no memory is involved. The process has not been waited for, so its id is still its own; it is
            // the leader of its group.
            unsafe { libc::kill(if group { -pid } else { pid }, signal) };
            if let Some(started) = started {
                started.signal(signal);
            }
        }
    }

    /// Ends a compiler that the engine waits for.
    fn signal_compiler(&self) {
        let noted = fs::read_to_string(self.shared.folder.join(PROCESS_FILE)).ok();
        let Some(pid) = noted.and_then(|text| text.trim().parse::<i32>().ok()) else {
            return;
        };
        if is_our_compiler(pid) {
            // SAFETY: no memory is involved. The id belongs to a child of ours that has not been waited for.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }
}

/// Whether the process is a child of this one and a compiler: the file may name one that is long gone.
fn is_our_compiler(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // pid (name) state parent …; the name may hold spaces and parentheses.
    let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else {
        return false;
    };
    let name = stat.get(open + 1..close).unwrap_or_default();
    let parent = stat
        .get(close + 1..)
        .and_then(|rest| rest.split_whitespace().nth(1))
        .and_then(|text| text.parse().ok());
    parent == Some(std::process::id()) && ["rustc", "cargo"].contains(&name)
}
