//! The fields of a `config.json`, taken one by one; whatever is left over is known to be without effect, or refused by name.
//!
//! ```text
//! JSON ─ the family's spellings, transformers 5's rope_parameters ─▶ Fields ─ set, needed, optional ─▶ a config ─ rest ─▶ what is left
//! ```

use super::families::Family;
use crate::config_fields::{is_off, short};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Fields that change nothing in what a model computes: where it comes from, how it was trained, how a library runs it, and
/// settings of generation that transformers once kept here.
const WITHOUT_EFFECT: [&str; 38] = [
    "_name_or_path",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "architectures",
    "attn_implementation",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "loss_type",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    // Dropout, while the base itself is trained.
    "attention_dropout",
    "embd_pdrop",
    "resid_pdrop",
    // Generation.
    "cache_implementation",
    "do_sample",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "chunk_size_feed_forward",
];

/// Where transformers 5 keeps the rotary settings.
const ROPE: &str = "rope_parameters";

/// The fields of one file that were not taken yet.
pub(super) struct Fields {
    map: Map<String, Value>,
    family: &'static Family,
}

/// A field's value as what it should be.
pub(super) fn read<T: DeserializeOwned>(name: &str, value: Value) -> Result<T> {
    let shown = short(&value);
    serde_json::from_value(value)
        .map_err(|error| Error::Config(format!("{name} is {shown}: {error}")))
}

impl Fields {
    pub fn new(value: Value, family: &'static Family) -> Result<Self> {
        let Value::Object(mut map) = value else {
            return Err(Error::Config("the config is not a JSON object".into()));
        };
        map.remove("model_type");
        for (theirs, ours) in family.renamed {
            if map.contains_key(*ours) {
                return Err(Error::Config(format!(
                    "{ours} is not a field of {}, which calls it {theirs}",
                    family.model_type
                )));
            }
            if let Some(value) = map.remove(*theirs) {
                map.insert((*ours).into(), value);
            }
        }
        let mut fields = Self { map, family };
        if let Some(value) = fields.map.remove(ROPE)
            && !value.is_null()
        {
            fields.rope_parameters(read(ROPE, value)?)?;
        }
        Ok(fields)
    }

    /// `rope_parameters` as the fields that they were before.
    fn rope_parameters(&mut self, mut rope: Map<String, Value>) -> Result<()> {
        // One set for each kind of layer, in families whose layers differ.
        if let Some((local_field, kinds)) = self.family.local_rope {
            let [local, global] = kinds;
            let mut take = |kind: &str| match rope.remove(kind) {
                None | Some(Value::Null) => Ok(Map::new()),
                Some(value) => read::<Map<String, Value>>(&format!("{ROPE}.{kind}"), value),
            };
            let (mut local_rope, global_rope) = (take(local)?, take(global)?);
            if let Some((field, _)) = rope.iter().find(|(_, value)| !value.is_null()) {
                return Err(Error::Config(format!(
                    "{ROPE} has {field}, where {local} and {global} are known"
                )));
            }
            if let Some(theta) = local_rope.remove("rope_theta") {
                self.moved(local_field, theta)?;
            }
            match local_rope.remove("rope_type") {
                None | Some(Value::Null) => {}
                Some(Value::String(kind)) if kind == "default" => {}
                Some(kind) => {
                    return Err(Error::Config(format!(
                        "{ROPE}.{local}.rope_type is {kind}, only \"default\" is known there"
                    )));
                }
            }
            if let Some((field, _)) = local_rope.iter().find(|(_, value)| !value.is_null()) {
                return Err(Error::Config(format!(
                    "{ROPE}.{local} has {field}, which is not known there"
                )));
            }
            rope = global_rope;
        }
        for field in ["rope_theta", "partial_rotary_factor"] {
            if let Some(value) = rope.remove(field) {
                self.moved(field, value)?;
            }
        }
        let named = |name: &Value| name.as_str() == Some("default");
        if rope.len() == 1 && rope.get("rope_type").is_some_and(named) {
            rope.clear();
        }
        match rope.is_empty() {
            true => Ok(()),
            false => self.moved("rope_scaling", Value::Object(rope)),
        }
    }

    /// A field that stood elsewhere; another value in its own place would contradict it.
    fn moved(&mut self, name: &str, value: Value) -> Result<()> {
        match self.map.get(name) {
            Some(other) if !other.is_null() && *other != value => Err(Error::Config(format!(
                "{name} is {}, and {} in {ROPE}: take one out",
                short(other),
                short(&value)
            ))),
            _ => {
                self.map.insert(name.into(), value);
                Ok(())
            }
        }
    }

    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        match self.map.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(self.theirs(name), value).map(Some),
        }
    }

    fn theirs<'a>(&self, name: &'a str) -> &'a str {
        let mut renamed = self.family.renamed.iter();
        let found = renamed.find(|(_, ours)| *ours == name);
        found.map_or(name, |(theirs, _)| theirs)
    }

    /// A field that keeps its default where it is absent or `null`.
    pub fn set<T: DeserializeOwned>(&mut self, name: &str, place: &mut T) -> Result<()> {
        if let Some(value) = self.take(name)? {
            *place = value;
        }
        Ok(())
    }

    /// A field whose `null` means that there is none, whatever the default.
    pub fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
        place: &mut Option<T>,
    ) -> Result<()> {
        if self.map.contains_key(name) {
            *place = self.take(name)?;
        }
        Ok(())
    }

    /// A field that must be there.
    pub fn needed<T: DeserializeOwned>(&mut self, name: &str, place: &mut T) -> Result<()> {
        let lacking = || Error::Config(format!("the config lacks {name}"));
        *place = self.take(name)?.ok_or_else(lacking)?;
        Ok(())
    }

    /// What is left: the family's own fields, and those without effect.
    ///
    /// # Errors
    /// For any other that says something.
    pub fn rest(self) -> Result<Map<String, Value>> {
        let known = |name: &str| self.family.own.contains(&name) || WITHOUT_EFFECT.contains(&name);
        let unknown = |(name, value): &(&String, &Value)| !known(name) && !is_off(value);
        if let Some((name, value)) = self.map.iter().find(unknown) {
            return Err(Error::Config(format!(
                "{name} is {}: this field is not known for {}, and it may change what the model computes; take it out of the file \
                 if it does not",
                short(value),
                self.family.model_type
            )));
        }
        Ok(self.map)
    }
}
