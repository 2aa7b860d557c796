//! The tokens of a cell, of a piece of one or of an item.
//!
//! ```text
//! code ─ a semicolon before it ─▶ rust-analyzer's lexer ─▶ kinds and places in the code, without the semicolon
//! ```
//! That lexer reads files: what begins with `#!` is a shebang to it, what begins with `---` a script's front matter, as one token, and it
//! panics at some of the latter (`---`, a new line, `-é`). Cells have neither: `---5` is a number.

use std::ops::Range;

use ra_ap_parser::{LexedStr, SyntaxKind};
use ra_ap_syntax::Edition;

/// What stands before the code when it is read, so that nothing in it begins a file.
const BEFORE: &str = ";";

/// Tokens, blanks and comments among them, in order and without gaps.
pub(crate) struct Tokens<'a> {
    code: &'a str,
    kinds: Vec<SyntaxKind>,
    /// Where each begins in the code, in bytes, and where the last one ends.
    starts: Vec<usize>,
    /// What is wrong with tokens, by their index, in order.
    errors: Vec<(usize, String)>,
}

impl<'a> Tokens<'a> {
    /// Reads them.
    pub(crate) fn new(code: &'a str) -> Tokens<'a> {
        let text = format!("{BEFORE}{code}");
        let lexed = LexedStr::new(Edition::Edition2024, &text);
        let tokens = 1..lexed.len();
        Tokens {
            code,
            kinds: tokens.clone().map(|index| lexed.kind(index)).collect(),
            starts: (1..=lexed.len())
                .map(|index| lexed.text_start(index) - BEFORE.len())
                .collect(),
            errors: tokens
                .filter_map(|index| Some((index - 1, lexed.error(index)?.to_owned())))
                .collect(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// What the token is.
    pub(crate) fn kind(&self, index: usize) -> SyntaxKind {
        self.kinds[index]
    }

    /// Where it stands in the code, in bytes.
    pub(crate) fn range(&self, index: usize) -> Range<usize> {
        self.starts[index]..self.starts[index + 1]
    }

    /// Its text.
    pub(crate) fn text(&self, index: usize) -> &'a str {
        &self.code[self.range(index)]
    }

    /// What is wrong with it.
    pub(crate) fn error(&self, index: usize) -> Option<&str> {
        let found = self.errors.binary_search_by_key(&index, |(at, _)| *at);
        Some(self.errors[found.ok()?].1.as_str())
    }
}

#[cfg(test)]
mod tests {
    use ra_ap_parser::T;

    use super::*;

    fn texts(code: &str) -> Vec<&str> {
        let tokens = Tokens::new(code);
        (0..tokens.len()).map(|index| tokens.text(index)).collect()
    }

    #[test]
    fn a_cell_has_neither_shebang_nor_front_matter() {
        assert_eq!(texts("---5"), ["-", "-", "-", "5"]);
        assert_eq!(texts("---\n-é"), ["-", "-", "-", "\n", "-", "é"]);
        assert_eq!(
            texts("---\n(\n---\n"),
            ["-", "-", "-", "\n", "(", "\n", "-", "-", "-", "\n"]
        );
        assert_eq!(texts("#!a("), ["#", "!", "a", "("]);
        assert!(texts("").is_empty());
    }

    #[test]
    fn places_are_those_in_the_code() {
        let code = "let é = 'x";
        let tokens = Tokens::new(code);
        let last = tokens.len() - 1;
        assert_eq!(
            (tokens.kind(0), tokens.range(0), tokens.text(2)),
            (T![let], 0..3, "é")
        );
        assert_eq!(tokens.range(last).end, code.len());
        assert!(tokens.error(0).is_none());
        assert!(Tokens::new("\"x").error(0).is_some());
    }
}
