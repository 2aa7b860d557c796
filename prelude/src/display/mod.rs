//! Everything a person looks at: values become MIME bundles, bundles become events.
//!
//! A type that is worth looking at implements [`Render`]. The last expression of a cell shows itself because every
//! such type has [`EvcxrDisplay`]; anywhere else [`display()`] shows a value at once, and [`display_live`] shows one
//! that will change in place.
//!
//! # Layout
//! - `bundle`: one value in several formats, from plain text to pictures
//! - [`html`]: escaping and the few styles that light and dark themes both carry
//! - `number`: figures as people read them
//! - `live`: displays that change: throttling, and what is left when they end
//! - `table`, `plot`, `histogram`, `progress`(mod@progress), `live_plot`, `image_grid`: general displays; `axis`: what any doubles
//!   need to be drawn
//! - `facts`: names and values, for what has no form of its own; `containers`: values inside of others; `limits`: how much
//!   a value shows unasked
//! - `tensor`, `heat`: any tensor as summary line and heat map
//! - `tokens`, `next_token`, `model_table`: what the stages of a vision-language model look like

#[cfg(test)]
mod any_doubles;
pub(crate) mod axis;
pub(crate) mod bundle;
pub(crate) mod containers;
pub(crate) mod facts;
pub(crate) mod heat;
mod histogram;
pub mod html;
pub(crate) mod image_grid;
pub(crate) mod limits;
pub(crate) mod live;
pub(crate) mod live_plot;
mod model_table;
mod next_token;
pub(crate) mod number;
pub(crate) mod plot;
pub(crate) mod progress;
mod show;
mod stock;
pub(crate) mod table;
pub(crate) mod tensor;
mod text_plot;
pub(crate) mod tokens;

pub use bundle::MimeBundle;
pub use facts::Facts;
pub use heat::Scale;
pub use histogram::Histogram;
pub use image_grid::{GridItem, ImageGrid};
pub use live::{DisplayHandle, display_live};
pub use live_plot::LivePlot;
pub use model_table::{ModelPart, ModelTable};
pub use next_token::{NextToken, NextTokenTable};
pub use plot::{DrawError, Figure, LinePlot, LineStyle, PALETTE, Paper};
pub use progress::{Progress, ProgressIter, progress};
pub(crate) use stock::libraries_loaded;
pub use table::{Cell, Table};
pub use tensor::TensorView;
pub use tokens::{SegmentKind, TokenStrip};

use crate::session::{self, Event, Surroundings};

/// A value that can be looked at.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// /// A polynomial by its coefficients, the lowest first.
/// struct Polynomial(Vec<f64>);
/// impl Render for Polynomial {
///     fn render(&self) -> MimeBundle {
///         let terms: Vec<String> = self.0.iter().enumerate().map(|(power, factor)| format!("{factor} x^{power}")).collect();
///         let html = self.0.iter().enumerate().map(|(power, factor)| format!("+ {factor} x<sup>{power}</sup>"));
///         MimeBundle::text(terms.join(" + ")).with_html(html.collect::<String>())
///     }
/// }
/// assert_eq!(Polynomial(vec![1.0, 2.5]).render().plain(), "1 x^0 + 2.5 x^1");
/// ```
pub trait Render {
    /// The value as plain text and, where it helps, as HTML or a picture.
    fn render(&self) -> MimeBundle;

    /// How several values of this type look together: below each other, with the number of those that are left out.
    fn render_all(values: &[&Self]) -> MimeBundle
    where
        Self: Sized,
    {
        let values: Vec<&dyn Render> = values.iter().map(|value| *value as &dyn Render).collect();
        containers::list(&values)
    }

    /// Of plain values, numbers and text, what `{:?}` writes: a list of them is no display of its own.
    #[doc(hidden)]
    fn debug_text(&self) -> Option<String> {
        None
    }
}

impl Render for MimeBundle {
    fn render(&self) -> MimeBundle {
        self.clone()
    }
}

/// How evcxr shows the last expression of a cell: it calls this method if the type has it, and falls back to `{:?}`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// struct Celsius(f64);
/// impl Render for Celsius {
///     fn render(&self) -> MimeBundle {
///         MimeBundle::text(format!("{:.1} °C", self.0))
///     }
/// }
/// Celsius(21.54).evcxr_display(); // what a cell does with its last expression
/// assert_eq!(Celsius(21.54).render().plain(), "21.5 °C");
/// ```
pub trait EvcxrDisplay {
    /// Shows the value as the cell's result.
    fn evcxr_display(&self);
}

impl<T: Render + ?Sized> EvcxrDisplay for T {
    fn evcxr_display(&self) {
        show_value(self.render());
    }
}

/// Shows what a value says of itself unasked: a screen at most, and nothing of `()`.
pub(crate) fn show_value(bundle: MimeBundle) {
    if bundle.data().len() > 1 || bundle.plain() != "()" {
        show_result(bundle.on_a_screen());
    }
}

/// Shows `value` now, below what the cell has shown so far.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// for title in ["train", "held out"] {
///     display(&LinePlot::new(title).values("loss", &[3.0, 2.0, 1.5])); // two plots from one cell
/// }
/// ```
pub fn display<T: Render + ?Sized>(value: &T) {
    show(value.render());
}

/// Shows `bundle` now.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::display::show;
///
/// let bundle = MimeBundle::text("in the middle of a cell").with_html("<b>in the middle of a cell</b>");
/// assert_eq!(bundle.plain(), "in the middle of a cell");
/// show(bundle); // now, not as the cell's value
/// ```
pub fn show(bundle: MimeBundle) {
    match session::surroundings() {
        Surroundings::Glassbox { .. } => session::send(&Event::Display {
            bundle: bundle.into(),
            display_id: None,
        }),
        Surroundings::StockEvcxr => stock::show(&bundle),
        Surroundings::Program => print_line(bundle.plain()),
    }
}

/// Shows `bundle` as the value of the cell's last expression.
pub(crate) fn show_result(bundle: MimeBundle) {
    match session::surroundings() {
        Surroundings::Glassbox { .. } => session::send(&Event::Result {
            bundle: bundle.into(),
        }),
        Surroundings::StockEvcxr => stock::show(&bundle),
        Surroundings::Program => print_line(bundle.plain()),
    }
}

/// Removes what the cell has shown so far; with `wait`, only when the next display arrives, so that nothing flickers.
///
/// Only a Glassbox session can do that: in the stock kernel and in a program this does nothing.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// for step in 0..3_usize {
///     clear_output(true); // when the next table comes, the last one goes
///     display(&Table::new(["step"]).row([step.into()]));
/// }
/// ```
pub fn clear_output(wait: bool) {
    session::send(&Event::Clear { wait });
}

/// One line or block of text on stdout, for surroundings that only have text.
#[allow(clippy::print_stdout)] // this is where text for people leaves
pub(crate) fn print_line(text: &str) {
    println!("{text}");
}
