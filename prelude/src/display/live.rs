//! Displays that change in place.
//!
//! In a Glassbox session a live display is shown once and then updated by its name. The stock kernel and a plain
//! program cannot change what they have shown: there, updates become lines of text, a few seconds apart, and the last
//! state is shown in full when the display ends. Whoever updates often asks a [`Throttle`] first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{MimeBundle, Render};
use crate::session::{self, Event, Live, Surroundings};

/// Updates a second that a front end and a reader can follow.
pub(crate) const UPDATES: Duration = Duration::from_millis(200);
/// Pause between lines where an update is a line of text.
const LINES: Duration = Duration::from_secs(5);

/// Shows `value` and gives a handle with which it can be replaced in place.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shown = display_live(&MimeBundle::text("nothing yet"));
/// for done in [10, 20, 30] {
///     shown.update(&MimeBundle::text(format!("{done} pictures")));
/// }
/// assert!(!shown.id().is_empty());
/// ```
pub fn display_live<T: Render + ?Sized>(value: &T) -> DisplayHandle {
    DisplayHandle::show(value.render())
}

/// A display that can be replaced in place. Clones replace the same display.
///
/// The last update is always shown: when the last clone is dropped, or when the cell ends, whichever comes first.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shown: DisplayHandle = display_live(&Table::new(["step"]).row([0_usize.into()]));
/// for step in 1..4_usize {
///     shown.update(&Table::new(["step"]).row([step.into()])); // in the same place
/// }
/// assert!(!shown.id().is_empty());
/// assert_eq!(shown.clone().id(), shown.id()); // a clone is the same display
/// ```
#[derive(Clone)]
pub struct DisplayHandle {
    state: Arc<Mutex<State>>,
}

struct State {
    id: String,
    /// Where updates are lines: the state that was not shown yet, and when the last line was.
    unshown: Option<MimeBundle>,
    lines: Throttle,
}

impl DisplayHandle {
    /// Shows `bundle` under a new name.
    pub fn show(bundle: MimeBundle) -> Self {
        let id = new_display_id();
        let mut state = State {
            id: id.clone(),
            unshown: None,
            lines: Throttle::new(LINES),
        };
        match session::surroundings() {
            Surroundings::Glassbox { .. } => {
                session::send(&Event::Display {
                    bundle: bundle.into(),
                    display_id: Some(id),
                });
            }
            _ => state.update_as_line(bundle),
        }
        let state = Arc::new(Mutex::new(state));
        let weak = Arc::downgrade(&state) as Weak<Mutex<dyn Live>>;
        session::flush_at_cell_end(weak);
        Self { state }
    }

    /// Shows `value` in place of what this display showed before.
    pub fn update<T: Render + ?Sized>(&self, value: &T) {
        self.replace(value.render());
    }

    /// Shows `bundle` in place of what this display showed before.
    pub fn replace(&self, bundle: MimeBundle) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match session::surroundings() {
            Surroundings::Glassbox { .. } => {
                session::send(&Event::Update {
                    bundle: bundle.into(),
                    display_id: state.id.clone(),
                });
            }
            _ => state.update_as_line(bundle),
        }
    }

    /// Says that no update will follow soon: where updates are only lines of text, the last one is now shown in full.
    pub fn settle(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush();
    }

    /// The name under which the front end knows this display.
    pub fn id(&self) -> String {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .id
            .clone()
    }
}

impl State {
    fn update_as_line(&mut self, bundle: MimeBundle) {
        if self.lines.due(Instant::now()) {
            super::print_line(last_line(bundle.plain()));
        }
        self.unshown = Some(bundle);
    }
}

impl Live for State {
    fn flush(&mut self) {
        if let Some(bundle) = self.unshown.take() {
            super::show(bundle);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The line that says how far it is: a drawing stands above it.
fn last_line(text: &str) -> &str {
    let lines = text.lines().rev();
    lines
        .map(str::trim_end)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

/// A name that no other display of this notebook has, also after the session was restarted.
fn new_display_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "glassbox-{:x}-{:x}-{number}",
        std::process::id(),
        since_1970.as_nanos()
    )
}

/// Where a changing value is shown, and when it may be shown again.
pub(super) struct Slot {
    throttle: Throttle,
    handle: Option<DisplayHandle>,
}

impl Slot {
    /// A slot that is updated at most once per `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            throttle: Throttle::new(interval),
            handle: None,
        }
    }

    /// From now on it is updated at most once per `interval`.
    pub(super) fn every(&mut self, interval: Duration) {
        self.throttle.interval = interval;
    }

    /// Whether something was shown.
    #[cfg(test)]
    pub(super) fn is_filled(&self) -> bool {
        self.handle.is_some()
    }

    fn show(&mut self, bundle: MimeBundle) {
        match &self.handle {
            Some(handle) => handle.replace(bundle),
            None => self.handle = Some(DisplayHandle::show(bundle)),
        }
    }
}

/// A followed value, as its clones share it.
pub(super) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    /// The value; one that another thread left in a panic is used as it is.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A value that is shown on one display while it changes: at once, then not too often, and at last as it ended.
pub(super) trait Followed: Send + Sized + 'static {
    /// Its display.
    fn slot(&mut self) -> &mut Slot;

    /// What it looks like now.
    fn look(&self) -> MimeBundle;

    /// Whether it is shown at all.
    fn is_shown(&self) -> bool {
        true
    }

    /// Shows the value, and shows what is still unshown when the cell ends.
    fn follow(mut self) -> Shared<Self> {
        self.changed();
        let state = Arc::new(Mutex::new(self));
        let weak = Arc::downgrade(&state) as Weak<Mutex<dyn Live>>;
        session::flush_at_cell_end(weak);
        Shared(state)
    }

    /// Something changed: shows it, unless it was shown a moment ago.
    fn changed(&mut self) {
        if self.slot().throttle.due(Instant::now()) {
            self.show();
        }
    }

    /// Nothing will change any more: shows the value as it ended.
    fn settle(&mut self) {
        self.slot().throttle.flush();
        self.show();
        if let Some(handle) = &self.slot().handle {
            handle.settle();
        }
    }

    /// Shows the value as it is.
    fn show(&mut self) {
        if self.is_shown() {
            let bundle = self.look();
            self.slot().show(bundle);
        }
    }
}

impl<T: Followed> Live for T {
    fn flush(&mut self) {
        if self.slot().throttle.flush() {
            self.show();
        }
    }
}

/// Says when something may be sent again, and whether something is waiting to be.
#[derive(Clone, Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    last: Option<Instant>,
    waiting: bool,
}

impl Throttle {
    /// At most one sending per `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            waiting: false,
        }
    }

    /// Something changed at `now`: whether to send it. If not, it waits for the next change or for [`Throttle::flush`].
    pub fn due(&mut self, now: Instant) -> bool {
        let due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= self.interval);
        if due {
            self.last = Some(now);
        }
        self.waiting = !due;
        due
    }

    /// Whether a change is waiting that was not sent; it then counts as sent.
    pub fn flush(&mut self) -> bool {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_sends_first_and_last_and_not_too_often() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Duration::from_millis(200));
        let sent: Vec<u64> = (0..1000)
            .filter(|milliseconds| throttle.due(start + Duration::from_millis(*milliseconds)))
            .collect();
        assert_eq!(sent, [0, 200, 400, 600, 800]);
        assert!(throttle.flush(), "the change at 999 ms still waits");
        assert!(!throttle.flush(), "and is sent once");
    }

    #[test]
    fn names_differ() {
        assert_ne!(new_display_id(), new_display_id());
    }
}
