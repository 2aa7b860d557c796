//! How good are the captions? (model, held-out pictures) → predictions with scores.
//!
//! # Layout
//! - [`attributes`]: for shapes pictures, colour, shape and count read from the caption and compared with the truth

pub mod attributes;

pub use attributes::{AttributeReport, Prediction, attribute_accuracy};
