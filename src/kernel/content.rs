//! What a message has to hold to be understood, and what is wrong with one that can't be.
//!
//! Whoever sent a request with a good signature waits for an answer to it, so nothing here is refused without a reason that can be
//! told. A header is taken as it comes, for the answer has to name it; contents are read key by key, and what the protocol calls
//! required but has a plain default may be left out.

use jupyter_protocol::Header;
use serde_json::{Map, Value, json};

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Flag,
    Whole,
    Fields,
}

use Holds::{Fields, Flag, Text, Whole};

/// The fields that are read, by message.
const READ: [(&str, &[(&str, Holds)]); 12] = [
    (
        "execute_request",
        &[
            ("code", Text),
            ("silent", Flag),
            ("store_history", Flag),
            ("allow_stdin", Flag),
            ("stop_on_error", Flag),
            ("user_expressions", Fields),
        ],
    ),
    ("complete_request", &[("code", Text), ("cursor_pos", Whole)]),
    (
        "inspect_request",
        &[
            ("code", Text),
            ("cursor_pos", Whole),
            ("detail_level", Whole),
        ],
    ),
    ("is_complete_request", &[("code", Text)]),
    (
        "history_request",
        &[
            ("hist_access_type", Text),
            ("output", Flag),
            ("raw", Flag),
            ("unique", Flag),
            ("session", Whole),
            ("start", Whole),
            ("stop", Whole),
            ("n", Whole),
            ("pattern", Text),
        ],
    ),
    ("comm_info_request", &[("target_name", Text)]),
    ("shutdown_request", &[("restart", Flag)]),
    ("comm_open", &[("comm_id", Text), ("target_name", Text)]),
    ("comm_msg", &[("comm_id", Text)]),
    ("comm_close", &[("comm_id", Text)]),
    ("input_reply", &[("value", Text)]),
    ("interrupt_request", &[]),
];

/// Fields without which a message means nothing.
const NEEDED: [(&str, &str); 5] = [
    ("execute_request", "code"),
    ("comm_open", "comm_id"),
    ("comm_msg", "comm_id"),
    ("comm_close", "comm_id"),
    ("input_reply", "value"),
];

/// The header in these bytes, whatever it lacks.
pub(super) fn header(bytes: &[u8]) -> Header {
    let mut fields = match read(bytes).unwrap_or_else(|unread| unread.rest) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    for name in ["msg_id", "username", "session", "msg_type", "version"] {
        let text = match fields.remove(name) {
            Some(Value::String(text)) => text,
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        fields.insert(name.to_owned(), Value::String(text));
    }
    let dated = serde_json::from_value(Value::Object(fields.clone()));
    dated.unwrap_or_else(|_| {
        fields.remove("date");
        serde_json::from_value(Value::Object(fields)).unwrap_or_else(|_| Header {
            msg_id: String::new(),
            username: String::new(),
            session: String::new(),
            date: Default::default(),
            msg_type: String::new(),
            version: String::new(),
        })
    })
}

/// The content in these bytes, for a message of this kind; or why it can't be understood.
pub(super) fn content(kind: &str, bytes: &[u8]) -> Result<Value, String> {
    let content = match read(bytes).map_err(|unread| unread.why)? {
        // Some clients have nothing to say where nothing needs to be said.
        Value::Null => json!({}),
        content => content,
    };
    let Value::Object(fields) = &content else {
        return Err(format!(
            "its content is {}, not an object",
            name_of(&content)
        ));
    };
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    if kind.is_empty() {
        return Err("its header has no `msg_type`".to_owned());
    }
    for (_, name) in NEEDED.iter().filter(|(of, _)| *of == kind) {
        given(name).ok_or_else(|| format!("its content has no `{name}`"))?;
    }
    let read = READ.iter().find(|(of, _)| *of == kind);
    for (name, holds) in read.into_iter().flat_map(|(_, fields)| *fields) {
        let Some(value) = given(name) else { continue };
        let (fits, wanted) = match holds {
            Text => (value.is_string(), "text"),
            Flag => (value.is_boolean(), "true or false"),
            Whole => (value.is_i64(), "a whole number"),
            Fields => (value.is_object(), "an object"),
        };
        if !fits {
            let is = name_of(value);
            return Err(format!("`{name}` in its content is {is}, not {wanted}"));
        }
    }
    Ok(content)
}

/// Bytes that are no message's part.
struct Unread {
    why: String,
    /// What can be read of it all the same.
    rest: Value,
}

fn read(bytes: &[u8]) -> Result<Value, Unread> {
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let unread = |why: String| Unread {
        why,
        rest: Value::Null,
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(unread("its content is not UTF-8".to_owned()));
    };
    if let Some((escape, repaired)) = without_half_pairs(text)
        && let Ok(rest) = serde_json::from_str(&repaired)
    {
        return Err(Unread {
            why: format!(
                "its content holds {escape}, half of a surrogate pair, which is no character"
            ),
            rest,
        });
    }
    if error.to_string().starts_with("recursion limit") {
        return Err(unread("its content is nested too deep".to_owned()));
    }
    Err(unread(format!("its content is not JSON: {error}")))
}

/// The text with � in the place of each half of a surrogate pair, and the first of them; `None` if it has none.
fn without_half_pairs(text: &str) -> Option<(String, String)> {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut repaired = String::new();
    let mut first = None;
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        let escape = at + found;
        repaired.push_str(&text[at..escape]);
        // An escape that is not of four digits is of one character.
        let length = match unit(escape) {
            Some(0xd800..0xdc00) if matches!(unit(escape + 6), Some(0xdc00..0xe000)) => 12,
            Some(0xd800..0xe000) => {
                first.get_or_insert_with(|| text[escape..escape + 6].to_owned());
                repaired.push('\u{fffd}');
                at = escape + 6;
                continue;
            }
            Some(_) => 6,
            None => 1 + text[escape + 1..].chars().next().map_or(0, char::len_utf8),
        };
        repaired.push_str(&text[escape..escape + length]);
        at = escape + length;
    }
    repaired.push_str(&text[at..]);
    first.map(|first| (first, repaired))
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(kind: &str, text: &str) -> String {
        content(kind, text.as_bytes()).expect_err(text)
    }

    #[test]
    fn what_is_wrong_with_a_content_is_said() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for (kind, text, words) in [
            (
                "execute_request",
                r#"{"code":"\"\ud83d\""}"#,
                "\\ud83d, half of a surrogate pair",
            ),
            (
                "execute_request",
                r#"{"code":"a\\\udc00"}"#,
                "half of a surrogate pair",
            ),
            (
                "execute_request",
                r#"{"code":7}"#,
                "`code` in its content is a number, not text",
            ),
            (
                "execute_request",
                r#"{"code":"1","silent":"no"}"#,
                "`silent`",
            ),
            (
                "execute_request",
                r#"{"code":"1","user_expressions":[]}"#,
                "not an object",
            ),
            ("execute_request", "{}", "no `code`"),
            ("execute_request", "[]", "a list, not an object"),
            ("is_complete_request", "\"x\"", "text, not an object"),
            (
                "complete_request",
                r#"{"code":"1","cursor_pos":1.5}"#,
                "a whole number",
            ),
            ("kernel_info_request", "{", "not JSON"),
            ("kernel_info_request", &deep, "nested too deep"),
            ("comm_msg", "{}", "no `comm_id`"),
            ("", "{}", "no `msg_type`"),
        ] {
            assert!(
                why(kind, text).contains(words),
                "{kind} {text}: {}",
                why(kind, text)
            );
        }
        assert_eq!(
            content("x", &[0x22, 0xff, 0x22]),
            Err("its content is not UTF-8".to_owned())
        );
    }

    #[test]
    fn what_can_be_meant_is_read() {
        for (kind, text) in [
            (
                "execute_request",
                r#"{"code":"\ud83d\ude00 \\ud83d","silent":null}"#,
            ),
            ("is_complete_request", "{}"),
            ("kernel_info_request", "null"),
            ("no_such_request", r#"{"x":1}"#),
        ] {
            assert!(content(kind, text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_header_is_taken_as_it_comes() {
        let whole =
            header(br#"{"msg_id":"1","msg_type":"x","date":"2024-01-01T00:00:00Z","more":[]}"#);
        assert_eq!((whole.msg_id.as_str(), whole.msg_type.as_str()), ("1", "x"));
        let odd = header(br#"{"msg_id":5,"session":null,"date":7,"msg_type":"a\ud800"}"#);
        assert_eq!(
            (odd.msg_id.as_str(), odd.msg_type.as_str()),
            ("5", "a\u{fffd}")
        );
        for text in ["", "[]", "null", "{"] {
            assert_eq!(header(text.as_bytes()).msg_type, "");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"(\\u[dD][89abcdef][0-9a-f]{2}|\\|"|u|\PC){0,12}"#) {
            let _ = header(text.as_bytes());
            let _ = content("execute_request", text.as_bytes());
            if let Some((_, repaired)) = without_half_pairs(&text) {
                proptest::prop_assert!(without_half_pairs(&repaired).is_none(), "{}", repaired);
            }
        }
    }
}
