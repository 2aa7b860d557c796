//! LayerNorm's forms: `(x − mean) / √(variance + eps) · weight + bias` for each row.

use super::form::{Form, in_one_kernel};
use super::kernels::{self, for_row_blocks, lane_sum, simd_fn, sum_over_row_blocks};
use super::norm_rows::{check_width, input_gradient};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, DType, Layout, Shape, Tensor};

/// `x [.., D]`, `weight` and `bias` `[D]` → `[.., D]`. What does not train gets no gradient computed.
///
/// # Errors
/// When the last dimension is not the weight's.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let form = Form::of(x, &[weight, bias]);
    if !form.fused {
        return composed(x, weight, bias, eps);
    }
    check_width("LayerNorm", x, weight)?;
    let (x, eps) = (x.contiguous()?, eps as f32);
    Ok(match form.trains {
        true => x.apply_op3(weight, bias, TrainableLayerNorm { eps })?,
        false => x.apply_op1(FrozenLayerNorm {
            eps,
            weight: weight.contiguous()?,
            bias: bias.contiguous()?,
        })?,
    })
}

/// In candle's own operations.
pub(crate) fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    if in_one_kernel(&[x, weight, bias]) {
        let weight = weight.to_dtype(dtype)?.contiguous()?;
        let bias = bias.to_dtype(dtype)?.contiguous()?;
        return Ok(candle_nn::ops::layer_norm(
            &x.contiguous()?,
            &weight,
            &bias,
            eps as f32,
        )?);
    }
    let x32 = x.to_dtype(DType::F32)?; // [.., D]
    let centred = x32.broadcast_sub(&x32.mean_keepdim(D::Minus1)?)?; // [.., D]
    let inverse = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?
        .sqrt()?
        .recip()?; // [.., 1]
    let normal = centred.broadcast_mul(&inverse)?.to_dtype(dtype)?;
    Ok(normal
        .broadcast_mul(&weight.to_dtype(dtype)?)?
        .broadcast_add(&bias.to_dtype(dtype)?)?)
}

/// Mean and inverse standard deviation of a row.
#[inline(always)]
fn row_moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len();
    let mean = lane_sum(n, |i| x[i]) / n as f32;
    let variance = lane_sum(n, |i| (x[i] - mean) * (x[i] - mean)) / n as f32;
    (mean, 1.0 / (variance + eps).sqrt())
}

simd_fn! {
    fn layer_norm_row(y: &mut [f32], x: &[f32], w: &[f32], b: &[f32], eps: f32) {
        let n = y.len();
        let (x, w, b) = (&x[..n], &w[..n], &b[..n]);
        let (mean, r) = row_moments(x, eps);
        for i in 0..n {
            y[i] = (x[i] - mean) * r * w[i] + b[i];
        }
    }
}

simd_fn! {
    fn layer_norm_row_backward(dx: &mut [f32], x: &[f32], w: &[f32], dy: &[f32], eps: f32) {
        let n = dx.len();
        let (x, w, dy) = (&x[..n], &w[..n], &dy[..n]);
        let (mean, r) = row_moments(x, eps);
        let g = lane_sum(n, |i| w[i] * dy[i]) / n as f32;
        let gx = lane_sum(n, |i| w[i] * dy[i] * (x[i] - mean) * r) / n as f32;
        for i in 0..n {
            dx[i] = r * (w[i] * dy[i] - g - (x[i] - mean) * r * gx);
        }
    }
}

simd_fn! {
    /// Adds a row's part to `dw` (first half of `sum`) and `db` (second half).
    fn layer_norm_row_weight(sum: &mut [f32], x: &[f32], dy: &[f32], eps: f32) {
        let n = sum.len() / 2;
        let (x, dy) = (&x[..n], &dy[..n]);
        let (dw, db) = sum.split_at_mut(n);
        let (mean, r) = row_moments(x, eps);
        for i in 0..n {
            dw[i] += dy[i] * (x[i] - mean) * r;
            db[i] += dy[i];
        }
    }
}

fn layer_norm_forward(x: &[f32], w: &[f32], b: &[f32], eps: f32) -> Vec<f32> {
    let mut y = vec![0f32; x.len()];
    for_row_blocks(&mut y, w.len(), |first, rows| {
        for (i, y) in rows.chunks_exact_mut(w.len()).enumerate() {
            layer_norm_row(y, &x[(first + i) * w.len()..], w, b, eps);
        }
    });
    y
}

fn layer_norm_backward(
    x: &Tensor,
    w: &Tensor,
    dy: &Tensor,
    eps: f32,
) -> candle_core::Result<Tensor> {
    input_gradient(x, w, dy, |dx, x, w, dy| {
        layer_norm_row_backward(dx, x, w, dy, eps)
    })
}

struct FrozenLayerNorm {
    eps: f32,
    weight: Tensor,
    bias: Tensor,
}

impl CustomOp1 for FrozenLayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = kernels::values(storage, layout)?;
        let y = kernels::with_values(&self.weight, |w| {
            kernels::with_values(&self.bias, |b| Ok(layer_norm_forward(x, w, b, self.eps)))
        })?;
        Ok(kernels::output(y, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(layer_norm_backward(
            x,
            &self.weight,
            &dy.contiguous()?,
            self.eps,
        )?))
    }
}

struct TrainableLayerNorm {
    eps: f32,
}

impl CustomOp3 for TrainableLayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, w, b) = (
            kernels::values(s1, l1)?,
            kernels::values(s2, l2)?,
            kernels::values(s3, l3)?,
        );
        Ok(kernels::output(
            layer_norm_forward(x, w, b, self.eps),
            l1.shape().clone(),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let dx = x
            .track_op()
            .then(|| layer_norm_backward(x, w, &dy, self.eps))
            .transpose()?;
        let width = w.elem_count();
        let mut dw = kernels::with_values(x, |x| {
            kernels::with_values(&dy, |dy| {
                Ok(sum_over_row_blocks(
                    x.len() / width.max(1),
                    2 * width,
                    |rows, sum| {
                        for row in rows {
                            layer_norm_row_weight(
                                sum,
                                &x[row * width..],
                                &dy[row * width..],
                                self.eps,
                            );
                        }
                    },
                ))
            })
        })?;
        let db = dw.split_off(width);
        let dw = w
            .track_op()
            .then(|| kernels::tensor(dw, width))
            .transpose()?;
        let db = b
            .track_op()
            .then(|| kernels::tensor(db, width))
            .transpose()?;
        Ok((dx, dw, db))
    }
}
