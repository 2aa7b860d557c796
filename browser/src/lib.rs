//! The tiny model as a page of a browser: nothing to install, and no server to ask.
//!
//! ```text
//! page (docs/try) ── pixels, words so far, what is covered or zeroed, as JSON ──▶ wasm: [`Page`] ── next tokens, strip, attention, as JSON ──▶ page
//! ```
//! [`Page`] is the prelude's model behind two calls; the same code runs natively in the tests. What only a browser needs is in `bindings.rs`.

#[cfg(target_arch = "wasm32")]
mod bindings;
mod page;

pub use page::{Candidate, Page, Question, Step};
