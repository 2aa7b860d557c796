//! Pillow's `Image.resize`, to the bit.
//!
//! 8-bit RGB → one direction → 8-bit RGB → the other direction → 8-bit RGB. Each output pixel is a weighted sum of the input
//! pixels under a filter that widens with the reduction (that is the anti-aliasing). Weights are rounded to 22-bit
//! fixed point and each pass rounds to 8 bits; other libraries round elsewhere and differ by a level on one value in
//! six. A pass whose size does not change is skipped.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The filters that Hugging Face image processors use, by Pillow's numbers.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::vision::Resample;
///
/// # fn main() -> Result<()> {
/// let config = ImageProcessorConfig { resample: Resample::Bicubic, ..ImageProcessorConfig::vit(32) };
/// let pixel_values = ImageProcessor::new(config)?.preprocess(&Image::filled(100, 50, [255; 3])?)?;
/// assert_eq!(pixel_values.dims(), [1, 3, 32, 32]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Resample {
    /// Pillow's 1: Idefics3, SmolVLM.
    Lanczos,
    /// Pillow's 2: ViT.
    Bilinear,
    /// Pillow's 3: CLIP, SigLIP, DINOv2.
    Bicubic,
}

impl TryFrom<u8> for Resample {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1 => Ok(Resample::Lanczos),
            2 => Ok(Resample::Bilinear),
            3 => Ok(Resample::Bicubic),
            _ => Err(format!(
                "resample {number} is not supported: use 1 (Lanczos), 2 (bilinear) or 3 (bicubic)"
            )),
        }
    }
}

impl From<Resample> for u8 {
    fn from(filter: Resample) -> u8 {
        match filter {
            Resample::Lanczos => 1,
            Resample::Bilinear => 2,
            Resample::Bicubic => 3,
        }
    }
}

impl Resample {
    /// Half of the filter's width at reduction 1, in pixels.
    fn support(self) -> f64 {
        match self {
            Resample::Lanczos => 3.0,
            Resample::Bilinear => 1.0,
            Resample::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Resample::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Resample::Bilinear if x < 1.0 => 1.0 - x,
            Resample::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Resample::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// Sharpness of Pillow's bicubic.
const A: f64 = -0.5;

/// Bits behind the point of a weight: 32 less 8 for the pixel less 2 for overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The input pixels under one output pixel.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// A limit on what an extreme aspect ratio can ask for: 64 million pixels.
pub(super) const MOST_PIXELS: u64 = 1 << 26;

/// As [`resize`], within a bound on memory.
///
/// # Errors
/// `Input` when the picture, or what lies between the two passes, would be huge.
pub(super) fn resize_within(
    picture: &RgbImage,
    (width, height): (u32, u32),
    filter: Resample,
) -> Result<RgbImage> {
    let from = picture.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(Error::Input(format!(
            "a picture of {}×{} pixels would become {width}×{height} pixels: crop it to a less extreme shape first",
            from.0, from.1
        )));
    }
    if width == 0 || height == 0 {
        return Err(Error::Input(format!(
            "a picture of {}×{} pixels would become {width}×{height}: give it at least one pixel a side",
            from.0, from.1
        )));
    }
    if pixels_between(from, (width, height)) > 4 * MOST_PIXELS {
        return Err(Error::Input(format!(
            "a picture of {}×{} pixels is too large to resize: shrink it first",
            from.0, from.1
        )));
    }
    Ok(resize(picture, width, height, filter))
}

/// Resizes to `width`×`height`, both at least 1.
fn resize(picture: &RgbImage, width: u32, height: u32, filter: Resample) -> RgbImage {
    let from = picture.dimensions();
    let mut pixels = picture.as_raw().clone();
    for pass in passes(from, (width, height)) {
        pixels = match pass {
            Pass::Vertical if height == from.1 => pixels,
            Pass::Horizontal if width == from.0 => pixels,
            Pass::Vertical => {
                let row = pixels.len() / from.1 as usize; // bytes in a row, before or after the horizontal pass
                vertical(&pixels, row, &taps(from.1, height, filter))
            }
            Pass::Horizontal => {
                horizontal(&pixels, from.0 as usize * 3, &taps(from.0, width, filter))
            }
        };
    }
    let mut resized = RgbImage::new(width, height);
    resized.copy_from_slice(&pixels);
    resized
}

/// Pixels of the picture between the passes.
fn pixels_between(from: (u32, u32), to: (u32, u32)) -> u64 {
    match passes(from, to)[0] {
        Pass::Horizontal => u64::from(to.0) * u64::from(from.1),
        Pass::Vertical => u64::from(from.0) * u64::from(to.1),
    }
}

#[derive(Clone, Copy)]
enum Pass {
    Horizontal,
    Vertical,
}

/// The order matters for the rounding between the passes. Pillow 13 goes vertically first when the height shrinks by
/// more than twice what the width shrinks by (measured against it on 2,900 sizes); up to Pillow 12 the horizontal
/// pass always came first.
fn passes(from: (u32, u32), to: (u32, u32)) -> [Pass; 2] {
    let shrink = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let (width, height) = (shrink(from.0, to.0), shrink(from.1, to.1));
    if height > 0 && height > 2 * width {
        [Pass::Vertical, Pass::Horizontal]
    } else {
        [Pass::Horizontal, Pass::Vertical]
    }
}

/// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`.
fn taps(from: u32, to: u32, filter: Resample) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let inverse = 1.0 / filter_scale;
    (0..to)
        .map(|position| {
            let center = (f64::from(position) + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from as usize);
            let mut weights: Vec<f64> = (first..end.max(first))
                .map(|pixel| filter.weight((pixel as f64 - center + 0.5) * inverse))
                .collect();
            let total: f64 = weights.iter().sum();
            if total != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= total);
            }
            let one = f64::from(1 << PRECISION_BITS);
            // `as` cuts towards 0, as C does
            let weights = weights
                .iter()
                .map(|weight| (weight * one + 0.5_f64.copysign(*weight)) as i32)
                .collect();
            Taps { first, weights }
        })
        .collect()
}

fn to_level(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn horizontal(pixels: &[u8], row: usize, taps: &[Taps]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(pixels.len() / row * taps.len() * 3);
    for row in pixels.chunks_exact(row) {
        for tap in taps {
            let mut sums = [1_i32 << (PRECISION_BITS - 1); 3];
            for (pixel, weight) in row[tap.first * 3..].chunks_exact(3).zip(&tap.weights) {
                for (sum, level) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*level) * weight;
                }
            }
            resized.extend(sums.map(to_level));
        }
    }
    resized
}

fn vertical(pixels: &[u8], stride: usize, taps: &[Taps]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(stride * taps.len());
    let mut sums = vec![0_i32; stride];
    for tap in taps {
        sums.fill(1 << (PRECISION_BITS - 1));
        for (row, weight) in pixels[tap.first * stride..]
            .chunks_exact(stride)
            .zip(&tap.weights)
        {
            for (sum, level) in sums.iter_mut().zip(row) {
                *sum += i32::from(*level) * weight;
            }
        }
        resized.extend(sums.iter().map(|sum| to_level(*sum)));
    }
    resized
}
