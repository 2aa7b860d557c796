//! Softmax over rows, fused: only its output is kept for the backward pass.

use super::kernels::{self, exp, for_row_blocks, lane_max, lane_sum, simd_fn};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Shape, Tensor};

/// `[.., N] → [.., N]`.
///
/// # Errors
/// When a tensor operation fails.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    match kernels::is_fast(x) {
        true => Ok(x.contiguous()?.apply_op1(Softmax)?),
        false => composed(x),
    }
}

/// In candle's own operations: one kernel, which has no gradient, where none is wanted.
pub(super) fn composed(x: &Tensor) -> Result<Tensor> {
    Ok(match x.track_op() {
        true => candle_nn::ops::softmax(x, D::Minus1)?,
        false => candle_nn::ops::softmax_last_dim(&x.contiguous()?)?,
    })
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
