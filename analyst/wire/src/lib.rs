//! What Glassbox asks its analyst, the program with rust-analyzer in it, and what that answers.
//!
//! ```text
//! Glassbox ─ lines of JSON: Order ─▶ stdin  glassbox-analyst  stdout ─ lines of JSON: Answer ─▶ Glassbox
//! ```
//! # Layout
//! - [`answer`]: what front ends show
//! - [`order`]: what is asked, and what rust-analyzer is shown for it
//! - [`line`]: both as lines

pub mod answer;
pub mod line;
pub mod order;

pub use answer::{Answer, Completion, Completions, Inspection};
pub use order::{Crates, FUNCTION, Krate, Order, Origin, Page, Question, STANDARD, Subject};

/// The argument at which the analyst says what it was built from, and ends.
pub const KEY: &str = "--key";
/// The argument at which it answers orders.
pub const ANSWER: &str = "--answer";
/// The argument at which it does what a stock kernel does before it answers, and ends.
pub const PREPARE_STOCK: &str = "--prepare-stock-kernel";
/// The argument at which it serves a connection file as the stock kernel; evcxr_jupyter's own.
pub const SERVE_STOCK: &str = "--control_file";
