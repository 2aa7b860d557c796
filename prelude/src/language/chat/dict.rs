//! A dict of Python: a map that keeps the order of its keys, and whose methods are there whatever its keys are called.

use super::methods;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Keys in the order in which they came.
#[derive(Debug, Default)]
pub struct Dict {
    pairs: Vec<(Value, Value)>,
    places: HashMap<Value, usize>,
}

impl Dict {
    fn insert(&mut self, key: Value, value: Value) {
        match self.places.get(&key) {
            Some(place) => self.pairs[*place].1 = value,
            None => {
                self.places.insert(key.clone(), self.pairs.len());
                self.pairs.push((key, value));
            }
        }
    }

    /// What a template's `{a: b, c: d}` becomes, given as a, b, c, d.
    pub fn literal(items: &[Value]) -> Result<Value, Error> {
        let mut dict = Self::default();
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Error::new(ErrorKind::SyntaxError, "a key without a value"));
        }
        for [key, value] in pairs {
            dict.insert(key.clone(), value.clone());
        }
        Ok(Value::from_object(dict))
    }
}

/// JSON as values of a template.
pub fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Object(map) => {
            let mut dict = Dict::default();
            for (key, item) in map {
                dict.insert(key.as_str().into(), value(item));
            }
            Value::from_object(dict)
        }
        serde_json::Value::Array(list) => list.iter().map(value).collect::<Vec<_>>().into(),
        other => Value::from_serialize(other),
    }
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        // Values that cannot be hashed in Python are no keys; here only what a key can be is looked up.
        match key.kind() {
            ValueKind::String | ValueKind::Number | ValueKind::Bool | ValueKind::None => {
                let place = self.places.get(key)?;
                Some(self.pairs[*place].1.clone())
            }
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.pairs.iter().map(|(key, _)| key.clone()).collect())
    }

    fn call_method(
        self: &Arc<Self>,
        state: &State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        methods::of_dict(state, &Value::from_dyn_object(self.clone()), method, args)
    }
}
