//! A language model's configuration: the `config.json` of any family of [`FAMILIES`], as one set of sizes and settings.
//!
//! ```text
//! config.json ─ model_type ─▶ family ─ every field read, known to be without effect, or refused by name ─▶ DecoderConfig
//! ```
//!
//! [`FAMILIES`]: super::families

use super::families::{self, FAMILIES, Family};
use super::fields::Fields;
use super::form::Form;
use super::rope::{Rope, RopeScaling, RopeSizes};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Sizes and settings of a language model; the field names are those of most families' `config.json` at Hugging Face. What a
/// family has besides, such as Qwen2's `max_window_layers`, is in `other`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let config = DecoderConfig::new(100, 16, 32, 2, 2); // tokens, width, MLP's width, layers, heads
/// assert_eq!((config.model_type.as_str(), config.head_dim(), config.kv_heads()), ("phi3", 8, 2));
/// let llama = r#"{"model_type": "llama", "vocab_size": 100, "hidden_size": 16, "intermediate_size": 32,
///     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}"#;
/// assert_eq!(DecoderConfig::from_json(llama)?.kv_heads(), 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct DecoderConfig {
    /// The family, such as `phi3` or `llama`.
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
    pub num_key_value_heads: Option<usize>,
    /// Values per head; absent: `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Added to the mean square in RMSNorm, to the variance in LayerNorm (`rms_norm_eps`, `layer_norm_eps`).
    pub norm_eps: f64,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Length up to which LongRoPE uses its short factors.
    pub original_max_position_embeddings: Option<usize>,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How rotary positions were stretched to a longer context; absent: not at all.
    pub rope_scaling: Option<RopeScaling>,
    /// Share of each head that is turned.
    pub partial_rotary_factor: f64,
    /// A token sees only the last this many tokens, itself included; in which layers is the family's business.
    pub sliding_window: Option<usize>,
    /// Whether the LM head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Activation of the MLP (`hidden_act`, `hidden_activation`).
    pub hidden_act: String,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f64,
    /// Beginning-of-sequence id.
    pub bos_token_id: Option<u32>,
    /// End-of-sequence id, or a list of them.
    pub eos_token_id: Option<Value>,
    /// Padding id.
    pub pad_token_id: Option<u32>,
    /// Fields of the family's own, and those without effect on what the model computes: kept, and written back.
    pub other: Map<String, Value>,
}

/// More values in a head than any model has: what a file announces is not allocated.
const MOST_PER_HEAD: usize = 1 << 16;

impl DecoderConfig {
    /// A small Phi-3 with plain rotary positions; change the other fields as needed.
    pub fn new(
        vocab_size: usize,
        hidden_size: usize,
        intermediate_size: usize,
        layers: usize,
        heads: usize,
    ) -> Self {
        Self {
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: Some(heads),
            ..Self::defaults(&families::phi3::FAMILY)
        }
    }

    /// What a family takes for fields that its `config.json` leaves out; the sizes are 0.
    fn defaults(family: &Family) -> Self {
        let mut config = Self {
            model_type: family.model_type.into(),
            vocab_size: 0,
            hidden_size: 0,
            intermediate_size: 0,
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: None,
            head_dim: None,
            norm_eps: 1e-6,
            max_position_embeddings: 2048,
            original_max_position_embeddings: None,
            rope_theta: 10_000.0,
            rope_scaling: None,
            partial_rotary_factor: 1.0,
            sliding_window: None,
            tie_word_embeddings: false,
            hidden_act: "silu".into(),
            initializer_range: 0.02,
            bos_token_id: None,
            eos_token_id: None,
            pad_token_id: None,
            other: Map::from_iter([(
                "architectures".to_string(),
                Value::from(vec![family.architecture]),
            )]),
        };
        (family.defaults)(&mut config);
        config
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// A missing or damaged file, a family that is not known, a field that is not known or contradicts another.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = crate::files::bytes(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        Self::from_bytes(&bytes, path)
    }

    /// Reads the bytes of a `config.json`; `path` appears in messages.
    ///
    /// # Errors
    /// As [`DecoderConfig::from_file`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            path: path.into(),
            source,
        })?;
        Self::from_value(value).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
    }

    /// Reads a `config.json` that is a text.
    ///
    /// # Errors
    /// As [`DecoderConfig::from_file`].
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_bytes(text.as_bytes(), Path::new("config.json"))
    }

    fn from_value(value: Value) -> Result<Self> {
        let family = families::of(&value)?;
        let mut fields = Fields::new(value, family)?;
        let mut config = Self::defaults(family);
        fields.needed("vocab_size", &mut config.vocab_size)?;
        fields.needed("hidden_size", &mut config.hidden_size)?;
        fields.needed("intermediate_size", &mut config.intermediate_size)?;
        fields.needed("num_hidden_layers", &mut config.num_hidden_layers)?;
        fields.needed("num_attention_heads", &mut config.num_attention_heads)?;
        fields.optional("num_key_value_heads", &mut config.num_key_value_heads)?;
        fields.optional("head_dim", &mut config.head_dim)?;
        fields.set("norm_eps", &mut config.norm_eps)?;
        fields.set(
            "max_position_embeddings",
            &mut config.max_position_embeddings,
        )?;
        fields.optional(
            "original_max_position_embeddings",
            &mut config.original_max_position_embeddings,
        )?;
        fields.set("rope_theta", &mut config.rope_theta)?;
        fields.optional("rope_scaling", &mut config.rope_scaling)?;
        fields.set("partial_rotary_factor", &mut config.partial_rotary_factor)?;
        fields.optional("sliding_window", &mut config.sliding_window)?;
        fields.set("tie_word_embeddings", &mut config.tie_word_embeddings)?;
        fields.set("hidden_act", &mut config.hidden_act)?;
        fields.set("initializer_range", &mut config.initializer_range)?;
        fields.optional("bos_token_id", &mut config.bos_token_id)?;
        fields.optional("eos_token_id", &mut config.eos_token_id)?;
        fields.optional("pad_token_id", &mut config.pad_token_id)?;
        let other = std::mem::take(&mut config.other);
        config.other = fields.rest()?;
        for (name, value) in other {
            config.other.entry(name).or_insert(value);
        }
        config.validate()?;
        Ok(config)
    }

    /// The fields as the family's `config.json` has them.
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("model_type".into(), self.model_type.clone().into());
        map.extend(self.other.clone());
        let scaling = self.rope_scaling.as_ref();
        let scaling = scaling.and_then(|scaling| serde_json::to_value(scaling).ok());
        for (name, value) in [
            ("vocab_size", self.vocab_size.into()),
            ("hidden_size", self.hidden_size.into()),
            ("intermediate_size", self.intermediate_size.into()),
            ("num_hidden_layers", self.num_hidden_layers.into()),
            ("num_attention_heads", self.num_attention_heads.into()),
            ("num_key_value_heads", self.num_key_value_heads.into()),
            ("norm_eps", self.norm_eps.into()),
            (
                "max_position_embeddings",
                self.max_position_embeddings.into(),
            ),
            ("rope_theta", self.rope_theta.into()),
            ("rope_scaling", scaling.into()),
            ("partial_rotary_factor", self.partial_rotary_factor.into()),
            ("tie_word_embeddings", self.tie_word_embeddings.into()),
            ("hidden_act", self.hidden_act.clone().into()),
            ("initializer_range", self.initializer_range.into()),
            // Absent, transformers would take a family's own default: null says that there is none.
            ("sliding_window", self.sliding_window.into()),
            ("bos_token_id", self.bos_token_id.into()),
            ("eos_token_id", self.eos_token_id.clone().into()),
            ("pad_token_id", self.pad_token_id.into()),
        ] {
            map.insert(self.spelled(name).into(), value);
        }
        let family = self.family().ok().map(Self::defaults);
        let default = family.and_then(|family| family.head_dim);
        for (name, value, default) in [
            ("head_dim", self.head_dim, default),
            (
                "original_max_position_embeddings",
                self.original_max_position_embeddings,
                None,
            ),
        ] {
            if value.is_some() || default.is_some() {
                map.insert(name.into(), value.into());
            }
        }
        Value::Object(map)
    }

    /// How the family spells a field.
    fn spelled<'a>(&self, name: &'a str) -> &'a str {
        let renamed = self.family().map_or(&[][..], |family| family.renamed);
        let found = renamed.iter().find(|(_, ours)| *ours == name);
        found.map_or(name, |(theirs, _)| theirs)
    }

    /// The family that `model_type` names.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn family(&self) -> Result<&'static Family> {
        let found = FAMILIES.iter().find(|f| f.model_type == self.model_type);
        found
            .copied()
            .ok_or_else(|| families::unknown(&self.model_type))
    }

    /// How the family builds its layers.
    ///
    /// # Errors
    /// Fields that contradict each other or ask for what the family cannot do here.
    pub(crate) fn form(&self) -> Result<Form> {
        let family = self.family()?;
        let form = (family.form)(self)?;
        form.check(self, family)?;
        Ok(form)
    }

    /// A field of the family's own; `null` is an absent one.
    pub(crate) fn own<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.other.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => super::fields::read(name, value.clone()).map(Some),
        }
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
            ("head_dim", self.head_dim.unwrap_or(1)),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 {
                return fail(format!("{name} must be at least 1"));
            }
            // Products of two of them must not overflow.
            if value > u32::MAX as usize {
                return fail(format!(
                    "{name} is {value}, which no model has: is the file damaged?"
                ));
            }
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(heads) {
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
        if self.head_dim() > MOST_PER_HEAD {
            return fail(format!(
                "heads of {} values are more than any model has: is the file damaged?",
                self.head_dim()
            ));
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
        for (name, value) in [
            ("norm_eps", self.norm_eps),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                let name = self.spelled(name);
                return fail(format!("{name} is {value}, it must not be below 0"));
            }
        }
        self.form().map(|_| ())
    }

    /// Number of key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Values per head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Values of each head that are turned.
    pub fn rotary_dim(&self) -> usize {
        (self.head_dim() as f64 * self.partial_rotary_factor) as usize
    }

    /// Ids that end a text.
    pub fn eos_ids(&self) -> Vec<u32> {
        token_ids(self.eos_token_id.as_ref())
    }

    /// The rotary positions that `rope_theta` and `rope_scaling` tell.
    pub(crate) fn rope(&self) -> Result<Rope> {
        self.rope_of(self.rope_theta, self.rope_scaling.as_ref())
    }

    pub(crate) fn rope_of(&self, theta: f64, scaling: Option<&RopeScaling>) -> Result<Rope> {
        let sizes = RopeSizes {
            theta,
            dim: self.rotary_dim(),
            max_position_embeddings: self.max_position_embeddings,
            original: self.original_max_position_embeddings,
        };
        Rope::new(scaling, sizes)
    }

    /// The length that separates LongRoPE's short factors from its long ones; `None` for angles that do not depend on the length.
    pub fn long_rope_border(&self) -> Option<usize> {
        self.rope().ok().and_then(|rope| rope.border())
    }

    /// Frequencies for a sequence whose highest position is `length − 1`, and the factor on cosine and sine; none for a
    /// config that contradicts itself.
    pub fn inverse_frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        self.rope()
            .map_or((Vec::new(), 1.0), |rope| rope.frequencies(length))
    }
}

impl TryFrom<Value> for DecoderConfig {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self> {
        Self::from_value(value)
    }
}

impl From<DecoderConfig> for Value {
    fn from(config: DecoderConfig) -> Self {
        config.to_value()
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

    fn parse(text: &str) -> Result<DecoderConfig> {
        DecoderConfig::from_json(text)
    }

    /// A small config of a family with further fields.
    fn with(model_type: &str, fields: &str) -> Result<DecoderConfig> {
        parse(&format!(
            r#"{{"model_type":"{model_type}","vocab_size":10,"hidden_size":16,"intermediate_size":8,"num_hidden_layers":2,
            "num_attention_heads":2,"num_key_value_heads":2,"max_position_embeddings":128{fields}}}"#
        ))
    }

    fn message(config: Result<DecoderConfig>) -> String {
        config.expect_err("an error").to_string()
    }

    #[test]
    fn contradictions_name_both_fields() {
        let error = message(parse(
            r#"{"model_type":"phi3","vocab_size":10,"hidden_size":30,"intermediate_size":8,
               "num_hidden_layers":1,"num_attention_heads":4}"#,
        ));
        assert!(
            error.contains("hidden_size 30") && error.contains("num_attention_heads 4"),
            "{error}"
        );
    }

    #[test]
    fn a_family_that_is_not_known_is_refused_with_the_list_of_those_that_are() {
        let error = message(with("mamba", ""));
        for name in [
            "mamba",
            "llama",
            "mistral",
            "phi3",
            "qwen2",
            "qwen3",
            "phi",
            "gemma3_text",
        ] {
            assert!(error.contains(name), "{name}: {error}");
        }
        let error = message(parse(r#"{"vocab_size":10}"#));
        assert!(error.contains("model_type"), "{error}");
        let error = message(with(
            "llama",
            r#","architectures":["LlamaForSequenceClassification"]"#,
        ));
        assert!(
            error.contains("LlamaForSequenceClassification") && error.contains("LlamaForCausalLM"),
            "{error}"
        );
    }

    #[test]
    fn the_architecture_names_the_family_where_model_type_is_absent() -> Result<()> {
        let config = parse(
            r#"{"architectures":["Qwen2ForCausalLM"],"vocab_size":10,"hidden_size":16,"intermediate_size":8,
               "num_hidden_layers":1,"num_attention_heads":2}"#,
        )?;
        assert_eq!(config.model_type, "qwen2");
        Ok(())
    }

    #[test]
    fn fields_are_read_known_to_be_without_effect_or_refused_by_name() -> Result<()> {
        for (family, fields, part) in [
            ("llama", r#","attention_sink":4"#, "attention_sink"),
            ("llama", r#","hidden_act":"relu6""#, "relu6"),
            (
                "llama",
                r#","partial_rotary_factor":0.5"#,
                "partial_rotary_factor",
            ),
            ("llama", r#","sliding_window":4"#, "sliding_window"),
            (
                "llama",
                r#","quantization_config":{"bits":4}"#,
                "quantization_config",
            ),
            ("phi3", r#","attention_bias":true"#, "attention_bias"),
            ("phi3", r#","hidden_act":"gelu""#, "hidden_act"),
            ("phi", r#","qk_layernorm":true"#, "qk_layernorm"),
            (
                "qwen3",
                r#","layer_types":["full_attention"]"#,
                "layer_types",
            ),
            (
                "qwen2",
                r#","layer_types":["full_attention","linear"]"#,
                "linear",
            ),
            (
                "gemma3_text",
                r#","attn_logit_softcapping":30.0"#,
                "attn_logit_softcapping",
            ),
            (
                "gemma3_text",
                r#","use_bidirectional_attention":true"#,
                "use_bidirectional_attention",
            ),
            (
                "llama",
                r#","rope_scaling":{"rope_type":"dynamic","factor":2.0}"#,
                "dynamic",
            ),
            (
                "llama",
                r#","rope_scaling":{"rope_type":"linear"}"#,
                "factor",
            ),
            (
                "llama",
                r#","rope_scaling":{"rope_type":"linear","factor":2.0,"beta_fast":3.0}"#,
                "beta_fast",
            ),
            (
                "llama",
                r#","rope_scaling":{"rope_type":"linear","factor":2.0,"tomorrow":3.0}"#,
                "tomorrow",
            ),
            (
                "phi3",
                r#","rope_scaling":{"rope_type":"yarn","factor":2.0}"#,
                "yarn",
            ),
            ("llama", r#","vocab_size":"many""#, "vocab_size"),
            ("llama", r#","rms_norm_eps":-1.0"#, "rms_norm_eps"),
        ] {
            let error = message(with(family, fields));
            assert!(error.contains(part), "{family} {fields}: {error}");
        }
        for (family, fields) in [
            (
                "llama",
                r#","attention_sink":null,"loss_type":"x","use_cache":true,"torch_dtype":"bfloat16""#,
            ),
            (
                "llama",
                r#","pretraining_tp":1,"attention_bias":true,"mlp_bias":true,"head_dim":6"#,
            ),
            (
                "qwen2",
                r#","use_sliding_window":true,"sliding_window":4,"max_window_layers":1"#,
            ),
            (
                "phi",
                r#","partial_rotary_factor":0.5,"layer_norm_eps":1e-5,"resid_pdrop":0.1"#,
            ),
        ] {
            let config = with(family, fields)?;
            let text = serde_json::to_string(&config).expect("JSON");
            assert_eq!(parse(&text)?, config, "{text}");
        }
        Ok(())
    }

    #[test]
    fn rope_parameters_of_transformers_5_are_the_older_fields() -> Result<()> {
        let new = with(
            "llama",
            r#","rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,"factor":8.0,"low_freq_factor":1.0,
               "high_freq_factor":4.0,"original_max_position_embeddings":32}"#,
        )?;
        let old = with(
            "llama",
            r#","rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
               "high_freq_factor":4.0,"original_max_position_embeddings":32}"#,
        )?;
        assert_eq!(new, old);
        let new = with(
            "gemma3_text",
            r#","head_dim":8,"rope_parameters":{"sliding_attention":{"rope_type":"default","rope_theta":5000.0},
               "full_attention":{"rope_type":"linear","factor":8.0,"rope_theta":1e6}}"#,
        )?;
        let old = with(
            "gemma3_text",
            r#","head_dim":8,"rope_theta":1e6,"rope_local_base_freq":5000.0,
               "rope_scaling":{"rope_type":"linear","factor":8.0}"#,
        )?;
        assert_eq!(new, old);
        let both =
            r#","rope_theta":5.0,"rope_parameters":{"rope_type":"default","rope_theta":6.0}"#;
        let error = message(with("llama", both));
        assert!(error.contains("rope_theta"), "{error}");
        Ok(())
    }

    #[test]
    fn both_spellings_of_longrope_give_the_same_frequencies() -> Result<()> {
        let text = |kind: &str| {
            format!(
                r#","original_max_position_embeddings":32,
                "rope_scaling":{{{kind},"short_factor":[1,1,1,1],"long_factor":[2,2,2,2]}}"#
            )
        };
        let new = with("phi3", &text(r#""rope_type":"longrope","type":"longrope""#))?;
        let old = with("phi3", &text(r#""type":"su""#))?;
        assert_eq!(new.inverse_frequencies(40), old.inverse_frequencies(40));
        let (short, scaling) = new.inverse_frequencies(32);
        let (long, _) = new.inverse_frequencies(33);
        assert!((short[0] / long[0] - 2.0).abs() < 1e-6);
        assert!((scaling - 1.183_216).abs() < 1e-5);
        Ok(())
    }
}
