//! Tables: HTML for notebooks, aligned columns for terminals.

use super::html::{self, escape};
use super::{MimeBundle, Render, number};

/// Rows that stand open; the others are folded away.
const OPEN_ROWS: usize = 60;
/// Rows that are rendered at all.
const MAX_ROWS: usize = 2000;
/// Rows of the text form: it has no fold, and shall not fill more than a screen.
const PLAIN_ROWS: usize = 40;
/// Pixels of a character of a table's font on a page, on the safe side, and beside the text of a cell.
const CHARACTER: u32 = 8;
const PADDING: u32 = 10;

/// One cell of a [`Table`]: text for terminals, HTML for notebooks.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let table = Table::new(["check", "found"])
///     .row(["steps".into(), 1_200_usize.into()])
///     .row([Cell::code("loss"), Cell::good("finite")]);
/// assert!(table.render().plain().contains("1,200"));
/// assert_eq!(Cell::bad("no gradient").plain(), "no gradient");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    plain: String,
    html: String,
    right: bool,
}

impl Cell {
    /// Text, left-aligned.
    pub fn text(text: impl Into<String>) -> Self {
        let plain = text.into();
        Self {
            html: escape(&plain),
            plain,
            right: false,
        }
    }

    /// A figure that is already formatted, right-aligned.
    pub fn figure(text: impl Into<String>) -> Self {
        Self {
            right: true,
            ..Self::text(text)
        }
    }

    /// Aligned as figures are: a chip that stands in a column of them.
    pub(crate) fn among_figures(self) -> Self {
        Self {
            right: true,
            ..self
        }
    }

    /// A name, a shape or a token, in a font of fixed width.
    pub fn code(text: impl Into<String>) -> Self {
        let plain = text.into();
        let html = format!(
            "<code style=\"font-family:{};white-space:pre\">{}</code>",
            html::MONO,
            escape(&plain)
        );
        Self {
            plain,
            html,
            right: false,
        }
    }

    /// Good news: a green chip.
    pub fn good(text: impl Into<String>) -> Self {
        Self::chip(text, html::GREEN)
    }

    /// Bad news: a red chip.
    pub fn bad(text: impl Into<String>) -> Self {
        Self::chip(text, html::RED)
    }

    fn chip(text: impl Into<String>, background: &str) -> Self {
        let plain = text.into();
        Self {
            html: html::chip(&plain, background, "#ffffff"),
            plain,
            right: false,
        }
    }

    /// Text for terminals beside HTML that the caller has made safe with [`html::escape`].
    pub fn with_html(plain: impl Into<String>, html: impl Into<String>) -> Self {
        Self {
            plain: plain.into(),
            html: html.into(),
            right: false,
        }
    }

    /// The HTML.
    pub(crate) fn markup(&self) -> &str {
        &self.html
    }

    /// The plain text.
    pub fn plain(&self) -> &str {
        &self.plain
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::figure(number::float(value))
    }
}

impl From<f32> for Cell {
    fn from(value: f32) -> Self {
        Self::figure(number::float(value.into()))
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::figure(number::count(value as u64))
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::figure(number::count(value))
    }
}

impl From<u32> for Cell {
    fn from(value: u32) -> Self {
        Self::figure(number::count(value.into()))
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::text(if value { "yes" } else { "no" })
    }
}

/// Rows under headings. Figures stand right-aligned; long tables fold.
///
/// ```
/// use glassbox_prelude::display::{Render, Table};
/// let table = Table::new(["part", "parameters"]).row(["projector".into(), 20_224_usize.into()]);
/// assert!(table.render().plain().contains("20,224"));
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Table {
    title: String,
    note: String,
    headings: Vec<String>,
    rows: Vec<Vec<Cell>>,
    totals: Vec<Vec<Cell>>,
    /// Rows before the fold; `None`: [`OPEN_ROWS`].
    open_rows: Option<usize>,
    /// Rows of the text form; `None`: [`PLAIN_ROWS`].
    plain_rows: Option<usize>,
    /// Widths of the columns on a page, in pixels; none: as the page sees fit.
    widths: Vec<u32>,
}

impl Table {
    /// A table with these column headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            headings: headings
                .iter()
                .map(|heading| (*heading).to_owned())
                .collect(),
            ..Self::default()
        }
    }

    /// Adds columns, before any row is added.
    pub fn headings(mut self, more: impl IntoIterator<Item = String>) -> Self {
        self.headings.extend(more);
        self
    }

    /// Text above the table.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Text below the table.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Adds a row. A row that is shorter than the headings is filled up, a longer one is cut.
    pub fn row<const N: usize>(mut self, cells: [Cell; N]) -> Self {
        self.push(cells.into());
        self
    }

    /// Adds a row to a table that is being filled in a loop.
    pub fn push(&mut self, cells: Vec<Cell>) {
        let cells = self.fitted(cells);
        self.rows.push(cells);
    }

    /// Adds a row at the end that is set off, for sums.
    pub fn total<const N: usize>(mut self, cells: [Cell; N]) -> Self {
        let cells = self.fitted(cells.into());
        self.totals.push(cells);
        self
    }

    /// Folds all rows but the first `rows` on a page; a long table folds by itself.
    pub fn fold_after(mut self, rows: usize) -> Self {
        self.open_rows = Some(rows);
        self
    }

    /// The text form with all its rows, where they are what was asked for.
    pub(crate) fn whole(mut self) -> Self {
        self.plain_rows = Some(MAX_ROWS);
        self
    }

    /// Gives the columns these widths on a page, in pixels, so that several tables stand in one layout.
    pub(crate) fn widths(mut self, widths: Vec<u32>) -> Self {
        self.widths = widths;
        self
    }

    /// Pixels that each column needs for its texts, none of them broken.
    pub(crate) fn needed_widths(&self) -> Vec<u32> {
        let texts = |column: usize| {
            let cells = self.rows.iter().filter_map(move |row| row.get(column));
            cells.map(|cell| width(&cell.plain))
        };
        let headings = self.headings.iter().enumerate();
        let longest = headings
            .map(|(column, heading)| texts(column).chain([width(heading)]).max().unwrap_or(0));
        longest
            .map(|characters| characters as u32 * CHARACTER + 2 * PADDING + 1)
            .collect()
    }

    /// The table without a column.
    pub(crate) fn without(mut self, column: usize) -> Self {
        for row in self.rows.iter_mut().chain(&mut self.totals) {
            row.remove(column);
        }
        self.headings.remove(column);
        self
    }

    /// Number of rows, totals not counted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn fitted(&self, mut cells: Vec<Cell>) -> Vec<Cell> {
        cells.resize(self.headings.len(), Cell::text(""));
        cells
    }

    /// A heading stands over figures if the column has no cell that is aligned to the left.
    fn is_right(&self, column: usize) -> bool {
        let mut filled = self
            .rows
            .iter()
            .chain(&self.totals)
            .filter_map(|row| row.get(column));
        filled.clone().any(|cell| cell.right)
            && filled.all(|cell| cell.right || cell.plain.is_empty())
    }

    fn html(&self) -> String {
        let mut out = format!("<div style=\"overflow-x:auto;font-family:{}\">", html::SANS);
        if !self.title.is_empty() {
            out.push_str(&format!(
                "<div style=\"font-weight:600;margin:4px 0\">{}</div>",
                escape(&self.title)
            ));
        }
        let open = self.open_rows.unwrap_or(OPEN_ROWS);
        let all_open = self.rows.len() <= open;
        out.push_str(&self.html_rows(self.rows.iter().take(open), true, all_open));
        if !all_open {
            let folded = self.rows.len().min(MAX_ROWS) - open.min(MAX_ROWS);
            out.push_str(&format!("<details><summary>{folded} more rows</summary>"));
            out.push_str(&self.html_rows(self.rows.iter().skip(open).take(folded), true, false));
            out.push_str("</details>");
            out.push_str(&self.html_rows([].iter(), false, true));
        }
        if let Some(left_out) = self.left_out() {
            out.push_str(&format!("<div>{}</div>", escape(&left_out)));
        }
        if !self.note.is_empty() {
            out.push_str(&format!(
                "<div style=\"font-size:12px;opacity:0.8;margin:2px 0\">{}</div>",
                escape(&self.note)
            ));
        }
        out.push_str("</div>");
        out
    }

    fn html_rows<'a>(
        &self,
        rows: impl Iterator<Item = &'a Vec<Cell>>,
        headings: bool,
        totals: bool,
    ) -> String {
        let mut out = format!(
            "<table style=\"border-collapse:collapse;margin:4px 0;{};font-size:13px;font-family:{}\">",
            self.layout(),
            html::SANS
        );
        if !self.widths.is_empty() {
            let columns = self.widths.iter();
            let columns: String = columns
                .map(|width| format!("<col style=\"width:{width}px\">"))
                .collect();
            out.push_str(&format!("<colgroup>{columns}</colgroup>"));
        }
        if headings {
            out.push_str(&format!(
                "<thead><tr style=\"background-color:{}\">",
                html::SURFACE
            ));
            for (column, heading) in self.headings.iter().enumerate() {
                let align = if self.is_right(column) {
                    "right"
                } else {
                    "left"
                };
                out.push_str(&format!(
                    "<th style=\"text-align:{align};padding:4px 10px;font-weight:600;border-bottom:1px solid {}\">{}</th>",
                    html::LINE,
                    escape(heading)
                ));
            }
            out.push_str("</tr></thead>");
        }
        out.push_str("<tbody>");
        for row in rows {
            out.push_str("<tr>");
            out.extend(row.iter().map(|cell| html_cell(cell, "")));
            out.push_str("</tr>");
        }
        if totals {
            for row in &self.totals {
                out.push_str("<tr>");
                let style = format!("font-weight:600;border-top:1px solid {};", html::LINE);
                out.extend(row.iter().map(|cell| html_cell(cell, &style)));
                out.push_str("</tr>");
            }
        }
        out.push_str("</tbody></table>");
        out
    }

    fn layout(&self) -> String {
        if self.widths.is_empty() {
            return "table-layout:auto".into();
        }
        let all: u32 = self.widths.iter().sum();
        format!("table-layout:fixed;width:{all}px;max-width:none;margin-left:0")
    }

    fn left_out(&self) -> Option<String> {
        let hidden = self.rows.len().saturating_sub(MAX_ROWS);
        (hidden > 0).then(|| format!("{} rows are not shown", number::count(hidden as u64)))
    }

    fn plain(&self) -> String {
        let rows = self.plain_rows.unwrap_or(PLAIN_ROWS);
        let shown = || self.rows.iter().take(rows).chain(&self.totals);
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|column| {
                let cells = shown()
                    .filter_map(|row| row.get(column))
                    .map(|cell| width(&cell.plain));
                cells
                    .chain([width(&self.headings[column])])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let line = |cells: Vec<(&str, bool)>| {
            let padded = cells.iter().zip(&widths).map(|((text, right), wanted)| {
                let space = " ".repeat(wanted.saturating_sub(width(text)));
                if *right {
                    format!("{space}{text}")
                } else {
                    format!("{text}{space}")
                }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(self.title.clone());
        }
        let headings = self.headings.iter().enumerate();
        lines.push(line(
            headings
                .map(|(column, text)| (text.as_str(), self.is_right(column)))
                .collect(),
        ));
        let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        lines.push(rule.join("  "));
        for row in self.rows.iter().take(rows) {
            lines.push(line(
                row.iter()
                    .map(|cell| (cell.plain.as_str(), cell.right))
                    .collect(),
            ));
        }
        let hidden = self.rows.len().saturating_sub(rows);
        lines.extend((hidden > 0).then(|| {
            let s = if hidden == 1 { "" } else { "s" };
            format!("… {} more row{s}", number::count(hidden as u64))
        }));
        if !self.totals.is_empty() {
            lines.push(rule.join("  "));
        }
        for row in &self.totals {
            lines.push(line(
                row.iter()
                    .map(|cell| (cell.plain.as_str(), cell.right))
                    .collect(),
            ));
        }
        if !self.note.is_empty() {
            lines.push(self.note.clone());
        }
        lines.join("\n")
    }
}

/// Characters that a terminal shows; good enough for names and figures.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn html_cell(cell: &Cell, style: &str) -> String {
    let align = if cell.right { "right" } else { "left" };
    format!(
        "<td style=\"text-align:{align};padding:3px 10px;{style}\">{}</td>",
        cell.html
    )
}

impl Render for Table {
    fn render(&self) -> MimeBundle {
        MimeBundle::text(self.plain()).with_html(self.html())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_aligned() {
        let table = Table::new(["part", "parameters"])
            .row(["vit".into(), 1234_usize.into()])
            .row(["projector".into(), 7_usize.into()])
            .total(["all".into(), 1241_usize.into()]);
        let expected = "part       parameters\n─────────  ──────────\nvit             1,234\nprojector           7\n\
                        ─────────  ──────────\nall             1,241";
        assert_eq!(table.render().plain(), expected);
    }

    #[test]
    fn a_chip_in_a_column_of_figures_stands_where_they_stand() {
        let table = Table::new(["seconds"])
            .row([Cell::figure("1.5 s")])
            .row([Cell::bad("20 s").among_figures()]);
        let expected = "seconds\n───────\n  1.5 s\n   20 s";
        assert_eq!(table.render().plain(), expected);
        assert!(table.is_right(0));
    }

    #[test]
    fn text_is_escaped_and_figures_stand_right() {
        let table = Table::new(["<a>", "n"])
            .title("<t>")
            .note("<n>")
            .row(["<script>".into(), 1.5.into()]);
        let bundle = table.render();
        let html = bundle.html().unwrap_or_default();
        assert!(
            !html.contains("<script>")
                && !html.contains("<a>")
                && !html.contains("<t>")
                && !html.contains("<n>")
        );
        assert!(html.contains("text-align:right;padding:3px 10px;\">1.5<"));
    }

    #[test]
    fn rows_fit_the_headings_and_long_tables_fold() {
        let mut table = Table::new(["a", "b"]).row(["1".into()]);
        for index in 0..MAX_ROWS + 5 {
            table.push(vec![index.into(), index.into(), "cut".into()]);
        }
        let bundle = table.render();
        assert!(!bundle.plain().contains("cut"));
        assert!(bundle.plain().ends_with("… 1,966 more rows"));
        assert!(
            table
                .clone()
                .whole()
                .render()
                .plain()
                .ends_with("… 6 more rows")
        );
        assert!(
            bundle
                .html()
                .unwrap_or_default()
                .contains("6 rows are not shown")
        );
        assert!(
            bundle
                .html()
                .unwrap_or_default()
                .contains("<summary>1940 more rows</summary>")
        );
        assert!(Table::new(["empty"]).render().plain().starts_with("empty"));
    }
}
