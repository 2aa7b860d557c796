//! One bar that moves: what is done, how fast, how long still. Loops that report here also stop when the user asks.

use std::time::{Duration, Instant};

use super::live::{Followed, Shared, Slot, UPDATES};
use super::{MimeBundle, Render, html, number};
use crate::error::Result;
use crate::session;

/// A progress bar on one display that updates in place, at most five times a second.
///
/// The last state is always shown: when [`Progress::finish`] is called or the last clone is dropped.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let bar = Progress::new("adding", 100);
/// for number in 0..100 {
///     bar.step()?; // ends the loop when the cell is interrupted
///     if number == 50 {
///         bar.message("half of it");
///     }
/// }
/// assert!(bar.render().plain().contains("100/100"));
/// bar.finish("done");
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Progress {
    state: Shared<State>,
}

struct State {
    title: String,
    message: String,
    done: u64,
    /// `None` when nobody knows how much there is.
    total: Option<u64>,
    begun: Instant,
    end: End,
    slot: Slot,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Running,
    Finished(Duration),
    Stopped(Duration),
}

impl Progress {
    /// A bar for `total` steps.
    pub fn new(title: impl Into<String>, total: usize) -> Self {
        Self::start(title.into(), Some(total as u64))
    }

    /// A counter for work of unknown length.
    pub fn unbounded(title: impl Into<String>) -> Self {
        Self::start(title.into(), None)
    }

    fn start(title: String, total: Option<u64>) -> Self {
        let state = State {
            title,
            message: String::new(),
            done: 0,
            total,
            begun: Instant::now(),
            end: End::Running,
            slot: Slot::new(UPDATES),
        };
        Self {
            state: state.follow(),
        }
    }

    /// One more step is done.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] if the user asked to stop; the bar then says where it stopped.
    pub fn step(&self) -> Result<()> {
        self.advance(1)
    }

    /// `steps` more are done.
    ///
    /// # Errors
    /// As [`Progress::step`].
    pub fn advance(&self, steps: usize) -> Result<()> {
        let mut state = self.state.lock();
        state.done += steps as u64;
        state.changed();
        session::check_interrupt().inspect_err(|_| state.end(false))
    }

    /// `done` steps are done in all.
    pub fn set(&self, done: usize) {
        let mut state = self.state.lock();
        state.done = done as u64;
        state.changed();
    }

    /// Text behind the figures, such as the present file.
    pub fn message(&self, text: impl Into<String>) {
        let mut state = self.state.lock();
        state.message = text.into();
        state.changed();
    }

    /// Everything is done. `message` stays behind the bar.
    pub fn finish(&self, message: impl Into<String>) {
        let mut state = self.state.lock();
        state.message = message.into();
        state.end(true);
    }

    /// Passes on the items of `items` and moves the bar. Ends with one `Err(Interrupted)` if the user asks to stop.
    pub fn iter<I: IntoIterator>(self, items: I) -> ProgressIter<I::IntoIter> {
        ProgressIter {
            items: items.into_iter(),
            progress: self,
            begun: false,
            over: false,
        }
    }
}

impl Render for Progress {
    fn render(&self) -> MimeBundle {
        self.state.lock().look()
    }
}

/// Shows a bar over `items`; see [`Progress::iter`].
///
/// ```
/// # fn main() -> glassbox_prelude::Result<()> {
/// let mut sum = 0;
/// for item in glassbox_prelude::display::progress("adding", [1, 2, 3]) {
///     sum += item?;
/// }
/// assert_eq!(sum, 6);
/// # Ok(()) }
/// ```
pub fn progress<I: IntoIterator>(title: &str, items: I) -> ProgressIter<I::IntoIter> {
    let items = items.into_iter();
    let bar = match items.size_hint() {
        (low, Some(high)) if low == high => Progress::new(title, high),
        _ => Progress::unbounded(title),
    };
    bar.iter(items)
}

/// The items of an iterator with a bar beside them; see [`Progress::iter`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut sum = 0;
/// for number in progress("adding", 1..=4) {
///     sum += number?; // an error when the person stops it
/// }
/// assert_eq!(sum, 10);
/// # Ok(()) }
/// ```
pub struct ProgressIter<I> {
    items: I,
    progress: Progress,
    begun: bool,
    over: bool,
}

impl<I: Iterator> Iterator for ProgressIter<I> {
    type Item = Result<I::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        // The item handed out before is done when the next one is asked for.
        let step = self.progress.advance(usize::from(self.begun));
        self.begun = true;
        if let Err(interrupted) = step {
            self.over = true;
            return Some(Err(interrupted));
        }
        let item = self.items.next();
        if item.is_none() {
            self.over = true;
            self.progress.state.lock().end(true);
        }
        item.map(Ok)
    }
}

impl Followed for State {
    fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }

    fn look(&self) -> MimeBundle {
        self.bundle(self.begun.elapsed())
    }
}

impl State {
    fn end(&mut self, finished: bool) {
        if self.end == End::Running {
            let took = self.begun.elapsed();
            self.end = if finished {
                End::Finished(took)
            } else {
                End::Stopped(took)
            };
        }
        self.settle();
    }

    fn bundle(&self, elapsed: Duration) -> MimeBundle {
        let figures = self.figures(elapsed);
        let fraction = match (self.total, self.end) {
            (_, End::Finished(_)) => 1.0,
            (Some(total), _) => self.done as f64 / total.max(1) as f64,
            (None, _) => 0.0,
        };
        let color = match self.end {
            End::Running => "#1f77b4",
            End::Finished(_) => html::GREEN,
            End::Stopped(_) => html::RED,
        };
        let markup = format!(
            "<div style=\"font-family:{};font-size:13px;margin:2px 0\">{} {} {}</div>",
            html::SANS,
            html::escape(&self.title),
            html::bar(fraction, 220, 12, color),
            html::escape(&figures),
        );
        let title = if self.title.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.title)
        };
        MimeBundle::text(format!("{title}{figures}")).with_html(markup)
    }

    /// `37/100 · 37.0% · 12.3/s · 0:05 left · message`
    fn figures(&self, elapsed: Duration) -> String {
        let mut parts = vec![match self.total {
            Some(total) => format!("{}/{}", number::count(self.done), number::count(total)),
            None => number::count(self.done),
        }];
        let elapsed = match self.end {
            End::Running => elapsed,
            End::Finished(took) | End::Stopped(took) => took,
        };
        if let (Some(total), End::Running) = (self.total, self.end)
            && total > 0
        {
            parts.push(format!("{:.0}%", self.done as f64 / total as f64 * 100.0));
        }
        let rate = self.done as f64 / elapsed.as_secs_f64();
        if self.done > 0 && rate.is_finite() {
            parts.push(format!("{}/s", number::float(rate)));
        }
        match self.end {
            End::Running => {
                if let Some(left) = time_left(self.done, self.total, elapsed) {
                    parts.push(format!("{} left", number::duration(left)));
                }
            }
            End::Finished(took) => parts.push(format!("done in {}", number::duration(took))),
            End::Stopped(took) => parts.push(format!("stopped after {}", number::duration(took))),
        }
        if !self.message.is_empty() {
            parts.push(self.message.clone());
        }
        parts.join(" · ")
    }
}

/// What remains at the present pace; `None` before the first step, at the end, and for work of unknown length.
pub(crate) fn time_left(done: u64, total: Option<u64>, elapsed: Duration) -> Option<Duration> {
    let left = total?.checked_sub(done)?;
    if done == 0 || left == 0 {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * left as f64 / done as f64).ok()
}

impl Drop for State {
    fn drop(&mut self) {
        if self.end == End::Running {
            let complete = self.total == Some(self.done);
            self.end(complete);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(done: u64, total: Option<u64>, end: End) -> State {
        State {
            title: "train <x>".into(),
            message: "epoch 1".into(),
            done,
            total,
            begun: Instant::now(),
            end,
            slot: Slot::new(UPDATES),
        }
    }

    #[test]
    fn figures_say_rate_and_time_left() {
        let figures = state(25, Some(100), End::Running).figures(Duration::from_secs(5));
        assert_eq!(figures, "25/100 · 25% · 5/s · 15.0 s left · epoch 1");
        let unknown = state(10, None, End::Running).figures(Duration::from_secs(5));
        assert_eq!(unknown, "10 · 2/s · epoch 1");
        let nothing = state(0, Some(0), End::Running).figures(Duration::ZERO);
        assert_eq!(nothing, "0/0 · epoch 1");
    }

    #[test]
    fn the_end_is_static_and_text_is_escaped() {
        let ended = state(100, Some(100), End::Finished(Duration::from_secs(20)));
        let bundle = ended.bundle(Duration::from_secs(99));
        assert_eq!(
            bundle.plain(),
            "train <x>: 100/100 · 5/s · done in 20.0 s · epoch 1"
        );
        assert!(
            bundle.html().is_some_and(
                |html| html.contains("train &lt;x&gt;") && html.contains("width:100.0%")
            )
        );
        std::mem::forget(ended); // dropping would print it
    }

    #[test]
    fn time_left_knows_its_limits() {
        assert_eq!(time_left(0, Some(10), Duration::from_secs(1)), None);
        assert_eq!(time_left(10, Some(10), Duration::from_secs(1)), None);
        assert_eq!(time_left(11, Some(10), Duration::from_secs(1)), None);
        assert_eq!(
            time_left(1, Some(3), Duration::from_secs(2)),
            Some(Duration::from_secs(4))
        );
    }
}
