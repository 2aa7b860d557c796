//! Blocks of small whole numbers → floats, and their dot products with a vector of floats.
//!
//! On x86-64 with AVX2 the types that models mostly have are read straight into registers (`x86`), with AVX-512 most of them
//! faster and for several vectors at once (`x86_wide`); all others, and all on other machines, through candle's own decoding, a part of a
//! row's blocks at a time. The vector is never rounded, so that a product is that of the dequantized matrix.

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_wide;

use super::kernels::{lane_sum, simd_fn};
use crate::nn::BlockType;
use crate::nn::blocks::nf4;
use candle_core::{CpuStorage, Result};
use std::borrow::Cow;

/// Blocks of a matrix that lie one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub kind: BlockType,
    pub bytes: &'a [u8],
    /// NF4's scales of the whole matrix, and the number of the first block in it.
    pub scales: Option<(&'a nf4::Scales, usize)>,
}

/// Values of blocks; `values` must be as many.
///
/// # Errors
/// When the bytes are not those of whole blocks for so many values.
pub(crate) fn decode(run: Run<'_>, values: &mut [f32]) -> Result<()> {
    check(run, values.len())?;
    if let Some((scales, first)) = run.scales {
        nf4::decode(run.bytes, scales, first, values);
        return Ok(());
    }
    #[cfg(target_arch = "x86_64")]
    if x86::decode(run.kind, run.bytes, values) {
        return Ok(());
    }
    by_candle(run, values)
}

/// The most vectors at once, of any type.
pub(crate) const VECTORS: usize = 4;

/// How many vectors rows of a type are multiplied with at once, as fast as with fewer or nearly so.
pub(crate) fn at_once(kind: BlockType) -> usize {
    #[cfg(target_arch = "x86_64")]
    if x86_wide::is_for(kind) {
        return VECTORS;
    }
    let _ = kind;
    1
}

/// `y[i · N + n] = W[i] · x[n]` for rows of blocks; the N vectors are at most [`at_once`], made for the type and of one length.
///
/// # Errors
/// When the bytes are not those of as many rows as `y` has places for.
pub(crate) fn dots(run: Run<'_>, x: &[Vector<'_>], y: &mut [f32]) -> Result<()> {
    let Some(first) = x.first() else {
        return Ok(());
    };
    check(run, first.values.len() * (y.len() / x.len()))?;
    let row = first.values.len() / run.kind.values() * run.kind.bytes();
    if row == 0 {
        y.fill(0.0);
        return Ok(());
    }
    #[cfg(target_arch = "x86_64")]
    if first.is_wide() {
        match x {
            [a] => x86_wide::dots(run, [a], y),
            [a, b] => x86_wide::dots(run, [a, b], y),
            [a, b, c] => x86_wide::dots(run, [a, b, c], y),
            [a, b, c, d] => x86_wide::dots(run, [a, b, c, d], y),
            _ => candle_core::bail!("{} vectors at once", x.len()),
        }
        return Ok(());
    }
    #[cfg(target_arch = "x86_64")]
    if x.len() == 1 && x86::dots(run.kind, run.bytes, first, y) {
        return Ok(());
    }
    let mut values = vec![0f32; first.values.len()];
    let rows = run.bytes.chunks_exact(row).zip(y.chunks_exact_mut(x.len()));
    for (at, (bytes, y)) in rows.enumerate() {
        let skipped = at * values.len() / run.kind.values();
        let scales = run.scales.map(|(scales, first)| (scales, first + skipped));
        decode(
            Run {
                bytes,
                scales,
                ..run
            },
            &mut values,
        )?;
        for (y, x) in y.iter_mut().zip(x) {
            *y = dot(&values, x.values);
        }
    }
    Ok(())
}

/// A vector that many rows are multiplied with.
pub(crate) struct Vector<'a> {
    values: &'a [f32],
    /// Of each 32 values: what a block's lowest value is multiplied with. Eight of them for each 256.
    sums: Vec<[f32; 8]>,
    /// In the order of `x86_wide`, where that is used.
    #[cfg(target_arch = "x86_64")]
    turned: Vec<x86_wide::Lanes>,
}

impl<'a> Vector<'a> {
    /// For rows of a type.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    pub fn new(values: &'a [f32], kind: BlockType) -> Self {
        let sums = values.chunks(256).map(|part| {
            let mut sums = [0f32; 8];
            for (sum, part) in sums.iter_mut().zip(part.chunks(32)) {
                *sum = part.iter().sum();
            }
            sums
        });
        Self {
            values,
            sums: sums.collect(),
            #[cfg(target_arch = "x86_64")]
            turned: match x86_wide::is_for(kind) {
                true => x86_wide::turned(kind, values),
                false => Vec::new(),
            },
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_wide(&self) -> bool {
        !self.turned.is_empty()
    }
}

fn check(run: Run<'_>, values: usize) -> Result<()> {
    let (kind, bytes) = (run.kind, run.bytes.len());
    let blocks = values / kind.values();
    if !values.is_multiple_of(kind.values()) || bytes != blocks * kind.bytes() {
        candle_core::bail!("{bytes} bytes of {kind} are not {values} values")
    }
    if run.scales.is_none() && kind.ggml().is_none() {
        candle_core::bail!("{kind} without its scales")
    }
    Ok(())
}

/// Through a copy of the blocks, as candle has them.
fn by_candle(run: Run<'_>, values: &mut [f32]) -> Result<()> {
    let Some(ggml) = run.kind.ggml() else {
        candle_core::bail!("candle has no {}", run.kind)
    };
    let blocks = ggml.from_data(Cow::Borrowed(run.bytes));
    match blocks.dequantize(values.len())? {
        CpuStorage::F32(decoded) => values.copy_from_slice(&decoded),
        _ => candle_core::bail!("{} did not become f32", run.kind),
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

    /// The product in f64, and the sum of its parts' sizes.
    fn exact(row: &[f32], x: &[f32]) -> (f64, f64) {
        let parts = row
            .iter()
            .zip(x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x));
        parts.fold((0.0, 0.0), |(sum, most), part| {
            (sum + part, most + part.abs())
        })
    }

    #[test]
    fn registers_and_candle_give_the_same() -> crate::Result<()> {
        for kind in BlockType::ALL {
            // Rows of an odd number of blocks; small values have scales below the smallest normal number of two bytes.
            for (size, width) in [
                (1.0, 768),
                (1e-3, 768),
                (1e-5, 768),
                (1.0, 256),
                (1.0, 5 * kind.values()),
            ] {
                let blocks = Blocks::quantize(&random(&[7, width], size, 1), kind)?;
                let all = blocks.of_rows(0..7);
                let (mut ours, mut theirs) = (vec![0f32; 7 * width], vec![0f32; 7 * width]);
                decode(all, &mut ours)?;
                match kind.ggml() {
                    Some(_) => by_candle(all, &mut theirs)?,
                    None => theirs.copy_from_slice(&ours),
                }
                assert_eq!(ours, theirs, "{kind}");
                let x = random(&[VECTORS, width], 1.0, 2).to_vec2::<f32>()?;
                for count in 1..=at_once(kind) {
                    let vectors = x[..count].iter().map(|x| Vector::new(x, kind));
                    let vectors: Vec<Vector> = vectors.collect();
                    // Also of rows that do not begin the matrix.
                    for from in [0, 3] {
                        let mut y = vec![f32::NAN; (7 - from) * count];
                        dots(blocks.of_rows(from..7), &vectors, &mut y)?;
                        for (at, y) in y.iter().enumerate() {
                            let row = &theirs[(from + at / count) * width..][..width];
                            let (want, most) = exact(row, &x[at % count]);
                            assert!(
                                (f64::from(*y) - want).abs() <= 2e-6 * most,
                                "{kind}, {count} of {width}: {y} {want}"
                            );
                        }
                        // One of several is what it is alone, to the bit.
                        let mut alone = vec![f32::NAN; 7 - from];
                        dots(blocks.of_rows(from..7), &vectors[..1], &mut alone)?;
                        assert!(
                            alone
                                .iter()
                                .zip(y.chunks_exact(count))
                                .all(|(one, all)| *one == all[0]),
                            "{kind}"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() -> crate::Result<()> {
        let run = |bytes| Run {
            kind: BlockType::Q8_0,
            bytes,
            scales: None,
        };
        assert!(decode(run(&[0; 34]), &mut [0.0; 31]).is_err());
        assert!(decode(run(&[0; 33]), &mut [0.0; 32]).is_err());
        let x = [0f32; 32];
        let x = [Vector::new(&x, BlockType::Q8_0)];
        assert!(dots(run(&[0; 34]), &x, &mut [0.0; 2]).is_err());
        let nf4 = Run {
            kind: BlockType::Nf4,
            ..run(&[0; 33])
        };
        assert!(decode(nf4, &mut [0.0; 64]).is_err());
        Ok(())
    }
}
