//! The types of variables, learnt from the running program instead of from an analyser.
//!
//! ```text
//! cell runs ─ std::any::type_name ─▶ alloc::vec::Vec<candle_core::tensor::Tensor>
//!                                      │ public paths, known or learnt once
//!                                      ▼
//!             next cell: let x = take::<::std::vec::Vec<::glassbox_prelude::candle_core::Tensor>>("x");
//! ```
//! `type_name` says where a type is defined, which is often a private module. rustc's own listing of a cell (`--emit=mir`)
//! says how the same type can be named. Both are written by the same printer, so the two texts differ in nothing but
//! paths, and each path has to be learnt only once; what is learnt is kept beside the prelude's library. What stands there is believed until a
//! cell fails that uses a variable of such a type: then it is learnt anew (see [`super::proof`]). How a type is written once its paths are
//! known: [`super::spelling`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::spelling::{self, Spelling, Unwritten, without_lifetimes};

/// Public paths that need not be learnt: where a type is defined, and how it is named.
const KNOWN: [(&str, &str); 42] = [
    ("alloc::borrow::Cow", "std::borrow::Cow"),
    ("alloc::boxed::Box", "std::boxed::Box"),
    (
        "alloc::collections::binary_heap::BinaryHeap",
        "std::collections::BinaryHeap",
    ),
    (
        "alloc::collections::btree::map::BTreeMap",
        "std::collections::BTreeMap",
    ),
    (
        "alloc::collections::btree::set::BTreeSet",
        "std::collections::BTreeSet",
    ),
    (
        "alloc::collections::vec_deque::VecDeque",
        "std::collections::VecDeque",
    ),
    ("alloc::rc::Rc", "std::rc::Rc"),
    ("alloc::string::String", "std::string::String"),
    ("alloc::sync::Arc", "std::sync::Arc"),
    ("alloc::vec::Vec", "std::vec::Vec"),
    ("core::cell::Cell", "std::cell::Cell"),
    ("core::cell::RefCell", "std::cell::RefCell"),
    ("core::error::Error", "std::error::Error"),
    ("core::fmt::Debug", "std::fmt::Debug"),
    ("core::fmt::Display", "std::fmt::Display"),
    ("core::fmt::Error", "std::fmt::Error"),
    ("core::marker::PhantomData", "std::marker::PhantomData"),
    ("core::marker::Send", "std::marker::Send"),
    ("core::marker::Sync", "std::marker::Sync"),
    ("core::num::nonzero::NonZero", "std::num::NonZero"),
    ("core::num::wrapping::Wrapping", "std::num::Wrapping"),
    ("core::ops::function::Fn", "std::ops::Fn"),
    ("core::ops::function::FnMut", "std::ops::FnMut"),
    ("core::ops::function::FnOnce", "std::ops::FnOnce"),
    ("core::ops::range::Range", "std::ops::Range"),
    (
        "core::ops::range::RangeInclusive",
        "std::ops::RangeInclusive",
    ),
    ("core::option::Option", "std::option::Option"),
    ("core::result::Result", "std::result::Result"),
    (
        "core::sync::atomic::AtomicBool",
        "std::sync::atomic::AtomicBool",
    ),
    ("core::time::Duration", "std::time::Duration"),
    (
        "std::collections::hash::map::HashMap",
        "std::collections::HashMap",
    ),
    (
        "std::collections::hash::set::HashSet",
        "std::collections::HashSet",
    ),
    ("std::fs::File", "std::fs::File"),
    ("std::path::Path", "std::path::Path"),
    ("std::path::PathBuf", "std::path::PathBuf"),
    ("std::sync::mpsc::Receiver", "std::sync::mpsc::Receiver"),
    ("std::sync::mpsc::Sender", "std::sync::mpsc::Sender"),
    ("std::sync::poison::mutex::Mutex", "std::sync::Mutex"),
    ("std::sync::poison::rwlock::RwLock", "std::sync::RwLock"),
    ("std::thread::JoinHandle", "std::thread::JoinHandle"),
    ("std::time::Instant", "std::time::Instant"),
    ("std::time::SystemTime", "std::time::SystemTime"),
];

/// The crates whose paths hold for every session with the same prelude; those of `:dep` may be of another version next time.
const LASTING: [&str; 4] = ["alloc", "core", "glassbox_prelude", "std"];

/// The crate that every cell is compiled as.
pub(crate) const CELL_CRATE: &str = "ctx";

/// Where types are defined, and how they are named.
#[derive(Debug)]
pub(crate) struct Names {
    paths: BTreeMap<String, String>,
    /// Those of which only the file knows.
    unproven: BTreeSet<String>,
    /// Where what is learnt is kept.
    file: PathBuf,
}

/// What is known of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// It can be written so.
    Named(Spelling),
    /// It can be named, but how has not been learnt yet: the paths that are missing.
    Unknown,
    /// No code can name it: it is not put together of paths.
    Unwritable,
    /// No code can name it: it is, or holds, a closure or the future of an `async` block.
    Nameless,
}

impl Names {
    /// What is known, and what earlier sessions have learnt.
    pub(crate) fn open(file: PathBuf) -> Names {
        let regular = fs::symlink_metadata(&file).is_ok_and(|found| found.is_file());
        let mut learnt: BTreeMap<String, String> = regular
            .then(|| fs::read(&file).ok())
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        learnt.retain(|defined, named| {
            may_be_named_so(defined, named) && !KNOWN.iter().any(|(known, _)| known == defined)
        });
        let unproven = learnt.keys().cloned().collect();
        let known = KNOWN.map(|(defined, named)| (defined.to_owned(), named.to_owned()));
        Names {
            paths: known.into_iter().chain(learnt).collect(),
            unproven,
            file,
        }
    }

    /// How the type that `type_name`, or a symbol, describes is written in a cell.
    pub(crate) fn resolve(&self, type_name: &str) -> Type {
        if type_name.contains("{{")
            || type_name.contains("{closure")
            || type_name.contains("{async")
        {
            return Type::Nameless;
        }
        match spelling::spell(type_name, &|path| self.path(path)) {
            Ok(spelling) => Type::Named(spelling),
            Err(Unwritten::Path) => Type::Unknown,
            Err(Unwritten::Form) => Type::Unwritable,
        }
    }

    fn path(&self, path: &str) -> Option<String> {
        if let Some(own) = path
            .strip_prefix(CELL_CRATE)
            .and_then(|rest| rest.strip_prefix("::"))
        {
            return Some(format!("crate::{own}"));
        }
        self.paths.get(path).map(|named| format!("::{named}"))
    }

    /// Learns from two texts of the same type: `type_name`'s and that of rustc's listing. Says whether they fit.
    pub(crate) fn learn(&mut self, type_name: &str, listed: &str) -> bool {
        let (type_name, listed) = (without_lifetimes(type_name), without_lifetimes(listed));
        let ours: Vec<Part<'_>> = parts(&type_name).collect();
        let theirs: Vec<Part<'_>> = parts(&listed).collect();
        let mut learnt = Vec::new();
        if ours.len() != theirs.len() {
            return false;
        }
        for pair in ours.into_iter().zip(theirs) {
            match pair {
                (Part::Other(one), Part::Other(other)) if one.trim() == other.trim() => {}
                (Part::Path(defined), Part::Path(named)) => {
                    if self.path(defined).is_none() {
                        learnt.push((defined.to_owned(), named.to_owned()));
                    }
                }
                _ => return false,
            }
        }
        self.paths.extend(learnt);
        true
    }

    /// Whether the names of a type stand in the file only.
    pub(crate) fn is_unproven(&self, type_name: &str) -> bool {
        parts(type_name).any(|part| match part {
            Part::Path(path) => self.unproven.contains(path),
            Part::Other(_) => false,
        })
    }

    /// Forgets what only the file says of how a type is named.
    pub(crate) fn unlearn_unproven(&mut self, type_name: &str) {
        for part in parts(type_name) {
            if let Part::Path(path) = part
                && self.unproven.remove(path)
            {
                self.paths.remove(path);
            }
        }
    }

    /// Forgets how a type is named, because the compiler does not accept it.
    pub(crate) fn unlearn(&mut self, type_name: &str) {
        for part in parts(type_name) {
            if let Part::Path(path) = part
                && !KNOWN.iter().any(|(known, _)| *known == path)
            {
                self.paths.remove(path);
                self.unproven.remove(path);
            }
        }
    }

    /// Keeps what was learnt for later sessions. Failing to means to learn it again.
    pub(crate) fn save(&self) {
        let learnt: BTreeMap<&String, &String> = self
            .paths
            .iter()
            .filter(|(defined, _)| !KNOWN.iter().any(|(known, _)| known == defined))
            .filter(|(_, named)| LASTING.contains(&named.split("::").next().unwrap_or_default()))
            .collect();
        if let (Ok(bytes), Some(folder)) = (serde_json::to_vec_pretty(&learnt), self.file.parent())
            && let Ok(unfinished) = tempfile::NamedTempFile::new_in(folder)
            && fs::write(unfinished.path(), bytes).is_ok()
        {
            let _ = unfinished.persist(&self.file);
        }
    }
}

/// Whether a line of the file may be right: a path that holds for every session, of the type's own name.
fn may_be_named_so(defined: &str, named: &str) -> bool {
    let whole = |path: &str| path.contains("::") && path_length(path) == path.len();
    let last = |path: &str| path.rsplit("::").next().map(str::to_owned);
    let first = named.split("::").next().unwrap_or_default();
    whole(defined) && whole(named) && LASTING.contains(&first) && last(defined) == last(named)
}

/// The types with which a cell's listing shows `put` called, by variable.
///
/// ```text
/// let mut _41: glassbox_prelude::display::DisplayHandle;      the only place where paths stand in full
/// _40 = const "live";
/// _39 = put::<DisplayHandle>(move _40, move _41) -> [return: bb24, unwind: bb31];
/// ```
pub(crate) fn listed_types(listing: &Path) -> BTreeMap<String, String> {
    let mut types = BTreeMap::new();
    let Ok(text) = fs::read_to_string(listing) else {
        return types;
    };
    let mut declared: BTreeMap<&str, &str> = BTreeMap::new();
    let mut constants: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines() {
        if line.starts_with("fn ") {
            declared.clear();
            constants.clear();
        }
        let line = line.trim().trim_end_matches(';');
        if let Some(declaration) = line.strip_prefix("let ") {
            let declaration = declaration.trim_start_matches("mut ");
            declared.extend(declaration.split_once(": "));
        } else if let Some((local, constant)) = line.split_once(" = const \"") {
            constants.insert(local, constant.trim_end_matches('"'));
        } else if let Some((_, call)) = line.split_once("put::<")
            && let Some((short, arguments)) = call.split_once(">(")
            && let Some((name, value)) = arguments
                .split_once(") -> ")
                .and_then(|(arguments, _)| arguments.split_once(", "))
            && let Some(name) = name
                .strip_prefix("move ")
                .and_then(|name| constants.get(name))
        {
            let local = value
                .trim_start_matches("move ")
                .trim_start_matches("copy ");
            let ty = declared.get(local).copied().unwrap_or(short);
            types.insert((*name).to_owned(), ty.to_owned());
        }
    }
    types
}

/// A type as people write it: without the modules.
pub(crate) fn shortened(ty: &str) -> String {
    let mut text = String::new();
    for part in parts(ty) {
        match part {
            Part::Path(path) => text.push_str(path.rsplit("::").next().unwrap_or(path)),
            Part::Other(other) => text.push_str(other),
        }
    }
    text
}

/// The types of cells that a type mentions.
pub(crate) fn own_types(ty: &str) -> impl Iterator<Item = &str> {
    parts(ty)
        .filter_map(|part| match part {
            Part::Path(path) => path.strip_prefix("crate::"),
            Part::Other(_) => None,
        })
        .flat_map(|path| path.split("::"))
}

/// A piece of a type's text.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    /// At least two names joined by `::`.
    Path(&'a str),
    /// Everything between paths.
    Other(&'a str),
}

fn parts(ty: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = ty;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut other = 0;
        while other < rest.len() {
            let length = path_length(&rest[other..]);
            if length > 0 {
                let path = &rest[other..other + length];
                if path.contains("::") {
                    break;
                }
                other += length;
            } else {
                other += rest[other..].chars().next().map_or(1, char::len_utf8);
            }
        }
        if other > 0 {
            let (before, after) = rest.split_at(other);
            rest = after;
            // The leading `::` of a path belongs to no part of ours.
            return Some(Part::Other(before.strip_suffix("::").unwrap_or(before)));
        }
        let (path, after) = rest.split_at(path_length(rest));
        rest = after;
        Some(Part::Path(path))
    })
    .filter(|part| *part != Part::Other(""))
}

/// How many bytes at the beginning are names joined by `::`.
pub(super) fn path_length(text: &str) -> usize {
    let name = |text: &str| {
        let first = text.chars().next();
        if !first.is_some_and(|c| c.is_alphabetic() || c == '_') {
            return 0;
        }
        text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(text.len())
    };
    let mut length = name(text);
    while length > 0
        && let Some(rest) = text[length..].strip_prefix("::")
    {
        let more = name(rest);
        if more == 0 {
            break;
        }
        length += 2 + more;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (tempfile::TempDir, Names) {
        let folder = tempfile::tempdir().unwrap();
        let names = Names::open(folder.path().join("paths.json"));
        (folder, names)
    }

    /// The code by which a type is written.
    fn code(ty: Type) -> Option<String> {
        match ty {
            Type::Named(spelling) => Some(spelling.code),
            _ => None,
        }
    }

    #[test]
    fn known_paths_are_resolved_in_every_position() {
        let (_folder, mut names) = names();
        assert!(names.learn(
            "candle_core::tensor::Tensor",
            "glassbox_prelude::candle_core::Tensor"
        ));
        for (name, written) in [
            ("i32", "i32"),
            ("&str", "&'static str"),
            (
                "(u8, [alloc::string::String; 3])",
                "(u8, [::std::string::String; 3])",
            ),
            (
                "alloc::vec::Vec<core::option::Option<candle_core::tensor::Tensor>>",
                "::std::vec::Vec<::std::option::Option<::glassbox_prelude::candle_core::Tensor>>",
            ),
            ("ctx::shapes::Circle", "crate::shapes::Circle"),
            (
                "alloc::boxed::Box<dyn core::ops::function::Fn(i32) -> i32 + core::marker::Send>",
                "::std::boxed::Box<(dyn ::std::ops::Fn(i32) -> i32 + ::std::marker::Send + 'static)>",
            ),
        ] {
            assert_eq!(code(names.resolve(name)).as_deref(), Some(written));
        }
        assert_eq!(names.resolve("a::private::Thing"), Type::Unknown);
        assert_eq!(
            names.resolve("ctx::run_user_code_1::{{closure}}::{{closure}}"),
            Type::Nameless
        );
    }

    #[test]
    fn a_path_is_learnt_once_and_for_all() {
        let (folder, mut names) = names();
        let name = "alloc::vec::Vec<a::private::Thing<alloc::borrow::Cow<'_, str>>>";
        assert_eq!(names.resolve(name), Type::Unknown);
        assert!(names.learn(
            name,
            "std::vec::Vec<glassbox_prelude::a::Thing<std::borrow::Cow<'_, str>>>"
        ));
        assert!(names.learn("added::private::Other", "added::Other"));
        let written = Some("::glassbox_prelude::a::Thing<u8>".to_owned());
        assert_eq!(code(names.resolve("a::private::Thing<u8>")), written);
        names.save();
        let again = Names::open(folder.path().join("paths.json"));
        assert_eq!(code(again.resolve("a::private::Thing<u8>")), written);
        assert_eq!(again.resolve("added::private::Other"), Type::Unknown);
        assert!(!names.learn("alloc::vec::Vec<b::Other>", "std::vec::Vec<u8>"));
        assert_eq!(names.resolve("b::Other"), Type::Unknown);
    }

    #[test]
    fn a_line_of_the_file_that_cannot_be_right_is_dropped_and_others_are_believed_until_unlearnt() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("paths.json");
        let lines = serde_json::json!({
            "a::Thing": "glassbox_prelude::a::Thing",
            "b::Thing": "glassbox_prelude::Other",
            "c::Thing": "c::Thing",
            "d::Thing": "std::Thing>(); panic!(); x::<u8::Thing",
            "alloc::vec::Vec": "std::nowhere::Vec",
        });
        fs::write(&file, lines.to_string()).unwrap();
        let mut names = Names::open(file.clone());
        for dropped in ["b::Thing", "c::Thing", "d::Thing"] {
            assert_eq!(names.resolve(dropped), Type::Unknown, "{dropped}");
        }
        let of = "alloc::vec::Vec<a::Thing>";
        assert!(names.is_unproven(of) && !names.is_unproven("alloc::vec::Vec<u8>"));
        assert_eq!(
            code(names.resolve(of)).as_deref(),
            Some("::std::vec::Vec<::glassbox_prelude::a::Thing>")
        );
        names.unlearn_unproven(of);
        assert_eq!(names.resolve(of), Type::Unknown);
        assert!(names.learn(of, "std::vec::Vec<std::a::Thing>") && !names.is_unproven(of));
        names.unlearn(of);
        assert!(matches!(
            names.resolve("alloc::vec::Vec<u8>"),
            Type::Named(_)
        ));
        names.save();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
        fs::remove_file(&file).unwrap();
        crate::session::pipes::open_pipe(&file).unwrap();
        Names::open(file);
    }

    #[test]
    fn the_listing_says_with_what_types_variables_are_stored() {
        let folder = tempfile::tempdir().unwrap();
        let listing = folder.path().join("ctx.mir");
        fs::write(
            &listing,
            "fn other() -> () {\n    let mut _9: u8;\n}\nfn run_user_code_1::{closure#0}() -> () {\n    let mut _8: &str;\n    scope 1 {\n        let mut _9: std::vec::Vec<a::Thing>;\n    }\n    bb2: {\n        _8 = const \"words\";\n        _7 = put::<Vec<Thing>>(move _8, move _9) -> [return: bb3, unwind: bb4];\n        _6 = const \"f\";\n        _5 = put::<fn(i32) -> i32 {f}>(move _6, f) -> [return: bb3, unwind: bb4];\n",
        )
        .unwrap();
        let types = listed_types(&listing);
        assert_eq!(
            types.get("words").map(String::as_str),
            Some("std::vec::Vec<a::Thing>")
        );
        assert_eq!(
            types.get("f").map(String::as_str),
            Some("fn(i32) -> i32 {f}")
        );
    }

    #[test]
    fn a_type_is_shown_without_modules() {
        assert_eq!(
            shortened(
                "::std::vec::Vec<(::std::string::String, dyn ::std::ops::Fn(u8) -> u8, crate::P)>"
            ),
            "Vec<(String, dyn Fn(u8) -> u8, P)>"
        );
        assert_eq!(
            own_types("::std::vec::Vec<crate::m::P>").collect::<Vec<_>>(),
            ["m", "P"]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_lost_or_brings_it_down(text in "\\PC{0,40}") {
            let joined: String = parts(&text)
                .map(|part| match part { Part::Path(text) | Part::Other(text) => text.replace("::", "") })
                .collect();
            proptest::prop_assert_eq!(joined, text.replace("::", ""));
        }
    }
}
