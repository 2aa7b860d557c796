//! What can be said of a cell's source without compiling it: its statements, the names it defines, whether it is
//! finished.

use ra_ap_syntax::ast::{self, HasName};
use ra_ap_syntax::{AstNode, SyntaxNode, T};

use super::nesting::{self, parse};
use super::tokens::Tokens;

/// Whether a cell can be run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// It can be run.
    Complete,
    /// More has to come; the next line is best indented so.
    Incomplete {
        /// Spaces for the next line.
        indent: String,
    },
    /// No continuation can make it valid.
    Invalid,
}

/// How many spaces a level of nesting is indented.
const INDENT: usize = 4;
/// More levels than this are not indented further.
const DEEPEST_INDENT: usize = 20;
/// What stands before a cell when it is parsed.
const WRAPPER: &str = "fn f(){";
/// One of these finishes every cell that only lacks its end.
const ENDINGS: [&str; 8] = [
    ";",
    " x;",
    " x",
    "{}",
    " x {}",
    " fn x() {}",
    ": x = x;",
    " => x }",
];

/// Judges brackets, strings and comments first, then asks the parser.
pub(crate) fn completeness(code: &str) -> Completeness {
    let rust = skip_commands(code);
    let incomplete = |depth: usize| Completeness::Incomplete {
        indent: " ".repeat(INDENT * depth.min(DEEPEST_INDENT)),
    };
    match brackets(rust) {
        Brackets::Mismatched => Completeness::Invalid,
        Brackets::InsideText => incomplete(0),
        Brackets::Open(depth) => incomplete(depth),
        // Running it says why it can't be.
        Brackets::Closed if nesting::too_deep(rust).is_some() => Completeness::Complete,
        Brackets::Closed if parses(rust) => Completeness::Complete,
        Brackets::Closed => {
            let start = rust.trim_end();
            // After a semicolon or a closing brace nothing is left to be finished, except an attribute's item.
            let could_go_on =
                !start.ends_with(';') && ENDINGS.iter().any(|end| parses(&format!("{start}{end}")));
            if could_go_on {
                incomplete(1)
            } else {
                Completeness::Invalid
            }
        }
    }
}

fn parses(code: &str) -> bool {
    parse(&wrapped(code)).errors().is_empty()
}

fn wrapped(code: &str) -> String {
    format!("{WRAPPER}{code}\n}}")
}

/// A bracket that has no other half, and where it stands in `code`, in bytes: the parser only says where the code ended.
pub(crate) fn unbalanced(code: &str) -> Option<(usize, String)> {
    let rust = skip_commands(code);
    let skipped = code.len() - rust.len();
    let tokens = Tokens::new(rust);
    let mut open: Vec<(usize, &str)> = Vec::new();
    for index in 0..tokens.len() {
        let (at, text) = (skipped + tokens.range(index).start, tokens.text(index));
        let opening = match text {
            "(" | "[" | "{" => {
                open.push((at, text));
                continue;
            }
            ")" => "(",
            "]" => "[",
            "}" => "{",
            _ => continue,
        };
        match open.pop() {
            None => return Some((at, format!("this `{text}` closes nothing"))),
            Some((_, other)) if other != opening => {
                return Some((at, format!("this `{text}` does not close `{other}`")));
            }
            Some(_) => {}
        }
    }
    let (at, text) = open.pop()?;
    Some((at, format!("this `{text}` is never closed")))
}

/// What the parser objects to first, and where in `code` it does, in bytes.
pub(crate) fn first_error(code: &str) -> Option<(usize, String)> {
    let rust = skip_commands(code);
    let errors = parse(&wrapped(rust)).errors();
    let error = errors.first()?;
    let within = usize::from(error.range().start())
        .saturating_sub(WRAPPER.len())
        .min(rust.len());
    Some((code.len() - rust.len() + within, error.to_string()))
}

/// A line at the top of a cell that is a command: `:dep …`, `?name`, `!ls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandLine<'a> {
    /// What begins it, with its mark: `:dep`, `?`, `??` or `!`.
    pub word: &'a str,
    /// What follows, without blanks around it.
    pub rest: &'a str,
    /// Where the line begins in the cell.
    pub start: usize,
    /// Where the word ends.
    pub word_end: usize,
    /// Where `rest` ends.
    pub end: usize,
}

/// The commands at the top of a cell, among blank lines and comments.
pub(crate) fn command_lines(code: &str) -> Vec<CommandLine<'_>> {
    let top = &code[..code.len() - skip_commands(code).len()];
    let mut start = 0;
    let mut found = Vec::new();
    for line in top.split_inclusive('\n') {
        let text = line.trim();
        let length = word_length(text);
        if length > 0 {
            let begin = start + (line.len() - line.trim_start().len());
            found.push(CommandLine {
                word: &text[..length],
                rest: text[length..].trim(),
                start,
                word_end: begin + length,
                end: begin + text.len(),
            });
        }
        start += line.len();
    }
    found
}

/// How long the word, with its mark, is that a command begins with; 0 for what is none: a blank line, a comment.
fn word_length(text: &str) -> usize {
    if text.starts_with("??") || text == ":?" {
        return 2;
    }
    if text.starts_with(['?', '!']) {
        return 1;
    }
    let Some(name) = text.strip_prefix(':') else {
        return 0;
    };
    let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    1 + end.unwrap_or(name.len())
}

/// Where the attribute begins, in bytes, that is the last in `code` and so stands before nothing.
pub(crate) fn lone_attribute(code: &str) -> Option<usize> {
    let rust = skip_commands(code);
    let tokens = Tokens::new(rust);
    let mut kinds = (0..tokens.len())
        .filter(|&index| !tokens.kind(index).is_trivia())
        .rev();
    if tokens.kind(kinds.next()?) != T![']'] {
        return None;
    }
    let mut open = 1;
    while open > 0 {
        match tokens.kind(kinds.next()?) {
            T![']'] => open += 1,
            T!['['] => open -= 1,
            _ => {}
        }
    }
    let hash = kinds.next().filter(|&index| tokens.kind(index) == T![#])?;
    Some(code.len() - rust.len() + tokens.range(hash).start)
}

/// The name that a cell is, if it is nothing else than one, besides comments.
pub(crate) fn lone_name(code: &str) -> Option<&str> {
    let tokens = Tokens::new(code);
    let mut name = None;
    for index in 0..tokens.len() {
        let text = tokens.text(index);
        match tokens.kind(index) {
            T![ident] if name.is_none() => name = Some(text),
            ra_ap_syntax::SyntaxKind::WHITESPACE => {}
            // A comment that documents stands before an expression in vain, which the compiler says.
            ra_ap_syntax::SyntaxKind::COMMENT
                if !["///", "//!", "/**", "/*!"]
                    .iter()
                    .any(|doc| text.starts_with(doc)) => {}
            _ => return None,
        }
    }
    name
}

/// The Rust code after the lines of commands (`:dep`, `!ls`) at the top of a cell.
pub(crate) fn skip_commands(code: &str) -> &str {
    let mut rest = code;
    for line in code.split_inclusive('\n') {
        if !is_aside(line) && !line.trim().is_empty() {
            break;
        }
        rest = &rest[line.len()..];
    }
    rest
}

/// Whether a line at the top of a cell, among commands, is one, or a comment.
pub(crate) fn is_aside(line: &str) -> bool {
    let trimmed = line.trim();
    let command = line.starts_with('!')
        || trimmed.starts_with(':') && !trimmed.starts_with("::")
        // No Rust code begins with a question mark.
        || trimmed.starts_with('?');
    // A documentation comment belongs to the item below it.
    let documentation = line.starts_with("///") && !line.starts_with("////");
    command || line.starts_with("//") && !documentation
}

/// Whether there is more than blanks and comments.
pub(crate) fn has_code(rust: &str) -> bool {
    let tokens = Tokens::new(rust);
    (0..tokens.len()).any(|index| !tokens.kind(index).is_trivia())
}

/// The names that a cell's statements bind at its top level, sorted.
pub(crate) fn defined_names(code: &str) -> Vec<String> {
    let mut names: Vec<String> = statements(skip_commands(code))
        .into_iter()
        .filter_map(|statement| ast::LetStmt::cast(statement.node)?.pat())
        .flat_map(|pattern| {
            pattern
                .syntax()
                .descendants()
                .filter_map(ast::IdentPat::cast)
                .collect::<Vec<_>>()
        })
        .filter_map(|pattern| Some(pattern.name()?.text().to_string()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// One statement of a cell.
pub(crate) struct Statement<'a> {
    /// Its text, with what follows up to the next statement.
    pub code: &'a str,
    /// What the parser made of it.
    pub node: SyntaxNode,
}

/// The statements of Rust code, in order and without gaps.
pub(crate) fn statements(code: &str) -> Vec<Statement<'_>> {
    let parsed = parse(&wrapped(code));
    let function = parsed
        .syntax_node()
        .children()
        .next()
        .and_then(ast::Fn::cast);
    let list = function
        .and_then(|function| function.body())
        .and_then(|body| body.stmt_list());
    let mut found = Vec::new();
    let Some(list) = list else { return found };
    let mut start = 0;
    let mut children = list.syntax().children().peekable();
    while let Some(node) = children.next() {
        let end = children
            .peek()
            .map_or(code.len(), |next| {
                usize::from(next.text_range().start()).saturating_sub(WRAPPER.len())
            })
            .min(code.len());
        match code.get(start..end) {
            Some(text) if !text.is_empty() => found.push(Statement { code: text, node }),
            _ => break,
        }
        start = end;
    }
    found
}

/// What the brackets of a text say.
enum Brackets {
    Closed,
    /// So many wait to be closed.
    Open(usize),
    /// The text ends inside a string or a comment.
    InsideText,
    /// One is closed that was not opened.
    Mismatched,
}

fn brackets(code: &str) -> Brackets {
    let tokens = Tokens::new(code);
    let mut open = Vec::new();
    for index in 0..tokens.len() {
        let unclosed =
            |error: &str| error.contains("terminate") || error.contains("raw string literal");
        // What is not closed runs to the end.
        if index + 1 == tokens.len() && tokens.error(index).is_some_and(unclosed) {
            return Brackets::InsideText;
        }
        let kind = tokens.kind(index);
        let closes = match kind {
            _ if kind == T!['('] || kind == T!['['] || kind == T!['{'] => {
                open.push(kind);
                continue;
            }
            _ if kind == T![')'] => T!['('],
            _ if kind == T![']'] => T!['['],
            _ if kind == T!['}'] => T!['{'],
            _ => continue,
        };
        if open.pop() != Some(closes) {
            return Brackets::Mismatched;
        }
    }
    if open.is_empty() {
        Brackets::Closed
    } else {
        Brackets::Open(open.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incomplete(depth: usize) -> Completeness {
        Completeness::Incomplete {
            indent: " ".repeat(INDENT * depth),
        }
    }

    #[test]
    fn complete_cells() {
        for code in [
            "",
            "1 + 1",
            "let x = 1;",
            "fn f(x: u32) -> u32 { x }\nf(1)",
            ":dep regex = \"1\"\n",
            "!ls (",
            "// only { a comment",
            "\"a { in a string\"",
            "'{'",
            "r#\"raw \" quote\"#",
            "let x: &'static str = \"é\";",
            "for i in 0..3 { println!(\"{i}\"); }",
            "use std::fmt::{self, Write};",
        ] {
            assert_eq!(completeness(code), Completeness::Complete, "{code:?}");
        }
    }

    #[test]
    fn minuses_at_the_top_of_a_cell_are_no_front_matter() {
        for code in ["---5", "---\n5", "---\n5\n---\n3", "---\n-é"] {
            assert_eq!(completeness(code), Completeness::Complete, "{code:?}");
            assert!(has_code(code), "{code:?}");
        }
        assert_eq!(completeness("---\n(\n---\n"), incomplete(1));
        assert_eq!(completeness("---\n(]\n---\n1"), Completeness::Invalid);
    }

    #[test]
    fn incomplete_cells_say_how_to_indent() {
        assert_eq!(completeness("fn f() {"), incomplete(1));
        assert_eq!(completeness("fn f() {\n    if x {"), incomplete(2));
        assert_eq!(completeness("let v = vec![1,"), incomplete(1));
        assert_eq!(completeness("let s = \"not closed"), incomplete(0));
        assert_eq!(completeness("/* not closed"), incomplete(0));
        assert_eq!(completeness("r#\"not closed\""), incomplete(0));
        assert_eq!(completeness("let x ="), incomplete(1));
        assert_eq!(completeness("let x = 1"), incomplete(1));
        assert_eq!(completeness("1 +"), incomplete(1));
        assert_eq!(completeness("#[derive(Clone)]"), incomplete(1));
    }

    #[test]
    fn documentation_at_the_top_is_code() {
        for code in ["/// One.\nfn one() {}", "/// One."] {
            assert_eq!(skip_commands(code), code);
        }
        assert_eq!(skip_commands("// a\n//// b\n//! c\nx"), "x");
    }

    #[test]
    fn invalid_cells() {
        for code in ["let x = 1)", "}", "(]", "let = ;", "fn f() }"] {
            assert_eq!(completeness(code), Completeness::Invalid, "{code:?}");
        }
    }

    #[test]
    fn the_first_error_is_placed_in_the_cell() {
        assert_eq!(first_error("let a = 1;\na + 1"), None);
        let (at, _) = first_error(":dep x\nlet a = 1;\na.").expect("it is not finished");
        assert_eq!(at, 20);
    }

    #[test]
    fn an_attribute_before_nothing_is_found() {
        assert_eq!(lone_attribute("#[derive(Debug)]"), Some(0));
        assert_eq!(
            lone_attribute("let a = 1;\n#[allow(unused)] // why\n"),
            Some(11)
        );
        for code in [
            "#![allow(unused)]",
            "a[0]",
            "#[derive(Debug)]\nstruct A;",
            "vec![1]",
            "",
        ] {
            assert_eq!(lone_attribute(code), None, "{code}");
        }
    }

    #[test]
    fn names_of_all_patterns_at_the_top_level_are_found() {
        let code = ":dep x\nlet a = 1; let (b, mut c) = (2, 3);\n{ let hidden = 4; }\nlet Some(d) = x else { return };";
        assert_eq!(defined_names(code), ["a", "b", "c", "d"]);
    }

    #[test]
    fn statements_cover_the_code_without_gaps() {
        let code = "let a = 1; a += 2;\nfn f() {}\n\nf()";
        let texts: Vec<&str> = statements(code)
            .iter()
            .map(|statement| statement.code)
            .collect();
        assert_eq!(texts.concat(), code);
        assert_eq!(texts.len(), 4);
    }

    #[test]
    fn a_bracket_without_its_other_half_is_found() {
        assert_eq!(unbalanced("let a = (1, [2]);\nif a { \"}\" } // )"), None);
        for (code, at, message) in [
            (
                "let a = 1;\nif a > 0 {\n  f(a);\n",
                20,
                "this `{` is never closed",
            ),
            ("f(a));", 4, "this `)` closes nothing"),
            ("v[1)", 3, "this `)` does not close `[`"),
            ("S { a: '{', b: \"{\"", 2, "this `{` is never closed"),
        ] {
            assert_eq!(unbalanced(code), Some((at, message.to_owned())), "{code}");
        }
    }
}
