//! ctrl-c and `kill` → the running cell.
//!
//! While a session runs cells, SIGINT asks the running cell to stop and a second one ends it; otherwise SIGINT ends the
//! program. SIGTERM and SIGHUP end the running cell, so that what was made so far is still saved.

use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::failure::Exit;
use crate::notebook::watch::Watch;

/// This many times ctrl-c in one cell, and the program ends without waiting for anything.
const PATIENCE: usize = 4;

#[derive(Default)]
struct State {
    watch: Option<Watch>,
    received: usize,
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
                state.received += 1;
                match &state.watch {
                    Some(watch) if state.received < PATIENCE => {
                        watch.request();
                        if signal != SIGINT {
                            watch.request();
                        }
                    }
                    _ => std::process::exit(Exit::Interrupted.code().into()),
                }
            }
        });
        Ok(interrupts)
    }

    /// From now on signals go to this session's cells.
    pub fn send_to(&self, watch: &Watch) {
        self.change(|state| {
            *state = State {
                watch: Some(watch.clone()),
                received: 0,
            }
        });
    }

    /// A new cell starts: earlier signals don't count any more.
    pub fn new_cell(&self) {
        self.change(|state| state.received = 0);
    }

    /// The session has ended: signals end the program again.
    pub fn release(&self) {
        self.change(|state| *state = State::default());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
