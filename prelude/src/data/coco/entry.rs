//! The fields of one entry: what they say, what they must mean though written oddly, or the kind of fault that they have.

use crate::data::json::{Value, fields};
use crate::data::store::tidy;

/// Above this a fraction stands for several whole numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// One of the file's `images`.
pub(super) struct ImageEntry {
    pub id: Field<u64>,
    pub file_name: Result<String, String>,
}

/// One of the file's `annotations`.
pub(super) struct CaptionEntry {
    /// Needed only to find repeated ones: an unusable one is none.
    pub id: Field<u64>,
    pub image_id: Field<u64>,
    pub caption: Caption,
}

/// A number, with the kind of oddity that it was read through, or why there is none.
pub(in crate::data) type Field<T> = Result<(T, Option<&'static str>), String>;

/// What stands in a caption's place.
pub(super) enum Caption {
    /// With whether something in it was replaced.
    Text(String, bool),
    /// Null or white space.
    Empty,
    /// The field is not there.
    Missing,
    /// Something else.
    Other(&'static str),
}

/// Reads one of `images`; `None` if it is no object.
pub(super) fn image(entry: &[u8]) -> Option<ImageEntry> {
    let [id, name] = fields(entry, ["id", "file_name"])?;
    Some(ImageEntry {
        id: number(&id),
        file_name: match name {
            Value::Text(name, false) => Ok(name.into_owned()),
            Value::Text(_, true) => Err("that is no Unicode".into()),
            Value::Missing => Err("missing".into()),
            other => Err(format!("that is {}", other.words())),
        },
    })
}

/// Reads one of `annotations`; `None` if it is no object.
pub(super) fn caption(entry: &[u8]) -> Option<CaptionEntry> {
    let [id, image_id, caption] = fields(entry, ["id", "image_id", "caption"])?;
    Some(CaptionEntry {
        id: number(&id),
        image_id: number(&image_id),
        caption: match caption {
            Value::Text(text, repaired) => match tidy(&text) {
                empty if empty.is_empty() => Caption::Empty,
                text => Caption::Text(text, repaired),
            },
            Value::Null => Caption::Empty,
            Value::Missing => Caption::Missing,
            other => Caption::Other(other.words()),
        },
    })
}

/// An id: a whole number, also one that is written as text or as a fraction of nothing.
pub(in crate::data) fn number(value: &Value<'_>) -> Field<u64> {
    match value {
        Value::Number(text) => match text.parse() {
            Ok(number) => Ok((number, None)),
            Err(_) => Ok((fraction(text)?, Some("ids written as fractions"))),
        },
        Value::Text(text, _) => {
            let text = text.trim();
            let number = match text.parse() {
                Ok(number) => number,
                Err(_) if text.starts_with(|first: char| first.is_ascii_digit()) => {
                    fraction(text).map_err(|_| "that is text and no number".to_string())?
                }
                Err(_) => return Err("that is text and no number".into()),
            };
            Ok((number, Some("ids written as text")))
        }
        Value::Missing => Err("missing".into()),
        other => Err(format!("that is {}", other.words())),
    }
}

fn fraction(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(number) if number < 0.0 => Err("below 0".into()),
        Ok(number) if number >= EXACT => Err("that is too large".into()),
        Ok(number) if number.fract() == 0.0 => Ok(number as u64),
        Ok(_) => Err("that is no whole number".into()),
        Err(_) => Err("that is no JSON value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_where_only_one_number_can_be_meant() {
        let id = |text: &str| {
            let entry = format!("{{\"id\": {text}}}");
            image(entry.as_bytes()).map(|image| image.id)
        };
        for (text, wanted) in [
            ("7", 7),
            ("18446744073709551615", u64::MAX),
            ("7.0", 7),
            ("7e2", 700),
            ("-0", 0),
            ("\"7\"", 7),
            ("\" 000000000007\"", 7),
            ("\"7.0\"", 7),
        ] {
            let found = id(text).expect("an object").expect("a number");
            assert_eq!(found.0, wanted, "{text}");
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            assert_eq!(found.1.is_none(), plain, "{text}");
        }
        for (text, words) in [
            ("7.5", "no whole number"),
            ("-7", "below 0"),
            ("1e30", "too large"),
            ("1e999", "too large"),
            ("99999999999999999999", "too large"),
            ("\"7.5\"", "text"),
            ("\"a7\"", "text"),
            ("\"\"", "text"),
            ("\"inf\"", "text"),
            ("null", "null"),
            ("NaN", "NaN"),
            ("true", "true or false"),
            ("[7]", "a list"),
            ("{\"id\": 7}", "an object"),
            ("07x", "no JSON value"),
        ] {
            let kind = id(text).expect("an object").expect_err(text);
            assert!(kind.contains(words), "{text}: {kind}");
        }
    }
}
