//! Messages between models here and their halves in the browser (Jupyter's comms).
//!
//! Out: [`open`], [`update`] and [`close`] become [`Event::Comm`]. In: the host calls `glassbox_comm` with one message as JSON; it is looked
//! up by the comm's id, which is the model's. `jupyter.widget.control` is the target by which a page that was loaded again asks for
//! the states of all models.
//!
//! Source: ipywidgets' `messages.md`, protocol version 2.1.0.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use glassbox_wire::names::COMMS_VARIABLE;
use serde_json::{Map, Value, json};

use super::model::Model;
use crate::cell;
use crate::error::Result;
use crate::session::{self, Comm, CommKind, Event, Surroundings};

/// The target of a model's comm.
pub const WIDGET: &str = "jupyter.widget";
/// The target by which states are asked for.
pub const CONTROL: &str = "jupyter.widget.control";

#[derive(Default)]
struct Open {
    models: BTreeMap<String, Arc<Model>>,
    /// Comms of the target [`CONTROL`].
    controls: BTreeSet<String>,
}

/// How often a page asked for all states: it was loaded after they were sent.
static LOADS: AtomicUsize = AtomicUsize::new(0);

/// How many pages were loaded so far.
pub(super) fn page_loads() -> usize {
    LOADS.load(Ordering::Relaxed)
}

static OPEN: Mutex<Open> = Mutex::new(Open {
    models: BTreeMap::new(),
    controls: BTreeSet::new(),
});

fn lock() -> MutexGuard<'static, Open> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether somebody reads what is sent here.
pub fn live() -> bool {
    matches!(session::surroundings(), Surroundings::Glassbox { .. })
        && std::env::var_os(COMMS_VARIABLE).is_some()
}

/// Tells the browser of a model and keeps it until its comm is closed.
pub(super) fn open(model: &Arc<Model>) {
    lock().models.insert(model.id().to_owned(), model.clone());
    send(
        CommKind::Open,
        model.id(),
        json!({ "state": model.state(), "buffer_paths": [] }),
    );
}

/// Tells the browser what changed in a model.
pub(super) fn update(id: &str, changed: Map<String, Value>) {
    let data = json!({ "method": "update", "state": changed, "buffer_paths": [] });
    send(CommKind::Message, id, data);
}

/// Takes a model out of the page.
pub(super) fn close(id: &str) {
    if lock().models.remove(id).is_some() {
        send(CommKind::Close, id, json!({}));
    }
}

fn send(kind: CommKind, id: &str, data: Value) {
    if live() {
        session::send(&Event::Comm(Comm {
            kind,
            id: id.to_owned(),
            target: WIDGET.to_owned(),
            data,
        }));
    }
}

/// Does what a message from the browser asks for. What is not understood changes nothing.
///
/// # Errors
/// That of the code which a control runs.
pub fn deliver(message: &Comm) -> Result<()> {
    let id = message.id.as_str();
    match message.kind {
        CommKind::Open if message.target == CONTROL => {
            lock().controls.insert(id.to_owned());
            Ok(())
        }
        // Models are made here, not in the browser.
        CommKind::Open => {
            send(CommKind::Close, id, json!({}));
            Ok(())
        }
        CommKind::Message => said(id, &message.data),
        CommKind::Close => {
            let mut open = lock();
            open.models.remove(id);
            open.controls.remove(id);
            Ok(())
        }
    }
}

fn said(id: &str, data: &Value) -> Result<()> {
    let method = data.get("method").and_then(Value::as_str);
    let (model, control) = {
        let open = lock();
        (open.models.get(id).cloned(), open.controls.contains(id))
    };
    match (model, method) {
        (Some(model), Some("update")) => match data.get("state").and_then(Value::as_object) {
            Some(state) => model.moved(state),
            None => Ok(()),
        },
        (Some(model), Some("request_state")) => {
            update(id, model.state());
            Ok(())
        }
        (Some(model), Some("custom")) => match data.pointer("/content/event") {
            Some(Value::String(event)) if event == "click" => model.clicked(),
            _ => Ok(()),
        },
        (Some(_), _) => Ok(()),
        (None, Some("request_states")) if control => {
            LOADS.fetch_add(1, Ordering::Relaxed);
            let models: Vec<Arc<Model>> = lock().models.values().cloned().collect();
            let states: Map<String, Value> = models
                .iter()
                .map(|model| (model.id().to_owned(), model.described()))
                .collect();
            let data = json!({ "method": "update_states", "states": states, "buffer_paths": [] });
            send(CommKind::Message, id, data);
            Ok(())
        }
        (None, _) if control => Ok(()),
        // The page is older than the process.
        (None, _) => {
            send(CommKind::Close, id, json!({}));
            Ok(())
        }
    }
}

/// Called by the process that runs cells, between two of them, with a message of the browser's: a [`Comm`] as JSON.
///
/// # Safety
/// `json` points to `length` bytes that stay valid during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn glassbox_comm(json: *const u8, length: usize) {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(json, length) };
    let Ok(message) = serde_json::from_slice::<Comm>(bytes) else {
        return;
    };
    cell::run(Box::new(move || Ok(deliver(&message)?)));
}
