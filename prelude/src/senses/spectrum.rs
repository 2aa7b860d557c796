//! Spectra: peaks of a mass spectrum, or a curve over wavenumbers; read from MGF files and tables, made by rule, drawn.
//!
//! ```text
//! BEGIN IONS ... NAME=Fuberidazole ... 183.057  10964.5 ... END IONS          MGF (Matrix Science): a block for each spectrum
//! 4000,3998,... / 0.12,0.13,...                                            a table: positions in the first line, then a spectrum a line
//! ```

use std::path::Path;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::display::axis::Axis;
use crate::display::heat::{self, Scale};
use crate::display::html::{self, escape};
use crate::display::{MimeBundle, Render, number};
use crate::{Error, Result, files};

/// A larger file is not read, in bytes.
const LARGEST: u64 = 1 << 30;

/// A spectrum that is being read: the line where it begins, its points, its fields.
type Block = (usize, Vec<(f64, f64)>, Vec<(String, String)>);

/// What the points of a [`Spectrum`] are.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let (spectrum, what) = Spectrum::generated(SpectrumKind::Infrared, 1, 0)?;
/// println!("{what}");
/// assert_eq!(spectrum.kind, SpectrumKind::Infrared);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpectrumKind {
    /// Peaks at a mass over charge.
    Mass,
    /// A curve over wavenumbers, 1/cm.
    Infrared,
}

/// Points of a spectrum in rising order, with what else is known of it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let text = "BEGIN IONS\nTITLE=methanol\n15.0 40\n31.0 100\n32.0 70\nEND IONS\n";
/// let spectra = Spectrum::read_mgf("one spectrum", text)?; // files: Spectrum::open_mgf("spectra.mgf")?
/// assert_eq!(spectra[0].name, "methanol");
/// assert_eq!(spectra[0].points()[1], (31.0, 100.0)); // mass over charge, intensity
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct Spectrum {
    /// What it is called.
    pub name: String,
    /// What its points are.
    pub kind: SpectrumKind,
    points: Vec<(f64, f64)>,
    /// Fields of its file in their order.
    pub fields: Vec<(String, String)>,
}

impl Spectrum {
    /// A spectrum from points (position, intensity), which are sorted.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let spectrum = Spectrum::new("ethanol", SpectrumKind::Mass, vec![(31.0, 100.0), (45.0, 51.0), (46.0, 21.0)])?;
    /// assert_eq!(spectrum.peaks_tensor(8, &Device::Cpu)?.dims(), [1, 1, 3, 2]);
    /// assert!(Spectrum::new("nothing", SpectrumKind::Mass, vec![]).is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoPeaks`], [`Error::NotANumber`], and for a peak below zero.
    pub fn new(
        name: impl Into<String>,
        kind: SpectrumKind,
        mut points: Vec<(f64, f64)>,
    ) -> Result<Self> {
        let name = name.into();
        if points.is_empty()
            || (kind == SpectrumKind::Mass && points.iter().all(|(_, intensity)| *intensity == 0.0))
        {
            return Err(Error::NoPeaks { spectrum: name });
        }
        for (place, (at, intensity)) in points.iter().enumerate() {
            for (what, value) in [("position", at), ("intensity", intensity)] {
                if !value.is_finite() {
                    return Err(Error::NotANumber {
                        what: name,
                        place: format!("the {what} of point {place}"),
                        value: *value,
                    });
                }
            }
            if kind == SpectrumKind::Mass && (*at < 0.0 || *intensity < 0.0) {
                return Err(Error::Input(format!(
                    "{name}: the peak {at} {intensity} is below zero"
                )));
            }
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Self {
            name,
            kind,
            points,
            fields: Vec::new(),
        })
    }

    /// (position, intensity), positions rising.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The value of a field of its file, whatever its case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Reads all mass spectra of an MGF file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Line`] with the line of what is wrong, [`Error::NoPeaks`] for a spectrum or a file without any.
    pub fn open_mgf(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        let bytes = files::read(path, LARGEST)?;
        Self::read_mgf(
            &path.display().to_string(),
            &String::from_utf8_lossy(&bytes),
        )
    }

    /// Reads all mass spectra of a text in MGF; `what` is how messages call it.
    ///
    /// # Errors
    /// As [`Spectrum::open_mgf`].
    pub fn read_mgf(what: &str, text: &str) -> Result<Vec<Self>> {
        let fault = |line: usize, message: String| Error::Line {
            what: what.to_owned(),
            line,
            message,
        };
        let mut all = Vec::new();
        let mut shared: Vec<(String, String)> = Vec::new();
        let mut block: Option<Block> = None;
        for (place, line) in text.lines().enumerate() {
            let (number, line) = (place + 1, line.trim());
            if line.is_empty() || line.starts_with(['#', ';', '!', '/']) {
                continue;
            }
            if line.eq_ignore_ascii_case("BEGIN IONS") {
                if let Some((begun, ..)) = block {
                    return Err(fault(
                        number,
                        format!(
                            "a spectrum begins inside the one that begins in line {begun}: END IONS is missing"
                        ),
                    ));
                }
                block = Some((number, Vec::new(), shared.clone()));
            } else if line.eq_ignore_ascii_case("END IONS") {
                let Some((begun, points, fields)) = block.take() else {
                    return Err(fault(
                        number,
                        "END IONS without BEGIN IONS in front of it".into(),
                    ));
                };
                let named = |key: &str| {
                    fields
                        .iter()
                        .find(|(name, value)| name.eq_ignore_ascii_case(key) && !value.is_empty())
                };
                let name = named("NAME")
                    .or_else(|| named("TITLE"))
                    .map(|(_, value)| value.clone());
                let name = name.unwrap_or_else(|| format!("spectrum at line {begun}"));
                let mut spectrum =
                    Self::new(name, SpectrumKind::Mass, points).map_err(|error| match error {
                        Error::NoPeaks { spectrum } => Error::NoPeaks {
                            spectrum: format!("{spectrum} (line {begun} of {what})"),
                        },
                        error => error,
                    })?;
                spectrum.fields = fields;
                all.push(spectrum);
            } else if let Some((name, value)) = line
                .split_once('=')
                .filter(|(name, _)| name.starts_with(|c: char| c.is_ascii_alphabetic()))
            {
                let field = (name.trim().to_owned(), value.trim().to_owned());
                match &mut block {
                    Some((_, _, fields)) => fields.push(field),
                    None => shared.push(field),
                }
            } else {
                let Some((_, points, _)) = &mut block else {
                    return Err(fault(
                        number,
                        format!(
                            "{:?} stands outside of BEGIN IONS and END IONS",
                            shortened(line)
                        ),
                    ));
                };
                points.push(peak(line).map_err(|message| fault(number, message))?);
            }
        }
        if let Some((begun, ..)) = block {
            return Err(fault(
                begun,
                "the spectrum that begins here has no END IONS".into(),
            ));
        }
        match all.is_empty() {
            true => Err(Error::NoPeaks {
                spectrum: format!("{what} (it holds no spectrum)"),
            }),
            false => Ok(all),
        }
    }

    /// Reads curves from a table: positions in the first line, then a spectrum a line, apart by commas, semicolons or tabs.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Line`] with the line of what is wrong, [`Error::NoPeaks`] for a table without values.
    pub fn open_table(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        let bytes = files::read(path, LARGEST)?;
        Self::read_table(
            &path.display().to_string(),
            &String::from_utf8_lossy(&bytes),
        )
    }

    /// Reads curves from the text of a table; `what` is how messages call it.
    ///
    /// # Errors
    /// As [`Spectrum::open_table`].
    pub fn read_table(what: &str, text: &str) -> Result<Vec<Self>> {
        let numbers = |place: usize, line: &str| -> Result<Vec<f64>> {
            let values = line.split([',', ';', '\t']).enumerate();
            values
                .map(|(column, value)| {
                    let value = value.trim().trim_matches('"');
                    let read: f64 = value.parse().map_err(|_| Error::Line {
                        what: what.to_owned(),
                        line: place + 1,
                        message: format!(
                            "column {} is {:?}, no number",
                            column + 1,
                            shortened(value)
                        ),
                    })?;
                    match read.is_finite() {
                        true => Ok(read),
                        false => Err(Error::NotANumber {
                            what: what.to_owned(),
                            place: format!("line {}, column {}", place + 1, column + 1),
                            value: read,
                        }),
                    }
                })
                .collect()
        };
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let none = || Error::NoPeaks {
            spectrum: format!("{what} (it holds no spectrum)"),
        };
        let (place, head) = lines.next().ok_or_else(none)?;
        let positions = numbers(place, head)?;
        let mut all = Vec::new();
        for (place, line) in lines {
            let values = numbers(place, line)?;
            if values.len() != positions.len() {
                return Err(Error::Line {
                    what: what.to_owned(),
                    line: place + 1,
                    message: format!(
                        "it has {} values, the first line {} positions",
                        values.len(),
                        positions.len()
                    ),
                });
            }
            let points = positions.iter().copied().zip(values).collect();
            all.push(Self::new(
                format!("line {} of {what}", place + 1),
                SpectrumKind::Infrared,
                points,
            )?);
        }
        match all.is_empty() {
            true => Err(none()),
            false => Ok(all),
        }
    }

    /// A spectrum made by rule, with what it is of. Mass: `alkane`, `alcohol` or `aromatic`, of the fragments that each breaks into;
    /// infrared: `alcohol`, `ketone` or `nitrile`, by the bands of its group. The same seed and number give the same spectrum.
    ///
    /// # Errors
    /// None; the signature is that of all that makes spectra.
    pub fn generated(kind: SpectrumKind, seed: u64, number: u64) -> Result<(Self, &'static str)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        match kind {
            SpectrumKind::Mass => {
                let (label, fragments) = [
                    ("alkane", [43.0, 57.0, 71.0, 85.0, 99.0]),
                    ("alcohol", [31.0, 45.0, 59.0, 73.0, 87.0]),
                    ("aromatic", [39.0, 51.0, 65.0, 77.0, 91.0]),
                ][(number % 3) as usize];
                let mut points: Vec<(f64, f64)> = fragments
                    .iter()
                    .map(|at| (*at, rng.random_range(25.0..100.0)))
                    .collect();
                points.extend((0..8).map(|_| {
                    (
                        rng.random_range(20..160) as f64 + 0.5,
                        rng.random_range(0.5..12.0),
                    )
                }));
                Ok((Self::new(format!("{label} {number}"), kind, points)?, label))
            }
            SpectrumKind::Infrared => {
                let (label, band, width) = [
                    ("alcohol", 3350.0, 180.0),
                    ("ketone", 1715.0, 25.0),
                    ("nitrile", 2250.0, 20.0),
                ][(number % 3) as usize];
                let shift = rng.random_range(-15.0..15.0);
                let backbone = [
                    (2930.0, 40.0, rng.random_range(0.3..0.8)),
                    (1450.0, 30.0, rng.random_range(0.2..0.5)),
                ];
                let points = (0..256).map(|place| {
                    let at = 600.0 + place as f64 * 3200.0 / 255.0;
                    let bell = |centre: f64, width: f64| (-((at - centre) / width).powi(2)).exp();
                    let other: f64 = backbone
                        .iter()
                        .map(|(centre, width, height)| height * bell(*centre, *width))
                        .sum();
                    (
                        at,
                        bell(band + shift, width) + other + rng.random_range(0.0..0.03),
                    )
                });
                let points = points.collect();
                Ok((Self::new(format!("{label} {number}"), kind, points)?, label))
            }
        }
    }

    /// Its `most` largest points in rising order as (position, √ of the share of the largest), `[1, 1, P, 2]`.
    ///
    /// # Errors
    /// For `most` of 0.
    pub fn peaks_tensor(&self, most: usize, device: &Device) -> Result<Tensor> {
        if most == 0 {
            return Err(Error::Input("at least one peak is read".into()));
        }
        let mut largest = self.points.clone();
        largest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.total_cmp(&b.0)));
        largest.truncate(most);
        largest.sort_by(|a, b| a.0.total_cmp(&b.0));
        let top = largest
            .iter()
            .map(|(_, intensity)| intensity.abs())
            .fold(f64::MIN_POSITIVE, f64::max);
        let values = largest
            .iter()
            .flat_map(|(at, intensity)| [*at as f32, ((intensity / top).max(0.0)).sqrt() as f32]);
        let values: Vec<f32> = values.collect();
        Ok(Tensor::from_vec(values, (1, 1, largest.len(), 2), device)?)
    }

    /// Its curve at `count` places between first and last position, by straight lines, less its mean and over its spread: `[1, N]`.
    ///
    /// # Errors
    /// For fewer than two places.
    pub fn curve_tensor(&self, count: usize, device: &Device) -> Result<Tensor> {
        if count < 2 {
            return Err(Error::Input(format!(
                "a curve has at least two places, got {count}"
            )));
        }
        let (first, last) = (self.points[0].0, self.points[self.points.len() - 1].0);
        let value = |place: usize| {
            let at = first + (last - first) * place as f64 / (count - 1) as f64;
            let right = self
                .points
                .partition_point(|(position, _)| *position < at)
                .min(self.points.len() - 1);
            let ((x0, y0), (x1, y1)) = (self.points[right.saturating_sub(1)], self.points[right]);
            if x1 > x0 {
                y0 + (y1 - y0) * ((at - x0) / (x1 - x0)).clamp(0.0, 1.0)
            } else {
                y1
            }
        };
        let values: Vec<f64> = (0..count).map(value).collect();
        let mean = values.iter().sum::<f64>() / count as f64;
        let spread = (values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / count as f64)
            .sqrt()
            .max(1e-12);
        let values: Vec<f32> = values
            .iter()
            .map(|value| ((value - mean) / spread) as f32)
            .collect();
        Ok(Tensor::from_vec(values, (1, count), device)?)
    }

    /// The spectrum with a number on each of several stretches (start, end), such as attention.
    pub(super) fn drawn(
        &self,
        title: &str,
        axis: &str,
        stretches: &[(f64, f64)],
        weights: &[f32],
        scale: Scale,
    ) -> MimeBundle {
        let (width, height, margin) = (620.0, 204.0, 38.0);
        let (first, last) = (self.points[0].0, self.points[self.points.len() - 1].0);
        let pad = if last > first { 0.0 } else { 0.5 };
        let (low, high) = (first - pad, last + pad);
        let floor = self.points.iter().map(|point| point.1).fold(0.0, f64::min);
        let top = self
            .points
            .iter()
            .map(|point| point.1)
            .fold(floor + 1e-12, f64::max);
        // Wavenumbers fall from left to right, as chemists draw them.
        let x = |at: f64| {
            let share = (at - low) / (high - low);
            margin
                + (width - 2.0 * margin)
                    * if self.kind == SpectrumKind::Infrared {
                        1.0 - share
                    } else {
                        share
                    }
        };
        let y = |value: f64| {
            height - margin - (height - 2.0 * margin) * (value - floor) / (top - floor)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
        for ((start, end), weight) in stretches.iter().zip(weights) {
            let (a, b) = (x(*start), x(*end));
            let (left, wide) = (a.min(b), (a - b).abs().max(5.0));
            svg.push_str(&format!(
                "<rect x=\"{:.1}\" y=\"8\" width=\"{wide:.1}\" height=\"{:.1}\" fill=\"{}\" fill-opacity=\"0.55\"><title>{}</title></rect>",
                left - if wide > (a - b).abs() { 2.5 } else { 0.0 },
                height - margin - 8.0,
                heat::css(scale.color(*weight)),
                number::short(f64::from(*weight))
            ));
        }
        match self.kind {
            SpectrumKind::Mass => {
                for (at, value) in &self.points {
                    svg.push_str(&format!(
                        "<line x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{2:.1}\" stroke=\"#1f4e9c\" stroke-width=\"1.3\"/>",
                        x(*at), y(0f64.max(floor)), y(*value)
                    ));
                }
            }
            SpectrumKind::Infrared => {
                let line: Vec<String> = self
                    .points
                    .iter()
                    .map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)))
                    .collect();
                svg.push_str(&format!("<polyline points=\"{}\" fill=\"none\" stroke=\"#1f4e9c\" stroke-width=\"1.3\"/>", line.join(" ")));
            }
        }
        // The axis: a line, round numbers, its name; and how high the highest point is.
        svg.push_str(&format!(
            "<line x1=\"{margin}\" y1=\"{0:.1}\" x2=\"{1:.1}\" y2=\"{0:.1}\" stroke=\"#999999\"/>",
            height - margin,
            width - margin
        ));
        let mut written = |x: f64, y: f64, anchor: &str, text: &str| {
            svg.push_str(&format!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#444444\">{}</text>",
                escape(text)
            ));
        };
        for at in Axis::linear(low, high).ticks(8) {
            written(x(at), height - margin + 14.0, "middle", &number::short(at));
        }
        written(width / 2.0, height - 6.0, "middle", axis);
        written(
            margin,
            18.0,
            "start",
            &format!("highest {}", number::short(top)),
        );
        svg.push_str("</svg>");
        let mut order: Vec<&(f64, f64)> = self.points.iter().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let most = order
            .iter()
            .take(6)
            .map(|(at, value)| format!("{} ({})", number::short(*at), number::short(*value)));
        let mut plain = format!(
            "{title}: {} points from {} to {} {}\n  largest: {}",
            self.points.len(),
            number::short(first),
            number::short(last),
            axis,
            most.collect::<Vec<_>>().join(", ")
        );
        if !weights.is_empty() {
            let mut order: Vec<usize> = (0..weights.len().min(stretches.len())).collect();
            order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
            let most = order.iter().take(6).map(|at| {
                format!(
                    "{} {}",
                    number::short(stretches[*at].0),
                    number::short(f64::from(weights[*at]))
                )
            });
            plain.push_str(&format!(
                "\n  most at: {}",
                most.collect::<Vec<_>>().join(", ")
            ));
        }
        let picture = html::image("image/svg+xml", svg.as_bytes(), width as u32, title);
        let legend = match weights {
            [] => String::new(),
            _ => scale.legend(),
        };
        MimeBundle::text(plain).with_html(format!("<div>{}</div>{picture}{legend}", escape(title)))
    }

    /// What its points lie along.
    pub(super) fn axis(&self) -> &'static str {
        match self.kind {
            SpectrumKind::Mass => "m/z",
            SpectrumKind::Infrared => "wavenumber, 1/cm",
        }
    }
}

/// `183.057  10964.5`, with a charge behind it perhaps.
fn peak(line: &str) -> std::result::Result<(f64, f64), String> {
    let parts: Vec<&str> = line
        .split([' ', '\t', ','])
        .filter(|part| !part.is_empty())
        .collect();
    let (at, intensity) = match parts[..] {
        [at, intensity] | [at, intensity, _] => (at, intensity),
        _ => {
            return Err(format!(
                "a peak is a position and an intensity, got {:?}",
                shortened(line)
            ));
        }
    };
    let read = |text: &str| match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        Ok(value) => Err(format!("a peak has the value {value}")),
        Err(_) => Err(format!(
            "{:?} is no number, a peak is a position and an intensity",
            shortened(text)
        )),
    };
    Ok((read(at)?, read(intensity)?))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

impl Render for Spectrum {
    fn render(&self) -> MimeBundle {
        self.drawn(&self.name, self.axis(), &[], &[], Scale::of(&[]))
    }
}

impl std::fmt::Debug for Spectrum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Spectrum {} ({:?}, {} points)",
            self.name,
            self.kind,
            self.points.len()
        )
    }
}
