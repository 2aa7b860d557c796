//! The process with rust-analyzer in it: orders go to its stdin, answers come from its stdout.
//!
//! Threads write and read, so that a process that does neither holds up nobody. It ends when this is dropped.

use std::io::{self, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use glassbox_analyst_wire::{ANSWER, Answer, Order, line};

use crate::programs;

pub(super) struct Talk {
    process: Child,
    orders: Sender<Order>,
    answers: Receiver<Answer>,
}

impl Talk {
    pub(super) fn start(program: &Path) -> io::Result<Talk> {
        let mut command = programs::command(program);
        command
            .arg(ANSWER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A panic of rust-analyzer is an answer like others, not for the terminal.
            .stderr(Stdio::null());
        programs::until_we_end(programs::apart(&mut command));
        let mut process = command.spawn()?;
        let (to, from) = (process.stdin.take(), process.stdout.take());
        let (orders, waiting) = unbounded::<Order>();
        let (told, answers) = unbounded();
        let write = move || {
            let Some(mut to) = to else { return };
            for order in waiting {
                if line::send(&mut to, &order).is_err() {
                    return;
                }
            }
        };
        let read = move || {
            let Some(from) = from else { return };
            let mut from = BufReader::new(from);
            // What is no answer ends it: what comes next could be one to another question.
            while let Ok(Some(answer)) = line::receive(&mut from) {
                if told.send(answer).is_err() {
                    return;
                }
            }
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let talk = Talk {
            process,
            orders,
            answers,
        };
        thread("analyst-orders").spawn(write)?;
        thread("analyst-answers").spawn(read)?;
        Ok(talk)
    }

    /// Whether the process is there.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Sends an order. To a process that has ended it goes nowhere, and no answer comes.
    pub(super) fn send(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// The next answer; without one the process has ended.
    pub(super) fn answer(&self, wait: Duration) -> Result<Answer, RecvTimeoutError> {
        self.answers.recv_timeout(wait)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
