//! A frozen linear layer whose matrix is held in blocks: products and the gradient of the input without ever having it whole in floats.
//!
//! ```text
//! a few rows of x (a token)      each row of blocks is read once, at the speed of memory, and multiplied as it is widened
//! many rows (prefill, training)  a panel of the matrix in floats, which stays in the cache, and the product of floats with it
//! backward                       dx = dy · W, by panels of some rows and columns
//! ```

use super::affine::{Base, Held, with_last};
use super::blocks::{VECTORS, Vector, at_once, decode, dots};
use super::form::is_fast;
use super::kernels::{self, Matrix, Shared, gemm};
use super::linear::composed;
use crate::nn::Blocks;
use crate::session::check_interrupt_in_pass;
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use rayon::prelude::*;

/// Up to this many times a row of blocks is widened again, for as many rows of x as go at once: it stays in the innermost cache.
const FEW_TIMES: usize = 3;
/// Rows of the matrix that a thread multiplies with few rows at a time.
const STRIPE: usize = 64;
/// Values of a panel: half a megabyte.
const PANEL: usize = 128 * 1024;
/// Columns of a panel of the backward pass; every type's blocks divide it.
const COLUMNS: usize = 512;

/// `x Wᵀ + b` in x's dtype, computed in f32; only x and b have a gradient.
///
/// # Errors
/// For an x that is not on the CPU.
pub(super) fn linear(x: &Tensor, weight: &Blocks, bias: Option<&Tensor>) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return Err(Error::Input(format!(
            "a matrix in blocks of {} is multiplied on the CPU only, the input is on {:?}: dequantize the model, or use the CPU",
            weight.kind(),
            x.device().location()
        )));
    }
    let wide = x.to_dtype(DType::F32)?.contiguous()?;
    if !is_fast(&wide) {
        let weight = weight.dequantize()?;
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?;
        return Ok(composed(&wide, &weight, bias.as_ref())?.to_dtype(x.dtype())?);
    }
    let base = Base {
        weight: Held::Blocks(weight.clone()),
        bias: None,
    };
    let y = wide.apply_op1(InBlocks { base })?;
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(DType::F32)?)?,
        None => y,
    };
    Ok(y.to_dtype(x.dtype())?)
}

struct InBlocks {
    base: Base,
}

impl CustomOp1 for InBlocks {
    fn name(&self) -> &'static str {
        "linear_in_blocks"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = self.base.product(kernels::values(storage, layout)?, None)?;
        let (output, _) = self.base.dims()?;
        Ok(kernels::output(y, with_last(layout.dims(), output)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        let dx = kernels::with_values(&dy, |dy| self.base.input_gradient(dy, None))?;
        Ok(Some(kernels::tensor(dx, x.shape().clone())?))
    }
}

/// `x[M, in] Wᵀ`, `[M, out]`.
pub(super) fn product(x: &[f32], weight: &Blocks) -> candle_core::Result<Vec<f32>> {
    let (output, input) = weight.dims();
    let rows = x.len() / input.max(1);
    let mut y = vec![0f32; rows * output];
    if y.is_empty() {
        return Ok(y);
    }
    match rows <= FEW_TIMES * at_once(weight.kind()) {
        true => few_rows(&mut y, x, weight)?,
        false => many_rows(&mut y, x, weight)?,
    }
    Ok(y)
}

fn few_rows(y: &mut [f32], x: &[f32], weight: &Blocks) -> candle_core::Result<()> {
    let (output, input) = weight.dims();
    let kind = weight.kind();
    let vectors: Vec<Vector> = x
        .chunks_exact(input)
        .map(|x| Vector::new(x, kind))
        .collect();
    if vectors.len() == 1 {
        return y
            .par_chunks_mut(STRIPE)
            .enumerate()
            .try_for_each(|(stripe, y)| {
                dots(
                    weight.of_rows(stripe * STRIPE..(stripe + 1) * STRIPE),
                    &vectors,
                    y,
                )
            });
    }
    let (target, together) = (Shared(y.as_mut_ptr()), at_once(kind));
    (0..output.div_ceil(STRIPE))
        .into_par_iter()
        .try_for_each(|stripe| {
            let mut products = [0f32; VECTORS];
            for row in stripe * STRIPE..output.min((stripe + 1) * STRIPE) {
                for (group, vectors) in vectors.chunks(together).enumerate() {
                    let products = &mut products[..vectors.len()];
                    dots(weight.of_rows(row..row + 1), vectors, products)?;
                    for (at, product) in products.iter().enumerate() {
                        // SAFETY: this task alone writes the columns of its stripe, which lie within each row of `y`.
                        unsafe {
                            *target.get().add((group * together + at) * output + row) = *product
                        };
                    }
                }
            }
            Ok(())
        })
}

fn many_rows(y: &mut [f32], x: &[f32], weight: &Blocks) -> candle_core::Result<()> {
    let (output, input) = weight.dims();
    let rows = x.len() / input;
    let panel = (PANEL / input).clamp(16, 128);
    let target = Shared(y.as_mut_ptr());
    (0..output.div_ceil(panel))
        .into_par_iter()
        .try_for_each_init(Vec::new, |scratch: &mut Vec<f32>, index| {
            let rows_of = index * panel..output.min((index + 1) * panel);
            let count = rows_of.len();
            scratch.resize(count * input, 0.0);
            decode(weight.of_rows(rows_of), scratch)?; // [count, in]
            // SAFETY: this task alone writes these `count` columns of the `rows` rows of `y`; `x` has `rows` rows and the scratch
            // `count` rows of `input` values.
            unsafe {
                gemm(
                    (rows, count, input),
                    target.get().add(index * panel),
                    output,
                    Matrix::rows(x, input),
                    Matrix::rows(scratch, input).t(),
                    1.0,
                    false,
                    false,
                );
            }
            Ok(())
        })
}

/// `dy[M, out] W`, `[M, in]`.
pub(super) fn input_gradient(dy: &[f32], weight: &Blocks) -> candle_core::Result<Vec<f32>> {
    let (output, input) = weight.dims();
    let rows = dy.len() / output.max(1);
    let mut dx = vec![0f32; rows * input];
    if dx.is_empty() {
        return Ok(dx);
    }
    let deep = PANEL / COLUMNS;
    let target = Shared(dx.as_mut_ptr());
    (0..input.div_ceil(COLUMNS))
        .into_par_iter()
        .try_for_each_init(Vec::new, |scratch: &mut Vec<f32>, part| {
            let first = part * COLUMNS;
            let columns = COLUMNS.min(input - first);
            for begin in (0..output).step_by(deep) {
                let count = deep.min(output - begin);
                scratch.resize(count * columns, 0.0);
                for (row, values) in scratch.chunks_exact_mut(columns).enumerate() {
                    let blocks = weight.of_columns(begin + row, first..first + columns);
                    decode(blocks, values)?; // [count, columns]
                }
                // SAFETY: this task alone writes these `columns` columns of the `rows` rows of `dx`; `dy` has `rows` rows with at
                // least `begin + count` values, the scratch `count` rows of `columns`.
                unsafe {
                    gemm(
                        (rows, columns, count),
                        target.get().add(first),
                        input,
                        Matrix::rows(&dy[begin..], output),
                        Matrix::rows(scratch, columns),
                        1.0,
                        begin > 0,
                        false,
                    );
                }
            }
            candle_core::Result::Ok(())
        })?;
    Ok(dx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::BlockType;
    use crate::nn::testing::{assert_close, check_gradient, random};

    /// Sizes that stripes and panels do not divide.
    fn cases() -> Vec<(BlockType, usize, usize)> {
        vec![
            (BlockType::Q8_0, 96, 2 * STRIPE + 5),
            (BlockType::Q8_0, COLUMNS + 32, PANEL / COLUMNS + 3),
            (BlockType::Q4K, 256, STRIPE - 1),
            (BlockType::Q4K, COLUMNS + 256, PANEL / COLUMNS + 1),
            (BlockType::Q6K, 256, 7),
            (BlockType::Q5_0, 64, 9),
            (BlockType::Q3K, 512, 1),
            (BlockType::Q5K, 768, STRIPE + 1),
            (BlockType::Nf4, 64, 5),
            (BlockType::Nf4, 3 * 64, 2 * STRIPE + 5),
            (BlockType::Nf4, COLUMNS + 64, PANEL / COLUMNS + 3),
        ]
    }

    #[test]
    fn product_and_gradient_are_those_of_the_dequantized_matrix() -> Result<()> {
        for (kind, input, output) in cases() {
            let blocks = Blocks::quantize(&random(&[output, input], 1.0, 1), kind)?;
            let values = blocks.dequantize()?;
            for shape in [
                vec![1, input],
                vec![3, 1, input],
                vec![2, 7, input],
                vec![3, 3, input],
                vec![5, input],
                vec![1, 1, input],
            ] {
                let x = random(&shape, 1.0, 2);
                check_gradient(
                    std::slice::from_ref(&x),
                    |a| linear(&a[0], &blocks, None),
                    |a| composed(&a[0], &values, None),
                    1e-5,
                )?;
            }
        }
        Ok(())
    }

    #[test]
    fn inputs_may_lie_anyhow_and_the_bias_has_its_gradient() -> Result<()> {
        let (kind, input, output) = (BlockType::Q8_0, 64, 11);
        let blocks = Blocks::quantize(&random(&[output, input], 1.0, 1), kind)?;
        let values = blocks.dequantize()?;
        let (x, bias) = (random(&[input, 5], 1.0, 2), random(&[output], 1.0, 3));
        check_gradient(
            &[x.clone(), bias],
            |a| linear(&a[0].t()?, &blocks, Some(&a[1])),
            |a| composed(&a[0].t()?.contiguous()?, &values, Some(&a[1])),
            1e-5,
        )?;
        let narrow = x.narrow(1, 1, 1)?.t()?; // [1, in], a column
        let wanted = composed(&narrow.contiguous()?, &values, None)?;
        assert_close(&linear(&narrow, &blocks, None)?, &wanted, 1e-5);
        Ok(())
    }

    #[test]
    fn narrow_inputs_are_rounded_once() -> Result<()> {
        for kind in [BlockType::Q8_0, BlockType::Nf4] {
            let blocks = Blocks::quantize(&random(&[9, 64], 1.0, 1), kind)?;
            for (dtype, rows) in [
                (DType::BF16, 1),
                (DType::BF16, 6),
                (DType::F16, 1),
                (DType::F16, 6),
            ] {
                let x = random(&[rows, 64], 1.0, 2).to_dtype(dtype)?;
                let y = linear(&x, &blocks, None)?;
                assert_eq!(y.dtype(), dtype);
                let wide = composed(&x.to_dtype(DType::F32)?, &blocks.dequantize()?, None)?;
                assert_close(&y.to_dtype(DType::F32)?, &wide, 0.05);
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_in_gives_nothing_out() -> Result<()> {
        let blocks = Blocks::quantize(&random(&[9, 64], 1.0, 1), BlockType::Q8_0)?;
        let none = Tensor::zeros((0, 64), DType::F32, &candle_core::Device::Cpu)?;
        assert_eq!(linear(&none, &blocks, None)?.dims(), [0, 9]);
        Ok(())
    }
}
