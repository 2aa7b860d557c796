//! The symbols of statics in a source, and the same source with symbols that do not depend on what ran before.
//!
//! ```text
//! source ─ glassbox_static_000000700002_0 ▶ glassbox_static_000000000000_0 ─▶ rustc ─▶ object file, kept
//! object file ─ the other way ─▶ ld
//! ```
//! A cell that defines a static begins it anew each time that it runs, and libraries of the same process are told apart by their symbols
//! alone. So the same cell has other symbols each time. Both have the same length, and an object file, unlike a library, holds nothing that
//! was computed from its symbols: they can be written over.

use std::collections::BTreeMap;

/// How the symbols of statics begin; so many digits follow.
pub(in crate::session::engine) const SYMBOL: &str = "glassbox_static_";
const DIGITS: usize = 12;

/// The digits of a symbol that no other static of the process has.
pub(in crate::session::engine) fn digits(cell: u64, place: usize) -> String {
    format!("{cell:07}{place:05}")
}

/// A source with its symbols numbered in the order in which they stand in it.
#[derive(Debug)]
pub(in crate::session::engine) struct Renamed {
    pub text: String,
    /// What the digits are in the object file, and what they have to be in the library.
    names: BTreeMap<String, String>,
}

impl Renamed {
    pub(in crate::session::engine) fn of(source: String) -> Renamed {
        let places = places(source.as_bytes());
        let mut names = BTreeMap::new();
        if places.is_empty() {
            let text = source;
            return Renamed { text, names };
        }
        let mut numbers: BTreeMap<String, String> = BTreeMap::new();
        let mut text = String::with_capacity(source.len());
        let mut done = 0;
        for at in places {
            let given = &source[at..at + DIGITS];
            let next = format!("{:0DIGITS$}", numbers.len());
            let number = numbers.entry(given.to_owned()).or_insert(next);
            text.push_str(&source[done..at]);
            text.push_str(number);
            done = at + DIGITS;
        }
        text.push_str(&source[done..]);
        for (given, number) in numbers {
            names.insert(number, given);
        }
        Renamed { text, names }
    }

    /// Whether there are any.
    pub(in crate::session::engine) fn any(&self) -> bool {
        !self.names.is_empty()
    }

    /// Gives the symbols in an object file their names.
    pub(in crate::session::engine) fn rename(&self, object: &mut [u8]) {
        for at in places(object) {
            let digits = &mut object[at..at + DIGITS];
            let name = std::str::from_utf8(digits).ok();
            if let Some(given) = name.and_then(|name| self.names.get(name)) {
                digits.copy_from_slice(given.as_bytes());
            }
        }
    }
}

/// Where the digits of symbols stand.
fn places(bytes: &[u8]) -> Vec<usize> {
    let symbol = SYMBOL.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(|byte| *byte == symbol[0]))
    {
        let start = at + next;
        at = start + 1;
        if !bytes[start..].starts_with(symbol) {
            continue;
        }
        let digits = start + symbol.len();
        let Some(number) = bytes.get(digits..digits + DIGITS) else {
            break;
        };
        let ends = bytes.get(digits + DIGITS) == Some(&b'_');
        if ends && number.iter().all(u8::is_ascii_digit) {
            found.push(digits);
            at = digits + DIGITS;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cell_has_the_same_text_whatever_its_statics_are_called() {
        let source = |one: &str, other: &str| {
            format!(
                "#[export_name = \"{SYMBOL}{one}_0\"] static A; #[export_name = \"{SYMBOL}{one}_1\"] static B;\n#[link_name = \"{SYMBOL}{other}_0\"] static C;"
            )
        };
        let (one, other) = (digits(7, 2), digits(3, 0));
        let first = Renamed::of(source(&one, &other));
        let second = Renamed::of(source(&digits(9, 1), &digits(12, 4)));
        assert_eq!(first.text, second.text);
        assert_ne!(first.text, Renamed::of(source(&one, &one)).text);
        assert!(first.any());
        let mut object = first.text.clone().into_bytes();
        first.rename(&mut object);
        assert_eq!(String::from_utf8(object).unwrap(), source(&one, &other));
        let mut object = first.text.clone().into_bytes();
        second.rename(&mut object);
        let expected = source(&digits(9, 1), &digits(12, 4));
        assert_eq!(String::from_utf8(object).unwrap(), expected);
    }

    #[test]
    fn what_only_looks_like_a_symbol_stays() {
        for text in [
            "fn f() {}",
            "glassbox_static_",
            "glassbox_static_7_0",
            "glassbox_static_000000000000",
            "glassbox_static_0000000000001_0",
        ] {
            let renamed = Renamed::of(text.to_owned());
            assert!(!renamed.any() && renamed.text == text, "{text}");
        }
    }
}
