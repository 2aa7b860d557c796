//! Values inside of others: references, `Option`, `Result`, lists, tuples and maps show what they hold as it shows itself.
//!
//! A list of tensors is a row of maps, one of pictures a grid; what holds only numbers and text looks as `{:?}` writes it.
//! A `Result` shows its value, and that a `?` is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::html::{self, escape};
use super::{MimeBundle, Render, limits, number};
use crate::cell;

/// Values of a list that show themselves.
const MOST: usize = 12;
/// Bytes of HTML of a list; what comes behind shows itself as text.
const MOST_HTML: usize = 1 << 20;
/// Numbers or texts of a list that are written out: more would not fit a screen.
const MOST_PLAIN: usize = limits::CHARACTERS / 3;

/// Plain values, which look as `{:?}` writes them.
macro_rules! plain {
    ($($type:ty),+ $(,)?) => {$(
        impl Render for $type {
            fn render(&self) -> MimeBundle {
                MimeBundle::text(limits::debug(&self))
            }

            fn debug_text(&self) -> Option<String> {
                Some(limits::debug(&self))
            }
        }
    )+};
}
plain!(
    (),
    bool,
    char,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    f32,
    f64,
    str,
    String,
    std::path::Path,
    std::path::PathBuf,
    std::ffi::OsString,
    std::time::Duration,
    std::time::Instant,
    std::time::SystemTime,
    std::cmp::Ordering,
    candle_core::DType,
    candle_core::Device,
    candle_core::Shape,
);

/// What points to a value shows the value.
macro_rules! pointers {
    ($($type:ty),+) => {$(
        impl<T: Render + ?Sized> Render for $type {
            fn render(&self) -> MimeBundle {
                (**self).render()
            }

            fn debug_text(&self) -> Option<String> {
                (**self).debug_text()
            }
        }
    )+};
}
// Not of references: where a cell's last expression is one, this and `{:?}` would be equally near.
pointers!(Box<T>, Rc<T>, Arc<T>);

impl<T: Render> Render for Option<T> {
    fn render(&self) -> MimeBundle {
        match (self, self.debug_text()) {
            (_, Some(text)) => MimeBundle::text(text),
            (Some(value), None) => value.render(),
            (None, None) => MimeBundle::text("None"),
        }
    }

    fn debug_text(&self) -> Option<String> {
        match self {
            Some(value) => value.debug_text().map(|text| format!("Some({text})")),
            None => Some("None".into()),
        }
    }
}

impl<T: Render, E: fmt::Debug + fmt::Display> Render for Result<T, E> {
    fn render(&self) -> MimeBundle {
        match self {
            Ok(value) => value_without_question_mark(value),
            Err(error) => error_without_question_mark(&cell::error_text(error)),
        }
    }

    fn debug_text(&self) -> Option<String> {
        match self {
            Ok(value) => value.debug_text().map(|text| format!("Ok({text})")),
            Err(error) => Some(format!("Err({})", limits::debug(error))),
        }
    }
}

/// What is to be said below a `Result`.
pub(crate) const ADD_QUESTION_MARK: &str = "This is a Result: add `?` behind it, and the cell goes on with the value or stops with the error.";

fn value_without_question_mark(value: &dyn Render) -> MimeBundle {
    let shown = match value.debug_text() {
        // Nothing is shown of `()`.
        Some(text) if text == "()" => MimeBundle::text("Ok(())"),
        Some(text) => MimeBundle::text(text),
        None => value.render(),
    };
    with_note(shown, ADD_QUESTION_MARK)
}

pub(crate) fn error_without_question_mark(text: &str) -> MimeBundle {
    let markup = format!(
        "<pre style=\"margin:0;white-space:pre-wrap\">{} {}</pre>",
        html::chip("Err", html::RED, "#ffffff"),
        escape(text)
    );
    let shown = MimeBundle::text(format!("Err: {text}")).with_html(markup);
    with_note(shown, ADD_QUESTION_MARK)
}

/// A display with a line of text below.
pub(crate) fn with_note(shown: MimeBundle, note: &str) -> MimeBundle {
    let markup = format!(
        "<div style=\"font-family:{};font-size:12px;opacity:0.8;margin:2px 0\">{}</div>",
        html::SANS,
        escape(note)
    );
    shown.above(&MimeBundle::text(note).with_html(markup))
}

/// Several values below each other, each behind its label, with the number of those that are not shown.
pub(crate) fn listed(
    heading: &str,
    values: &mut dyn Iterator<Item = (String, &dyn Render)>,
    all: usize,
) -> MimeBundle {
    let mut lines = vec![heading.to_owned()];
    let mut markup = String::new();
    let mut shown = 0;
    for (label, value) in values.take(MOST) {
        let bundle = value.render();
        let text = bundle.plain();
        let count = lines.len() + text.lines().count();
        let characters: usize = lines.iter().map(|line| line.chars().count() + 1).sum();
        if shown > 0 && (count > limits::LINES - 5 || characters > limits::CHARACTERS - 600) {
            break;
        }
        let mut each = text.lines();
        lines.push(format!("{label}: {}", each.next().unwrap_or_default()));
        lines.extend(each.map(|line| format!("  {line}")));
        let inner = if markup.len() < MOST_HTML {
            bundle.as_html()
        } else {
            format!("<pre>{}</pre>", escape(text))
        };
        markup.push_str(&format!(
            "<div style=\"margin:4px 0\"><div style=\"font-size:12px;opacity:0.75\">{}</div>{inner}</div>",
            escape(&label)
        ));
        shown += 1;
    }
    if all > shown {
        let more = format!("… and {} more", number::count((all - shown) as u64));
        markup.push_str(&format!("<div style=\"font-size:12px\">{more}</div>"));
        lines.push(more);
    }
    let heading = format!(
        "<div style=\"font-size:12px;opacity:0.8\">{}</div>",
        escape(heading)
    );
    MimeBundle::text(lines.join("\n")).with_html(format!(
        "<div style=\"font-family:{}\">{heading}{markup}</div>",
        html::SANS
    ))
}

/// How a list of values looks whose type has no form of its own for several.
pub(crate) fn list(items: &[&dyn Render]) -> MimeBundle {
    let mut values = items
        .iter()
        .enumerate()
        .map(|(index, value)| (format!("[{index}]"), *value));
    listed(&plural(items.len(), "item"), &mut values, items.len())
}

/// `1 item`, `1,000 items`.
pub(crate) fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", number::count(count as u64))
}

/// The entries of a map below each other.
pub(crate) fn map(
    entries: &mut dyn Iterator<Item = (String, &dyn Render)>,
    all: usize,
) -> MimeBundle {
    let heading = plural(all, "entry").replace("entrys", "entries");
    listed(&heading, entries, all)
}

/// Plain values between brackets, as `{:?}` writes them; `None` if one of them is not plain.
fn bracketed(
    values: &mut dyn Iterator<Item = Option<String>>,
    all: usize,
    (open, close): (&str, &str),
) -> Option<String> {
    let mut texts = Vec::new();
    for value in values.take(MOST_PLAIN) {
        texts.push(value?);
    }
    let more = all.saturating_sub(texts.len());
    if more > 0 {
        texts.push(format!("… {} more", number::count(more as u64)));
    }
    Some(format!("{open}{}{close}", texts.join(", ")))
}

impl<T: Render> Render for [T] {
    fn render(&self) -> MimeBundle {
        match self.debug_text() {
            Some(text) => MimeBundle::text(text),
            None => T::render_all(&self.iter().collect::<Vec<_>>()),
        }
    }

    fn debug_text(&self) -> Option<String> {
        bracketed(&mut self.iter().map(T::debug_text), self.len(), ("[", "]"))
    }
}

impl<T: Render> Render for Vec<T> {
    fn render(&self) -> MimeBundle {
        self.as_slice().render()
    }

    fn debug_text(&self) -> Option<String> {
        self.as_slice().debug_text()
    }
}

impl<T: Render, const N: usize> Render for [T; N] {
    fn render(&self) -> MimeBundle {
        self.as_slice().render()
    }

    fn debug_text(&self) -> Option<String> {
        self.as_slice().debug_text()
    }
}

/// Collections of single values.
macro_rules! collections {
    ($($name:ident<T $(, $more:ident)?> in $brackets:expr),+ $(,)?) => {$(
        impl<T: Render $(, $more)?> Render for $name<T $(, $more)?> {
            fn render(&self) -> MimeBundle {
                match self.debug_text() {
                    Some(text) => MimeBundle::text(text),
                    None => T::render_all(&self.iter().collect::<Vec<_>>()),
                }
            }

            fn debug_text(&self) -> Option<String> {
                bracketed(&mut self.iter().map(T::debug_text), self.len(), $brackets)
            }
        }
    )+};
}
collections!(
    VecDeque<T> in ("[", "]"),
    BTreeSet<T> in ("{", "}"),
    HashSet<T, S> in ("{", "}"),
);

/// A map's entries as text, and those of one that holds more than that below each other.
macro_rules! maps {
    ($($name:ident<K, V $(, $more:ident)?>),+) => {$(
        impl<K: fmt::Debug, V: Render $(, $more)?> Render for $name<K, V $(, $more)?> {
            fn render(&self) -> MimeBundle {
                if let Some(text) = self.debug_text() {
                    return MimeBundle::text(text);
                }
                let mut entries = self
                    .iter()
                    .map(|(key, value)| (limits::shortened(&format!("{key:?}"), 80), value as &dyn Render));
                map(&mut entries, self.len())
            }

            fn debug_text(&self) -> Option<String> {
                let mut entries = self
                    .iter()
                    .map(|(key, value)| Some(format!("{key:?}: {}", value.debug_text()?)));
                bracketed(&mut entries, self.len(), ("{", "}"))
            }
        }
    )+};
}
maps!(HashMap<K, V, S>, BTreeMap<K, V>);

macro_rules! tuples {
    ($(($($type:ident $index:tt),+)),+) => {$(
        impl<$($type: Render),+> Render for ($($type,)+) {
            fn render(&self) -> MimeBundle {
                if let Some(text) = self.debug_text() {
                    return MimeBundle::text(text);
                }
                let values: &[(&str, &dyn Render)] = &[$((stringify!($index), &self.$index)),+];
                let mut each = values.iter().map(|(index, value)| (format!(".{index}"), *value));
                listed(&format!("a tuple of {}", values.len()), &mut each, values.len())
            }

            fn debug_text(&self) -> Option<String> {
                let texts = [$(self.$index.debug_text()?),+];
                Some(match texts.as_slice() {
                    [one] => format!("({one},)"),
                    several => format!("({})", several.join(", ")),
                })
            }
        }
    )+};
}
tuples!(
    (A 0),
    (A 0, B 1),
    (A 0, B 1, C 2),
    (A 0, B 1, C 2, D 3),
    (A 0, B 1, C 2, D 3, E 4),
    (A 0, B 1, C 2, D 3, E 4, F 5)
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Image;
    use candle_core::Tensor;

    fn text(value: &dyn Render) -> String {
        value.render().plain().to_owned()
    }

    #[test]
    fn what_holds_only_plain_values_looks_as_debug_writes_it() {
        let map = BTreeMap::from([("a", vec![Some(1.5), None]), ("b", vec![])]);
        assert_eq!(text(&map), format!("{map:?}"));
        let nested = (
            String::from("x\n"),
            'c',
            [(1_u8, true)],
            Some(String::from("é")),
            (),
        );
        assert_eq!(text(&nested), format!("{nested:?}"));
        assert_eq!(text(&(5,)), "(5,)");
        assert_eq!(
            text(&vec![Ok::<_, String>(1), Err("no".into())]),
            "[Ok(1), Err(\"no\")]"
        );
        assert_eq!(text(&BTreeSet::from([2, 1])), "{1, 2}");
        assert_eq!(text(&Box::new(7)), "7");
        assert_eq!(text(&None::<Tensor>), "None");
    }

    #[test]
    fn long_lists_say_how_many_more() {
        let numbers: Vec<u32> = (0..1_000_000).collect();
        let shown = text(&numbers);
        assert!(
            shown.contains("… 998,667 more]"),
            "{}",
            &shown[shown.len() - 60..]
        );
    }

    #[test]
    fn tensors_show_their_maps_wherever_they_are() -> crate::Result<()> {
        let tensor = Tensor::rand(0f32, 1.0, (20, 30), &candle_core::Device::Cpu)?;
        let has_map = |value: &dyn Render| {
            let bundle = value.render();
            bundle
                .html()
                .is_some_and(|html| html.contains("data:image/png"))
        };
        assert!(has_map(&Some(tensor.clone())) && has_map(&Arc::new(tensor.clone())));
        assert!(has_map(&(1, tensor.clone())) && has_map(&[tensor.clone(), tensor.clone()]));
        assert!(has_map(&HashMap::from([("a", tensor.clone())])));
        let many = vec![tensor.clone(); 40];
        assert!(has_map(&many) && text(&many).ends_with("… and 28 more"));
        assert!(text(&many).lines().count() < limits::LINES);
        let result: crate::Result<Tensor> = Ok(tensor);
        assert!(has_map(&result) && text(&result).contains("add `?`"));
        let failed: crate::Result<Tensor> = Err(crate::Error::Input("it is <too> short".into()));
        assert!(text(&failed).contains("it is <too> short\n") && text(&failed).contains("add `?`"));
        let pictures = vec![Image::filled(4, 4, [1, 2, 3])?; 3];
        assert!(has_map(&pictures) && has_map(&Some(pictures)));
        Ok(())
    }
}
