//! `x Wᵀ + b` and the gradient of x on plain f32 values: what frozen, trainable and low-rank layers share.

use super::in_blocks;
use super::kernels::{self, Matrix, for_row_blocks, lane_sum, matmul_into, simd_fn};
use crate::nn::Blocks;
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

/// A layer's matrix `[out, in]`, as operations are given it.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    /// Floats.
    Plain(&'a Tensor),
    /// Blocks, which are frozen.
    Blocks(&'a Blocks),
}

impl<'a> From<&'a Tensor> for Values<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Plain(tensor)
    }
}

/// A frozen layer's matrix, as its operation keeps it for the way back.
pub(super) enum Held {
    Plain(Tensor),
    Blocks(Blocks),
}

impl From<Values<'_>> for Held {
    fn from(values: Values<'_>) -> Self {
        match values {
            Values::Plain(tensor) => Self::Plain(tensor.clone()),
            Values::Blocks(blocks) => Self::Blocks(blocks.clone()),
        }
    }
}

/// The weights of a frozen layer.
pub(super) struct Base {
    pub weight: Held,
    pub bias: Option<Tensor>,
}

impl Base {
    /// `(out, in)`.
    pub fn dims(&self) -> candle_core::Result<(usize, usize)> {
        match &self.weight {
            Held::Plain(weight) => weight.dims2(),
            Held::Blocks(blocks) => Ok(blocks.dims()),
        }
    }

    /// `x Wᵀ + b` for `rows` rows, CPU f32.
    pub fn product(&self, x: &[f32]) -> candle_core::Result<Vec<f32>> {
        let (output, input) = self.dims()?;
        match (&self.weight, &self.bias) {
            (Held::Plain(weight), bias) => {
                let sizes = (x.len() / input.max(1), input, output);
                kernels::with_values(weight, |weight| match bias {
                    Some(bias) => {
                        kernels::with_values(bias, |bias| Ok(product(x, weight, Some(bias), sizes)))
                    }
                    None => Ok(product(x, weight, None, sizes)),
                })
            }
            (Held::Blocks(blocks), None) => in_blocks::product(x, blocks),
            (Held::Blocks(blocks), Some(bias)) => {
                let mut y = in_blocks::product(x, blocks)?;
                kernels::with_values(bias, |bias| {
                    for_row_blocks(&mut y, output, |_, block| {
                        for row in block.chunks_exact_mut(output) {
                            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                        }
                    });
                    Ok(y)
                })
            }
        }
    }

    /// `dy W` for `rows` rows, CPU f32.
    pub fn input_gradient(&self, dy: &[f32]) -> candle_core::Result<Vec<f32>> {
        let (output, input) = self.dims()?;
        let weight = match &self.weight {
            Held::Plain(weight) => weight,
            Held::Blocks(blocks) => return in_blocks::input_gradient(dy, blocks),
        };
        let rows = dy.len() / output.max(1);
        let mut dx = vec![0f32; rows * input];
        kernels::with_values(weight, |weight| {
            let (dy, weight) = (Matrix::rows(dy, output), Matrix::rows(weight, input));
            matmul_into(&mut dx, (rows, input, output), dy, weight, 1.0, false);
            Ok(())
        })?;
        Ok(dx)
    }
}
