//! What threads write that cells began, when it is not their cell's turn: another cell runs, or none.
//!
//! ```text
//! Streams ─▶ messages ─┬─ a cell runs ──▶ pump ──────┬─ its own ───▶ the cell's sink
//!                      │                             └─ `of` others ─┐
//!                      └─ none runs ───▶ Listener ───────────────────┴▶ Background ─▶ the front end's sink, or the next cell's
//! ```
//! Somebody reads at any time, so that no thread waits in `println!`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::frames::{Incoming, PanicReport};
use super::input::Input;
use super::streams::Message;
use crate::session::event::{Event, StreamName};
use crate::session::reports::trail::Code;
use crate::session::reports::{self, CellSource};

/// Takes what a thread of a cell, which is named by its number, says when it is not that cell's turn.
pub type BackgroundSink = Box<dyn FnMut(u64, Event) + Send>;

/// So many bytes are kept for the next cell where no front end takes them at once.
const KEPT: usize = 4 << 20;
/// Of so many cells it is known what their lines are, for panics of their threads.
const SOURCES: usize = 64;

/// Where it goes. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Background(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sink: Option<BackgroundSink>,
    kept: VecDeque<(u64, Event)>,
    bytes: usize,
    /// Something did not fit.
    lost: bool,
    /// The cell that began last.
    last: u64,
}

impl Background {
    /// The cell with this number begins.
    pub(crate) fn begin(&self, cell: u64) {
        self.lock().last = cell;
    }

    /// From now on `sink` takes what is said; what was said before is passed on at once.
    pub(crate) fn set_sink(&self, sink: Option<BackgroundSink>) {
        let mut state = self.lock();
        state.sink = sink;
        if state.sink.is_some() {
            let kept: Vec<(u64, Event)> = state.take_kept();
            kept.into_iter()
                .for_each(|(cell, event)| state.pass(cell, event));
        }
    }

    /// What was said since the last cell, if nobody took it.
    pub(crate) fn take_kept(&self) -> Vec<(u64, Event)> {
        self.lock().take_kept()
    }

    /// Passes an event on; gives it back if no front end takes it at once.
    pub(crate) fn pass(&self, cell: u64, event: Event) -> Option<Event> {
        let mut state = self.lock();
        if state.sink.is_none() {
            return Some(event);
        }
        state.pass(cell, event);
        None
    }

    fn keep(&self, cell: u64, event: Event) {
        self.lock().pass(cell, event);
    }

    /// Says something of the session's own, as if the last cell did.
    pub(crate) fn say(&self, event: Event) {
        let mut state = self.lock();
        let last = state.last;
        state.pass(last, event);
    }

    fn last(&self) -> u64 {
        self.lock().last
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pass(&mut self, cell: u64, event: Event) {
        if let Some(sink) = &mut self.sink {
            return sink(cell, event);
        }
        self.bytes += size(&event);
        if self.bytes > KEPT {
            self.lost = true;
            return;
        }
        self.kept.push_back((cell, event));
    }

    fn take_kept(&mut self) -> Vec<(u64, Event)> {
        let mut kept: Vec<(u64, Event)> = self.kept.drain(..).collect();
        if std::mem::take(&mut self.lost) {
            let note = format!(
                "[threads of earlier cells wrote {} MB more between the cells, which nobody took]\n",
                self.bytes.saturating_sub(KEPT) / (1 << 20)
            );
            kept.push((self.last, stderr(note)));
        }
        self.bytes = 0;
        kept
    }
}

/// About how much memory an event takes.
fn size(event: &Event) -> usize {
    match event {
        Event::Stream { text, .. } => text.len(),
        Event::Display(display) | Event::Update(display) | Event::Result(display) => {
            let texts = display.data.values();
            texts
                .map(|value| value.as_str().map_or(64, str::len))
                .sum::<usize>()
        }
        _ => 64,
    }
}

pub(crate) fn stderr(text: String) -> Event {
    Event::Stream {
        name: StreamName::Stderr,
        text,
    }
}

/// What the lines of cells are, by the files that they were compiled to.
#[derive(Clone, Default)]
pub(crate) struct Sources(Arc<Mutex<VecDeque<Source>>>);

struct Source {
    library: String,
    code: String,
    generated: String,
}

impl Sources {
    /// A cell was compiled to `library`.
    pub(crate) fn note(&self, library: &std::path::Path, code: &str, generated: &str) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() == SOURCES {
            sources.pop_front();
        }
        sources.push_back(Source {
            library: library.to_string_lossy().into_owned(),
            code: code.to_owned(),
            generated: generated.to_owned(),
        });
    }

    /// What a library was compiled from.
    pub(crate) fn code_of(&self, library: &str) -> Option<Code> {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = sources.iter().rev();
        let found = newest.find(|source| source.library == library)?;
        Some(Code {
            cell: found.code.clone(),
            generated: found.generated.clone(),
        })
    }

    /// What is said of a thread's panic.
    pub(crate) fn tell(&self, panic: &PanicReport) -> Event {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sources
            .iter()
            .rev()
            .find(|source| source.library == panic.library);
        let (code, generated) = found.map_or(("", ""), |source| (&source.code, &source.generated));
        let lines = reports::in_thread(&CellSource::new(code, generated), panic);
        stderr(lines.join("\n") + "\n")
    }
}

/// The thread that reads while no cell runs.
pub(crate) struct Listener {
    /// Who sends here reads instead, until `resume`.
    pause: Option<Sender<()>>,
    resume: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub(crate) fn start(
        messages: Receiver<Message>,
        background: Background,
        input: Arc<Mutex<Input>>,
        sources: Sources,
    ) -> std::io::Result<Listener> {
        // Who pauses goes on only once the thread has taken it, and so reads nothing more.
        let (pause, paused) = bounded(0);
        let (resume, resumed) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("background output".to_owned())
            .spawn(move || {
                loop {
                    select! {
                        recv(paused) -> asked => {
                            if asked.is_err() || resumed.recv().is_err() {
                                return;
                            }
                        }
                        recv(messages) -> message => match message {
                            Ok(Message::Incoming(incoming)) => {
                                take(incoming, background.last(), &background, &input, &sources);
                            }
                            Ok(Message::Drained) => {}
                            Err(_) => return,
                        }
                    }
                }
            })?;
        Ok(Listener {
            pause: Some(pause),
            resume: Some(resume),
            thread: Some(thread),
        })
    }

    /// A cell begins, whose pump reads.
    pub(crate) fn pause(&self) {
        // The thread ends only with the session.
        if let Some(pause) = &self.pause {
            let _ = pause.send(());
        }
    }

    /// It has ended.
    pub(crate) fn resume(&self) {
        if let Some(resume) = &self.resume {
            let _ = resume.send(());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.pause.take());
        drop(self.resume.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn take(
    incoming: Incoming,
    cell: u64,
    background: &Background,
    input: &Mutex<Input>,
    sources: &Sources,
) {
    match incoming {
        Incoming::Of(cell, incoming) => take(*incoming, cell, background, input, sources),
        Incoming::Event(event) => background.keep(cell, event),
        Incoming::Content(display) => background.keep(cell, Event::Display(display)),
        Incoming::Panic(panic) => background.keep(cell, sources.tell(&panic)),
        // A question is its cell's, and nobody waits at the keyboard for this one.
        Incoming::Input { id, .. } => lock(input).refuse(id),
        Incoming::Stdin { id, .. } => lock(input).refuse_stdin(id),
        Incoming::Error { .. }
        | Incoming::Stopping { .. }
        | Incoming::Began
        | Incoming::Ended { .. } => {}
    }
}

pub(crate) fn lock(input: &Mutex<Input>) -> MutexGuard<'_, Input> {
    input.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Event {
        stderr(text.to_owned())
    }

    #[test]
    fn what_nobody_takes_is_kept_in_order_and_within_bounds() {
        let background = Background::default();
        background.begin(7);
        background.keep(3, text("a"));
        background.keep(4, text("b"));
        assert_eq!(background.take_kept(), [(3, text("a")), (4, text("b"))]);
        let large = "x".repeat(KEPT / 2 + 1);
        for _ in 0..4 {
            background.keep(3, text(&large));
        }
        let kept = background.take_kept();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[1].0, 7);
        assert!(matches!(&kept[1].1, Event::Stream { text, .. } if text.contains("MB more")));
        background.keep(3, text("again"));
        assert_eq!(background.take_kept().len(), 1);
    }

    #[test]
    fn a_front_end_takes_it_at_once() {
        let background = Background::default();
        background.keep(1, text("before"));
        let (send, taken) = crossbeam_channel::unbounded();
        background.set_sink(Some(Box::new(move |cell, event| {
            let _ = send.send((cell, event));
        })));
        assert_eq!(background.pass(2, text("after")), None);
        let all: Vec<(u64, Event)> = taken.try_iter().collect();
        assert_eq!(all, [(1, text("before")), (2, text("after"))]);
    }
}
