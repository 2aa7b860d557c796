//! Rows and columns of coloured figures with one sentence that says what they show: what instruments over layers, heads and tokens
//! draw.

use crate::display::MimeBundle;
use crate::display::heat;
use crate::display::html::{self, escape};
use crate::display::tokens::visible;

/// How many of the largest figures the plain text names.
const NAMED: usize = 8;

/// A table to be drawn. A row may be shorter than the columns.
pub(super) struct HeatTable<'a> {
    pub title: String,
    /// What it shows, in a sentence.
    pub says: String,
    pub rows: &'a [String],
    pub columns: &'a [String],
    pub values: &'a [Vec<f64>],
    /// The figure whose colour is full.
    pub limit: f64,
    pub figure: fn(f64) -> String,
}

/// The sentence below a picture.
pub(super) fn says_html(says: &str, width: Option<u32>) -> String {
    let width = width.map_or(String::new(), |width| format!(";max-width:{width}px"));
    format!(
        "<div style=\"font-size:12px;opacity:0.9;margin:2px 0{width}\">{}</div>",
        escape(says)
    )
}

impl HeatTable<'_> {
    /// The place (row, column) of the figure that is largest by its size.
    pub(super) fn strongest(values: &[Vec<f64>]) -> Option<(usize, usize)> {
        ranked(values)
            .first()
            .map(|&(row, column, _)| (row, column))
    }

    /// Draws it, the first row at the bottom, as layers rise through a model.
    pub(super) fn render(&self) -> MimeBundle {
        let mut markup = format!(
            "<div style=\"font-family:{};font-size:13px;overflow-x:auto\"><div><b>{}</b></div>{}\
             <table style=\"border-collapse:collapse;table-layout:auto;margin:4px 0;font-size:11px\"><tbody>",
            html::SANS,
            escape(&self.title),
            says_html(&self.says, None)
        );
        for (name, values) in self.rows.iter().zip(self.values).rev() {
            markup.push_str(&format!(
                "<tr><td style=\"padding:1px 8px 1px 0;text-align:left;white-space:nowrap\">{}</td>",
                escape(name)
            ));
            for (column, &value) in self.columns.iter().zip(values) {
                let color = heat::diverging(value as f32, self.limit.max(1e-12) as f32);
                markup.push_str(&format!(
                    "<td title=\"{} · {}\" style=\"background-color:{};color:{};padding:2px 4px;text-align:right\">{}</td>",
                    escape(name),
                    escape(&visible(column)),
                    heat::css(color),
                    heat::text_on(color),
                    escape(&(self.figure)(value))
                ));
            }
            markup.push_str("</tr>");
        }
        markup.push_str("<tr><td></td>");
        for column in self.columns {
            markup.push_str(&format!(
                "<td style=\"padding:2px 4px;text-align:center;white-space:nowrap;font-family:{}\">{}</td>",
                html::MONO,
                escape(&visible(column))
            ));
        }
        markup.push_str("</tr></tbody></table></div>");
        let mut plain = format!("{}\n{}", self.title, self.says);
        let ranked = ranked(self.values);
        for (row, column, value) in ranked.iter().take(NAMED) {
            if let (Some(row), Some(column)) = (self.rows.get(*row), self.columns.get(*column)) {
                let figure = (self.figure)(*value);
                plain.push_str(&format!("\n  {row}, {}: {figure}", visible(column)));
            }
        }
        if ranked.len() > NAMED {
            plain.push_str(&format!("\n  … and {} smaller ones", ranked.len() - NAMED));
        }
        MimeBundle::text(plain).with_html(markup)
    }
}

/// All figures with their places, the largest by size first.
fn ranked(values: &[Vec<f64>]) -> Vec<(usize, usize, f64)> {
    let of_row = |(row, values): (usize, &Vec<f64>)| {
        let places = values.iter().copied().enumerate();
        places
            .map(|(column, value)| (row, column, value))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<(usize, usize, f64)> = values.iter().enumerate().flat_map(of_row).collect();
    all.sort_by(|left, right| right.2.abs().total_cmp(&left.2.abs()));
    all
}
