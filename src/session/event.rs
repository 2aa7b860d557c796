//! What a running cell lets its front end know, as plain data.
//!
//! Flow: child process → frames and raw text → `streams` → these values → the front end's sink, while the
//! cell runs.

pub use glassbox_wire::{Comm, CommKind};
use serde_json::{Map, Value};

/// Something that a cell printed or showed.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Text as it came: partial lines and `\r` included.
    Stream {
        /// Which of the two streams.
        name: StreamName,
        /// The text, never empty.
        text: String,
    },
    /// Show this below what was shown before.
    Display(Display),
    /// Replace every display that has this `display_id`.
    Update(Display),
    /// Remove the outputs of the cell so far.
    ClearOutput {
        /// Wait for the next output before removing, so that nothing flickers.
        wait: bool,
    },
    /// The value of the cell's last expression.
    Result(Display),
    /// What a thread said that an earlier cell began, the one with this number: see [`crate::session::Session::number`]. Only a session without a
    /// sink of its own for that, [`crate::session::Session::set_background`], passes it to the cell that runs.
    Background {
        /// The cell.
        cell: u64,
        /// What it said.
        event: Box<Event>,
    },
    /// For the other half of a control, in the browser. Only a session with [`crate::session::SessionConfig::comms`] says this.
    Comm(Comm),
}

/// A cell's question to the person at the notebook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRequest {
    /// What to show before the line.
    pub prompt: String,
    /// Whether what is typed is kept hidden.
    pub password: bool,
}

/// The two text streams of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamName {
    /// `print!`
    Stdout,
    /// `eprint!`
    Stderr,
}

impl StreamName {
    /// The name that Jupyter and `.ipynb` files use.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamName::Stdout => "stdout",
            StreamName::Stderr => "stderr",
        }
    }
}

/// One value in several MIME types, as Jupyter and `.ipynb` files carry it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Display {
    /// MIME type to content: text, base64 text for binary types, or JSON.
    pub data: Map<String, Value>,
    /// Jupyter's display metadata.
    pub metadata: Map<String, Value>,
    /// The name under which it can be updated.
    pub display_id: Option<String>,
}

impl Display {
    /// A display of plain text.
    pub fn text(text: impl Into<String>) -> Display {
        let mut data = Map::new();
        data.insert("text/plain".to_owned(), Value::String(text.into()));
        Display {
            data,
            ..Display::default()
        }
    }

    /// The `text/plain` form, if there is one.
    pub fn plain(&self) -> Option<&str> {
        self.data.get("text/plain").and_then(Value::as_str)
    }
}
