//! RMSNorm's forms: `x / √(mean(x²) + eps) · weight` for each row.

use super::form::{Form, in_one_kernel};
use super::kernels::{self, for_row_blocks, lane_sum, simd_fn, sum_over_row_blocks};
use super::norm_rows::{check_width, input_gradient};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, DType, Layout, Shape, Tensor};

/// `x [.., D]`, `weight [D]` → `[.., D]`. A weight that does not train gets no gradient computed.
///
/// # Errors
/// When the last dimension is not the weight's.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let form = Form::of(x, &[weight]);
    if !form.fused {
        return composed(x, weight, eps);
    }
    check_width("RMSNorm", x, weight)?;
    let (x, eps) = (x.contiguous()?, eps as f32);
    Ok(match form.trains {
        true => x.apply_op2(weight, TrainableRmsNorm { eps })?,
        false => x.apply_op1(FrozenRmsNorm {
            eps,
            weight: weight.contiguous()?,
        })?,
    })
}

/// In candle's own operations.
pub(crate) fn composed(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    if in_one_kernel(&[x, weight]) {
        let weight = weight.to_dtype(dtype)?.contiguous()?;
        return Ok(candle_nn::ops::rms_norm(
            &x.contiguous()?,
            &weight,
            eps as f32,
        )?);
    }
    let x32 = x.to_dtype(DType::F32)?; // [.., D]
    let inverse = (x32.sqr()?.mean_keepdim(D::Minus1)? + eps)?
        .sqrt()?
        .recip()?; // [.., 1]
    Ok(x32
        .broadcast_mul(&inverse)?
        .to_dtype(dtype)?
        .broadcast_mul(&weight.to_dtype(dtype)?)?)
}

simd_fn! {
    fn rms_row(y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
        let n = y.len();
        let (x, w) = (&x[..n], &w[..n]);
        let r = 1.0 / (lane_sum(n, |i| x[i] * x[i]) / n as f32 + eps).sqrt();
        for i in 0..n {
            y[i] = x[i] * r * w[i];
        }
    }
}

simd_fn! {
    fn rms_row_backward(dx: &mut [f32], x: &[f32], w: &[f32], dy: &[f32], eps: f32) {
        let n = dx.len();
        let (x, w, dy) = (&x[..n], &w[..n], &dy[..n]);
        let r = 1.0 / (lane_sum(n, |i| x[i] * x[i]) / n as f32 + eps).sqrt();
        let dot = lane_sum(n, |i| x[i] * w[i] * dy[i]);
        let c = dot * r * r * r / n as f32;
        for i in 0..n {
            dx[i] = w[i] * dy[i] * r - x[i] * c;
        }
    }
}

simd_fn! {
    fn rms_row_weight(dw: &mut [f32], x: &[f32], dy: &[f32], eps: f32) {
        let n = dw.len();
        let (x, dy) = (&x[..n], &dy[..n]);
        let r = 1.0 / (lane_sum(n, |i| x[i] * x[i]) / n as f32 + eps).sqrt();
        for i in 0..n {
            dw[i] += dy[i] * x[i] * r;
        }
    }
}

fn rms_forward(x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let mut y = vec![0f32; x.len()];
    for_row_blocks(&mut y, w.len(), |first, rows| {
        for (i, y) in rows.chunks_exact_mut(w.len()).enumerate() {
            rms_row(y, &x[(first + i) * w.len()..], w, eps);
        }
    });
    y
}

fn rms_backward(x: &Tensor, w: &Tensor, dy: &Tensor, eps: f32) -> candle_core::Result<Tensor> {
    input_gradient(x, w, dy, |dx, x, w, dy| rms_row_backward(dx, x, w, dy, eps))
}

struct FrozenRmsNorm {
    eps: f32,
    weight: Tensor,
}

impl CustomOp1 for FrozenRmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = kernels::values(storage, layout)?;
        let y = kernels::with_values(&self.weight, |w| Ok(rms_forward(x, w, self.eps)))?;
        Ok(kernels::output(y, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(rms_backward(
            x,
            &self.weight,
            &dy.contiguous()?,
            self.eps,
        )?))
    }
}

struct TrainableRmsNorm {
    eps: f32,
}

impl CustomOp2 for TrainableRmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = rms_forward(kernels::values(s1, l1)?, kernels::values(s2, l2)?, self.eps);
        Ok(kernels::output(y, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let dx = x
            .track_op()
            .then(|| rms_backward(x, w, &dy, self.eps))
            .transpose()?;
        let width = w.elem_count();
        let dw = kernels::with_values(x, |x| {
            kernels::with_values(&dy, |dy| {
                Ok(sum_over_row_blocks(
                    x.len() / width.max(1),
                    width,
                    |rows, dw| {
                        for row in rows {
                            rms_row_weight(dw, &x[row * width..], &dy[row * width..], self.eps);
                        }
                    },
                ))
            })
        })?;
        Ok((dx, Some(kernels::tensor(dw, width)?)))
    }
}
