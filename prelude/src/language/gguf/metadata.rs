//! The metadata of a GGUF file: values by key, which are asked for as what they should be, and marked as read.

use crate::display::limits;
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
}

/// All of it.
#[derive(Default)]
pub(super) struct Metadata(BTreeMap<String, Value>);

/// The keys that were asked for.
pub(super) struct Asked<'a> {
    metadata: &'a Metadata,
    keys: RefCell<BTreeSet<String>>,
}

impl Value {
    fn short(&self) -> String {
        limits::shortened(&format!("{self:?}"), 60)
    }

    fn number(&self) -> Option<u64> {
        match self {
            Value::Unsigned(n) => Some(*n),
            Value::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Value::Float(x) => Some(*x),
            other => other.number().map(|n| n as f64),
        }
    }
}

impl Metadata {
    pub fn add(&mut self, key: String, value: Value) -> std::result::Result<(), String> {
        match self.0.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(format!("{key} is there twice")),
        }
    }

    /// Where tensors may begin: at multiples of this.
    pub fn alignment(&self) -> std::result::Result<u64, String> {
        match self.0.get("general.alignment") {
            None => Ok(32),
            Some(value) => match value.number() {
                Some(n) if n.is_power_of_two() && n <= 1 << 20 => Ok(n),
                _ => Err(format!(
                    "general.alignment is {}, it must be a power of two",
                    value.short()
                )),
            },
        }
    }

    fn get<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        let wrong = || Error::Config(format!("{key} is {}, not {wanted}", value.short()));
        read(value).map(Some).ok_or_else(wrong)
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(value) => Err(Error::Config(format!(
                "{key} is {}, not a text",
                value.short()
            ))),
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub fn asked(&self) -> Asked<'_> {
        Asked {
            metadata: self,
            keys: RefCell::default(),
        }
    }
}

impl<'a> Asked<'a> {
    fn note(&self, key: &str) {
        self.keys.borrow_mut().insert(key.into());
    }

    /// Notes a key as known, whatever it says.
    pub fn known(&self, keys: &[&str]) {
        keys.iter().for_each(|key| self.note(key));
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.note(key);
        self.metadata.text(key)
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        self.note(key);
        self.metadata.get(key, "a number", Value::number)
    }

    /// A number, or a list of numbers that are all the same, as files have them for each layer.
    pub fn same_number(&self, key: &str) -> Result<Option<u64>> {
        self.note(key);
        let wanted = "a number, or the same number for each layer";
        self.metadata.get(key, wanted, |value| match value {
            Value::List(list) => {
                let first = list.first()?.number()?;
                let same = list.iter().all(|value| value.number() == Some(first));
                same.then_some(first)
            }
            other => other.number(),
        })
    }

    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.note(key);
        self.metadata.get(key, "a number", Value::float)
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.note(key);
        self.metadata
            .get(key, "true or false", |value| match value {
                Value::Bool(flag) => Some(*flag),
                _ => None,
            })
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.note(key);
        let metadata = self.metadata;
        match metadata.0.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => {
                let texts = list.iter().map(|value| match value {
                    Value::Text(text) => Some(text.as_str()),
                    _ => None,
                });
                let wrong = || Error::Config(format!("{key} is not a list of texts"));
                Ok(Some(texts.collect::<Option<_>>().ok_or_else(wrong)?))
            }
            Some(value) => Err(Error::Config(format!(
                "{key} is {}, not a list of texts",
                value.short()
            ))),
        }
    }

    pub fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.note(key);
        self.metadata
            .get(key, "a list of numbers", |value| match value {
                Value::List(list) => list.iter().map(Value::float).collect(),
                _ => None,
            })
    }

    pub fn numbers(&self, key: &str) -> Result<Option<Vec<u64>>> {
        self.note(key);
        self.metadata
            .get(key, "a list of numbers", |value| match value {
                Value::List(list) => list.iter().map(Value::number).collect(),
                _ => None,
            })
    }

    /// Fails for a key below `prefix` that nobody asked for.
    pub fn check_all_asked(&self, prefix: &str) -> Result<()> {
        let asked = self.keys.borrow();
        let unknown = self
            .metadata
            .keys()
            .find(|key| key.starts_with(prefix) && !asked.contains(*key));
        match unknown {
            None => Ok(()),
            Some(key) => Err(Error::Config(format!(
                "{key} is {}: this key is not known here, and it may change what the model computes",
                self.metadata.0[key].short()
            ))),
        }
    }
}
