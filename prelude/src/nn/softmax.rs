//! Softmax over the last dimension, with a gradient.

use super::kernels::{self, exp, for_row_blocks, lane_max, lane_sum, simd_fn};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Shape, Tensor};

/// `softmax(x)` over the last dimension: `[.., N] → [.., N]`.
///
/// # Errors
/// When a tensor operation fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if !kernels::is_fast(x) {
        return Ok(candle_nn::ops::softmax(x, D::Minus1)?);
    }
    Ok(x.contiguous()?.apply_op1(Softmax)?)
}

simd_fn! {
    /// Softmax of one row in place; returns the log of the sum of exponentials. A row of −∞ becomes zeros.
    fn softmax_row(row: &mut [f32]) -> f32 {
        let max = lane_max(row);
        if max == f32::NEG_INFINITY {
            row.fill(0.0);
            return f32::NEG_INFINITY;
        }
        for v in row.iter_mut() {
            *v = exp(*v - max);
        }
        let total = lane_sum(row.len(), |i| row[i]);
        let inverse = 1.0 / total;
        for v in row.iter_mut() {
            *v *= inverse;
        }
        max + total.ln()
    }
}

simd_fn! {
    /// `dx = y ∘ (dy − Σ y·dy)` for one row.
    fn softmax_row_backward(dx: &mut [f32], y: &[f32], dy: &[f32]) {
        let n = dx.len();
        let (y, dy) = (&y[..n], &dy[..n]);
        let dot = lane_sum(n, |i| y[i] * dy[i]);
        for i in 0..n {
            dx[i] = y[i] * (dy[i] - dot);
        }
    }
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut y = kernels::values(storage, layout)?.to_vec();
        let row = layout.dims().last().copied().unwrap_or(1);
        for_row_blocks(&mut y, row, |_, rows| {
            for row in rows.chunks_exact_mut(row) {
                softmax_row(row);
            }
        });
        Ok(kernels::output(y, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let row = y.dims().last().copied().unwrap_or(1);
        let mut dx = vec![0f32; y.elem_count()];
        kernels::with_values(y, |y| {
            kernels::with_values(&dy.contiguous()?, |dy| {
                for_row_blocks(&mut dx, row, |first, rows| {
                    for (i, dx) in rows.chunks_exact_mut(row).enumerate() {
                        let at = (first + i) * row;
                        softmax_row_backward(dx, &y[at..at + row], &dy[at..at + row]);
                    }
                });
                Ok(())
            })
        })?;
        Ok(Some(kernels::tensor(dx, y.shape().clone())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    #[test]
    fn equals_the_composed_form_and_finite_differences() -> Result<()> {
        let x = random(&[3, 5, 37], 2.0, 1);
        let composed = |x: &Tensor| Ok(candle_nn::ops::softmax(x, D::Minus1)?);
        assert_close(&softmax(&x)?, &composed(&x)?, 4e-7);
        check_gradient(&[x], |a| softmax(&a[0]), |a| composed(&a[0]), 2e-6)
    }

    #[test]
    fn masked_places_are_exactly_zero() -> Result<()> {
        let masked = [f32::NEG_INFINITY, 0.5, f32::NEG_INFINITY, -1.0];
        let x = Tensor::new(&[masked, [f32::NEG_INFINITY; 4]], &candle_core::Device::Cpu)?;
        let y = softmax(&x)?.to_vec2::<f32>()?;
        assert_eq!((y[0][0], y[0][2]), (0.0, 0.0));
        assert!((y[0][1] + y[0][3] - 1.0).abs() < 1e-6);
        assert_eq!(y[1], [0.0; 4]);
        Ok(())
    }
}
