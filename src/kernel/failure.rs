//! Errors as Jupyter has them: a name, a value, a traceback.

use serde_json::{Value, json};

use crate::session::CellError;

/// The error triple of Jupyter.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    ename: String,
    evalue: String,
    traceback: Vec<String>,
}

impl Failure {
    pub(super) fn plain(ename: &str, evalue: String) -> Failure {
        let traceback = vec![format!("\u{1b}[31m{ename}\u{1b}[0m: {evalue}")];
        Failure {
            ename: ename.to_owned(),
            evalue,
            traceback,
        }
    }

    /// Of a message that is not understood.
    pub(super) fn unread(why: &str) -> Failure {
        Failure::plain(
            "MessageError",
            format!("the message is not understood: {why}"),
        )
    }

    pub(super) fn content(&self) -> Value {
        json!({ "ename": self.ename, "evalue": self.evalue, "traceback": self.traceback })
    }
}

impl From<CellError> for Failure {
    fn from(error: CellError) -> Failure {
        Failure {
            ename: error.ename,
            evalue: error.evalue,
            traceback: error.traceback,
        }
    }
}

/// The content of a reply that says so.
pub(super) fn error_reply(failure: &Failure) -> Value {
    let mut content = failure.content();
    content["status"] = json!("error");
    content
}
