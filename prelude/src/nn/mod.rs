//! Differentiable building blocks: every operation on the training path has a gradient, frozen weights get none.
//!
//! candle's own fused operations (softmax over the last dimension, RMSNorm, LayerNorm, RoPE) silently drop the gradient,
//! and a matrix product with a frozen weight still computes that weight's gradient. The operations here do neither:
//! on the CPU in f32 each is one fused, multi-threaded kernel with its own backward pass; on other devices and in other
//! dtypes each falls back to the composed candle form, which gives the same numbers ([`with_composed_ops`] runs that form
//! on the CPU).
//!
//! # Layout
//! - [`checkpoint`]: where weights come from (safetensors files, bytes, or a seeded random draw), by Hugging Face name
//! - [`parameter`]: [`Weight`], [`Parameter`] and [`Network`], the way to list, freeze and train the weights of a model;
//!   [`parts!`](crate::parts) implements the latter, [`role`] says what a parameter is
//! - [`linear`]: [`Linear`], frozen or trainable, with optional [`lora`] on the layers that [`targets`] names
//! - [`blocks`]: frozen matrices in blocks of small whole numbers ([`Blocks`]), [`quantize`]: which ones, by name
//! - [`norm`], [`activation`], [`softmax`](mod@softmax), [`loss`], [`embedding`]: the rest of a transformer layer
//! - [`rows`]: rows of new tokens, which train beside a frozen embedding table
//! - `ops`: fused kernels, composed forms, and the choice between them, behind plain functions
//! - `dropout`: which sample each row is of, so that dropout draws by sample
//! - `show`: how all of this shows itself in a cell
//! - [`attention`](mod@attention), [`rotary`]: scaled dot-product attention with causal, padding and sliding-window masks;
//!   [`visibility`]: what inputs in a sequence change of that

pub mod activation;
pub mod attention;
pub mod blocks;
pub mod checkpoint;
pub(crate) mod dropout;
pub mod embedding;
pub mod linear;
pub mod lora;
pub mod loss;
pub(crate) mod named_attention;
pub mod norm;
pub(crate) mod ops;
pub mod parameter;
pub(crate) mod parts;
pub mod quantize;
pub(crate) mod recompute;
pub mod role;
pub mod rotary;
pub mod rows;
pub(crate) mod show;
pub mod softmax;
pub mod targets;
#[cfg(test)]
pub(crate) mod testing;
pub mod visibility;

pub use activation::{Activation, gelu, swiglu};
pub use attention::{Attention, attention, attention_probabilities, rotary_attention};
pub use blocks::{BlockType, Blocks};
pub use checkpoint::{Checkpoint, Init};
pub use embedding::Embedding;
pub use linear::Linear;
pub use lora::{Lora, LoraConfig};
pub use loss::{cross_entropy, cross_entropy_rows};
pub use norm::{LayerNorm, RmsNorm};
#[doc(hidden)]
pub use ops::with_composed_ops;
pub use parameter::{Network, Parameter, Part, PartMut, Weight, copied, shared};
pub use quantize::Quantize;
#[doc(hidden)]
pub use recompute::recomputing;
pub use role::{Role, VlmPart};
pub use rotary::Rotary;
pub use rows::TokenRows;
pub use softmax::{log_softmax, softmax};
pub use targets::{LoraPatterns, LoraTargets};
pub use visibility::{AttentionRule, Sight, Visibility};
