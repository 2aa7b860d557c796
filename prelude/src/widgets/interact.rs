//! Controls with a view below them that follows them.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::comm;
use super::model::{Handler, Model, told};
use crate::display::html::{self, RED, SANS};
use crate::display::{DisplayHandle, MimeBundle, Render, display, show};
use crate::error::{Error, Result};

/// What can be moved: a control, or several in a tuple.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let both = (Slider::new("layer", 0..=5).starting_at(2), Select::new("picture", ["real", "black"]));
/// assert_eq!(both.current(), (2, "real".to_string()));
/// assert_eq!(both.said(), "layer = 2, picture = real");
/// interact(&both, |(layer, picture)| Ok(MimeBundle::text(format!("{picture}, layer {layer}"))))?;
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub trait Control {
    /// What it gives: the value, or the values in a tuple.
    type Value;
    /// Where it stands.
    fn current(&self) -> Self::Value;
    /// What it is called and where it stands, in words.
    fn said(&self) -> String;
    /// The controls, from top to bottom.
    #[doc(hidden)]
    fn models(&self) -> Vec<Arc<Model>>;
    /// What shows each of them.
    #[doc(hidden)]
    fn bundles(&self) -> Vec<MimeBundle>;
}

/// The words of several controls in one line.
fn joined(words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = words.into_iter().filter(|words| !words.is_empty());
    words.collect::<Vec<_>>().join(", ")
}

impl<A: Control, B: Control> Control for (A, B) {
    type Value = (A::Value, B::Value);
    fn current(&self) -> Self::Value {
        (self.0.current(), self.1.current())
    }
    fn said(&self) -> String {
        joined(&[self.0.said(), self.1.said()])
    }
    fn models(&self) -> Vec<Arc<Model>> {
        [self.0.models(), self.1.models()].concat()
    }
    fn bundles(&self) -> Vec<MimeBundle> {
        [self.0.bundles(), self.1.bundles()].concat()
    }
}

impl<A: Control, B: Control, C: Control> Control for (A, B, C) {
    type Value = (A::Value, B::Value, C::Value);
    fn current(&self) -> Self::Value {
        (self.0.current(), self.1.current(), self.2.current())
    }
    fn said(&self) -> String {
        joined(&[self.0.said(), self.1.said(), self.2.said()])
    }
    fn models(&self) -> Vec<Arc<Model>> {
        [self.0.models(), self.1.models(), self.2.models()].concat()
    }
    fn bundles(&self) -> Vec<MimeBundle> {
        [self.0.bundles(), self.1.bundles(), self.2.bundles()].concat()
    }
}

/// Shows `controls` and below them what `view` makes of their values; when one is moved, the view is made anew in its place.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let layer = Slider::new("layer", 0..=5);
/// interact(&layer, |layer| Ok(MimeBundle::text(format!("layer {layer}"))))?;
/// let both = (layer.clone(), Select::new("picture", ["real", "black"]));
/// interact(&both, |(layer, picture)| Ok(MimeBundle::text(format!("{picture}, layer {layer}"))))?;
/// layer.set_value(3)?; // as a person moves it: both views follow
/// assert_eq!(both.current(), (3, "real".to_string()));
/// # Ok::<(), Error>(())
/// ```
///
/// The code runs between two cells. A failure is shown where the view would be; an interrupt stops it as it stops a cell. Without
/// anyone to move the controls, they and the view are shown once.
///
/// # Errors
/// That of the first call of `view`.
pub fn interact<C, V>(
    controls: &C,
    mut view: impl FnMut(C::Value) -> Result<V> + Send + 'static,
) -> Result<()>
where
    C: Control + Clone + Send + 'static,
    V: Render,
{
    let bundles = controls.bundles();
    if !comm::live() {
        bundles.into_iter().for_each(show);
        display(&view(controls.current())?);
        return Ok(());
    }
    let again = show_controls(&controls.models(), bundles);
    let first = view(controls.current())?;
    let place = Place::new(again, captioned(&controls.said(), &first.render()));
    let moved = controls.clone();
    let handler: Handler = Arc::new(Mutex::new(move || {
        let made = told(
            || view(moved.current()),
            |why| place.replace(captioned(&moved.said(), &failure(why))),
        );
        match made {
            Ok(made) => place.replace(captioned(&moved.said(), &made.render())),
            // It is shown; only an interrupt is more than the view's own matter.
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(_) => {}
        }
        Ok(())
    }));
    for model in controls.models() {
        model.on_change(handler.clone());
    }
    Ok(())
}

/// Puts the controls into the page as one widget, with room for the view of a page that was loaded again.
fn show_controls(models: &[Arc<Model>], bundles: Vec<MimeBundle>) -> Arc<Model> {
    let again = Model::passive("HTML", json!({ "value": "" }), json!({ "display": "none" }));
    again.open();
    let models = models.iter().chain([&again]);
    let children: Vec<Value> = models.map(|model| model.reference()).collect();
    let column = Model::passive("VBox", json!({ "children": children }), json!({}));
    let still = bundles
        .into_iter()
        .reduce(|above, below| above.above(&below));
    show(column.widget(still.unwrap_or_default()));
    again
}

/// Where a view is: a display of its own, which a notebook that is saved keeps like any other.
///
/// A page that was loaded again can't change what is on it from before. From then on the view stands in a widget too.
struct Place {
    display: DisplayHandle,
    again: Arc<Model>,
    loads: usize,
}

impl Place {
    fn new(again: Arc<Model>, first: MimeBundle) -> Place {
        Place {
            display: DisplayHandle::show(first),
            again,
            loads: comm::page_loads(),
        }
    }

    fn replace(&self, bundle: MimeBundle) {
        if comm::page_loads() != self.loads {
            let note = "<div style=\"opacity:0.65;font-size:12px\">below is the view from before the page was loaded again</div>";
            self.again
                .set("value", format!("{}{note}", bundle.as_html()).into());
            self.again.place("display", Value::Null);
        }
        self.display.replace(bundle);
    }
}

/// The view with the values that it belongs to: in a saved notebook the controls are as they were at first.
fn captioned(said: &str, view: &MimeBundle) -> MimeBundle {
    if said.is_empty() {
        return view.clone();
    }
    MimeBundle::text(view.plain()).with_html(format!(
        "<div style=\"font-family:{SANS};font-size:12px;opacity:0.65\">{}</div>{}",
        html::escape(said),
        view.as_html()
    ))
}

fn failure(why: &str) -> MimeBundle {
    MimeBundle::text(format!("this view failed: {why}")).with_html(format!(
        "<div style=\"font-family:{SANS};font-size:13px\">{} {}</div>",
        html::chip("this view failed", RED, "white"),
        html::escape(why),
    ))
}
