//! Rust source → tokens, well enough to colour a cell and to read `let name = value;` lines. Never fails: what it does
//! not know is punctuation. The token texts joined are the source again.

/// What a token is, which is also the CSS class it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Spaces and line ends.
    Space,
    /// `// …` and `/* … */`.
    Comment,
    /// String, byte string, raw string and character literals.
    Text,
    /// Number literals with their suffix.
    Number,
    /// Reserved words, `true` and `false`.
    Keyword,
    /// A name that begins with a capital, and the primitive types.
    Type,
    /// A name before `(`.
    Function,
    /// A name and the `!` after it.
    Macro,
    /// `'a`.
    Lifetime,
    /// `#[…]` openers, and `:dep`-like commands of the session.
    Attribute,
    /// Any other name.
    Name,
    /// Anything else, one character each.
    Punctuation,
}

impl Kind {
    /// The CSS class, or `None` for text that needs no colour.
    pub fn class(self) -> Option<&'static str> {
        Some(match self {
            Kind::Comment => "c",
            Kind::Text => "s",
            Kind::Number => "m",
            Kind::Keyword => "k",
            Kind::Type => "t",
            Kind::Function => "f",
            Kind::Macro => "x",
            Kind::Lifetime => "l",
            Kind::Attribute => "a",
            Kind::Space | Kind::Name | Kind::Punctuation => return None,
        })
    }
}

/// A piece of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its text.
    pub text: &'a str,
}

const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern",
    "false", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "type", "unsafe", "use",
    "where", "while", "yield",
];
const PRIMITIVES: &[&str] = &[
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8", "u16",
    "u32", "u64", "u128", "usize",
];

/// Splits source into tokens.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut list = Vec::new();
    let mut rest = source;
    let mut line_start = true;
    while let Some(first) = rest.chars().next() {
        let (kind, len) = next(rest, first, line_start);
        let (text, after) = rest.split_at(len);
        line_start = if kind == Kind::Space {
            line_start || text.contains('\n')
        } else {
            false
        };
        list.push(Token { kind, text });
        rest = after;
    }
    list
}

fn next(rest: &str, first: char, line_start: bool) -> (Kind, usize) {
    if first.is_whitespace() {
        return (Kind::Space, span(rest, char::is_whitespace));
    }
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    if line_start && first == ':' && rest[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        return (Kind::Attribute, 1 + span(&rest[1..], is_name));
    }
    if rest.starts_with("#[") || rest.starts_with("#![") {
        return (Kind::Attribute, rest.find(']').map_or(1, |end| end + 1));
    }
    if let Some(len) = string(rest) {
        return (Kind::Text, len);
    }
    if first == '\'' {
        return quote(rest);
    }
    if first.is_ascii_digit() {
        return (Kind::Number, number(rest));
    }
    if is_name(first) {
        return name(rest);
    }
    (Kind::Punctuation, first.len_utf8())
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Bytes of the longest start of `text` whose characters all satisfy `keep`.
fn span(text: &str, keep: impl Fn(char) -> bool) -> usize {
    text.find(|c| !keep(c)).unwrap_or(text.len())
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0usize);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a string literal that starts here, prefixes `b`, `c`, `r`, `br`, `cr` included.
fn string(rest: &str) -> Option<usize> {
    let prefix = span(rest, |c| matches!(c, 'b' | 'c' | 'r'));
    let head = &rest[..prefix];
    if !matches!(head, "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    let after = &rest[prefix..];
    if head.ends_with('r') {
        let hashes = span(after, |c| c == '#');
        let inside = after[hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let start = prefix + hashes + 1;
        return Some(
            inside
                .find(&close)
                .map_or(rest.len(), |at| start + at + close.len()),
        );
    }
    let inside = after.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix + 1 + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// A character literal or a lifetime.
fn quote(rest: &str) -> (Kind, usize) {
    let inside = &rest[1..];
    let mut chars = inside.char_indices();
    match chars.next() {
        Some((_, '\\')) => {
            // Past the backslash and what it escapes, which may itself be a quote.
            let escaped = chars.next().map_or(1, |(at, c)| at + c.len_utf8());
            let end = inside[escaped..].find('\'');
            end.map_or((Kind::Punctuation, 1), |at| {
                (Kind::Text, 1 + escaped + at + 1)
            })
        }
        Some((_, c)) => match chars.next() {
            Some((at, '\'')) => (Kind::Text, 1 + at + 1),
            _ if is_name(c) => (Kind::Lifetime, 1 + span(inside, is_name)),
            _ => (Kind::Punctuation, 1),
        },
        None => (Kind::Punctuation, 1),
    }
}

fn number(rest: &str) -> usize {
    let mut len = span(rest, is_name);
    // A fraction, but not a range (`0..4`) or a method (`1.max(2)`).
    let fraction = &rest[len..];
    if let Some(digits) = fraction.strip_prefix('.')
        && !digits.starts_with(|c: char| c == '.' || c == '_' || c.is_alphabetic())
    {
        len += 1 + span(digits, is_name);
    }
    // The sign of an exponent ended the name-like span.
    let hexadecimal = rest.starts_with("0x") || rest.starts_with("0b") || rest.starts_with("0o");
    if !hexadecimal && rest[..len].ends_with(['e', 'E']) && rest[len..].starts_with(['+', '-']) {
        len += 1 + span(&rest[len + 1..], is_name);
    }
    len
}

fn name(rest: &str) -> (Kind, usize) {
    let raw = if rest.starts_with("r#") { 2 } else { 0 };
    let len = raw + span(&rest[raw..], is_name);
    let (word, after) = rest.split_at(len);
    let kind = if KEYWORDS.contains(&word) {
        Kind::Keyword
    } else if after.starts_with('!') && !after.starts_with("!=") {
        return (Kind::Macro, len + 1);
    } else if PRIMITIVES.contains(&word) || word.starts_with(char::is_uppercase) {
        Kind::Type
    } else if after.starts_with('(') || after.starts_with("::<") {
        Kind::Function
    } else {
        Kind::Name
    };
    (kind, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(Kind, &str)> {
        tokens(source)
            .into_iter()
            .filter(|t| t.kind != Kind::Space)
            .map(|t| (t.kind, t.text))
            .collect()
    }

    #[test]
    fn tokens_joined_are_the_source() {
        for source in [
            "let x = \"a\\\"b\" + r#\"raw \" text\"# + b\"bytes\"; // done",
            "fn f<'a>(x: &'a str) -> char { '\\'' }",
            "/* outer /* inner */ still */ 1",
            ":dep rand = \"0.9\"\nuse rand::Rng;",
            "\"unterminated",
            "'",
            "'\\",
            "'\\é",
            "'\\é'",
            "'é' 'x",
            "#",
            "1.0e-3 0..4 1.max(2) 0xff_u8 3. 2e5f32",
            "日本 = \u{2028}",
        ] {
            let joined: String = tokens(source).iter().map(|t| t.text).collect();
            assert_eq!(joined, source);
        }
    }

    #[test]
    fn words_get_their_kinds() {
        assert_eq!(
            kinds("let v: Vec<f32> = vec![1.5e-3; n()];"),
            [
                (Kind::Keyword, "let"),
                (Kind::Name, "v"),
                (Kind::Punctuation, ":"),
                (Kind::Type, "Vec"),
                (Kind::Punctuation, "<"),
                (Kind::Type, "f32"),
                (Kind::Punctuation, ">"),
                (Kind::Punctuation, "="),
                (Kind::Macro, "vec!"),
                (Kind::Punctuation, "["),
                (Kind::Number, "1.5e-3"),
                (Kind::Punctuation, ";"),
                (Kind::Function, "n"),
                (Kind::Punctuation, "("),
                (Kind::Punctuation, ")"),
                (Kind::Punctuation, "]"),
                (Kind::Punctuation, ";"),
            ]
        );
    }

    #[test]
    fn lifetimes_and_characters_differ() {
        assert_eq!(
            kinds("&'a 'a' '\\n'")[1..],
            [
                (Kind::Lifetime, "'a"),
                (Kind::Text, "'a'"),
                (Kind::Text, "'\\n'")
            ]
        );
    }

    #[test]
    fn ranges_and_methods_are_no_fractions() {
        assert_eq!(kinds("0..4")[0], (Kind::Number, "0"));
        assert_eq!(kinds("1.max(2)")[0], (Kind::Number, "1"));
        assert_eq!(kinds("1.5")[0], (Kind::Number, "1.5"));
    }
}
