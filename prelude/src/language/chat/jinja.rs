//! Jinja as transformers sets it up: blocks trimmed, `{% generation %}`, `break` and `continue`, `raise_exception`,
//! `strftime_now`, `tojson` as `json.dumps`, and values written as Python writes them.

use super::dict::{self, Dict};
use super::rewrite::rewrite;
use super::{methods, python};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde_json::Map;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Steps of Jinja's machine: several seconds, and a thousand times what a long conversation takes.
const STEPS: u64 = 20_000_000;
/// Bytes of the text, and of every text on the way to it.
const ROOM: usize = 64 << 20;
/// Bytes that all operators and filters may take in together: what they make has no other limit.
const WORK: usize = 256 << 20;
/// Elements of a list that is worked on.
const ITEMS: usize = 1 << 20;
/// Nobody waits longer for a template; a long conversation takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often who waits looks whether the user interrupts.
const GLANCE: Duration = Duration::from_millis(20);
/// The stack of the thread that renders, of which only what is used takes memory: macros call each other.
const STACK: usize = 64 << 20;
/// What a filter is asked to repeat, at most.
const TIMES: usize = 1_000_000;
/// How deep lists of lists are worked on.
const DEEPEST: usize = 200;

/// Why a template gave no text.
#[derive(Debug, PartialEq)]
pub enum Failed {
    /// The template is wrong, or too much: in words.
    Template(String),
    /// The user interrupted.
    Interrupted,
}

/// Renders `template`, which ends by its own limits: there are no threads here.
#[cfg(target_family = "wasm")]
pub fn render(template: &str, context: &Map<String, serde_json::Value>) -> Result<String, Failed> {
    render_here(template, context, Arc::default()).map_err(Failed::Template)
}

/// Renders `template`, in a thread that is left to itself should the user interrupt or lose patience: it ends by its own limits.
#[cfg(not(target_family = "wasm"))]
pub fn render(template: &str, context: &Map<String, serde_json::Value>) -> Result<String, Failed> {
    let (done, ended) = channel();
    let watch = Arc::new(Watch::default());
    let (template, context, own) = (template.to_owned(), context.clone(), watch.clone());
    let thread = std::thread::Builder::new()
        .name("chat template".into())
        .stack_size(STACK)
        .spawn(move || {
            // Who asked may be gone.
            let _ = done.send(render_here(&template, &context, own));
        });
    if let Err(error) = thread {
        return Err(Failed::Template(format!(
            "there is no thread for it: {error}"
        )));
    }
    let begun = Instant::now();
    loop {
        match ended.recv_timeout(GLANCE) {
            Ok(text) => return text.map_err(Failed::Template),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failed::Template(CANNOT.into()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let interrupted = crate::session::check_interrupt().is_err();
        if interrupted || begun.elapsed() > PATIENCE {
            watch.stop.store(true, Ordering::Relaxed);
            return Err(match interrupted {
                true => Failed::Interrupted,
                false => Failed::Template(format!(
                    "it did not end within {} s: does it loop for ever?",
                    PATIENCE.as_secs()
                )),
            });
        }
    }
}

/// What a running template is told, and how much it has worked on.
#[derive(Debug, Default)]
struct Watch {
    stop: AtomicBool,
    worked: AtomicUsize,
}

impl Watch {
    /// Passes on an operand, unless it or all of them are too large, or nobody waits any more.
    fn fits(&self, value: &Value) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::new(ErrorKind::InvalidOperation, what));
        self.goes_on()?;
        let mut room = ROOM;
        let fits = takes(value, DEEPEST, &mut room);
        let size = ROOM - room;
        if !fits {
            return wrong(format!(
                "one of its values grew beyond {} MB or {ITEMS} items",
                ROOM >> 20
            ));
        }
        if self.worked.fetch_add(size, Ordering::Relaxed) > WORK {
            return wrong(format!("it works on more than {} MB of text", WORK >> 20));
        }
        Ok(())
    }
}

/// Takes from `room` what a value has as text, at least; `false` if that is more, or it nests deeper. Values may be shared: a list of two lists
/// of two lists is small and its text is not.
fn takes(value: &Value, deepest: usize, room: &mut usize) -> bool {
    // To look at a list's part takes as long as to copy some text.
    let size = value.as_str().map_or(64, |text| text.len().max(64));
    if size > *room {
        return false;
    }
    *room -= size;
    let mut part = |value: &Value| deepest > 0 && takes(value, deepest - 1, room);
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let Ok(items) = value.try_iter() else {
                return true;
            };
            let mut items = items.enumerate();
            items.all(|(place, item)| place < ITEMS && part(&item))
        }
        ValueKind::Map => {
            let Ok(mut keys) = value.try_iter() else {
                return true;
            };
            keys.all(|key| part(&key) && value.get_item(&key).is_ok_and(|item| part(&item)))
        }
        _ => true,
    }
}

impl Watch {
    /// Whether somebody still waits.
    fn goes_on(&self) -> Result<(), Error> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::InvalidOperation, "it was given up")),
            false => Ok(()),
        }
    }

    /// Whether what a method makes of a text fits.
    fn method(&self, value: &Value, method: &str, args: &[Value]) -> Result<(), Error> {
        self.fits(value)?;
        args.iter().try_for_each(|value| self.fits(value))?;
        let text = value.as_str().unwrap_or_default();
        let made = match (method, args) {
            ("replace", [old, new, ..]) => {
                let (old, new) = (python::text(old), python::text(new));
                text.matches(&old).count().saturating_mul(new.len())
            }
            ("zfill" | "ljust" | "rjust" | "center", [width, ..]) => {
                usize::try_from(width.clone()).unwrap_or(0)
            }
            // What the items have was looked at with the arguments.
            ("join", [items]) => text.len().saturating_mul(items.len().unwrap_or(0)),
            ("format", _) => widest(text),
            _ => 0,
        };
        match made {
            0..=ROOM => Ok(()),
            _ => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("{method} makes more than {} MB", ROOM >> 20),
            )),
        }
    }
}

/// The largest number in a format.
fn widest(form: &str) -> usize {
    let numbers = form
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty());
    numbers
        .map(|number| number.parse().unwrap_or(usize::MAX))
        .max()
        .unwrap_or(0)
}

/// The library panics on a few operations, such as turning an empty list around.
const CANNOT: &str = "it does something that the Jinja engine cannot";

fn render_here(
    template: &str,
    context: &Map<String, serde_json::Value>,
    watch: Arc<Watch>,
) -> Result<String, String> {
    let source = rewrite(template);
    let environment = environment(watch);
    let template = environment
        .template_from_str(&source)
        .map_err(|e| say(&e))?;
    let context: Value = context
        .iter()
        .map(|(name, json)| (name.clone(), dict::value(json)))
        .collect();
    let mut text = Limited(Vec::new());
    let rendered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        template.render_captured_to(context, &mut text)
    }));
    match rendered {
        Ok(Ok(_)) => String::from_utf8(text.0).map_err(|error| error.to_string()),
        Ok(Err(_)) if text.0.len() >= ROOM => {
            Err(format!("its text grew beyond {} MB", ROOM >> 20))
        }
        Ok(Err(error)) => Err(say(&error)),
        Err(_) => Err(CANNOT.into()),
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

fn environment(watch: Arc<Watch>) -> Environment<'static> {
    let mut jinja = Environment::new();
    jinja.set_trim_blocks(true);
    jinja.set_lstrip_blocks(true);
    jinja.set_fuel(Some(STEPS));
    let guard = watch.clone();
    jinja.set_unknown_method_callback(move |state, value, method, args| {
        guard.method(value, method, args)?;
        methods::call(state, value, method, args)
    });
    let guard = watch.clone();
    jinja.set_formatter(move |out, _, value| {
        if value.is_undefined() {
            return Ok(());
        }
        guard.fits(value)?;
        match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&python::text(value)),
        }
        .map_err(|_| Error::new(ErrorKind::WriteFailure, "the text could not be written"))
    });
    let guard = watch.clone();
    jinja.add_filter(
        "tojson",
        move |value: &Value, positional: Rest<Value>, named: Kwargs| {
            guard.fits(value)?;
            to_json(value, positional, named)
        },
    );
    let guard = watch.clone();
    jinja.add_filter("string", move |value: &Value| -> Result<String, Error> {
        guard.fits(value)?;
        Ok(python::text(value))
    });
    let guard = watch.clone();
    jinja.add_filter("fits", move |value: Value| -> Result<Value, Error> {
        guard.fits(&value)?;
        Ok(value)
    });
    limit_repetition(&mut jinja, &watch);
    let guard = watch.clone();
    jinja.add_filter(
        "join",
        move |value: &Value, between: Option<&Value>, named: Kwargs| {
            guard.fits(value)?;
            join(value, between, named)
        },
    );
    let guard = watch.clone();
    jinja.add_filter("each", move |value: Value| match value.is_none() {
        true => Err(Error::new(
            ErrorKind::InvalidOperation,
            "a loop runs over none, which has no items",
        )),
        // Each turn of the loop is counted as a step.
        false => guard.goes_on().map(|()| value),
    });
    jinja.add_filter("trim", |value: &Value, chars: Option<&str>| {
        methods::strip(&python::text(value), chars, true, true).to_string()
    });
    jinja.add_filter("upper", |value: &Value| python::text(value).to_uppercase());
    jinja.add_filter("lower", |value: &Value| python::text(value).to_lowercase());
    jinja.add_filter(
        "replace",
        move |value: &Value, old: &Value, new: &Value, count: Option<usize>| {
            [value, old, new]
                .into_iter()
                .try_for_each(|value| watch.fits(value))?;
            let (text, old, new) = (python::text(value), python::text(old), python::text(new));
            let count = count.unwrap_or(usize::MAX);
            let places = text.matches(&old).take(count).count();
            match places.saturating_mul(new.len()).saturating_add(text.len()) {
                0..=ROOM => Ok(text.replacen(&old, &new, count)),
                _ => Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("replace makes more than {} MB", ROOM >> 20),
                )),
            }
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

/// The filters of the library that repeat something as often as they are told, told no more than [`TIMES`].
fn limit_repetition(jinja: &mut Environment<'static>, watch: &Arc<Watch>) {
    fn within(name: &str, times: Option<&Value>) -> Result<(), Error> {
        let many = times.and_then(|times| i64::try_from(times.clone()).ok());
        match many {
            Some(many) if many.unsigned_abs() > TIMES as u64 => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("{name}: {many} is more than the {TIMES} that are done"),
            )),
            _ => Ok(()),
        }
    }
    jinja.add_filter(
        "indent",
        |text: &Value, positional: Rest<Value>, named: Kwargs| {
            let given = |place: usize, name: &str| match positional.get(place) {
                Some(value) => Ok(Some(value.clone())),
                None => named.get::<Option<Value>>(name),
            };
            let width = given(0, "width")?.unwrap_or(Value::from(4));
            let [first, blank] = [given(1, "first")?, given(2, "blank")?]
                .map(|flag| flag.is_some_and(|flag| flag.is_true()));
            named.assert_all_used()?;
            within("indent", Some(&width))?;
            let width = match (width.as_str(), usize::try_from(width.clone())) {
                (Some(text), _) => text.to_owned(),
                (None, Ok(count)) => " ".repeat(count),
                _ => {
                    return Err(Error::new(
                        ErrorKind::InvalidOperation,
                        "indent: the width is neither a number nor a text",
                    ));
                }
            };
            indent(&python::text(text), &width, first, blank)
        },
    );
    let guard = watch.clone();
    jinja.add_filter(
        "format",
        move |state: &State, form: &Value, values: Rest<Value>| {
            guard.fits(form)?;
            values.iter().try_for_each(|value| guard.fits(value))?;
            let text = python::text(form);
            if widest(&text) > TIMES {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("format: a width is more than {TIMES}"),
                ));
            }
            if text.contains('*') {
                values
                    .iter()
                    .try_for_each(|value| within("format", Some(value)))?;
            }
            minijinja::filters::format(state, form, values)
        },
    );
    jinja.add_filter(
        "batch",
        |state: &State, value: Value, count: Value, fill: Option<Value>| {
            within("batch", Some(&count))?;
            let count = usize::try_from(count)
                .map_err(|_| Error::new(ErrorKind::InvalidOperation, "batch: not a number"))?;
            minijinja::filters::batch(state, value, count, fill)
        },
    );
    jinja.add_filter(
        "slice",
        |state: &State, value: Value, count: Value, fill: Option<Value>| {
            within("slice", Some(&count))?;
            let count = usize::try_from(count)
                .map_err(|_| Error::new(ErrorKind::InvalidOperation, "slice: not a number"))?;
            minijinja::filters::slice(state, value, count, fill)
        },
    );
}

/// As Jinja's own: what stands before each line but the first, and before empty ones, only if asked for.
fn indent(text: &str, width: &str, first: bool, blank: bool) -> Result<String, Error> {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len().saturating_mul(width.len()) > ROOM {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("indent makes more than {} MB", ROOM >> 20),
        ));
    }
    let mut out = String::with_capacity(text.len());
    for (place, line) in lines.iter().enumerate() {
        if place > 0 {
            out.push('\n');
        }
        if (place > 0 || first) && (blank || !line.is_empty()) {
            out += width;
        }
        out += line;
    }
    Ok(out)
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
        if text.len() > ROOM {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("join makes more than {} MB", ROOM >> 20),
            ));
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
        render(template, &Map::new()).map_err(|failed| match failed {
            Failed::Template(what) => what,
            Failed::Interrupted => "interrupted".into(),
        })
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
        let doubled = |step: &str| {
            format!(
                "{{% set ns = namespace(x='ab') %}}{{% for a in range(100) %}}{{% set ns.x = {step} %}}{{% endfor %}}"
            )
        };
        let twice = "{% set x = x + x %}".repeat(60);
        for text in [
            doubled("ns.x ~ ns.x"),
            doubled("ns.x + ns.x"),
            doubled("ns.x.replace('a', 'aa').replace('b', 'bb')"),
            doubled("ns.x|replace('a', 'aaa')"),
            doubled("[ns.x, ns.x]|join"),
            doubled("[ns.x, ns.x]|string"),
            doubled("[ns.x, ns.x] ~ ''"),
            doubled("''.join([ns.x, ns.x])"),
            doubled("[ns.x, ns.x]|tojson"),
            doubled("'%s%s' % (ns.x, ns.x)"),
            doubled("'{}{}'.format(ns.x, ns.x)"),
            doubled("[ns.x, ns.x]") + "{{ ns.x }}",
            doubled("(ns.x ~ ns.x) ~ (ns.x ~ ns.x)"),
            format!("{{% set x = 'abc' %}}{twice}"),
            format!("{{% set x = [1] %}}{twice}{{{{ x|length }}}}"),
            "{{ 'x' * 10**10 }}".into(),
            "{{ [1] * 10**10 }}".into(),
            "{{ 'a\nb'|indent(10**10) }}".into(),
            "{{ '%99999999999d' % 1 }}".into(),
            "{{ '%*d' % (10**10, 1) }}".into(),
            "{{ 'x'.zfill(10**10) }}".into(),
            "{{ 'x'.center(10**10) }}".into(),
            "{{ 'x'.ljust(10**10) }}".into(),
            "{{ '{:>10000000000}'.format(1) }}".into(),
            "{{ [1]|batch(10**10, 0) }}".into(),
            "{{ [1]|slice(10**10)|list|length }}".into(),
            "{{ range(10**9)|list|length }}".into(),
            "{{ [1]|tojson(indent=10**10) }}".into(),
            format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
            "{% if true %}".repeat(50_000),
        ] {
            let begun = Instant::now();
            let error = rendered(&text).expect_err(&text[..text.len().min(100)]);
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{}: {error}",
                &text[..text.len().min(100)]
            );
            assert!(!error.is_empty() && error != CANNOT, "{error}");
        }
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
