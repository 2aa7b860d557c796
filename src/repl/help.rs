//! `:help`: keys, then the commands of the session.

use super::layout;

/// Keys, and what each does.
const KEYS: [(&str, &str); 8] = [
    (
        "Enter",
        "run the cell, or go on in the next line if it is not complete",
    ),
    ("Alt-Enter", "a new line in any case"),
    ("Tab", "complete a name; where a line begins, indent it"),
    ("↑ ↓", "cells typed before that begin like this one"),
    (
        "ctrl-r",
        "search what was typed before, also in earlier sessions; again: further back",
    ),
    (
        "ctrl-c",
        "give the line up; while a cell runs: interrupt it, variables are kept",
    ),
    (
        "",
        "once more, a second later: end its process, variables are lost",
    ),
    ("ctrl-d", "leave"),
];

/// Columns of text at most: longer lines are hard to read.
const WIDEST: usize = 110;

/// The whole text for a terminal of so many columns.
pub fn text(commands: &[(String, String)], columns: usize, coloured: bool) -> String {
    let keys = KEYS.map(|(key, does)| (key.to_owned(), does.to_owned()));
    let heading = |text: &str| {
        console::style(text)
            .bold()
            .force_styling(coloured)
            .to_string()
    };
    format!(
        "Type Rust. The last expression shows itself; variables stay for the next cell.\n\n{}\n{}\n{}\n{}",
        heading("Keys"),
        table(&keys, columns, coloured),
        heading("Commands"),
        table(commands, columns, coloured).trim_end()
    )
}

fn table(rows: &[(String, String)], columns: usize, coloured: bool) -> String {
    let width = console::measure_text_width;
    // A long left side gets a line of its own instead of pushing all others to the right.
    let left = rows
        .iter()
        .map(|(left, _)| width(left))
        .filter(|width| *width <= 18);
    let left = left.max().unwrap_or(0);
    let room = columns.min(WIDEST).saturating_sub(left + 4).max(20);
    let margin = " ".repeat(left + 4);
    let mut out = String::new();
    for (name, does) in rows {
        let styled = console::style(name).cyan().force_styling(coloured);
        out += &format!("  {styled}");
        match left.checked_sub(width(name)) {
            Some(space) => out += &" ".repeat(space + 2),
            None => out += &format!("\n{margin}"),
        }
        out += &layout::wrapped(does, room).join(&format!("\n{margin}"));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_the_terminal() {
        let commands = [
            (":vars".to_owned(), "the variables".to_owned()),
            (
                ":replay [NAME…] [list | all]".to_owned(),
                "run cells again, ".repeat(9),
            ),
        ];
        for columns in [40, 80, 200] {
            let text = text(&commands, columns, false);
            let widest = text.lines().map(console::measure_text_width).max();
            assert!(widest <= Some(columns.max(78)), "{columns}:\n{text}");
            assert!(text.contains("  :vars"));
        }
        let wide = text(&commands, 80, false);
        assert!(
            wide.contains("\n  :replay [NAME…] [list | all]\n"),
            "{wide}"
        );
    }
}
