//! Comms: messages between controls in cells and their halves in the browser.
//!
//! ```text
//! browser ── comm_open, comm_msg, comm_close on shell ──▶ server ──▶ worker ──▶ Session::deliver
//!         ◀── the same on iopub ◀──────────────── Event::Comm ◀──────────────────────┘
//! ```
//! The kernel knows which comms are open, and what they mean is the prelude's. A message for a comm that is not open changes nothing.
//! One question is answered here: a page that was loaded asks for the states of all controls, and where there are none need not wait
//! for the session to start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jupyter_protocol::JupyterMessage;
use serde_json::{Map, Value, json};

use super::wire::Request;
use crate::session::{Comm, CommKind};

/// Targets that begin so are known to the prelude.
const TARGETS: &str = "jupyter.widget";
/// The target by which a page asks for the states of all controls.
const CONTROL: &str = "jupyter.widget.control";
/// The version of ipywidgets' protocol that the prelude speaks.
const WIDGETS_VERSION: &str = "2.1.0";

/// The comms that are open: id to target. Clones are the same table.
#[derive(Clone, Default)]
pub struct Comms(Arc<Mutex<BTreeMap<String, String>>>);

impl Comms {
    /// The message of a request, if it is for a comm that is, or now becomes, open.
    pub fn received(&self, request: &Request) -> Option<Comm> {
        let (id, target) = (request.text("comm_id"), request.text("target_name"));
        let mut open = self.lock();
        let kind = match request.kind() {
            "comm_open" if target.starts_with(TARGETS) && !id.is_empty() => {
                open.insert(id.to_owned(), target.to_owned());
                CommKind::Open
            }
            "comm_msg" if open.contains_key(id) => CommKind::Message,
            "comm_close" => {
                open.remove(id)?;
                CommKind::Close
            }
            _ => return None,
        };
        Some(Comm {
            kind,
            id: id.to_owned(),
            target: target.to_owned(),
            data: request.content.get("data").cloned().unwrap_or_default(),
        })
    }

    /// The answer to a page that asks for the states of all controls while there are none.
    pub fn none_to_tell_of(&self, request: &Request) -> Option<JupyterMessage> {
        let open = self.lock();
        let id = request.text("comm_id");
        let asked = request.kind() == "comm_msg"
            && open.get(id).is_some_and(|target| target == CONTROL)
            && method(request) == Some("request_states");
        (asked && open.values().all(|target| target == CONTROL)).then(|| {
            let data = json!({ "method": "update_states", "states": {}, "buffer_paths": [] });
            request.broadcast("comm_msg", json!({ "comm_id": id, "data": data }))
        })
    }

    /// What the prelude says, as a message that `cause` caused.
    pub fn sent(&self, cause: &Request, comm: Comm) -> JupyterMessage {
        let mut open = self.lock();
        match comm.kind {
            CommKind::Open => {
                open.insert(comm.id.clone(), comm.target.clone());
                let content =
                    json!({ "comm_id": comm.id, "target_name": comm.target, "data": comm.data });
                cause.broadcast_with("comm_open", content, json!({ "version": WIDGETS_VERSION }))
            }
            CommKind::Close => {
                open.remove(&comm.id);
                close(cause, &comm.id)
            }
            _ => cause.broadcast("comm_msg", json!({ "comm_id": comm.id, "data": comm.data })),
        }
    }

    /// The ids of all that are open.
    pub fn ids(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Forgets these: their process is gone. Returns what tells the browser so.
    pub fn lost(&self, cause: &Request, ids: &[String]) -> Vec<JupyterMessage> {
        let mut open = self.lock();
        ids.iter()
            .filter(|id| open.remove(*id).is_some())
            .map(|id| close(cause, id))
            .collect()
    }

    /// The content of `comm_info_reply`: those of a target, or all.
    pub fn info(&self, target: &str) -> Value {
        let open = self.lock();
        let comms: Map<String, Value> = open
            .iter()
            .filter(|(_, of)| target.is_empty() || *of == target)
            .map(|(id, of)| (id.clone(), json!({ "target_name": of })))
            .collect();
        json!({ "status": "ok", "comms": comms })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the browser that a comm is closed, or never was open.
pub fn close(cause: &Request, id: &str) -> JupyterMessage {
    cause.broadcast("comm_close", json!({ "comm_id": id, "data": {} }))
}

/// What a message to a control asks for.
fn method(request: &Request) -> Option<&str> {
    request.content.pointer("/data/method")?.as_str()
}

/// Whether `later` makes `earlier` needless: the same control moved on while the first message waited.
pub fn replaces(later: &Request, earlier: &Request) -> bool {
    let update =
        |request: &Request| request.kind() == "comm_msg" && method(request) == Some("update");
    let keys = |request: &Request| -> Option<Vec<String>> {
        let state = request.content.pointer("/data/state")?.as_object()?;
        Some(state.keys().cloned().collect())
    };
    update(later)
        && update(earlier)
        && later.text("comm_id") == earlier.text("comm_id")
        && keys(earlier).is_some_and(|earlier| {
            keys(later).is_some_and(|later| earlier.iter().all(|key| later.contains(key)))
        })
}
