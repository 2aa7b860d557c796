//! rustdoc's Markdown as front ends can show it: links that lead somewhere, examples as one reads them, and the same as
//! HTML and as text.

use std::ops::Range;

use pulldown_cmark::{
    CodeBlockKind, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html,
};

/// Where rust-analyzer believes the prelude's documentation to be.
const NOT_PUBLISHED: [&str; 2] = [
    "https://docs.rs/glassbox_prelude/",
    "https://docs.rs/glassbox-prelude/",
];

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH
}

/// Takes out links that lead nowhere, leaving their text, and the lines of examples that rustdoc hides.
pub(super) fn tidy(markdown: &str) -> String {
    // Twice: a link may hold a picture.
    tidied_once(&tidied_once(markdown))
}

fn tidied_once(markdown: &str) -> String {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut links: Vec<Link> = Vec::new();
    for (event, range) in Parser::new_ext(markdown, options()).into_offset_iter() {
        match event {
            Event::Start(
                Tag::Link {
                    link_type,
                    dest_url,
                    ..
                }
                | Tag::Image {
                    link_type,
                    dest_url,
                    ..
                },
            ) => links.push(Link {
                broken: !leads_somewhere(link_type, &dest_url),
                inner: None,
            }),
            Event::End(TagEnd::Link | TagEnd::Image) => {
                if let Some(link) = links.pop()
                    && link.broken
                    && links.iter().all(|outer| !outer.broken)
                {
                    let inner = link.inner.and_then(|inner| markdown.get(inner));
                    edits.push((range.clone(), inner.unwrap_or_default().to_owned()));
                }
                grow(&mut links, &range);
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                if is_rust(&language)
                    && let Some(block) = markdown.get(range.clone())
                {
                    edits.push((range, example(block)));
                }
            }
            _ => grow(&mut links, &range),
        }
    }
    let mut tidied = markdown.to_owned();
    // From the end, so that the places before stay valid.
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    for (range, text) in edits {
        tidied.replace_range(range, &text);
    }
    tidied
}

/// A link that is being read.
struct Link {
    broken: bool,
    /// Where its text stands.
    inner: Option<Range<usize>>,
}

fn grow(links: &mut [Link], range: &Range<usize>) {
    if let Some(link) = links.last_mut() {
        let start = link.inner.as_ref().map_or(range.start, |inner| inner.start);
        link.inner = Some(start..range.end);
    }
}

fn leads_somewhere(link_type: LinkType, target: &str) -> bool {
    let published = !NOT_PUBLISHED.iter().any(|start| target.starts_with(start));
    let web = target.starts_with("https://") || target.starts_with("http://");
    link_type == LinkType::Email || web && published
}

/// Whether rustdoc takes a code block for Rust.
fn is_rust(language: &str) -> bool {
    language
        .split([',', ' ', '\t'])
        .filter(|word| !word.is_empty())
        .all(|word| {
            let rustdoc = [
                "rust",
                "no_run",
                "should_panic",
                "compile_fail",
                "test_harness",
                "standalone_crate",
            ];
            rustdoc.contains(&word)
                || word.starts_with("ignore")
                || word.starts_with("edition")
                || word.starts_with('E') && word[1..].chars().all(|c| c.is_ascii_digit())
        })
}

/// A block of Rust, fences included, as one reads it.
fn example(block: &str) -> String {
    let mut text = String::new();
    let count = block.lines().count();
    for (number, line) in block.lines().enumerate() {
        let code = line.trim_start();
        if number == 0 {
            let indent = &line[..line.len() - code.len()];
            let fence = code.trim_start_matches(['`', '~']);
            text += indent;
            text += &code[..code.len() - fence.len()];
            text += "rust\n";
        } else if number + 1 < count && (code == "#" || code.starts_with("# ")) {
            // rustdoc compiles it and does not show it.
        } else if number + 1 < count && code.starts_with("##") {
            text += &line.replacen("##", "#", 1);
            text.push('\n');
        } else {
            text += line;
            text.push('\n');
        }
    }
    if !block.ends_with('\n') {
        text.pop();
    }
    text
}

/// Everything up to the first heading.
pub(super) fn beginning(markdown: &str) -> &str {
    let heading = Parser::new_ext(markdown, options())
        .into_offset_iter()
        .find(|(event, _)| matches!(event, Event::Start(Tag::Heading { .. })));
    let end = heading.map_or(markdown.len(), |(_, range)| range.start);
    markdown.get(..end).unwrap_or(markdown).trim_end()
}

/// The first paragraph as one line of text.
pub(super) fn first_paragraph(markdown: &str) -> String {
    let mut paragraphs = markdown.trim_start().split("\n\n");
    let paragraph = paragraphs.find(|paragraph| !paragraph.starts_with('#'));
    // Names in brackets are links, to where nobody says.
    let paragraph = paragraph.unwrap_or_default();
    let paragraph = paragraph.replace("[`", "`").replace("`]", "`");
    let text = plain(&tidy(&paragraph));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As HTML.
pub(super) fn html(markdown: &str) -> String {
    let mut page = String::new();
    html::push_html(&mut page, Parser::new_ext(markdown, options()));
    page
}

/// As text that needs no rendering: code indented, lists with their marks, tables with bars.
pub(super) fn plain(markdown: &str) -> String {
    let mut text = Text::default();
    for event in Parser::new_ext(markdown, options()) {
        text.take(event);
    }
    text.written.trim().to_owned()
}

#[derive(Default)]
struct Text {
    written: String,
    /// For each list around the cursor the number of its next item, if it is numbered.
    lists: Vec<Option<u64>>,
    /// A code block that is no declaration is indented.
    code: bool,
    /// Whether anything but declarations was written.
    begun: bool,
}

impl Text {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) if self.code => {
                let indent = if self.begun { "    " } else { "" };
                for line in text.lines() {
                    self.written += &format!("{indent}{line}\n");
                }
            }
            Event::Text(text) | Event::Code(text) => self.written += &text,
            Event::SoftBreak => self.written.push(' '),
            Event::HardBreak => self.line(),
            Event::Rule => {
                self.begun = true;
                self.paragraph();
            }
            Event::Start(Tag::CodeBlock(_)) => {
                self.paragraph();
                self.code = true;
            }
            Event::End(TagEnd::CodeBlock) => {
                self.code = false;
                self.paragraph();
            }
            Event::Start(Tag::Heading { level, .. }) => {
                self.paragraph();
                self.written += match level {
                    HeadingLevel::H1 => "# ",
                    _ => "## ",
                };
            }
            Event::Start(Tag::Paragraph) if self.lists.is_empty() => self.paragraph(),
            Event::Start(Tag::List(first)) => {
                if self.lists.is_empty() {
                    self.paragraph();
                }
                self.lists.push(first);
            }
            Event::End(TagEnd::List(_)) => {
                self.lists.pop();
                if self.lists.is_empty() {
                    self.paragraph();
                }
            }
            Event::Start(Tag::Item) => {
                self.line();
                let depth = self.lists.len().saturating_sub(1);
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "- ".to_owned(),
                };
                self.written += &format!("{}{mark}", "  ".repeat(depth));
            }
            Event::Start(Tag::TableRow | Tag::TableHead) => self.line(),
            Event::End(TagEnd::TableCell) => self.written += " | ",
            Event::End(TagEnd::Table | TagEnd::Heading(_) | TagEnd::Paragraph)
                if self.lists.is_empty() =>
            {
                self.paragraph();
            }
            _ => {}
        }
    }

    /// Begins a line.
    fn line(&mut self) {
        if !self.written.is_empty() && !self.written.ends_with('\n') {
            self.written.push('\n');
        }
    }

    /// Begins a paragraph.
    fn paragraph(&mut self) {
        self.line();
        if !self.written.is_empty() && !self.written.ends_with("\n\n") {
            self.written.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_leave_their_text() {
        assert_eq!(
            tidy(
                "See [`Vlm`](https://docs.rs/glassbox_prelude/0.1.0/x.html), [the *other*](other.html) and [`Vec`](https://doc.rust-lang.org/x) [so](#so)."
            ),
            "See `Vlm`, the *other* and [`Vec`](https://doc.rust-lang.org/x) so."
        );
        assert_eq!(tidy("![a picture](picture.png)"), "a picture");
        assert_eq!(tidy("[![b](b.png)](c.html) é"), "b é");
    }

    #[test]
    fn examples_are_rust_and_hide_what_rustdoc_hides() {
        let text = "Uses:\n\n```no_run\n# use a::b;\nlet x = b();\n#\n##[x]\n#[derive(A)]\n```\n\n```text\n# kept\n```\n";
        assert_eq!(
            tidy(text),
            "Uses:\n\n```rust\nlet x = b();\n#[x]\n#[derive(A)]\n```\n\n```text\n# kept\n```\n"
        );
    }

    #[test]
    fn text_keeps_declarations_lists_and_tables() {
        let markdown = "```rust\nfn f(a: u8)\n```\n\n---\n\nDoes *it*\nwell.\n\n# Errors\n\n- one\n- `two`\n  1. inner\n\n```rust\nf(1);\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n";
        assert_eq!(
            plain(markdown),
            "fn f(a: u8)\n\nDoes it well.\n\n# Errors\n\n- one\n- two\n  1. inner\n\n    f(1);\n\na | b | \n1 | 2 |"
        );
        assert_eq!(
            first_paragraph("Does [it](x)\nwell.\n\nMore."),
            "Does it well."
        );
        assert_eq!(beginning("a\n\nb\n\n# Errors\n\nc"), "a\n\nb");
    }

    #[test]
    fn any_markdown_is_tidied() {
        const PIECES: [&str; 21] = [
            "[", "]", "(", ")", "!", "`", "``", "```", "````", "~~~", "#", "\n", "é", " x", "|",
            "- ", "| ", "---", "*", "<", ">",
        ];
        // The same texts each time, like random ones.
        let mut state = 1_u64;
        let mut below = |limit: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % limit
        };
        for _ in 0..3000 {
            let pieces = below(40);
            let markdown: String = (0..pieces).map(|_| PIECES[below(PIECES.len())]).collect();
            let tidied = tidy(&markdown);
            plain(&tidied);
            html(&tidied);
            assert!(markdown.starts_with(beginning(&markdown)), "{markdown:?}");
            first_paragraph(&markdown);
        }
    }
}
