//! The fields of a JSON config, each read or refused by name: what is left over when a reader is done is an error, not silence.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config_fields::short;

/// Complaints about a config, in words; the reader puts the file's name in front.
pub(crate) type Complaint<T> = std::result::Result<T, String>;

/// Fields of transformers' own bookkeeping, of versions 4 and 5: none changes what an encoder computes.
const BOOKKEEPING: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// Switches of transformers 4 that would change an encoder if they were on.
const OFF: &[&str] = &["add_cross_attention", "is_decoder", "is_encoder_decoder"];

/// Chances of dropping values in training; nothing here drops any.
const DROPOUTS: &[&str] = &[
    "attention_dropout",
    "attention_probs_dropout_prob",
    "drop_path_rate",
    "dropout",
    "hidden_dropout_prob",
];

/// What is not read yet of a JSON object.
pub(crate) struct Fields {
    left: Map<String, Value>,
}

impl Fields {
    /// # Errors
    /// When the value is no JSON object.
    pub fn of(value: Value) -> Complaint<Self> {
        match value {
            Value::Object(left) => Ok(Self { left }),
            _ => Err("not valid: it is no JSON object with fields".into()),
        }
    }

    /// A field, if it is there and not null.
    ///
    /// # Errors
    /// When it is of another kind.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Complaint<Option<T>> {
        match self.left.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| format!("{name} is {}: not valid: {error}", short(&value))),
        }
    }

    /// As [`Fields::take`], with what an absent field stands for.
    ///
    /// # Errors
    /// As [`Fields::take`].
    pub fn take_or<T: DeserializeOwned>(&mut self, name: &str, default: T) -> Complaint<T> {
        Ok(self.take(name)?.unwrap_or(default))
    }

    /// A length that is written as one number, or as a pair of equal ones.
    ///
    /// # Errors
    /// For a pair of two lengths: only squares are read.
    pub fn side(&mut self, name: &str, default: usize) -> Complaint<usize> {
        match self.left.shift_remove(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                let numbers = match &value {
                    Value::Array(pair) if pair.len() == 2 => pair.clone(),
                    other => vec![other.clone()],
                };
                let sides: Vec<Option<usize>> = numbers
                    .iter()
                    .map(|side| side.as_u64().and_then(|side| usize::try_from(side).ok()))
                    .collect();
                match sides[..] {
                    [Some(side)] => Ok(side),
                    [Some(height), Some(width)] if height == width => Ok(height),
                    [Some(height), Some(width)] => Err(format!(
                        "{name} is {height}×{width}: only square ones are supported"
                    )),
                    _ => Err(format!("{name} is {}, not a length", short(&value))),
                }
            }
        }
    }

    /// A field that is known and may have one value only.
    ///
    /// # Errors
    /// For another value, with `why`.
    pub fn only(&mut self, name: &str, value: &Value, why: &str) -> Complaint<()> {
        match self.left.shift_remove(name) {
            None | Some(Value::Null) => Ok(()),
            Some(found) if same(&found, value) => Ok(()),
            Some(found) => Err(format!(
                "{name} is {}: {why} (only {value} is supported)",
                short(&found)
            )),
        }
    }

    /// What an absent field stands for, where that differs from what its reader takes for granted.
    pub fn default(&mut self, name: &str, value: Value) {
        if self.left.get(name).is_none_or(Value::is_null) {
            self.left.insert(name.into(), value);
        }
    }

    /// Whether a field is there and not null.
    pub fn has(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(|value| !value.is_null())
    }

    /// Fields that do not matter to what is computed.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.left.shift_remove(*name);
        }
    }

    /// The fields of transformers' `PretrainedConfig` that say nothing of an encoder's numbers, and those that must be off.
    ///
    /// # Errors
    /// For one of the latter that is on.
    pub fn bookkeeping(&mut self) -> Complaint<()> {
        self.ignore(BOOKKEEPING);
        for name in OFF {
            self.only(name, &Value::Bool(false), "an encoder is no decoder")?;
        }
        let none = Value::Object(Map::new());
        self.only("pruned_heads", &none, "all heads are read")?;
        for name in DROPOUTS {
            let why = "there is no dropout in this encoder; 0 is what it computes outside training";
            self.only(name, &Value::from(0), why)?;
        }
        Ok(())
    }

    /// Everything that is left, as an object, for another reader.
    pub(crate) fn rest(&mut self) -> Value {
        Value::Object(std::mem::take(&mut self.left))
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// The fields that no one read.
    pub fn finish(self, of: &str) -> Complaint<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.left.keys().map(String::as_str).take(8).collect();
        let more = match self.left.len() - names.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Err(format!(
            "{} not a field of {of} that is understood here: what it changes would be left out silently; remove it if it changes \
             nothing",
            match names.len() {
                1 => format!("{} is", names[0]),
                _ => format!("{}{more} are each", names.join(", ")),
            }
        ))
    }
}

/// Equal, where 0 and 0.0 are.
fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}
