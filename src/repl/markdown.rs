//! Markdown → terminal: headings, wrapped paragraphs, lists, tables, Rust code in colours.

use nu_ansi_term::{Color, Style};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::paint;

/// Columns of running text at most: longer lines are hard to read.
const WIDEST: usize = 100;
/// Languages of code blocks that are Rust, as rustdoc has them.
const RUST: [&str; 6] = [
    "",
    "rust",
    "ignore",
    "no_run",
    "should_panic",
    "compile_fail",
];

/// `markdown` for a terminal of so many columns.
pub fn to_terminal(markdown: &str, columns: usize, coloured: bool) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut page = Page {
        columns: columns.clamp(20, WIDEST),
        ..Page::default()
    };
    for event in Parser::new_ext(markdown, options) {
        page.take(event);
    }
    page.paragraph();
    let text = page.out.trim_end().to_owned();
    if coloured {
        text
    } else {
        console::strip_ansi_codes(&text).into_owned()
    }
}

#[derive(Default)]
struct Page {
    columns: usize,
    out: String,
    /// Words of the paragraph so far, each with its styles; `\n` stands for a break.
    words: Vec<String>,
    /// Whether the next text goes on within the last word.
    within_word: bool,
    styles: Vec<Style>,
    /// For each open list: the number of the next item, if it has numbers.
    lists: Vec<Option<u64>>,
    quotes: usize,
    /// What stands before the first line of the next paragraph: the mark of a list's item.
    mark: String,
    /// The open code block: whether it is Rust, and its text.
    code: Option<(bool, String)>,
    table: Option<Vec<Vec<String>>>,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some((_, code)) => code.push_str(&text),
                None => self.text(&text),
            },
            Event::Code(code) => self.styled(Style::new().fg(Color::Cyan), &code),
            Event::SoftBreak => self.within_word = false,
            Event::HardBreak => {
                self.words.push("\n".to_owned());
                self.within_word = false;
            }
            Event::Rule => {
                self.paragraph();
                let rule = "─".repeat(self.columns.min(60));
                self.line(&Style::new().dimmed().paint(rule).to_string());
                self.gap();
            }
            // HTML, footnotes, formulas: not in documentation of code, or not to be shown.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } => {
                self.paragraph();
                self.gap();
                self.styles.push(Style::new().bold());
            }
            Tag::Paragraph => self.paragraph(),
            Tag::CodeBlock(kind) => {
                self.paragraph();
                let rust = match &kind {
                    CodeBlockKind::Fenced(info) => info
                        .split([',', ' '])
                        .all(|word| RUST.contains(&word) || word.starts_with("edition")),
                    CodeBlockKind::Indented => true,
                };
                self.code = Some((rust, String::new()));
            }
            Tag::List(first) => {
                self.paragraph();
                self.lists.push(first);
            }
            Tag::Item => {
                self.paragraph();
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "• ".to_owned(),
                };
                self.mark = mark;
            }
            Tag::BlockQuote(_) => {
                self.paragraph();
                self.quotes += 1;
            }
            Tag::Emphasis => self.styles.push(Style::new().italic()),
            Tag::Strong => self.styles.push(Style::new().bold()),
            Tag::Strikethrough => self.styles.push(Style::new().strikethrough()),
            Tag::Link { .. } => self.styles.push(Style::new().underline()),
            Tag::Table(_) => {
                self.paragraph();
                self.table = Some(Vec::new());
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(rows) = &mut self.table {
                    rows.push(Vec::new());
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.styles.pop();
                self.paragraph();
            }
            TagEnd::Paragraph => {
                self.paragraph();
                if self.lists.is_empty() {
                    self.gap();
                }
            }
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::Item => self.paragraph(),
            TagEnd::List(_) => {
                self.paragraph();
                self.lists.pop();
                if self.lists.is_empty() {
                    self.gap();
                }
            }
            TagEnd::BlockQuote(_) => {
                self.paragraph();
                self.quotes = self.quotes.saturating_sub(1);
            }
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link => {
                self.styles.pop();
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.words).join(" ");
                self.within_word = false;
                if let Some(row) = self.table.as_mut().and_then(|rows| rows.last_mut()) {
                    row.push(cell);
                }
            }
            TagEnd::Table => self.finish_table(),
            _ => {}
        }
    }

    /// Running text in the styles that are open.
    fn text(&mut self, text: &str) {
        let mut style = Style::new();
        for open in &self.styles {
            style.is_bold |= open.is_bold;
            style.is_italic |= open.is_italic;
            style.is_underline |= open.is_underline;
            style.is_strikethrough |= open.is_strikethrough;
        }
        self.styled(style, text);
    }

    fn styled(&mut self, style: Style, text: &str) {
        if text.starts_with(char::is_whitespace) {
            self.within_word = false;
        }
        for word in text.split_whitespace() {
            let word = style.paint(word).to_string();
            match self.words.last_mut() {
                Some(last) if self.within_word => last.push_str(&word),
                _ => self.words.push(word),
            }
            self.within_word = false;
        }
        self.within_word = !text.ends_with(char::is_whitespace) && !text.is_empty();
    }

    /// Sets the words so far in lines.
    fn paragraph(&mut self) {
        self.within_word = false;
        let words = std::mem::take(&mut self.words);
        if words.is_empty() {
            return;
        }
        let mark = std::mem::take(&mut self.mark);
        let margin = self.margin();
        // Lines of an item stand below its first one's text.
        let first = margin.len().saturating_sub(mark.chars().count());
        let mut line = format!("{}{mark}", &margin[..first]);
        let mut empty = true;
        for word in words {
            let width = console::measure_text_width(&line) + 1 + console::measure_text_width(&word);
            if word == "\n" || (!empty && width > self.columns) {
                self.line(&line);
                line.clone_from(&margin);
                empty = true;
            }
            if word != "\n" {
                if !empty {
                    line.push(' ');
                }
                line.push_str(&word);
                empty = false;
            }
        }
        self.line(&line);
    }

    fn code_block(&mut self) {
        let Some((rust, code)) = self.code.take() else {
            return;
        };
        let margin = format!("{}  ", self.margin());
        // Lines that rustdoc hides too.
        let shown: Vec<&str> = code
            .lines()
            .filter(|line| !rust || !(line.trim() == "#" || line.trim_start().starts_with("# ")))
            .collect();
        let shown = shown.join("\n");
        let painted = if rust { paint::rust(&shown) } else { shown };
        for line in painted.lines() {
            self.line(&format!("{margin}{line}"));
        }
        self.gap();
    }

    fn finish_table(&mut self) {
        let rows = self.table.take().unwrap_or_default();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |cell: &String| console::measure_text_width(cell);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                rows.iter()
                    .filter_map(|row| row.get(column))
                    .map(width)
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let margin = self.margin();
        for (index, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths);
            let cells = cells.map(|(cell, wide)| {
                format!("{cell}{}", " ".repeat(wide.saturating_sub(width(cell))))
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            self.line(&format!("{margin}{}", line.trim_end()));
            if index == 0 {
                let rule: Vec<String> = widths.iter().map(|wide| "─".repeat(*wide)).collect();
                let rule = Style::new().dimmed().paint(rule.join("  ")).to_string();
                self.line(&format!("{margin}{rule}"));
            }
        }
        self.gap();
    }

    /// What stands before each line: quotes' bars, and the indentation of lists.
    fn margin(&self) -> String {
        let lists = self.lists.iter().map(|list| match list {
            Some(_) => 3,
            None => 2,
        });
        format!("{}{}", "  ".repeat(self.quotes), " ".repeat(lists.sum()))
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// A blank line, unless there is one.
    fn gap(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(markdown: &str) -> String {
        to_terminal(markdown, 30, false)
    }

    #[test]
    fn blocks_are_set_apart_and_text_is_wrapped() {
        assert_eq!(
            shown("# Errors\nIf the tensor *is* not `[B, T, D]`, or **both**.\n\nNext."),
            "Errors\nIf the tensor is not `[B, T, D]`, or\nboth.\n\nNext."
                .replace("`[B, T, D]`, or\nboth.", "[B, T,\nD], or both.")
        );
    }

    #[test]
    fn lists_are_indented() {
        assert_eq!(
            shown("- one\n- a long item that goes on and on\n  1. in it\n\nend"),
            "• one\n• a long item that goes on and\n  on\n  1. in it\n\nend"
        );
    }

    #[test]
    fn code_is_kept_and_hidden_lines_are_hidden() {
        assert_eq!(
            shown("```rust,no_run\n# fn main() {\nlet x  = 1;\n# }\n```\n```text\n# a\n```"),
            "  let x  = 1;\n\n  # a"
        );
        let painted = to_terminal("```\nlet x = 1;\n```", 30, true);
        assert!(painted.contains("\u{1b}[35mlet"), "{painted:?}");
    }

    #[test]
    fn tables_are_aligned() {
        assert_eq!(
            shown("| a | bb |\n|---|---|\n| ccc | d |"),
            "a    bb\n───  ──\nccc  d"
        );
    }

    proptest! {
        #[test]
        fn any_markdown_can_be_shown(markdown in "\\PC{0,60}|[-#*`>|a\n 1.\\[\\]()]{0,60}", columns in 0usize..200) {
            to_terminal(&markdown, columns, true);
        }
    }
}
