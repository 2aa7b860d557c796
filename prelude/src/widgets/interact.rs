//! Controls with a view below them that follows them.

use std::sync::{Arc, Mutex};

use super::comm;
use super::model::{Handler, told};
use crate::display::html::{self, RED, SANS};
use crate::display::{MimeBundle, Render, display, display_live};
use crate::error::{Error, Result};

/// What can be moved: a control, or several in a tuple.
pub trait Control {
    /// What it gives: the value, or the values in a tuple.
    type Value;
    /// Where it stands.
    fn current(&self) -> Self::Value;
    /// Shows it below what the cell has shown.
    fn show(&self);
    /// Has `handler` run after each change.
    fn follow(&self, handler: &Handler);
}

impl<A: Control, B: Control> Control for (A, B) {
    type Value = (A::Value, B::Value);
    fn current(&self) -> Self::Value {
        (self.0.current(), self.1.current())
    }
    fn show(&self) {
        self.0.show();
        self.1.show();
    }
    fn follow(&self, handler: &Handler) {
        self.0.follow(handler);
        self.1.follow(handler);
    }
}

impl<A: Control, B: Control, C: Control> Control for (A, B, C) {
    type Value = (A::Value, B::Value, C::Value);
    fn current(&self) -> Self::Value {
        (self.0.current(), self.1.current(), self.2.current())
    }
    fn show(&self) {
        self.0.show();
        self.1.show();
        self.2.show();
    }
    fn follow(&self, handler: &Handler) {
        self.0.follow(handler);
        self.1.follow(handler);
        self.2.follow(handler);
    }
}

/// Shows `controls` and below them what `view` makes of their values; when one is moved, the view is made anew in its place.
///
/// ```no_run
/// # use glassbox_prelude::prelude::*;
/// let layer = Slider::new("layer", 0..=5);
/// interact(&layer, |layer| Ok(MimeBundle::text(format!("layer {layer}"))))?;
/// let both = (layer, Select::new("picture", ["real", "black"]));
/// interact(&both, |(layer, picture)| Ok(MimeBundle::text(format!("{picture}, layer {layer}"))))?;
/// # Ok::<(), Error>(())
/// ```
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
    controls.show();
    let first = view(controls.current())?;
    if !comm::live() {
        display(&first);
        return Ok(());
    }
    let place = display_live(&first);
    let moved = controls.clone();
    controls.follow(
        &(Arc::new(Mutex::new(move || {
            let made = told(|| view(moved.current()), |why| place.update(&failure(why)));
            match made {
                Ok(made) => place.update(&made),
                // It is shown; only an interrupt is more than the view's own matter.
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => {}
            }
            Ok(())
        })) as Handler),
    );
    Ok(())
}

fn failure(why: &str) -> MimeBundle {
    MimeBundle::text(format!("this view failed: {why}")).with_html(format!(
        "<div style=\"font-family:{SANS};font-size:13px\">{} {}</div>",
        html::chip("this view failed", RED, "white"),
        html::escape(why),
    ))
}
