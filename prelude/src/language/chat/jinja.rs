//! Jinja as transformers sets it up: blocks trimmed, `{% generation %}`, `break` and `continue`, `raise_exception`,
//! `strftime_now`, `tojson` as `json.dumps`, and values written as Python writes them.

use super::dict::{self, Dict};
use super::rewrite::rewrite;
use super::{methods, python};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde_json::Map;
use std::fmt::Write;

/// Steps of Jinja's machine: several seconds, and a thousand times what a long conversation takes.
const STEPS: u64 = 20_000_000;
/// Bytes of the text.
const ROOM: usize = 64 << 20;

/// Renders `template`; the message says what was wrong.
pub fn render(template: &str, context: &Map<String, serde_json::Value>) -> Result<String, String> {
    let source = rewrite(template);
    let environment = environment();
    let template = environment
        .template_from_str(&source)
        .map_err(|e| say(&e))?;
    let context: Value = context
        .iter()
        .map(|(name, json)| (name.clone(), dict::value(json)))
        .collect();
    let mut text = Limited(Vec::new());
    // The library panics on a few operations, such as turning an empty list around.
    let rendered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        template.render_captured_to(context, &mut text)
    }));
    match rendered {
        Ok(Ok(_)) => String::from_utf8(text.0).map_err(|error| error.to_string()),
        Ok(Err(_)) if text.0.len() >= ROOM => {
            Err(format!("its text grew beyond {} MB", ROOM >> 20))
        }
        Ok(Err(error)) => Err(say(&error)),
        Err(_) => Err("it does something that the Jinja engine cannot".into()),
    }
}

/// An error with what caused it, on one line.
fn say(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("it did not end within {STEPS} steps: does it loop for ever?");
    }
    let place = error.line().map(|line| format!(" (line {line})"));
    let what = match error.detail() {
        Some(detail) if error.kind() == ErrorKind::InvalidOperation => detail.to_string(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    what + &place.unwrap_or_default()
}

/// A text that ends.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.0.len() >= ROOM {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn environment() -> Environment<'static> {
    let mut jinja = Environment::new();
    jinja.set_trim_blocks(true);
    jinja.set_lstrip_blocks(true);
    jinja.set_fuel(Some(STEPS));
    jinja.set_unknown_method_callback(methods::call);
    jinja.set_formatter(|out, _, value| {
        if value.is_undefined() {
            return Ok(());
        }
        match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&python::text(value)),
        }
        .map_err(|_| Error::new(ErrorKind::WriteFailure, "the text could not be written"))
    });
    jinja.add_filter("tojson", to_json);
    jinja.add_filter("string", |value: &Value| python::text(value));
    jinja.add_filter("join", join);
    jinja.add_filter("each", |value: Value| match value.is_none() {
        true => Err(Error::new(
            ErrorKind::InvalidOperation,
            "a loop runs over none, which has no items",
        )),
        false => Ok(value),
    });
    jinja.add_filter("trim", |value: &Value, chars: Option<&str>| {
        methods::strip(&python::text(value), chars, true, true).to_string()
    });
    jinja.add_filter("upper", |value: &Value| python::text(value).to_uppercase());
    jinja.add_filter("lower", |value: &Value| python::text(value).to_lowercase());
    jinja.add_filter(
        "replace",
        |value: &Value, old: &Value, new: &Value, count: Option<usize>| {
            let (text, old, new) = (python::text(value), python::text(old), python::text(new));
            text.replacen(&old, &new, count.unwrap_or(usize::MAX))
        },
    );
    jinja.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Seq | ValueKind::Map | ValueKind::String
        )
    });
    jinja.add_test("iterable", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Seq
                | ValueKind::Map
                | ValueKind::String
                | ValueKind::Iterable
                | ValueKind::Undefined
        )
    });
    jinja.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    jinja.add_filter("wordcount", |value: &Value| {
        python::text(value).split_whitespace().count()
    });
    jinja.add_function("dict_of", |items: Rest<Value>| Dict::literal(&items));
    jinja.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    jinja.add_function("strftime_now", |form: &str| {
        python::strftime_now(form).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("strftime_now: the time cannot be written as {form:?}"),
            )
        })
    });
    jinja
}

/// `json.dumps(x, ensure_ascii, indent, separators, sort_keys)`, with transformers' defaults.
fn to_json(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let mut given = [const { None }; 4];
    for (place, name) in names.into_iter().enumerate() {
        given[place] = match positional.get(place) {
            Some(value) => Some(value.clone()),
            None => named.get::<Option<Value>>(name)?,
        }
        .filter(|value| !value.is_none() && !value.is_undefined());
    }
    named.assert_all_used()?;
    let [ascii, indent, separators, sort] = given;
    let wrong = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"));
    let indent = match indent {
        None => None,
        Some(value) => Some(match (value.as_str(), i64::try_from(value.clone())) {
            (Some(text), _) => text.to_string(),
            (None, Ok(count)) if count <= 1000 => " ".repeat(count.max(0) as usize),
            _ => return Err(wrong("indent is neither a number of spaces nor a text")),
        }),
    };
    let separators = match separators {
        None => None,
        Some(value) => {
            let pair: Vec<Value> = value.try_iter()?.collect();
            match pair.as_slice() {
                [item, key] if item.as_str().is_some() && key.as_str().is_some() => {
                    Some((item.to_string(), key.to_string()))
                }
                _ => return Err(wrong("separators are not two texts")),
            }
        }
    };
    let json = python::Json {
        ascii: ascii.is_some_and(|value| value.is_true()),
        sort: sort.is_some_and(|value| value.is_true()),
        item: separators.as_ref().map_or_else(
            || if indent.is_some() { "," } else { ", " }.to_string(),
            |(item, _)| item.clone(),
        ),
        key: separators.map_or_else(|| ": ".to_string(), |(_, key)| key),
        indent,
    };
    json.dumps(value)
        .map(Value::from)
        .map_err(|what| wrong(&what))
}

/// As Jinja's own: every item as Python writes it.
fn join(value: &Value, between: Option<&Value>, named: Kwargs) -> Result<String, Error> {
    let by_name = named.get::<Option<Value>>("d")?;
    let between = between.or(by_name.as_ref()).map(python::text);
    let attribute = named.get::<Option<Value>>("attribute")?;
    named.assert_all_used()?;
    let mut text = String::new();
    for (place, item) in value.try_iter()?.enumerate() {
        if place > 0 {
            text += between.as_deref().unwrap_or_default();
        }
        let item = match &attribute {
            Some(name) => item.get_item(name)?,
            None => item,
        };
        _ = write!(text, "{}", python::text(&item));
    }
    Ok(text)
}

/// A method that a value of Jinja does not have.
pub fn unknown(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        render(template, &Map::new())
    }

    #[test]
    fn what_a_model_says_may_be_marked() {
        let text = "a {%- generation -%} b {% set x = 1 %}{% endgeneration %}{{ x }}{# {% generation %} #}{% raw %}{% generation %}{% endraw %}";
        assert_eq!(rendered(text).as_deref(), Ok("ab {% generation %}"));
    }

    #[test]
    fn a_template_that_never_ends_is_an_error() {
        let text =
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        let error = rendered(text).unwrap_err();
        assert!(error.contains("did not end"), "{error}");
        let error = rendered("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").unwrap_err();
        assert!(error.contains("recursion"), "{error}");
        let text = "{% set x = 'x' * 1000000 %}{% for a in range(10000) %}{{ x }}{% endfor %}";
        let error = rendered(text).unwrap_err();
        assert!(error.contains("64 MB"), "{error}");
    }

    #[test]
    fn none_has_no_items() {
        let error = rendered("{% for x in none %}{% endfor %}").unwrap_err();
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn an_exception_says_what_the_template_says() {
        let error = rendered("{{ raise_exception('Roles must alternate') }}").unwrap_err();
        assert_eq!(error, "Roles must alternate (line 1)");
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        for (template, expected) in [
            (
                "{{ true }} {{ none }} {{ 1.0 }} {{ 1e-7 }} {{ 1e16 }}",
                "True None 1.0 1e-07 1e+16",
            ),
            (
                r#"{{ ["a'b", 'a"b', 1.5, none, {'k': false}] }}"#,
                r#"["a'b", 'a"b', 1.5, None, {'k': False}]"#,
            ),
            (
                "{{ [1, none]|join(', ') }} {{ none|string }}",
                "1, None None",
            ),
            ("{{ missing }}.", "."),
            ("{{ 'a' ~ none ~ 1.5 ~ [true] }}", "aNone1.5[True]"),
            (
                "{% for x in [][::-1] %}{{ x }}{% endfor %}{% for x in missing %}{{ x }}{% endfor %}.",
                ".",
            ),
            (
                "{{ ' a-b '.strip().split('-')|join(',') }}{{ 'abc'.removeprefix('a').startswith('b') }}",
                "a,bTrue",
            ),
            (
                "{{ 'a,b,c'.rsplit(',', 1) }}{{ 'k=v'.partition('=') }}{{ '7'.zfill(3) }}",
                "['a,b', 'c']['k', '=', 'v']007",
            ),
            (
                "{{ {'items': 1, 'b': {}}.items()|list }}{{ {'b': 1}['b'] }}",
                "[['items', 1], ['b', {}]]1",
            ),
            (
                "{{ {'b': 'é<', 'a': [1, 2.0]}|tojson }}",
                r#"{"b": "é<", "a": [1, 2.0]}"#,
            ),
            (
                "{{ {'b': 'é🙂', 'a': []}|tojson(ensure_ascii=true, sort_keys=true) }}",
                r#"{"a": [], "b": "\u00e9\ud83d\ude42"}"#,
            ),
            (
                "{{ {'a': [1, {}]}|tojson(indent=2) }}",
                "{\n  \"a\": [\n    1,\n    {}\n  ]\n}",
            ),
            ("{{ [1, 2]|tojson(separators=[',', ':']) }}", "[1,2]"),
            (
                "{{ messages is undefined }}{{ 'x' is sequence }}{{ {} is iterable }}",
                "TrueTrueTrue",
            ),
            (
                "{% for x in range(9) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
                "02",
            ),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }
}
