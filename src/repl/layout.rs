//! Where things stand: indentation of the next line, rows of the completion menu, words in lines.

use console::measure_text_width as width;

use crate::session::{Completeness, Completion, completeness};

/// Columns of a row of the completion menu at most.
pub const WIDEST_ROW: u16 = 76;
/// Names longer than this don't push what stands behind them further to the right.
const WIDEST_NAME: usize = 28;

/// How far the line after `before` is indented.
pub fn indent(before: &str) -> String {
    match completeness(before) {
        Completeness::Incomplete { indent } => indent,
        // Goes on below the line before.
        Completeness::Complete | Completeness::Invalid => {
            let line = before.rsplit('\n').next().unwrap_or_default();
            line[..line.len() - line.trim_start().len()].to_owned()
        }
    }
}

/// How far the last line of `before` is indented, if a closing bracket begins it and the lines above leave it open.
pub fn closing_indent(before: &str) -> Option<String> {
    let (above, line) = before.rsplit_once('\n')?;
    if !line.trim_start().starts_with(['}', ')', ']']) {
        return None;
    }
    match completeness(above) {
        // Of what is open at the line's begin, its first bracket closes the innermost.
        Completeness::Incomplete { indent } if !indent.is_empty() => {
            Some(indent[..indent.len().saturating_sub(4)].to_owned())
        }
        _ => None,
    }
}

/// What the menu shows of a proposal.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its row: name, then type or signature, cut to the row's width.
    pub text: String,
    /// What did not fit into the row.
    pub more: Option<String>,
}

/// The rows of proposals, for a terminal of so many columns.
pub fn rows(items: &[Completion], columns: usize) -> Vec<Row> {
    // Room for a box beside the rows, with what did not fit.
    let room = match columns {
        100.. => columns * 6 / 10,
        _ => columns.saturating_sub(2),
    };
    let room = room.clamp(16, usize::from(WIDEST_ROW));
    let names = items.iter().map(|item| width(&item.text));
    let longest = names.max().unwrap_or(0).min(WIDEST_NAME);
    items.iter().map(|item| row(item, longest, room)).collect()
}

fn row(item: &Completion, longest: usize, room: usize) -> Row {
    let label = one_line(&item.label);
    let name = &item.text;
    let behind = label.strip_prefix(name.as_str()).unwrap_or(&label);
    let behind = behind.strip_prefix(':').unwrap_or(behind).trim();
    let behind = if behind.is_empty() { item.kind } else { behind };
    let padding = " ".repeat(longest.saturating_sub(width(name)));
    let whole = format!("{name}{padding}  {behind}");
    let whole = whole.trim_end();
    let text = console::truncate_str(whole, room, "…").into_owned();
    let more = (text != whole).then(|| behind.to_owned());
    Row { text, more }
}

/// Words in lines of at most `room` columns.
pub fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines
            .last_mut()
            .filter(|line| line.is_empty() || width(line) + 1 + width(word) <= room);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text with every run of blanks as one space.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_indented_as_deep_as_brackets_are_open() {
        assert_eq!(indent("fn f() {"), "    ");
        assert_eq!(indent("fn f() {\n    if x {"), "        ");
        assert_eq!(indent("fn f() {\n    x;"), "    ");
        assert_eq!(indent("let s = \"text"), "");
        assert_eq!(indent("let x = 1;"), "");
    }

    #[test]
    fn closing_brackets_go_below_what_they_close() {
        let open = "fn f() {\n    if x {\n        y;\n        }";
        assert_eq!(closing_indent(open).as_deref(), Some("    "));
        assert_eq!(closing_indent("fn f() {\n    }").as_deref(), Some(""));
        assert_eq!(closing_indent("fn f() {\n    x }"), None);
        assert_eq!(closing_indent("}"), None);
        assert_eq!(closing_indent("let s = \"\n}"), None);
        assert_eq!(closing_indent("x;\n}"), None);
    }

    fn item(text: &str, label: &str, kind: &'static str) -> Completion {
        Completion {
            text: text.into(),
            label: label.into(),
            kind,
            ..Completion::default()
        }
    }

    #[test]
    fn rows_hold_name_and_signature_and_are_cut() {
        let items = [
            item("len", "len(&self) -> usize", "function"),
            item("total", "total: f32", "instance"),
            item("std", "std", "module"),
        ];
        let shown = rows(&items, 80);
        let texts: Vec<&str> = shown.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(
            texts,
            ["len    (&self) -> usize", "total  f32", "std    module"]
        );
        let long = item("f", &format!("f({})", "x: Tensor, ".repeat(20)), "function");
        let row = &rows(&[long], 40)[0];
        assert_eq!(width(&row.text), 38);
        assert!(row.text.ends_with('…'));
        assert!(
            row.more
                .as_ref()
                .is_some_and(|more| more.ends_with("Tensor, )"))
        );
    }
}
