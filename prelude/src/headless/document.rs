//! A file of settings, TOML or JSON → a value whose keys know their lines, so that a complaint names the line.
//!
//! TOML has no word for "nothing": `"none"` stands for it where a setting is not a text.

use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, Visitor};
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::nearest;
use crate::{Error, Result, files};

/// What was read.
#[derive(Clone)]
pub(super) struct Document {
    /// The file's name, for messages.
    name: PathBuf,
    pub(super) value: Map<String, Value>,
    /// Each key's path with its line, counted from 1.
    lines: Vec<(String, usize)>,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Document> {
        let text = files::text(path).map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(&text, path)
    }

    pub(super) fn parse(text: &str, name: &Path) -> Result<Document> {
        if name
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let value = serde_json::from_str(text).map_err(|source| Error::Json {
                path: name.to_path_buf(),
                source,
            })?;
            return Ok(Document {
                name: name.to_path_buf(),
                value,
                lines: Vec::new(),
            });
        }
        let line = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let table = DeTable::parse(text).map_err(|error| {
            let place = error
                .span()
                .map_or(String::new(), |span| format!(", line {}", line(span.start)));
            Error::Config(format!(
                "{}{place}: it is not TOML: {}",
                name.display(),
                error.message()
            ))
        })?;
        let mut lines = Vec::new();
        let value = table_of(table.get_ref(), "", &mut |path, at| {
            lines.push((path.to_owned(), line(at)));
        });
        let value = value
            .map_err(|(path, what)| Error::Config(format!("{}: {path} {what}", name.display())))?;
        Ok(Document {
            name: name.to_path_buf(),
            value,
            lines,
        })
    }

    /// Another name for messages.
    pub(super) fn rename(&mut self, name: String) {
        self.name = name.into();
    }

    /// Puts a value at a path such as `trainer.steps`, in sections that are made where they are not there.
    pub(super) fn set(&mut self, path: &str, value: Value) -> Result<()> {
        let mut map = &mut self.value;
        let mut walked = String::new();
        let (sections, key) = path.rsplit_once('.').unwrap_or(("", path));
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            walked = joined(&walked, section);
            let inner = map
                .entry(section)
                .or_insert_with(|| Value::Object(Map::new()));
            map = match inner {
                Value::Object(map) => map,
                other => {
                    let what = format!("is {other}, which has no {key} in it");
                    return Err(self.wrong(&walked, &what));
                }
            };
        }
        map.insert(key.to_owned(), value);
        // The line in the file speaks of the value that was there.
        let below = format!("{path}.");
        self.lines
            .retain(|(known, _)| known != path && !known.starts_with(&below));
        Ok(())
    }

    /// Takes a section out; an empty one if it is not there.
    pub(super) fn section(&mut self, name: &str) -> Result<Map<String, Value>> {
        match self.value.remove(name) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(other) => Err(self.wrong(
                name,
                &format!("is {other}, it must be a section: [{name}] and below it its settings"),
            )),
        }
    }

    /// Refuses a key that is none of the known ones, naming the nearest.
    pub(super) fn check_keys(
        &self,
        path: &str,
        map: &Map<String, Value>,
        known: &[&str],
    ) -> Result<()> {
        let Some(unknown) = map.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(());
        };
        let meant = match nearest::nearest(unknown, known) {
            Some(meant) => format!("did you mean `{meant}`? "),
            None => String::new(),
        };
        let place = joined(path, unknown);
        Err(self.wrong(
            &place,
            &format!("is no setting: {meant}there are {}", known.join(", ")),
        ))
    }

    /// A section as a type that refuses fields which it does not have.
    pub(super) fn typed<T: DeserializeOwned>(&self, path: &str, value: Value) -> Result<T> {
        let keys: Vec<String> = match &value {
            Value::Object(map) => map.keys().cloned().collect(),
            _ => Vec::new(),
        };
        serde_json::from_value(value.clone()).map_err(|error| {
            let message = nearest::with_suggestion(&error.to_string());
            // The key that it speaks of, or the one without which it would not complain.
            let spoken = message.split('`').nth(1).map(|key| joined(path, key));
            let spoken = spoken.filter(|key| self.line(key).is_some());
            let guilty = || {
                let mut keys = keys.iter().filter(|key| {
                    let mut without = value.clone();
                    if let Value::Object(map) = &mut without {
                        map.remove(*key);
                    }
                    serde_json::from_value::<T>(without).is_ok()
                });
                keys.next().map(|key| joined(path, key))
            };
            let place = spoken.or_else(guilty).unwrap_or_else(|| path.to_owned());
            self.wrong(&place, &format!("can't be used: {message}"))
        })
    }

    /// A complaint about a key.
    pub(super) fn wrong(&self, path: &str, what: &str) -> Error {
        let line = match self.line(path) {
            Some(line) => format!(", line {line}"),
            None => String::new(),
        };
        let name = self.name.display();
        match path.is_empty() {
            true => Error::Config(format!("{name}{line}: {what}")),
            false => Error::Config(format!("{name}{line}: {path} {what}")),
        }
    }

    fn line(&self, path: &str) -> Option<usize> {
        let mut lines = self.lines.iter();
        lines.find_map(|(known, line)| (known == path).then_some(*line))
    }
}

fn joined(path: &str, key: &str) -> String {
    match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    }
}

/// A value as TOML writes it; none for what is no value of TOML, or none that a setting can have.
pub(super) fn value(text: &str) -> Option<Value> {
    let text = format!("value = {text}");
    let table = DeTable::parse(&text).ok()?;
    let mut map = table_of(table.get_ref(), "", &mut |_, _| {}).ok()?;
    let value = map.remove("value")?;
    map.is_empty().then_some(value)
}

type Wrong = (String, String);

fn table_of(
    table: &DeTable<'_>,
    path: &str,
    seen: &mut dyn FnMut(&str, usize),
) -> std::result::Result<Map<String, Value>, Wrong> {
    let mut map = Map::new();
    for (key, value) in table {
        let path = joined(path, key.get_ref());
        seen(&path, key.span().start);
        map.insert(
            key.get_ref().to_string(),
            value_of(value.get_ref(), &path, seen)?,
        );
    }
    Ok(map)
}

fn value_of(
    value: &DeValue<'_>,
    path: &str,
    seen: &mut dyn FnMut(&str, usize),
) -> std::result::Result<Value, Wrong> {
    let wrong = |what: String| (path.to_owned(), what);
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            let radix = number.radix();
            let integer = i64::from_str_radix(digits, radix).map(Value::from);
            let integer = integer.or_else(|_| u64::from_str_radix(digits, radix).map(Value::from));
            integer.map_err(|_| wrong(format!("is {digits}, which is too large")))?
        }
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(value) if value.is_finite() => Value::from(value),
            _ => {
                return Err(wrong(format!(
                    "is {}, which no setting can be",
                    number.as_str()
                )));
            }
        },
        DeValue::Datetime(date) => {
            return Err(wrong(format!(
                "is the date {date}: no setting is one, put text in quotes"
            )));
        }
        DeValue::Array(list) => {
            let list = list.iter();
            let list = list.map(|value| value_of(value.get_ref(), path, seen));
            Value::Array(list.collect::<std::result::Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Object(table_of(table, path, seen)?),
    })
}

/// `"none"` as nothing, where the same key of `usual` is no text.
pub(super) fn without_none(map: &mut Map<String, Value>, usual: &Value) {
    for (key, value) in map {
        match (&mut *value, usual.get(key.as_str())) {
            (Value::String(_), Some(Value::String(_))) => {}
            (Value::String(text), _) if text == "none" => *value = Value::Null,
            (Value::Object(inner), usual) => {
                without_none(inner, usual.unwrap_or(&Value::Null));
            }
            _ => {}
        }
    }
}

/// Nothing as `"none"`, or left out where it is nothing in `usual` too; for TOML.
pub(super) fn with_none(map: &mut Map<String, Value>, usual: &Value) {
    map.retain(|key, value| {
        let usual = usual.get(key.as_str()).unwrap_or(&Value::Null);
        match value {
            Value::Null if usual.is_null() => false,
            Value::Null => {
                *value = Value::String("none".to_owned());
                true
            }
            Value::Object(inner) => {
                with_none(inner, usual);
                true
            }
            _ => true,
        }
    });
}

/// The names of a type's fields, as serde knows them.
pub(super) fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // It fails by design: only what the type asks for is of interest.
    drop(T::deserialize(Lister(&mut fields)));
    fields
}

struct Lister<'a>(&'a mut &'static [&'static str]);

impl<'de> serde::Deserializer<'de> for Lister<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> std::result::Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("it has no fields"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
