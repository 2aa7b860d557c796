//! A linear layer and LoRA's update of it, in the form that fits dtype, device and what trains.
//!
//! ```text
//! W frozen             no gradient of W, on any device and in any dtype
//! W trains             fused in f32 on the CPU, else candle's own operations
//! W in blocks          as frozen, computed in f32 on the CPU
//! LoRA, W frozen       layer and update in one operation, in f32 on the CPU
//! ```

use super::affine::{Base, Values, with_last};
use super::form::Form;
use super::frozen_linear::frozen;
use super::in_blocks;
use super::low_rank::low_rank;
use super::trainable_linear::trainable;
use crate::Result;
use candle_core::Tensor;

/// The layer's form.
fn form(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Form {
    match bias {
        None => Form::of(x, &[weight]),
        Some(bias) => Form::of(x, &[weight, bias]),
    }
}

/// `x Wᵀ + b`: `x [.., in]` contiguous, `W [out, in]` in floats or blocks, `b [out]` → `[.., out]`.
///
/// # Errors
/// When the shapes do not fit.
pub(crate) fn linear<'a>(
    x: &Tensor,
    weight: impl Into<Values<'a>>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let weight = match weight.into() {
        Values::Plain(weight) => weight,
        Values::Blocks(blocks) => return in_blocks::linear(x, blocks, bias),
    };
    match form(x, weight, bias) {
        Form {
            trains: false,
            fused,
        } => frozen(x, weight, bias, fused),
        Form { fused: true, .. } => trainable(x, weight, bias),
        _ => composed(x, weight, bias),
    }
}

/// LoRA's `s · B A x`: `x [.., in]` contiguous, `A [r, in]`, `B [out, r]` → `[.., out]`.
///
/// # Errors
/// When the shapes do not fit.
pub(crate) fn lora(x: &Tensor, (a, b): (&Tensor, &Tensor), scale: f64) -> Result<Tensor> {
    match Form::of(x, &[a, b]).fused {
        true => low_rank(x, (a, b), scale, None),
        false => Ok((composed(&composed(x, a, None)?, b, None)? * scale)?),
    }
}

/// `y + update`, in the update's dtype where that is wider (factors in f32 beside a narrow layer), rounded to y's.
///
/// # Errors
/// When the shapes differ.
pub(crate) fn updated(y: &Tensor, update: &Tensor) -> Result<Tensor> {
    Ok((y.to_dtype(update.dtype())? + update)?.to_dtype(y.dtype())?)
}

/// The sum of [`linear`] and [`lora`] in one operation, where there is one for it: a frozen layer in f32 on the CPU.
///
/// # Errors
/// When the shapes do not fit.
pub(crate) fn linear_with_lora(
    x: &Tensor,
    (weight, bias): (Values<'_>, Option<&Tensor>),
    (a, b): (&Tensor, &Tensor),
    scale: f64,
) -> Result<Option<Tensor>> {
    let mut weights = Vec::with_capacity(2);
    if let Values::Plain(weight) = weight {
        weights.push(weight);
    }
    weights.extend(bias);
    let form = Form::of(x, &weights);
    if form.trains || !form.fused || !Form::of(x, &[a, b]).fused {
        return Ok(None);
    }
    let base = Base {
        weight: weight.into(),
        bias: bias.cloned(),
    };
    low_rank(x, (a, b), scale, Some(base)).map(Some)
}

/// `x Wᵀ + b` in candle's own operations.
pub(crate) fn composed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (output, input) = weight.dims2()?;
    let rows = x.elem_count() / input.max(1);
    let y = x.reshape((rows, input))?.matmul(&weight.t()?)?; // [N, out]
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    Ok(y.reshape(with_last(x.dims(), output))?)
}
