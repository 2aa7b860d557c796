//! From a place in the generated source back to the cell.

use crate::session::engine::without_additions;
use crate::session::syntax;

/// A place in a cell: line and column from 1, columns in characters, as rustc counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub line: usize,
    pub column: usize,
}

/// Where the statements of a cell stand in the generated source.
#[derive(Debug, Default)]
pub(crate) struct SourceMap {
    pieces: Vec<Piece>,
    /// What the engine added to the user's lines: line, column, and how many characters.
    added: Vec<(usize, usize, usize)>,
}

#[derive(Debug)]
struct Piece {
    /// First line in the generated source.
    generated_line: usize,
    lines: usize,
    /// Where the piece begins in the cell.
    cell: Place,
}

impl SourceMap {
    /// Each statement of a cell stands on lines of its own, unchanged, so it is found by its text.
    pub(crate) fn new(cell: &str, generated: &str) -> SourceMap {
        let rust = syntax::skip_commands(cell);
        let (generated, added) = without_additions(generated);
        let generated = generated.as_str();
        let mut start = cell.len() - rust.len();
        let mut searched = 0;
        let mut pieces = Vec::new();
        for statement in syntax::statements(rust) {
            let line = if statement.code.ends_with('\n') {
                statement.code.to_owned()
            } else {
                format!("{}\n", statement.code)
            };
            // Statements keep their order; items stand before all statements, in any order.
            let found =
                find_lines(generated, &line, searched).or_else(|| find_lines(generated, &line, 0));
            if let Some(at) = found {
                searched = searched.max(at + line.len());
                pieces.push(Piece {
                    generated_line: newlines(&generated[..at]) + 1,
                    lines: newlines(&line),
                    cell: place_of(cell, start),
                });
            }
            start += statement.code.len();
        }
        SourceMap { pieces, added }
    }

    /// The place in the cell, if the generated one came from it.
    pub(crate) fn to_cell(&self, generated: Place) -> Option<Place> {
        let piece = self.pieces.iter().find(|piece| {
            (piece.generated_line..piece.generated_line + piece.lines).contains(&generated.line)
        })?;
        let before = self
            .added
            .iter()
            .filter(|(line, column, _)| *line == generated.line && *column < generated.column);
        let column = before
            .map(|(_, column, length)| (generated.column - column).min(*length))
            .fold(generated.column, |left, added| left - added);
        let offset = generated.line - piece.generated_line;
        let shift = if offset == 0 {
            piece.cell.column - 1
        } else {
            0
        };
        Some(Place {
            line: piece.cell.line + offset,
            column: column + shift,
        })
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

/// Where `lines` begin at the beginning of a line of `text`, at `from` or later.
fn find_lines(text: &str, lines: &str, from: usize) -> Option<usize> {
    let mut from = from;
    while let Some(at) = text.get(from..)?.find(lines).map(|at| at + from) {
        if at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n') {
            return Some(at);
        }
        from = at + 1;
        while !text.is_char_boundary(from) {
            from += 1;
        }
    }
    None
}

pub(crate) fn place_of(cell: &str, byte: usize) -> Place {
    let before = &cell[..byte];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place {
        line: newlines(before) + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// The byte offset of a place, which may lie one past the end of its line.
pub(crate) fn byte_of(cell: &str, place: Place) -> Option<usize> {
    let mut start = 0;
    let mut lines = cell.split_inclusive('\n');
    for _ in 1..place.line {
        start += lines.next()?.len();
    }
    let line = lines.next().unwrap_or_default();
    let column = place.column.checked_sub(1)?;
    let within = line
        .char_indices()
        .nth(column)
        .map_or(line.trim_end_matches('\n').len(), |(at, _)| at);
    Some(start + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_found_again_and_generated_code_is_not() {
        let cell = "let é = 1; let b = é\n    + 2;\nfn g() {\n    panic!()\n}\nb";
        let generated = "#![allow(x)]\nfn g() {\n    panic!()\n}\nmod runtime {}\nlet é = 1; \nlet b = é\n    + 2;\n(\nb\n).show();\n";
        let map = SourceMap::new(cell, generated);
        let to_cell = |line, column| {
            map.to_cell(Place { line, column })
                .map(|place| (place.line, place.column))
        };
        assert_eq!(to_cell(3, 5), Some((4, 5)));
        assert_eq!(to_cell(6, 5), Some((1, 5)));
        assert_eq!(to_cell(7, 5), Some((1, 16)));
        assert_eq!(to_cell(8, 7), Some((2, 7)));
        assert_eq!(to_cell(10, 1), Some((6, 1)));
        assert_eq!(to_cell(5, 1), None);
        assert_eq!(to_cell(11, 3), None);
    }

    #[test]
    fn what_is_added_to_a_line_moves_nothing() {
        let cell = "fn g() { static N: u8 = 1; panic!() }\n";
        let generated = "fn g() { /*{glassbox*/#[a] /*glassbox}*/static N: u8 = 1; panic!() }\n";
        let map = SourceMap::new(cell, generated);
        let column = |text: &str| {
            let at = generated.find(text).map_or(0, |at| at + 1);
            let place = map.to_cell(Place {
                line: 1,
                column: at,
            });
            place.map(|place| place.column)
        };
        assert_eq!(column("fn"), Some(1));
        assert_eq!(column("#[a]"), Some(10));
        assert_eq!(column("static"), Some(10));
        assert_eq!(column("panic"), cell.find("panic").map(|at| at + 1));
    }

    #[test]
    fn equal_statements_keep_their_order() {
        let cell = "let mut a = 0;\na += 1;\na += 1;\n";
        let map = SourceMap::new(cell, "x\nlet mut a = 0;\na += 1;\na += 1;\ny\n");
        assert_eq!(
            map.to_cell(Place { line: 4, column: 1 })
                .map(|place| place.line),
            Some(3)
        );
    }

    #[test]
    fn offsets_count_bytes_where_places_count_characters() {
        assert_eq!(byte_of("aé\nb€c", Place { line: 2, column: 3 }), Some(8));
        assert_eq!(byte_of("aé\nb€c", Place { line: 1, column: 9 }), Some(3));
        assert_eq!(byte_of("a", Place { line: 3, column: 1 }), None);
    }
}
