//! Items of earlier cells that no longer fit what the present cell defines: the cell is taken, they are set aside until they fit again.
//!
//! ```text
//! rustc's errors ─▶ in which items they lie ─▶ in the cell: they are the cell's
//!                                           └▶ only in earlier items: those are set aside, and the cell is compiled again
//! aside ─ a cell changes what they mention ─▶ compiled with that cell ─▶ used again, or aside as before
//! ```
//! Of two that cannot stand side by side the newer one stays. A cell that misses what is set aside is told so by name.

use std::collections::BTreeSet;
use std::sync::Arc;

use ra_ap_syntax::AstNode as _;
use ra_ap_syntax::ast;

use super::items::{Item, Items, Kind, Placed, words};
use super::notes::Note;
use super::source::Source;
use crate::session::nesting::parse;
use crate::session::reports::Diagnostic;

/// Errors by which the compiler says that two items cannot stand side by side.
const DUPLICATE: [&str; 9] = [
    "E0119", "E0252", "E0254", "E0255", "E0259", "E0260", "E0428", "E0592", "E0659",
];
/// Those of them after which the older one is no longer wanted: a name has a new meaning.
const REDEFINED: [&str; 7] = [
    "E0252", "E0254", "E0255", "E0259", "E0260", "E0428", "E0659",
];

/// An item that does not compile with the others now.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    pub item: Arc<Item>,
    /// What the compiler said.
    pub reason: String,
}

impl Aside {
    /// What becomes of an item whose place a newer one takes: a macro may have made more by the same call, which is not forgotten silently.
    pub(super) fn of_replaced(item: Arc<Item>, newer: &Item) -> Option<Aside> {
        let again: Vec<&str> = newer.defines.names.keys().map(String::as_str).collect();
        let mut names = item.defines.names.keys().map(String::as_str);
        let more = matches!(item.kind, Kind::Call | Kind::MacroCall)
            && names.any(|name| !again.contains(&name));
        let both: Vec<&str> = again
            .into_iter()
            .filter(|name| item.defines.names.contains_key(*name))
            .collect();
        let reason = format!("`{}` is defined anew", both.join("`, `"));
        more.then_some(Aside { item, reason })
    }

    /// What it is called, for messages.
    fn label(&self) -> String {
        self.item.label()
    }

    /// What is said to a cell that misses it.
    pub(super) fn sentence(&self) -> String {
        format!(
            "`{}` is set aside until it fits again: {}",
            self.label(),
            self.reason
        )
    }

    /// The words by which an error may be about it.
    fn called(&self) -> BTreeSet<&str> {
        let defines = &self.item.defines;
        let blocks = defines.implementations.iter();
        let heads = blocks.flat_map(|block| {
            let head = words(&block.header)
                .filter(|word| !["impl", "for", "dyn", "where", "mut", "const"].contains(word));
            head.chain(block.names.iter().map(String::as_str))
        });
        defines
            .names
            .keys()
            .map(String::as_str)
            .chain(heads)
            .collect()
    }
}

impl Item {
    /// How it begins, in one line: enough to know it by.
    pub(super) fn label(&self) -> String {
        let file = parse(&self.code).syntax_node();
        let item = file.children().next().unwrap_or(file);
        // Without comments and attributes before it.
        let parts = item.children_with_tokens().skip_while(|part| {
            let kind = part.kind();
            kind.is_trivia() || ast::Attr::can_cast(kind)
        });
        let text = parts.map(|part| part.to_string()).collect::<String>();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = match self.kind {
            Kind::Function => text.find(['(', '<']),
            Kind::Type => text.find(['{', '(', '<', ';', '=']),
            Kind::Constant | Kind::Static => text.find([':', '=']),
            Kind::Impl | Kind::Trait | Kind::Module | Kind::Macro => text.find('{'),
            Kind::Call | Kind::MacroCall | Kind::Import | Kind::Other => None,
        };
        let text = text[..end.unwrap_or(text.len())].trim_end_matches([' ', ';']);
        match text.char_indices().nth(60) {
            Some((cut, _)) => format!("{}…", &text[..cut]),
            None => text.to_owned(),
        }
    }
}

impl Items {
    /// Takes back what was set aside and may fit again after what the cell changed.
    pub(super) fn take_back(&mut self) {
        if self.aside.is_empty() || self.touched.is_empty() {
            return;
        }
        let mut changed = self.touched.changed.clone();
        let mut waiting = std::mem::take(&mut self.aside);
        loop {
            let (back, rest): (Vec<Aside>, Vec<Aside>) = waiting
                .into_iter()
                .partition(|aside| self.touched.everything || aside.item.reach.says(&changed));
            waiting = rest;
            if back.is_empty() {
                break;
            }
            for aside in back {
                changed.extend(aside.item.names().map(str::to_owned));
                self.touched.back.push(aside.item.clone());
                self.items.push(aside.item);
            }
        }
        self.aside = waiting;
    }

    /// Sets aside the items of earlier cells that the compiler objects to and not the cell; says whether there are any.
    pub(super) fn give_way(&mut self, errors: &[Diagnostic], source: &Source) -> bool {
        let mut going: Vec<(Arc<Item>, String, bool)> = Vec::new();
        for error in errors {
            let code = error.code().unwrap_or_default();
            let places = error.places();
            let at = |line: usize| item_at(&source.items, line);
            let sides: Vec<Arc<Item>> = places.iter().filter_map(|(line, _)| at(*line)).collect();
            let redefined = REDEFINED.contains(&code);
            let twice = DUPLICATE.contains(&code);
            let with_own = twice && sides.iter().any(|item| item.cell == self.cell);
            let duplicate = twice.then(|| self.older(error, sides)).flatten();
            let duplicate = duplicate.map(|item| (vec![item], redefined));
            let found = duplicate.or_else(|| {
                let outside = places.iter().any(|(line, _)| at(*line).is_none());
                let main = places.iter().filter(|(_, primary)| *primary);
                let main: Vec<Arc<Item>> = main.filter_map(|(line, _)| at(*line)).collect();
                let own = main.iter().any(|item| item.cell == self.cell);
                let theirs =
                    !outside && !own && !with_own && !main.is_empty() && !error.of_instance();
                theirs.then_some((main, false))
            });
            for item in found.iter().flat_map(|(items, _)| items) {
                if !going.iter().any(|(known, ..)| Arc::ptr_eq(known, item)) {
                    let redefined = found.as_ref().is_some_and(|(_, redefined)| *redefined);
                    going.push((item.clone(), self.reason(error), redefined));
                }
            }
        }
        for (item, reason, redefined) in &going {
            self.set_aside(item, reason, *redefined);
        }
        !going.is_empty()
    }

    /// The one of two items that has to go.
    fn older(&self, error: &Diagnostic, mut sides: Vec<Arc<Item>>) -> Option<Arc<Item>> {
        // `name` is ambiguous: its uses are told too, and imports of all names.
        if error.code() == Some("E0659") {
            let name = error.message.split('`').nth(1)?;
            sides.retain(|item| item.defines.names.contains_key(name));
        }
        let back = |item: &Arc<Item>| self.touched.back.iter().any(|back| Arc::ptr_eq(back, item));
        // What is to come back has no right to a place that is taken.
        let age = |item: &Arc<Item>| (!back(item), item.cell);
        let oldest = sides.iter().min_by_key(|item| age(item))?;
        let newest = sides.iter().max_by_key(|item| age(item))?;
        // A type does not go because of what it derives.
        let derives = oldest.kind == Kind::Type && matches!(error.code(), Some("E0119" | "E0592"));
        (age(oldest) < age(newest) && !derives).then(|| oldest.clone())
    }

    fn set_aside(&mut self, item: &Arc<Item>, reason: &str, redefined: bool) {
        let Some(place) = self.items.iter().position(|other| Arc::ptr_eq(other, item)) else {
            // It went with another.
            return;
        };
        self.items.remove(place);
        // A name that has a new meaning is not missed; what else a macro made with it would be.
        if redefined && item.defines.names.len() <= 1 && item.defines.implementations.is_empty() {
            return;
        }
        self.aside.push(Aside {
            item: item.clone(),
            reason: reason.to_owned(),
        });
        // What is implemented for a type that is not there cannot compile either.
        let gone: BTreeSet<String> = item.names().map(str::to_owned).collect();
        let types = matches!(item.kind, Kind::Type | Kind::Trait);
        let there = |name: &String| {
            let mut items = self.items.iter();
            items.any(|other| other.kind != Kind::Function && other.names().any(|own| own == name))
        };
        if !types || gone.iter().any(there) {
            return;
        }
        let of_it = |other: &Arc<Item>| {
            let mut blocks = other.defines.implementations.iter();
            other.kind == Kind::Impl
                && other.cell < self.cell
                && blocks.any(|block| words(&block.header).any(|word| gone.contains(word)))
        };
        let (with_it, rest) = std::mem::take(&mut self.items).into_iter().partition(of_it);
        self.items = rest;
        let with_it: Vec<Arc<Item>> = with_it;
        let reason = format!("it needs `{}`: {reason}", item.label());
        self.aside.extend(with_it.into_iter().map(|item| Aside {
            item,
            reason: reason.clone(),
        }));
    }

    /// Why an item does not fit, in one line.
    fn reason(&self, error: &Diagnostic) -> String {
        // Errors that say that something is not there.
        let missing = [
            "E0277", "E0405", "E0412", "E0425", "E0432", "E0433", "E0599",
        ];
        let about = error.code().is_some_and(|code| missing.contains(&code));
        let missed = self.missed(error).find(|_| about);
        match missed {
            Some(aside) => format!("it needs `{}`: {}", aside.label(), aside.reason),
            None => error.message.lines().next().unwrap_or_default().to_owned(),
        }
    }

    /// What is set aside that an error may be about.
    fn missed<'a>(&'a self, error: &'a Diagnostic) -> impl Iterator<Item = &'a Aside> {
        let text = error.words();
        self.aside
            .iter()
            .filter(move |aside| aside.called().iter().any(|name| text.contains(*name)))
    }

    /// Adds to errors what is set aside that they may be about. Those of the messages `first` were there before this cell set anything
    /// aside, so that only what was aside `before` can explain them.
    pub(super) fn explain_aside(
        &self,
        errors: &mut [Diagnostic],
        first: &[String],
        before: &Items,
    ) {
        let mut told: BTreeSet<String> = BTreeSet::new();
        for error in errors {
            let early = first.contains(&error.message);
            let notes: Vec<String> = self
                .missed(error)
                .filter(|aside| !early || among(&before.aside, &aside.item))
                .map(Aside::sentence)
                .filter(|note| told.insert(note.clone()))
                .collect();
            error.notes.extend(notes);
        }
    }

    /// The reason for which a type in `written` is set aside, if one is.
    pub(super) fn aside_in(&self, written: &str) -> Option<String> {
        let found = self.aside.iter().find(|aside| {
            matches!(aside.item.kind, Kind::Type | Kind::Module | Kind::Call)
                && words(written).any(|word| aside.item.defines.names.contains_key(word))
        })?;
        Some(found.sentence())
    }

    /// What to say of items that were set aside since `before`, and of those that are used again.
    pub(super) fn changes_aside(&self, before: &Items) -> Vec<Note> {
        let gone = self
            .aside
            .iter()
            .filter(|aside| !among(&before.aside, &aside.item));
        let gone: Vec<String> = gone
            .map(|aside| format!("`{}` ({})", aside.label(), aside.reason))
            .collect();
        let back = before.aside.iter().map(|aside| &aside.item);
        let back = back.filter(|item| self.items.iter().any(|other| Arc::ptr_eq(other, item)));
        let back: Vec<String> = back.map(|item| format!("`{}`", item.label())).collect();
        let say = |what: &str, items: &[String]| {
            let name = items.join(", ");
            let text = format!("{what}: {}", items.join("; "));
            (!items.is_empty()).then(|| Note {
                name,
                reminder: text.clone(),
                text,
            })
        };
        let until = if gone.len() == 1 {
            "until it fits"
        } else {
            "until they fit"
        };
        say(&format!("set aside {until} again"), &gone)
            .into_iter()
            .chain(say("used again, because it fits", &back))
            .collect()
    }
}

/// Whether an item is one of these.
fn among(list: &[Aside], item: &Arc<Item>) -> bool {
    list.iter().any(|aside| Arc::ptr_eq(&aside.item, item))
}

/// The item that stands on a line of the source.
fn item_at(placed: &[Placed], line: usize) -> Option<Arc<Item>> {
    let found = placed.iter().find(|(lines, _)| lines.contains(&line));
    found.map(|(_, item)| item.clone())
}
