//! A notebook → one HTML page that needs nothing else: no scripts, no fonts, no files; pictures are data URIs.
//!
//! Text cells are typeset, code is coloured, each output is shown in the richest form that a page can show, and all
//! text is escaped. Of the markup of text cells, `text/html` and SVG outputs goes in what can only be looked at (see [`super::clean`]), and
//! the page's content security policy has browsers refuse the rest; what is left out is said at the foot.

use std::path::Path;

use serde_json::{Map, Value};

use super::ansi;
use super::clean::{LeftOut, clean};
use super::document::{Cell, CellKind, Notebook, joined};
use super::markdown::{self, Headings};
use super::pictures::Pictures;
use super::python_json;
use crate::html::escape;

/// What the page needs besides the notebook.
#[derive(Debug, Clone, Default)]
pub struct PageOptions<'a> {
    /// Title when the notebook has no heading: the file's name.
    pub name: &'a str,
    /// The notebook's folder, where pictures named by text cells are.
    pub folder: Option<&'a Path>,
    /// A line for the foot of the page.
    pub note: &'a str,
}

/// Fewest headings that make a table of contents worth its room.
const CONTENTS_FROM: usize = 4;

/// A page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its text.
    pub html: String,
    /// What of the notebook's markup is not in it.
    pub left_out: LeftOut,
}

/// Nothing runs, and nothing is loaded that is not in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'";

/// The whole page.
pub fn page(notebook: &Notebook, options: &PageOptions<'_>) -> Page {
    let mut headings = Headings::default();
    let mut left_out = LeftOut::default();
    let taken = std::cell::Cell::new(0);
    let mut body = String::new();
    let mut after_title = 0;
    for (index, cell) in notebook.cells().iter().enumerate() {
        match cell.kind() {
            CellKind::Code => code_cell(cell, &mut body, &mut left_out),
            CellKind::Markdown => {
                let pictures = Pictures {
                    attachments: cell.attachments(),
                    folder: options.folder,
                    taken: Some(&taken),
                };
                let html = markdown::to_html(&cell.source(), pictures, &mut headings);
                let html = clean(&html, &mut left_out);
                body.push_str(&format!("<section class=\"text\">\n{html}</section>\n"));
                if index == 0 {
                    after_title = body.len();
                }
            }
            CellKind::Raw => {
                body.push_str(&format!(
                    "<section><pre>{}</pre></section>\n",
                    escape(&cell.source())
                ));
            }
        }
    }
    body.insert_str(after_title, &contents(&headings));
    let title = notebook.title().unwrap_or_else(|| options.name.to_owned());
    let note = match left_out.said() {
        None => options.note.to_owned(),
        Some(said) => format!(
            "{}. Left out, so that the page loads and runs nothing: {said}",
            options.note
        ),
    };
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"glassbox {version}\">\n\
         <meta name=\"notebook-sha256\" content=\"{digest}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n{body}</main>\n<footer>{note}</footer>\n</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION"),
        digest = notebook.digest(),
        title = escape(title.trim_matches(['*', '`', '_'])),
        note = escape(&note),
    );
    Page { html, left_out }
}

const STYLE: &str = include_str!("page.css");

fn contents(headings: &Headings) -> String {
    let listed: Vec<_> = headings
        .all()
        .iter()
        .filter(|h| (2..=3).contains(&h.level))
        .collect();
    if listed.len() < CONTENTS_FROM {
        return String::new();
    }
    let items: String = listed
        .iter()
        .map(|h| {
            format!(
                "<li class=\"level{}\"><a href=\"#{}\">{}</a></li>\n",
                h.level,
                escape(&h.id),
                escape(&h.text)
            )
        })
        .collect();
    format!(
        "<details class=\"contents\"><summary>Contents</summary>\n<ul>\n{items}</ul></details>\n"
    )
}

fn code_cell(cell: &Cell, out: &mut String, left_out: &mut LeftOut) {
    let source = cell.source();
    if source.trim().is_empty() && cell.outputs().is_empty() {
        return;
    }
    let count = cell
        .execution_count()
        .map_or(" ".to_owned(), |n| n.to_string());
    let failed = cell
        .outputs()
        .iter()
        .any(|o| o.get("output_type").and_then(Value::as_str) == Some("error"));
    let class = if failed { "cell failed" } else { "cell" };
    out.push_str(&format!(
        "<section class=\"{class}\">\n<div class=\"prompt\">[{count}]</div>\n<pre class=\"code\"><code>{}</code></pre>\n",
        markdown::rust(source.trim_end())
    ));
    for output in cell.outputs() {
        out.push_str(&output_html(output, left_out));
    }
    out.push_str("</section>\n");
}

fn output_html(output: &Value, left_out: &mut LeftOut) -> String {
    let text = |key: &str| output.get(key).map(joined).unwrap_or_default();
    match output.get("output_type").and_then(Value::as_str) {
        Some("stream") => {
            let class = if text("name") == "stderr" {
                "out stderr"
            } else {
                "out"
            };
            format!(
                "<pre class=\"{class}\">{}</pre>\n",
                ansi::to_html(&text("text"))
            )
        }
        Some("display_data" | "execute_result") => {
            let empty = Map::new();
            let object = |key: &str| output.get(key).and_then(Value::as_object).unwrap_or(&empty);
            bundle_html(object("data"), object("metadata"), left_out)
        }
        Some("error") => {
            let trace: Vec<&str> = output
                .get("traceback")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let report = match trace.is_empty() {
                true => format!("{}: {}", text("ename"), text("evalue")),
                false => python_json::shown(trace.join("\n")),
            };
            format!(
                "<pre class=\"out error\">{}</pre>\n",
                ansi::link_error_codes(&ansi::to_html(&report))
            )
        }
        _ => String::new(),
    }
}

/// Pictures that a browser shows from a data URI.
const PICTURES: &[&str] = &["image/png", "image/jpeg", "image/webp", "image/gif"];

/// The richest form of a display.
fn bundle_html(
    data: &Map<String, Value>,
    metadata: &Map<String, Value>,
    left_out: &mut LeftOut,
) -> String {
    let text = |mime: &str| data.get(mime).map(joined).filter(|text| !text.is_empty());
    if let Some(html) = text("text/html") {
        return format!("<div class=\"out rich\">{}</div>\n", clean(&html, left_out));
    }
    if let Some(svg) = text("image/svg+xml") {
        // What precedes the element (XML declaration, doctype) has no place inside a page.
        let element = svg.find("<svg").map_or(svg.as_str(), |at| &svg[at..]);
        return format!(
            "<div class=\"out rich picture\">{}</div>\n",
            clean(element, left_out)
        );
    }
    if let Some((mime, content)) = PICTURES.iter().find_map(|mime| Some((mime, text(mime)?))) {
        let size = |key: &str| {
            let pixels = metadata.get(*mime)?.get(key)?.as_f64()?;
            Some(format!(" {key}=\"{pixels}\""))
        };
        let sizes = size("width").unwrap_or_default() + &size("height").unwrap_or_default();
        let alt = escape(&text("text/plain").unwrap_or_default());
        let content: String = content.split_whitespace().collect();
        return format!(
            "<div class=\"out picture\"><img src=\"data:{mime};base64,{}\" alt=\"{alt}\"{sizes}></div>\n",
            escape(&content)
        );
    }
    if let Some(source) = text("text/markdown") {
        let html = markdown::to_html(&source, Pictures::default(), &mut Headings::default());
        return format!("<div class=\"out text\">{}</div>\n", clean(&html, left_out));
    }
    if let Some(plain) = text("text/plain").or_else(|| text("text/latex")) {
        return format!("<pre class=\"out\">{}</pre>\n", ansi::to_html(&plain));
    }
    match data.iter().next() {
        Some((mime, value)) if mime.ends_with("json") => {
            format!(
                "<pre class=\"out\">{}</pre>\n",
                escape(&python_json::to_python(format!("{value:#}")))
            )
        }
        Some((mime, _)) => format!(
            "<p class=\"out missing\">an output of type {} is not shown here</p>\n",
            escape(mime)
        ),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(cells: Value) -> String {
        let text =
            json!({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).to_string();
        page(
            &Notebook::parse(&text).unwrap(),
            &PageOptions {
                name: "a<b",
                ..PageOptions::default()
            },
        )
        .html
    }

    fn code(source: &str, outputs: Value) -> Value {
        json!([{"cell_type": "code", "metadata": {}, "source": source, "execution_count": 1, "outputs": outputs}])
    }

    #[test]
    fn text_can_not_become_markup() {
        let nasty = "</pre><script>alert(1)</script>";
        let html = render(json!([
            {"cell_type": "raw", "metadata": {}, "source": nasty},
            {"cell_type": "code", "metadata": {}, "source": nasty, "execution_count": null, "outputs": [
                {"output_type": "stream", "name": "stdout", "text": [nasty]},
                {"output_type": "display_data", "data": {"text/plain": [nasty]}, "metadata": {}},
                {"output_type": "display_data", "data": {"application/json": {"a": nasty}}, "metadata": {}},
                {"output_type": "display_data", "data": {"a/<script>": nasty}, "metadata": {}},
                {"output_type": "display_data", "data": {"image/png": "\"><script>", "text/plain": nasty}, "metadata": {}},
                {"output_type": "error", "ename": nasty, "evalue": nasty, "traceback": []},
            ]},
        ]));
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;").count(), 10, "{html}");
        assert!(html.contains("<title>a&lt;b</title>"));
    }

    #[test]
    fn the_richest_form_is_shown() {
        let html = render(code(
            "1",
            json!([
                {"output_type": "display_data", "metadata": {}, "data": {"text/plain": "p1", "text/html": ["<b>", "h</b>"]}},
                {"output_type": "display_data", "metadata": {}, "data": {"text/plain": "p2", "image/svg+xml": "<?xml?><svg/>"}},
                {"output_type": "display_data", "metadata": {"image/png": {"width": 32}},
                 "data": {"text/plain": "p3", "image/png": "QU\nJD"}},
                {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": "p4"}},
            ]),
        ));
        for part in [
            "<div class=\"out rich\"><b>h</b></div>",
            "<div class=\"out rich picture\"><svg/></div>",
            "<img src=\"data:image/png;base64,QUJD\" alt=\"p3\" width=\"32\">",
            "<pre class=\"out\">p4</pre>",
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
        assert!(!html.contains("p1") && !html.contains("p2"));
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let html = render(code("1", json!([])));
        assert!(
            !html.contains("http://")
                && !html.contains("https://")
                && !html.contains("<link")
                && !html.contains("url(")
        );
    }

    #[test]
    fn a_failed_cell_is_marked_and_its_colours_are_kept() {
        let html = render(code(
            "boom()",
            json!([{"output_type": "error", "ename": "Panic", "evalue": "x", "traceback": ["\u{1b}[31mPanic\u{1b}[0m"]}]),
        ));
        assert!(html.contains("<section class=\"cell failed\">"));
        assert!(html.contains("<pre class=\"out error\"><span class=\"af1\">Panic</span></pre>"));
    }
}
