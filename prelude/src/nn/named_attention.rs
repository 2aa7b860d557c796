//! Attention whose weights have a name: read, or changed on their way to the values.
//!
//! ```text
//! q, k, v ─► fused, nothing kept                          nobody asks for the weights
//!        ├─► fused, and the weights beside it             they are read
//!        └─► weights [B, H, Tq, Tk] ─ edits ─► · v        they are changed
//! ```

use super::attention::{Attention, attention, attention_probabilities};
use super::ops;
use crate::Result;
use crate::edits::{Asked, Axes, activation_at, asked};
use candle_core::Tensor;

/// Of attention's weights, `[B, H, Tq, Tk]`.
pub(crate) const ATTENTION_WEIGHTS: &str = "attention_weights";

/// As [`attention`]; `axes` are those of the queries. Weights that were changed are given back, without gradient.
///
/// # Errors
/// As [`attention`], and those of edits.
pub(crate) fn named_attention(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    key_mask: Option<&Tensor>,
    axes: Axes,
) -> Result<(Tensor, Option<Tensor>)> {
    match asked(ATTENTION_WEIGHTS) {
        Asked::No => {}
        Asked::Read => read_weights(form, q, k, key_mask, axes)?,
        Asked::Edited => {
            form.check(q.dims3()?, k.dims3()?, v.dims3()?)?;
            let weights = ops::attention::probabilities(form, q, k, key_mask)?; // [B, H, Tq, Tk]
            let weights = activation_at(ATTENTION_WEIGHTS, weights, axes.weights())?;
            let mixed = ops::attention::weighted(form, &weights, v)?; // [B, Tq, H·d]
            return Ok((mixed.to_dtype(q.dtype())?, Some(weights.detach())));
        }
    }
    Ok((attention(form, q, k, v, key_mask)?, None))
}

/// Lets the weights be read of attention that is computed another way.
///
/// # Errors
/// As [`attention_probabilities`].
pub(crate) fn read_weights(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    key_mask: Option<&Tensor>,
    axes: Axes,
) -> Result<()> {
    let weights = attention_probabilities(form, q, k, key_mask)?; // [B, H, Tq, Tk]
    activation_at(ATTENTION_WEIGHTS, weights, axes.weights())?;
    Ok(())
}
