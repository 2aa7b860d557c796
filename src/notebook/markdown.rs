//! Markdown cells → HTML: tables, footnotes, highlighted Rust blocks, pictures as data URIs.

use std::collections::HashMap;

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::highlight::tokens;
use super::pictures::Pictures;
use crate::html::escape;

/// A heading, for the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// 1 to 6.
    pub level: u8,
    /// The text without markup.
    pub text: String,
    /// The element's id.
    pub id: String,
}

/// The headings of a page, in order.
#[derive(Debug, Clone, Default)]
pub struct Headings {
    all: Vec<Heading>,
    /// The ids that are taken, each with the last number that a heading of this name got.
    taken: HashMap<String, usize>,
}

impl Headings {
    /// All of them.
    pub fn all(&self) -> &[Heading] {
        &self.all
    }

    fn unique_id(&mut self, text: &str) -> String {
        let words: String = text
            .to_lowercase()
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' })
            .collect();
        let parts: Vec<&str> = words.split('-').filter(|w| !w.is_empty()).collect();
        let base = if parts.is_empty() {
            "section".to_owned()
        } else {
            parts.join("-")
        };
        let Some(&last) = self.taken.get(&base) else {
            self.taken.insert(base.clone(), 1);
            return base;
        };
        let mut number = last + 1;
        let mut id = format!("{base}-{number}");
        // Another heading may be called `same-2`.
        while self.taken.contains_key(&id) {
            number += 1;
            id = format!("{base}-{number}");
        }
        self.taken.insert(base, number);
        self.taken.insert(id.clone(), 1);
        id
    }
}

/// Typesets `text`; headings are appended to `headings` and get ids that are unique in it.
pub fn to_html(text: &str, pictures: Pictures<'_>, headings: &mut Headings) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_MATH;
    let mut events = Vec::new();
    let mut heading: Option<(usize, String)> = None; // index of the opening tag, text so far
    let mut code: Option<(String, String)> = None; // language, text so far
    let mut markup = String::new(); // of an HTML block, whose lines are events of their own
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => {
                        info.split([',', ' ']).next().unwrap_or_default().to_owned()
                    }
                    CodeBlockKind::Indented => String::new(),
                };
                code = Some((language, String::new()));
            }
            Event::End(TagEnd::CodeBlock) => {
                if let Some((language, text)) = code.take() {
                    let body = if language == "rust" {
                        rust(&text)
                    } else {
                        escape(&text)
                    };
                    events.push(Event::Html(
                        format!("<pre class=\"code\"><code>{body}</code></pre>\n").into(),
                    ));
                }
            }
            Event::Text(part) if code.is_some() => {
                if let Some((_, text)) = &mut code {
                    text.push_str(&part);
                }
            }
            Event::Start(tag @ Tag::Heading { .. }) => {
                heading = Some((events.len(), String::new()));
                events.push(Event::Start(tag));
            }
            Event::End(TagEnd::Heading(level)) => {
                if let Some((at, text)) = heading.take() {
                    let id = headings.unique_id(&text);
                    if let Some(Event::Start(Tag::Heading { id: slot, .. })) = events.get_mut(at) {
                        *slot = Some(id.clone().into());
                    }
                    headings.all.push(Heading {
                        level: level as u8,
                        text,
                        id,
                    });
                }
                events.push(Event::End(TagEnd::Heading(level)));
            }
            Event::Start(Tag::Image {
                link_type,
                dest_url,
                title,
                id,
            }) => {
                let dest_url = pictures.data_uri(&dest_url).map_or(dest_url, CowStr::from);
                events.push(Event::Start(Tag::Image {
                    link_type,
                    dest_url,
                    title,
                    id,
                }));
            }
            Event::Html(part) => markup.push_str(&part),
            Event::End(TagEnd::HtmlBlock) => {
                events.push(Event::Html(pictures.inside(&markup).into()));
                events.push(Event::End(TagEnd::HtmlBlock));
                markup.clear();
            }
            Event::InlineHtml(part) => {
                events.push(Event::InlineHtml(pictures.inside(&part).into()));
            }
            event => {
                if let (Some((_, text)), Event::Text(part) | Event::Code(part)) =
                    (&mut heading, &event)
                {
                    text.push_str(part);
                }
                events.push(event);
            }
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, events.into_iter());
    out
}

/// Rust source as coloured HTML.
pub fn rust(source: &str) -> String {
    let mut out = String::with_capacity(source.len() * 2);
    for token in tokens(source) {
        let text = escape(token.text);
        match token.kind.class() {
            Some(class) => out.push_str(&format!("<span class=\"{class}\">{text}</span>")),
            None => out.push_str(&text),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> String {
        to_html(text, Pictures::default(), &mut Headings::default())
    }

    #[test]
    fn headings_get_unique_ids() {
        let mut headings = Headings::default();
        let html = to_html(
            "# The `Vlm`\n\n## Same\n\n## Same\n",
            Pictures::default(),
            &mut headings,
        );
        assert_eq!(
            html,
            "<h1 id=\"the-vlm\">The <code>Vlm</code></h1>\n<h2 id=\"same\">Same</h2>\n<h2 id=\"same-2\">Same</h2>\n"
        );
        assert_eq!(
            headings.all()[0],
            Heading {
                level: 1,
                text: "The Vlm".into(),
                id: "the-vlm".into()
            }
        );
    }

    #[test]
    fn rust_blocks_are_coloured_and_escaped() {
        assert_eq!(
            render("```rust\nlet a = 1 < 2;\n```"),
            "<pre class=\"code\"><code><span class=\"k\">let</span> a = <span class=\"m\">1</span> &lt; \
             <span class=\"m\">2</span>;\n</code></pre>\n"
        );
        assert_eq!(
            render("```\n<x>\n```"),
            "<pre class=\"code\"><code>&lt;x&gt;\n</code></pre>\n"
        );
    }

    #[test]
    fn pictures_come_inside() {
        let attachments = serde_json::json!({"a.png": {"image/png": "QUJD"}});
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.png"), b"ABC").unwrap();
        let pictures = Pictures {
            attachments: attachments.as_object(),
            folder: Some(folder.path()),
            taken: None,
        };
        let html = to_html(
            "![one](attachment:a.png) ![two](b.png) ![three](gone.png) <img src=\"b.png\">\n\n<p>\n<img\nsrc='b.png'>\n</p>\n\n`<img src=\"b.png\">`",
            pictures,
            &mut Headings::default(),
        );
        assert_eq!(
            html.matches("src=\"data:image/png;base64,QUJD\"").count(),
            4,
            "{html}"
        );
        assert!(html.contains("src=\"gone.png\""), "{html}");
    }
}
