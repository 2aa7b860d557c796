//! Controls that stand in a notebook and run code when they are moved.
//!
//! ```text
//! Slider, Select, Button ── model (ipywidgets' state) ── comm ── Event::Comm ──▶ host ──▶ browser
//! interact, on_change    ◀── changed ◀── glassbox_comm ◀── host ◀── comm_msg ◀──────────────┘
//! ```
//! The browser's half is that of ipywidgets 8 (`@jupyter-widgets/controls` 2.0), so JupyterLab needs the package `jupyterlab_widgets` and
//! nothing of ours. What a control runs, it runs between two cells; while a cell runs, messages wait. Where nobody speaks this
//! protocol (`glassbox run`, the REPL, the stock kernel, a program), a control shows its value and [`interact()`] shows its view once.
//!
//! # Layout
//! - `comm`: messages in and out, and which model they are for
//! - `model`: what every control is made of
//! - `slider`, `select`, `button`: the controls
//! - `interact`(mod@interact): controls with a picture that follows them

mod button;
mod comm;
mod interact;
mod model;
mod select;
mod slider;

pub use button::Button;
pub use interact::{Control, interact};
pub use select::Select;
pub use slider::{Slider, SliderValue};

#[cfg(test)]
mod tests;
