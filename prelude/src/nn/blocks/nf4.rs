//! NF4 with double quantization: 64 values of four bits, the places of a normal distribution, under a scale of eight bits; scales of
//! these scales for each 256 blocks.
//!
//! ```text
//! 64 values ─ / largest ─▶ the nearest of CODE, 4 bits each
//! largest   ─ − mean of all ─ / largest of 256 blocks ─▶ the nearest of 256 (`eight_bits`), 8 bits
//! ```
//! After the QLoRA paper (Dettmers et al. 2023, <https://arxiv.org/abs/2305.14314>) and bitsandbytes, whose values these are: blocks and
//! groups of blocks count through the matrix row by row.

use rayon::prelude::*;
use std::sync::OnceLock;

/// Values of a block.
pub(crate) const VALUES: usize = 64;
/// Bytes of a block: the number of its scale, then its numbers, those of the first 32 values in the low halves.
pub(crate) const BYTES: usize = 1 + VALUES / 2;
/// Blocks that share a scale of their scales.
pub(crate) const GROUP: usize = 256;

/// What the sixteen numbers stand for, as the paper's appendix E has them.
pub(crate) const CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// What the 256 numbers of a scale stand for: 0, 1, and of each power of ten from 1e-6 to 1 the middles of so many equal parts of its
/// last nine tenths as the power has bits, of both signs.
pub(crate) fn eight_bits() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| {
        let mut map = [0f32; 256];
        map[1] = 1.0;
        let mut at = 2;
        for power in 0..7 {
            let (parts, size) = (1 << power, 10f64.powi(power - 6));
            for part in 0..parts {
                let middle = 0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(parts);
                map[at] = (size * middle) as f32;
                map[at + 1] = -map[at];
                at += 2;
            }
        }
        map.sort_by(f32::total_cmp);
        map
    })
}

/// Scales of the scales.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scales {
    /// One for each 256 blocks.
    pub groups: Vec<f32>,
    /// The mean of what the blocks' scales were.
    pub mean: f32,
}

impl Scales {
    /// The scale of a block, by the number that it has and its place in the matrix.
    pub fn of(&self, number: u8, block: usize) -> f32 {
        eight_bits()[usize::from(number)] * self.groups[block / GROUP] + self.mean
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        (self.groups.len() + 1) * size_of::<f32>()
    }
}

/// The place of the nearest of sorted values.
fn nearest(sorted: &[f32], value: f32) -> u8 {
    let above = sorted.partition_point(|&one| one < value);
    let below = above.saturating_sub(1);
    let above = above.min(sorted.len() - 1);
    match sorted[above] - value < value - sorted[below] {
        true => above as u8,
        false => below as u8,
    }
}

/// Writes the numbers of some blocks and gives the largest value of each; their scales are numbered by [`scaled`].
pub(super) fn numbered(values: &[f32], bytes: &mut [u8]) -> Vec<f32> {
    let blocks = values
        .chunks_exact(VALUES)
        .zip(bytes.chunks_exact_mut(BYTES));
    let block = |(values, bytes): (&[f32], &mut [u8])| {
        let largest = values
            .iter()
            .fold(0f32, |most, value| most.max(value.abs()));
        let number = |value: f32| match largest > 0.0 {
            true => nearest(&CODE, value / largest),
            false => nearest(&CODE, 0.0),
        };
        let (low, high) = values.split_at(VALUES / 2);
        for ((byte, low), high) in bytes[1..].iter_mut().zip(low).zip(high) {
            *byte = number(*low) | (number(*high) << 4);
        }
        largest
    };
    blocks.map(block).collect()
}

/// Rounds the scales of all blocks, given exactly, and writes their numbers.
pub(super) fn scaled(exact: &[f32], bytes: &mut [u8]) -> Scales {
    let sum: f64 = exact.iter().map(|scale| f64::from(*scale)).sum();
    let mean = (sum / exact.len().max(1) as f64) as f32;
    let map = eight_bits();
    let groups = exact
        .par_chunks(GROUP)
        .zip(bytes.par_chunks_mut(GROUP * BYTES));
    let groups = groups.map(|(exact, bytes)| {
        let largest = exact
            .iter()
            .fold(0f32, |most, scale| most.max((scale - mean).abs()));
        for (scale, block) in exact.iter().zip(bytes.chunks_exact_mut(BYTES)) {
            block[0] = match largest > 0.0 {
                true => nearest(map, (scale - mean) / largest),
                false => nearest(map, 0.0),
            };
        }
        largest
    });
    Scales {
        groups: groups.collect(),
        mean,
    }
}

/// The values of blocks of which the first is the matrix's `first`.
pub(crate) fn decode(bytes: &[u8], scales: &Scales, first: usize, values: &mut [f32]) {
    let blocks = bytes
        .chunks_exact(BYTES)
        .zip(values.chunks_exact_mut(VALUES));
    for (at, (block, values)) in blocks.enumerate() {
        let scale = scales.of(block[0], first + at);
        let code = CODE.map(|value| value * scale);
        let (low, high) = values.split_at_mut(VALUES / 2);
        for ((byte, low), high) in block[1..].iter().zip(low).zip(high) {
            *low = code[usize::from(byte & 15)];
            *high = code[usize::from(byte >> 4)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::random;
    use crate::nn::{BlockType, Blocks};
    use crate::{Error, Result};
    use candle_core::{DType, Device, Tensor};
    use std::collections::HashMap;

    /// `scripts/fixtures/nf4.py` wrote it with bitsandbytes.
    fn theirs() -> Result<HashMap<String, Tensor>> {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/nf4.safetensors"
        );
        Ok(candle_core::safetensors::load(file, &Device::Cpu)?)
    }

    fn of<'a>(all: &'a HashMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
        all.get(name)
            .ok_or_else(|| Error::Input(format!("no {name}")))
    }

    #[test]
    fn numbers_scales_and_values_are_those_of_bitsandbytes() -> Result<()> {
        let all = theirs()?;
        assert_eq!(of(&all, "code")?.to_vec1::<f32>()?, CODE);
        let map: Vec<f32> = of(&all, "map")?.to_vec1()?;
        for (one, other) in eight_bits().iter().zip(&map) {
            assert!((one - other).abs() <= 2e-7 * other.abs(), "{one} {other}");
        }
        let blocks = Blocks::quantize(of(&all, "values")?, BlockType::Nf4)?;
        let numbers = of(&all, "numbers")?.flatten_all()?.to_vec1::<u8>()?;
        let scales: Vec<u8> = of(&all, "scales")?.to_vec1()?;
        let held = of(&all, "held")?.flatten_all()?.to_vec1::<f32>()?;
        let ours = blocks.dequantize()?.flatten_all()?.to_vec1::<f32>()?;
        let mut other_scales = 0;
        for (at, block) in blocks.data().chunks_exact(BYTES).enumerate() {
            let values = at * VALUES..(at + 1) * VALUES;
            let low = block[1..].iter().map(|byte| byte & 15);
            let found: Vec<u8> = low.chain(block[1..].iter().map(|byte| byte >> 4)).collect();
            // The row of zeros has no largest value, and any number stands for nothing.
            assert!(
                found == numbers[values.clone()] || held[values.start] == 0.0,
                "block {at}"
            );
            // Where a scale lies between two of the 256, theirs may take the other.
            if block[0] != scales[at] {
                assert!(block[0].abs_diff(scales[at]) == 1, "block {at}");
                other_scales += 1;
                continue;
            }
            for (one, other) in ours[values.clone()].iter().zip(&held[values]) {
                assert!(
                    (one - other).abs() <= 2e-6 * other.abs() + 1e-7,
                    "{one} {other}"
                );
            }
        }
        assert!(
            other_scales <= 1,
            "{other_scales} of {} scales differ",
            scales.len()
        );
        Ok(())
    }

    #[test]
    fn it_takes_four_bits_and_an_eighth_and_odd_sizes() -> Result<()> {
        assert!((BlockType::Nf4.bits() - 4.127).abs() < 1e-3);
        // Groups of 256 blocks begin within rows.
        for (rows, columns) in [(1, 64), (7, 192), (300, 64), (65, 320)] {
            let exact = random(&[rows, columns], 1.0, 4);
            let blocks = Blocks::quantize(&exact, BlockType::Nf4)?;
            let groups = (rows * columns / VALUES).div_ceil(GROUP);
            assert_eq!(
                blocks.bytes(),
                rows * columns / VALUES * BYTES + 4 * (groups + 1)
            );
            let values = blocks.dequantize()?;
            let apart = (&values - &exact)?
                .sqr()?
                .mean_all()?
                .to_scalar::<f32>()?
                .sqrt();
            let size = exact.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
            assert!(apart < 0.12 * size, "{apart} {size}");
            let last = blocks.rows(&[rows as u32 - 1, 0])?;
            let wanted = Tensor::cat(
                &[values.narrow(0, rows - 1, 1)?, values.narrow(0, 0, 1)?],
                0,
            )?;
            assert_eq!(last.to_vec2::<f32>()?, wanted.to_vec2::<f32>()?);
            assert!(blocks.is_finite()?);
        }
        let turned =
            Blocks::quantize(&random(&[3, 64], 1.0, 1), BlockType::Nf4)?.reordered(&[1, 0, 2]);
        assert!(turned.is_err_and(|error| error.to_string().contains("NF4")));
        let narrow = random(&[5, 128], 1.0, 2).to_dtype(DType::BF16)?;
        let wide = narrow.to_dtype(DType::F32)?;
        let of = |values: &Tensor| {
            Blocks::quantize(values, BlockType::Nf4)?
                .dequantize()?
                .to_vec2::<f32>()
                .map_err(Error::from)
        };
        assert_eq!(of(&narrow)?, of(&wide)?);
        assert_eq!(of(&wide.t()?.contiguous()?.t()?)?, of(&wide)?);
        Ok(())
    }
}
