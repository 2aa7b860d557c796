//! Reports of failed cells: rustc's messages, panics and errors, shown on the cell's own lines.
//!
//! # Layout
//! - [`last_words`]: why a process ended
//! - [`panics`]: what panics had to do with the end
//! - [`source_map`]: from the generated source back to the cell
//! - [`trail`]: the places in functions that an error passed

pub(crate) mod last_words;
pub(crate) mod panics;
pub(crate) mod source_map;
pub(crate) mod trail;

use std::collections::BTreeSet;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Patch, Renderer, Snippet};
use glassbox_wire::Passed;
use serde_json::Value;

use crate::session::outcome::{CellError, CellErrorKind, StateKept};
use crate::session::pipes::frames::PanicReport;
use crate::session::syntax;
use panics::Fatal;
use source_map::{Place, SourceMap, byte_of};

/// What the cell is called in reports.
pub(crate) const CELL: &str = "cell";
/// The file that generated sources are compiled from, as rustc names it.
pub(crate) const GENERATED: &str = "glassbox/lib.rs";
/// So many errors of one cell are shown in full.
const SHOWN: usize = 5;
/// How wide reports may be.
const WIDTH: usize = 110;

/// Where traits are that everybody knows: of the standard library, of the prelude, of the session.
const OWN_MODULES: [&str; 11] = [
    "alloc", "core", "crate", "data", "display", "evaluate", "nn", "prelude", "std", "train",
    "vision",
];
/// Traits of the standard library that people implement, by the names that rustc writes without a path.
const STANDARD_TRAITS: [&str; 24] = [
    "Add",
    "AsMut",
    "AsRef",
    "Borrow",
    "BufRead",
    "BuildHasher",
    "DoubleEndedIterator",
    "Drop",
    "ExactSizeIterator",
    "Extend",
    "FromIterator",
    "FromStr",
    "Hasher",
    "IntoIterator",
    "Iterator",
    "Mul",
    "Neg",
    "Not",
    "Ord",
    "PartialOrd",
    "Seek",
    "Sub",
    "ToOwned",
    "ToString",
];

/// An error of the compiler.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diagnostic {
    /// rustc's JSON.
    pub json: Value,
    pub message: String,
    code: Option<String>,
    /// What the session knows about it.
    pub notes: Vec<String>,
    /// The session knows better than rustc what to do.
    pub without_help: bool,
}

impl Diagnostic {
    /// From one line of rustc's JSON.
    pub(crate) fn from_json(json: Value) -> Diagnostic {
        Diagnostic {
            message: json["message"].as_str().unwrap_or_default().to_owned(),
            code: json["code"]["code"].as_str().map(str::to_owned),
            json,
            notes: Vec::new(),
            without_help: false,
        }
    }

    /// The error's code, such as `E0308`.
    pub(crate) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The name of the value that is not to be found, or not to be reached, where it stands.
    pub(crate) fn missed_name(&self) -> Option<String> {
        match self.code()? {
            // cannot find value `x` in this scope
            "E0425" if self.message.starts_with("cannot find value") => {
                self.message.split('`').nth(1).map(str::to_owned)
            }
            // can't capture dynamic environment (local variable) in a fn item
            "E0434" => {
                let text = &self.json["spans"][0]["text"][0];
                let place = |key: &str| usize::try_from(text[key].as_u64()?.checked_sub(1)?).ok();
                let (start, end) = (place("highlight_start")?, place("highlight_end")?);
                let line = text["text"].as_str()?.chars();
                Some(line.skip(start).take(end.checked_sub(start)?).collect())
            }
            _ => None,
        }
    }

    /// The lines of the generated source that it and its notes point to besides the one that it is about.
    pub(crate) fn other_lines(&self) -> impl Iterator<Item = usize> {
        let spans = |message: &'_ Value| message["spans"].as_array().cloned().unwrap_or_default();
        let own = spans(&self.json).into_iter();
        let own = own.filter(|span| span["is_primary"].as_bool() != Some(true));
        let children = self.json["children"].as_array().into_iter().flatten();
        let noted = children
            .filter(|child| child["level"] == "note")
            .flat_map(spans);
        own.chain(noted)
            .filter(|span| span["file_name"].as_str() == Some(GENERATED))
            .filter_map(|span| span["line_start"].as_u64()?.try_into().ok())
    }

    /// The lines of the generated source that it and its notes point to, and whether it is about them; what a macro made lies
    /// where the macro is called.
    pub(crate) fn places(&self) -> Vec<(usize, bool)> {
        let notes = self.json["children"].as_array().into_iter().flatten();
        let notes = notes.filter(|child| child["level"] == "note");
        let spans = |message: &Value, own: bool| {
            let spans = message["spans"].as_array().into_iter().flatten();
            let lines = spans.filter_map(|span| {
                let primary = own && span["is_primary"].as_bool() == Some(true);
                Some((outermost_line(span)?, primary))
            });
            lines.collect::<Vec<_>>()
        };
        let mut found = spans(&self.json, true);
        found.extend(notes.flat_map(|note| spans(note, false)));
        found
    }

    /// Whether it is about one use of something generic, wherever it lies.
    pub(crate) fn of_instance(&self) -> bool {
        let spans = self.json["spans"].as_array().into_iter().flatten();
        let mut labels = spans.filter_map(|span| span["label"].as_str());
        self.message.contains("instantiating")
            || labels.any(|label| label.starts_with("evaluation of") && label.contains("::<"))
    }

    /// The words of its message and of the places that it is about.
    pub(crate) fn words(&self) -> BTreeSet<String> {
        let spans = self.json["spans"].as_array().into_iter().flatten();
        let lines = spans.flat_map(|span| span["text"].as_array().into_iter().flatten());
        let lines = lines.filter_map(|line| line["text"].as_str());
        let texts = lines.chain([self.message.as_str()]);
        texts.flat_map(words).map(str::to_owned).collect()
    }

    /// Takes out of what rustc proposes the traits of crates that the source never names: it has read all crates below the prelude.
    pub(crate) fn without_strangers(&mut self, source: &str) {
        let words: BTreeSet<&str> = words(source).collect();
        let Some(children) = self.json["children"].as_array_mut() else {
            return;
        };
        let mut none_left = false;
        for child in children.iter_mut() {
            let text = child["message"].as_str().unwrap_or_default();
            let Some((head, list)) = text.split_once(":\ncandidate #1: ") else {
                continue;
            };
            if !head.contains("perhaps you need to implement") {
                continue;
            }
            let candidates = list.lines().map(|line| {
                let trait_ = line.rsplit(": ").next().unwrap_or(line);
                trait_.trim_matches('`')
            });
            let known: Vec<&str> = candidates.filter(|path| names(&words, path)).collect();
            none_left |= known.is_empty();
            child["message"] = match known.as_slice() {
                [] => Value::Null,
                [one] => {
                    let item = head.rsplit('`').nth(1).unwrap_or_default();
                    format!("`{one}` defines an item `{item}`, perhaps you need to implement it")
                        .into()
                }
                some => {
                    let lines = some.iter().enumerate();
                    let lines =
                        lines.map(|(at, path)| format!("\ncandidate #{}: `{path}`", at + 1));
                    format!("{head}:{}", lines.collect::<String>()).into()
                }
            };
        }
        if none_left {
            children.retain(|child| {
                let text = child["message"].as_str().unwrap_or_default();
                !text.is_empty() && !text.starts_with("items from traits can only be used if")
            });
        }
    }

    /// The line of the generated source that it is about.
    pub(crate) fn primary_line(&self) -> Option<usize> {
        let mut spans = self.json["spans"].as_array()?.iter();
        let primary = spans.find(|span| span["is_primary"].as_bool() == Some(true))?;
        if primary["file_name"].as_str() != Some(GENERATED) {
            return None;
        }
        primary["line_start"].as_u64()?.try_into().ok()
    }
}

/// The identifiers in a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
}

/// Whether a source with these words names a trait, or the crate that it is of. rustc writes no path where the name alone is clear.
fn names(words: &BTreeSet<&str>, path: &str) -> bool {
    let path = path.strip_prefix("glassbox_prelude::").unwrap_or(path);
    match path.split_once("::") {
        // The crates that the prelude hands on are not its own.
        Some((first, _)) => OWN_MODULES.contains(&first) || words.contains(first),
        None => words.contains(path) || STANDARD_TRAITS.contains(&path),
    }
}

/// The line of the generated source on which a span begins, or on which the macro is called that it comes from.
fn outermost_line(span: &Value) -> Option<usize> {
    match &span["expansion"]["span"] {
        Value::Null if span["file_name"].as_str() == Some(GENERATED) => {
            span["line_start"].as_u64()?.try_into().ok()
        }
        Value::Null => None,
        caller => outermost_line(caller),
    }
}

/// The cell and how its generated source maps back to it.
pub(crate) struct CellSource<'a> {
    pub code: &'a str,
    pub map: SourceMap,
}

impl<'a> CellSource<'a> {
    pub(crate) fn new(code: &'a str, generated: &str) -> CellSource<'a> {
        CellSource {
            code,
            map: SourceMap::new(code, generated),
        }
    }

    fn bytes(&self, start: Place, end: Place) -> Option<Range<usize>> {
        let start = byte_of(self.code, start)?;
        let end = byte_of(self.code, end)?;
        (start <= end && end <= self.code.len()).then_some(start..end)
    }

    /// The bytes of the cell that a span of rustc's JSON means; macros are followed to where the cell calls them.
    fn span(&self, span: &Value) -> Option<Range<usize>> {
        let number = |key: &str| span[key].as_u64().and_then(|n| usize::try_from(n).ok());
        let direct = || {
            if !span["file_name"].as_str()?.ends_with("lib.rs") {
                return None;
            }
            let start = self.map.to_cell(Place {
                line: number("line_start")?,
                column: number("column_start")?,
            })?;
            let end = self.map.to_cell(Place {
                line: number("line_end")?,
                column: number("column_end")?,
            })?;
            self.bytes(start, end)
        };
        direct().or_else(|| match &span["expansion"]["span"] {
            Value::Null => None,
            caller => self.span(caller),
        })
    }
}

/// The report of a cell that did not compile.
pub(crate) fn compile_errors(source: &CellSource<'_>, errors: &[Diagnostic]) -> CellError {
    if let Some(at) = syntax::lone_attribute(source.code) {
        let message =
            "nothing follows this attribute; write what it is for below it, in the same cell";
        return unfinished(source, at, message);
    }
    if !errors
        .iter()
        .any(|error| !labelled_spans(source, error).is_empty())
        && let Some((at, message)) =
            syntax::unbalanced(source.code).or_else(|| syntax::first_error(source.code))
    {
        return unfinished(source, at, &message);
    }
    let errors = main_errors(errors);
    let mut reports: Vec<String> = Vec::new();
    let mut hidden = 0;
    for error in &errors {
        let report = compile_error(source, error);
        if reports.contains(&report) {
            continue;
        }
        if reports.len() == SHOWN {
            hidden += 1;
        } else {
            reports.push(report);
        }
    }
    let first = errors.first();
    let ename = first
        .and_then(|&error| error.code())
        .unwrap_or("CompileError")
        .to_owned();
    let evalue = first.map(|error| error.message.clone()).unwrap_or_default();
    let mut traceback: Vec<String> = Vec::new();
    for report in &reports {
        traceback.extend(report.lines().map(str::to_owned));
        traceback.push(String::new());
    }
    if hidden > 0 {
        traceback.push(format!("… and {hidden} more errors"));
    }
    CellError {
        kind: CellErrorKind::Compile,
        ename,
        evalue,
        traceback,
        state: StateKept::default(),
    }
}

/// The errors worth a report of their own: neither notes, nor a name that is missed again.
fn main_errors(errors: &[Diagnostic]) -> Vec<&Diagnostic> {
    let note = |error: &Diagnostic| {
        matches!(
            error.json["level"].as_str(),
            Some("help" | "note" | "failure-note")
        )
    };
    let only_notes = errors.iter().all(note);
    let mut missed: Vec<String> = Vec::new();
    errors
        .iter()
        .filter(|error| only_notes || !note(error))
        .filter(|error| {
            let again = missed.contains(&error.message);
            if error.message.starts_with("cannot find ") {
                missed.push(error.message.clone());
            }
            !again
        })
        .collect()
}

/// The report of a cell whose syntax is wrong in such a way that rustc finds the fault in the code around it.
fn unfinished(source: &CellSource<'_>, at: usize, message: &str) -> CellError {
    // The end of the cell is best shown at its last character.
    let end = source.code.trim_end().len();
    let last = source.code[..end]
        .char_indices()
        .next_back()
        .map_or(0, |(at, _)| at);
    let start = at.min(last);
    let length = source.code[start..]
        .chars()
        .next()
        .map_or(0, char::len_utf8);
    let annotation = AnnotationKind::Primary.span(start..start + length);
    let snippet = Snippet::source(source.code)
        .path(CELL)
        .annotation(annotation);
    let group = Group::with_title(Level::ERROR.primary_title(message)).element(snippet);
    let report = renderer().render(&[group]).to_string();
    CellError {
        kind: CellErrorKind::Compile,
        ename: "SyntaxError".to_owned(),
        evalue: message.to_owned(),
        traceback: report.lines().map(str::to_owned).collect(),
        state: StateKept::default(),
    }
}

fn compile_error(source: &CellSource<'_>, error: &Diagnostic) -> String {
    let message = message_of(error);
    let spans = labelled_spans(source, error);
    let mut title = Level::ERROR.primary_title(message.as_str());
    if let Some(code) = error.code() {
        title = title.id(code);
    }
    let mut main = Group::with_title(title);
    let mut notes: Vec<String> = Vec::new();
    if spans.is_empty() {
        notes.extend(places_elsewhere(&error.json));
    } else {
        let mut snippet = Snippet::source(source.code).path(CELL);
        for (range, label, primary) in &spans {
            let kind = if *primary {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            let mut annotation = kind.span(range.clone());
            if !label.is_empty() {
                annotation = annotation.label(label.as_str());
            }
            snippet = snippet.annotation(annotation);
        }
        main = main.element(snippet);
    }
    let children = error.json["children"]
        .as_array()
        .filter(|_| !error.without_help);
    let mut suggestions: Vec<(String, Vec<Replacement>)> = Vec::new();
    for child in children.into_iter().flatten() {
        let Some(text) = note_text(child) else {
            continue;
        };
        if text.starts_with("you might be missing a crate") {
            // Said below, with how it is added.
            continue;
        }
        let patches = patches(source, child);
        if patches.is_empty() {
            // What would stand outside of the cell, such as an import, is said in words.
            let elsewhere = child["spans"].as_array().into_iter().flatten();
            let elsewhere: Vec<String> = elsewhere
                .filter_map(|span| Some(span["suggested_replacement"].as_str()?.trim().to_owned()))
                .filter(|replacement| !replacement.is_empty() && replacement != "mut")
                .map(|replacement| format!("`{replacement}`"))
                .collect();
            notes.push(match elsewhere.as_slice() {
                [] if text.starts_with("consider changing this to be mutable") => continue,
                [] => text,
                some => format!("{text}: {}", some.join(" or ")),
            });
        } else {
            suggestions.push((text, patches));
        }
    }
    notes.extend(error.notes.iter().cloned());
    notes.extend(missing_crate(error).map(|name| match &*name {
        // Its types must be those of the candle in the prelude, and building it takes long.
        "candle_transformers" => "the prelude has `candle_transformers` in sessions that were started with `--features \
                                  candle-transformers` (for Jupyter: `glassbox install --features candle-transformers`)"
            .to_owned(),
        name => format!(
            "if `{name}` is a crate, add it first, at the top of this or an earlier cell: `:dep {name}`"
        ),
    }));
    notes.extend(advice(error, !suggestions.is_empty()));
    let mut elements: Vec<Element<'_>> = Vec::new();
    elements.extend(
        notes
            .iter()
            .map(|note| Level::NOTE.message(note.as_str()).into()),
    );
    main = main.elements(elements);
    let mut groups = vec![main];
    for (text, patches) in &suggestions {
        let mut snippet = Snippet::source(source.code).path(CELL);
        for (range, replacement) in patches {
            snippet = snippet.patch(Patch::new(range.clone(), replacement.as_str()));
        }
        groups.push(Group::with_title(Level::HELP.secondary_title(text.as_str())).element(snippet));
    }
    let mut report = renderer().render(&groups).to_string();
    if let Some(code) = error.code() {
        // A plain address: front ends make links of these, and not all know the escape sequence for links.
        report += &format!(
            "\n\u{1b}[2mmore about it: https://doc.rust-lang.org/error_codes/{code}.html\u{1b}[0m"
        );
    }
    report
}

/// The message, without what cargo says when all goes well.
fn message_of(error: &Diagnostic) -> String {
    let message = &error.message;
    let lines = message
        .lines()
        .filter(|line| !line.trim_start().starts_with("Updating "));
    let kept = lines.collect::<Vec<_>>().join("\n");
    kept.strip_prefix("error: ")
        .map_or(kept.clone(), str::to_owned)
}

pub(crate) fn renderer() -> Renderer {
    Renderer::styled().term_width(WIDTH)
}

/// Bytes of the cell, what is said of them, and whether they are the main place.
type Labelled = (Range<usize>, String, bool);
/// Bytes of the cell and what rustc would put there.
type Replacement = (Range<usize>, String);

/// The places in the cell that an error points to.
fn labelled_spans(source: &CellSource<'_>, error: &Diagnostic) -> Vec<Labelled> {
    let spans = error.json["spans"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|span| {
            let label = span["label"].as_str().unwrap_or_default().to_owned();
            Some((
                source.span(span)?,
                label,
                span["is_primary"].as_bool().unwrap_or(false),
            ))
        });
    spans.collect()
}

/// The lines of earlier cells, or of macros, that an error points to.
fn places_elsewhere(json: &Value) -> Vec<String> {
    let spans = json["spans"].as_array().into_iter().flatten();
    let texts = spans.filter_map(|span| span["text"][0]["text"].as_str());
    texts
        .map(|text| format!("in code that is not part of this cell: `{}`", text.trim()))
        .collect()
}

/// The replacements that rustc suggests, if all of them lie in the cell.
fn patches(source: &CellSource<'_>, child: &Value) -> Vec<Replacement> {
    let spans = child["spans"].as_array();
    let mut found = Vec::new();
    for span in spans.into_iter().flatten() {
        let (Some(range), Some(text)) = (source.span(span), span["suggested_replacement"].as_str())
        else {
            return Vec::new();
        };
        found.push((range, text.to_owned()));
    }
    found
}

/// The name that the compiler takes for that of a crate which is not there.
fn missing_crate(error: &Diagnostic) -> Option<String> {
    if !["E0432", "E0433", "E0463"].contains(&error.code()?) {
        return None;
    }
    let labels = error.json["spans"].as_array()?.iter();
    let mut said = labels
        .filter_map(|span| span["label"].as_str())
        .chain([error.message.as_str()]);
    said.find_map(|text| {
        let name = [
            "use of unresolved module or unlinked crate `",
            "no external crate `",
            "can't find crate for `",
        ]
        .iter()
        .find_map(|words| text.strip_prefix(words))?;
        Some(name.trim_end_matches('`').to_owned())
    })
}

/// Types that a note lists at the most.
const TYPES_LISTED: usize = 6;

/// What a note of rustc says. Some are lists of types, written out or as labels of places in other crates, where nobody sees them: the
/// list is written out without the types of crates that nobody named, and a note whose list is empty is dropped.
fn note_text(child: &Value) -> Option<String> {
    let text = child["message"].as_str().unwrap_or_default();
    if !text.starts_with("the following") || !text.contains("implement") {
        return Some(text.to_owned());
    }
    let (title, listed) = text.split_once('\n').unwrap_or((text, ""));
    let labels = child["spans"].as_array().into_iter().flatten();
    let labels = labels.filter_map(|span| span["label"].as_str());
    // `f32` implements `Mul<&f32>`
    let mut types: Vec<&str> = listed
        .lines()
        .chain(labels)
        .map(str::trim)
        .filter(|label| !label.is_empty() && is_of_known_crates(label))
        .collect();
    types.dedup();
    if types.is_empty() {
        return None;
    }
    let more = types.len().saturating_sub(TYPES_LISTED);
    types.truncate(TYPES_LISTED);
    let mut lines = vec![format!("{}:", title.trim_end_matches(':'))];
    lines.extend(types.iter().map(|line| format!("  {line}")));
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    Some(lines.join("\n"))
}

/// Crates whose types a user of a session may have met without asking for them.
const KNOWN_CRATES: [&str; 6] = [
    "std",
    "core",
    "alloc",
    "glassbox_prelude",
    "candle_core",
    "crate",
];

/// Whether a text names nothing of the crates that the known ones are made of.
fn is_of_known_crates(text: &str) -> bool {
    text.match_indices("::").all(|(at, _)| {
        let path = &text[..at];
        let before = path.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
        let root = &path[before.len()..];
        let first = !before.ends_with("::") && !root.is_empty();
        !first || root.starts_with(char::is_uppercase) || KNOWN_CRATES.contains(&root)
    })
}

/// What a notebook can do that a program can't, or the other way round. `mendable`: rustc's own proposal can be applied to the cell.
fn advice(error: &Diagnostic, mendable: bool) -> Option<String> {
    if let Some(advice) = read_only(error) {
        return Some(advice);
    }
    if let "E0384" | "E0594" | "E0596" = error.code()?
        && !mendable
    {
        // cannot assign to `pair.0`, as it is not declared as mutable
        let place = error.message.split('`').nth(1)?;
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let name = place.trim_start_matches(['*', '(', '&']);
        let name: String = name.chars().take_while(|c| word(*c)).collect();
        return Some(format!(
            "a variable of an earlier cell becomes mutable by `let mut {name} = {name};`"
        ));
    }
    let advice = match error.code()? {
        "E0373" => Some(
            "a closure can't be kept for later cells: make it a function, box it (`Box<dyn Fn(…) -> …>`) or put the code that needs it in `{ … }`",
        ),
        "E0597" => {
            Some("variables that a later cell may use cannot hold references, except to statics")
        }
        "E0277" | "E0308" | "E0369" | "E0599" | "E0600" | "E0608" | "E0609" | "E0614"
            if found_a_result(error) =>
        {
            Some(
                "it is a `Result`, which holds a value or an error: `?` behind the call that made it takes the value, as in `let x = f(…)?;`",
            )
        }
        _ => None,
    };
    advice.map(str::to_owned)
}

/// Settings with a method of their own that changes them.
const SETTERS: [(&str, &str); 4] = [
    ("adapters", "set_adapters(…)?"),
    ("query_text", "set_query(…)?"),
    ("stop_at_eos", "set_stop_at_eos(…)"),
    ("targets", "set_targets(…)"),
];

/// What to write instead of assigning to a setting that can only be read.
fn read_only(error: &Diagnostic) -> Option<String> {
    // cannot assign to data in dereference of `ReadOnly<VlmSettings>`
    let message = &error.message;
    if !["E0594", "E0596"].contains(&error.code()?) || !message.contains("of `ReadOnly<") {
        return None;
    }
    let span = error.json["spans"].as_array()?.iter();
    let mut primary = span.filter(|span| span["is_primary"].as_bool() == Some(true));
    let text = &primary.next()?["text"][0];
    let place = |key: &str| usize::try_from(text[key].as_u64()?.checked_sub(1)?).ok();
    let (start, end) = (place("highlight_start")?, place("highlight_end")?);
    let line = text["text"].as_str()?.chars();
    let said: String = line.skip(start).take(end.checked_sub(start)?).collect();
    let target = said.split('=').next().unwrap_or_default();
    let mut parts: Vec<&str> = target.split('.').map(str::trim).collect();
    if !message.contains("VlmSettings") {
        let owner = parts.first().copied().unwrap_or_default();
        return Some(format!(
            "`{}` can be read and not assigned: the layers were made by it. Make another model from a changed configuration, or see `?{owner}` for the methods that change this one",
            target.trim()
        ));
    }
    let field = parts.pop().unwrap_or_default();
    let field = field.split(['[', '(']).next().unwrap_or_default();
    parts.retain(|part| *part != "settings");
    let owner = if parts.is_empty() {
        "vlm".to_owned()
    } else {
        parts.join(".")
    };
    let how = match SETTERS.iter().find(|(setting, _)| *setting == field) {
        Some((_, setter)) => format!("`{owner}.{setter}`"),
        None => format!(
            "`{owner}.set_settings(VlmSettings {{ {field}: …, ..{owner}.settings.clone() }})?`"
        ),
    };
    Some(format!(
        "settings can be read and not assigned: they are changed with {how}, which acts on the model too"
    ))
}

/// Whether the value that does not fit is a `Result`.
fn found_a_result(error: &Diagnostic) -> bool {
    let labels = error.json["spans"].as_array().into_iter().flatten();
    let labels = labels.filter_map(|span| span["label"].as_str());
    labels.chain([error.message.as_str()]).any(|text| {
        let found = text.rsplit("found ").next().unwrap_or(text);
        let expected = text.contains("expected `Result") || text.contains("expected enum `Result");
        !expected && (found.contains("`Result<") || found.contains("`std::result::Result<"))
    })
}

/// The report of a panic.
pub(crate) fn panic(source: &CellSource<'_>, report: &PanicReport) -> CellError {
    CellError {
        kind: CellErrorKind::Panic,
        ename: "Panic".to_owned(),
        evalue: first_line(&report.message),
        traceback: panicked(source, report),
        state: StateKept::default(),
    }
}

/// The report of a cell that panicked after a thread of its own had: `threads` are the panics of which nothing was said yet.
pub(crate) fn panic_after_threads(
    source: &CellSource<'_>,
    report: &PanicReport,
    last: Option<&PanicReport>,
    threads: &[PanicReport],
) -> CellError {
    let mut threads = threads.to_vec();
    let mut before: Option<PanicReport> = None;
    for thread in &mut threads {
        // One thread may have waited for another.
        name_joined(thread, before.as_ref());
        before = Some(thread.clone());
    }
    let mut report = report.clone();
    name_joined(&mut report, before.as_ref().or(last));
    let mut error = panic(source, &report);
    for thread in &threads {
        error.traceback.extend(in_thread(source, thread));
    }
    error
}

/// Writes the message of the thread that was waited for where `join().unwrap()` can only say that there was one.
fn name_joined(report: &mut PanicReport, joined: Option<&PanicReport>) {
    if let Some(joined) = joined {
        let text = format!("{:?}", joined.message);
        report.message = report.message.replace("Any { .. }", &text);
    }
}

/// The report of a panic of a thread.
pub(crate) fn in_thread(source: &CellSource<'_>, report: &PanicReport) -> Vec<String> {
    let mut lines = vec![format!("thread `{}` panicked:", report.thread)];
    lines.extend(panicked(source, report));
    lines
}

/// The report of an abort that panics had to do with: what happened, and the place of each panic.
pub(crate) fn fatal(kind: CellErrorKind, source: &CellSource<'_>, fatal: &Fatal) -> CellError {
    let mut error = plain(kind, "Aborted", &fatal.sentence());
    for report in &fatal.panics {
        error.traceback.extend(panicked(source, report));
    }
    error
}

/// A panic on the cell's own line, and who called the code there.
fn panicked(source: &CellSource<'_>, report: &PanicReport) -> Vec<String> {
    let mut traceback = located(
        source,
        "panic",
        &report.message,
        &report.file,
        report.line,
        report.column,
    );
    let frames: Vec<String> = report
        .backtrace
        .iter()
        .take_while(|frame| !frame.starts_with(CALLER))
        .filter_map(|frame| user_frame(frame))
        .collect();
    // A panic in the cell itself was called from nowhere else.
    if frames.iter().any(|frame| frame != THE_CELL) {
        traceback.push("\u{1b}[2mcalled from (innermost first):\u{1b}[0m".to_owned());
        traceback.extend(
            frames
                .iter()
                .map(|frame| format!("\u{1b}[2m  {frame}\u{1b}[0m")),
        );
    }
    traceback
}

/// What the function around a cell is called in backtraces.
const THE_CELL: &str = "the cell";
/// The function that calls the cell's: what is further out is ours.
const CALLER: &str = "glassbox_prelude::cell::run";
/// A frame without a name. The standard library learns which libraries are loaded at the process's first backtrace: cells
/// that come later have no names in it.
const NAMELESS: &str = "<unknown>";

/// A frame as the user knows it; `None` for one of the standard library.
fn user_frame(frame: &str) -> Option<String> {
    if frame.contains("run_user_code") {
        return Some(THE_CELL.to_owned());
    }
    if frame == NAMELESS {
        return None;
    }
    let path = frame.trim_start_matches(['<', '&', '[', '(']);
    let standard = ["core::", "std::", "alloc::"];
    if standard.iter().any(|krate| path.starts_with(krate)) {
        return None;
    }
    Some(frame.strip_prefix("ctx::").unwrap_or(frame).to_owned())
}

/// Where an error came from: the generated source, the places that it passed, and what a library was compiled from.
pub(crate) type Trail<'a> = (
    &'a str,
    &'a [Passed],
    &'a dyn Fn(&str) -> Option<trail::Code>,
);

/// The report of a `?` that met an error.
pub(crate) fn failed(
    source: &CellSource<'_>,
    message: &str,
    chain: &[String],
    at: Option<(usize, usize)>,
    trail: Trail<'_>,
) -> CellError {
    let (line, column) = at.unwrap_or_default();
    let mut traceback = located(source, "error", message, "lib.rs", line, column);
    let mut before = message;
    for cause in chain {
        // Many errors repeat their source in their own message.
        if !before.ends_with(cause.as_str()) {
            traceback.push(format!("  caused by: {cause}"));
        }
        before = cause;
    }
    let (generated, passed, code_of) = trail;
    traceback.extend(trail::lines(source, generated, at, passed, code_of));
    CellError {
        kind: CellErrorKind::Error,
        ename: "Error".to_owned(),
        evalue: first_line(message),
        traceback,
        state: StateKept::default(),
    }
}

/// A message on the line where it arose, if that line is the cell's.
fn located(
    source: &CellSource<'_>,
    name: &'static str,
    message: &str,
    file: &str,
    line: usize,
    column: usize,
) -> Vec<String> {
    let level = Level::ERROR.with_name(name);
    let place = if file.ends_with("lib.rs") {
        source.map.to_cell(Place { line, column })
    } else {
        None
    };
    let range = place.and_then(|place| {
        let start = byte_of(source.code, place)?;
        let rest = source.code.get(start..)?;
        let end = start + rest.lines().next().unwrap_or_default().trim_end().len();
        Some(start..end.max(start))
    });
    let mut group = Group::with_title(level.primary_title(message));
    let elsewhere;
    match range {
        Some(range) => {
            let annotation = AnnotationKind::Primary.span(range);
            group = group.element(
                Snippet::source(source.code)
                    .path(CELL)
                    .annotation(annotation),
            );
        }
        None if line > 0 && !file.is_empty() => {
            elsewhere = if file.ends_with(GENERATED) {
                "in code of an earlier cell".to_owned()
            } else {
                format!("in {file}, line {line}")
            };
            group = group.element(Level::NOTE.message(elsewhere.as_str()));
        }
        None => {}
    }
    renderer()
        .render(&[group])
        .to_string()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// A report without a place.
pub(crate) fn plain(kind: CellErrorKind, ename: &str, evalue: &str) -> CellError {
    let mut traceback = vec![format!(
        "\u{1b}[1m\u{1b}[91m{ename}\u{1b}[0m\u{1b}[1m: {}\u{1b}[0m",
        first_line(evalue)
    )];
    traceback.extend(evalue.lines().skip(1).map(str::to_owned));
    CellError {
        kind,
        ename: ename.to_owned(),
        evalue: first_line(evalue),
        traceback,
        state: StateKept::default(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
