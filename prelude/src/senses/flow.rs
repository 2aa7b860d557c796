//! Fields of flow: a velocity at each place of a grid; read from text, made by rule, drawn as arrows, as pictures of two channels.
//!
//! ```text
//! x y u v        a line for each place, in any order; what stands behind is not used ─► grid ─► [1, 2, S, S]
//! ```

use std::path::Path;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::display::heat::{self, Scale};
use crate::display::html::{self, escape};
use crate::display::{MimeBundle, Render, number};
use crate::{Error, Result, files};

/// A larger file is not read, in bytes.
const LARGEST: u64 = 1 << 30;
/// Places of a grid that is read.
const MOST: usize = 4_000_000;
/// Arrows a side of a drawing.
const ARROWS: usize = 24;

/// Velocities on a grid, row by row with y falling, as a picture has them.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let text = "x y u v\n0 0 1 0\n1 0 1 0\n0 1 2 0\n1 1 2 0\n";
/// let field = FlowField::read("four places", text, FlowGaps::Refuse)?;
/// assert_eq!(field.size(), (2, 2));
/// assert_eq!(field.at(0, 0), Some((2.0, 0.0))); // the top row has the largest y
/// assert_eq!(field.tensor(8, &Device::Cpu)?.dims(), [1, 2, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct FlowField {
    /// What it is called.
    pub name: String,
    rows: usize,
    columns: usize,
    u: Vec<f32>,
    v: Vec<f32>,
    filled: usize,
    not_used: usize,
}

/// What a place without a measured velocity becomes.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let text = "0 0 1 0\n1 0 NaN NaN\n0 1 2 0\n1 1 2 0\n";
/// assert!(FlowField::read("with a gap", text, FlowGaps::Refuse).is_err());
/// assert_eq!(FlowField::read("with a gap", text, FlowGaps::Still)?.filled(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowGaps {
    /// An error.
    Refuse,
    /// Standing still; [`FlowField::filled`] counts them.
    Still,
}

/// Kinds of flow that are made by rule.
const KINDS: [&str; 5] = [
    "vortex to the left",
    "vortex to the right",
    "source",
    "sink",
    "shear",
];

impl FlowField {
    /// A field from velocities u (to the right) and v (up), row by row from the top.
    ///
    /// # Errors
    /// [`Error::NotANumber`]; for a grid without places, and another number of values than it has places.
    pub fn new(
        name: impl Into<String>,
        (rows, columns): (usize, usize),
        u: Vec<f32>,
        v: Vec<f32>,
    ) -> Result<Self> {
        let name = name.into();
        let count = rows.checked_mul(columns).unwrap_or(0);
        if count == 0 || u.len() != count || v.len() != count {
            return Err(Error::Input(format!(
                "{name}: a field of {rows} × {columns} places has as many values of u and of v and at least one, got {} and {}",
                u.len(),
                v.len()
            )));
        }
        for (what, values) in [("u", &u), ("v", &v)] {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::NotANumber {
                    what: name,
                    place: format!("{what} in row {}, column {}", at / columns, at % columns),
                    value: f64::from(values[at]),
                });
            }
        }
        Ok(Self {
            name,
            rows,
            columns,
            u,
            v,
            filled: 0,
            not_used: 0,
        })
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// (u, v) at a place, row 0 at the top; `None` outside.
    pub fn at(&self, row: usize, column: usize) -> Option<(f32, f32)> {
        let inside = row < self.rows && column < self.columns;
        inside.then(|| {
            (
                self.u[row * self.columns + column],
                self.v[row * self.columns + column],
            )
        })
    }

    /// Places whose velocity was not measured and stands still.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Values behind x, y, u and v that were read and are not kept.
    pub fn not_used(&self) -> usize {
        self.not_used
    }

    /// Reads a file of `x y u v` lines; lines in front that begin with `#` or a letter are headings.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Line`] with the line of what is wrong, [`Error::NotANumber`] for a velocity that is none unless `gaps` says
    /// otherwise; for places that make no whole grid.
    pub fn open(path: impl AsRef<Path>, gaps: FlowGaps) -> Result<Self> {
        let path = path.as_ref();
        let bytes = files::read(path, LARGEST)?;
        Self::read(
            &path.display().to_string(),
            &String::from_utf8_lossy(&bytes),
            gaps,
        )
    }

    /// Reads the text of such a file; `what` is how messages call it.
    ///
    /// # Errors
    /// As [`FlowField::open`].
    pub fn read(what: &str, text: &str, gaps: FlowGaps) -> Result<Self> {
        let mut points: Vec<(f64, f64, f32, f32)> = Vec::new();
        let (mut filled, mut not_used) = (0, 0);
        for (place, line) in text.lines().enumerate() {
            let line = line.trim();
            let heading =
                points.is_empty() && line.starts_with(|c: char| c.is_alphabetic() || c == '"');
            if line.is_empty()
                || line.starts_with(['#', '%'])
                || (heading && !line.to_ascii_lowercase().starts_with("nan"))
            {
                continue;
            }
            let fault = |message: String| Error::Line {
                what: what.to_owned(),
                line: place + 1,
                message,
            };
            let mut values = [0f64; 4];
            let parts: Vec<&str> = line
                .split([' ', '\t', ',', ';'])
                .filter(|part| !part.is_empty())
                .collect();
            if parts.len() < 4 {
                return Err(fault(format!(
                    "a place has x, y, u and v, got {} values",
                    parts.len()
                )));
            }
            for (value, text) in values.iter_mut().zip(&parts) {
                *value = text
                    .parse()
                    .map_err(|_| fault(format!("{text:?} is no number")))?;
            }
            not_used += parts.len() - 4;
            let [x, y, mut u, mut v] = values;
            if !(x.is_finite() && y.is_finite()) {
                return Err(fault("a place itself is no number".into()));
            }
            if !(u.is_finite() && v.is_finite() && (u as f32).is_finite() && (v as f32).is_finite())
            {
                if gaps == FlowGaps::Refuse {
                    let value = if u.is_finite() { v } else { u };
                    return Err(Error::NotANumber {
                        what: what.to_owned(),
                        place: format!("the velocity in line {}", place + 1),
                        value,
                    });
                }
                (u, v) = (0.0, 0.0);
                filled += 1;
            }
            if points.len() == MOST {
                return Err(fault(format!("more than {MOST} places are not read")));
            }
            points.push((x, y, u as f32, v as f32));
        }
        if points.is_empty() {
            return Err(Error::Input(format!(
                "{what} holds no place with x, y, u and v"
            )));
        }
        let different = |of: fn(&(f64, f64, f32, f32)) -> f64| {
            let mut all: Vec<f64> = points.iter().map(of).map(|value| value + 0.0).collect(); // −0 is 0
            all.sort_by(f64::total_cmp);
            all.dedup();
            all
        };
        let (xs, ys) = (different(|point| point.0), different(|point| point.1));
        let (rows, columns) = (ys.len(), xs.len());
        if rows.checked_mul(columns) != Some(points.len()) {
            return Err(Error::Input(format!(
                "{what} has {} places, with {columns} different x and {rows} different y: a whole grid has one for each pair",
                points.len()
            )));
        }
        let (mut u, mut v, mut seen) = (
            vec![0f32; points.len()],
            vec![0f32; points.len()],
            vec![false; points.len()],
        );
        for (x, y, right, up) in points {
            let column = xs.partition_point(|value| *value < x);
            let row = rows - 1 - ys.partition_point(|value| *value < y);
            let place = row * columns + column;
            if std::mem::replace(&mut seen[place], true) {
                return Err(Error::Input(format!(
                    "{what} has two velocities at x = {x}, y = {y}"
                )));
            }
            (u[place], v[place]) = (right, up);
        }
        let mut field = Self::new(what, (rows, columns), u, v)?;
        (field.filled, field.not_used) = (filled, not_used);
        Ok(field)
    }

    /// A field made by rule with what it is: a vortex that turns left or right, a source, a sink or a shear, somewhere near the middle
    /// of 32 × 32 places, in a little noise. The same seed and number give the same field.
    ///
    /// # Errors
    /// None; the signature is that of all that makes fields.
    pub fn generated(seed: u64, number: u64) -> Result<(Self, &'static str)> {
        const SIDE: usize = 32;
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let kind = (number % KINDS.len() as u64) as usize;
        let (cx, cy): (f32, f32) = (rng.random_range(-0.4..0.4), rng.random_range(-0.4..0.4));
        let strength: f32 = rng.random_range(0.6..1.4);
        let (mut u, mut v) = (Vec::new(), Vec::new());
        for row in 0..SIDE {
            for column in 0..SIDE {
                let x = 2.0 * column as f32 / (SIDE - 1) as f32 - 1.0 - cx;
                let y = 1.0 - 2.0 * row as f32 / (SIDE - 1) as f32 - cy;
                let fall = strength / (0.1 + x * x + y * y);
                let (right, up) = match kind {
                    0 => (-y * fall, x * fall),
                    1 => (y * fall, -x * fall),
                    2 => (x * fall, y * fall),
                    3 => (-x * fall, -y * fall),
                    _ => (strength * 2.0 * y, 0.0),
                };
                u.push(right + rng.random_range(-0.05..0.05));
                v.push(up + rng.random_range(-0.05..0.05));
            }
        }
        Ok((
            Self::new(format!("{} {number}", KINDS[kind]), (SIDE, SIDE), u, v)?,
            KINDS[kind],
        ))
    }

    /// The field as an input of two channels, `[1, 2, S, S]`: brought to `side` places a side by straight lines, over its largest speed.
    ///
    /// # Errors
    /// For a side of 0.
    pub fn tensor(&self, side: usize, device: &Device) -> Result<Tensor> {
        if side == 0 {
            return Err(Error::Input("a side has at least one place".into()));
        }
        let largest = self.speeds().fold(0f32, f32::max).max(f32::MIN_POSITIVE);
        let step = |count: usize, place: usize| match side {
            1 => (count - 1) as f32 / 2.0,
            _ => (count - 1) as f32 * place as f32 / (side - 1) as f32,
        };
        let mut values = Vec::with_capacity(2 * side * side);
        for channel in [&self.u, &self.v] {
            for row in 0..side {
                for column in 0..side {
                    let (y, x) = (step(self.rows, row), step(self.columns, column));
                    let (top, left) = (y.floor() as usize, x.floor() as usize);
                    let (bottom, right) = (
                        (top + 1).min(self.rows - 1),
                        (left + 1).min(self.columns - 1),
                    );
                    let (dy, dx) = (y - top as f32, x - left as f32);
                    let at =
                        |row: usize, column: usize| channel[row * self.columns + column] / largest;
                    let upper = at(top, left) * (1.0 - dx) + at(top, right) * dx;
                    let lower = at(bottom, left) * (1.0 - dx) + at(bottom, right) * dx;
                    values.push(upper * (1.0 - dy) + lower * dy);
                }
            }
        }
        Ok(Tensor::from_vec(values, (1, 2, side, side), device)?)
    }

    fn speeds(&self) -> impl Iterator<Item = f32> {
        self.u.iter().zip(&self.v).map(|(u, v)| u.hypot(*v))
    }

    /// The field as arrows over squares that show a number each, such as attention: `weights` row by row of a square grid.
    pub(super) fn drawn(&self, title: &str, weights: &[f32]) -> MimeBundle {
        self.drawn_on(title, weights, Scale::of(weights))
    }

    /// The same in the colours of a given scale.
    pub(super) fn drawn_on(&self, title: &str, weights: &[f32], scale: Scale) -> MimeBundle {
        let cell = 420.0 / self.columns.max(self.rows) as f64;
        let (width, height) = (cell * self.columns as f64, cell * self.rows as f64);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.1} {height:.1}\">\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
        let grid = weights.len().isqrt();
        for (place, weight) in weights.iter().enumerate().take(grid * grid) {
            let (w, h) = (width / grid as f64, height / grid as f64);
            svg.push_str(&format!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{}\" fill-opacity=\"0.6\"/>",
                (place % grid) as f64 * w, (place / grid) as f64 * h, heat::css(scale.color(*weight))
            ));
        }
        let largest = f64::from(self.speeds().fold(0f32, f32::max)).max(1e-30);
        let stride = self.rows.max(self.columns).div_ceil(ARROWS).max(1);
        for row in (stride / 2..self.rows).step_by(stride) {
            for column in (stride / 2..self.columns).step_by(stride) {
                let (u, v) = self.at(row, column).unwrap_or_default();
                let (x, y) = ((column as f64 + 0.5) * cell, (row as f64 + 0.5) * cell);
                let long = 0.85 * cell * stride as f64 / largest;
                let (dx, dy) = (f64::from(u) * long, -f64::from(v) * long);
                let (tx, ty) = (x + dx / 2.0, y + dy / 2.0);
                svg.push_str(&format!(
                    "<path d=\"M{:.1} {:.1}L{tx:.1} {ty:.1}M{:.1} {:.1}L{tx:.1} {ty:.1}L{:.1} {:.1}\" fill=\"none\" stroke=\"#1f4e9c\" stroke-width=\"1.2\"/>",
                    x - dx / 2.0, y - dy / 2.0,
                    tx - 0.3 * dx - 0.18 * dy, ty - 0.3 * dy + 0.18 * dx,
                    tx - 0.3 * dx + 0.18 * dy, ty - 0.3 * dy - 0.18 * dx
                ));
            }
        }
        svg.push_str("</svg>");
        let mean = self.speeds().map(f64::from).sum::<f64>() / self.u.len() as f64;
        let mut plain = format!(
            "{title}: {} × {} places, speed up to {}, {} on average",
            self.rows,
            self.columns,
            number::short(largest),
            number::short(mean)
        );
        for row in (0..self.rows).step_by(self.rows.div_ceil(8).max(1)) {
            let arrows = (0..self.columns)
                .step_by(self.columns.div_ceil(16).max(1))
                .map(|column| arrow(self.at(row, column).unwrap_or_default(), largest as f32));
            plain.push_str(&format!("\n  {}", arrows.collect::<String>()));
        }
        if self.filled > 0 {
            plain.push_str(&format!(
                "\n  {} places without a velocity stand still",
                self.filled
            ));
        }
        if let Some((most, weight)) = weights
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .filter(|_| grid > 0)
        {
            plain.push_str(&format!(
                "\n  most at row {}, column {} of {grid} × {grid}: {}",
                most / grid,
                most % grid,
                number::short(f64::from(*weight))
            ));
        }
        let picture = html::image("image/svg+xml", svg.as_bytes(), width as u32, title);
        let legend = match weights {
            [] => String::new(),
            _ => scale.legend(),
        };
        MimeBundle::text(plain).with_html(format!(
            "<div>{}</div>{picture}<div style=\"font-size:11px;opacity:0.85\">longest arrow: speed {}</div>{legend}",
            escape(title),
            number::short(largest)
        ))
    }
}

/// A velocity as a character.
fn arrow((u, v): (f32, f32), largest: f32) -> char {
    if u.hypot(v) < 0.02 * largest {
        return '·';
    }
    let eighth = (v.atan2(u) / std::f32::consts::FRAC_PI_4).round() as i32;
    ['→', '↗', '↑', '↖', '←', '↙', '↓', '↘'][eighth.rem_euclid(8) as usize]
}

impl Render for FlowField {
    fn render(&self) -> MimeBundle {
        self.drawn(&self.name, &[])
    }
}

impl std::fmt::Debug for FlowField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FlowField {} ({} × {} places)",
            self.name, self.rows, self.columns
        )
    }
}
