//! Numbers as colours: a grid of values becomes a small PNG.
//!
//! Where signs mix, colours diverge around zero (blue below, red above, white at zero); values of one sign go from pale to
//! dark over the range that they have ([`Scale`]). What lies beyond the scale is drawn darker still, NaN is violet, infinities
//! are black.

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

/// From least to most of what is nowhere negative: ColorBrewer's YlOrRd.
const RISING: [[u8; 3]; 9] = [
    [255, 255, 204],
    [255, 237, 160],
    [254, 217, 118],
    [254, 178, 76],
    [253, 141, 60],
    [252, 78, 42],
    [227, 26, 28],
    [189, 0, 38],
    [128, 0, 38],
];

/// From most negative to least of what is nowhere positive: ColorBrewer's Blues, reversed.
const FALLING: [[u8; 3]; 9] = [
    [8, 48, 107],
    [8, 81, 156],
    [33, 113, 181],
    [66, 146, 198],
    [107, 174, 214],
    [158, 202, 225],
    [198, 219, 239],
    [222, 235, 247],
    [247, 251, 255],
];

/// The colour of `value` on a scale that ends at `-limit` and `limit`.
pub fn diverging(value: f32, limit: f32) -> [u8; 3] {
    let (low, high) = (-limit, limit);
    Scale { low, high }.of_stops(value, &STOPS)
}

/// Which colours a heat map's values have: `low` to `high`, around zero where both signs occur.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::display::Scale;
///
/// let scale = Scale::of(&[-1.0, 0.0, 2.0]);
/// assert_eq!((scale.low, scale.high), (-2.0, 2.0)); // as far to both sides of zero
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Where the colours begin.
    pub low: f32,
    /// Where they end.
    pub high: f32,
}

impl Scale {
    /// The scale for these values, of which those that are not finite do not count. If signs mix, it reaches as far to both
    /// sides of zero; else from the smallest value to the largest. Far outliers lie beyond it: more than three standard
    /// deviations from zero, or from the mean.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a f32, IntoIter: Clone>) -> Self {
        let values = values.into_iter();
        let finite = || {
            let finite = values.clone().filter(|value| value.is_finite());
            finite.map(|value| f64::from(*value))
        };
        let (low, high) = finite()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let count = finite().count().max(1) as f64;
        if low < 0.0 && high > 0.0 {
            let deviation = (finite().map(|value| value * value).sum::<f64>() / count).sqrt();
            let limit = (3.0 * deviation).min(high.max(-low)) as f32;
            return Self {
                low: -limit,
                high: limit,
            };
        }
        if low > high {
            return Self {
                low: 0.0,
                high: 0.0,
            };
        }
        let mean = finite().sum::<f64>() / count;
        let square = |value: f64| (value - mean) * (value - mean);
        let reach = 3.0 * (finite().map(square).sum::<f64>() / count).sqrt();
        Self {
            low: low.max(mean - reach) as f32,
            high: high.min(mean + reach) as f32,
        }
    }

    /// The scale as a strip of colours with its ends, HTML.
    pub(crate) fn legend(&self) -> String {
        const STEPS: usize = 24;
        let at = |step: usize| {
            let share = step as f32 / (STEPS - 1) as f32;
            self.color(self.low + share * (self.high - self.low))
        };
        let steps = (0..STEPS).map(|step| {
            format!(
                "<span style=\"display:inline-block;width:5px;height:9px;background:{}\"></span>",
                css(at(step))
            )
        });
        let end = |value: f32| super::number::short(f64::from(value));
        format!(
            "<div style=\"font-size:11px;opacity:0.85\">{} <span style=\"font-size:0\">{}</span> {}</div>",
            end(self.low),
            steps.collect::<String>(),
            end(self.high)
        )
    }

    /// The colour of `value`.
    pub fn color(&self, value: f32) -> [u8; 3] {
        let stops = match (self.low < 0.0, self.high > 0.0) {
            (true, true) => &STOPS,
            (true, false) => &FALLING,
            (false, _) => &RISING,
        };
        self.of_stops(value, stops)
    }

    fn of_stops(&self, value: f32, stops: &[[u8; 3]; 9]) -> [u8; 3] {
        if value.is_nan() {
            return NAN_COLOR;
        }
        if value.is_infinite() {
            return INFINITE_COLOR;
        }
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let position = if high > low {
            (f64::from(value) - low) / (high - low)
        } else {
            0.5
        };
        // Rounding may put the largest value a hair beyond an end that was computed from it.
        if position > 1.0 + 1e-5 {
            return BEYOND_ABOVE;
        }
        if position < -1e-5 {
            return BEYOND_BELOW;
        }
        let scaled = position.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let below = (scaled as usize).min(stops.len() - 2);
        let part = scaled - below as f64;
        let mix = |channel: usize| {
            let (low, high) = (
                f64::from(stops[below][channel]),
                f64::from(stops[below + 1][channel]),
            );
            (low + (high - low) * part).round() as u8
        };
        [mix(0), mix(1), mix(2)]
    }

    /// The strip of colours under a heat map: `low` to `high`, 128 × 10 pixels.
    pub fn picture(&self) -> RgbImage {
        // Every scale looks the same in its own units, so it is drawn in units in which nothing can overflow.
        let unit = match (self.low < 0.0, self.high > 0.0) {
            (true, true) => Self {
                low: -1.0,
                high: 1.0,
            },
            (true, false) => Self {
                low: -1.0,
                high: 0.0,
            },
            (false, _) => Self {
                low: 0.0,
                high: 1.0,
            },
        };
        RgbImage::from_fn(128, 10, |x, _| {
            Rgb(unit.color(unit.low + (unit.high - unit.low) * x as f32 / 127.0))
        })
    }
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

/// A grid of values, row by row.
#[derive(Clone, PartialEq)]
pub(crate) struct Grid {
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
    pub fn picture(&self, scale: Scale, cell: u32) -> RgbImage {
        let cell = cell.clamp(1, MOST_PIXELS);
        let side = (MOST_PIXELS / cell) as usize;
        if self.rows.max(self.columns) > side {
            return self.shrunk(side).picture(scale, cell);
        }
        let (width, height) = (self.columns as u32 * cell, self.rows as u32 * cell);
        RgbImage::from_fn(width, height, |x, y| {
            let index = (y / cell) as usize * self.columns + (x / cell) as usize;
            Rgb(scale.color(self.values.get(index).copied().unwrap_or(f32::NAN)))
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

    fn scale(values: &[f32]) -> (f32, f32) {
        let Scale { low, high } = Scale::of(values);
        (low, high)
    }

    #[test]
    fn values_of_one_sign_have_a_scale_of_one_sign() {
        let counted: Vec<f32> = (0..30).map(|value| value as f32).collect();
        assert_eq!(scale(&counted), (0.0, 29.0));
        let negative: Vec<f32> = counted.iter().map(|value| -value).collect();
        assert_eq!(scale(&negative), (-29.0, 0.0));
        assert_eq!(scale(&[-1.0, 0.0, 4.0]), (-4.0, 4.0));
        assert_eq!(scale(&[5.0, 5.0]), (5.0, 5.0));
        assert_eq!(scale(&[]), (0.0, 0.0));
        assert_eq!(scale(&[0.0, f32::NAN]), (0.0, 0.0));
        let end = f32::MAX;
        assert_eq!(scale(&[-end, end]), (-end, end));
        let up = Scale::of(&counted);
        assert_eq!((up.color(0.0), up.color(29.0)), (RISING[0], RISING[8]));
        let down = Scale::of(&negative);
        assert_eq!(
            (down.color(-29.0), down.color(0.0)),
            (FALLING[0], FALLING[8])
        );
        let all = [-end, end];
        assert_eq!(Scale::of(&all).color(0.0), STOPS[4]);
    }

    #[test]
    fn outliers_lie_beyond_the_scale() {
        let mut values = vec![0.1_f32; 999];
        values.push(100.0);
        values.push(f32::NAN);
        let rising = Scale::of(&values);
        assert!((rising.high - 9.68).abs() < 0.02, "{rising:?}");
        assert_eq!(rising.color(100.0), BEYOND_ABOVE);
        values.push(-0.1);
        let both = Scale::of(&values);
        assert!(
            (both.high - 9.48).abs() < 0.02 && both.low == -both.high,
            "{both:?}"
        );
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
