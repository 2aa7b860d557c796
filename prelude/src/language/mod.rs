//! The language side: text to token ids ([`LlmProcessor`]), token ids or embeddings to logits ([`Decoder`]).
//!
//! # Layout
//! - [`config`]: a `config.json` as sizes and settings; `fields` takes it apart, `rope` has the frequencies of rotary positions
//! - [`families`]: one small file for each family, with what differs; `form`: what a family says of its layers
//! - [`decoder`]: the model, one forward pass for ids or `inputs_embeds`; [`layer`], [`norm`]: what it is made of
//! - [`gguf`]: a model and its tokenizer from one GGUF file, and back; `weights`: what any file of a model holds
//! - [`pass`]: what goes into a forward pass, and what comes out
//! - [`cache`]: keys and values of earlier tokens, so that generation does not recompute them
//! - [`processor`]: text to ids and back; `special_tokens`: those that the files beside `tokenizer.json` name
//! - [`chat`]: conversations as text, by the model's template

pub mod cache;
pub mod chat;
pub mod config;
pub mod decoder;
pub mod families;
mod fields;
mod form;
pub mod gguf;
pub mod layer;
pub mod norm;
pub mod pass;
pub mod processor;
mod rope;
mod show;
mod special_tokens;
mod weights;

pub use cache::KvCache;
pub use chat::{ChatMessage, ChatOptions};
pub use config::DecoderConfig;
pub use decoder::Decoder;
pub use gguf::{GgufExport, GgufFile, GgufType};
pub use layer::{DecoderLayer, Mlp, SelfAttention, SideBySide};
pub use norm::Norm;
pub use pass::{LlmInput, LlmOutput, LogitsAt};
pub use processor::{LlmProcessor, NewToken};
pub use rope::RopeScaling;
