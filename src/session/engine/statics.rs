//! The statics of cells: each exists once a session, although every cell is a crate with the items of all cells in it.
//!
//! ```text
//! items ─ where they declare statics ─▶ made in this cell's library, exported   ─▶ loaded: made
//!                                    └▶ made before: named, and found by the loader in the library that has it
//! ```
//! A static belongs to the item that declares it, as it was taken from a cell. Running a cell that defines the item, changed or
//! not, is a new definition: the static begins anew in the next cell that needs it, and so it does when a type that its own type
//! mentions is defined anew. A cell that did not compile, or never ran, made nothing. The process's end is the end of all of them.
//!
//! Where the compiler objects to what is written for this, the cell is compiled as it stands; then the objection is the user's to
//! see, or the cell has statics of its own and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::items::{Item, Items, Kind, words};
use super::kept::renamed::{SYMBOL, digits};
use super::notes::Note;
use super::sites::{self, Declaration, Form, MARKS, Static};
use super::source::Source;
use crate::session::reports::Diagnostic;

/// The statics that a session's items declare.
#[derive(Clone, Debug, Default)]
pub(super) struct Statics {
    holders: Vec<Holder>,
    /// How many processes there were before the one that they are in.
    process: u64,
    /// Symbols that the user chose and that are in use.
    taken: BTreeSet<String>,
    /// Statics of macros that the user knows of.
    told: BTreeSet<String>,
    /// The compiler did not take what a call of a macro makes in place of the call.
    unexpanded: bool,
}

/// An item that declares statics.
#[derive(Clone, Debug)]
struct Holder {
    item: Arc<Item>,
    declarations: Arc<[Declaration]>,
    /// Under which symbols each declaration was made, if it was.
    made: Made,
    /// A cell that ran could reach it.
    reached: bool,
}

/// What a cell's library makes, if it is loaded.
#[derive(Clone, Debug, Default)]
pub(super) struct Makes(Vec<(Arc<Item>, Made)>);

/// Under which symbols each declaration of an item was made, if it was.
type Made = Vec<Option<Vec<String>>>;

/// How a cell is to be written, as far as the compiler has spoken.
#[derive(Clone, Debug, Default)]
pub(super) struct Sharing {
    /// Statics that the cell reads at compile time, which needs their text.
    copied: BTreeSet<String>,
    /// Calls of macros are not replaced by what they make.
    unexpanded: bool,
    /// The cell is compiled as it stands.
    off: bool,
}

impl Statics {
    /// Follows what a cell did to the items: which statics begin anew by it. Returns what is to be said of that once the cell has
    /// been taken. `changed` are types whose definition changed.
    pub(super) fn follow(
        &mut self,
        before: &Items,
        items: &Items,
        changed: &[String],
        process: u64,
    ) -> Vec<Note> {
        if self.process != process {
            *self = Statics {
                process,
                told: std::mem::take(&mut self.told),
                ..Statics::default()
            };
        }
        let old = std::mem::take(&mut self.holders);
        // What is set aside may come back, with its statics.
        let aside = items.aside.iter().map(|aside| &aside.item);
        for item in items.items.iter().chain(aside) {
            let known = old.iter().find(|holder| Arc::ptr_eq(&holder.item, item));
            let holder = match known {
                Some(holder) => holder.clone(),
                None if sites::may_declare(&item.code) || !item.makes.is_empty() => {
                    Holder::new(item.clone())
                }
                None => continue,
            };
            if !holder.declarations.is_empty() {
                self.holders.push(holder);
            }
        }
        if old.is_empty() {
            return self.unshared(&old);
        }
        let mut again = Vec::new();
        let replaced = old.iter().filter(|holder| !self.holds(&holder.item));
        for holder in replaced.filter(|holder| holder.reached) {
            let gone = holder.statics().filter(|(_, made)| made.is_some());
            for (found, _) in gone {
                let renewed = self.holders.iter().any(|other| {
                    let new = !old.iter().any(|old| Arc::ptr_eq(&old.item, &other.item));
                    // Data that nothing changes begins anew without anybody's notice.
                    let same = |new: &Static| {
                        new.name == found.name
                            && new.place == found.place
                            && !(found.fixed && new == found)
                    };
                    new && other.statics().any(|(new, _)| same(new))
                });
                if renewed {
                    again.push(found.told());
                }
            }
        }
        let types = renewed_types(before, items, changed);
        let mut through: BTreeMap<String, Vec<String>> = BTreeMap::new();
        if !types.is_empty() {
            for holder in &mut self.holders {
                for (declaration, made) in holder.declarations.iter().zip(&mut holder.made) {
                    let named = |found: &Static| {
                        found
                            .types
                            .iter()
                            .find(|word| types.contains(*word))
                            .cloned()
                    };
                    let Some(ty) = declaration.statics.iter().find_map(named) else {
                        continue;
                    };
                    if made.take().is_some() && holder.reached {
                        let told = declaration.statics.iter().map(Static::told);
                        through.entry(ty).or_default().extend(told);
                    }
                }
            }
        }
        self.forget_unused(before, items);
        let mut notes = Vec::new();
        if !again.is_empty() {
            notes.push(begins_anew(
                &again,
                match again.len() {
                    1 => "this cell defines it again.",
                    _ => "this cell defines them again.",
                },
            ));
        }
        for (ty, told) in through {
            let its = if told.len() == 1 {
                "its type mentions"
            } else {
                "their types mention"
            };
            let why = format!("this cell changes `{ty}`, which {its}.");
            notes.push(begins_anew(&told, &why));
        }
        notes.extend(self.unshared(&old));
        notes
    }

    /// Statics whose types may be of crates that were built anew begin anew. Returns what is to be said of that.
    pub(super) fn rebuilt(&mut self, crates: &BTreeSet<String>, items: &Items) -> Option<Note> {
        let names = items.users_of(crates.iter().cloned().collect());
        let mut told = Vec::new();
        for holder in &mut self.holders {
            for (declaration, made) in holder.declarations.iter().zip(&mut holder.made) {
                let mut statics = declaration.statics.iter();
                let theirs = statics.any(|found| !found.types.is_disjoint(&names));
                if theirs && made.take().is_some() && holder.reached {
                    told.extend(declaration.statics.iter().map(Static::told));
                }
            }
        }
        let why = "a crate that the type mentions was built anew.";
        (!told.is_empty()).then(|| begins_anew(&told, why))
    }

    /// What another state says to begin anew does so here.
    pub(super) fn agree(&mut self, other: &Statics) {
        for holder in &mut self.holders {
            let mut others = other.holders.iter();
            if let Some(known) = others.find(|known| Arc::ptr_eq(&known.item, &holder.item)) {
                for (made, known) in holder.made.iter_mut().zip(&known.made) {
                    if known.is_none() {
                        *made = None;
                    }
                }
            }
        }
    }

    /// A static that no cell has used yet may begin with what its first value has become since.
    fn forget_unused(&mut self, before: &Items, items: &Items) {
        let Some(changed) = changed_names(before, items, |_| true) else {
            return;
        };
        let changed = items.users_of(changed);
        for holder in self.holders.iter_mut().filter(|holder| !holder.reached) {
            for (declaration, made) in holder.declarations.iter().zip(&mut holder.made) {
                let mut statics = declaration.statics.iter();
                if statics.any(|found| !found.initial.is_disjoint(&changed)) {
                    *made = None;
                }
            }
        }
    }

    fn holds(&self, item: &Arc<Item>) -> bool {
        let mut holders = self.holders.iter();
        holders.any(|holder| Arc::ptr_eq(&holder.item, item))
    }

    /// What is to be said of new statics that can't be shared.
    fn unshared(&self, old: &[Holder]) -> Vec<Note> {
        let new = self
            .holders
            .iter()
            .filter(|holder| !old.iter().any(|old| Arc::ptr_eq(&old.item, &holder.item)));
        new.flat_map(|holder| holder.declarations.iter())
            .filter_map(|declaration| {
                let why = declaration.unshared.as_ref()?;
                let told: Vec<String> = declaration.statics.iter().map(Static::told).collect();
                Some(alone(&told, why))
            })
            .collect()
    }

    /// Writes the items of a cell so that each static is made once: `source` begins with their text.
    pub(super) fn share(&self, source: &mut Source, number: u64, sharing: &Sharing) {
        let Some(function) = &source.function else {
            return;
        };
        if sharing.off || self.holders.is_empty() {
            return;
        }
        let unexpanded = sharing.unexpanded || self.unexpanded;
        let mut makes = Vec::new();
        let mut shares = false;
        let mut written = |item: &Arc<Item>| {
            let place = self
                .holders
                .iter()
                .position(|holder| Arc::ptr_eq(&holder.item, item))?;
            let holder = self.holders.get(place)?;
            let fresh: Vec<Option<Vec<String>>> = holder
                .declarations
                .iter()
                .zip(&holder.made)
                .enumerate()
                .map(|(at, (declaration, made))| {
                    let new = made.is_none()
                        && declaration.unshared.is_none()
                        && !(unexpanded && declaration.is_expanded());
                    let prefix = format!("{SYMBOL}{}_{at}", digits(number, place));
                    new.then(|| declaration.symbols(&prefix, &self.taken))
                })
                .collect();
            let forms: Vec<(&Declaration, Form<'_>)> = holder
                .declarations
                .iter()
                .zip(holder.made.iter().zip(&fresh))
                .map(|(declaration, (made, fresh))| {
                    let mut statics = declaration.statics.iter();
                    let form = match (made, fresh) {
                        _ if unexpanded && declaration.is_expanded() => Form::Own,
                        (_, Some(symbols)) => Form::Made(symbols),
                        (Some(_), _)
                            if statics.any(|found| sharing.copied.contains(&found.name)) =>
                        {
                            Form::Own
                        }
                        (Some(symbols), _) => Form::Shared(symbols),
                        (None, None) => Form::Own,
                    };
                    (declaration, form)
                })
                .collect();
            let code = sites::written(&item.code, &forms);
            drop(forms);
            shares = true;
            makes.push((item.clone(), fresh));
            Some(code)
        };
        let first = source.items.first().map_or(1, |(lines, _)| lines.start);
        let begin = line_start(&source.text, first);
        let mut end = begin;
        let mut code = String::new();
        for (_, item) in &source.items {
            code += &written(item).unwrap_or_else(|| item.code.clone());
            end += item.code.len();
        }
        if !shares {
            return;
        }
        source.text.replace_range(begin..end, &code);
        if makes
            .iter()
            .any(|(_, fresh)| fresh.iter().any(Option::is_some))
        {
            // The process looks for this and lets later libraries find what is in this one.
            source.text += &format!(
                "#[allow(warnings)] #[unsafe(no_mangle)] pub static {function}{}: u8 = 0;\n",
                crate::session::child::EXPORTS
            );
        }
        source.makes = Makes(makes);
    }

    /// Whether macros may make statics in a cell with these items.
    pub(super) fn may_hide(items: &Items, dependencies: bool) -> bool {
        let mut items = items.items.iter();
        dependencies || items.any(|item| item.kind == Kind::Macro && sites::may_declare(&item.code))
    }

    /// A cell compiled: what was learnt of macros holds for later ones.
    pub(super) fn keep(&mut self, sharing: &Sharing) {
        self.unexpanded |= sharing.unexpanded && !sharing.off;
    }

    /// What is to be said of statics that macros make, which no item's text shows.
    pub(super) fn hidden(&mut self, paths: BTreeSet<String>) -> Option<Note> {
        let declarations = self
            .holders
            .iter()
            .flat_map(|holder| holder.declarations.iter());
        let declared: BTreeSet<&str> = declarations
            .filter(|declaration| !(self.unexpanded && declaration.is_expanded()))
            .flat_map(|declaration| &declaration.statics)
            .map(|found| found.name.as_str())
            .collect();
        let new: Vec<String> = paths
            .into_iter()
            .filter(|path| !words(path).any(|word| declared.contains(word)))
            .filter(|path| !self.told.contains(path))
            .collect();
        self.told.extend(new.iter().cloned());
        let told: Vec<String> = new.iter().map(|path| format!("`{path}`")).collect();
        (!told.is_empty()).then(|| {
            alone(
                &told,
                "a macro makes it; a static that is written out is kept",
            )
        })
    }

    /// Those that were made, used and may have changed, as people are told of them.
    pub(super) fn told(&self) -> Vec<String> {
        let reached = self.holders.iter().filter(|holder| holder.reached);
        let made = reached.flat_map(Holder::statics);
        made.filter(|(found, made)| made.is_some() && !found.fixed)
            .map(|(found, _)| found.told())
            .collect()
    }

    /// A cell's library is loaded and has run: what it makes is made, and what the cell's words can reach is used.
    pub(super) fn made<'a>(
        &mut self,
        makes: &Makes,
        said: impl IntoIterator<Item = &'a str>,
        items: &'a Items,
    ) {
        for (item, fresh) in &makes.0 {
            let mut holders = self.holders.iter_mut();
            let Some(holder) = holders.find(|holder| Arc::ptr_eq(&holder.item, item)) else {
                continue;
            };
            for ((declaration, made), fresh) in
                holder.declarations.iter().zip(&mut holder.made).zip(fresh)
            {
                if let Some(symbols) = fresh {
                    self.taken.extend(declaration.chosen(symbols));
                    *made = Some(symbols.clone());
                }
            }
        }
        if self.holders.is_empty() {
            return;
        }
        let heard = reach(said, items);
        for holder in &mut self.holders {
            let named = |name: &str| heard.contains(name.trim_start_matches("r#"));
            let defines = &holder.item.defines;
            let reached = defines.names.keys().any(|name| named(name))
                || !defines.implementations.is_empty()
                || holder.statics().any(|(found, _)| named(&found.name));
            holder.reached |= reached;
        }
    }
}

impl Holder {
    fn new(item: Arc<Item>) -> Holder {
        let declarations = sites::declarations(&item);
        Holder {
            item,
            made: vec![None; declarations.len()],
            declarations: declarations.into(),
            reached: false,
        }
    }

    /// Its statics, and the symbols under which each was made with others.
    fn statics(&self) -> impl Iterator<Item = (&Static, &Option<Vec<String>>)> {
        let declarations = self.declarations.iter().zip(&self.made);
        declarations.flat_map(|(declaration, made)| {
            declaration.statics.iter().map(move |found| (found, made))
        })
    }
}

impl Makes {
    /// Whether a call of a macro is replaced by what it makes.
    fn expands(&self) -> bool {
        let mut items = self.0.iter();
        items.any(|(item, _)| !item.makes.is_empty())
    }
}

impl Sharing {
    /// Learns from errors of the compiler; says whether the cell is to be written in another way because of them.
    pub(super) fn learn(&mut self, source: &Source, errors: &[Diagnostic]) -> bool {
        if source.makes.0.is_empty() {
            return false;
        }
        // cannot access extern static `shapes::LIMIT`
        let read = errors.iter().filter_map(|error| {
            let path = error.message.split_once("extern static `")?.1;
            let name = path.split('`').next()?.rsplit("::").next()?;
            (error.code() == Some("E0080")).then(|| name.to_owned())
        });
        let before = self.copied.len();
        self.copied.extend(read);
        if self.copied.len() > before {
            return true;
        }
        let lines = source.text.lines().enumerate();
        let added: BTreeSet<usize> = lines
            .filter(|(_, line)| line.contains(MARKS.0))
            .map(|(at, _)| at + 1)
            .collect();
        let concerned = errors.iter().any(|error| {
            let speaks = ["extern static", "foreign static", "extern block"];
            speaks.iter().any(|words| error.message.contains(words))
                || error
                    .primary_line()
                    .is_none_or(|line| added.contains(&line))
                || error.other_lines().any(|line| added.contains(&line))
        });
        let (tried, expands) = (self.unexpanded, source.makes.expands());
        match concerned {
            true if expands && !tried => self.unexpanded = true,
            concerned => self.off |= concerned,
        }
        concerned
    }

    /// The cell is to be compiled in other words: the compiler may take what it objected to.
    pub(super) fn again(&mut self) {
        self.off = false;
    }

    /// What is to be said of a cell that the compiler takes only as it stands.
    pub(super) fn objection(&self, statics: &Statics, source: &Source) -> Option<Note> {
        let holders = statics.holders.iter().filter(|holder| {
            let mut items = source.items.iter();
            items.any(|(_, item)| Arc::ptr_eq(item, &holder.item))
        });
        let told: Vec<String> = holders
            .flat_map(|holder| holder.statics().map(|(found, _)| found.told()))
            .collect();
        (self.off && !told.is_empty()).then(|| {
            let is = if told.len() == 1 { "is" } else { "are" };
            note(
                &told,
                &format!(
                    "{} {is} not shared with other cells here: the compiler objects to it.",
                    told.join(", ")
                ),
            )
        })
    }
}

/// The byte at which a line begins; lines count from 1.
fn line_start(text: &str, line: usize) -> usize {
    let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
    lines.map(str::len).sum()
}

/// The names of types, and of what types are written with, that a cell defines anew or that mention such a one.
fn renewed_types(before: &Items, items: &Items, changed: &[String]) -> BTreeSet<String> {
    let import = |item: &Item| item.kind == Kind::Import;
    let mut names = changed.to_vec();
    names.extend(changed_names(before, items, import).unwrap_or_default());
    match names.is_empty() {
        true => BTreeSet::new(),
        false => items.users_of(names),
    }
}

/// The names of items of a kind that are there before and after, and not the same; `None` if there are none.
fn changed_names(
    before: &Items,
    items: &Items,
    kind: impl Fn(&Item) -> bool,
) -> Option<Vec<String>> {
    let mut old: BTreeMap<&str, &Arc<Item>> = BTreeMap::new();
    for item in &before.items {
        old.extend(item.defines.names.keys().map(|name| (name.as_str(), item)));
    }
    let changed = items
        .items
        .iter()
        .filter(|item| kind(item))
        .flat_map(|item| {
            let names = item.defines.names.keys();
            names.filter(|name| {
                old.get(name.as_str()).is_some_and(|old| {
                    !Arc::ptr_eq(old, item) && old.code.trim() != item.code.trim()
                })
            })
        });
    let changed = changed.cloned();
    let changed: Vec<String> = changed.collect();
    (!changed.is_empty()).then_some(changed)
}

/// Every word that somebody who says these can come to through the items.
fn reach<'a>(said: impl IntoIterator<Item = &'a str>, items: &'a Items) -> BTreeSet<&'a str> {
    let mut heard: BTreeSet<&str> = said.into_iter().collect();
    let mut left: Vec<&Arc<Item>> = items.items.iter().collect();
    loop {
        let before = left.len();
        let mut found = Vec::new();
        left.retain(|item| {
            let mut names = item.defines.names.keys();
            let mut heads = item.defines.implementations.iter();
            let reached = names.any(|name| heard.contains(name.trim_start_matches("r#")))
                || heads.any(|block| words(&block.header).any(|word| heard.contains(word)));
            if reached {
                found.extend(words(&item.code));
            }
            !reached
        });
        heard.extend(found);
        if left.len() == before {
            return heard;
        }
    }
}

fn begins_anew(told: &[String], why: &str) -> Note {
    let begin = if told.len() == 1 { "begins" } else { "begin" };
    note(told, &format!("{} {begin} anew: {why}", told.join(", ")))
}

/// What to say of statics that every cell has for itself.
fn alone(told: &[String], why: &str) -> Note {
    let begin = if told.len() == 1 { "begins" } else { "begin" };
    note(
        told,
        &format!("{} {begin} anew in every cell: {why}.", told.join(", ")),
    )
}

fn note(told: &[String], text: &str) -> Note {
    Note {
        name: told.concat(),
        text: text.to_owned(),
        reminder: text.to_owned(),
    }
}
