//! The language side: text to token ids ([`LlmProcessor`]), token ids or embeddings to logits ([`Phi3`]).
//!
//! # Layout
//! - [`config`]: Phi-3's `config.json` and the frequencies of its rotary positions
//! - [`phi3`]: the model, one forward pass for ids or `inputs_embeds`
//! - [`cache`]: keys and values of earlier tokens, so that generation does not recompute them
//! - [`processor`]: text to ids and back; `special_tokens`: those that the files beside `tokenizer.json` name
//! - [`chat`]: conversations as text, by the model's template

pub mod cache;
pub mod chat;
pub mod config;
pub mod phi3;
pub mod processor;
mod show;
mod special_tokens;

pub use cache::KvCache;
pub use chat::{ChatMessage, ChatOptions};
pub use config::{Phi3Config, RopeScaling};
pub use phi3::{LogitsAt, Phi3, Phi3Input, Phi3Layer, Phi3Output};
pub use processor::{LlmProcessor, NewToken};
