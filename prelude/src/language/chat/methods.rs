//! Methods of Python's values that templates call and that `minijinja-contrib` lacks or writes otherwise.

use super::{jinja, python};
use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// Calls a method of a text, a map or a list.
pub fn call(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let ours = match value.as_str() {
        Some(text) => of_text(text, method, args)?,
        None if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) => {
            of_list(value, method, args)?
        }
        None => None,
    };
    match ours {
        Some(value) => Ok(value),
        None => jinja::unknown(state, value, method, args),
    }
}

fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let whole = |test: fn(char) -> bool| Some((!text.is_empty() && text.chars().all(test)).into());
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Some(strip(text, chars, method != "rstrip", method != "lstrip").into())
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Some(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Some(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "rsplit" => {
            let (between, count): (Option<&str>, Option<i64>) = from_args(args)?;
            let count = count
                .filter(|count| *count >= 0)
                .map_or(usize::MAX, |count| count as usize);
            let mut parts: Vec<&str> = match between {
                Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
                Some(between) => text.rsplitn(count.saturating_add(1), between).collect(),
                None if count == usize::MAX => text.split_whitespace().rev().collect(),
                None => {
                    return Err(Error::new(
                        ErrorKind::InvalidOperation,
                        "rsplit by blanks has no limit here",
                    ));
                }
            };
            parts.reverse();
            Some(list(&parts))
        }
        "partition" | "rpartition" => {
            let (between,): (&str,) = from_args(args)?;
            let split = if method == "partition" {
                text.split_once(between)
            } else {
                text.rsplit_once(between)
            };
            Some(match split {
                Some((before, after)) => list(&[before, between, after]),
                None if method == "partition" => list(&[text, "", ""]),
                None => list(&["", "", text]),
            })
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let found = if method == "index" {
                text.find(part)
            } else {
                text.rfind(part)
            };
            let Some(at) = found else {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "substring not found",
                ));
            };
            Some(text[..at].chars().count().into())
        }
        "find" | "rfind" => {
            let (part,): (&str,) = from_args(args)?;
            let found = if method == "find" {
                text.find(part)
            } else {
                text.rfind(part)
            };
            Some(found.map_or(Value::from(-1), |at| text[..at].chars().count().into()))
        }
        "zfill" | "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let missing = width.min(1 << 20).saturating_sub(text.chars().count());
            Some(pad(text, method, missing, fill).into())
        }
        "swapcase" => Some(
            text.chars()
                .flat_map(|c| -> Vec<char> {
                    if c.is_uppercase() {
                        c.to_lowercase().collect()
                    } else {
                        c.to_uppercase().collect()
                    }
                })
                .collect::<String>()
                .into(),
        ),
        "casefold" => Some(text.to_lowercase().into()),
        "expandtabs" => Some(text.replace('\t', "        ").into()),
        "isalpha" => whole(char::is_alphabetic),
        "isalnum" => whole(char::is_alphanumeric),
        "isspace" => whole(is_space),
        "isdigit" | "isdecimal" | "isnumeric" => whole(char::is_numeric),
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let items = items.try_iter()?.map(|item| match item.as_str() {
                Some(item) => Ok(item.to_string()),
                None => Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("join: {} is not a text", python::repr(&item)),
                )),
            });
            Some(items.collect::<Result<Vec<_>, _>>()?.join(text).into())
        }
        _ => None,
    })
}

/// `str.strip` at the start, the end or both: of blanks, or of any of these characters.
pub fn strip<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let goes = |c: char| match chars {
        Some(chars) => chars.contains(c),
        None => is_space(c),
    };
    let text = if start {
        text.trim_start_matches(goes)
    } else {
        text
    };
    if end {
        text.trim_end_matches(goes)
    } else {
        text
    }
}

/// `str.isspace` of one character.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn list(texts: &[&str]) -> Value {
    texts.iter().map(|text| Value::from(*text)).collect()
}

/// A method of a dict.
pub fn of_dict(state: &State, dict: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        // A key of that name can be called where it is a macro.
        "keys" | "values" | "items" | "get" => jinja::unknown(state, dict, method, args),
        "pop" | "popitem" | "update" | "setdefault" | "clear" => {
            let what = format!("access to attribute '{method}' of 'dict' object is unsafe");
            Err(Error::new(ErrorKind::InvalidOperation, what))
        }
        _ => match dict.get_attr(method)? {
            item if item.is_undefined() => Err(Error::from(ErrorKind::UnknownMethod)),
            item => item.call(state, args),
        },
    }
}

/// A text with so many characters added.
fn pad(text: &str, method: &str, missing: usize, fill: Option<char>) -> String {
    let filled = |count: usize| fill.unwrap_or(' ').to_string().repeat(count);
    match method {
        "zfill" => {
            let digits = text.trim_start_matches(['+', '-']);
            let sign = &text[..text.len() - digits.len()];
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        "ljust" => text.to_string() + &filled(missing),
        "rjust" => filled(missing) + text,
        _ => filled(missing / 2) + text + &filled(missing - missing / 2),
    }
}

fn of_list(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(match method {
        "index" => {
            let (wanted,): (Value,) = from_args(args)?;
            let at = list.try_iter()?.position(|item| item == wanted);
            match at {
                Some(at) => Some(at.into()),
                None => {
                    let what = format!("{} is not in list", python::repr(&wanted));
                    return Err(Error::new(ErrorKind::InvalidOperation, what));
                }
            }
        }
        // As in the sandbox of transformers: what a template is given stays as it is.
        "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
            let what = format!("access to attribute '{method}' of 'list' object is unsafe");
            return Err(Error::new(ErrorKind::InvalidOperation, what));
        }
        _ => None,
    })
}
