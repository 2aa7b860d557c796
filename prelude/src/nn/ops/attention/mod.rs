//! Attention's forms: fused in f32 on the CPU (narrower dtypes go through f32), composed of candle's operations elsewhere.
//!
//! ```text
//! Geometry (who sees whom) ─► composed: probabilities [B, H, Tq, Tk], then · v
//!                          └► fused: blocks of query rows, nothing kept
//! ```

mod blocks;
mod fused;
mod geometry;
mod hidden;
mod views;

use super::form::{is_narrow, widened};
use super::{kernels, softmax};
use crate::Result;
use crate::nn::{Attention, Rotary};
use candle_core::{DType, Tensor};
use fused::{Packed, Separate};
use geometry::Geometry;

/// q `[B, Tq, H·d]`, k and v `[B, Tk, K·d]` → `[B, Tq, H·d]`.
///
/// # Errors
/// When the mask has another shape than the keys.
pub(crate) fn attention(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    if is_narrow(q) {
        let [q32, k32, v32] = [q, k, v].map(|t| t.to_dtype(DType::F32));
        return Ok(attention(form, &q32?, &k32?, &v32?, key_mask)?.to_dtype(q.dtype())?);
    }
    if ![q, k, v].into_iter().all(kernels::is_fast) {
        return composed(form, q, k, v, key_mask);
    }
    let (batch, queries, _) = q.dims3()?;
    let geometry = Geometry::new(form, batch, queries, k.dim(1)?, key_mask)?;
    let (q, k, v) = (
        inner_contiguous(q)?,
        inner_contiguous(k)?,
        inner_contiguous(v)?,
    );
    Ok(q.apply_op3(&k, &v, Separate(geometry))?)
}

/// As [`attention`], of queries, keys and values side by side, `[B, T, (H + 2K)·d]`, turned on the way in → `[B, T, H·d]`.
///
/// # Errors
/// As [`attention`].
pub(crate) fn rotary_attention(
    form: &Attention,
    qkv: &Tensor,
    rotary: &Rotary,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    if let Some(y) = widened(qkv, |qkv| rotary_attention(form, qkv, rotary, key_mask))? {
        return Ok(y);
    }
    let (batch, tokens, _) = qkv.dims3()?;
    if kernels::is_fast(qkv) {
        let geometry = Geometry::new(form, batch, tokens, tokens, key_mask)?;
        let rotary = rotary.clone();
        return Ok(qkv.contiguous()?.apply_op1(Packed { geometry, rotary })?);
    }
    let (query, key) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
    let q = rotary.rotate(&qkv.narrow(2, 0, query)?, form.head_dim)?; // [B, T, H·d]
    let k = rotary.rotate(&qkv.narrow(2, query, key)?, form.head_dim)?; // [B, T, K·d]
    let v = qkv.narrow(2, query + key, key)?; // [B, T, K·d]
    composed(form, &q, &k, &v, key_mask)
}

/// `[B, H, Tq, Tk]` in f32, in candle's own operations.
pub(crate) fn probabilities(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, queries, _) = q.dims3()?;
    let keys = k.dim(1)?;
    let d = form.head_dim;
    let q = q
        .reshape((batch, queries, form.heads, d))?
        .transpose(1, 2)?
        .contiguous()?; // [B, H, Tq, d]
    let k = repeat_heads(form, k)?; // [B, H, Tk, d]
    let scores = (q.matmul(&k.t()?)?.to_dtype(DType::F32)? * f64::from(scale(form)))?; // [B, H, Tq, Tk]
    let geometry = Geometry::new(form, batch, queries, keys, key_mask)?;
    let Some(hidden) = hidden::on_device(&geometry, q.device())? else {
        return softmax::composed(&scores);
    };
    let p = softmax::composed(&scores.broadcast_add(&hidden.low)?)?; // [B, H, Tq, Tk]
    // A query that sees nothing has equal weights by now.
    Ok(match &hidden.seeing {
        None => p,
        Some(seeing) => p.broadcast_mul(seeing)?,
    })
}

/// k or v as `[B, H, Tk, d]`, each key head repeated for its group of query heads.
fn repeat_heads(form: &Attention, x: &Tensor) -> Result<Tensor> {
    let (batch, keys, _) = x.dims3()?;
    let (d, group) = (form.head_dim, form.heads / form.kv_heads);
    Ok(x.reshape((batch, keys, form.kv_heads, d))?
        .transpose(1, 2)? // [B, K, Tk, d]
        .unsqueeze(2)?
        .broadcast_as((batch, form.kv_heads, group, keys, d))?
        .reshape((batch, form.heads, keys, d))?)
}

pub(crate) fn composed(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    let p = probabilities(form, q, k, key_mask)?.to_dtype(q.dtype())?; // [B, H, Tq, Tk]
    weighted(form, &p, v)
}

/// Weights `[B, H, Tq, Tk]` and values `[B, Tk, K·d]` → `[B, Tq, H·d]`, of the weights' dtype.
pub(crate) fn weighted(form: &Attention, weights: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (batch, heads, queries, _) = weights.dims4()?;
    let v = repeat_heads(form, &v.to_dtype(weights.dtype())?)?.contiguous()?; // [B, H, Tk, d]
    let y = weights.contiguous()?.matmul(&v)?; // [B, H, Tq, d]
    let y = y.transpose(1, 2)?; // [B, Tq, H, d]
    Ok(y.reshape((batch, queries, heads * form.head_dim))?)
}

/// The tensor itself when its rows are contiguous (batch and token strides may be anything), else a copy.
fn inner_contiguous(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.stride().last() == Some(&1) {
        Ok(x.clone())
    } else {
        x.contiguous()
    }
}

/// 1/√d, in front of the softmax.
fn scale(form: &Attention) -> f32 {
    1.0 / (form.head_dim as f32).sqrt()
}
