//! What threads say that cells began, while a person types: whole lines above the prompt, which stays as it is.
//!
//! While a cell runs it stands where it comes, among what the cell shows.

use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reedline::ExternalPrinter;

use super::screen::Screen;
use crate::session::{Event, StreamName};
use crate::terminal_text::{Tamer, tame};

/// So many pieces wait for the prompt.
const WAITING: usize = 64;
/// How long a full line waits before it looks again.
const LOOK: Duration = Duration::from_millis(20);
/// A display that changes is printed this often: each time it takes lines of its own.
const OFTEN: Duration = Duration::from_secs(2);
/// A line that is longer does not wait for its end.
const LONGEST: usize = 8 * 1024;

/// Where it goes. Clones are the same.
#[derive(Clone)]
pub struct Above {
    state: Arc<Mutex<State>>,
    screen: Arc<Mutex<Screen>>,
}

#[derive(Default)]
struct State {
    /// The way to the prompt, while a person types at one that can move.
    prompt: Option<SyncSender<String>>,
    typing: bool,
    /// A line whose end has not come.
    line: String,
    /// What of it a terminal may see.
    tamer: Tamer,
    /// When each display was printed, and its state if that has changed since.
    displays: HashMap<String, (Instant, Option<String>)>,
}

impl Above {
    pub fn new(screen: &Arc<Mutex<Screen>>) -> Above {
        Above {
            state: Arc::default(),
            screen: Arc::clone(screen),
        }
    }

    /// For the editor, whose prompt makes room.
    pub fn printer(&self) -> ExternalPrinter<String> {
        let printer = ExternalPrinter::new(WAITING);
        self.lock().prompt = Some(printer.sender());
        printer
    }

    /// Whether a person types now.
    pub fn typing(&self, typing: bool) {
        let mut state = self.lock();
        state.typing = typing;
        if !typing {
            // What still waits is printed before the cell's own.
            let mut rest = std::mem::take(&mut state.line);
            let displays = state.displays.drain();
            let changed: Vec<String> = displays.filter_map(|(_, (_, text))| text).collect();
            for text in changed {
                rest += &format!("{text}\n");
            }
            drop(state);
            if !rest.is_empty() {
                self.print(&stdout(rest));
            }
        }
    }

    /// Takes what a thread says.
    pub fn event(&self, event: &Event) {
        let mut state = self.lock();
        if !state.typing || state.prompt.is_none() {
            drop(state);
            return self.print(event);
        }
        let lines = match event {
            Event::Stream { text, .. } => state.lines(text),
            Event::Display(display) | Event::Result(display) | Event::Update(display) => {
                let Some(text) = display.plain() else { return };
                let id = display.display_id.as_deref();
                state.display(id, text.trim_end_matches('\n'))
            }
            _ => return,
        };
        drop(state);
        if let Some(lines) = lines {
            self.send(lines);
        }
    }

    fn send(&self, mut lines: String) {
        loop {
            let state = self.lock();
            let Some(prompt) = state.prompt.as_ref().filter(|_| state.typing) else {
                drop(state);
                return self.print(&stdout(lines + "\n"));
            };
            match prompt.try_send(lines) {
                Ok(()) => return,
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => lines = back,
            }
            drop(state);
            std::thread::sleep(LOOK);
        }
    }

    fn print(&self, event: &Event) {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.event(event);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The lines that are whole now, without the last one's end.
    fn lines(&mut self, text: &str) -> Option<String> {
        self.line.push_str(&self.tamer.whole(text));
        let end = match self.line.rfind('\n') {
            Some(end) => end,
            None if self.line.len() > LONGEST => self.line.len(),
            None => return None,
        };
        let rest = self.line.get(end + 1..).unwrap_or_default().to_owned();
        let mut lines = std::mem::replace(&mut self.line, rest);
        lines.truncate(end);
        // The terminal is in the editor's hands, which needs it said where a line begins.
        Some(lines.replace('\n', "\r\n"))
    }

    /// What is to be printed of a display that shows `text` now.
    fn display(&mut self, id: Option<&str>, text: &str) -> Option<String> {
        let text = &*tame(text);
        if let Some(id) = id {
            let before = self.displays.get_mut(id);
            if let Some((printed, changed)) = before
                && printed.elapsed() < OFTEN
            {
                *changed = Some(text.to_owned());
                return None;
            }
            self.displays.insert(id.to_owned(), (Instant::now(), None));
        }
        Some(text.replace('\n', "\r\n"))
    }
}

fn stdout(text: String) -> Event {
    Event::Stream {
        name: StreamName::Stdout,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_out_whole() {
        let mut state = State::default();
        assert_eq!(state.lines("a"), None);
        assert_eq!(state.lines("b\nc\nd").as_deref(), Some("ab\r\nc"));
        assert_eq!(state.lines("\n").as_deref(), Some("d"));
        assert_eq!(
            state.lines(&"x".repeat(LONGEST + 1)).map(|text| text.len()),
            Some(LONGEST + 1)
        );
        assert_eq!(state.line, "");
    }

    #[test]
    fn a_display_that_changes_often_is_printed_now_and_then() {
        let mut state = State::default();
        assert_eq!(state.display(Some("a"), "0%").as_deref(), Some("0%"));
        assert_eq!(state.display(Some("a"), "1%"), None);
        assert_eq!(state.displays["a"].1.as_deref(), Some("1%"));
        assert_eq!(state.display(None, "other").as_deref(), Some("other"));
    }
}
