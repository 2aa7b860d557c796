//! Where the time of a cell goes.

use std::time::{Duration, Instant};

use crate::session::event::Display;

/// The phases of a cell and how long each took.
pub(super) struct Clock {
    last: Instant,
    pub laps: Vec<(String, Duration)>,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock {
            last: Instant::now(),
            laps: Vec::new(),
        }
    }

    /// Everything since the last lap was this phase.
    pub(super) fn lap(&mut self, name: &str) {
        let spent = self.last.elapsed();
        self.add(name, spent);
    }

    /// A phase that was measured elsewhere.
    pub(super) fn add(&mut self, name: &str, spent: Duration) {
        self.last = Instant::now();
        match self.laps.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += spent,
            None => self.laps.push((name.to_owned(), spent)),
        }
    }

    pub(super) fn display(&self) -> Display {
        let ms = |spent: Duration| format!("{:.1} ms", spent.as_secs_f64() * 1e3);
        let all: Duration = self.laps.iter().map(|(_, spent)| *spent).sum();
        let phases: Vec<String> = self
            .laps
            .iter()
            .map(|(name, spent)| format!("{name} {}", ms(*spent)))
            .collect();
        Display::text(format!("{} = {}", ms(all), phases.join(" + ")))
    }
}
