//! Writes a changed notebook over the text it was read from, so that only what changed differs.
//!
//! new value + old raw text → new text. A value that equals the old one is copied as it was spelled; a value that
//! differs is taken apart one level and the rule applies to its parts; a new value is spelled in the file's style.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::document::Notebook;
use super::python_json;

/// How the file is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// One level of indentation, or `None` when the file is one line.
    indent: Option<String>,
    /// `\n` or `\r\n`.
    newline: &'static str,
    /// What stands between a name and its value.
    colon: &'static str,
}

impl Style {
    /// Reads the style from the first lines of the file.
    pub fn of(text: &str) -> Style {
        let inside = text.trim_start().strip_prefix('{').unwrap_or(text);
        let gap: &str = &inside[..inside.len() - inside.trim_start().len()];
        let indent = gap.rfind('\n').map(|at| gap[at + 1..].to_owned());
        let newline = if gap.contains("\r\n") { "\r\n" } else { "\n" };
        let spaced = inside
            .find(':')
            .is_some_and(|at| inside[at + 1..].starts_with(' '));
        Style {
            indent,
            newline,
            colon: if spaced { ": " } else { ":" },
        }
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push_str(self.newline);
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn comma(&self, out: &mut String) {
        out.push(',');
        if self.indent.is_none() && self.colon == ": " {
            out.push(' ');
        }
    }
}

/// The notebook's text.
pub fn write(notebook: &Notebook) -> String {
    let original = notebook.original.as_str();
    let body = original.trim_start_matches('\u{feff}');
    let lead = &original[..original.len() - body.trim_start().len()];
    let tail = &body[body.trim_end().len()..];
    let old = entries(body.trim());
    let style = &notebook.style;

    let mut out = String::with_capacity(original.len() + 1024);
    out.push_str(lead);
    if untouched(notebook, &old) {
        out.push_str(body.trim());
    } else {
        object(&notebook.frame, style, 0, &mut out, |key, value, out| {
            let raw = find(&old, key);
            if key == "cells" {
                cells(notebook, raw, style, out)
            } else {
                put(value, raw, style, 1, out)
            }
        });
    }
    out.push_str(tail);
    python_json::to_python(out)
}

fn untouched(notebook: &Notebook, old: &[(String, &RawValue)]) -> bool {
    let Some(raw) = find(old, "cells") else {
        return false;
    };
    let old_cells = elements(raw);
    let same_frame = notebook
        .frame
        .iter()
        .all(|(key, value)| key == "cells" || same(value, find(old, key)));
    same_frame
        && old_cells.len() == notebook.cells.len()
        && notebook.cells.iter().enumerate().all(|(index, cell)| {
            cell.origin == Some(index)
                && python_json::parse(old_cells[index])
                    .is_ok_and(|v| v.as_object() == Some(&cell.fields))
        })
}

fn cells(notebook: &Notebook, raw: Option<&str>, style: &Style, out: &mut String) {
    let old = raw.map(elements).unwrap_or_default();
    array(&notebook.cells, style, 1, out, |_, cell, out| {
        let raw = cell.origin.and_then(|index| old.get(index).copied());
        put(&Value::Object(cell.fields.clone()), raw, style, 2, out);
    });
}

/// Writes one value at `depth`, copying whatever `raw`, its earlier spelling, still says.
fn put(value: &Value, raw: Option<&str>, style: &Style, depth: usize, out: &mut String) {
    if let Some(raw) = raw
        && same(value, Some(raw))
    {
        return out.push_str(raw);
    }
    match value {
        Value::Object(map) => {
            let old = raw.map(entries).unwrap_or_default();
            object(map, style, depth, out, |key, value, out| {
                put(value, find(&old, key), style, depth + 1, out)
            });
        }
        Value::Array(list) => {
            let old = raw.map(elements).unwrap_or_default();
            array(list, style, depth, out, |index, value, out| {
                put(value, old.get(index).copied(), style, depth + 1, out);
            });
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn object(
    map: &serde_json::Map<String, Value>,
    style: &Style,
    depth: usize,
    out: &mut String,
    mut item: impl FnMut(&str, &Value, &mut String),
) {
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            style.comma(out);
        }
        style.line(depth + 1, out);
        out.push_str(&Value::from(key.as_str()).to_string());
        out.push_str(style.colon);
        item(key, value, out);
    }
    if !map.is_empty() {
        style.line(depth, out);
    }
    out.push('}');
}

fn array<T>(
    list: &[T],
    style: &Style,
    depth: usize,
    out: &mut String,
    mut item: impl FnMut(usize, &T, &mut String),
) {
    out.push('[');
    for (index, value) in list.iter().enumerate() {
        if index > 0 {
            style.comma(out);
        }
        style.line(depth + 1, out);
        item(index, value, out);
    }
    if !list.is_empty() {
        style.line(depth, out);
    }
    out.push(']');
}

fn same(value: &Value, raw: Option<&str>) -> bool {
    raw.is_some_and(|raw| python_json::parse(raw).is_ok_and(|old| old == *value))
}

fn find<'a>(entries: &[(String, &'a RawValue)], key: &str) -> Option<&'a str> {
    // The last one counts, as in every JSON reader.
    entries
        .iter()
        .rev()
        .find(|(name, _)| name == key)
        .map(|(_, raw)| raw.get())
}

pub(super) fn elements(raw: &str) -> Vec<&str> {
    serde_json::from_str::<Vec<&RawValue>>(raw)
        .unwrap_or_default()
        .into_iter()
        .map(RawValue::get)
        .collect()
}

/// The fields of an object with their spelling; empty when `raw` is no object.
pub(super) fn entries(raw: &str) -> Vec<(String, &RawValue)> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                fields.push(entry);
            }
            Ok(fields)
        }
    }
    serde_json::Deserializer::from_str(raw)
        .deserialize_map(Fields)
        .unwrap_or_default()
}
