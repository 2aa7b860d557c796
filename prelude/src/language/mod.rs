//! The language side: text to token ids ([`LlmProcessor`]), token ids or embeddings to logits ([`Phi3`]).
//!
//! # Layout
//! - [`config`]: Phi-3's `config.json` and the frequencies of its rotary positions
//! - [`phi3`]: the model, one forward pass for ids or `inputs_embeds`
//! - [`cache`]: keys and values of earlier tokens, so that generation does not recompute them
//! - [`processor`]: tokenizer, special tokens and chat template

pub mod cache;
pub mod config;
pub mod phi3;
pub mod processor;

pub use cache::KvCache;
pub use config::Phi3Config;
pub use phi3::{LogitsAt, Phi3, Phi3Input, Phi3Layer, Phi3Output};
pub use processor::{ChatMessage, LlmProcessor, NewToken};
