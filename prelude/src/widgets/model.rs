//! What every control is made of: ipywidgets' state, and the code to run when it changes.
//!
//! A model is told to the browser when it is first shown, with a layout and a style of its own, which are models too.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use serde_json::{Map, Value, json};

use super::comm;
use crate::display::MimeBundle;
use crate::display::html::{self, SANS};
use crate::error::Result;

/// Code that runs when a control was moved. One that is shared by several controls never runs twice at once.
pub type Handler = Arc<Mutex<dyn FnMut() -> Result<()> + Send>>;

/// What the kinds of control differ in.
#[derive(Debug)]
pub struct Kind {
    /// The control's half in the browser, such as `FloatSlider`.
    pub name: &'static str,
    /// Its style's half, such as `SliderStyle`.
    pub style: &'static str,
    /// The key of the state that holds the value, "" if it has none; the others are not changed by the browser.
    pub value: &'static str,
    /// The value that a wish of the browser's leads to, given the state: in bounds, or `None`.
    pub accept: fn(&Map<String, Value>, &Value) -> Option<Value>,
}

/// A control, as both sides know it.
pub struct Model {
    id: String,
    kind: Option<&'static Kind>,
    state: Mutex<Map<String, Value>>,
    /// What its layout says from the beginning.
    layout: Value,
    clicks: AtomicUsize,
    handlers: Mutex<Vec<Handler>>,
    /// Its layout and style, once the browser knows of them.
    parts: Mutex<Option<[Arc<Model>; 2]>>,
}

impl Model {
    /// A control of this kind. `state` is what is its own beside the names of its halves.
    pub(super) fn new(kind: &'static Kind, description: &str, state: Value) -> Arc<Model> {
        let module = "@jupyter-widgets/controls";
        let mut all = names(
            module,
            &format!("{}Model", kind.name),
            module,
            Some(&format!("{}View", kind.name)),
        );
        all.insert("description".into(), description.into());
        all.insert("disabled".into(), false.into());
        if let Value::Object(own) = state {
            all.extend(own);
        }
        let mut model = Model::made(Some(kind), all);
        if kind.style == "SliderStyle" {
            // The label and the number take their part of it.
            model.layout = json!({ "width": "28em" });
        }
        Arc::new(model)
    }

    fn made(kind: Option<&'static Kind>, state: Map<String, Value>) -> Model {
        Model {
            id: new_id(),
            kind,
            state: Mutex::new(state),
            layout: json!({}),
            clicks: AtomicUsize::new(0),
            handlers: Mutex::default(),
            parts: Mutex::default(),
        }
    }

    /// A widget that only shows something, such as `HTML`; its view has the same name.
    pub(super) fn passive(name: &str, state: Value, layout: Value) -> Arc<Model> {
        let module = "@jupyter-widgets/controls";
        let mut all = names(
            module,
            &format!("{name}Model"),
            module,
            Some(&format!("{name}View")),
        );
        if let Value::Object(own) = state {
            all.extend(own);
        }
        let mut model = Model::made(None, all);
        model.layout = layout;
        Arc::new(model)
    }

    /// How the state of another model names this one.
    pub(super) fn reference(&self) -> Value {
        format!("IPY_MODEL_{}", self.id).into()
    }

    /// Changes how the widget is placed.
    pub(super) fn place(&self, key: &str, value: Value) {
        if let Some([layout, _]) = self.opened() {
            layout.lock().insert(key.to_owned(), value.clone());
            comm::update(&layout.id, Map::from_iter([(key.to_owned(), value)]));
        }
    }

    /// The id of the model and its comm.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A copy of the state.
    pub fn state(&self) -> Map<String, Value> {
        self.lock().clone()
    }

    /// What the state says under `key`.
    pub(super) fn get(&self, key: &str) -> Value {
        self.lock().get(key).cloned().unwrap_or_default()
    }

    /// The label beside the control.
    pub(super) fn description(&self) -> String {
        self.get("description")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The state with the model's names outside, as a page that was loaded again wants it.
    pub(super) fn described(&self) -> Value {
        let state = self.state();
        json!({
            "model_name": state.get("_model_name"),
            "model_module": state.get("_model_module"),
            "model_module_version": state.get("_model_module_version"),
            "state": state,
        })
    }

    /// Changes part of the state, here and in the browser, and runs no code.
    pub(super) fn set(&self, key: &str, value: Value) {
        self.lock().insert(key.to_owned(), value.clone());
        if self.opened().is_some() {
            comm::update(&self.id, Map::from_iter([(key.to_owned(), value)]));
        }
    }

    /// Changes the value as the browser would, tells the browser, and runs the control's code.
    ///
    /// # Errors
    /// That of the code.
    pub(super) fn set_value(&self, wish: &Value) -> Result<()> {
        let Some((kind, value)) = self.accepted(wish) else {
            return Ok(());
        };
        self.set(kind.value, value);
        self.changed()
    }

    /// The browser changed the state.
    pub(super) fn moved(&self, state: &Map<String, Value>) -> Result<()> {
        let wish = self.kind.and_then(|kind| state.get(kind.value));
        let Some((kind, value)) = wish.and_then(|wish| self.accepted(wish)) else {
            return Ok(());
        };
        // A browser writes 1.0 as 1.
        let wanted = wish == Some(&value) || wish.and_then(Value::as_f64) == value.as_f64();
        let before = self.lock().insert(kind.value.to_owned(), value.clone());
        if !wanted && self.opened().is_some() {
            // The browser shows a value that is none.
            comm::update(
                &self.id,
                Map::from_iter([(kind.value.to_owned(), value.clone())]),
            );
        }
        match before {
            Some(before) if before == value => Ok(()),
            _ => self.changed(),
        }
    }

    /// How often it was clicked.
    pub(super) fn clicks(&self) -> usize {
        self.clicks.load(Ordering::Relaxed)
    }

    /// The control was clicked.
    pub(super) fn clicked(&self) -> Result<()> {
        self.clicks.fetch_add(1, Ordering::Relaxed);
        self.changed()
    }

    fn accepted(&self, wish: &Value) -> Option<(&'static Kind, Value)> {
        let kind = self.kind?;
        let value = (kind.accept)(&self.lock(), wish)?;
        Some((kind, value))
    }

    /// Runs `handler` after each change from now on.
    pub(super) fn on_change(&self, handler: Handler) {
        self.handlers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(handler);
    }

    fn changed(&self) -> Result<()> {
        let handlers = self
            .handlers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for handler in handlers {
            let mut code = match handler.try_lock() {
                Ok(code) => code,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // The code itself moves the control.
                Err(TryLockError::WouldBlock) => continue,
            };
            code()?;
        }
        Ok(())
    }

    /// What shows the control: itself where the browser can be told of it, else `plain` and `html`.
    pub(super) fn view(self: &Arc<Self>, plain: String, html: &str) -> MimeBundle {
        let shown = MimeBundle::text(plain).with_html(format!(
            "<div style=\"font-family:{SANS};font-size:13px;margin:2px 0\"><b>{}</b>&ensp;{html}</div>",
            html::escape(&self.description()),
        ));
        if !comm::live() {
            return shown;
        }
        self.widget(shown)
    }

    /// Opens the widget and has it shown where a page can; elsewhere `still` is.
    pub(super) fn widget(self: &Arc<Self>, still: MimeBundle) -> MimeBundle {
        self.open();
        still.with(
            "application/vnd.jupyter.widget-view+json",
            json!({ "version_major": 2, "version_minor": 0, "model_id": self.id }),
        )
    }

    pub(super) fn open(self: &Arc<Self>) {
        let style = self.kind.map_or("DescriptionStyle", |kind| kind.style);
        let parts = {
            let mut slot = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.is_some() {
                return;
            }
            let base = "@jupyter-widgets/base";
            let mut layout = names(base, "LayoutModel", base, Some("LayoutView"));
            if let Value::Object(own) = &self.layout {
                layout.extend(own.clone());
            }
            let mut style = names(
                "@jupyter-widgets/controls",
                &format!("{style}Model"),
                base,
                Some("StyleView"),
            );
            // Else labels of more than a word are cut off.
            style.insert("description_width".to_owned(), "initial".into());
            let parts = [layout, style].map(|state| Arc::new(Model::made(None, state)));
            *slot = Some(parts.clone());
            parts
        };
        for (key, part) in ["layout", "style"].into_iter().zip(&parts) {
            comm::open(part);
            self.lock()
                .insert(key.to_owned(), format!("IPY_MODEL_{}", part.id).into());
        }
        comm::open(self);
    }

    fn opened(&self) -> Option<[Arc<Model>; 2]> {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes the control out of the page and forgets its code.
    pub(super) fn close(&self) {
        let parts = self
            .parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.handlers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Some(parts) = parts {
            comm::close(&self.id);
            parts.iter().for_each(|part| comm::close(&part.id));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Map<String, Value>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of a model and its view, as ipywidgets 8 has them.
fn names(module: &str, model: &str, view_module: &str, view: Option<&str>) -> Map<String, Value> {
    let state = json!({
        "_model_module": module, "_model_module_version": "2.0.0", "_model_name": model,
        "_view_module": view_module, "_view_module_version": "2.0.0", "_view_name": view,
    });
    match state {
        Value::Object(state) => state,
        _ => Map::new(),
    }
}

/// 32 hexadecimal digits that no other model of the page has.
fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Runs `code`, has `shown` say how it failed if it did, and lets a panic go on.
pub(super) fn told<T>(code: impl FnOnce() -> Result<T>, shown: impl FnOnce(&str)) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            shown(&error.to_string());
            Err(error)
        }
        Err(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned());
            shown(&format!("it panicked: {}", text.unwrap_or_default()));
            resume_unwind(payload)
        }
    }
}
