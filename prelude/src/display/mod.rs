//! Everything a person looks at: values become MIME bundles, bundles become events.
//!
//! A type that is worth looking at implements [`Render`]. The last expression of a cell shows itself because every
//! such type has [`EvcxrDisplay`]; anywhere else [`display()`] shows a value at once, and [`display_live`] shows one
//! that will change in place.
//!
//! # Layout
//! - [`bundle`]: one value in several formats, from plain text to pictures
//! - [`html`]: escaping and the few styles that light and dark themes both carry
//! - [`live`]: displays that change: throttling, and what is left when they end

pub mod bundle;
pub mod html;
pub mod live;
mod stock;

pub use bundle::MimeBundle;
pub use live::{DisplayHandle, display_live};

use crate::session::{self, Event, Surroundings};

/// A value that can be looked at.
pub trait Render {
    /// The value as plain text and, where it helps, as HTML or a picture.
    fn render(&self) -> MimeBundle;
}

impl Render for MimeBundle {
    fn render(&self) -> MimeBundle {
        self.clone()
    }
}

/// How evcxr shows the last expression of a cell: it calls this method if the type has it, and falls back to `{:?}`.
pub trait EvcxrDisplay {
    /// Shows the value as the cell's result.
    fn evcxr_display(&self);
}

impl<T: Render + ?Sized> EvcxrDisplay for T {
    fn evcxr_display(&self) {
        show_result(self.render());
    }
}

/// Shows `value` now, below what the cell has shown so far.
pub fn display<T: Render + ?Sized>(value: &T) {
    show(value.render());
}

/// Shows `bundle` now.
pub fn show(bundle: MimeBundle) {
    match session::surroundings() {
        Surroundings::Glassbox { .. } => session::send(&Event::Display {
            bundle,
            display_id: None,
        }),
        Surroundings::StockEvcxr => stock::show(&bundle),
        Surroundings::Program => print_line(bundle.plain()),
    }
}

/// Shows `bundle` as the value of the cell's last expression.
pub fn show_result(bundle: MimeBundle) {
    match session::surroundings() {
        Surroundings::Glassbox { .. } => session::send(&Event::Result { bundle }),
        Surroundings::StockEvcxr => stock::show(&bundle),
        Surroundings::Program => print_line(bundle.plain()),
    }
}

/// Removes what the cell has shown so far; with `wait`, only when the next display arrives, so that nothing flickers.
///
/// Only a Glassbox session can do that: in the stock kernel and in a program this does nothing.
pub fn clear_output(wait: bool) {
    session::send(&Event::Clear { wait });
}

/// One line or block of text on stdout, for surroundings that only have text.
#[allow(clippy::print_stdout)] // this is where text for people leaves
pub(crate) fn print_line(text: &str) {
    println!("{text}");
}
