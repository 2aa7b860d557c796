//! Events: what happens in a cell and the host should know.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Something that happened in a cell.
///
/// As JSON an object whose `event` is the variant's name in small letters. A field that is missing is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Show this, below what was shown before.
    Display {
        /// What to show.
        #[serde(flatten)]
        bundle: Bundle,
        /// A name under which it can be replaced later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_id: Option<String>,
    },
    /// Replace every display of this name.
    Update {
        /// What to show instead.
        #[serde(flatten)]
        bundle: Bundle,
        /// The name given when it was first shown.
        #[serde(default)]
        display_id: String,
    },
    /// The value of the cell's last expression.
    Result {
        /// What to show.
        #[serde(flatten)]
        bundle: Bundle,
    },
    /// The value of the cell's last expression begins to show itself, or has done so: what it writes meanwhile in the way of crates made
    /// for evcxr is one value's, each block in another format.
    Showing {
        /// Whether it begins.
        #[serde(default)]
        begins: bool,
    },
    /// Code of the cell itself calls what shows itself in the way of crates made for evcxr, or has done so: only what is written meanwhile, or
    /// between two [`Event::Showing`], is taken for displays.
    ByHand {
        /// Whether it begins.
        #[serde(default)]
        begins: bool,
    },
    /// Remove what the cell has shown so far.
    Clear {
        /// Wait for the next display before removing, so that nothing flickers.
        #[serde(default)]
        wait: bool,
    },
    /// Code panicked. Whether the cell failed is for the host to say: the code may have caught it.
    Panic(PanicReport),
    /// A `?` in the cell met an error.
    Error {
        /// The error's own message.
        #[serde(default)]
        message: String,
        /// The messages of its sources, outermost first.
        #[serde(default)]
        chain: Vec<String>,
        /// The places in functions of cells that it passed, innermost first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        trail: Vec<Passed>,
    },
    /// Work has begun that is finished before the cell stops, or is over.
    Stopping {
        /// So long it may take from now; 0 if there is none any more.
        #[serde(default)]
        milliseconds: u64,
        /// What is done.
        #[serde(default)]
        what: String,
    },
    /// The cell waits for a line of text from the person at the notebook.
    Input {
        /// The number of the question, which the answer repeats.
        #[serde(default)]
        id: u64,
        /// What to show before the line.
        #[serde(default)]
        prompt: String,
        /// Whether what is typed is kept hidden.
        #[serde(default)]
        password: bool,
    },
    /// The cell reads standard input, which is empty.
    Stdin {
        /// The number of the read, which the answer repeats.
        #[serde(default)]
        id: u64,
    },
    /// For the browser's half of a control.
    Comm(Comm),
    /// What stands up to the next of these is of a thread that another cell than the running one began.
    Of {
        /// The cell's number for the host; 0 for the end of it.
        #[serde(default)]
        cell: u64,
    },
    /// The child begins to run a cell's code.
    Began,
    /// The cell's code has returned.
    Ended {
        /// Its panic was caught by the code around the cell.
        #[serde(default)]
        panicked: bool,
        /// A `?` ended it.
        #[serde(default)]
        failed: bool,
        /// The error of that `?` says that the user interrupted.
        #[serde(default)]
        interrupted: bool,
        /// The line of that `?` in the generated source, from 1; 0 if it is not known.
        #[serde(default)]
        line: u32,
        /// Its column, from 1.
        #[serde(default)]
        column: u32,
    },
    /// The cell is over and everything it printed is flushed.
    CellEnd {
        /// The number that the child gave the cell.
        #[serde(default)]
        seq: u64,
    },
}

/// One value in several formats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// MIME type to content: text, base64 text for binary types, or JSON.
    #[serde(default)]
    pub data: Map<String, Value>,
    /// What front ends are told of each format.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// A message between the two halves of a control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comm {
    /// What happens to the comm.
    pub kind: CommKind,
    /// The comm's id.
    #[serde(default)]
    pub id: String,
    /// The target that it is opened for.
    #[serde(default)]
    pub target: String,
    /// What is said.
    #[serde(default)]
    pub data: Value,
}

/// What happens to a comm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommKind {
    /// It begins.
    #[serde(rename = "comm_open")]
    Open,
    /// Something is said.
    #[serde(rename = "comm_msg")]
    Message,
    /// It ends.
    #[serde(rename = "comm_close")]
    Close,
}

/// A place in the code of a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passed {
    /// The file of the library that the code is in; empty if it is not known.
    pub library: String,
    /// Line in the generated source, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// What is known of a panic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PanicReport {
    /// What the code said.
    pub message: String,
    /// Source file, as the compiler knew it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Name of the thread, `main` for the one that runs cells.
    pub thread: String,
    /// The file of the library that the code is in; empty if it is not known.
    pub library: String,
    /// One function a line, innermost first, without the machinery around the cell.
    pub backtrace: String,
}

impl Event {
    /// The event in the JSON of a frame; `None` for what is no event, or one of another version.
    pub fn from_json(json: &[u8]) -> Option<Event> {
        // By way of a value, whose long texts are moved and not copied.
        let value: Value = serde_json::from_slice(json).ok()?;
        serde_json::from_value(value).ok()
    }

    /// The JSON of a frame.
    pub fn to_json(&self) -> String {
        // Keys are text and there is nothing in an event that JSON lacks, so this does not fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn comes_back(event: &Event) -> Value {
        let json = event.to_json();
        assert_eq!(
            Event::from_json(json.as_bytes()).as_ref(),
            Some(event),
            "{json}"
        );
        serde_json::from_str(&json).expect("it is JSON")
    }

    #[test]
    fn every_event_comes_back_from_its_json() {
        let mut bundle = Bundle::default();
        bundle
            .data
            .insert("text/plain".into(), json!("é\u{1b}\\ \"quoted\"\n"));
        bundle.data.insert(
            "application/json".into(),
            json!({"b": 1.5e-300, "a": [null, 18_446_744_073_709_551_615_u64]}),
        );
        bundle
            .metadata
            .insert("text/plain".into(), json!({"width": 400}));
        let shown = comes_back(&Event::Display {
            bundle: bundle.clone(),
            display_id: None,
        });
        assert_eq!(shown["event"], "display");
        assert!(shown.get("display_id").is_none());
        let keys: Vec<&String> = shown["data"]["application/json"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        assert_eq!(keys, ["b", "a"], "the order is kept");
        comes_back(&Event::Display {
            bundle: bundle.clone(),
            display_id: Some("a".into()),
        });
        comes_back(&Event::Update {
            bundle: bundle.clone(),
            display_id: "a".into(),
        });
        comes_back(&Event::Result { bundle });
        comes_back(&Event::Showing { begins: true });
        comes_back(&Event::ByHand { begins: true });
        comes_back(&Event::Clear { wait: true });
        let report = PanicReport {
            message: "no".into(),
            line: 3,
            column: 5,
            ..PanicReport::default()
        };
        assert_eq!(comes_back(&Event::Panic(report))["column"], 5);
        comes_back(&Event::Error {
            message: "bad".into(),
            chain: vec!["worse".into()],
            trail: vec![Passed {
                library: "cell.so".into(),
                line: 3,
                column: 5,
            }],
        });
        comes_back(&Event::Stopping {
            milliseconds: 120_000,
            what: "saving".into(),
        });
        comes_back(&Event::Input {
            id: u64::MAX,
            prompt: "name? ".into(),
            password: true,
        });
        assert_eq!(comes_back(&Event::Stdin { id: 5 })["event"], "stdin");
        let comm = Comm {
            kind: CommKind::Message,
            id: "1".into(),
            target: "t".into(),
            data: json!([1]),
        };
        assert_eq!(comes_back(&Event::Comm(comm))["kind"], "comm_msg");
        comes_back(&Event::Of { cell: 3 });
        comes_back(&Event::Began);
        comes_back(&Event::Ended {
            panicked: true,
            failed: false,
            interrupted: false,
            line: 7,
            column: 2,
        });
        assert_eq!(comes_back(&Event::CellEnd { seq: 7 })["event"], "cell_end");
    }

    #[test]
    fn what_is_missing_is_empty_and_what_is_unknown_is_no_event() {
        let display = Event::from_json(br#"{"event":"display","data":{"text/plain":"x"}}"#);
        assert!(matches!(
            display,
            Some(Event::Display {
                display_id: None,
                ..
            })
        ));
        assert_eq!(
            Event::from_json(br#"{"event":"ended","failed":true,"later":1}"#),
            Some(Event::Ended {
                panicked: false,
                failed: true,
                interrupted: false,
                line: 0,
                column: 0
            })
        );
        for none in [
            "",
            "{}",
            "3",
            r#"{"event":"of_a_newer_version"}"#,
            r#"{"event":"display","data":3}"#,
        ] {
            assert_eq!(Event::from_json(none.as_bytes()), None, "{none}");
        }
    }
}
