//! ctrl-c and `kill` → the running cell.
//!
//! While a session runs cells, SIGINT asks the running cell to stop and a second one ends it; otherwise SIGINT ends the
//! program. SIGTERM and SIGHUP end the running cell, so that what was made so far is still saved.
//!
//! A command that saves when it is asked to stop ([`Interrupts::gently`]) may be told by several at once: `scancel` sends SIGTERM to a script and
//! to all that the script started, and the script passes its own on; a launcher of ranks does the same with ctrl-c. That is one wish, and a second
//! signal must not end the saving. A batch system ends by SIGKILL what does not stop, and a person has a ctrl-c later.
//!
//! Where a person types cells, ctrl-c comes from a keyboard: one that is held down repeats it, and it may come just after
//! the cell has ended. Neither may cost the variables, let alone end the program.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::failure::Exit;
use crate::notebook::watch::Watch;
use crate::patience;

#[derive(Default)]
struct State {
    watch: Option<Watch>,
    received: usize,
    /// SIGINT comes from a person who types cells.
    typed: bool,
    /// What runs saves what it has made when it is asked to stop: SIGTERM and SIGHUP ask once, too.
    gentle: bool,
    last: Option<Instant>,
}

impl State {
    /// Whether a signal that came now says nothing new.
    fn ignores(&mut self, signal: i32, now: Instant) -> bool {
        let last = self.last.replace(now);
        let repeated = last.is_some_and(|last| now.duration_since(last) < patience::REPEAT);
        let saves = self.gentle && self.watch.is_some();
        match signal {
            SIGINT => (self.typed && (self.watch.is_none() || repeated)) || (saves && repeated),
            _ => saves && self.received > 0,
        }
    }
}

/// The program's signal handling. Made once, before the first session.
#[derive(Clone, Default)]
pub struct Interrupts {
    state: Arc<Mutex<State>>,
}

impl Interrupts {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn listen() -> std::io::Result<Interrupts> {
        let interrupts = Interrupts::default();
        let state = Arc::clone(&interrupts.state);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.ignores(signal, Instant::now()) {
                    continue;
                }
                state.received += 1;
                match &state.watch {
                    Some(watch) if state.received < patience::LAST => {
                        watch.request();
                        if signal != SIGINT && !state.gentle {
                            watch.request();
                        }
                    }
                    _ => std::process::exit(Exit::Interrupted.code().into()),
                }
            }
        });
        Ok(interrupts)
    }

    /// From now on a person types cells: between them SIGINT is the editor's business, not the program's end.
    pub fn typed(&self) {
        self.change(|state| state.typed = true);
    }

    /// From now on SIGTERM and SIGHUP, which batch systems send some time before they kill, ask as ctrl-c does: what runs saves what it has
    /// made, however often they come.
    pub fn gently(&self) {
        self.change(|state| state.gentle = true);
    }

    /// From now on signals go to this session's cells.
    pub fn send_to(&self, watch: &Watch) {
        self.change(|state| {
            state.watch = Some(watch.clone());
            state.received = 0;
            state.last = None;
        });
    }

    /// A new cell starts: earlier signals don't count any more.
    pub fn new_cell(&self) {
        self.change(|state| state.received = 0);
    }

    /// The session has ended, or the cell that a person typed: signals other than ctrl-c end the program again.
    pub fn release(&self) {
        self.change(|state| {
            *state = State {
                typed: state.typed,
                gentle: state.gentle,
                ..State::default()
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_held_down_is_one_ctrl_c_and_between_cells_it_is_none() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut typed = State {
            typed: true,
            ..State::default()
        };
        assert!(typed.ignores(SIGINT, at(0)), "no cell runs");
        typed.watch = Some(Watch::default());
        typed.last = None;
        let taken: Vec<u64> = [0, 500, 530, 560, 2000]
            .into_iter()
            .filter(|milliseconds| !typed.ignores(SIGINT, at(*milliseconds)))
            .collect();
        assert_eq!(taken, [0, 2000]);
        let mut run = State::default();
        assert!(!run.ignores(SIGINT, at(0)) && !run.ignores(SIGINT, at(1)));
    }

    #[test]
    fn what_saves_is_asked_once_however_many_pass_the_signal_on() {
        let start = Instant::now();
        let taken = |gentle: bool, sent: &[(i32, u64)]| -> Vec<u64> {
            let mut state = State {
                watch: Some(Watch::default()),
                gentle,
                ..State::default()
            };
            let mut taken = Vec::new();
            for (signal, milliseconds) in sent {
                if !state.ignores(*signal, start + Duration::from_millis(*milliseconds)) {
                    state.received += 1;
                    taken.push(*milliseconds);
                }
            }
            taken
        };
        let scancel = [(SIGTERM, 0), (SIGTERM, 3), (SIGHUP, 40), (SIGTERM, 9000)];
        assert_eq!(taken(true, &scancel), [0]);
        assert_eq!(taken(false, &scancel), [0, 3, 40, 9000]);
        // A launcher's ctrl-c, and long after it a second one, which is meant.
        let launcher = [(SIGINT, 0), (SIGTERM, 5), (SIGINT, 20), (SIGINT, 3000)];
        assert_eq!(taken(true, &launcher), [0, 3000]);
    }
}
