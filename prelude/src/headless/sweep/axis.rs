//! What a sweep varies, as it is written on a command line: `trainer.steps=100,200` → a setting's path and its values.
//!
//! Values are those of TOML; a bare word is a text. Commas inside quotes, brackets and braces belong to the value.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::headless::document;
use crate::{Error, Result};

/// A setting by its path in the file of a run, and the values that are tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Axis {
    pub(super) key: String,
    pub(super) values: Vec<Value>,
}

impl Axis {
    pub(super) fn parse(text: &str) -> Result<Axis> {
        let wrong = |what: String| {
            Error::Config(format!(
                "what the sweep is over, {text:?}, {what}: give it as `trainer.learning_rate=1e-4,3e-4`"
            ))
        };
        let (key, values) = text
            .split_once('=')
            .ok_or_else(|| wrong("has no `=`".into()))?;
        let key = key.trim();
        if key
            .split('.')
            .any(|part| part.trim() != part || part.is_empty())
        {
            return Err(wrong(format!("names no setting: {key:?} is no path")));
        }
        let values = parts(values).map_err(wrong)?;
        let mut axis = Axis {
            key: key.to_owned(),
            values: Vec::new(),
        };
        for written in values {
            let value = value_of(written).map_err(wrong)?;
            if axis.values.contains(&value) {
                return Err(wrong(format!("has the value {} twice", written.trim())));
            }
            axis.values.push(value);
        }
        Ok(axis)
    }
}

/// Splits at commas that stand outside of quotes, brackets and braces.
fn parts(text: &str) -> std::result::Result<Vec<&str>, String> {
    let (mut found, mut begin) = (Vec::new(), 0);
    let mut open = Vec::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some('"'), '\\') => drop(letters.next()),
            (Some(begun), _) if letter == begun => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[') => open.push(']'),
            (None, '{') => open.push('}'),
            (None, ']' | '}') if open.pop() != Some(letter) => {
                return Err(format!("has a {letter:?} that closes nothing"));
            }
            (None, ',') if open.is_empty() => {
                found.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if let Some(missing) = quote.or_else(|| open.pop()) {
        return Err(format!("lacks a closing {missing:?}"));
    }
    found.push(&text[begin..]);
    Ok(found)
}

/// A value of TOML, or a bare word.
fn value_of(written: &str) -> std::result::Result<Value, String> {
    let written = written.trim();
    if written.is_empty() {
        return Err("has an empty value (an empty text is \"\")".into());
    }
    if let Some(value) = document::value(written) {
        return Ok(value);
    }
    let bare = |letter: char| letter.is_alphanumeric() || "_-+./:@~".contains(letter);
    match written.chars().all(bare) {
        true => Ok(Value::String(written.to_owned())),
        false => Err(format!(
            "has the value {written}, which is none of TOML and no bare word (a text is put in quotes)"
        )),
    }
}

/// A value for people, as it could be written.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_those_of_toml_and_bare_words() -> Result<()> {
        for (text, values) in [
            ("a.b=1e-4,3e-4", json!([1e-4, 3e-4])),
            ("a=1, 2 ,3", json!([1, 2, 3])),
            ("a=true,none", json!([true, "none"])),
            ("a=mlp2x_gelu,linear", json!(["mlp2x_gelu", "linear"])),
            ("a=\"one, two\",'it''s'", json!([])),
            ("a=\"one, two\",'x'", json!(["one, two", "x"])),
            ("a=\"a \\\" b\",c", json!(["a \" b", "c"])),
            (
                "a=[1,2],{ r = 8, lora_alpha = 16.0 },none",
                json!([[1, 2], {"r": 8, "lora_alpha": 16.0}, "none"]),
            ),
            ("a=/data/x-1.5,../y", json!(["/data/x-1.5", "../y"])),
            ("a=b=c", json!([])),
        ] {
            let axis = Axis::parse(text);
            match values.as_array().filter(|values| !values.is_empty()) {
                Some(values) => assert_eq!(&axis?.values, values, "{text}"),
                None => assert!(axis.is_err(), "{text}"),
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_axis_is_refused_with_the_reason() {
        for (text, why) in [
            ("trainer.steps", "no `=`"),
            ("=1", "names no setting"),
            ("trainer..steps=1", "names no setting"),
            ("a. b=1", "names no setting"),
            ("a=", "empty value"),
            ("a=1,,2", "empty value"),
            ("a=1,2,1", "the value 1 twice"),
            ("a=[1,2", "lacks a closing ']'"),
            ("a=\"x", "lacks a closing '\"'"),
            ("a=1]", "closes nothing"),
            ("a=range(1,4)", "no bare word"),
            ("a=1\n[model]", "no bare word"),
        ] {
            let error = Axis::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
