//! Any tensor as something to look at: one summary line, and a heat map of its values.
//!
//! Two dimensions make one map, three a row of maps, four a grid of maps; what comes before is counted off in
//! the facets' names. Everything is capped, so that a notebook that shows a weight matrix stays small.

use candle_core::{DType, Device, Tensor};

use super::heat::{self, Grid, Scale};
use super::html::{self, escape};
use super::{MimeBundle, Render, number};
use crate::error::Result;

/// Maps that one tensor shows.
const MAX_FACETS: usize = 24;
/// A tensor of two dimensions up to this size shows its figures.
const FIGURES_UP_TO: (usize, usize) = (16, 12);
/// Values of a vector that stand in one row of its heat map.
const VECTOR_ROW: usize = 144;
/// Values whose statistics are computed at once, to bound the memory of the copy.
const CHUNK: usize = 1 << 24;

/// What the summary line says of all values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statistics {
    /// Number of values.
    pub count: usize,
    /// Smallest finite value; NaN if there is none.
    pub min: f64,
    /// Mean of the finite values; NaN if there are none.
    pub mean: f64,
    /// Largest finite value; NaN if there is none.
    pub max: f64,
    /// Standard deviation of the finite values; NaN if there are none.
    pub std: f64,
    /// How many are not a number.
    pub nan: usize,
    /// How many are infinite.
    pub infinite: usize,
}

impl Statistics {
    /// The statistics of every value of `tensor`, of any shape, dtype and device.
    ///
    /// # Errors
    /// [`crate::Error::Candle`] if the dtype cannot be converted.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        let mut running = Running::default();
        let flat = tensor.detach().flatten_all()?; // [N]
        let count = flat.elem_count();
        let mut start = 0;
        while start < count {
            let size = CHUNK.min(count - start);
            for value in values_f64(&flat.narrow(0, start, size)?)? {
                running.add(value);
            }
            start += size;
        }
        Ok(running.finish(count))
    }

    /// `min −2.1 · mean 0.02 · max 2.6 · std 1`
    pub fn figures(&self) -> String {
        if self.count == 0 {
            return "empty".into();
        }
        let figures = [
            ("min", self.min),
            ("mean", self.mean),
            ("max", self.max),
            ("std", self.std),
        ];
        let parts: Vec<String> = figures
            .iter()
            .map(|(name, value)| format!("{name} {}", number::float(*value)))
            .collect();
        parts.join(" · ")
    }

    /// `3 NaN, 1 infinite`, if there are any.
    pub fn warning(&self) -> Option<String> {
        let nan = (self.nan > 0).then(|| format!("{} NaN", number::count(self.nan as u64)));
        let infinite = (self.infinite > 0)
            .then(|| format!("{} infinite", number::count(self.infinite as u64)));
        let parts: Vec<String> = nan.into_iter().chain(infinite).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Welford's running mean and variance, in units of a power of two near the largest value: so squares neither overflow nor vanish.
#[derive(Default)]
struct Running {
    finite: f64,
    /// 0 before the first value that is not 0.
    unit: f64,
    mean: f64,
    squares: f64,
    min: Option<f64>,
    max: Option<f64>,
    nan: usize,
    infinite: usize,
}

impl Running {
    fn add(&mut self, value: f64) {
        if value.is_nan() {
            self.nan += 1;
        } else if value.is_infinite() {
            self.infinite += 1;
        } else {
            self.finite += 1.0;
            if value.abs() > self.unit * LARGE {
                let unit = power_of_two(value);
                let ratio = self.unit / unit;
                (self.mean, self.squares) = (self.mean * ratio, self.squares * ratio * ratio);
                self.unit = unit;
            }
            let scaled = if self.unit > 0.0 {
                value / self.unit
            } else {
                0.0
            };
            let difference = scaled - self.mean;
            self.mean += difference / self.finite;
            self.squares += difference * (scaled - self.mean);
            self.min = Some(self.min.map_or(value, |min| min.min(value)));
            self.max = Some(self.max.map_or(value, |max| max.max(value)));
        }
    }

    fn finish(self, count: usize) -> Statistics {
        let some = self.finite > 0.0;
        Statistics {
            count,
            min: self.min.unwrap_or(f64::NAN),
            mean: if some {
                self.mean * self.unit
            } else {
                f64::NAN
            },
            max: self.max.unwrap_or(f64::NAN),
            std: if some {
                (self.squares / self.finite).sqrt() * self.unit
            } else {
                f64::NAN
            },
            nan: self.nan,
            infinite: self.infinite,
        }
    }
}

/// A value of so many units begins another unit.
const LARGE: f64 = 1.157_920_892_373_162e77; // 2^256

/// The largest power of two that is not larger than a value's size.
fn power_of_two(value: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff << 52;
    let bits = value.abs().to_bits() & EXPONENT;
    // Those without an exponent of their own are smaller than any other.
    if bits == 0 {
        f64::MIN_POSITIVE
    } else {
        f64::from_bits(bits)
    }
}

/// All values in order, in double precision so that large ids stay exact.
fn values_f64(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.detach().to_device(&Device::Cpu)?.flatten_all()?; // [N]
    Ok(match flat.dtype() {
        // Through f32, because not every pair of dtypes has a conversion.
        DType::BF16 | DType::F16 | DType::F32 => flat
            .to_dtype(DType::F32)?
            .to_vec1::<f32>()?
            .into_iter()
            .map(f64::from)
            .collect(),
        _ => flat.to_dtype(DType::F64)?.to_vec1::<f64>()?,
    })
}

/// The values of a tensor in the precision of colours, in units in which the largest of them has a place there.
struct Colored {
    values: Vec<f32>,
    unit: f64,
}

/// The unit for values up to `largest`.
fn unit_for(largest: f64) -> f64 {
    // Single precision reaches from 1e-38 to 3e38, less what is lost in averages and squares.
    match largest {
        large if large > 1e30 => power_of_two(large),
        small if small > 0.0 && small < 1e-30 => power_of_two(small),
        _ => 1.0,
    }
}

fn largest(values: &[f64]) -> f64 {
    let finite = values.iter().filter(|value| value.is_finite());
    finite.fold(0.0, |largest, value| value.abs().max(largest))
}

fn in_units(values: &[f64], unit: f64) -> Vec<f32> {
    values.iter().map(|value| (value / unit) as f32).collect()
}

fn colored(tensor: &Tensor) -> Result<Colored> {
    let values = values_f64(tensor)?;
    let unit = unit_for(largest(&values));
    Ok(Colored {
        values: in_units(&values, unit),
        unit,
    })
}

/// `cpu`, `cuda:0` or `metal:0`.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// A tensor with names for its axes and for places along them.
///
/// ```
/// use glassbox_prelude::{candle_core::{Device, Tensor}, display::{Render, TensorView}};
/// # fn main() -> glassbox_prelude::Result<()> {
/// let attention = Tensor::new(&[[1f32, 0.], [0.3, 0.7]], &Device::Cpu)?; // [T, T]
/// let view = TensorView::new(&attention).title("attention").axes(&["query", "key"]).labels(1, ["a", "cat"]);
/// assert!(view.render().plain().starts_with("attention: Tensor [query 2, key 2] f32 cpu"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TensorView {
    tensor: Tensor,
    title: String,
    axes: Vec<String>,
    labels: Vec<Vec<String>>,
}

impl TensorView {
    /// A view of `tensor`; the tensor is shared, not copied.
    pub fn new(tensor: &Tensor) -> Self {
        let rank = tensor.rank();
        Self {
            tensor: tensor.detach(),
            title: String::new(),
            axes: vec![String::new(); rank],
            labels: vec![Vec::new(); rank],
        }
    }

    /// A name for the tensor.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Names of the axes, in order, such as `["B", "T", "D"]`. Too many are ignored.
    pub fn axes(mut self, names: &[&str]) -> Self {
        for (axis, name) in self.axes.iter_mut().zip(names) {
            *axis = (*name).to_owned();
        }
        self
    }

    /// Names of the places along `axis`, such as the tokens of a caption. An axis that is not there is ignored.
    pub fn labels<S: Into<String>>(
        mut self,
        axis: usize,
        labels: impl IntoIterator<Item = S>,
    ) -> Self {
        if let Some(place) = self.labels.get_mut(axis) {
            *place = labels.into_iter().map(Into::into).collect();
        }
        self
    }

    /// `Tensor [B 2, T 7, D 64] f32 cpu`
    fn heading(&self) -> String {
        let dims = self.tensor.dims().iter().zip(&self.axes);
        let dims: Vec<String> = dims
            .map(|(size, name)| {
                if name.is_empty() {
                    size.to_string()
                } else {
                    format!("{name} {size}")
                }
            })
            .collect();
        let title = if self.title.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.title)
        };
        let device = device_name(self.tensor.device());
        format!(
            "{title}Tensor [{}] {} {device}",
            dims.join(", "),
            self.tensor.dtype().as_str()
        )
    }

    fn label(&self, axis: usize, index: usize) -> String {
        match self.labels.get(axis).and_then(|labels| labels.get(index)) {
            Some(label) => label.clone(),
            None => index.to_string(),
        }
    }

    /// `B 1, head 3`: where a facet lies in the leading axes.
    fn facet_name(&self, mut index: usize) -> String {
        let leading = self.tensor.rank().saturating_sub(2);
        let mut places = Vec::with_capacity(leading);
        for axis in (0..leading).rev() {
            let size = self.tensor.dims()[axis].max(1);
            let place = self.label(axis, index % size);
            let name = &self.axes[axis];
            places.push(if name.is_empty() {
                place
            } else {
                format!("{name} {place}")
            });
            index /= size;
        }
        places.reverse();
        places.join(", ")
    }

    fn body_html(&self) -> Result<String> {
        let dims = self.tensor.dims();
        let (rows, columns) = match dims {
            [] => (1, 1),
            [columns] => (1, *columns),
            [.., rows, columns] => (*rows, *columns),
        };
        if let [length] = dims
            && *length > VECTOR_ROW
        {
            return self.wrapped_html();
        }
        if self.tensor.elem_count() == 0 || dims.is_empty() {
            return Ok(String::new());
        }
        let facets = self.tensor.elem_count() / (rows * columns);
        let shown = facets.min(MAX_FACETS);
        // Only what is shown is read; the scale is that of what is shown, so that facets can be compared.
        let flat = self.tensor.reshape((facets, rows * columns))?; // [facets, rows * columns]
        let values = (0..shown)
            .map(|index| values_f64(&flat.get(index)?))
            .collect::<Result<Vec<_>>>()?;
        let unit = unit_for(
            values
                .iter()
                .map(|values| largest(values))
                .fold(0.0, f64::max),
        );
        let grids = values
            .iter()
            .map(|values| Grid::new(rows, columns, in_units(values, unit)))
            .collect::<Result<Vec<Grid>>>()?;
        let scale = Scale::of(grids.iter().flat_map(|grid| &grid.values));
        let mut out = String::new();
        if facets == 1 && rows <= FIGURES_UP_TO.0 && columns <= FIGURES_UP_TO.1 {
            out.push_str(&self.figures_html(&grids[0], &values[0], scale));
        } else {
            for (index, grid) in grids.iter().enumerate() {
                out.push_str(&self.facet_html(index, grid, scale, shown));
            }
        }
        if facets > shown {
            let hidden = number::count((facets - shown) as u64);
            out.push_str(&format!(
                "<div style=\"font-size:12px\">… {hidden} more like these</div>"
            ));
        }
        out.push_str(&scale_html(scale, unit));
        Ok(out)
    }

    /// A long vector, broken into rows like text.
    fn wrapped_html(&self) -> Result<String> {
        let Colored { mut values, unit } = colored(&self.tensor)?;
        let scale = Scale::of(&values);
        let shown = values.len().min(VECTOR_ROW * heat::MAX_SIDE);
        let hidden = values.len() - shown;
        values.truncate(shown);
        let last = shown % VECTOR_ROW;
        let rows = shown.div_ceil(VECTOR_ROW);
        values.resize(rows * VECTOR_ROW, 0.0);
        const CELL: u32 = 4;
        let mut picture = Grid::new(rows, VECTOR_ROW, values)?.picture(scale, CELL);
        let last = if last == 0 { VECTOR_ROW } else { last };
        // What fills the last row up is no value, and has no colour.
        for x in last as u32 * CELL..picture.width() {
            for y in (rows as u32 - 1) * CELL..picture.height() {
                picture.put_pixel(x, y, image::Rgb([255, 255, 255]));
            }
        }
        let mut note = format!("{rows} rows of {VECTOR_ROW} values, {last} in the last");
        if hidden > 0 {
            note.push_str(&format!(
                "; {} more are not shown",
                number::count(hidden as u64)
            ));
        }
        let image = html::image(
            "image/png",
            &heat::png(&picture),
            picture.width(),
            "heat map",
        );
        Ok(format!(
            "{image}<div style=\"font-size:11px\">{note}</div>{}",
            scale_html(scale, unit)
        ))
    }

    /// One heat map with its place above and the size of a block below, if it was averaged.
    fn facet_html(&self, index: usize, grid: &Grid, scale: Scale, facets: usize) -> String {
        // A vector is a wide strip: it may use the width of the page.
        let side = if facets == 1 {
            heat::MAX_SIDE * 3
        } else {
            heat::MAX_SIDE / 2
        };
        let mut small = grid.shrunk(side);
        let width = small.columns.max(small.rows);
        let cell = match (facets, width) {
            (1, width) => (576 / width.max(1)).clamp(1, 16),
            (_, width) => (128 / width.max(1)).clamp(1, 12),
        } as u32;
        if small.rows == 1 {
            // A strip of one pixel height would be hard to see.
            let high = (12 / cell.max(1)).max(1) as usize;
            small.values = small.values.repeat(high);
            small.rows = high;
        }
        let picture = small.picture(scale, cell);
        let name = self.facet_name(index);
        let alternative = format!("heat map {name}");
        let image = html::image(
            "image/png",
            &heat::png(&picture),
            picture.width(),
            &alternative,
        );
        let caption = if name.is_empty() {
            String::new()
        } else {
            format!("<div>{}</div>", escape(&name))
        };
        format!(
            "<div style=\"display:inline-block;vertical-align:top;margin:2px 8px 4px 0;font-size:11px\">{caption}{image}</div>"
        )
    }

    /// A small matrix as a table of coloured figures.
    fn figures_html(&self, grid: &Grid, exact: &[f64], scale: Scale) -> String {
        let rank = self.tensor.rank();
        let (row_axis, column_axis) = (rank.checked_sub(2), rank - 1);
        let head = |text: &str| {
            format!(
                "<th style=\"padding:1px 6px;font-weight:400;opacity:0.75;text-align:center\">{}</th>",
                escape(text)
            )
        };
        let mut out = String::from(
            "<table style=\"border-collapse:collapse;table-layout:auto;margin:4px 0;font-size:12px\"><tbody><tr>",
        );
        out.push_str(&head(""));
        out.extend((0..grid.columns).map(|column| head(&self.label(column_axis, column))));
        out.push_str("</tr>");
        let rows = grid.values.chunks(grid.columns);
        for (row, (values, exact)) in rows.zip(exact.chunks(grid.columns)).enumerate() {
            out.push_str("<tr>");
            out.push_str(&head(
                &row_axis.map_or(String::new(), |axis| self.label(axis, row)),
            ));
            for (column, (value, exact)) in values.iter().zip(exact).enumerate() {
                let color = scale.color(*value);
                out.push_str(&format!(
                    "<td title=\"{}\" style=\"background-color:{};color:{};padding:2px 6px;text-align:right\">{}</td>",
                    escape(&self.place(row_axis, row, column_axis, column, *exact)),
                    heat::css(color),
                    heat::text_on(color),
                    number::float(*exact),
                ));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table>");
        out
    }

    /// `query cat, key a: 0.3`, what a reader sees when pointing at a cell.
    fn place(
        &self,
        row_axis: Option<usize>,
        row: usize,
        column_axis: usize,
        column: usize,
        value: f64,
    ) -> String {
        let named = |axis: usize, index: usize| {
            format!("{} {}", self.axes[axis], self.label(axis, index))
                .trim()
                .to_owned()
        };
        let rows = row_axis
            .map(|axis| format!("{}, ", named(axis, row)))
            .unwrap_or_default();
        // A value of single precision is written with the figures that it has.
        let value = match self.tensor.dtype() {
            DType::F64 | DType::I64 | DType::U32 => value.to_string(),
            _ => (value as f32).to_string(),
        };
        format!("{rows}{}: {value}", named(column_axis, column))
    }
}

/// What the colours mean.
fn scale_html(scale: Scale, unit: f64) -> String {
    let Scale { low, high } = scale;
    let end = |value: f32| number::float(f64::from(value) * unit);
    let colors = if low == high {
        format!("all {}", end(low))
    } else {
        format!(
            "{} <img src=\"{}\" alt=\"colour scale\" width=\"128\" height=\"10\" \
             style=\"display:inline;vertical-align:middle;margin:0\"> {} · darker: beyond",
            end(low),
            super::html::data_uri("image/png", &heat::png(&scale.picture())),
            end(high),
        )
    };
    format!(
        "<div style=\"font-size:11px;opacity:0.85\">{colors} · \
         <span style=\"display:inline-block;width:9px;height:9px;background-color:{}\"></span> NaN</div>",
        heat::css(heat::NAN_COLOR)
    )
}

impl Render for TensorView {
    fn render(&self) -> MimeBundle {
        let heading = self.heading();
        let scalar = (self.tensor.rank() == 0).then(|| values_f64(&self.tensor).ok());
        let scalar = scalar.flatten().and_then(|values| values.first().copied());
        let (line, warning) = match (scalar, Statistics::of(&self.tensor)) {
            (Some(value), _) => (format!(" = {value}"), None),
            (None, Ok(statistics)) => {
                (format!(" · {}", statistics.figures()), statistics.warning())
            }
            (None, Err(error)) => (format!(" · {error}"), None),
        };
        let small = self.tensor.elem_count() <= 64 && (1..=2).contains(&self.tensor.rank());
        let figures = if small {
            format!("\n{}", self.tensor)
        } else {
            String::new()
        };
        let special = warning
            .iter()
            .map(|text| format!(" · {text}"))
            .collect::<String>();
        let chip = warning
            .map(|text| html::chip(&text, html::RED, "#ffffff"))
            .unwrap_or_default();
        let body = self.body_html();
        let body =
            body.unwrap_or_else(|error| format!("<div>{}</div>", escape(&error.to_string())));
        let markup = format!(
            "<div style=\"font-family:{};font-size:13px\"><div><code style=\"font-family:{}\">{}</code>{} {chip}</div>{body}</div>",
            html::SANS,
            html::MONO,
            escape(&heading),
            escape(&line),
        );
        MimeBundle::text(format!("{heading}{line}{special}{figures}")).with_html(markup)
    }
}

impl Render for Tensor {
    fn render(&self) -> MimeBundle {
        TensorView::new(self).render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Device = Device::Cpu;

    #[test]
    fn the_summary_counts_what_is_not_finite() -> Result<()> {
        let tensor = Tensor::new(&[[1f32, f32::NAN], [f32::INFINITY, 3.0]], &CPU)?;
        let plain = tensor.render().plain().to_owned();
        assert!(
            plain.starts_with(
                "Tensor [2, 2] f32 cpu · min 1 · mean 2 · max 3 · std 1 · 1 NaN, 1 infinite"
            ),
            "{plain}"
        );
        let html = tensor.render().html().unwrap_or_default().to_owned();
        assert!(
            html.contains("1 NaN, 1 infinite</span>")
                && html.contains(">NaN</td>")
                && html.contains(">∞</td>")
        );
        Ok(())
    }

    #[test]
    fn every_rank_and_dtype_renders() -> Result<()> {
        for dtype in [
            DType::U8,
            DType::U32,
            DType::I64,
            DType::BF16,
            DType::F16,
            DType::F32,
            DType::F64,
        ] {
            for shape in [
                vec![],
                vec![0],
                vec![3, 0],
                vec![5],
                vec![40, 3],
                vec![2, 3, 4],
                vec![2, 3, 4, 5],
                vec![2, 2, 3, 4, 5],
            ] {
                let tensor = Tensor::ones(shape.as_slice(), dtype, &CPU)?;
                let bundle = tensor.render();
                let dot = if shape.is_empty() { "" } else { " ·" };
                let expected = format!("Tensor {shape:?} {} cpu{dot} ", dtype.as_str());
                assert!(bundle.plain().starts_with(&expected), "{}", bundle.plain());
                let end = if shape.is_empty() {
                    "= 1"
                } else if shape.contains(&0) {
                    "empty"
                } else {
                    "min 1"
                };
                assert!(
                    bundle.plain()[expected.len()..].starts_with(end),
                    "{}",
                    bundle.plain()
                );
            }
        }
        Ok(())
    }

    #[test]
    fn large_tensors_are_capped() -> Result<()> {
        for shape in [
            vec![3000, 3000],
            vec![1_000_000],
            vec![200, 64, 64],
            vec![8, 12, 197, 197],
            vec![2, 100_000],
        ] {
            let html_size = Tensor::randn(0f32, 1.0, shape.as_slice(), &CPU)?
                .render()
                .html()
                .map_or(0, str::len);
            assert!(
                (1_000..1_500_000).contains(&html_size),
                "{shape:?} took {html_size} bytes"
            );
        }
        Ok(())
    }

    #[test]
    fn facets_are_named_by_their_place_and_text_is_escaped() -> Result<()> {
        let tensor = Tensor::zeros((2, 3, 20, 20), DType::F32, &CPU)?;
        let view = TensorView::new(&tensor)
            .axes(&["B", "head", "query", "key"])
            .labels(1, ["<a>", "b", "c"]);
        assert_eq!(view.facet_name(4), "B 1, head b");
        let bundle = view.title("<t>").render();
        let html = bundle.html().unwrap_or_default();
        assert!(html.contains("B 0, head &lt;a&gt;") && !html.contains("<t>"));
        assert!(
            bundle
                .plain()
                .starts_with("<t>: Tensor [B 2, head 3, query 20, key 20] f32 cpu")
        );
        Ok(())
    }

    #[test]
    fn doubles_beyond_single_precision_have_their_figures_and_statistics() -> Result<()> {
        let tensor = Tensor::new(&[[1e300, -1e300], [5e299, 0.0]], &CPU)?;
        let html = tensor.render().html().unwrap_or_default().to_owned();
        assert!(
            html.contains("1e300") || html.contains("1.00e300"),
            "{html}"
        );
        assert!(
            !html.contains(">∞</td>") && !html.contains(">NaN</td>"),
            "{html}"
        );
        for (values, mean, std) in [
            ([1e160, 3e160], 2e160, 1e160),
            ([f64::MAX, -f64::MAX], 0.0, f64::MAX),
            ([1e-200, 3e-200], 2e-200, 1e-200),
            ([1e-200, 3.0], 1.5, 1.5),
            ([3e200, 1.0], 1.5e200, 1.5e200),
            ([0.0, 5e-324], 0.0, 0.0),
        ] {
            let found = Statistics::of(&Tensor::new(&values, &CPU)?)?;
            let near =
                |found: f64, wanted: f64| (found - wanted).abs() <= 1e-9 * wanted.abs().max(1e-300);
            assert!(
                near(found.mean, mean) && near(found.std, std),
                "{values:?}: {found:?}"
            );
        }
        let tiny = Tensor::new(&[[1e-60, 2e-60]], &CPU)?.render();
        let html = tiny.html().unwrap_or_default();
        assert!(html.contains("e-60") || html.contains("e−60"), "{html}");
        let strip = Tensor::from_vec(vec![1e200; 500], 500, &CPU)?.render();
        assert!(
            strip.html().unwrap_or_default().contains("all 1"),
            "{strip:?}"
        );
        Ok(())
    }

    #[test]
    fn large_ids_stay_exact() -> Result<()> {
        let tensor = Tensor::new(&[16_777_217_u32, 1], &CPU)?;
        assert_eq!(Statistics::of(&tensor)?.max, 16_777_217.0);
        Ok(())
    }
}
