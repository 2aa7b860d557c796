//! How Python writes values: `str`, `repr`, `json.dumps`, and `strftime` of the present time.

use minijinja::Value;
use minijinja::value::ValueKind;
use std::fmt::Write;

/// `str(value)`; nothing for an undefined one.
pub fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_string(),
        None => repr(value),
    }
}

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let items =
        |open: char, items: Vec<String>, close: char| format!("{open}{}{close}", items.join(", "));
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::None => "None".into(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::Number => number(value),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            let entries = value.try_iter().into_iter().flatten().map(|key| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&item))
            });
            items('{', entries.collect(), '}')
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let entries = value.try_iter().into_iter().flatten();
            items('[', entries.map(|item| repr(&item)).collect(), ']')
        }
        _ => value.to_string(),
    }
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// `repr` of a float: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        format!("{value:?}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

/// `repr` of a text.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() || (c.is_whitespace() && c != ' ') || c == '\u{ad}' => {
                let code = u32::from(c);
                _ = if code < 0x100 {
                    write!(out, "\\x{code:02x}")
                } else {
                    write!(out, "\\u{code:04x}")
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// The settings of `json.dumps`.
pub struct Json {
    pub ascii: bool,
    pub sort: bool,
    /// What one level is moved to the right by; absent: everything on one line.
    pub indent: Option<String>,
    /// Between items.
    pub item: String,
    /// Between a key and its value.
    pub key: String,
}

impl Json {
    /// The value as JSON; the message says what is not.
    pub fn dumps(&self, value: &Value) -> Result<String, String> {
        let mut out = String::new();
        self.write(value, 0, &mut out)?;
        Ok(out)
    }

    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), String> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&json_number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter().map_err(|e| e.to_string())? {
                    let name = match key.kind() {
                        ValueKind::String => key.to_string(),
                        ValueKind::None => "null".into(),
                        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
                        ValueKind::Number => json_number(&key),
                        other => return Err(format!("a key is a {other}")),
                    };
                    entries.push((name, value.get_item(&key).map_err(|e| e.to_string())?));
                }
                if self.sort {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.items('{', entries, '}', depth, out, |(name, value), out| {
                    self.string(&name, out);
                    out.push_str(&self.key);
                    self.write(&value, depth + 1, out)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().map_err(|e| e.to_string())?;
                self.items('[', items.collect(), ']', depth, out, |item, out| {
                    self.write(&item, depth + 1, out)
                })?;
            }
            ValueKind::Undefined => return Err("the value is undefined".into()),
            other => return Err(format!("a {other} is not JSON")),
        }
        Ok(())
    }

    fn items<T>(
        &self,
        open: char,
        items: Vec<T>,
        close: char,
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(T, &mut String) -> Result<(), String>,
    ) -> Result<(), String> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        let empty = items.is_empty();
        out.push(open);
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                out.push_str(&self.item);
            }
            line(depth + 1, out);
            write(item, out)?;
        }
        if !empty {
            line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn json_number(value: &Value) -> String {
    match number(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        other => other.to_string(),
    }
}

/// The present local time by C's `strftime`, which is what Python calls; `None` if it does not fit.
#[cfg(unix)]
pub fn strftime_now(form: &str) -> Option<String> {
    if form.is_empty() {
        return Some(String::new());
    }
    let form = std::ffi::CString::new(form).ok()?;
    let mut buffer = vec![0u8; 4096];
    // SAFETY: time takes a null pointer, `parts` is plain data that localtime_r fills before strftime reads it, and strftime
    // writes at most the buffer's length.
    let length = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&raw const now, &raw mut parts).is_null() {
            return None;
        }
        libc::strftime(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            form.as_ptr(),
            &raw const parts,
        )
    };
    buffer.truncate(length);
    String::from_utf8(buffer)
        .ok()
        .filter(|text| !text.is_empty())
}

/// No clock is asked here: a template that wants the date says so.
#[cfg(not(unix))]
pub fn strftime_now(form: &str) -> Option<String> {
    form.is_empty().then(String::new)
}
