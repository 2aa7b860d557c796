//! Cross-entropy of rows of logits, fused: no softmax tensor is kept.

use super::kernels::{self, exp, for_row_blocks, lane_max, lane_sum, simd_fn};
use crate::Result;
use crate::nn::log_softmax;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

/// Logits `[N, V]` against N targets below V → `[N]`, in nats.
///
/// # Errors
/// When a tensor operation fails.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    if kernels::is_fast(logits) {
        let targets = targets.to_vec();
        return Ok(logits.contiguous()?.apply_op1(CrossEntropy { targets })?);
    }
    let targets = Tensor::new(targets, logits.device())?.unsqueeze(1)?; // [N, 1]
    let log_probabilities = log_softmax(&logits.to_dtype(DType::F32)?)?; // [N, V]
    Ok(log_probabilities.gather(&targets, 1)?.squeeze(1)?.neg()?)
}

simd_fn! {
    /// Log of the sum of exponentials of a row.
    fn log_sum_exp(row: &[f32]) -> f32 {
        let max = lane_max(row);
        max + lane_sum(row.len(), |i| exp(row[i] - max)).ln()
    }
}

simd_fn! {
    /// `dx = g · (softmax(x) − onehot)`.
    fn cross_entropy_row_backward(dx: &mut [f32], x: &[f32], target: usize, g: f32) {
        let max = lane_max(x);
        let lse = max + lane_sum(x.len(), |i| exp(x[i] - max)).ln();
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = g * exp(x - lse);
        }
        dx[target] -= g;
    }
}

struct CrossEntropy {
    targets: Vec<u32>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        use rayon::prelude::*;
        let x = kernels::values(storage, layout)?;
        let vocabulary = layout.dims()[1];
        let row = |(i, &target): (usize, &u32)| {
            let row = &x[i * vocabulary..][..vocabulary];
            log_sum_exp(row) - row[target as usize]
        };
        let loss: Vec<f32> = if x.len() < 64 * 1024 {
            self.targets.iter().enumerate().map(row).collect()
        } else {
            self.targets.par_iter().enumerate().map(row).collect()
        };
        Ok(kernels::output(loss, self.targets.len()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (rows, vocabulary) = x.dims2()?;
        let mut dx = vec![0f32; rows * vocabulary];
        kernels::with_values(x, |x| {
            kernels::with_values(&dy.contiguous()?, |dy| {
                for_row_blocks(&mut dx, vocabulary, |first, block| {
                    for (i, dx) in block.chunks_exact_mut(vocabulary).enumerate() {
                        let at = first + i;
                        let x = &x[at * vocabulary..][..vocabulary];
                        cross_entropy_row_backward(dx, x, self.targets[at] as usize, dy[at]);
                    }
                });
                Ok(())
            })
        })?;
        Ok(Some(kernels::tensor(dx, (rows, vocabulary))?))
    }
}
