//! A `.ipynb` file in memory: read, look into, change, write back without disturbing the rest.
//!
//! text → [`Notebook::parse`] → cells that can be read and changed → [`Notebook::to_text`] → text.
//! Everything that was not changed is written with the bytes it was read with: numbers, escapes, key order,
//! indentation, line ends and the final newline stay (see `lossless`).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::lossless::{self, Style};
use super::python_json;
use crate::regular;

/// A larger file is no notebook, in bytes.
const LARGEST: u64 = 1 << 30;

/// Why a notebook can't be used. Each message says what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotebookError {
    /// The file could not be opened or read.
    #[error("{}: {}", path.display(), read_failure(source))]
    Read {
        /// The notebook.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error(
        "not a notebook: the file is not JSON ({0}); a .ipynb file is a JSON document with a \"cells\" list"
    )]
    NotJson(serde_json::Error),
    /// JSON, but not a notebook; says which part is wrong.
    #[error("not a notebook: {0}")]
    Shape(String),
    /// A notebook of another major format.
    #[error(
        "the notebook is in format {found}, glassbox reads format 4.0 to 4.5; open it in Jupyter and save it again, \
         or run `jupyter nbconvert --to notebook --nbformat 4 FILE`"
    )]
    Format {
        /// The major version in the file.
        found: i64,
    },
    /// The notebook is for another language.
    #[error(
        "the notebook asks for the kernel `{kernel}`{language}, but glassbox runs Rust cells; \
         choose the kernel `glassbox` in Jupyter, or set metadata.kernelspec.name to \"glassbox\" in the file"
    )]
    Kernel {
        /// The kernel's name in the file.
        kernel: String,
        /// The language in the file, as " (language python)", or empty.
        language: String,
    },
}

fn read_failure(source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            "no such notebook; check the path, or `cd` to the folder it is in".into()
        }
        std::io::ErrorKind::InvalidData => "not a notebook: the file is not UTF-8 text".into(),
        std::io::ErrorKind::IsADirectory => "this is a folder; give the .ipynb file in it".into(),
        _ => format!("cannot be read: {source}"),
    }
}

/// What a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// Rust, to be executed.
    Code,
    /// Text, to be typeset.
    Markdown,
    /// Text for nbconvert's output formats, shown as it is.
    Raw,
}

/// One cell: its JSON fields, and where it stood in the file that was read.
#[derive(Debug, Clone)]
pub struct Cell {
    pub(super) fields: Map<String, Value>,
    pub(super) origin: Option<usize>,
}

impl Cell {
    /// A new code cell without outputs. `id` is used where the format asks for one.
    pub fn new_code(source: &str, tags: &[&str], id: Option<String>) -> Cell {
        let mut fields = Map::new();
        fields.insert("cell_type".into(), "code".into());
        fields.insert("execution_count".into(), Value::Null);
        if let Some(id) = id {
            fields.insert("id".into(), id.into());
        }
        let metadata = if tags.is_empty() {
            json!({})
        } else {
            json!({ "tags": tags })
        };
        fields.insert("metadata".into(), metadata);
        fields.insert("outputs".into(), json!([]));
        fields.insert("source".into(), lines(source));
        Cell {
            fields,
            origin: None,
        }
    }

    /// Code, markdown or raw.
    pub fn kind(&self) -> CellKind {
        match self.fields.get("cell_type").and_then(Value::as_str) {
            Some("code") => CellKind::Code,
            Some("markdown") => CellKind::Markdown,
            _ => CellKind::Raw,
        }
    }

    /// The cell's text, its lines joined.
    pub fn source(&self) -> String {
        self.fields.get("source").map(joined).unwrap_or_default()
    }

    /// Whether `metadata.tags` holds this tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        let tags = self
            .fields
            .get("metadata")
            .and_then(|m| m.get("tags"))
            .and_then(Value::as_array);
        tags.is_some_and(|tags| tags.iter().any(|t| t.as_str() == Some(tag)))
    }

    /// The outputs of a code cell, as in the file; empty for other cells.
    pub fn outputs(&self) -> &[Value] {
        self.fields
            .get("outputs")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// The number in `In [n]`, or `None` when the cell was not executed.
    pub fn execution_count(&self) -> Option<u64> {
        self.fields.get("execution_count").and_then(Value::as_u64)
    }

    /// Pictures attached to a markdown cell: file name → MIME bundle.
    pub fn attachments(&self) -> Option<&Map<String, Value>> {
        self.fields.get("attachments").and_then(Value::as_object)
    }

    /// Replaces outputs and execution count.
    pub fn set_outputs(&mut self, outputs: Vec<Value>, execution_count: Option<u64>) {
        self.set(
            "execution_count",
            execution_count.map_or(Value::Null, Value::from),
        );
        self.set("outputs", Value::Array(outputs));
    }

    /// Outputs that can be changed in place (a display of an earlier cell is updated by a later one).
    pub fn outputs_mut(&mut self) -> Option<&mut Vec<Value>> {
        self.fields.get_mut("outputs").and_then(Value::as_array_mut)
    }

    /// Sets or removes `metadata.execution`, the times that JupyterLab shows.
    pub fn set_execution_times(&mut self, times: Option<Value>) {
        let metadata = match self
            .fields
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
        {
            Some(metadata) => metadata,
            None => return,
        };
        match times {
            Some(times) => insert_sorted(metadata, "execution", times),
            None => {
                metadata.shift_remove("execution");
            }
        }
    }

    fn set(&mut self, key: &str, value: Value) {
        insert_sorted(&mut self.fields, key, value);
    }
}

/// A notebook and the text it came from.
#[derive(Debug, Clone)]
pub struct Notebook {
    /// Everything but the cells; holds `"cells": null` at the place where they go.
    pub(super) frame: Map<String, Value>,
    pub(super) cells: Vec<Cell>,
    pub(super) original: String,
    pub(super) style: Style,
}

impl Notebook {
    /// Reads a notebook file.
    ///
    /// # Errors
    /// The file is missing, unreadable, not JSON, not a notebook, or of a format other than 4.0–4.5.
    pub fn read(path: &Path) -> Result<Notebook, NotebookError> {
        let text = regular::read_text(path, LARGEST).map_err(|source| NotebookError::Read {
            path: path.to_owned(),
            source,
        })?;
        Notebook::parse(&text)
    }

    /// Reads a notebook from its text.
    ///
    /// # Errors
    /// The text is not JSON, not a notebook, or of a format other than 4.0–4.5.
    pub fn parse(text: &str) -> Result<Notebook, NotebookError> {
        let text = &*python_json::to_strict(text)
            .map_err(|fault| NotebookError::Shape(fault.to_string()))?;
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = python_json::parse(body).map_err(NotebookError::NotJson)?;
        let Value::Object(mut frame) = root else {
            return Err(NotebookError::Shape(
                "the file's outermost value is not an object".into(),
            ));
        };
        match frame.get("nbformat").map(Value::as_i64) {
            Some(Some(4)) => {}
            Some(Some(found)) => return Err(NotebookError::Format { found }),
            _ => {
                return Err(NotebookError::Shape(
                    "the field \"nbformat\" is missing or not a number".into(),
                ));
            }
        }
        let Some(slot) = frame.get_mut("cells") else {
            return Err(NotebookError::Shape(
                "the field \"cells\" is missing".into(),
            ));
        };
        let Value::Array(values) = slot.take() else {
            return Err(NotebookError::Shape(
                "the field \"cells\" is not a list".into(),
            ));
        };
        let mut cells = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let fields = check_cell(value).map_err(|fault| {
                NotebookError::Shape(format!(
                    "cell {} (counted from 1, text cells included) {fault}",
                    index + 1
                ))
            })?;
            cells.push(Cell {
                fields,
                origin: Some(index),
            });
        }
        let style = Style::of(body);
        Ok(Notebook {
            frame,
            cells,
            original: text.to_owned(),
            style,
        })
    }

    /// Checks that the notebook's kernel is one whose cells are Rust.
    ///
    /// Accepted: no kernel named; `glassbox`, `glassbox-stock`, `rust`, `evcxr`; any kernel whose language is Rust
    /// (a kernel installed with `--name`).
    ///
    /// # Errors
    /// [`NotebookError::Kernel`] for any other kernel or language.
    pub fn check_kernel(&self) -> Result<(), NotebookError> {
        let text = |section: &str, key: &str| {
            self.frame
                .get("metadata")?
                .get(section)?
                .get(key)?
                .as_str()
                .map(str::to_lowercase)
        };
        let kernel = text("kernelspec", "name");
        let language = text("kernelspec", "language").or_else(|| text("language_info", "name"));
        let ours = |name: &str| {
            matches!(
                name,
                "glassbox" | "glassbox-stock" | "rust" | "evcxr" | "evcxr_jupyter"
            )
        };
        let accepted = match (&kernel, &language) {
            (Some(name), _) if ours(name) => true,
            (_, Some(language)) => language == "rust",
            (None, None) => true,
            (Some(_), None) => false,
        };
        if accepted {
            return Ok(());
        }
        let language = language
            .map(|l| format!(" (language {l})"))
            .unwrap_or_default();
        Err(NotebookError::Kernel {
            kernel: kernel.unwrap_or_else(|| "unnamed".into()),
            language,
        })
    }

    /// All cells, in order.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// All cells, to be changed.
    pub fn cells_mut(&mut self) -> &mut [Cell] {
        &mut self.cells
    }

    /// Inserts a cell before the cell that now stands at `index`.
    pub fn insert(&mut self, index: usize, cell: Cell) {
        self.cells.insert(index.min(self.cells.len()), cell);
    }

    /// Removes the cell at `index`, if there is one.
    pub fn remove(&mut self, index: usize) {
        if index < self.cells.len() {
            self.cells.remove(index);
        }
    }

    /// Whether this format wants an id in every cell (4.5 and later).
    pub fn needs_ids(&self) -> bool {
        self.frame
            .get("nbformat_minor")
            .and_then(Value::as_i64)
            .is_some_and(|minor| minor >= 5)
    }

    /// An id for a new cell, or `None` where the format knows no ids.
    pub fn fresh_id(&self) -> Option<String> {
        self.needs_ids()
            .then(|| uuid::Uuid::new_v4().simple().to_string()[..8].to_owned())
    }

    /// Gives an id to every cell that lacks the one its format demands: it has none, or one that is not allowed or
    /// that an earlier cell has.
    pub fn mend_ids(&mut self) {
        let mut taken = HashSet::new();
        for index in 0..self.cells.len() {
            let id = self.cells[index].fields.get("id").and_then(Value::as_str);
            if id.is_some_and(|id| is_cell_id(id) && taken.insert(id.to_owned())) {
                continue;
            }
            if let Some(id) = self.fresh_id() {
                self.cells[index].set("id", id.clone().into());
                taken.insert(id);
            }
        }
    }

    /// A title: the first heading of the first markdown cell that has one.
    pub fn title(&self) -> Option<String> {
        let texts = self
            .cells
            .iter()
            .filter(|cell| cell.kind() == CellKind::Markdown)
            .map(Cell::source);
        texts
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .find_map(|line| {
                let title = line
                    .trim_start()
                    .strip_prefix('#')?
                    .trim_start_matches('#')
                    .trim();
                (!title.is_empty()).then(|| title.to_owned())
            })
    }

    /// SHA-256, in hexadecimal, of what a reader wrote: the kind and the source of each cell, not its outputs.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for cell in self.cells() {
            // The length stands in front, so that text can't move from one cell to the next unseen.
            let (kind, source) = (format!("{:?}", cell.kind()), cell.source());
            digest.update(format!("{kind} {}\n{source}\n", source.len()));
        }
        format!("{:x}", digest.finalize())
    }

    /// The file's text: what was changed in the file's own style, all else byte for byte as it was read.
    pub fn to_text(&self) -> String {
        lossless::write(self)
    }
}

/// Whether nbformat's schema allows this id.
fn is_cell_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// Checks the fields that everything else relies on.
fn check_cell(value: Value) -> Result<Map<String, Value>, String> {
    let Value::Object(fields) = value else {
        return Err("is not an object".into());
    };
    let kind = fields.get("cell_type").and_then(Value::as_str);
    if !matches!(kind, Some("code" | "markdown" | "raw")) {
        return Err("has no \"cell_type\" of code, markdown or raw".into());
    }
    let is_text = |value: &Value| match value {
        Value::String(_) => true,
        Value::Array(lines) => lines.iter().all(Value::is_string),
        _ => false,
    };
    match fields.get("source") {
        Some(source) if is_text(source) => {}
        _ => return Err("has no \"source\" text".into()),
    }
    if fields
        .get("metadata")
        .is_some_and(|metadata| !metadata.is_object())
    {
        return Err("has a \"metadata\" that is not an object".into());
    }
    Ok(fields)
}

/// A multi-line field (text or list of lines) as one text.
pub fn joined(value: &Value) -> String {
    python_json::shown(match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    })
}

/// A text as the list of lines that nbformat writes. Lines end where Python's `splitlines` ends them.
pub fn lines(text: &str) -> Value {
    let mut list = Vec::new();
    let mut line = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line.push(c);
        let ends = match c {
            '\r' => {
                if chars.peek() == Some(&'\n') {
                    line.extend(chars.next());
                }
                true
            }
            '\n' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                true
            }
            _ => false,
        };
        if ends {
            list.push(Value::String(std::mem::take(&mut line)));
        }
    }
    if !line.is_empty() {
        list.push(Value::String(line));
    }
    Value::Array(list)
}

/// Sets a field; a new one goes where it belongs if the fields are sorted by name, else to the end.
fn insert_sorted(map: &mut Map<String, Value>, key: &str, value: Value) {
    if let Some(slot) = map.get_mut(key) {
        *slot = value;
        return;
    }
    let sorted = map.keys().zip(map.keys().skip(1)).all(|(a, b)| a <= b);
    let at = if sorted {
        map.keys().position(|k| k.as_str() > key)
    } else {
        None
    };
    match at {
        Some(at) => {
            map.shift_insert(at, key.to_owned(), value);
        }
        None => {
            map.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
