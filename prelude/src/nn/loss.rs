//! Cross-entropy from raw logits, fused: no softmax tensor is kept.

use super::kernels::{self, exp, for_row_blocks, lane_max, lane_sum, simd_fn};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Shape, Tensor};

/// Mean cross-entropy in nats: logits `[N, V]` against `N` target ids → a scalar.
///
/// # Errors
/// As [`cross_entropy_rows`], and for `N = 0`.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    if targets.is_empty() {
        return Err(Error::Input(
            "cross-entropy of no targets: the batch has nothing to learn from".into(),
        ));
    }
    Ok(cross_entropy_rows(logits, targets)?.mean_all()?)
}

/// Cross-entropy of each row in nats: logits `[N, V]` against `N` target ids → `[N]`.
///
/// # Errors
/// When the number of targets is not N or a target is not below V.
pub fn cross_entropy_rows(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if rows != targets.len() {
        return Err(Error::Input(format!(
            "{} targets for {rows} rows of logits",
            targets.len()
        )));
    }
    if let Some(bad) = targets.iter().find(|&&t| t as usize >= vocabulary) {
        return Err(Error::Input(format!(
            "target id {bad} is outside the vocabulary of {vocabulary}"
        )));
    }
    if !kernels::is_fast(logits) {
        let targets = Tensor::new(targets, logits.device())?.unsqueeze(1)?; // [N, 1]
        let logits = logits.to_dtype(candle_core::DType::F32)?;
        let log_probabilities = candle_nn::ops::log_softmax(&logits, D::Minus1)?; // [N, V]
        return Ok(log_probabilities.gather(&targets, 1)?.squeeze(1)?.neg()?);
    }
    Ok(logits.contiguous()?.apply_op1(CrossEntropy {
        targets: targets.to_vec(),
    })?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    #[test]
    fn equals_the_composed_form_and_finite_differences() -> Result<()> {
        let x = random(&[5, 37], 4.0, 1);
        let targets = [3, 0, 36, 7, 7];
        let composed = |x: &Tensor| -> Result<Tensor> {
            let t = Tensor::new(&targets, x.device())?.unsqueeze(1)?;
            Ok(candle_nn::ops::log_softmax(x, 1)?
                .gather(&t, 1)?
                .squeeze(1)?
                .neg()?)
        };
        assert_close(&cross_entropy_rows(&x, &targets)?, &composed(&x)?, 1e-6);
        check_gradient(
            std::slice::from_ref(&x),
            |a| cross_entropy_rows(&a[0], &targets),
            |a| composed(&a[0]),
            2e-6,
        )?;
        check_gradient(
            &[x],
            |a| cross_entropy(&a[0], &targets),
            |a| Ok(composed(&a[0])?.mean_all()?),
            2e-6,
        )
    }

    #[test]
    fn a_target_outside_the_vocabulary_is_an_error() {
        let x = random(&[1, 4], 1.0, 1);
        assert!(matches!(cross_entropy_rows(&x, &[4]), Err(Error::Input(_))));
        assert!(matches!(
            cross_entropy_rows(&x, &[1, 2]),
            Err(Error::Input(_))
        ));
        assert!(matches!(
            cross_entropy(&random(&[0, 4], 1.0, 1), &[]),
            Err(Error::Input(_))
        ));
    }
}
