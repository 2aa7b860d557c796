//! Numbers as colours: a grid of values becomes a small PNG.
//!
//! Colours diverge around zero (blue below, red above, white at zero) and end at a limit; what lies beyond is drawn
//! darker still, NaN is violet with a dark frame of its cell where cells are large enough, infinities are black.

use image::{Rgb, RgbImage};

use crate::error::{Error, Result};

/// Cells along one side that a heat map shows; larger grids are averaged down.
pub const MAX_SIDE: usize = 192;
/// Pixels along one side that a picture of a grid has at most.
const MOST_PIXELS: u32 = 1 << 13;
/// A cell that is not a number.
pub const NAN_COLOR: [u8; 3] = [255, 0, 255];
const INFINITE_COLOR: [u8; 3] = [0, 0, 0];
const BEYOND_BELOW: [u8; 3] = [3, 25, 58];
const BEYOND_ABOVE: [u8; 3] = [62, 0, 18];

/// From most negative to most positive: ColorBrewer's RdBu, reversed.
const STOPS: [[u8; 3]; 9] = [
    [33, 102, 172],
    [67, 147, 195],
    [146, 197, 222],
    [209, 229, 240],
    [250, 250, 250],
    [253, 219, 199],
    [244, 165, 130],
    [214, 96, 77],
    [178, 24, 43],
];

/// The colour of `value` on a scale that ends at `-limit` and `limit`.
pub fn diverging(value: f32, limit: f32) -> [u8; 3] {
    if value.is_nan() {
        return NAN_COLOR;
    }
    if value.is_infinite() {
        return INFINITE_COLOR;
    }
    let position = if limit > 0.0 { value / limit } else { 0.0 };
    // Rounding may put the largest value a hair beyond a limit that was computed from it.
    if position > 1.0 + 1e-5 {
        return BEYOND_ABOVE;
    }
    if position < -1.0 - 1e-5 {
        return BEYOND_BELOW;
    }
    let scaled = (position.clamp(-1.0, 1.0) + 1.0) / 2.0 * (STOPS.len() - 1) as f32;
    let below = (scaled as usize).min(STOPS.len() - 2);
    let part = scaled - below as f32;
    let mix = |channel: usize| {
        let (low, high) = (
            f32::from(STOPS[below][channel]),
            f32::from(STOPS[below + 1][channel]),
        );
        (low + (high - low) * part).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

/// Black or white, whichever reads on `background`.
pub fn text_on(background: [u8; 3]) -> &'static str {
    let [r, g, b] = background.map(f32::from);
    if 0.299 * r + 0.587 * g + 0.114 * b > 140.0 {
        "#000000"
    } else {
        "#ffffff"
    }
}

/// `#rrggbb`
pub fn css([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The limit at which colours end: three standard deviations around zero, or the largest size if that is smaller.
pub fn limit(values: &[f32]) -> f32 {
    let finite = || {
        values
            .iter()
            .filter(|value| value.is_finite())
            .map(|value| f64::from(*value))
    };
    let size = finite().count().max(1) as f64;
    let deviation = (finite().map(|value| value * value).sum::<f64>() / size).sqrt();
    let largest = finite().map(f64::abs).fold(0.0, f64::max);
    (3.0 * deviation).min(largest) as f32
}

/// A grid of values, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// `rows × columns` values, row by row.
    pub values: Vec<f32>,
}

impl Grid {
    /// A grid of these values.
    ///
    /// # Errors
    /// [`Error::Input`] if there are not `rows × columns` of them.
    pub fn new(rows: usize, columns: usize, values: Vec<f32>) -> Result<Self> {
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(Error::Input(format!(
                "a grid of {rows} × {columns} needs {} values, got {}: check the shape",
                rows.saturating_mul(columns),
                values.len()
            )));
        }
        Ok(Self {
            rows,
            columns,
            values,
        })
    }

    /// The grid averaged down until no side has more than `side` cells. A block that holds a NaN stays NaN.
    pub fn shrunk(&self, side: usize) -> Self {
        self.shrunk_to(side, side)
    }

    /// As [`Grid::shrunk`], with a limit for each direction.
    pub fn shrunk_to(&self, most_rows: usize, most_columns: usize) -> Self {
        let (high, wide) = (
            self.rows.div_ceil(most_rows.max(1)).max(1),
            self.columns.div_ceil(most_columns.max(1)).max(1),
        );
        if high == 1 && wide == 1 {
            return self.clone();
        }
        let (rows, columns) = (self.rows.div_ceil(high), self.columns.div_ceil(wide));
        let mut values = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let (mut sum, mut number) = (0.0, 0.0);
                for y in row * high..((row + 1) * high).min(self.rows) {
                    let start = y * self.columns;
                    let end = ((column + 1) * wide).min(self.columns);
                    let block = self.values.get(start + column * wide..start + end);
                    for value in block.unwrap_or_default() {
                        sum += f64::from(*value);
                        number += 1.0;
                    }
                }
                values.push((sum / number) as f32);
            }
        }
        Self {
            rows,
            columns,
            values,
        }
    }

    /// The grid as a picture, every cell a square of `cell` pixels; a grid that would be too large for a picture is averaged
    /// down first.
    pub fn picture(&self, limit: f32, cell: u32) -> RgbImage {
        let cell = cell.clamp(1, MOST_PIXELS);
        let side = (MOST_PIXELS / cell) as usize;
        if self.rows.max(self.columns) > side {
            return self.shrunk(side).picture(limit, cell);
        }
        let (width, height) = (self.columns as u32 * cell, self.rows as u32 * cell);
        RgbImage::from_fn(width, height, |x, y| {
            let index = (y / cell) as usize * self.columns + (x / cell) as usize;
            Rgb(diverging(
                self.values.get(index).copied().unwrap_or(f32::NAN),
                limit,
            ))
        })
    }
}

/// The bytes of a PNG file of `picture`.
pub fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    // Writing to memory fails only for a picture without pixels, which then has no bytes.
    let _ = picture.write_to(&mut bytes, image::ImageFormat::Png);
    bytes.into_inner()
}

/// The scale under a heat map: `−limit` to `limit`, 128 × 10 pixels.
pub fn scale_picture() -> RgbImage {
    RgbImage::from_fn(128, 10, |x, _| Rgb(diverging(x as f32 / 63.5 - 1.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_diverge_and_mark_what_is_special() {
        assert_eq!(diverging(0.0, 1.0), [250, 250, 250]);
        assert_eq!(diverging(1.0, 1.0), [178, 24, 43]);
        assert_eq!(diverging(-1.0, 1.0), [33, 102, 172]);
        assert_eq!(diverging(2.0, 1.0), BEYOND_ABOVE);
        assert_eq!(diverging(-2.0, 1.0), BEYOND_BELOW);
        assert_eq!(diverging(f32::NAN, 1.0), NAN_COLOR);
        assert_eq!(diverging(f32::NEG_INFINITY, 1.0), INFINITE_COLOR);
        assert_eq!(diverging(0.0, 0.0), [250, 250, 250]);
    }

    #[test]
    fn the_limit_is_three_deviations_or_the_largest_value() {
        assert_eq!(limit(&[5.0, 5.0]), 5.0);
        let mut values = vec![0.1_f32; 999];
        values.push(100.0);
        values.push(f32::NAN);
        assert!((limit(&values) - 9.49).abs() < 0.01, "{}", limit(&values));
        assert_eq!(limit(&[]), 0.0);
    }

    #[test]
    fn shrinking_averages_blocks_and_keeps_nan() {
        let grid =
            Grid::new(2, 4, vec![1.0, 3.0, 5.0, f32::NAN, 1.0, 3.0, 5.0, 5.0]).expect("fits");
        let small = grid.shrunk(2);
        assert_eq!((small.rows, small.columns, small.values[0]), (2, 2, 2.0));
        assert!(small.values[1].is_nan());
        assert_eq!(small.values[3], 5.0);
        assert!(Grid::new(2, 2, vec![0.0]).is_err());
        let wide = Grid::new(1, 5000, vec![1.0; 5000])
            .expect("fits")
            .shrunk(MAX_SIDE);
        assert!(wide.columns <= MAX_SIDE && wide.rows == 1);
    }
}
