//! How a type is written in code, from the program's own text of it.
//!
//! ```text
//! alloc::vec::Vec<core::str::iter::Chars<'_>>            what std::any::type_name says
//! ::std::vec::Vec<::std::str::Chars<'static>>            what a later cell writes
//! Vec<Chars>                                             what people read
//! ```
//! A variable that is kept lives as long as it likes, so every lifetime in its type that the type does not bind itself is
//! `'static`. Which ones it binds, as `for<'a> fn(&'a str) -> &'a str` does, `type_name` does not tell apart
//! ([`hides_binders`]); the symbol of the function that was compiled for the type does, see [`super::symbols`].
//! Both texts are read by this one parser.

/// A type's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spelling {
    /// As generated code needs it.
    pub code: String,
    /// As people write it: without modules, and without what the compiler would add by itself.
    pub shown: String,
}

/// Why a type can't be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// Nobody has said yet how this path is named in code.
    Path,
    /// It is the type of one function, a type of a trait's, or another that has no name.
    Form,
}

type Result<T> = std::result::Result<T, Unwritten>;

/// Whether `type_name`'s text leaves open which lifetimes the type binds itself.
pub(crate) fn hides_binders(type_name: &str) -> bool {
    type_name.contains("'_") && (type_name.contains("fn(") || type_name.contains("dyn "))
}

/// Writes the type that `text` describes; `name` says how a path is named in code.
pub(crate) fn spell(text: &str, name: &dyn Fn(&str) -> Option<String>) -> Result<Spelling> {
    let mut parser = Parser { rest: text, name };
    let ty = parser.ty()?;
    match parser.rest.trim().is_empty() {
        true => Ok(ty.spelling),
        false => Err(Unwritten::Form),
    }
}

/// A text without its lifetimes, so that two printers' texts of one type differ in nothing but paths.
pub(crate) fn without_lifetimes(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\'', 'f']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        if let Some(binder) = from.strip_prefix("for<") {
            rest = binder.split_once('>').map_or("", |(_, rest)| rest);
            rest = rest.trim_start();
        } else if let Some(length) = lifetime(from) {
            rest = &from[length..];
            if plain.ends_with(" + ") {
                plain.truncate(plain.len() - 3);
            } else if rest.starts_with('>') && plain.ends_with('<') {
                plain.pop();
                rest = &rest[1..];
            } else if rest.starts_with('>') && plain.ends_with(", ") {
                plain.truncate(plain.len() - 2);
            } else {
                rest = rest.trim_start_matches([',', ' ']);
            }
        } else {
            let length = from.chars().next().map_or(1, char::len_utf8);
            plain.push_str(&from[..length]);
            rest = &from[length..];
        }
    }
    plain.push_str(rest);
    plain
}

/// How long the lifetime at the beginning is, if one is there: `'_`, `'a`, `'{erased}`, but no `'c'`.
fn lifetime(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    if rest.starts_with("{erased}") {
        return Some(1 + "{erased}".len());
    }
    let name = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    (name > 0 && !rest[name..].starts_with('\'')).then_some(1 + name)
}

struct Parser<'a> {
    rest: &'a str,
    name: &'a dyn Fn(&str) -> Option<String>,
}

/// A type that was read.
struct Read {
    spelling: Spelling,
    /// It is traits joined by `+`, which stand in parentheses behind `&` and `*`.
    joined: bool,
}

impl Read {
    fn new(code: impl Into<String>, shown: impl Into<String>) -> Read {
        Read {
            spelling: Spelling {
                code: code.into(),
                shown: shown.into(),
            },
            joined: false,
        }
    }

    fn behind_pointer(&self) -> String {
        match self.joined {
            true => format!("({})", self.spelling.shown),
            false => self.spelling.shown.clone(),
        }
    }
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        self.eat(token).then_some(()).ok_or(Unwritten::Form)
    }

    fn peek(&self) -> Option<char> {
        self.rest.trim_start().chars().next()
    }

    /// A lifetime: how code names it, and how people do, who leave out what need not be said.
    fn lifetime(&mut self) -> Option<(String, String)> {
        let text = self.rest.trim_start();
        let length = lifetime(text)?;
        self.rest = &text[length..];
        Some(match &text[..length] {
            "'_" | "'static" | "'{erased}" => ("'static".to_owned(), String::new()),
            bound => (bound.to_owned(), bound.to_owned()),
        })
    }

    fn ty(&mut self) -> Result<Read> {
        if self.eat("&") {
            let (code, shown) = self
                .lifetime()
                .unwrap_or_else(|| ("'static".to_owned(), String::new()));
            let mutable = if self.eat("mut ") { "mut " } else { "" };
            let space = if shown.is_empty() { "" } else { " " };
            let inner = self.ty()?;
            return Ok(Read::new(
                format!("&{code} {mutable}{}", inner.spelling.code),
                format!("&{shown}{space}{mutable}{}", inner.behind_pointer()),
            ));
        }
        for pointer in ["*const ", "*mut "] {
            if self.eat(pointer) {
                let inner = self.ty()?;
                return Ok(Read::new(
                    format!("{pointer}{}", inner.spelling.code),
                    format!("{pointer}{}", inner.behind_pointer()),
                ));
            }
        }
        match self.peek() {
            Some('(') => return self.tuple(),
            Some('[') => return self.array(),
            Some('!') => {
                self.expect("!")?;
                return Ok(Read::new("!", "!"));
            }
            _ => {}
        }
        if self.eat("dyn ") {
            return self.traits();
        }
        let binder = self.binder()?;
        if let Some(function) = self.function(&binder)? {
            return Ok(function);
        }
        if !binder.is_empty() {
            return Err(Unwritten::Form);
        }
        self.path()
    }

    /// `for<'a, 'b> ` if it is there.
    fn binder(&mut self) -> Result<String> {
        if !self.eat("for<") {
            return Ok(String::new());
        }
        let (names, rest) = self.rest.split_once('>').ok_or(Unwritten::Form)?;
        self.rest = rest;
        Ok(format!("for<{names}> "))
    }

    /// `(A, B)`, or what only stands in parentheses.
    fn tuple(&mut self) -> Result<Read> {
        self.expect("(")?;
        let (mut items, comma) = self.list(")")?;
        let (code, shown) = joined(&items);
        let last = if comma { "," } else { "" };
        Ok(match items.pop() {
            Some(only) if items.is_empty() && !comma => only,
            _ => Read::new(format!("({code}{last})"), format!("({shown}{last})")),
        })
    }

    /// Types up to `end`, and whether a comma stands behind the last one, which makes a tuple of one.
    fn list(&mut self, end: &str) -> Result<(Vec<Read>, bool)> {
        let mut items = Vec::new();
        let mut comma = false;
        while !self.eat(end) {
            items.push(self.ty()?);
            comma = self.eat(",");
            if !comma {
                self.expect(end)?;
                break;
            }
        }
        // `(A, B)` needs no last comma, `(A,)` does.
        let one = comma && items.len() == 1;
        Ok((items, one))
    }

    fn array(&mut self) -> Result<Read> {
        self.expect("[")?;
        let item = self.ty()?.spelling;
        if self.eat("]") {
            return Ok(Read::new(
                format!("[{}]", item.code),
                format!("[{}]", item.shown),
            ));
        }
        self.expect(";")?;
        let (length, rest) = self.rest.split_once(']').ok_or(Unwritten::Form)?;
        self.rest = rest;
        let length = length.trim();
        Ok(Read::new(
            format!("[{}; {length}]", item.code),
            format!("[{}; {length}]", item.shown),
        ))
    }

    /// A pointer to a function, if one is there.
    fn function(&mut self, binder: &str) -> Result<Option<Read>> {
        let mut before = binder.to_owned();
        if self.eat("unsafe ") {
            before += "unsafe ";
        }
        if self.eat("extern \"") {
            let (abi, rest) = self.rest.split_once('"').ok_or(Unwritten::Form)?;
            self.rest = rest;
            before += &format!("extern \"{abi}\" ");
        }
        if !self.eat("fn(") {
            return Ok(None);
        }
        let mut arguments = Vec::new();
        let mut variadic = false;
        while !self.eat(")") {
            if self.eat("...") {
                variadic = true;
            } else {
                arguments.push(self.ty()?);
            }
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        let (mut code, mut shown) = joined(&arguments);
        if variadic {
            code += ", ...";
            shown += ", ...";
        }
        let (returned, returned_shown) = self.returned()?;
        Ok(Some(Read::new(
            format!("{before}fn({code}){returned}"),
            format!("{before}fn({shown}){returned_shown}"),
        )))
    }

    /// ` -> T`, if it is there.
    fn returned(&mut self) -> Result<(String, String)> {
        if !self.eat("->") {
            return Ok(Default::default());
        }
        let ty = self.ty()?.spelling;
        Ok((format!(" -> {}", ty.code), arrow(&ty.shown)))
    }

    /// What stands behind `dyn`.
    fn traits(&mut self) -> Result<Read> {
        let mut code = Vec::new();
        let mut shown = Vec::new();
        let mut bound = false;
        loop {
            if let Some((lifetime, short)) = self.lifetime() {
                bound = true;
                code.push(lifetime);
                shown.extend(Some(short).filter(|short| !short.is_empty()));
            } else {
                let binder = self.binder()?;
                let one = self.one_trait()?;
                code.push(format!("{binder}{}", one.code));
                shown.push(format!("{binder}{}", one.shown));
            }
            if !self.eat("+") {
                break;
            }
        }
        if !bound {
            code.push("'static".to_owned());
        }
        let mut read = Read::new(
            format!("(dyn {})", code.join(" + ")),
            format!("dyn {}", shown.join(" + ")),
        );
        read.joined = shown.len() > 1;
        Ok(read)
    }

    fn one_trait(&mut self) -> Result<Spelling> {
        let path = self.words();
        if path.is_empty() {
            return Err(Unwritten::Form);
        }
        let named = self.named(path)?;
        let short = last(path);
        let is_function = path.starts_with("core::ops::") && short.contains("Fn");
        let arguments = if self.eat("(") {
            let (arguments, _) = self.list(")")?;
            Some((arguments, self.returned()?))
        } else if is_function && self.eat("<(") {
            // The symbols' way to write it, which code may not use.
            let (arguments, _) = self.list(")")?;
            let mut returned = Default::default();
            if self.eat(", Output = ") {
                let ty = self.ty()?.spelling;
                returned = (format!(" -> {}", ty.code), arrow(&ty.shown));
            }
            self.expect(">")?;
            Some((arguments, returned))
        } else {
            None
        };
        if let Some((arguments, (returned, returned_shown))) = arguments {
            let (code, shown) = joined(&arguments);
            return Ok(Spelling {
                code: format!("{named}({code}){returned}"),
                shown: format!("{short}({shown}){returned_shown}"),
            });
        }
        let generics = self.generics()?;
        Ok(Spelling {
            code: named + &generics.code,
            shown: short.to_owned() + &generics.shown,
        })
    }

    /// A type that is known by its path.
    fn path(&mut self) -> Result<Read> {
        let path = self.words();
        if path.is_empty() {
            return Err(Unwritten::Form);
        }
        let named = match path.contains("::") {
            true => self.named(path)?,
            false => path.to_owned(),
        };
        let generics = self.generics()?;
        if self.rest.starts_with("::") || self.rest.starts_with('{') {
            return Err(Unwritten::Form);
        }
        Ok(Read::new(
            named + &generics.code,
            last(path).to_owned() + &generics.shown,
        ))
    }

    fn named(&self, path: &str) -> Result<String> {
        (self.name)(path).ok_or(Unwritten::Path)
    }

    /// Names joined by `::`.
    fn words(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let length = super::types::path_length(text);
        self.rest = &text[length..];
        &text[..length]
    }

    /// `<…>` behind a path, if it is there.
    fn generics(&mut self) -> Result<Spelling> {
        let mut code = Vec::new();
        let mut shown = Vec::new();
        if !self.rest.starts_with('<') {
            return Ok(Spelling {
                code: String::new(),
                shown: String::new(),
            });
        }
        self.expect("<")?;
        while !self.eat(">") {
            if let Some((lifetime, short)) = self.lifetime() {
                code.push(lifetime);
                shown.extend(Some(short).filter(|short| !short.is_empty()));
            } else if let Some(value) = self.value() {
                code.push(value.clone());
                shown.push(value);
            } else {
                let bound = self.bound_name();
                let item = match bound.is_empty() {
                    true => self.argument()?,
                    false => Some(self.ty()?),
                };
                if let Some(item) = item {
                    code.push(bound.clone() + &item.spelling.code);
                    shown.push(bound + &item.spelling.shown);
                }
            }
            if !self.eat(",") {
                self.expect(">")?;
                break;
            }
        }
        let list = |items: Vec<String>| match items.is_empty() {
            true => String::new(),
            false => format!("<{}>", items.join(", ")),
        };
        Ok(Spelling {
            code: list(code),
            shown: list(shown),
        })
    }

    /// A type among the arguments of another; `None` for the allocator that every collection has, which code may not name.
    fn argument(&mut self) -> Result<Option<Read>> {
        match self.eat("alloc::alloc::Global") {
            true => Ok(None),
            false => self.ty().map(Some),
        }
    }

    /// `Item = ` before a type, if it is there.
    fn bound_name(&mut self) -> String {
        let text = self.rest.trim_start();
        let length = super::types::path_length(text);
        match text[length..].strip_prefix(" = ") {
            Some(rest) if length > 0 => {
                self.rest = rest;
                format!("{} = ", &text[..length])
            }
            _ => String::new(),
        }
    }

    /// A number or a character in the place of a type.
    fn value(&mut self) -> Option<String> {
        let text = self.rest.trim_start();
        let first = text.chars().next()?;
        let length = match first {
            '0'..='9' | '-' => text.find([',', '>'])?,
            '\'' => text[1..].find('\'')? + 2,
            _ => return None,
        };
        self.rest = &text[length..];
        Some(text[..length].to_owned())
    }
}

fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

/// What stands behind the arguments of a function; nothing for one that returns nothing.
fn arrow(shown: &str) -> String {
    match shown {
        "()" => String::new(),
        _ => format!(" -> {shown}"),
    }
}

fn joined(items: &[Read]) -> (String, String) {
    let each = |text: fn(&Spelling) -> &str| {
        let texts: Vec<&str> = items.iter().map(|item| text(&item.spelling)).collect();
        texts.join(", ")
    };
    (each(|s| &s.code), each(|s| &s.shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(text: &str) -> Result<(String, String)> {
        let name = |path: &str| match path {
            "a::private::Thing" => None,
            path => Some(format!("::{path}")),
        };
        spell(text, &name).map(|spelling| (spelling.code, spelling.shown))
    }

    #[test]
    fn what_a_type_does_not_bind_itself_lives_for_ever() {
        for (text, code, shown) in [
            (
                "core::str::Chars<'_>",
                "::core::str::Chars<'static>",
                "Chars",
            ),
            ("fn() -> &str", "fn() -> &'static str", "fn() -> &str"),
            ("&[&str]", "&'static [&'static str]", "&[&str]"),
            (
                "&mut a::B<'_, '_, u8, 3>",
                "&'static mut ::a::B<'static, 'static, u8, 3>",
                "&mut B<u8, 3>",
            ),
            (
                "(&str, (u8,), [a::P<'_>; 2], ())",
                "(&'static str, (u8,), [::a::P<'static>; 2], ())",
                "(&str, (u8,), [P; 2], ())",
            ),
            (
                "&dyn a::D + core::marker::Send",
                "&'static (dyn ::a::D + ::core::marker::Send + 'static)",
                "&(dyn D + Send)",
            ),
            (
                "alloc::boxed::Box<dyn core::ops::function::Fn(&str) -> usize>",
                "::alloc::boxed::Box<(dyn ::core::ops::function::Fn(&'static str) -> usize + 'static)>",
                "Box<dyn Fn(&str) -> usize>",
            ),
            (
                "a::I<dyn core::iter::Iterator<Item = &str>>",
                "::a::I<(dyn ::core::iter::Iterator<Item = &'static str> + 'static)>",
                "I<dyn Iterator<Item = &str>>",
            ),
        ] {
            assert_eq!(spelt(text), Ok((code.to_owned(), shown.to_owned())));
        }
    }

    #[test]
    fn what_a_symbol_says_is_bound_stays_so() {
        for (text, code) in [
            (
                "for<'a, 'b> fn(&'a str, a::P<'b>) -> &'a str",
                "for<'a, 'b> fn(&'a str, ::a::P<'b>) -> &'a str",
            ),
            (
                "alloc::vec::Vec<for<'a> unsafe extern \"C\" fn(&'a u8), alloc::alloc::Global>",
                "::alloc::vec::Vec<for<'a> unsafe extern \"C\" fn(&'a u8)>",
            ),
            (
                "dyn for<'a> core::ops::function::Fn<(&'a str, u8), Output = &'a str> + core::marker::Send",
                "(dyn for<'a> ::core::ops::function::Fn(&'a str, u8) -> &'a str + ::core::marker::Send + 'static)",
            ),
            (
                "dyn for<'a> core::ops::function::FnMut<(&'a str,), Output = ()>",
                "(dyn for<'a> ::core::ops::function::FnMut(&'a str) -> () + 'static)",
            ),
            (
                "for<'a> fn(a::B<dyn a::T + 'a>)",
                "for<'a> fn(::a::B<(dyn ::a::T + 'a)>)",
            ),
        ] {
            assert_eq!(spelt(text).map(|(code, _)| code), Ok(code.to_owned()));
        }
    }

    #[test]
    fn what_has_no_name_or_none_that_is_known_is_told_apart() {
        assert_eq!(spelt("a::V<a::private::Thing>"), Err(Unwritten::Path));
        for text in [
            "core::str::<impl str>::len",
            "<a::B as a::C>::D",
            "fn(u8) -> u8 {a::f}",
            "a::B<",
            "",
            "impl a::F",
        ] {
            assert_eq!(spelt(text), Err(Unwritten::Form), "{text}");
        }
    }

    #[test]
    fn texts_of_two_printers_agree_without_lifetimes() {
        for (one, other) in [
            ("a::B<'_, '_, u8>", "a::B<'{erased}, '_, u8>"),
            ("fn(&'_ str) -> &'_ str", "for<'a> fn(&'a str) -> &'a str"),
            ("a::Chars<'_>", "a::Chars<'static>"),
            (
                "(dyn a::Fn(&'_ str) + '_)",
                "(dyn for<'a> a::Fn(&'a str) + 'a)",
            ),
        ] {
            assert_eq!(without_lifetimes(one), without_lifetimes(other));
        }
        assert_eq!(without_lifetimes("a::B<'c', f32>"), "a::B<'c', f32>");
    }

    proptest::proptest! {
        #[test]
        fn no_text_brings_it_down(text in "[&'a-z_:<>(),;+ \\[\\]=-]{0,40}|\\PC{0,30}") {
            let _ = spelt(&text);
            let _ = without_lifetimes(&text);
        }
    }
}
