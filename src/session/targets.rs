//! What an inspection at a cursor is about: the name there, else the function in whose arguments the cursor stands.

use std::ops::Range;

use ra_ap_parser::{LexedStr, SyntaxKind, T};
use ra_ap_syntax::Edition;

/// Where what an inspection is about stands in the code, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The name that the cursor touches.
    pub name: Option<Range<usize>>,
    /// The name of the function in whose arguments the cursor stands.
    pub callee: Option<Range<usize>>,
}

/// What the cursor, an offset in bytes, is on.
pub(crate) fn subject(code: &str, cursor: usize) -> Subject {
    let tokens = Tokens::new(code);
    let callee = tokens.call_around(cursor);
    Subject {
        name: tokens.name_at(cursor).map(|name| tokens.range(name)),
        callee: callee.map(|(name, _)| tokens.range(name)),
    }
}

/// Ends of names in `code` to ask evcxr about, in bytes, best first. One that is called ends behind its opening
/// parenthesis: evcxr finds methods only so.
pub(crate) fn targets(code: &str, cursor: usize) -> Vec<usize> {
    let tokens = Tokens::new(code);
    let mut found = Vec::new();
    if let Some(name) = tokens.name_at(cursor) {
        if let Some(call) = tokens.call_after(name) {
            found.push(tokens.end(call));
        }
        found.push(tokens.end(name));
    }
    if let Some((name, parenthesis)) = tokens.call_around(cursor) {
        for end in [tokens.end(parenthesis), tokens.end(name)] {
            if !found.contains(&end) {
                found.push(end);
            }
        }
    }
    found
}

struct Tokens<'a> {
    lexed: LexedStr<'a>,
}

impl<'a> Tokens<'a> {
    fn new(code: &'a str) -> Tokens<'a> {
        Tokens {
            lexed: LexedStr::new(Edition::Edition2024, code),
        }
    }

    fn range(&self, index: usize) -> Range<usize> {
        self.lexed.text_range(index)
    }

    fn end(&self, index: usize) -> usize {
        self.range(index).end
    }

    /// A cursor between two tokens belongs to the name, on whichever side that is; of two names to the one that it begins.
    fn name_at(&self, cursor: usize) -> Option<usize> {
        (0..self.lexed.len())
            .rev()
            .find(|&index| self.is_name(index) && self.touches(index, cursor))
    }

    fn touches(&self, index: usize, cursor: usize) -> bool {
        let range = self.lexed.text_range(index);
        range.start <= cursor && cursor <= range.end
    }

    fn is_name(&self, index: usize) -> bool {
        let kind = self.lexed.kind(index);
        kind == SyntaxKind::IDENT || kind.is_keyword(Edition::Edition2024)
    }

    /// The opening parenthesis right behind a name.
    fn call_after(&self, name: usize) -> Option<usize> {
        let next = (name + 1..self.lexed.len()).find(|&at| !self.lexed.kind(at).is_trivia())?;
        (self.lexed.kind(next) == T!['(']).then_some(next)
    }

    /// The innermost call around the cursor whose function has a name: name and opening parenthesis.
    fn call_around(&self, cursor: usize) -> Option<(usize, usize)> {
        let mut closed = 0;
        for at in (0..self.lexed.len()).rev() {
            if self.end(at) > cursor {
                continue;
            }
            let kind = self.lexed.kind(at);
            if [T![')'], T![']'], T!['}']].contains(&kind) {
                closed += 1;
            } else if [T!['('], T!['['], T!['{']].contains(&kind) {
                if closed > 0 {
                    closed -= 1;
                } else if kind == T!['{'] {
                    // A block begins anew: what is called around it is too far away.
                    return None;
                } else if kind == T!['(']
                    && let Some(name) = self.name_before(at)
                {
                    return Some((name, at));
                }
            }
        }
        None
    }

    /// The name that a parenthesis calls, which may have a turbofish or be that of a macro.
    fn name_before(&self, parenthesis: usize) -> Option<usize> {
        let mut before = (0..parenthesis)
            .rev()
            .filter(|&at| !self.lexed.kind(at).is_trivia());
        let mut depth = 0;
        loop {
            let at = before.next()?;
            match self.lexed.kind(at) {
                T![>] => depth += 1,
                T![<] => depth -= 1,
                _ if depth > 0 => {}
                T![:] | T![!] => {}
                SyntaxKind::IDENT => return Some(at),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{subject, targets};

    /// The texts up to the targets, for code with `|` where the cursor is.
    fn asked(marked: &str) -> Vec<String> {
        let cursor = marked.find('|').expect("there is a cursor");
        let code = marked.replacen('|', "", 1);
        let ends = targets(&code, cursor).into_iter();
        ends.map(|end| code[..end].to_owned()).collect()
    }

    #[test]
    fn the_name_at_the_cursor_comes_first() {
        assert_eq!(asked("let é = to|tal + 1;"), ["let é = total"]);
        assert_eq!(asked("v.pu|sh(1)"), ["v.push(", "v.push"]);
        assert_eq!(asked("v.push|"), ["v.push"]);
        assert_eq!(
            asked("String::from_utf8|(x)"),
            ["String::from_utf8(", "String::from_utf8"]
        );
    }

    #[test]
    fn inside_arguments_the_function_is_meant() {
        assert_eq!(asked("v.push(|1)"), ["v.push(", "v.push"]);
        assert_eq!(asked("v.push(1, \"a (\", |"), ["v.push(", "v.push"]);
        assert_eq!(asked("f(g(1), |2)"), ["f(", "f"]);
        assert_eq!(asked("f(a|b)"), ["f(ab", "f(", "f"]);
        assert_eq!(
            asked("Tensor::zeros((2, |3), x)"),
            ["Tensor::zeros(", "Tensor::zeros"]
        );
        assert_eq!(
            asked("x.parse::<Vec<u8>>(|)"),
            ["x.parse::<Vec<u8>>(", "x.parse"]
        );
        assert_eq!(asked("println!(|\"\")"), ["println!(", "println"]);
    }

    #[test]
    fn a_name_and_the_function_around_it_are_both_found() {
        let code = "let é = f::<u8>(ab, 1);";
        let at = code.find("b,").expect("it is there");
        let found = subject(code, at);
        let text = |range: Option<std::ops::Range<usize>>| range.map(|range| &code[range]);
        assert_eq!(
            (text(found.name), text(found.callee)),
            (Some("ab"), Some("f"))
        );
        let found = subject(code, at + 3);
        assert_eq!((found.name.clone(), text(found.callee)), (None, Some("f")));
    }

    #[test]
    fn elsewhere_nothing_is_meant() {
        for marked in [
            "|",
            "  | ",
            "1 + |2",
            "(1, |2)",
            "f(|| { 1 + |2 })",
            "f(1) + |2",
        ] {
            let marked = marked.replacen("||", "move", 1);
            assert_eq!(asked(&marked), [""; 0], "{marked}");
        }
    }

    proptest! {
        #[test]
        fn any_code_can_be_asked_about(code in "\\PC{0,40}|[a-f(){}\\[\\]<>:!.,\" ]{0,40}", at in any::<prop::sample::Index>()) {
            let cursor = at.index(code.len() + 1);
            for end in targets(&code, cursor) {
                prop_assert!(code.is_char_boundary(end));
            }
            let found = subject(&code, cursor);
            for range in found.name.into_iter().chain(found.callee) {
                prop_assert!(code.get(range).is_some());
            }
        }
    }
}
