//! How often which value occurs: values → bins → bars, several sets over each other.
//!
//! ```text
//! .values("before", &[f32]) .tensor("after", &tensor) ─► common bins over the range of all ─► Figure, or rows of text
//! ```

use candle_core::{DType, Device, Tensor};
use plotters::prelude::*;

use super::plot::{DrawError, Figure, PALETTE};
use super::{LinePlot, MimeBundle, Render, number};
use crate::Result;

/// Bins unless set.
const BINS: usize = 40;
/// Most bins: a screen shows no more.
const MOST_BINS: usize = 400;
/// Rows of the text form, and the characters of the longest bar.
const ROWS: usize = 12;
const BAR: usize = 40;

/// Bars over values. As easy as a [`LinePlot`]:
///
/// ```
/// use glassbox_prelude::display::{Histogram, Render};
/// let plot = Histogram::new("weights").values("before", &[0.0, 0.1, 0.1, f32::NAN]).values("after", &[0.2, 0.3]);
/// assert!(plot.render().plain().contains("before: 3 values, mean 0.06667,"));
/// assert!(plot.render().plain().contains("1 is not finite"));
/// ```
#[derive(Clone, PartialEq)]
pub struct Histogram {
    title: String,
    label: String,
    sets: Vec<Set>,
    bins: usize,
}

/// Values under a label.
#[derive(Clone, PartialEq)]
struct Set {
    label: String,
    finite: Vec<f64>,
    /// How many are NaN or infinite.
    others: usize,
}

impl Histogram {
    /// An empty plot.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            label: String::new(),
            sets: Vec::new(),
            bins: BINS,
        }
    }

    /// What the values are.
    pub fn axis(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Another number of bins than 40, at most 400.
    pub fn bins(mut self, bins: usize) -> Self {
        self.bins = bins.clamp(1, MOST_BINS);
        self
    }

    /// Adds values. Those that are not finite are counted and not drawn.
    pub fn values(self, label: impl Into<String>, values: &[f32]) -> Self {
        self.doubles(label, values.iter().map(|value| f64::from(*value)))
    }

    /// Adds values of any iterator, such as `trainer.records().iter().map(|record| record.norm)`.
    pub fn doubles(
        mut self,
        label: impl Into<String>,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        let (finite, others): (Vec<f64>, Vec<f64>) =
            values.into_iter().partition(|value| value.is_finite());
        self.sets.push(Set {
            label: label.into(),
            finite,
            others: others.len(),
        });
        self
    }

    /// Adds the values of a tensor of any shape and number type.
    ///
    /// # Errors
    /// When its values can't be brought to the CPU as numbers.
    pub fn tensor(self, label: impl Into<String>, tensor: &Tensor) -> Result<Self> {
        let flat = tensor.detach().to_device(&Device::Cpu)?.flatten_all()?;
        let values = flat.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        Ok(self.doubles(label, values))
    }

    /// The range of all finite values; never empty.
    fn range(&self) -> (f64, f64) {
        let all = || self.sets.iter().flat_map(|set| &set.finite).copied();
        let (low, high) = (
            all().fold(f64::INFINITY, f64::min),
            all().fold(f64::NEG_INFINITY, f64::max),
        );
        if low > high {
            return (0.0, 1.0);
        }
        if low == high {
            let room = (low.abs() * 1e-3).max(0.5);
            return ((low - room).max(f64::MIN), (high + room).min(f64::MAX));
        }
        (low, high)
    }

    /// How many values of a set lie in each of `bins` bins.
    fn counts(set: &Set, (low, high): (f64, f64), bins: usize) -> Vec<usize> {
        let mut counts = vec![0; bins];
        for value in &set.finite {
            // Each part by itself: the width of all doubles is no double.
            let share = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
            let bin = (share * bins as f64) as usize;
            counts[bin.min(bins - 1)] += 1;
        }
        counts
    }

    /// Steps around the bars: an outline that [`LinePlot`] draws, so that sets can lie over each other.
    fn outline(&self, set: &Set) -> Vec<(f64, f64)> {
        let (low, high) = self.range();
        let edge = |bin: usize| {
            let share = bin as f64 / self.bins as f64;
            low * (1.0 - share) + high * share
        };
        let counts = Self::counts(set, (low, high), self.bins);
        let mut points = vec![(edge(0), 0.0)];
        for (bin, count) in counts.iter().enumerate() {
            points.push((edge(bin), *count as f64));
            points.push((edge(bin + 1), *count as f64));
        }
        points.push((edge(self.bins), 0.0));
        points
    }

    /// The finished drawing.
    ///
    /// # Errors
    /// `Input` if plotters refuses, which no choice of values should make it do.
    pub fn figure(&self) -> Result<Figure> {
        let outlines: Vec<Vec<(f64, f64)>> =
            self.sets.iter().map(|set| self.outline(set)).collect();
        let plot = self.sets.iter().zip(&outlines);
        let plot = plot.fold(
            LinePlot::new(self.title.clone()).axes(self.label.clone(), "values"),
            |plot, (set, outline)| plot.line(set.label.clone(), outline.clone()),
        );
        plot.figure_over(|context| {
            for (index, outline) in outlines.iter().enumerate() {
                let colour = PALETTE[index % PALETTE.len()].mix(0.25);
                let area = AreaSeries::new(outline.iter().copied(), 0.0, colour);
                context.draw_series(area).map_err(DrawError::from)?;
            }
            Ok(())
        })
    }

    fn plain(&self) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(self.title.clone());
        }
        let range = self.range();
        for set in &self.sets {
            lines.push(set.summary());
            let counts = Self::counts(set, range, ROWS.min(self.bins));
            let most = counts.iter().copied().max().unwrap_or(0).max(1);
            let edges = (0..counts.len()).map(|bin| {
                let share = bin as f64 / counts.len() as f64;
                number::float(range.0 * (1.0 - share) + range.1 * share)
            });
            let edges: Vec<String> = edges.collect();
            let width = edges.iter().map(|edge| edge.chars().count()).max();
            let width = width.unwrap_or(0);
            for (edge, count) in edges.iter().zip(&counts) {
                let bar = "█".repeat((count * BAR).div_ceil(most));
                let row = format!("{edge:>width$} ┤{bar} {}", number::count(*count as u64));
                lines.push(row);
            }
        }
        if self.sets.is_empty() {
            lines.push("no values".into());
        }
        lines.join("\n")
    }
}

impl Set {
    /// `before: 1,000 values, mean 0.1, standard deviation 0.5, from −1 to 2; 3 are not finite`
    fn summary(&self) -> String {
        let count = self.finite.len();
        let mean = self.finite.iter().map(|value| value / count as f64).sum();
        let square = |value: &f64| (value - mean) * (value - mean) / count as f64;
        let deviation = self.finite.iter().map(square).sum::<f64>().sqrt();
        let low = self.finite.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self
            .finite
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let label = match self.label.is_empty() {
            true => String::new(),
            false => format!("{}: ", self.label),
        };
        let values = super::containers::plural(count, "value");
        let mut text = match count {
            0 => format!("{label}no finite value"),
            _ => format!(
                "{label}{values}, mean {}, standard deviation {}, from {} to {}",
                number::float(mean),
                number::float(deviation),
                number::float(low),
                number::float(high)
            ),
        };
        match self.others {
            0 => {}
            1 => text.push_str("; 1 is not finite"),
            others => text.push_str(&format!(
                "; {} are not finite",
                number::count(others as u64)
            )),
        }
        text
    }
}

impl Render for Histogram {
    fn render(&self) -> MimeBundle {
        let text = MimeBundle::text(self.plain());
        let said: Vec<String> = self.sets.iter().map(Set::summary).collect();
        match self.figure() {
            Ok(figure) => text.with_html(format!(
                "<div>{}<div style=\"font-size:12px;font-family:{}\">{}</div></div>",
                figure.html(),
                super::html::SANS,
                super::html::escape(&said.join(" · "))
            )),
            Err(_) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_a_bin_and_the_largest_in_the_last() {
        let plot = Histogram::new("x")
            .bins(4)
            .values("a", &[0.0, 1.0, 2.0, 3.0, 4.0]);
        let counts = Histogram::counts(&plot.sets[0], plot.range(), 4);
        assert_eq!(counts, [1, 1, 1, 2]);
    }

    #[test]
    fn odd_values_still_draw() -> Result<()> {
        let cases: [&[f64]; 6] = [
            &[],
            &[f64::NAN, f64::INFINITY],
            &[3.0],
            &[2.0, 2.0],
            &[f64::MIN, f64::MAX],
            &[f64::MIN_POSITIVE, 0.0, -1e-300],
        ];
        for values in cases {
            let plot = Histogram::new("<b>").doubles("<l>", values.iter().copied());
            let figure = plot.figure()?;
            assert!(!figure.svg().contains("NaN") && !figure.svg().contains("inf"));
            let bundle = plot.render();
            assert!(!bundle.plain().is_empty());
            assert!(!bundle.html().unwrap_or_default().contains("<b>"));
        }
        assert!(Histogram::new("").render().plain().contains("no values"));
        Ok(())
    }

    #[test]
    fn a_tensor_of_any_shape_is_taken() -> Result<()> {
        let tensor = Tensor::new(&[[1u8, 2], [2, 3]], &Device::Cpu)?; // [2, 2]
        let text = Histogram::new("t").tensor("u8", &tensor)?.render();
        assert!(
            text.plain().contains("u8: 4 values, mean 2"),
            "{}",
            text.plain()
        );
        Ok(())
    }
}
