//! The stage trace: every named tensor of a forward pass, with its figures, its time and what is odd about it.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use crate::display::heat::{self, Grid, Scale};
use crate::display::html::{self, escape};
use crate::display::tensor::{Statistics, device_name};
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::error::Result;

/// Thumbnails of one trace; beyond that a page would grow without being read.
const MAX_THUMBNAILS: usize = 160;
/// Cells of a thumbnail: rows, columns.
const THUMBNAIL: (usize, usize) = (18, 48);
/// The heading above thumbnails, and their size on the page: width, height.
const MAP: &str = "map";
const MAP_SIZE: (u32, u32) = (96, 36);

/// What values of a stage should look like. What lies outside becomes a warning.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let small = Expected { min: -1.0, max: 1.0, std_at_least: 0.01, hint: "was it scaled twice?" };
/// let flat = Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?;
/// let mut trace = StageTrace::new("one stage");
/// trace.record("flat", &["B", "D"], &flat, None, Some(small))?;
/// assert_eq!(trace.warnings().len(), 1);
/// assert!(trace.warnings()[0].contains("was it scaled twice?"));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
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

impl Entry {
    /// `f32 cpu`
    fn kind(&self) -> String {
        format!("{} {}", self.dtype.as_str(), self.device)
    }
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
#[derive(Clone, Default)]
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

    /// The rows of these entries, whose names lose what stands before `fold`.
    fn table(&self, entries: &[Entry], fold: Option<&str>) -> Table {
        let mut table = Table::new(["stage", MAP, "shape"]);
        if self.common_kind().is_none() {
            table = table.headings(["dtype, device".into()]);
        }
        let figures = ["min", "mean", "max", "std", "memory", "ms"].map(String::from);
        table = table.headings(figures);
        for entry in entries {
            let name = fold.and_then(|fold| entry.name.strip_prefix(fold)?.strip_prefix('/'));
            table.push(row(
                entry,
                name.unwrap_or(&entry.name),
                self.common_kind().is_none(),
            ));
        }
        table
    }

    /// dtype and device, where all tensors have the same.
    fn common_kind(&self) -> Option<String> {
        let mut kinds = self.entries.iter().map(Entry::kind);
        let first = kinds.next()?;
        kinds.all(|kind| kind == first).then_some(first)
    }

    /// All rows, with their whole names and without maps.
    fn plain_table(&self) -> Table {
        self.table(&self.entries, None).without(1)
    }

    /// One width for each column, wide enough in every fold.
    fn widths(&self) -> Vec<u32> {
        let mut widths: Vec<u32> = Vec::new();
        for (fold, entries) in self.folds() {
            let needed = self.table(entries, fold).needed_widths();
            widths.resize(needed.len(), 0);
            for (width, needed) in widths.iter_mut().zip(needed) {
                *width = needed.max(*width);
            }
        }
        if let Some(map) = widths.get_mut(1) {
            *map = MAP_SIZE.0 + 20;
        }
        widths
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

fn row(entry: &Entry, name: &str, with_kind: bool) -> Vec<Cell> {
    let figure = |value: f64| {
        Cell::figure(if value.is_nan() {
            "–".into()
        } else {
            number::short(value)
        })
    };
    let map = entry.thumbnail.as_ref().map(|png| {
        let (width, height) = MAP_SIZE;
        format!(
            "<img src=\"{}\" alt=\"heat map of {}\" width=\"{width}\" height=\"{height}\" \
             style=\"display:block;margin:0;max-width:none;width:{width}px;height:{height}px;image-rendering:pixelated\">",
            crate::display::html::data_uri("image/png", png),
            escape(&entry.name)
        )
    });
    let name = if entry.warnings.is_empty() {
        Cell::code(name)
    } else {
        warned(name)
    };
    let milliseconds = entry
        .took
        .map(|took| number::float((took.as_secs_f64() * 1e5).round() / 100.0));
    let mut cells = vec![
        name,
        Cell::with_html("", map.unwrap_or_default()),
        Cell::code(entry.shape.clone()),
    ];
    cells.extend(with_kind.then(|| Cell::text(entry.kind())));
    cells.extend([
        figure(entry.statistics.min),
        figure(entry.statistics.mean),
        figure(entry.statistics.max),
        figure(entry.statistics.std),
        Cell::figure(number::bytes(entry.bytes)),
        Cell::figure(milliseconds.unwrap_or_default()),
    ]);
    cells
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
    let scale = Scale::of(&values);
    let grid = Grid::new(rows, columns, values)?.shrunk_to(THUMBNAIL.0, THUMBNAIL.1);
    // A row of pixels per cell is enough: the page scales the picture, and small cells need no sharp edges.
    Ok(heat::png(&grid.picture(scale, 2)))
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
        if let Some(kind) = self.common_kind() {
            summary.push_str(&format!(" · all {kind}"));
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
        let widths = self.widths();
        for (fold, entries) in self.folds() {
            let table = self.table(entries, fold).widths(widths.clone()).render();
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
            self.plain_table().render().plain()
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

    #[test]
    fn all_folds_have_one_layout_and_room_for_the_thumbnail() -> Result<()> {
        let mut trace = StageTrace::new("t");
        for name in ["a", "one/b", "one/c", "another/a_long_name_of_a_stage", "z"] {
            let shape = name.len();
            let tensor = Tensor::rand(-1e-7f32, 1e5, (shape, 3), &CPU)?;
            trace.record(name, &["B", "D"], &tensor, None, None)?;
        }
        let bundle = trace.render();
        let html = bundle.html().unwrap_or_default();
        let layouts: Vec<&str> = html
            .split("<colgroup>")
            .skip(1)
            .filter_map(|rest| rest.split("</colgroup>").next())
            .collect();
        assert_eq!(layouts.len(), 4, "{html}");
        assert!(layouts.iter().all(|layout| *layout == layouts[0]));
        assert!(layouts[0].contains("width:116px") && html.contains("max-width:none;width:96px"));
        assert!(html.contains(">c</code>") && bundle.plain().contains("one/c"));
        assert!(bundle.plain().starts_with("t · 5 tensors"));
        Ok(())
    }
}
