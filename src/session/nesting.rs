//! How deep code nests, told from its tokens alone, and the parser called so that no depth can end the process.
//!
//! ```text
//! code ─ tokens ─▶ depth ─▶ little: parsed here │ much: on a thread with a large stack │ too much: not parsed
//! ```
//! The parser, what walks its tree and rust-analyzer call themselves once for each level, and a stack that overflows ends the whole process
//! with all variables. A level is a bracket, an operator before its operand (`--x`, `|| || x`), an operator of a chain (`a + b + c`,
//! `a.b().c()`: the first stands deepest), a generic argument, a path's segment or an `else if`. Brackets in texts and comments are none.

use std::borrow::Cow;

use ra_ap_parser::{SyntaxKind, T};
use ra_ap_syntax::{Edition, Parse, SourceFile};

use super::tokens::Tokens;

/// Code that nests deeper is not parsed, and a cell with it is not run.
pub(crate) const DEEPEST: usize = 3000;
/// Up to here every thread's stack is enough.
const SHALLOW: usize = 100;
/// The stack on which the parser gets [`DEEPEST`]; only what is used of it takes memory.
pub(crate) const STACK: usize = 256 << 20;

/// Parses code; what nests deeper than [`DEEPEST`] is taken for an empty file.
pub(crate) fn parse(code: &str) -> Parse<SourceFile> {
    let code = &*without_front_matter(code);
    let parse = |code: &str| SourceFile::parse(code, Edition::Edition2024);
    match depth(code) {
        0..=SHALLOW => parse(code),
        depth if depth <= DEEPEST => std::thread::scope(|scope| {
            let parsing = std::thread::Builder::new()
                .name("parser".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, || parse(code));
            let parsed = parsing.ok().and_then(|thread| thread.join().ok());
            parsed.unwrap_or_else(|| parse(""))
        }),
        _ => parse(""),
    }
}

/// Code whose first line the parser does not take for the opening of a script's front matter (`---`): it reads on from there without regard
/// for where letters end, and panics. No item begins with a minus, so the error that the code has stays one.
fn without_front_matter(code: &str) -> Cow<'_, str> {
    let first =
        code.trim_start_matches(|c: char| c.is_whitespace() || "\u{200E}\u{200F}".contains(c));
    if !first.starts_with("---") {
        return Cow::Borrowed(code);
    }
    let (blank, rest) = code.split_at(code.len() - first.len());
    Cow::Owned(format!("{blank} {}", &rest[1..]))
}

/// What is said of code that nests too deep, if it does.
pub(crate) fn too_deep(code: &str) -> Option<String> {
    let depth = depth(code);
    (depth > DEEPEST).then(|| {
        format!(
            "this code nests {depth} levels deep and Glassbox reads {DEEPEST} (each bracket, each operator before its operand and each link of a \
             chain such as `a + b + …` or `a.b().…` is a level); give parts of it names with `let`, or make it in a loop"
        )
    })
}

/// What a bracket or an angle holds: levels of a chain that wait for its end.
#[derive(Clone, Copy)]
struct Open {
    kind: SyntaxKind,
    /// Links of the chain so far at this level.
    links: usize,
    /// How many of them are `|`.
    bars: usize,
    /// The sum of the links of all levels around this one, with the brackets.
    around: usize,
}

/// How many levels the deepest place in `code` has, at most: chains may count more than the parser needs, never less.
pub(crate) fn depth(code: &str) -> usize {
    let tokens = Tokens::new(code);
    let mut levels = Levels {
        open: Vec::new(),
        now: Open {
            kind: SyntaxKind::EOF,
            links: 0,
            bars: 0,
            around: 0,
        },
        deepest: 0,
    };
    let mut before = SyntaxKind::EOF;
    for index in 0..tokens.len() {
        let kind = tokens.kind(index);
        if kind.is_trivia() {
            continue;
        }
        // A block that ends a statement, unless what follows goes on with it.
        if before == T!['}'] && !goes_on(kind) {
            levels.end_statement();
        }
        match kind {
            T!['('] | T!['['] | T!['{'] => levels.enter(kind),
            T![')'] => levels.leave(T!['(']),
            T![']'] => levels.leave(T!['[']),
            T!['}'] => levels.leave(T!['{']),
            // As an angle it holds its arguments; as a comparison it is closed by the end of what it stands in.
            T![<] => levels.enter(kind),
            T![>] if before == T![-] => levels.link(),
            // The pattern of an arm ends.
            T![>] if before == T![=] => levels.end_statement(),
            T![>] => levels.angle(),
            T![;] => levels.end_statement(),
            T![,] => levels.now.links = levels.now.bars,
            // A comma may stand between a closure's parameters, `|a, b| |c, d| e`.
            T![|] => {
                levels.now.bars += 1;
                levels.link();
            }
            kind if links(kind) => levels.link(),
            _ => {}
        }
        before = kind;
    }
    levels.deepest
}

struct Levels {
    open: Vec<Open>,
    now: Open,
    deepest: usize,
}

impl Levels {
    fn enter(&mut self, kind: SyntaxKind) {
        let around = self.now.around + self.now.links + 1;
        self.open.push(self.now);
        self.now = Open {
            kind,
            links: 0,
            bars: 0,
            around,
        };
        self.deepest = self.deepest.max(around);
    }

    fn link(&mut self) {
        self.now.links += 1;
        self.deepest = self.deepest.max(self.now.around + self.now.links);
    }

    /// A bracket ends, and with it angles in it that were comparisons. It may be called or indexed again: that is a link.
    fn leave(&mut self, kind: SyntaxKind) {
        self.drop_angles();
        if self.now.kind == kind
            && let Some(outer) = self.open.pop()
        {
            self.now = outer;
            self.link();
        }
    }

    fn angle(&mut self) {
        match (self.now.kind, self.open.pop()) {
            (T![<], Some(outer)) => self.now = outer,
            (_, outer) => self.open.extend(outer),
        }
        self.link();
    }

    fn end_statement(&mut self) {
        self.drop_angles();
        (self.now.links, self.now.bars) = (0, 0);
    }

    fn drop_angles(&mut self) {
        while self.now.kind == T![<]
            && let Some(outer) = self.open.pop()
        {
            self.now = outer;
        }
    }
}

/// Whether a token goes on with the block before it.
fn goes_on(kind: SyntaxKind) -> bool {
    matches!(
        kind,
        T![else] | T![as] | T![.] | T![?] | T![,] | T!['('] | T!['[']
    ) || operator(kind)
}

/// Whether a token may be one more level of what it stands in.
fn links(kind: SyntaxKind) -> bool {
    kind.is_keyword(Edition::Edition2024)
        || operator(kind)
        || matches!(kind, T![.] | T![?] | T![:] | T![@])
}

fn operator(kind: SyntaxKind) -> bool {
    matches!(
        kind,
        T![+]
            | T![-]
            | T![*]
            | T![/]
            | T![%]
            | T![&]
            | T![|]
            | T![^]
            | T![!]
            | T![=]
            | T![~]
            | T![>]
            | T![<]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ways to nest: what is repeated before and after something in the middle.
    const WAYS: &[(&str, &str, &str)] = &[
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{", "1", "}"),
        ("(", "", ""),
        ("-", "1", ""),
        ("!", "1", ""),
        ("&", "1", ""),
        ("&mut ", "1", ""),
        ("|| ", "1", ""),
        ("|a, b| ", "1", ""),
        ("move |a| ", "1", ""),
        ("return ", "1", ""),
        ("1 + ", "1", ""),
        ("a = ", "1", ""),
        ("a || ", "1", ""),
        ("a..", "1", ""),
        ("", "a", ".b()"),
        ("", "a", "()"),
        ("", "a", "[0]"),
        ("", "a", "?"),
        ("", "a", " as u8"),
        ("a::", "a", ""),
        ("if a {} else ", "{}", ""),
        ("if ", "a", " {}"),
        ("match a { _ => ", "1", "}"),
        ("vec![", "1", "]"),
        ("let a: ", "u8", ";"),
        ("let _ = || {", "", "};"),
        ("if let a = ", "1", ""),
        ("f(1, ", "1", ")"),
        ("S { a: 1, b: ", "1", "}"),
        ("a! { [", "1", "] }"),
        ("fn f() {", "", "}"),
        ("mod m {", "", "}"),
        ("{1} + ", "1", ""),
        ("'a: ", "loop {}", ""),
    ];
    /// The same for types and patterns.
    const TYPES: &[(&str, &str, &str)] = &[
        ("Vec<", "u8", ">"),
        ("Vec<", "", ""),
        ("HashMap<u8, ", "u8", ">"),
        ("A<{1}, ", "u8", ">"),
        ("&", "u8", ""),
        ("&'static mut ", "u8", ""),
        ("*const ", "u8", ""),
        ("(u8, ", "u8", ")"),
        ("[", "u8", "; 2]"),
        ("fn() -> ", "u8", ""),
        ("impl Fn(u8, u8) -> ", "u8", ""),
        ("Box<dyn Fn(", "u8", ")>"),
        ("<", "u8", " as A>::B"),
    ];
    const PATTERNS: &[(&str, &str, &str)] = &[
        ("&", "a", ""),
        ("Some(", "a", ")"),
        ("a @ ", "b", ""),
        ("A { a: ", "b", "}"),
    ];

    fn codes(times: usize) -> impl Iterator<Item = String> {
        let made = move |(begin, middle, end): (&str, &str, &str)| {
            format!("{}{middle}{}", begin.repeat(times), end.repeat(times))
        };
        let types = TYPES
            .iter()
            .map(move |&way| format!("let a: {} = 1;", made(way)));
        let signatures = TYPES
            .iter()
            .map(move |&way| format!("fn f() -> {} {{}}", made(way)));
        let patterns = PATTERNS
            .iter()
            .map(move |&way| format!("let {} = 1;", made(way)));
        let shifted = WAYS.iter().map(move |&way| format!("1 | {}", made(way)));
        WAYS.iter()
            .map(move |&way| made(way))
            .chain(types)
            .chain(signatures)
            .chain(patterns)
            .chain(shifted)
    }

    #[test]
    fn minuses_at_the_top_of_an_item_are_an_error_and_no_front_matter() {
        for code in ["---\n-é", "\n---é\n", "---\nfn f() {}\n---\nfn g() {}"] {
            let parsed = parse(code);
            assert!(!parsed.errors().is_empty(), "{code:?}");
            assert_eq!(parsed.syntax_node().to_string().len(), code.len());
        }
    }

    /// Below the bound everything is really parsed, walked and dropped on the stack of an ordinary thread.
    #[test]
    fn what_is_parsed_ends_no_thread() {
        for times in [SHALLOW / 4, DEEPEST / 4, DEEPEST] {
            for code in codes(times) {
                let wrapped = format!("fn f(){{{code}\n}}");
                let parsed = parse(&wrapped);
                assert!(parsed.syntax_node().descendants().count() > 0);
            }
        }
    }

    #[test]
    fn every_way_to_nest_is_counted() {
        for code in codes(1000) {
            let depth = depth(&code);
            assert!((900..6000).contains(&depth), "{depth}: {}", &code[..60]);
        }
        for code in codes(100_000) {
            let said = too_deep(&code);
            assert!(
                said.is_some_and(|said| said.contains("levels deep")),
                "{}",
                &code[..60]
            );
        }
    }

    #[test]
    fn long_code_is_not_deep() {
        for line in [
            "let a = 1;\n",
            "f(a, b);\n",
            "if a < b { c(); }\n",
            "if a < b { c() } else { d() }\n",
            "match a { A if b < c => 1, B | C => { 2 } _ => -3 }\n",
            "let s = \"((((((((\"; // ((((((( ----\n/* [[[[ */\n",
            "let c = '('; let l: &'static str = r#\"{{{\"#;\n",
            "fn f<A: B, const N: usize>(a: Vec<Vec<A>>) -> Option<A> { a.b().c() }\n",
            "impl<A> B for C<A> where A: D {}\n",
            "println!(\"{}\", a as f64 * 2.0);\n",
            "for i in 0..10 { a[i] += -b[i] & !c; }\n",
        ] {
            let depth = depth(&line.repeat(2000));
            assert!(depth < 40, "{depth}: {line}");
        }
        for item in [
            "1, ",
            "-1, ",
            "a.b(), ",
            "f(a), ",
            "A { b: c }, ",
            "(1 + 2) * 3, ",
        ] {
            let depth = depth(&format!("[{}]", item.repeat(5000)));
            assert!(depth < 40, "{depth}: {item}");
        }
    }
}
