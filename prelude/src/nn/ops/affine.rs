//! `x Wᵀ + b` and the gradient of x on plain f32 values: what frozen, trainable and low-rank layers share.

use super::kernels::{self, Matrix, for_row_blocks, lane_sum, matmul_into, simd_fn};
use candle_core::Tensor;

pub(super) fn with_last(dims: &[usize], last: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(end) = dims.last_mut() {
        *end = last;
    }
    dims
}

simd_fn! {
    /// `y[i] += W[first + i] · x` for the rows of `y`.
    fn matrix_vector(y: &mut [f32], weight: &[f32], x: &[f32]) {
        let k = x.len();
        for (y, row) in y.iter_mut().zip(weight.chunks_exact(k)) {
            *y += lane_sum(k, |i| row[i] * x[i]);
        }
    }
}

/// `x[M, in] Wᵀ + b`, `[M, out]`.
pub(super) fn product(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    (rows, input, output): (usize, usize, usize),
) -> Vec<f32> {
    let mut y = vec![0f32; rows * output];
    if let Some(bias) = bias {
        for_row_blocks(&mut y, output, |_, block| {
            for row in block.chunks_exact_mut(output) {
                row.copy_from_slice(bias);
            }
        });
    }
    if rows == 1 && input > 0 {
        use rayon::prelude::*;
        if weight.len() < 64 * 1024 {
            matrix_vector(&mut y, weight, x);
            return y;
        }
        let block = output.div_ceil(rayon::current_num_threads()).max(16);
        y.par_chunks_mut(block)
            .zip(weight.par_chunks(block * input))
            .for_each(|(y, weight)| matrix_vector(y, weight, x));
        return y;
    }
    let (x, weight) = (Matrix::rows(x, input), Matrix::rows(weight, input).t());
    matmul_into(
        &mut y,
        (rows, output, input),
        x,
        weight,
        1.0,
        bias.is_some(),
    );
    y
}

/// The weights of a frozen layer.
pub(super) struct Base {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

impl Base {
    /// `x Wᵀ + b` for `rows` rows, CPU f32.
    pub fn product(&self, x: &[f32]) -> candle_core::Result<Vec<f32>> {
        let (output, input) = self.weight.dims2()?;
        let sizes = (x.len() / input.max(1), input, output);
        kernels::with_values(&self.weight, |weight| match &self.bias {
            Some(bias) => {
                kernels::with_values(bias, |bias| Ok(product(x, weight, Some(bias), sizes)))
            }
            None => Ok(product(x, weight, None, sizes)),
        })
    }

    /// `dy W` for `rows` rows, CPU f32.
    pub fn input_gradient(&self, dy: &[f32]) -> candle_core::Result<Vec<f32>> {
        let (output, input) = self.weight.dims2()?;
        let rows = dy.len() / output.max(1);
        let mut dx = vec![0f32; rows * input];
        kernels::with_values(&self.weight, |weight| {
            let (dy, weight) = (Matrix::rows(dy, output), Matrix::rows(weight, input));
            matmul_into(&mut dx, (rows, input, output), dy, weight, 1.0, false);
            Ok(())
        })?;
        Ok(dx)
    }
}
