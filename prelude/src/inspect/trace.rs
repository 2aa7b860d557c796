//! The stage trace: every named tensor of a forward pass, with its figures, its time and what is odd about it.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use crate::display::heat::{self, Grid};
use crate::display::html::{self, escape};
use crate::display::tensor::{Statistics, device_name};
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::error::Result;

/// Thumbnails of one trace; beyond that a page would grow without being read.
const MAX_THUMBNAILS: usize = 160;
/// Cells of a thumbnail: rows, columns.
const THUMBNAIL: (usize, usize) = (18, 48);

/// What values of a stage should look like. What lies outside becomes a warning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Smallest value that makes sense.
    pub min: f64,
    /// Largest value that makes sense.
    pub max: f64,
    /// Standard deviation under which the stage carries next to nothing.
    pub std_at_least: f64,
    /// What to think of first when it is not so.
    pub hint: &'static str,
}

impl Expected {
    /// Pixel values after the image processor: around zero, and not all alike. A picture that is scaled to 0–1 and then
    /// once more by 1/255 shows here.
    pub const PIXELS: Self = Self {
        min: -6.0,
        max: 6.0,
        std_at_least: 0.02,
        hint: "a picture is normally spread over −1 to 1: was it scaled twice, or is it of one colour?",
    };
    /// Hidden states of a transformer: any scale that is not absurd.
    pub const HIDDEN: Self = Self {
        min: -1e4,
        max: 1e4,
        std_at_least: 1e-4,
        hint: "hidden states this size mean a missing norm, a wrong scale or dead weights",
    };

    fn warning(&self, found: &Statistics) -> Option<String> {
        let outside = found.min < self.min || found.max > self.max;
        let flat = found.count > 1 && found.std < self.std_at_least;
        let what = match (outside, flat) {
            (true, _) => format!(
                "outside {} to {}",
                number::float(self.min),
                number::float(self.max)
            ),
            (false, true) => format!("std under {}", number::float(self.std_at_least)),
            (false, false) => return None,
        };
        Some(format!("{what}: {}", self.hint))
    }
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    shape: String,
    dtype: DType,
    device: String,
    statistics: Statistics,
    bytes: u64,
    took: Option<Duration>,
    warnings: Vec<String>,
    thumbnail: Option<Vec<u8>>,
}

/// Every named tensor of a forward pass as a foldable table.
///
/// A name like `image_encoder/hidden_states/3` folds under what stands before its last slash.
///
/// ```
/// use glassbox_prelude::{candle_core::{Device, Tensor}, display::Render, inspect::StageTrace};
/// # fn main() -> glassbox_prelude::Result<()> {
/// let mut trace = StageTrace::new("two stages");
/// let x = trace.run("ids", &["B", "T"], || Ok(Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?))?;
/// trace.run("doubled", &["B", "T"], || Ok((x * 2.0)?))?;
/// assert_eq!(trace.len(), 2);
/// assert!(trace.warnings().is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct StageTrace {
    title: String,
    entries: Vec<Entry>,
}

impl StageTrace {
    /// An empty trace.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            entries: Vec::new(),
        }
    }

    /// Runs a stage, notes its time and its result under `name` with these axis names, and passes the result on.
    ///
    /// # Errors
    /// The stage's own.
    pub fn run(
        &mut self,
        name: &str,
        axes: &[&str],
        stage: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let begun = Instant::now();
        let tensor = stage()?;
        let took = begun.elapsed();
        self.record(name, axes, &tensor, Some(took), None)?;
        Ok(tensor)
    }

    /// Notes a tensor that is there already, with its time and what is expected of it, if known.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub fn record(
        &mut self,
        name: &str,
        axes: &[&str],
        tensor: &Tensor,
        took: Option<Duration>,
        expected: Option<Expected>,
    ) -> Result<()> {
        let tensor = tensor.detach();
        let statistics = Statistics::of(&tensor)?;
        let mut warnings: Vec<String> = statistics.warning().into_iter().collect();
        if statistics.count == 0 {
            warnings.push("empty".into());
        }
        if tensor.dtype() == DType::F16 && statistics.max.abs().max(statistics.min.abs()) > 3e4 {
            warnings.push("close to the largest f16, 65504: use bf16 or f32".into());
        }
        warnings.extend(expected.and_then(|expected| expected.warning(&statistics)));
        let thumbnail = (self.entries.len() < MAX_THUMBNAILS && tensor.elem_count() > 1)
            .then(|| thumbnail(&tensor))
            .transpose()?;
        self.entries.push(Entry {
            name: name.to_owned(),
            shape: shape_text(tensor.dims(), axes),
            dtype: tensor.dtype(),
            device: device_name(tensor.device()),
            bytes: (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64,
            statistics,
            took,
            warnings,
            thumbnail,
        });
        Ok(())
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Everything odd, as `name: what`.
    pub fn warnings(&self) -> Vec<String> {
        let all = self
            .entries
            .iter()
            .flat_map(|entry| entry.warnings.iter().map(move |what| (entry, what)));
        all.map(|(entry, what)| format!("{}: {what}", entry.name))
            .collect()
    }

    /// Time of all stages that were timed.
    pub fn total_time(&self) -> Duration {
        self.entries.iter().filter_map(|entry| entry.took).sum()
    }

    /// Runs of entries with the same fold, `None` for those that stand open.
    fn folds(&self) -> Vec<(Option<&str>, &[Entry])> {
        let fold = |entry: &Entry| entry.name.rfind('/');
        let chunks = self.entries.chunk_by(|left, right| {
            fold(left).map(|at| &left.name[..at]) == fold(right).map(|at| &right.name[..at])
        });
        chunks
            .map(|chunk| {
                (
                    chunk[0].name.rfind('/').map(|at| &chunk[0].name[..at]),
                    chunk,
                )
            })
            .collect()
    }

    fn table(&self, entries: &[Entry]) -> Table {
        let mut table = Table::new([
            "stage",
            "shape",
            "dtype, device",
            "min",
            "mean",
            "max",
            "std",
            "memory",
            "ms",
            "",
        ]);
        for entry in entries {
            table.push(row(entry));
        }
        table
    }

    /// Everything odd as a block of its own above the tables, where it is read first and has room.
    fn warnings_html(&self) -> String {
        let lines: String = self
            .warnings()
            .iter()
            .map(|warning| format!("<div>⚠ {}</div>", escape(warning)))
            .collect();
        if lines.is_empty() {
            return lines;
        }
        format!(
            "<div style=\"background-color:{};color:#ffffff;padding:4px 9px;border-radius:4px;margin:4px 0\">{lines}</div>",
            html::RED
        )
    }
}

fn row(entry: &Entry) -> Vec<Cell> {
    let figure = |value: f64| {
        Cell::figure(if value.is_nan() {
            "–".into()
        } else {
            number::short(value)
        })
    };
    let picture = entry.thumbnail.as_ref().map(|png| {
        let height = 36;
        format!(
            "<img src=\"{}\" alt=\"heat map of {}\" width=\"96\" height=\"{height}\" style=\"display:block;margin:0\">",
            crate::display::html::data_uri("image/png", png),
            escape(&entry.name)
        )
    });
    let odd = !entry.warnings.is_empty();
    let name = if odd {
        warned(&entry.name)
    } else {
        Cell::code(entry.name.clone())
    };
    let milliseconds = entry
        .took
        .map(|took| number::float((took.as_secs_f64() * 1e5).round() / 100.0));
    vec![
        name,
        Cell::code(entry.shape.clone()),
        Cell::text(format!("{} {}", entry.dtype.as_str(), entry.device)),
        figure(entry.statistics.min),
        figure(entry.statistics.mean),
        figure(entry.statistics.max),
        figure(entry.statistics.std),
        Cell::figure(number::bytes(entry.bytes)),
        Cell::figure(milliseconds.unwrap_or_default()),
        Cell::with_html("", picture.unwrap_or_default()),
    ]
}

/// The name of a stage that has a warning.
fn warned(name: &str) -> Cell {
    let markup = format!(
        "<code style=\"font-family:{};background-color:{};color:#ffffff;padding:2px 6px;border-radius:4px\">⚠ {}</code>",
        html::MONO,
        html::RED,
        escape(name)
    );
    Cell::with_html(format!("⚠ {name}"), markup)
}

/// `[B 1, T 7, D 64]`
fn shape_text(dims: &[usize], axes: &[&str]) -> String {
    let named = dims
        .iter()
        .enumerate()
        .map(|(index, size)| match axes.get(index) {
            Some(name) if !name.is_empty() => format!("{name} {size}"),
            _ => size.to_string(),
        });
    format!("[{}]", named.collect::<Vec<_>>().join(", "))
}

/// The last two axes at the first place of the others, as a small PNG. A vector is wrapped into rows.
fn thumbnail(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut slice = tensor.clone();
    while slice.rank() > 2 {
        slice = slice.get(0)?;
    }
    let slice = slice.to_device(&Device::Cpu)?; // [rows, columns] or [N]
    let (rows, columns) = match slice.dims() {
        [rows, columns] => (*rows, *columns),
        _ => (1, slice.elem_count()),
    };
    let dtype = if slice.dtype().is_int() {
        DType::F64
    } else {
        DType::F32
    };
    let values = slice
        .flatten_all()?
        .to_dtype(dtype)?
        .to_dtype(DType::F32)?
        .to_vec1::<f32>()?;
    let limit = heat::limit(&values);
    let grid = Grid::new(rows, columns, values)?.shrunk_to(THUMBNAIL.0, THUMBNAIL.1);
    // A row of pixels per cell is enough: the page scales the picture, and small cells need no sharp edges.
    Ok(heat::png(&grid.picture(limit, 2)))
}

impl Render for StageTrace {
    fn render(&self) -> MimeBundle {
        let warnings = self.warnings().len();
        let memory: u64 = self.entries.iter().map(|entry| entry.bytes).sum();
        let mut summary = format!(
            "{} tensors · {}",
            number::count(self.entries.len() as u64),
            number::bytes(memory)
        );
        if self.entries.iter().any(|entry| entry.took.is_some()) {
            summary.push_str(&format!(" · {}", number::duration(self.total_time())));
        }
        if warnings > 0 {
            summary.push_str(&format!(" · {warnings} ⚠"));
        }
        let mut markup = format!(
            "<div style=\"font-family:{};font-size:13px;overflow-x:auto\"><div><b>{}</b> · {}</div>",
            html::SANS,
            escape(&self.title),
            escape(&summary)
        );
        markup.push_str(&self.warnings_html());
        for (fold, entries) in self.folds() {
            let table = self.table(entries).render();
            let table = table.html().unwrap_or_default();
            match fold {
                None => markup.push_str(table),
                Some(fold) => {
                    let odd = entries.iter().any(|entry| !entry.warnings.is_empty());
                    markup.push_str(&format!(
                        "<details{}><summary><code style=\"font-family:{}\">{}</code> · {} tensors</summary>{table}</details>",
                        // What is odd must not hide in a fold.
                        if odd { " open" } else { "" },
                        html::MONO,
                        escape(fold),
                        entries.len()
                    ));
                }
            }
        }
        markup.push_str("</div>");
        let warnings = self.warnings().into_iter();
        let plain = format!(
            "{} · {summary}\n{}{}",
            self.title,
            warnings
                .map(|warning| format!("⚠ {warning}\n"))
                .collect::<String>(),
            self.table(&self.entries).render().plain()
        );
        MimeBundle::text(plain).with_html(markup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Device = Device::Cpu;

    #[test]
    fn a_picture_that_was_scaled_twice_is_noticed() -> Result<()> {
        let picture = Tensor::rand(0f32, 1.0, (1, 3, 16, 16), &CPU)?;
        let right = ((&picture - 0.5)? / 0.5)?;
        let twice = (((&picture / 255.0)? - 0.5)? / 0.5)?;
        let mut trace = StageTrace::new("blog");
        trace.record(
            "right",
            &["B", "C", "H", "W"],
            &right,
            None,
            Some(Expected::PIXELS),
        )?;
        assert!(trace.warnings().is_empty());
        trace.record(
            "twice",
            &["B", "C", "H", "W"],
            &twice,
            None,
            Some(Expected::PIXELS),
        )?;
        assert!(
            trace.warnings()[0].starts_with("twice: std under 0.02"),
            "{:?}",
            trace.warnings()
        );
        assert!(trace.render().plain().contains("[B 1, C 3, H 16, W 16]"));
        Ok(())
    }

    #[test]
    fn folds_open_where_something_is_odd() -> Result<()> {
        let mut trace = StageTrace::new("<t>");
        trace.run("pixels", &[], || {
            Ok(Tensor::zeros((2, 2), DType::F32, &CPU)?)
        })?;
        for index in 0..3 {
            trace.record(
                &format!("vit/hidden/{index}"),
                &[],
                &Tensor::ones(5, DType::BF16, &CPU)?,
                None,
                None,
            )?;
        }
        trace.record(
            "llm/<x>",
            &[],
            &Tensor::new(&[f32::NAN, 1.0], &CPU)?,
            None,
            None,
        )?;
        trace.record(
            "empty",
            &[],
            &Tensor::zeros((0, 3), DType::F32, &CPU)?,
            None,
            None,
        )?;
        let html = trace.render().html().unwrap_or_default().to_owned();
        assert!(
            html.contains("<details><summary>") && html.contains("vit/hidden</code> · 3 tensors"),
            "{html}"
        );
        assert!(
            html.contains("<details open>")
                && html.contains("1 NaN")
                && !html.contains("<x>")
                && !html.contains("<t>")
        );
        assert_eq!(trace.warnings(), ["llm/<x>: 1 NaN", "empty: empty"]);
        Ok(())
    }
}
