//! The places in functions of cells that an error passed on its way to the cell: from outside to where it came from.
//!
//! ```text
//! noted by the process, innermost first ─▶ those that the cell's `?` can have come by ─▶ one snippet each, below the cell's own line
//! ```
//! A place counts if what stands further out calls the function that it is in, as far as the text shows: what was noted for an error that
//! somebody handled does not.

use annotate_snippets::{AnnotationKind, Group, Level, Snippet};
use glassbox_wire::Passed;
use ra_ap_syntax::SyntaxNode;
use ra_ap_syntax::ast::{self, AstNode};

use super::source_map::{Place, byte_of, place_of};
use super::{CELL, CellSource, renderer};
use crate::session::engine::trail::{called_at, noted};
use crate::session::engine::without_additions;
use crate::session::nesting;

/// So many places are shown; of more, those in the middle are left out.
const SHOWN: usize = 6;

/// The code that a place is in.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    /// The cell.
    pub cell: String,
    /// What was compiled.
    pub generated: String,
}

/// What is said of the places. `at`: where the cell's own `?` stands in `generated`. `code_of`: what a library was compiled from.
pub(super) fn lines(
    source: &CellSource<'_>,
    generated: &str,
    at: Option<(usize, usize)>,
    passed: &[Passed],
    code_of: &dyn Fn(&str) -> Option<Code>,
) -> Vec<String> {
    let Some(at) = at.and_then(|(line, column)| byte_of(generated, Place { line, column })) else {
        return Vec::new();
    };
    if passed.is_empty() {
        return Vec::new();
    }
    let mut called = called_at(&parse(generated), at);
    let mut snippets = Vec::new();
    for place in passed.iter().rev() {
        let Some(names) = called.take() else { break };
        let Some(code) = code_of(&place.library) else {
            break;
        };
        let other = CellSource::new(&code.cell, &code.generated);
        let here = match code.generated == generated {
            true => (source, CELL),
            false => (&other, EARLIER),
        };
        let at = Place {
            line: place.line as usize,
            column: place.column as usize,
        };
        let tree = parse(&code.generated);
        let found = byte_of(&code.generated, at).and_then(|at| noted(&tree, at));
        let Some(found) = found else { break };
        let calls = |name: &String| names.contains(name) || names.iter().any(|name| name == ANY);
        let reached = match &found.function {
            Some(name) => calls(name),
            // A closure without a name stands among the arguments.
            None => true,
        };
        if !reached {
            break;
        }
        snippets.push(snippet(
            here,
            &code.generated,
            &tree,
            &found.range,
            found.function.as_deref(),
        ));
        called = (!found.called.is_empty()).then(|| {
            let mut called = found.called;
            if found.given.iter().any(|name| called.contains(name)) {
                // Whatever function it was given may be behind that.
                called.push(ANY.to_owned());
            }
            called
        });
    }
    let left_out = snippets.len().saturating_sub(SHOWN);
    if left_out > 0 {
        let note = format!("… {left_out} more places in between");
        snippets.splice(SHOWN / 2..SHOWN / 2 + left_out, [vec![note]]);
    }
    snippets.concat()
}

/// What a cell that ran before is called.
const EARLIER: &str = "an earlier cell";
/// Any function may be meant.
const ANY: &str = "?";

fn parse(generated: &str) -> SyntaxNode {
    nesting::parse(generated).syntax_node()
}

/// A place on the line of the cell, or of the function of an earlier cell.
fn snippet(
    (source, path): (&CellSource<'_>, &'static str),
    generated: &str,
    tree: &SyntaxNode,
    range: &std::ops::Range<usize>,
    function: Option<&str>,
) -> Vec<String> {
    let name = function.map_or("a closure".to_owned(), |name| format!("`{name}`"));
    let place = |at: usize| source.map.to_cell(place_of(generated, at));
    let ends = place(range.start).zip(place(range.end));
    let in_cell = ends.and_then(|(start, end)| source.bytes(start, end));
    let (code, path, range) = match in_cell {
        Some(range) => (source.code.to_owned(), path, range),
        None => {
            let clean = |at: usize| without_additions(&generated[..at]).0.len();
            let whole = clean(generated.len());
            let around = tree
                .descendants()
                .filter(|node| node.text_range().contains_range(text_range(range)))
                .filter(|node| ast::Item::can_cast(node.kind()))
                .map(|node| node.text_range())
                .next();
            let around = around.map_or(0..whole, |around| {
                clean(around.start().into())..clean(around.end().into())
            });
            let text = without_additions(generated).0;
            let code = text.get(around.clone()).unwrap_or_default().to_owned();
            let range = clean(range.start) - around.start..clean(range.end) - around.start;
            (code, EARLIER, range)
        }
    };
    let range = first_line(&code, range);
    let title = format!("it came out of {name}, from here");
    let annotation = AnnotationKind::Primary.span(range);
    let snippet = Snippet::source(code.as_str())
        .path(path)
        .annotation(annotation);
    let group = Group::with_title(Level::NOTE.secondary_title(title.as_str())).element(snippet);
    let text = renderer().render(&[group]).to_string();
    text.lines().map(str::to_owned).collect()
}

fn text_range(range: &std::ops::Range<usize>) -> ra_ap_syntax::TextRange {
    let size = |at: usize| ra_ap_syntax::TextSize::try_from(at).unwrap_or_default();
    ra_ap_syntax::TextRange::new(size(range.start), size(range.end))
}

/// The part of a range that lies on its first line.
fn first_line(code: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let text = code.get(range.clone()).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default().trim_end();
    range.start..range.start + line.len()
}
