//! Training: what turns a loss into better weights.
//!
//! # Layout
//! - [`gradients`]: the backward pass, gradients by parameter name, clipping
//! - [`adamw`]: the optimizer, with torch's numbers
//! - [`schedule`]: the learning rate over a run

pub mod adamw;
pub mod gradients;
pub mod schedule;

pub use adamw::{AdamW, AdamWConfig};
pub use gradients::Gradients;
pub use schedule::Schedule;
