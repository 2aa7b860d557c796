//! `x Wᵀ + b` and the gradient of x on plain f32 values: what frozen, trainable and low-rank layers share.

use super::in_blocks;
use super::kernels::{self, Matrix, Term, for_row_blocks, fresh, lane_sum, matmul_into, simd_fn};
use crate::nn::Blocks;
use candle_core::Tensor;
use rayon::prelude::*;

pub(super) fn with_last(dims: &[usize], last: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(end) = dims.last_mut() {
        *end = last;
    }
    dims
}

/// Rows that a product with one vector reads side by side, and values of each at a time.
const SIDE_BY_SIDE: usize = 4;
const LANES: usize = 16;

simd_fn! {
    /// `y[i] += W[first + i] · x` for the rows of `y`.
    fn matrix_vector(y: &mut [f32], weight: &[f32], x: &[f32]) {
        let k = x.len();
        let (fours, xs) = (weight.chunks_exact(SIDE_BY_SIDE * k), x.chunks_exact(LANES));
        let left = fours.remainder();
        let mut ys = y.chunks_exact_mut(SIDE_BY_SIDE);
        for (y, four) in (&mut ys).zip(fours) {
            // Several sums that don't wait for one another: the weight streams from memory, nothing else may be waited for.
            let mut sums = [[0f32; LANES]; SIDE_BY_SIDE];
            for (at, x) in xs.clone().enumerate() {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let values = &four[row * k + at * LANES..][..LANES];
                    for (sum, (value, x)) in sums.iter_mut().zip(values.iter().zip(x)) {
                        *sum += value * x;
                    }
                }
            }
            let rest = k - xs.remainder().len();
            for ((y, sums), row) in y.iter_mut().zip(sums).zip(four.chunks_exact(k)) {
                let end = row[rest..].iter().zip(xs.remainder()).map(|(value, x)| value * x);
                *y += sums.iter().sum::<f32>() + end.sum::<f32>();
            }
        }
        for (y, row) in ys.into_remainder().iter_mut().zip(left.chunks_exact(k)) {
            *y += lane_sum(k, |i| row[i] * x[i]);
        }
    }
}

/// `x[M, in] Wᵀ + b`, `[M, out]`, and `s · h[M, r] Bᵀ` where there is an update.
pub(super) fn product(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    update: Option<Update<'_>>,
    (rows, input, output): (usize, usize, usize),
) -> Vec<f32> {
    if rows == 1 && input > 0 {
        return vector_product(x, weight, bias, update, output);
    }
    assert!(
        x.len() >= rows * input && weight.len() >= output * input,
        "{rows} rows of {input} values and {output} rows of the weight"
    );
    let mut terms = vec![Term::new(
        Matrix::rows(x, input),
        Matrix::rows(weight, input).t(),
        input,
    )];
    terms.extend(update.map(|update| update.term(rows, output)));
    let add_bias = bias.map(|bias| {
        move |_: usize, first: usize, values: &mut [f32]| {
            for (value, bias) in values.iter_mut().zip(&bias[first..]) {
                *value += bias;
            }
        }
    });
    let after = add_bias.as_ref().map(|f| f as kernels::After<'_>);
    // SAFETY: the extents were checked above and in `Update::term`.
    unsafe { fresh((rows, output), &terms, after) }
}

/// The product of one row: the weight streams from memory once.
fn vector_product(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    update: Option<Update<'_>>,
    output: usize,
) -> Vec<f32> {
    let mut y = bias.map_or_else(|| vec![0f32; output], <[f32]>::to_vec);
    in_stripes(&mut y, weight, x);
    if let Some(Update { h, b }) = update {
        in_stripes(&mut y, b, h);
    }
    y
}

/// `y += W x`, by several threads where the matrix is large.
fn in_stripes(y: &mut [f32], weight: &[f32], x: &[f32]) {
    if weight.len() < 64 * 1024 {
        matrix_vector(y, weight, x);
        return;
    }
    let block = y.len().div_ceil(rayon::current_num_threads()).max(16);
    y.par_chunks_mut(block)
        .zip(weight.par_chunks(block * x.len()))
        .for_each(|(y, weight)| matrix_vector(y, weight, x));
}

/// A low-rank update of a product: `h[M, r] Bᵀ`, `B[out, r]`.
#[derive(Clone, Copy)]
pub(super) struct Update<'a> {
    pub h: &'a [f32],
    pub b: &'a [f32],
}

impl Update<'_> {
    /// As a term of a product of `rows` rows and `output` columns.
    fn term(&self, rows: usize, output: usize) -> Term {
        let r = self.b.len() / output.max(1);
        assert!(self.h.len() >= rows * r, "{rows} rows of rank {r}");
        Term::new(Matrix::rows(self.h, r), Matrix::rows(self.b, r).t(), r)
    }
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

    /// `x Wᵀ + b` for the rows of x, and an update's part, CPU f32.
    pub fn product(&self, x: &[f32], update: Option<Update<'_>>) -> candle_core::Result<Vec<f32>> {
        let (output, input) = self.dims()?;
        match (&self.weight, &self.bias) {
            (Held::Plain(weight), bias) => {
                let sizes = (x.len() / input.max(1), input, output);
                kernels::with_values(weight, |weight| match bias {
                    Some(bias) => kernels::with_values(bias, |bias| {
                        Ok(product(x, weight, Some(bias), update, sizes))
                    }),
                    None => Ok(product(x, weight, None, update, sizes)),
                })
            }
            (Held::Blocks(blocks), bias) => {
                let mut y = in_blocks::product(x, blocks)?;
                if let Some(bias) = bias {
                    kernels::with_values(bias, |bias| {
                        for_row_blocks(&mut y, output, |_, block| {
                            for row in block.chunks_exact_mut(output) {
                                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                            }
                        });
                        Ok(())
                    })?;
                }
                if let Some(update) = update {
                    let rows = x.len() / input.max(1);
                    add_term(&mut y, (rows, output), update.term(rows, output));
                }
                Ok(y)
            }
        }
    }

    /// `dy W` for the rows of dy, and `dh[M, r] A` where there is an update, CPU f32.
    pub fn input_gradient(
        &self,
        dy: &[f32],
        update: Option<InputUpdate<'_>>,
    ) -> candle_core::Result<Vec<f32>> {
        let (output, input) = self.dims()?;
        let rows = dy.len() / output.max(1);
        let update = update.map(|update| update.term(rows, input));
        let weight = match &self.weight {
            Held::Plain(weight) => weight,
            Held::Blocks(blocks) => {
                let mut dx = in_blocks::input_gradient(dy, blocks)?;
                if let Some(update) = update {
                    add_term(&mut dx, (rows, input), update);
                }
                return Ok(dx);
            }
        };
        kernels::with_values(weight, |weight| {
            let (dy, weight) = (Matrix::rows(dy, output), Matrix::rows(weight, input));
            let mut terms = vec![Term::new(dy, weight, output)];
            terms.extend(update);
            // SAFETY: `dy` has `rows` rows of `output` values, the weight `output` rows of `input`; `InputUpdate::term` has
            // checked its own.
            Ok(unsafe { fresh((rows, input), &terms, None) })
        })
    }
}

/// A low-rank update's part of the gradient of the input: `dh[M, r] A`, `A[r, in]`.
#[derive(Clone, Copy)]
pub(super) struct InputUpdate<'a> {
    pub dh: &'a [f32],
    pub a: &'a [f32],
}

impl InputUpdate<'_> {
    /// As a term of a product of `rows` rows and `input` columns.
    pub fn term(&self, rows: usize, input: usize) -> Term {
        let r = self.a.len() / input.max(1);
        assert!(self.dh.len() >= rows * r, "{rows} rows of rank {r}");
        Term::new(Matrix::rows(self.dh, r), Matrix::rows(self.a, input), r)
    }
}

/// `y += term`, for a row-major y of `m` rows and `n` columns.
fn add_term(y: &mut [f32], (m, n): (usize, usize), term: Term) {
    matmul_into(y, (m, n, term.k), term.a, term.b, term.scale, true);
}
