//! A button that runs code when it is clicked.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::interact::Control;
use super::model::{Kind, Model};
use crate::display::html::{self, SURFACE};
use crate::display::{MimeBundle, Render};
use crate::error::Result;

static BUTTON: Kind = Kind {
    name: "Button",
    style: "ButtonStyle",
    value: "",
    // Clicks come as messages of their own.
    accept: |_, _| None,
};

/// A button: `Button::new("generate again")`.
///
/// Clones are the same button. As the last expression of a cell, or by [`crate::display::display`], it stands in the page.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let button = Button::new("another picture");
/// button.on_click(|| {
///     println!("clicked");
///     Ok(())
/// });
/// button.click()?; // from code, as a person does in the page
/// assert_eq!(button.clicks(), 1);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Button {
    model: Arc<Model>,
}

impl Button {
    /// A button with this text on it.
    pub fn new(label: &str) -> Button {
        let state = json!({ "button_style": "", "icon": "" });
        Button {
            model: Model::new(&BUTTON, label, state),
        }
    }

    /// How often it was clicked.
    pub fn clicks(&self) -> usize {
        self.model.clicks()
    }

    /// Clicks it from code: what follows it runs.
    ///
    /// # Errors
    /// That of the code which follows the button.
    pub fn click(&self) -> Result<()> {
        self.model.clicked()
    }

    /// Runs `code` at each click, between two cells.
    pub fn on_click(&self, code: impl FnMut() -> Result<()> + Send + 'static) {
        self.model.on_change(Arc::new(Mutex::new(code)));
    }

    /// Takes the button out of the page; what follows it runs no more.
    pub fn close(&self) {
        self.model.close();
    }
}

impl Render for Button {
    fn render(&self) -> MimeBundle {
        let clicks = self.clicks();
        let plain = format!(
            "{} (a button, clicked {clicks} times)",
            self.model.description()
        );
        let html = html::chip(
            &format!("a button, clicked {clicks} times"),
            SURFACE,
            "inherit",
        );
        self.model.view(plain, &html)
    }
}

impl Control for Button {
    /// How often it was clicked.
    type Value = usize;
    fn current(&self) -> usize {
        self.clicks()
    }
    fn said(&self) -> String {
        match self.clicks() {
            0 => String::new(),
            clicks => format!("{} × {clicks}", self.model.description()),
        }
    }
    fn models(&self) -> Vec<Arc<Model>> {
        vec![self.model.clone()]
    }
    fn bundles(&self) -> Vec<MimeBundle> {
        vec![self.render()]
    }
}
