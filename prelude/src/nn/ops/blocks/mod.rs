//! Blocks of small whole numbers → floats, and their dot products with a vector of floats.
//!
//! On x86-64 with AVX2 the types that models mostly have are read straight into registers (`x86`); all others, and all on other
//! machines, through candle's own decoding, a part of a row's blocks at a time. The vector is never rounded, so that a product is that
//! of the dequantized matrix.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::kernels::{lane_sum, simd_fn};
use crate::nn::BlockType;
use candle_core::{CpuStorage, Result};
use std::borrow::Cow;

/// Values of blocks that lie one after the other; `values` must be as many.
///
/// # Errors
/// When the bytes are not those of whole blocks for so many values.
pub(crate) fn decode(kind: BlockType, bytes: &[u8], values: &mut [f32]) -> Result<()> {
    check(kind, bytes.len(), values.len())?;
    #[cfg(target_arch = "x86_64")]
    if x86::decode(kind, bytes, values) {
        return Ok(());
    }
    by_candle(kind, bytes, values)
}

/// `y[i] = W[i] · x` for rows of blocks that lie one after the other.
///
/// # Errors
/// When the bytes are not those of `y.len()` rows of `x.len()` values.
pub(crate) fn dots(kind: BlockType, bytes: &[u8], x: &Vector<'_>, y: &mut [f32]) -> Result<()> {
    check(kind, bytes.len(), x.values.len() * y.len())?;
    let row = x.values.len() / kind.values() * kind.bytes();
    if row == 0 {
        y.fill(0.0);
        return Ok(());
    }
    #[cfg(target_arch = "x86_64")]
    if x86::dots(kind, bytes, x, y) {
        return Ok(());
    }
    let mut values = vec![0f32; x.values.len()];
    for (y, bytes) in y.iter_mut().zip(bytes.chunks_exact(row)) {
        by_candle(kind, bytes, &mut values)?;
        *y = dot(&values, x.values);
    }
    Ok(())
}

/// A vector that many rows are multiplied with.
pub(crate) struct Vector<'a> {
    values: &'a [f32],
    /// Of each 32 values: what a block's lowest value is multiplied with.
    sums: Vec<f32>,
}

impl<'a> Vector<'a> {
    pub fn new(values: &'a [f32]) -> Self {
        let sums = values.chunks(32).map(|part| part.iter().sum()).collect();
        Self { values, sums }
    }
}

fn check(kind: BlockType, bytes: usize, values: usize) -> Result<()> {
    let blocks = values / kind.values();
    if !values.is_multiple_of(kind.values()) || bytes != blocks * kind.bytes() {
        candle_core::bail!("{bytes} bytes of {kind} are not {values} values")
    }
    Ok(())
}

/// Through a copy of the blocks, as candle has them.
fn by_candle(kind: BlockType, bytes: &[u8], values: &mut [f32]) -> Result<()> {
    let blocks = kind.ggml().from_data(Cow::Borrowed(bytes));
    match blocks.dequantize(values.len())? {
        CpuStorage::F32(decoded) => values.copy_from_slice(&decoded),
        _ => candle_core::bail!("{kind} did not become f32"),
    }
    Ok(())
}

simd_fn! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        lane_sum(a.len().min(b.len()), |i| a[i] * b[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Blocks;
    use crate::nn::testing::random;

    #[test]
    fn registers_and_candle_give_the_same() -> crate::Result<()> {
        const WIDTH: usize = 768;
        let x: Vec<f32> = random(&[WIDTH], 1.0, 2).to_vec1()?;
        for kind in BlockType::ALL {
            // Small values have scales below the smallest normal number of two bytes.
            for size in [1.0, 1e-3, 1e-5] {
                let blocks = Blocks::quantize(&random(&[7, WIDTH], size, 1), kind)?;
                let (mut ours, mut theirs) = (vec![0f32; 7 * WIDTH], vec![0f32; 7 * WIDTH]);
                decode(kind, blocks.data(), &mut ours)?;
                by_candle(kind, blocks.data(), &mut theirs)?;
                assert_eq!(ours, theirs, "{kind}");
                let mut y = vec![f32::NAN; 7];
                dots(kind, blocks.data(), &Vector::new(&x), &mut y)?;
                for (y, row) in y.iter().zip(theirs.chunks_exact(WIDTH)) {
                    let parts = row
                        .iter()
                        .zip(&x)
                        .map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let (want, most): (f64, f64) = parts.fold((0.0, 0.0), |(sum, most), part| {
                        (sum + part, most + part.abs())
                    });
                    assert!(
                        (f64::from(*y) - want).abs() <= 2e-6 * most,
                        "{kind}: {y} {want}"
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        assert!(decode(BlockType::Q8_0, &[0; 34], &mut [0.0; 31]).is_err());
        assert!(decode(BlockType::Q8_0, &[0; 33], &mut [0.0; 32]).is_err());
        let x = [0f32; 32];
        assert!(dots(BlockType::Q8_0, &[0; 34], &Vector::new(&x), &mut [0.0; 2]).is_err());
    }
}
