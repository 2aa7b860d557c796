//! RMSNorm (Phi-3) and LayerNorm (ViT): each row of the last dimension normalised, then scaled by a weight.

use super::checkpoint::{Checkpoint, Init};
use super::kernels::{self, for_row_blocks, lane_sum, simd_fn, sum_over_row_blocks};
use super::parameter::Weight;
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, DType, Layout, Shape, Tensor};

/// `x / √(mean(x²) + eps) · weight`.
#[derive(Clone)]
pub struct RmsNorm {
    /// Scale, `[D]`.
    pub weight: Weight,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// Reads `{name}.weight` of `dim` values.
    ///
    /// # Errors
    /// When the tensor is missing or has another shape.
    pub fn load(checkpoint: &Checkpoint, name: &str, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: checkpoint.weight(&format!("{name}.weight"), &[dim], Init::Ones)?,
            eps,
        })
    }

    /// `[.., D] → [.., D]`.
    ///
    /// # Errors
    /// When the last dimension is not the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight.tensor();
        if !kernels::is_fast(x) || !kernels::is_fast(weight) {
            return composed_rms_norm(x, weight, self.eps);
        }
        check_width("RMSNorm", x, weight)?;
        let x = x.contiguous()?;
        let eps = self.eps as f32;
        Ok(if weight.track_op() {
            x.apply_op2(weight, TrainableRmsNorm { eps })?
        } else {
            x.apply_op1(FrozenRmsNorm {
                eps,
                weight: weight.contiguous()?,
            })?
        })
    }
}

/// `(x − mean) / √(variance + eps) · weight + bias`.
#[derive(Clone)]
pub struct LayerNorm {
    /// Scale, `[D]`.
    pub weight: Weight,
    /// Shift, `[D]`.
    pub bias: Weight,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// Reads `{name}.weight` and `{name}.bias` of `dim` values each.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(checkpoint: &Checkpoint, name: &str, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: checkpoint.weight(&format!("{name}.weight"), &[dim], Init::Ones)?,
            bias: checkpoint.weight(&format!("{name}.bias"), &[dim], Init::Zeros)?,
            eps,
        })
    }

    /// `[.., D] → [.., D]`.
    ///
    /// # Errors
    /// When the last dimension is not the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.tensor(), self.bias.tensor());
        if !kernels::is_fast(x) || !kernels::is_fast(weight) {
            return composed_layer_norm(x, weight, bias, self.eps);
        }
        check_width("LayerNorm", x, weight)?;
        let x = x.contiguous()?;
        let eps = self.eps as f32;
        Ok(if weight.track_op() || bias.track_op() {
            x.apply_op3(weight, bias, TrainableLayerNorm { eps })?
        } else {
            x.apply_op1(FrozenLayerNorm {
                eps,
                weight: weight.contiguous()?,
                bias: bias.contiguous()?,
            })?
        })
    }
}

fn check_width(what: &str, x: &Tensor, weight: &Tensor) -> Result<()> {
    let (found, wanted) = (x.dim(D::Minus1)?, weight.elem_count());
    if found != wanted {
        return Err(crate::Error::Input(format!(
            "{what} has {wanted} weights, the input's last dimension is {found} (shape {:?})",
            x.dims()
        )));
    }
    Ok(())
}

fn composed_rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    let x32 = x.to_dtype(DType::F32)?; // [.., D]
    let inverse = (x32.sqr()?.mean_keepdim(D::Minus1)? + eps)?
        .sqrt()?
        .recip()?; // [.., 1]
    Ok(x32
        .broadcast_mul(&inverse)?
        .to_dtype(dtype)?
        .broadcast_mul(&weight.to_dtype(dtype)?)?)
}

fn composed_layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
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
    rows_backward(x, w, dy, |dx, x, w, dy| rms_row_backward(dx, x, w, dy, eps))
}

/// The gradient of a norm's input; `row` gives that of one row from its input, the weight and the output's gradient.
fn rows_backward(
    x: &Tensor,
    w: &Tensor,
    dy: &Tensor,
    row: impl Fn(&mut [f32], &[f32], &[f32], &[f32]) + Sync,
) -> candle_core::Result<Tensor> {
    let mut dx = vec![0f32; x.elem_count()];
    kernels::with_values(x, |x| {
        kernels::with_values(w, |w| {
            kernels::with_values(dy, |dy| {
                for_row_blocks(&mut dx, w.len(), |first, rows| {
                    for (i, dx) in rows.chunks_exact_mut(w.len()).enumerate() {
                        let at = (first + i) * w.len();
                        row(dx, &x[at..], w, &dy[at..]);
                    }
                });
                Ok(())
            })
        })
    })?;
    kernels::tensor(dx, x.shape().clone())
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
    rows_backward(x, w, dy, |dx, x, w, dy| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    fn weight(t: &Tensor) -> Weight {
        Weight::frozen("w", t.clone())
    }

    #[test]
    fn rms_norm_equals_the_composed_form_frozen_and_trainable() -> Result<()> {
        let (x, w) = (random(&[2, 5, 37], 2.0, 1), random(&[37], 1.0, 2));
        let norm = |x: &Tensor, w: &Tensor| {
            RmsNorm {
                weight: weight(w),
                eps: 1e-5,
            }
            .forward(x)
        };
        assert_close(&norm(&x, &w)?, &composed_rms_norm(&x, &w, 1e-5)?, 1e-6);
        check_gradient(
            std::slice::from_ref(&x),
            |a| norm(&a[0], &w),
            |a| composed_rms_norm(&a[0], &w, 1e-5),
            4e-6,
        )?;
        check_gradient(
            &[x, w],
            |a| norm(&a[0], &a[1]),
            |a| composed_rms_norm(&a[0], &a[1], 1e-5),
            4e-6,
        )
    }

    #[test]
    fn layer_norm_equals_the_composed_form_frozen_and_trainable() -> Result<()> {
        let (x, w, b) = (
            random(&[2, 5, 37], 2.0, 1),
            random(&[37], 1.0, 2),
            random(&[37], 1.0, 3),
        );
        let norm = |x: &Tensor, w: &Tensor, b: &Tensor| {
            LayerNorm {
                weight: weight(w),
                bias: weight(b),
                eps: 1e-12,
            }
            .forward(x)
        };
        let composed = |x: &Tensor, w: &Tensor, b: &Tensor| composed_layer_norm(x, w, b, 1e-12);
        assert_close(&norm(&x, &w, &b)?, &composed(&x, &w, &b)?, 2e-6);
        check_gradient(
            std::slice::from_ref(&x),
            |a| norm(&a[0], &w, &b),
            |a| composed(&a[0], &w, &b),
            4e-6,
        )?;
        check_gradient(
            &[x, w, b],
            |a| norm(&a[0], &a[1], &a[2]),
            |a| composed(&a[0], &a[1], &a[2]),
            4e-6,
        )
    }

    #[test]
    fn a_wrong_width_is_an_error() {
        let norm = RmsNorm {
            weight: weight(&random(&[8], 1.0, 1)),
            eps: 1e-5,
        };
        assert!(norm.forward(&random(&[2, 9], 1.0, 2)).is_err());
    }
}
