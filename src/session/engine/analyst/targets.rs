//! What a cursor is on: a comment, a name, or else the arguments of a function.

use glassbox_analyst_wire::Subject;
use ra_ap_parser::{SyntaxKind, T};
use ra_ap_syntax::Edition;

use crate::session::tokens::Tokens;

/// Whether what is typed at the cursor goes into a comment.
pub(super) fn in_comment(code: &str, cursor: usize) -> bool {
    let tokens = Tokens::new(code);
    (0..tokens.len()).any(|index| {
        let range = tokens.range(index);
        // A comment to the end of the line goes on at its own end.
        let end = match tokens.text(index).starts_with("//") {
            true => range.end,
            false => range.end.saturating_sub(1),
        };
        tokens.kind(index) == SyntaxKind::COMMENT && range.start < cursor && cursor <= end
    })
}

/// What the cursor, an offset in bytes, is on.
pub(super) fn subject(code: &str, cursor: usize) -> Subject {
    let tokens = Tokens::new(code);
    let callee = call_around(&tokens, cursor);
    Subject {
        name: name_at(&tokens, cursor).map(|name| tokens.range(name)),
        callee: callee.map(|name| tokens.range(name)),
    }
}

/// A cursor between two tokens belongs to the name, on whichever side that is; of two names to the one that it begins.
fn name_at(tokens: &Tokens, cursor: usize) -> Option<usize> {
    (0..tokens.len())
        .rev()
        .find(|&index| is_name(tokens, index) && touches(tokens, index, cursor))
}

fn touches(tokens: &Tokens, index: usize, cursor: usize) -> bool {
    let range = tokens.range(index);
    range.start <= cursor && cursor <= range.end
}

fn is_name(tokens: &Tokens, index: usize) -> bool {
    let kind = tokens.kind(index);
    kind == SyntaxKind::IDENT || kind.is_keyword(Edition::Edition2024)
}

/// The name of the function that the innermost call around the cursor calls, if it has one.
fn call_around(tokens: &Tokens, cursor: usize) -> Option<usize> {
    let mut closed = 0;
    for at in (0..tokens.len()).rev() {
        if tokens.range(at).end > cursor {
            continue;
        }
        let kind = tokens.kind(at);
        if [T![')'], T![']'], T!['}']].contains(&kind) {
            closed += 1;
        } else if [T!['('], T!['['], T!['{']].contains(&kind) {
            if closed > 0 {
                closed -= 1;
            } else if kind == T!['{'] {
                // A block begins anew: what is called around it is too far away.
                return None;
            } else if kind == T!['(']
                && let Some(name) = name_before(tokens, at)
            {
                return Some(name);
            }
        }
    }
    None
}

/// The name that a parenthesis calls, which may have a turbofish or be that of a macro.
fn name_before(tokens: &Tokens, parenthesis: usize) -> Option<usize> {
    let mut before = (0..parenthesis)
        .rev()
        .filter(|&at| !tokens.kind(at).is_trivia());
    let mut depth = 0;
    loop {
        let at = before.next()?;
        match tokens.kind(at) {
            T![>] => depth += 1,
            T![<] => depth -= 1,
            _ if depth > 0 => {}
            T![:] | T![!] => {}
            SyntaxKind::IDENT => return Some(at),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{in_comment, subject};

    /// The name at the cursor and the function around it, for code with `|` where the cursor is.
    fn asked(marked: &str) -> [String; 2] {
        let cursor = marked.find('|').expect("there is a cursor");
        let code = marked.replacen('|', "", 1);
        let found = subject(&code, cursor);
        [found.name, found.callee].map(|range| code[range.unwrap_or_default()].to_owned())
    }

    #[test]
    fn comments_are_told_from_code() {
        assert!(in_comment("// a comm", 9) && in_comment("x /* a */", 5));
        assert!(!in_comment("x /* a */", 9) && !in_comment("// a\nb", 6));
        assert!(!in_comment("\"// a\"", 5) && !in_comment("//", 0));
    }

    #[test]
    fn the_name_at_the_cursor_is_meant() {
        assert_eq!(asked("let é = to|tal + 1;"), ["total", ""]);
        assert_eq!(asked("v.pu|sh(1)"), ["push", ""]);
        assert_eq!(asked("v.push|"), ["push", ""]);
        assert_eq!(asked("String::from_utf8|(x)"), ["from_utf8", ""]);
    }

    #[test]
    fn inside_arguments_the_function_is_meant_too() {
        assert_eq!(asked("v.push(|1)"), ["", "push"]);
        assert_eq!(asked("v.push(1, \"a (\", |"), ["", "push"]);
        assert_eq!(asked("f(g(1), |2)"), ["", "f"]);
        assert_eq!(asked("f(a|b)"), ["ab", "f"]);
        assert_eq!(asked("let é = f::<u8>(a|b, 1);"), ["ab", "f"]);
        assert_eq!(asked("Tensor::zeros((2, |3), x)"), ["", "zeros"]);
        assert_eq!(asked("x.parse::<Vec<u8>>(|)"), ["", "parse"]);
        assert_eq!(asked("println!(|\"\")"), ["", "println"]);
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
            assert_eq!(asked(&marked), ["", ""], "{marked}");
        }
    }

    proptest! {
        #[test]
        fn any_code_can_be_asked_about(code in "\\PC{0,40}|[a-f(){}\\[\\]<>:!.,\" ]{0,40}", at in any::<prop::sample::Index>()) {
            let found = subject(&code, at.index(code.len() + 1));
            for range in found.name.into_iter().chain(found.callee) {
                prop_assert!(code.get(range).is_some());
            }
        }
    }
}
