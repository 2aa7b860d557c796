//! The families of language models: for each one file, which says how its `config.json` is read and how its layers differ.
//!
//! ```text
//! config.json: model_type, or else architectures ─▶ Family ─ defaults, spellings, own fields ─▶ DecoderConfig ─ form ─▶ Form
//! ```
//! To add one: a file with its `Family`, and a line in `FAMILIES`. Weight names that differ are in its form.

pub mod gemma3;
pub mod llama;
pub mod mistral;
pub mod phi;
pub mod phi3;
pub mod qwen2;
pub mod qwen3;

use super::config::DecoderConfig;
use super::form::Form;
use crate::config_fields::short;
use crate::{Error, Result};
use serde_json::Value;

/// All that there are.
pub(crate) const FAMILIES: [&Family; 7] = [
    &phi3::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &phi::FAMILY,
    &gemma3::FAMILY,
];

/// What makes a family.
pub(crate) struct Family {
    /// As people call it.
    pub name: &'static str,
    /// In `config.json`.
    pub model_type: &'static str,
    /// transformers' class with an LM head.
    pub architecture: &'static str,
    /// Its spellings of fields that most families spell otherwise: (its, ours).
    pub renamed: &'static [(&'static str, &'static str)],
    /// Fields that no other part of the config knows; its form reads them.
    pub own: &'static [&'static str],
    /// Where layers have rotary positions of two kinds: the field of the local base, and the two kinds in `rope_parameters`.
    pub local_rope: Option<(&'static str, [&'static str; 2])>,
    /// Sets what the family takes for absent fields, where it is not Llama's.
    pub defaults: fn(&mut DecoderConfig),
    /// How its layers are built.
    pub form: fn(&DecoderConfig) -> Result<Form>,
}

/// The kinds of model that can be read, as `model_type` names them.
pub(crate) const MODEL_TYPES: [&str; FAMILIES.len()] = {
    let mut types = [""; FAMILIES.len()];
    let mut i = 0;
    while i < FAMILIES.len() {
        types[i] = FAMILIES[i].model_type;
        i += 1;
    }
    types
};

/// The family of a config.
///
/// # Errors
/// When it names none that is known, or a class of one that has no LM head.
pub(crate) fn of(config: &Value) -> Result<&'static Family> {
    let classes: Vec<&str> = match &config["architectures"] {
        Value::Null => Vec::new(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        other => {
            return Err(Error::Config(format!(
                "architectures is {}, which is not a list of names",
                short(other)
            )));
        }
    };
    let family = match &config["model_type"] {
        Value::Null => {
            let named = |family: &&&Family| classes.contains(&family.architecture);
            let found = FAMILIES.iter().find(named);
            found.ok_or_else(|| unknown(&classes.join(", ")))?
        }
        Value::String(name) => {
            let found = FAMILIES.iter().find(|family| family.model_type == name);
            found.ok_or_else(|| unknown(name))?
        }
        other => return Err(unknown(&short(other))),
    };
    if !classes.is_empty() && !classes.contains(&family.architecture) {
        return Err(Error::Config(format!(
            "architectures is {}, of {} only {} can be read",
            classes.join(", "),
            family.name,
            family.architecture
        )));
    }
    Ok(family)
}

/// Says which families there are.
pub(crate) fn unknown(name: &str) -> Error {
    let there = MODEL_TYPES.join(", ");
    Error::Config(match name {
        "" => format!("the config names no model_type; there are {there}"),
        name => format!(
            "model_type is {name}, which is no language model that can be read; there are {there}"
        ),
    })
}
