//! JSON as Python's `json` module reads and writes it, which is what notebooks are written with.
//!
//! text as Python wrote it → [`to_strict`] → text that serde_json reads → … → [`to_python`] → the same text again.
//! Python takes what strict JSON does not: `NaN` and `Infinity`, numbers too large for a double, half a surrogate pair in a string,
//! and hundreds of levels of nesting. The first three are marked with a character that no text uses, so that they are written back
//! letter by letter; the last is read by [`parse`].

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use super::lossless::{elements, entries};

/// Begins every mark: Unicode's last character for private use.
const MARK: char = '\u{10FFFD}';
/// Behind [`MARK`] in a string that stands for a number.
const NUMBER: char = '=';
/// Deepest nesting that is read: Python's own limit.
const DEEPEST: usize = 1000;

/// What can't be read even so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Too many brackets inside each other.
    #[error(
        "its values are nested more than {DEEPEST} deep; Python cannot read such a file either"
    )]
    TooDeep,
    /// What marks have to be told from.
    #[error(
        "it holds half a surrogate pair, a number that is none (NaN) or is too large, and the character U+10FFFD; \
         remove one of them"
    )]
    MarkInUse,
}

/// Marks what strict JSON does not have. What is no JSON at all is left for the parser to object to.
///
/// # Errors
/// Nesting deeper than Python reads; a mark would be mistaken for text.
pub fn to_strict(text: &str) -> Result<Cow<'_, str>, Unreadable> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0; // how much of the text is in `out`
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string(text, at + 1, &mut out, &mut copied),
            b'[' | b'{' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(Unreadable::TooDeep);
                }
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                let rest = &bytes[at..];
                let ends = |byte: &u8| {
                    !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
                };
                let length = rest.iter().position(ends).unwrap_or(rest.len());
                let word = &text[at..at + length];
                if only_python_reads(word) {
                    out.push_str(&text[copied..at]);
                    out.extend(['"', MARK, NUMBER]);
                    out.push_str(word);
                    out.push('"');
                    copied = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(text));
    }
    if text.contains(MARK) || text.to_ascii_lowercase().contains("\\udbff\\udffd") {
        return Err(Unreadable::MarkInUse);
    }
    out.push_str(&text[copied..]);
    Ok(Cow::Owned(out))
}

/// Passes over a string's inside from `at`, marking each half of a surrogate pair; returns the place behind the closing quote.
fn string(text: &str, mut at: usize, out: &mut String, copied: &mut usize) -> usize {
    let bytes = text.as_bytes();
    loop {
        match bytes.get(at) {
            None => return at,
            Some(b'"') => return at + 1,
            Some(b'\\') => match escape(bytes, at) {
                Some(0xD800..=0xDBFF) if matches!(escape(bytes, at + 6), Some(0xDC00..=0xDFFF)) => {
                    at += 12;
                }
                Some(0xD800..=0xDFFF) => {
                    out.push_str(&text[*copied..at]);
                    out.push(MARK);
                    *copied = at + 2; // the four digits follow as they are spelled
                    at += 6;
                }
                _ => at += 2,
            },
            Some(_) => at += 1,
        }
    }
}

/// The value of `\uXXXX` at this place.
fn escape(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether this is a number to Python, and none to serde_json.
fn only_python_reads(word: &str) -> bool {
    let number = word.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    matches!(word, "NaN" | "Infinity" | "-Infinity")
        || (number
            && word.parse::<f64>().is_ok_and(f64::is_infinite)
            && serde_json::from_str::<&RawValue>(word).is_ok())
}

/// Writes every mark as what it stands for.
pub fn to_python(strict: String) -> String {
    if !strict.contains(MARK) {
        return strict;
    }
    let mut out = String::with_capacity(strict.len());
    let mut parts = strict.split(MARK);
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match part
            .strip_prefix(NUMBER)
            .and_then(|rest| rest.split_once('"'))
        {
            Some((number, rest)) if out.ends_with('"') => {
                out.pop();
                out.push_str(number);
                out.push_str(rest);
            }
            _ => {
                out.push_str("\\u");
                out.push_str(part);
            }
        }
    }
    out
}

/// A marked text for people and for the compiler: half a character is shown as U+FFFD, as Python's own replacement does.
pub fn shown(text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    let mut parts = text.split(MARK);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.strip_prefix(NUMBER) {
            Some(number) => out.push_str(number),
            None => {
                out.push(char::REPLACEMENT_CHARACTER);
                out.push_str(part.get(4..).unwrap_or_default());
            }
        }
    }
    out
}

/// A value, however deep: [`to_strict`] has looked after that.
///
/// # Errors
/// The text is not JSON.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if !error.to_string().starts_with("recursion limit exceeded") {
        return Err(error);
    }
    // serde_json passes over a value of any depth, but reads only 128 levels at once.
    serde_json::from_str::<&RawValue>(text)?;
    match text.trim_start().starts_with('[') {
        true => elements(text).into_iter().map(parse).collect(),
        false => entries(text)
            .into_iter()
            .map(|(key, raw)| Ok((key, parse(raw.get())?)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(text: &str) -> Value {
        let strict = to_strict(text).unwrap().into_owned();
        let value = parse(&strict).unwrap();
        assert_eq!(to_python(strict), text);
        // And spelled anew.
        let spelled = to_python(value.to_string());
        assert_eq!(
            parse(&to_strict(&spelled).unwrap()).unwrap(),
            value,
            "{spelled}"
        );
        value
    }

    #[test]
    fn what_python_reads_is_read_and_written_back() {
        for text in [
            "[NaN, Infinity, -Infinity, 1e400, -1E999, 1.5]",
            r#"{"a": "\ud83d", "b": "\ude00\ud83D", "c": "\ud83d\ude00", "d": "NaN \\ud83d \"NaN"}"#,
            r#"{"\udead": [NaN]}"#,
            r#""\\\ud800""#,
        ] {
            there_and_back(text);
        }
        let huge = format!("[{}]", "9".repeat(400));
        there_and_back(&huge);
        assert_eq!(
            shown(there_and_back(r#""x\ud83dy""#).as_str().unwrap().into()),
            "x\u{fffd}y"
        );
        let plain = r#"{"a": [1, -2.5e-3, true, null, "NaN", "\u00e9\\"]}"#;
        assert!(matches!(to_strict(plain), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn deep_nesting_is_read_up_to_pythons_limit() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = |levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));
            for levels in [100, 127, 128, 129, 200, 1000] {
                there_and_back(&deep(levels));
            }
            assert_eq!(to_strict(&deep(1001)), Err(Unreadable::TooDeep));
        }
    }

    #[test]
    fn what_is_no_json_stays_none() {
        for text in [
            "[nan]",
            "[NaNs]",
            "[+Infinity]",
            "{\"a\": 1e}",
            "[\"\\ud83",
            "\"\\u12\"",
            "[1",
            "NaN NaN",
        ] {
            let strict = to_strict(text).unwrap();
            assert!(parse(&strict).is_err(), "{text}");
        }
        assert_eq!(
            to_strict("[NaN, \"\u{10FFFD}\"]"),
            Err(Unreadable::MarkInUse)
        );
        assert_eq!(
            to_strict("[NaN, \"\\uDBFF\\udffd\"]"),
            Err(Unreadable::MarkInUse)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_comes_back(text in "[\\[\\]{},:\"\\\\uNaInfity0-9dDeE89 -]{0,60}") {
            if let Ok(strict) = to_strict(&text) {
                let strict = strict.into_owned();
                let _ = parse(&strict);
                proptest::prop_assert_eq!(to_python(strict), text);
            }
        }
    }
}
