//! Phi-3's configuration, as in <https://huggingface.co/microsoft/Phi-3-mini-4k-instruct/blob/main/config.json>, and the
//! frequencies of its rotary positions (default and LongRoPE).

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Sizes and settings of a Phi-3 model; the field names are Hugging Face's. Unknown fields are kept and written back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phi3Config {
    /// `phi3`.
    pub model_type: String,
    /// Rows of the embedding and of the LM head; may exceed the tokenizer's entries.
    pub vocab_size: usize,
    /// D.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads per layer.
    pub num_attention_heads: usize,
    /// Key and value heads per layer; absent: as many as query heads.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Added to the mean square in RMSNorm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Longest sequence, in tokens.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Length up to which LongRoPE uses its short factors.
    #[serde(default)]
    pub original_max_position_embeddings: Option<usize>,
    /// Base of the rotary frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// LongRoPE's factors; absent: plain rotary positions.
    #[serde(default)]
    pub rope_scaling: Option<RopeScaling>,
    /// Share of each head that is turned.
    #[serde(default = "default_partial")]
    pub partial_rotary_factor: f64,
    /// A token sees only the last this many tokens, itself included.
    #[serde(default)]
    pub sliding_window: Option<usize>,
    /// Whether the LM head is the embedding table.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Activation of the MLP; only `silu` exists.
    #[serde(default = "default_act")]
    pub hidden_act: String,
    /// Standard deviation of freshly drawn weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// Beginning-of-sequence id.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// End-of-sequence id, or a list of them.
    #[serde(default)]
    pub eos_token_id: Option<Value>,
    /// Padding id.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
    /// Whatever else the file holds.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The `rope_scaling` entry of a config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RopeScaling {
    /// `longrope` or its older name `su`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The newer spelling of `type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_type: Option<String>,
    /// One factor per frequency, for sequences up to `original_max_position_embeddings`.
    #[serde(default)]
    pub short_factor: Vec<f64>,
    /// One factor per frequency, for longer sequences.
    #[serde(default)]
    pub long_factor: Vec<f64>,
}

fn default_eps() -> f64 {
    1e-5
}
fn default_positions() -> usize {
    4096
}
fn default_theta() -> f64 {
    10_000.0
}
fn default_partial() -> f64 {
    1.0
}
fn default_act() -> String {
    "silu".into()
}
fn default_range() -> f64 {
    0.02
}

impl Phi3Config {
    /// A small model with plain rotary positions; change the other fields as needed.
    pub fn new(
        vocab_size: usize,
        hidden_size: usize,
        intermediate_size: usize,
        layers: usize,
        heads: usize,
    ) -> Self {
        Self {
            model_type: "phi3".into(),
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: Some(heads),
            rms_norm_eps: default_eps(),
            max_position_embeddings: default_positions(),
            original_max_position_embeddings: None,
            rope_theta: default_theta(),
            rope_scaling: None,
            partial_rotary_factor: default_partial(),
            sliding_window: None,
            tie_word_embeddings: false,
            hidden_act: default_act(),
            initializer_range: default_range(),
            bos_token_id: None,
            eos_token_id: None,
            pad_token_id: None,
            other: Map::from_iter([(
                "architectures".to_string(),
                Value::from(vec!["Phi3ForCausalLM"]),
            )]),
        }
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// A missing file, JSON of another model, contradicting sizes.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        Self::from_bytes(&bytes, path)
    }

    /// Reads and checks the bytes of a `config.json`; `path` appears in messages.
    ///
    /// # Errors
    /// JSON of another model, contradicting sizes.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let json = |source| Error::Json {
            path: path.into(),
            source,
        };
        let mut value: Value = serde_json::from_slice(bytes).map_err(json)?;
        let kind = value
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or("nothing")
            .to_string();
        if kind != "phi3" {
            return Err(Error::Config(format!(
                "{}: model_type is {kind}, this loader reads phi3 checkpoints only",
                path.display()
            )));
        }
        // transformers 5 moved the rotary settings into one object.
        if let Some(Value::Object(rope)) = value.get("rope_parameters").cloned() {
            for (from, to) in [
                ("rope_theta", "rope_theta"),
                ("partial_rotary_factor", "partial_rotary_factor"),
            ] {
                if let Some(v) = rope.get(from) {
                    value[to] = v.clone();
                }
            }
            if rope.contains_key("long_factor")
                && value.get("rope_scaling").is_none_or(Value::is_null)
            {
                value["rope_scaling"] = Value::Object(rope);
            }
        }
        let config: Self = serde_json::from_value(value).map_err(json)?;
        config
            .validate()
            .map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
        Ok(config)
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// Names both fields that contradict.
    pub fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::Config(message));
        let (heads, kv_heads) = (self.num_attention_heads, self.kv_heads());
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", heads),
            ("num_key_value_heads", kv_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 {
                return fail(format!("{name} must be at least 1"));
            }
        }
        if !self.hidden_size.is_multiple_of(heads) {
            return fail(format!(
                "hidden_size {} is not a multiple of num_attention_heads {heads}",
                self.hidden_size
            ));
        }
        if !heads.is_multiple_of(kv_heads) {
            return fail(format!(
                "num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
            ));
        }
        if self.hidden_act != "silu" {
            return fail(format!("hidden_act is {}, Phi-3 has silu", self.hidden_act));
        }
        let rotated = self.rotary_dim();
        if rotated == 0 || !rotated.is_multiple_of(2) || rotated > self.head_dim() {
            return fail(format!(
                "partial_rotary_factor {} of heads of {} gives {rotated} rotated values, which must be even and within the head",
                self.partial_rotary_factor,
                self.head_dim()
            ));
        }
        if self.sliding_window == Some(0) {
            return fail("sliding_window must be at least 1, or null".into());
        }
        if let Some(scaling) = self.long_rope()? {
            for (name, factors) in [
                ("short_factor", &scaling.short_factor),
                ("long_factor", &scaling.long_factor),
            ] {
                if factors.len() != rotated / 2 {
                    return fail(format!(
                        "{name} has {} entries, {rotated} rotated values need {}",
                        factors.len(),
                        rotated / 2
                    ));
                }
            }
        }
        Ok(())
    }

    /// Number of key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Values per head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Values of each head that are turned.
    pub fn rotary_dim(&self) -> usize {
        (self.head_dim() as f64 * self.partial_rotary_factor) as usize
    }

    /// Ids that end a text.
    pub fn eos_ids(&self) -> Vec<u32> {
        token_ids(self.eos_token_id.as_ref())
    }

    fn long_rope(&self) -> Result<Option<&RopeScaling>> {
        let Some(scaling) = &self.rope_scaling else {
            return Ok(None);
        };
        match scaling.rope_type.as_deref().or(scaling.kind.as_deref()) {
            Some("longrope" | "su") => Ok(Some(scaling)),
            Some("default") | None => Ok(None),
            Some(other) => Err(Error::Config(format!(
                "rope_scaling of type {other} is not known; Phi-3 checkpoints use longrope (or its older name su)"
            ))),
        }
    }

    /// The length that separates LongRoPE's short factors from its long ones; `None` for plain rotary positions.
    pub fn long_rope_border(&self) -> Option<usize> {
        self.long_rope().ok().flatten().map(|_| {
            self.original_max_position_embeddings
                .unwrap_or(self.max_position_embeddings)
        })
    }

    /// Frequencies for a sequence whose highest position is `length − 1`, and the factor on cosine and sine.
    pub fn inverse_frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        let dim = self.rotary_dim();
        let base = |i: usize| self.rope_theta.powf(f64::from((2 * i) as f32 / dim as f32)) as f32;
        let (Ok(Some(scaling)), Some(border)) = (self.long_rope(), self.long_rope_border()) else {
            return ((0..dim / 2).map(|i| 1.0 / base(i)).collect(), 1.0);
        };
        let factors = if length > border {
            &scaling.long_factor
        } else {
            &scaling.short_factor
        };
        let stretch = self.max_position_embeddings as f64 / border as f64;
        let attention = if stretch <= 1.0 {
            1.0
        } else {
            (1.0 + stretch.ln() / (border as f64).ln()).sqrt()
        };
        (
            factors
                .iter()
                .enumerate()
                .map(|(i, f)| 1.0 / (*f as f32 * base(i)))
                .collect(),
            attention as f32,
        )
    }
}

/// Ids from a JSON number or list of numbers.
pub(crate) fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Phi3Config> {
        Phi3Config::from_bytes(text.as_bytes(), Path::new("config.json"))
    }

    #[test]
    fn contradictions_name_both_fields() {
        let error = parse(
            r#"{"model_type":"phi3","vocab_size":10,"hidden_size":30,"intermediate_size":8,
               "num_hidden_layers":1,"num_attention_heads":4}"#,
        );
        let message = error.unwrap_err().to_string();
        assert!(
            message.contains("hidden_size 30") && message.contains("num_attention_heads 4"),
            "{message}"
        );
        assert!(
            parse(r#"{"model_type":"llama"}"#)
                .unwrap_err()
                .to_string()
                .contains("llama")
        );
    }

    #[test]
    fn both_spellings_of_longrope_give_the_same_frequencies() -> Result<()> {
        let text = |kind: &str| {
            format!(
                r#"{{"model_type":"phi3","vocab_size":10,"hidden_size":16,"intermediate_size":8,"num_hidden_layers":1,
                "num_attention_heads":2,"max_position_embeddings":128,"original_max_position_embeddings":32,
                "rope_scaling":{{{kind},"short_factor":[1,1,1,1],"long_factor":[2,2,2,2]}}}}"#
            )
        };
        let new = parse(&text(r#""rope_type":"longrope","type":"longrope""#))?;
        let old = parse(&text(r#""type":"su""#))?;
        assert_eq!(new.inverse_frequencies(40), old.inverse_frequencies(40));
        let (short, scaling) = new.inverse_frequencies(32);
        let (long, _) = new.inverse_frequencies(33);
        assert!((short[0] / long[0] - 2.0).abs() < 1e-6);
        assert!((scaling - 1.183_216).abs() < 1e-5);
        Ok(())
    }
}
