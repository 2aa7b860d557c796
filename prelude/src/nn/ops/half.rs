//! Products with bf16 weights on the CPU: values are widened to f32 as they are read, sums are f32.
//!
//! candle widens the whole weight on one thread before each product. Here a single row (a token being generated) reads
//! the weight once, at the speed of memory; more rows widen it block by block into a buffer that stays in the cache.

use super::kernels::{Matrix, Shared, gemm, simd_fn};
use candle_core::{CpuStorage, Layout, Result};
use half::bf16;
use rayon::prelude::*;

/// Rows of the weight that a thread widens at a time.
const BLOCK: usize = 128;
/// Up to this many rows, the weight is widened in registers for each row again: cheaper than through memory.
const FEW_ROWS: usize = 3;

/// The bf16 values of a contiguous CPU storage, if that is what it is.
pub(super) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Option<&'a [bf16]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::BF16(data), Some((start, end))) => Some(&data[start..end]),
        _ => None,
    }
}

/// `x[M, in] Wᵀ` with `W[out, in]`, rounded to bf16 at the end: `[M, out]`.
pub(super) fn product(x: &[bf16], weight: &[bf16], input: usize) -> Result<Vec<bf16>> {
    if input == 0 {
        candle_core::bail!("a product over no values")
    }
    let (rows, output) = (x.len() / input, weight.len() / input);
    let mut wide = vec![0f32; x.len()]; // [M, in]
    widen(&mut wide, x);
    let mut y = vec![0f32; rows * output]; // [M, out]
    let target = Shared(y.as_mut_ptr());
    let task = |scratch: &mut Vec<f32>, block: usize| {
        let first = block * BLOCK;
        let count = BLOCK.min(output - first);
        let weight = &weight[first * input..][..count * input];
        if rows <= FEW_ROWS {
            for (row, x) in wide.chunks_exact(input).enumerate() {
                // SAFETY: this task alone writes columns `first..first + count`, and they lie within row `row` of `y`.
                let y = unsafe {
                    std::slice::from_raw_parts_mut(target.get().add(row * output + first), count)
                };
                matrix_vector(y, weight, x);
            }
            return;
        }
        scratch.resize(count * input, 0.0);
        widen(scratch, weight);
        // SAFETY: as above; `wide` has `rows` rows and the scratch `count` rows of `input` values.
        unsafe {
            gemm(
                (rows, count, input),
                target.get().add(first),
                output,
                Matrix::rows(&wide, input),
                Matrix::rows(scratch, input).t(),
                1.0,
                false,
                false,
            );
        }
    };
    (0..output.div_ceil(BLOCK))
        .into_par_iter()
        .for_each_init(Vec::new, task);
    let mut narrow = vec![bf16::ZERO; y.len()];
    round(&mut narrow, &y);
    Ok(narrow)
}

simd_fn! {
    fn widen(floats: &mut [f32], narrow: &[bf16]) {
        for (float, narrow) in floats.iter_mut().zip(narrow) {
            *float = wide_of(*narrow);
        }
    }
}

simd_fn! {
    /// To the nearest bf16, ties to even, as the conversion of a single value does; NaN stays NaN.
    fn round(narrow: &mut [bf16], floats: &[f32]) {
        for (narrow, float) in narrow.iter_mut().zip(floats) {
            let bits = float.to_bits();
            let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
            let nan = (bits >> 16) | 0x40;
            *narrow = bf16::from_bits(if float.is_nan() { nan } else { rounded } as u16);
        }
    }
}

simd_fn! {
    /// `y[i] = W[i] · x` for the rows of `y`.
    fn matrix_vector(y: &mut [f32], weight: &[bf16], x: &[f32]) {
        for (y, row) in y.iter_mut().zip(weight.chunks_exact(x.len())) {
            // Four registers of sums: the weight streams from memory, nothing else may be waited for.
            let mut sums = [0f32; LANES];
            let (rows, xs) = (row.chunks_exact(LANES), x.chunks_exact(LANES));
            let rest = rows.remainder().iter().zip(xs.remainder());
            let mut total: f32 = rest.map(|(w, x)| wide_of(*w) * x).sum();
            for (row, x) in rows.zip(xs) {
                for lane in 0..LANES {
                    sums[lane] += wide_of(row[lane]) * x[lane];
                }
            }
            for sum in sums {
                total += sum;
            }
            *y = total;
        }
    }
}

const LANES: usize = 32;

#[inline(always)]
fn wide_of(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::random;
    use candle_core::{DType, Tensor};

    fn narrow(tensor: &Tensor) -> Vec<bf16> {
        tensor
            .flatten_all()
            .and_then(|t| t.to_dtype(DType::BF16)?.to_vec1())
            .expect("values")
    }

    #[test]
    fn equals_candles_product_for_one_few_and_many_rows() -> candle_core::Result<()> {
        let (input, output) = (70, 2 * BLOCK + 5);
        let w = random(&[output, input], 1.0, 2).to_dtype(DType::BF16)?;
        for rows in [1, FEW_ROWS, 9] {
            let x = random(&[rows, input], 1.0, 1).to_dtype(DType::BF16)?;
            let got = product(&narrow(&x), &narrow(&w), input)?;
            let want = narrow(&x.matmul(&w.t()?)?);
            for (got, want) in got.iter().zip(&want) {
                let (got, want) = (got.to_f32(), want.to_f32());
                // One unit in the last place, where the sums' order decides the rounding.
                assert!(
                    (got - want).abs() <= 0.008 * want.abs().max(1.0),
                    "{got} {want}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn rounding_is_that_of_single_values() {
        let mut values: Vec<f32> = (0..20_000)
            .map(|i| (i as f32 - 9_999.5) * 0.377e-3)
            .collect();
        values.extend([
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MAX,
            1e-40,
        ]);
        values.extend([0x3F80_8000u32, 0x3F81_8000, 0x3F80_8001].map(f32::from_bits));
        let mut got = vec![bf16::ZERO; values.len()];
        round(&mut got, &values);
        for (got, value) in got.iter().zip(values) {
            let want = bf16::from_f32(value);
            assert!(
                *got == want || (got.is_nan() && want.is_nan()),
                "{value}: {got} {want}"
            );
        }
    }
}
