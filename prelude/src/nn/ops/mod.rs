//! The forms of every operation behind a plain function of tensors: fused kernels with their own backward pass, and the same in
//! candle's operations.
//!
//! On the CPU in f32 each operation is one multi-threaded kernel; frozen weights get no gradient computed. Elsewhere, and
//! under [`with_composed_ops`], the composed form gives the same numbers (`composed_tests` compares them, and finds an operation that a GPU
//! could not run). [`form`] says which it is; the layers of [`nn`](super) know nothing of it.

mod activation;
mod adamw;
mod affine;
mod arithmetic;
pub(crate) mod attention;
pub(crate) mod blocks;
#[cfg(test)]
mod composed_tests;
mod cross_entropy;
pub(crate) mod form;
mod frozen_linear;
mod half;
mod in_blocks;
pub(crate) mod kernels;
pub(crate) mod layer_norm;
pub(crate) mod linear;
mod low_rank;
mod matrix;
mod norm_rows;
#[cfg(target_arch = "x86_64")]
mod product;
pub(crate) mod rms_norm;
mod rotary;
mod softmax;
mod trainable_linear;

pub(crate) use activation::{gelu, swiglu};
pub(crate) use adamw::{AdamWStep, adamw};
pub(crate) use affine::Values;
pub(crate) use attention::{attention, rotary_attention};
pub(crate) use cross_entropy::cross_entropy;
pub use form::with_composed_ops;
pub(crate) use layer_norm::layer_norm;
pub(crate) use linear::{linear, linear_with_lora, lora, updated};
pub(crate) use rms_norm::rms_norm;
pub(crate) use rotary::rotate;
pub(crate) use softmax::softmax;
