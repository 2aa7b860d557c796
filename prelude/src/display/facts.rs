//! What a value is in a few lines: names and what stands behind them.
//!
//! For everything that is no picture, plot or table by itself: settings, layers, caches, what is set up but has not run.
//! [`Facts::fields`] reads the fields of any `{:?}`; models say by hand what matters of them.

use std::fmt;

use super::html::{self, escape};
use super::{MimeBundle, Render, limits};

/// Longest value that a line shows, in characters.
const LONGEST: usize = 160;
/// Most lines.
const MOST: usize = 40;

/// A heading, names with values, and what to do next.
///
/// ```
/// use glassbox_prelude::display::{Facts, Render};
/// let facts = Facts::new("Cache").fact("tokens", 12).hint("call .reset() to empty it");
/// assert_eq!(facts.render().plain(), "Cache\n  tokens  12\ncall .reset() to empty it");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    title: String,
    facts: Vec<(String, String)>,
    hint: String,
}

impl Facts {
    /// Facts about what the title names.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    /// The fields of a value as its `{:?}` shows them.
    pub fn fields(value: &dyn fmt::Debug) -> Self {
        let text = format!("{value:?}");
        let inner = text.trim_end_matches(['}', ')']);
        let Some(at) = text
            .find([' ', '(', '{'])
            .filter(|_| inner.len() < text.len())
        else {
            return Self::new(text);
        };
        let (name, rest) = text.split_at(at);
        let rest = rest.trim_start();
        let mut facts = Self::new(name);
        let named = rest.starts_with('{');
        let inside = rest.get(1..rest.len() - 1).unwrap_or_default();
        for (index, part) in parts(inside).into_iter().enumerate() {
            let (field, value) = match part.split_once(": ") {
                Some((field, value)) if named => (field.to_owned(), value),
                _ => (index.to_string(), part),
            };
            facts = facts.fact(field, value);
        }
        facts
    }

    /// The same under another heading.
    pub(crate) fn titled(mut self, title: &str) -> Self {
        self.title = title.to_owned();
        self
    }

    /// Adds a name and its value.
    pub fn fact(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.facts.push((name.into(), value.to_string()));
        self
    }

    /// Adds a name and its value, if there is one.
    pub fn fact_if(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.fact(name, value),
            None => self,
        }
    }

    /// What to do with it.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = text.into();
        self
    }

    /// All in one line, for `{:?}`.
    pub fn line(&self) -> String {
        let facts = self.facts.iter();
        let facts: Vec<String> = facts
            .map(|(name, value)| format!("{name}: {}", limits::shortened(value, 60)))
            .collect();
        if facts.is_empty() {
            return self.title.clone();
        }
        limits::shortened(&format!("{} ({})", self.title, facts.join(", ")), 600)
    }

    fn shown(&self) -> impl Iterator<Item = (&str, String)> {
        let facts = self.facts.iter().take(MOST);
        facts.map(|(name, value)| (name.as_str(), limits::shortened(value, LONGEST)))
    }

    fn left_out(&self) -> Option<String> {
        let hidden = self.facts.len().saturating_sub(MOST);
        (hidden > 0).then(|| format!("… and {hidden} more"))
    }

    fn plain(&self) -> String {
        let widths = self.shown().map(|(name, _)| name.chars().count());
        let width = widths.max().unwrap_or(0);
        let mut lines = vec![self.title.clone()];
        lines.extend(self.shown().map(|(name, value)| {
            let space = " ".repeat(width - name.chars().count());
            format!("  {name}{space}  {value}")
        }));
        lines.extend(self.left_out().map(|text| format!("  {text}")));
        lines.extend((!self.hint.is_empty()).then(|| self.hint.clone()));
        lines.join("\n")
    }

    fn html(&self) -> String {
        let row = |(name, value): (&str, String)| {
            format!(
                "<tr><td style=\"text-align:left;padding:1px 12px 1px 0;opacity:0.75\">{}</td>\
                 <td style=\"text-align:left;padding:1px 0\"><code style=\"font-family:{}\">{}</code></td></tr>",
                escape(name),
                html::MONO,
                escape(&value)
            )
        };
        let rows: String = self.shown().map(row).collect();
        let note = |text: &str| {
            format!(
                "<div style=\"font-size:12px;opacity:0.8;margin:2px 0\">{}</div>",
                escape(text)
            )
        };
        let table = if rows.is_empty() {
            rows
        } else {
            format!(
                "<table style=\"border-collapse:collapse;table-layout:auto;margin:2px 0;font-size:13px\"><tbody>{rows}</tbody></table>"
            )
        };
        format!(
            "<div style=\"font-family:{};font-size:13px;overflow-x:auto\"><div style=\"font-weight:600\">{}</div>{table}{}{}</div>",
            html::SANS,
            escape(&self.title),
            self.left_out().map(|text| note(&text)).unwrap_or_default(),
            if self.hint.is_empty() {
                String::new()
            } else {
                note(&self.hint)
            },
        )
    }
}

impl Render for Facts {
    fn render(&self) -> MimeBundle {
        MimeBundle::text(self.plain()).with_html(self.html())
    }
}

/// The parts between commas that are inside of nothing.
fn parts(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '"' => {
                // To the end of the text in quotes.
                while let Some((_, inside)) = characters.next() {
                    match inside {
                        '\\' => drop(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            ',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found.retain(|part| !part.is_empty() && *part != "..");
    found
}

/// Shows values of these types by the facts that their `facts` method tells, and their `{:?}` in one line.
macro_rules! shown_by_facts {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::display::Render for $type {
            fn render(&self) -> $crate::display::MimeBundle {
                self.facts().render()
            }
        }
        $crate::display::facts::debug_by_facts!($type);
    )+};
}
pub(crate) use shown_by_facts;

/// One line of the facts that their `facts` method tells as the `{:?}` of values of these types.
macro_rules! debug_by_facts {
    ($($type:ty),+ $(,)?) => {$(
        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.facts().line())
            }
        }
    )+};
}
pub(crate) use debug_by_facts;

/// Shows values of these types by their fields.
macro_rules! shown_by_fields {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::display::Render for $type {
            fn render(&self) -> $crate::display::MimeBundle {
                $crate::display::Facts::fields(self).render()
            }
        }
    )+};
}
pub(crate) use shown_by_fields;

/// The first line that they show, as the `{:?}` of values of these types.
macro_rules! debug_by_first_line {
    ($($type:ty),+ $(,)?) => {$(
        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let name = ::std::stringify!($type);
                f.write_str(&$crate::display::limits::first_line(name, self))
            }
        }
    )+};
}
pub(crate) use debug_by_first_line;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[allow(dead_code)] // read by `{:?}`
    struct Outer {
        text: &'static str,
        list: Vec<(u8, char)>,
        inner: Option<Inner>,
    }

    #[derive(Debug)]
    #[allow(dead_code)]
    struct Inner {
        a: f32,
        b: f32,
    }

    #[derive(Debug)]
    struct Unit;

    #[derive(Debug)]
    #[allow(dead_code)]
    struct Pair(u8, &'static str);

    #[test]
    fn fields_are_told_apart_whatever_is_in_them() {
        let outer = Outer {
            text: "a, \"b: {",
            list: vec![(1, ','), (2, '}')],
            inner: Some(Inner { a: 1.0, b: 2.5 }),
        };
        assert_eq!(
            Facts::fields(&outer).render().plain(),
            "Outer\n  text   \"a, \\\"b: {\"\n  list   [(1, ','), (2, '}')]\n  inner  Some(Inner { a: 1.0, b: 2.5 })"
        );
        assert_eq!(Facts::fields(&Unit).render().plain(), "Unit");
        assert_eq!(
            Facts::fields(&Pair(3, "x: y")).render().plain(),
            "Pair\n  0  3\n  1  \"x: y\""
        );
        assert_eq!(Facts::fields(&Some(5)).line(), "Some (0: 5)");
    }

    #[test]
    fn long_facts_are_cut_and_text_is_escaped() {
        let long = (0..100).fold(Facts::new("<t>"), |facts, at| {
            facts.fact(at.to_string(), "x".repeat(900))
        });
        let bundle = long.render();
        assert!(bundle.plain().lines().count() <= 45 && bundle.plain().contains("… and 60 more"));
        assert!(long.line().chars().count() <= 600);
        assert!(!bundle.html().unwrap_or_default().contains("<t>"));
    }
}
