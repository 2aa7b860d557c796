//! Training: a [`crate::vlm::Vlm`] and captioned pictures (or other inputs) → the same model, better at captioning.
//!
//! # Layout
//! - [`trainer`]: [`Trainer`], the loop: picks, loss, gradients, step, validation, live plot, interrupt
//! - [`gradients`]: the backward pass, gradients by parameter name, clipping; [`gradient_check`]: the first step's question
//!   whether everything that trains has one
//! - [`adamw`]: the optimizer, with torch's numbers
//! - [`schedule`]: the learning rate over a run
//! - [`set`]: what is learned from; `order`: which samples a step learns from, as a pure function of seed and step
//! - `inputs`: the examples themselves; [`unreadable`]: those that are left out
//! - `begun`: which model a trainer belongs to
//! - [`log`]: the JSON-lines log
//! - `checkpoint`: what trained and the optimizer's state, on disk
//! - [`report`]: what is said after a run
//!
//! A [`Trainer`] is a value that a cell keeps: an interrupted run goes on when `fit` is called again, with the numbers
//! it would have had.

pub mod adamw;
mod begun;
mod checkpoint;
pub mod gradient_check;
pub mod gradients;
mod inputs;
pub mod log;
mod order;
pub mod report;
pub mod schedule;
pub mod set;
mod show;
pub mod trainer;
pub mod unreadable;

pub use adamw::{AdamW, AdamWConfig};
pub use gradients::Gradients;
pub use log::{StepRecord, read_log};
pub use report::TrainReport;
pub use schedule::Schedule;
pub use set::{Example, TrainingSet};
pub use trainer::{LossKind, Trainer, TrainerConfig};
pub use unreadable::Unreadable;
