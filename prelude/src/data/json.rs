//! The JSON of a dataset's file, entry by entry, so that a bad one costs itself and not the file.
//!
//! bytes → the two lists as slices of text → the fields of one entry → [`Value`]. Brackets and strings are followed; what
//! stands in fields that nobody asks for is not looked at, however deep it is nested. `NaN` and `Infinity`, which Python
//! writes, are values like others here.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// The two lists of a captions file.
#[derive(Debug, Default)]
pub(super) struct Lists<'a> {
    pub images: Option<Vec<&'a [u8]>>,
    pub annotations: Option<Vec<&'a [u8]>>,
    /// Text behind the end that is no white space.
    pub behind: usize,
}

/// Why a file has no lists.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is no JSON.
    Json(serde_json::Error),
    /// It is another kind of file, in words that follow its name.
    Kind(String),
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    /// The field is not there.
    Missing,
    Null,
    Bool,
    /// `NaN`, `Infinity` or `-Infinity`.
    NotFinite,
    /// As it is written.
    Number(&'a str),
    /// With whether a half surrogate pair or a byte that is no UTF-8 was replaced in it.
    Text(Cow<'a, str>, bool),
    List,
    Object,
    /// No JSON value.
    Nonsense,
}

impl Value<'_> {
    /// What it is, in words.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::NotFinite => "NaN or infinite",
            Self::Number(_) => "a number",
            Self::Text(..) => "text",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Nonsense => "no JSON value",
        }
    }
}

/// Finds the lists in a file.
pub(super) fn lists(bytes: &[u8]) -> Result<Lists<'_>, Fault> {
    let bytes = plain(bytes)?;
    let mut text = Text { bytes, at: 0 };
    if text.peek() != Some(b'{') {
        return Err(
            match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
                Err(error) => Fault::Json(error),
                Ok(_) => Fault::Kind(format!(
                    "its top level is {}, not an object with \"images\" and \"annotations\"",
                    value(bytes).words()
                )),
            },
        );
    }
    let mut lists = Lists::default();
    match read_lists(&mut text, &mut lists)? {
        Some(()) => {
            text.space();
            lists.behind = bytes.len() - text.at;
            Ok(lists)
        }
        None => Err(Fault::Json(text.complaint())),
    }
}

fn read_lists<'a>(text: &mut Text<'a>, lists: &mut Lists<'a>) -> Result<Option<()>, Fault> {
    let mut members = Members::new(text);
    while let Some(member) = members.next_name() {
        let place = match member.name {
            b"images" => &mut lists.images,
            b"annotations" => &mut lists.annotations,
            _ => {
                if members.text.value().is_none() {
                    return Ok(None);
                }
                continue;
            }
        };
        let name = String::from_utf8_lossy(member.name);
        if place.is_some() {
            return Err(Fault::Kind(format!("it has two lists {name:?}")));
        }
        if members.text.peek() != Some(b'[') {
            let Some(other) = members.text.value() else {
                return Ok(None);
            };
            return Err(Fault::Kind(format!(
                "its {name:?} is {}, not a list",
                value(other).words()
            )));
        }
        match members.text.elements() {
            Some(elements) => *place = Some(elements),
            None => return Ok(None),
        }
    }
    Ok(members.ended.then_some(()))
}

/// The named fields of one entry; of a name that stands twice the last, as in Python. `None` if it is no object.
pub(super) fn fields<'a, const N: usize>(
    entry: &'a [u8],
    names: [&str; N],
) -> Option<[Value<'a>; N]> {
    Some(raw_fields(entry, names)?.map(|raw| raw.map_or(Value::Missing, value)))
}

/// As [`fields`], each as it is written.
pub(super) fn raw_fields<'a, const N: usize>(
    entry: &'a [u8],
    names: [&str; N],
) -> Option<[Option<&'a [u8]>; N]> {
    let mut found = [None; N];
    let mut text = Text {
        bytes: entry,
        at: 0,
    };
    let mut members = Members::new(&mut text);
    while let Some(member) = members.next_name() {
        let raw = members.text.value()?;
        let name = match member.name.contains(&b'\\') {
            true => Cow::Owned(decoded(member.quoted)?.0.into_owned().into_bytes()),
            false => Cow::Borrowed(member.name),
        };
        if let Some(place) = names.iter().position(|wanted| wanted.as_bytes() == &*name) {
            found[place] = Some(raw);
        }
    }
    let ended = members.ended;
    (ended && text.at == entry.len()).then_some(found)
}

/// The names of an entry's fields, as they are written.
pub(super) fn names(entry: &[u8]) -> Vec<String> {
    let mut text = Text {
        bytes: entry,
        at: 0,
    };
    let mut members = Members::new(&mut text);
    let mut names = Vec::new();
    while let Some(member) = members.next_name() {
        names.push(String::from_utf8_lossy(member.name).into_owned());
        if members.text.value().is_none() {
            break;
        }
    }
    names
}

/// The elements of a list that is all of `raw`; `None` if it is no list.
pub(super) fn elements(raw: &[u8]) -> Option<Vec<&[u8]>> {
    let mut text = Text { bytes: raw, at: 0 };
    let elements = text.elements()?;
    text.space();
    (text.at == raw.len()).then_some(elements)
}

/// The elements of a file that is one list, or one object a line.
pub(super) fn samples(bytes: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    let bytes = plain(bytes)?;
    let mut text = Text { bytes, at: 0 };
    match text.peek() {
        Some(b'[') => {
            let elements = text.elements();
            elements.ok_or_else(|| Fault::Json(text.complaint()))
        }
        // The rest of a line behind an object that is whole is its own fault, found when it is read.
        Some(b'{') => {
            let lines = bytes.split(|byte| *byte == b'\n');
            let lines = lines
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty());
            let lines: Vec<_> = lines.collect();
            // One object over several lines is another kind of file.
            match lines.len() > 1 && fields::<0>(lines[0], []).is_none() {
                true => Err(Fault::Kind(
                    "its top level is an object, not a list of samples".into(),
                )),
                false => Ok(lines),
            }
        }
        _ => Err(
            match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
                Err(error) => Fault::Json(error),
                Ok(_) => Fault::Kind(format!(
                    "its top level is {}, not a list of samples",
                    value(bytes).words()
                )),
            },
        ),
    }
}

/// The text of a file without its byte order mark.
fn plain(bytes: &[u8]) -> Result<&[u8], Fault> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Fault::Kind("it is UTF-16: save it as UTF-8".into()));
    }
    if bytes.starts_with(&[0x1F, 0x8B]) || bytes.starts_with(b"PK\x03\x04") {
        return Err(Fault::Kind("it is compressed: unpack it".into()));
    }
    Ok(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes))
}

/// The members of an object, one after the other: a name, and `text` stands before its value.
struct Members<'t, 'a> {
    text: &'t mut Text<'a>,
    begun: bool,
    /// Whether the object's end was reached.
    ended: bool,
}

struct Member<'a> {
    /// Between the quotation marks.
    name: &'a [u8],
    quoted: &'a [u8],
}

impl<'t, 'a> Members<'t, 'a> {
    fn new(text: &'t mut Text<'a>) -> Self {
        Self {
            text,
            begun: false,
            ended: false,
        }
    }

    /// `None` at the end, and where the text is no object (any more).
    fn next_name(&mut self) -> Option<Member<'a>> {
        if self.begun {
            match self.text.peek()? {
                b'}' => {
                    self.text.at += 1;
                    self.ended = true;
                    return None;
                }
                b',' => self.text.at += 1,
                _ => return None,
            }
        } else {
            self.text.take(b'{')?;
            self.begun = true;
            if self.text.peek()? == b'}' {
                self.text.at += 1;
                self.ended = true;
                return None;
            }
        }
        self.text.space();
        let quoted = self.text.string()?;
        self.text.take(b':')?;
        self.text.space();
        Some(Member {
            name: &quoted[1..quoted.len() - 1],
            quoted,
        })
    }
}

/// A place in a text.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// A string with its quotation marks.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        if self.bytes.get(self.at) != Some(&b'"') {
            return None;
        }
        self.at += 1;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return self.bytes.get(start..self.at);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// Any value: brackets up to the one that closes the first, a string, or a word.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.space();
        let start = self.at;
        match self.bytes.get(self.at)? {
            b'"' => return self.string(),
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    match self.bytes.get(self.at)? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                let word =
                    |byte: &u8| !matches!(byte, b',' | b']' | b'}' | b':' | b'"') && *byte > b' ';
                while self.bytes.get(self.at).is_some_and(word) {
                    self.at += 1;
                }
            }
        }
        (self.at > start).then(|| &self.bytes[start..self.at])
    }

    /// The elements of a list.
    fn elements(&mut self) -> Option<Vec<&'a [u8]>> {
        let mut elements = Vec::new();
        self.take(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(elements);
        }
        loop {
            elements.push(self.value()?);
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(elements);
                }
                _ => return None,
            }
        }
    }

    /// What is wrong here.
    fn complaint(&self) -> serde_json::Error {
        let at = self.at.min(self.bytes.len());
        let before = &self.bytes[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before
            .iter()
            .rev()
            .take_while(|byte| **byte != b'\n')
            .count()
            + 1;
        serde_json::Error::custom(match self.bytes.get(at) {
            None => format!("it ends in the middle, in line {line} (was the download cut off?)"),
            Some(byte) => format!(
                "{:?} was not expected at line {line} column {column}",
                char::from(*byte)
            ),
        })
    }
}

/// What a field's text says.
pub(super) fn value(raw: &[u8]) -> Value<'_> {
    match raw {
        [b'"', ..] => decoded(raw).map_or(Value::Nonsense, |(text, repaired)| {
            Value::Text(text, repaired)
        }),
        [b'[', ..] => Value::List,
        [b'{', ..] => Value::Object,
        b"null" => Value::Null,
        b"true" | b"false" => Value::Bool,
        b"NaN" | b"Infinity" | b"-Infinity" => Value::NotFinite,
        [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..] => {
            std::str::from_utf8(raw).map_or(Value::Nonsense, Value::Number)
        }
        _ => Value::Nonsense,
    }
}

/// A string's text, and whether something in it had to be replaced.
fn decoded(quoted: &[u8]) -> Option<(Cow<'_, str>, bool)> {
    let inside = &quoted[1..quoted.len() - 1];
    if !inside.contains(&b'\\')
        && let Ok(text) = std::str::from_utf8(inside)
    {
        return Some((Cow::Borrowed(text), false));
    }
    if let Ok(text) = serde_json::from_slice::<String>(quoted) {
        return Some((Cow::Owned(text), false));
    }
    let bytes: Lenient = serde_json::from_slice(quoted).ok()?;
    let text = String::from_utf8_lossy(&bytes.0);
    // Half a surrogate pair is three bytes, each of which is replaced.
    let text = text.replace("\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}");
    Some((Cow::Owned(text), true))
}

/// A string's bytes, which may be no UTF-8.
struct Lenient(Vec<u8>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Lenient;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lenient, E> {
                Ok(Lenient(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_among_others_however_they_are_written() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let entry = format!(
            "{{ \"deep\": {deep}, \"a\": 1, \"b\" : \"x \\\"}}, \\u00e9\", \"\\u0063\": NaN, \"a\": 2.0}}"
        );
        let found = fields(entry.as_bytes(), ["a", "b", "c", "d"]).expect("an object");
        assert_eq!(
            found,
            [
                Value::Number("2.0"),
                Value::Text("x \"}, é".into(), false),
                Value::NotFinite,
                Value::Missing
            ]
        );
        for broken in [
            "",
            "7",
            "[]",
            "{\"a\": }",
            "{\"a\" 1}",
            "{\"a\": 1]",
            "{\"a\": 1}}",
            "{'a': 1}",
        ] {
            assert!(fields(broken.as_bytes(), ["a"]).is_none(), "{broken}");
        }
    }

    #[test]
    fn text_that_is_no_unicode_is_repaired() {
        let half = value(br#""a \ud83d dog""#);
        assert_eq!(half, Value::Text("a \u{fffd} dog".into(), true));
        assert_eq!(
            value(b"\"caf\xe9\""),
            Value::Text("caf\u{fffd}".into(), true)
        );
        assert_eq!(value(br#""\ud83d\udc36""#), Value::Text("🐶".into(), false));
        assert_eq!(value(br#""\q""#), Value::Nonsense);
        assert_eq!(value(b"nan"), Value::Nonsense);
        assert_eq!(value(b"-Infinity"), Value::NotFinite);
    }

    #[test]
    fn a_file_that_is_no_object_or_cut_off_says_so() {
        let said = |text: &str| match lists(text.as_bytes()) {
            Ok(lists) => format!("{lists:?}"),
            Err(Fault::Json(error)) => error.to_string(),
            Err(Fault::Kind(words)) => words,
        };
        assert!(said("[]").contains("top level is a list"));
        assert!(said("{\"images\": {}}").contains("\"images\" is an object"));
        assert!(said("{\"images\": [], \"images\": []}").contains("two lists"));
        assert!(said("{\"images\": [{},\n {\"id\": ").contains("ends in the middle, in line 2"));
        assert!(said("{\"images\": [1 2]}").contains("'2' was not expected at line 1 column 15"));
        assert!(said("{\"images\": [\"").contains("ends in the middle"));
        assert!(said("\u{feff}{\"images\": []} x").contains("behind: 1"));
    }
}
