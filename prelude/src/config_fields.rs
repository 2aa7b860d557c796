//! What the readers of JSON configs (language models, encoders, adapters) have in common: a field's value → is it as if it were not there,
//! and how a message shows it.

use serde_json::Value;

use crate::display::limits::shortened;

/// Whether a field is as if it were not there.
pub(crate) fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    }
}

/// A value for a message, not longer than a line.
pub(crate) fn short(value: &Value) -> String {
    shortened(&value.to_string(), 61)
}
