//! One of several names, chosen from a list.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::interact::Control;
use super::model::{Kind, Model};
use crate::display::html::{self, GREEN, SURFACE};
use crate::display::{MimeBundle, Render};
use crate::error::Result;

static DROPDOWN: Kind = Kind {
    name: "Dropdown",
    style: "DescriptionStyle",
    value: "index",
    accept: |state, wish| {
        let options = state.get("_options_labels").and_then(Value::as_array)?;
        let wish = wish.as_u64().filter(|&wish| wish < options.len() as u64)?;
        Some(json!(wish))
    },
};

/// A list of names of which one is chosen: `Select::new("picture", ["real", "black"])`.
///
/// Clones are the same list. As the last expression of a cell, or by [`crate::display::display`], it stands in the page.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let picture = Select::new("picture", ["real", "black", "noise"]).starting_at(1);
/// assert_eq!((picture.value().as_str(), picture.index()), ("black", 1));
/// picture.set_value("noise")?;
/// assert_eq!(picture.value(), "noise");
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Select {
    pub(super) model: Arc<Model>,
}

impl Select {
    /// A list that begins with its first name chosen.
    pub fn new<S: Into<String>>(label: &str, options: impl IntoIterator<Item = S>) -> Select {
        let options: Vec<String> = options.into_iter().map(Into::into).collect();
        let index = (!options.is_empty()).then_some(0);
        let state = json!({ "_options_labels": options, "index": index });
        Select {
            model: Model::new(&DROPDOWN, label, state),
        }
    }

    /// Which name is chosen at first, counted from 0; one that is not there changes nothing.
    #[must_use]
    pub fn starting_at(self, index: usize) -> Self {
        if let Some(index) = (DROPDOWN.accept)(&self.model.state(), &json!(index)) {
            self.model.set("index", index);
        }
        self
    }

    /// The chosen name; "" of an empty list.
    pub fn value(&self) -> String {
        let index = self.index();
        self.options().into_iter().nth(index).unwrap_or_default()
    }

    /// Which name is chosen, counted from 0.
    pub fn index(&self) -> usize {
        let index = self.model.get("index").as_u64().unwrap_or_default();
        usize::try_from(index).unwrap_or_default()
    }

    /// Chooses a name, here and in the page; what follows the list runs. A name that is not there changes nothing.
    ///
    /// # Errors
    /// That of the code which follows the list.
    pub fn set_value(&self, value: &str) -> Result<()> {
        match self.options().iter().position(|option| option == value) {
            Some(index) => self.model.set_value(&json!(index)),
            None => Ok(()),
        }
    }

    /// Runs `code` with the new name whenever another one is chosen, between two cells.
    pub fn on_change(&self, mut code: impl FnMut(String) -> Result<()> + Send + 'static) {
        let model = Arc::downgrade(&self.model);
        self.model
            .on_change(Arc::new(Mutex::new(move || match model.upgrade() {
                Some(model) => code(Select { model }.value()),
                None => Ok(()),
            })));
    }

    /// Takes the list out of the page; what follows it runs no more.
    pub fn close(&self) {
        self.model.close();
    }

    fn options(&self) -> Vec<String> {
        match self.model.get("_options_labels") {
            Value::Array(options) => options
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        }
    }
}

impl Render for Select {
    fn render(&self) -> MimeBundle {
        let (options, chosen) = (self.options(), self.index());
        let plain = format!(
            "{}: {} (of {})",
            self.model.description(),
            self.value(),
            options.join(", ")
        );
        let chips: String = options
            .iter()
            .enumerate()
            .map(|(at, option)| match at == chosen {
                true => html::chip(option, GREEN, "white"),
                false => html::chip(option, SURFACE, "inherit"),
            })
            .collect();
        self.model.view(plain, &chips)
    }
}

impl Control for Select {
    type Value = String;
    fn current(&self) -> String {
        self.value()
    }
    fn said(&self) -> String {
        format!("{} = {}", self.model.description(), self.value())
    }
    fn models(&self) -> Vec<Arc<Model>> {
        vec![self.model.clone()]
    }
    fn bundles(&self) -> Vec<MimeBundle> {
        vec![self.render()]
    }
}
