//! A GGUF file's metadata as the `config.json` that the model had before.

use super::GgufFile;
use super::metadata::Asked;
use crate::language::DecoderConfig;
use crate::{Error, Result};
use serde_json::{Map, Value, json};

/// llama.cpp's names of the families that can be read, and Hugging Face's.
pub(super) const ARCHITECTURES: [(&str, &str); 6] = [
    ("llama", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("phi2", "phi"),
    ("phi3", "phi3"),
    ("gemma3", "gemma3_text"),
];

/// Keys of any file without effect on what the model computes begin with these.
const WITHOUT_EFFECT: [&str; 3] = ["general.", "quantize.", "tokenizer."];

pub(super) fn read(file: &GgufFile) -> Result<DecoderConfig> {
    let asked = file.metadata.asked();
    let lacks = |key: &str| Error::Config(format!("the file lacks {key}"));
    let architecture = asked.text("general.architecture")?;
    let architecture = architecture.ok_or_else(|| lacks("general.architecture"))?;
    if let Some(kind) = asked.text("general.type")?.filter(|kind| *kind != "model") {
        return Err(Error::Config(format!(
            "general.type is {kind}: the file holds no whole model"
        )));
    }
    if let Some(count) = asked.number("split.count")?.filter(|count| *count > 1) {
        return Err(Error::Config(format!(
            "the model is in {count} files: put them together with llama.cpp's llama-gguf-split --merge"
        )));
    }
    asked.known(&["split.no", "split.tensors.count"]);
    let Some((_, family)) = ARCHITECTURES.iter().find(|(name, _)| *name == architecture) else {
        return Err(Error::Config(format!(
            "general.architecture is {architecture}, which cannot be read; there are {}",
            ARCHITECTURES.map(|(name, _)| name).join(", ")
        )));
    };
    let keys = Keys {
        asked: &asked,
        architecture,
    };
    let mut config = keys.sizes()?;
    config.insert("model_type".into(), json!(family));
    keys.vocabulary(file, &mut config)?;
    keys.rope(file, family, &mut config)?;
    keys.family(file, family, &mut config)?;
    for (field, key) in [
        ("bos_token_id", "tokenizer.ggml.bos_token_id"),
        ("eos_token_id", "tokenizer.ggml.eos_token_id"),
        ("pad_token_id", "tokenizer.ggml.padding_token_id"),
    ] {
        config.insert(field.into(), json!(asked.number(key)?));
    }
    for key in file.metadata.keys() {
        if WITHOUT_EFFECT.iter().any(|known| key.starts_with(known)) {
            asked.known(&[key]);
        }
    }
    asked.check_all_asked("")?;
    serde_json::from_value(Value::Object(config)).map_err(|error| Error::Config(error.to_string()))
}

/// The keys below the architecture's name.
struct Keys<'a> {
    asked: &'a Asked<'a>,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn number(&self, key: &str) -> Result<Option<u64>> {
        self.asked.number(&self.key(key))
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        self.asked.float(&self.key(key))
    }

    fn sizes(&self) -> Result<Map<String, Value>> {
        let mut config = Map::new();
        for (field, key) in [
            ("num_hidden_layers", "block_count"),
            ("hidden_size", "embedding_length"),
            ("max_position_embeddings", "context_length"),
            ("intermediate_size", "feed_forward_length"),
            ("num_attention_heads", "attention.head_count"),
        ] {
            let key = self.key(key);
            let value = self.asked.same_number(&key)?;
            let value = value.ok_or_else(|| Error::Config(format!("the file lacks {key}")))?;
            config.insert(field.into(), json!(value));
        }
        let key = self.key("attention.head_count_kv");
        if let Some(heads) = self.asked.same_number(&key)? {
            config.insert("num_key_value_heads".into(), json!(heads));
        }
        if self.asked.flag(&self.key("attention.causal"))? == Some(false) {
            return Err(Error::Config(
                "attention.causal is false: the file holds no language model".into(),
            ));
        }
        let (key, value) = (
            self.number("attention.key_length")?,
            self.number("attention.value_length")?,
        );
        if let (Some(key), Some(value)) = (key, value)
            && key != value
        {
            return Err(Error::Config(format!(
                "attention.key_length is {key}, attention.value_length {value}: they must be equal"
            )));
        }
        if let Some(head) = key.or(value) {
            config.insert("head_dim".into(), json!(head));
        }
        // How the weights lay before they were converted.
        self.asked.known(&[&self.key("tensor_data_layout")]);
        Ok(config)
    }

    fn vocabulary(&self, file: &GgufFile, config: &mut Map<String, Value>) -> Result<()> {
        let table = file.stored("token_embd.weight");
        let rows = table.and_then(|table| table.shape.first().copied());
        let rows =
            rows.ok_or_else(|| Error::Config("the file lacks tensor token_embd.weight".into()))?;
        if let Some(said) = self
            .number("vocab_size")?
            .filter(|said| *said != rows as u64)
        {
            return Err(Error::Config(format!(
                "{} is {said}, token_embd.weight has {rows} rows",
                self.key("vocab_size")
            )));
        }
        config.insert("vocab_size".into(), json!(rows));
        let tied = file.stored("output.weight").is_none();
        config.insert("tie_word_embeddings".into(), json!(tied));
        Ok(())
    }

    fn rope(&self, file: &GgufFile, family: &str, config: &mut Map<String, Value>) -> Result<()> {
        if let Some(theta) = self.float("rope.freq_base")? {
            config.insert("rope_theta".into(), json!(theta));
        }
        let turned = self.number("rope.dimension_count")?;
        let size = |name: &str| config.get(name).and_then(Value::as_u64).unwrap_or(0);
        let heads = size("num_attention_heads").max(1);
        let head = match config.get("head_dim") {
            Some(_) => size("head_dim"),
            None => size("hidden_size") / heads,
        };
        if let Some(turned) = turned
            && turned != head
            && head > 0
        {
            config.insert(
                "partial_rotary_factor".into(),
                json!(turned as f64 / head as f64),
            );
        } else if family == "phi" {
            config.insert("partial_rotary_factor".into(), json!(1.0));
        }
        let original = self.number("rope.scaling.original_context_length")?;
        let factor = self.float("rope.scaling.factor")?;
        let attention = self.float("rope.scaling.attn_factor")?;
        let beta_fast = self.float("rope.scaling.yarn_beta_fast")?;
        let beta_slow = self.float("rope.scaling.yarn_beta_slow")?;
        // That a stretched context was also trained; the base is stretched all the same.
        self.asked.known(&[&self.key("rope.scaling.finetuned")]);
        let key = self.key("rope.scaling.type");
        let kind = self.asked.text(&key)?.filter(|kind| *kind != "none");
        let factors = |name: &str| super::weights::factors(file, name);
        let long = factors("rope_factors_long.weight")?;
        let short = factors("rope_factors_short.weight")?;
        let every = factors("rope_freqs.weight")?;
        let scaling = match (kind, long, short, every) {
            (None, None, None, None) => Value::Null,
            (None | Some("longrope"), Some(long), Some(short), None) => {
                let length = config.get("max_position_embeddings").cloned();
                let original = original.map(Value::from).or(length);
                config.insert("original_max_position_embeddings".into(), json!(original));
                json!({"rope_type": "longrope", "long_factor": long, "short_factor": short,
                    "attention_factor": attention})
            }
            // llama3's frequencies, worked out when the file was written.
            (None, None, None, Some(every)) => {
                json!({"rope_type": "longrope", "long_factor": every,
                "short_factor": every, "attention_factor": 1.0})
            }
            (Some("linear"), None, None, None) => json!({"rope_type": "linear", "factor": factor}),
            (Some("yarn"), None, None, None) => json!({"rope_type": "yarn", "factor": factor,
                "original_max_position_embeddings": original, "attention_factor": attention,
                "beta_fast": beta_fast, "beta_slow": beta_slow}),
            (kind, ..) => {
                return Err(Error::Config(format!(
                    "{key} is {}, which is not known together with the tensors of factors in the file",
                    kind.unwrap_or("none")
                )));
            }
        };
        config.insert("rope_scaling".into(), scaling);
        Ok(())
    }

    fn family(&self, file: &GgufFile, family: &str, config: &mut Map<String, Value>) -> Result<()> {
        let window = self.number("attention.sliding_window")?.filter(|n| *n > 0);
        let (eps, theirs) = match family {
            "phi" => ("layer_norm_eps", "attention.layer_norm_epsilon"),
            _ => ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        };
        let value = self.float(theirs)?;
        let lacks = || Error::Config(format!("the file lacks {}", self.key(theirs)));
        config.insert(eps.into(), json!(value.ok_or_else(lacks)?));
        if let Some(window) = window {
            config.insert("sliding_window".into(), json!(window));
        }
        let has = |name: &str| file.stored(name).is_some();
        match family {
            "llama" => {
                config.insert(
                    "attention_bias".into(),
                    json!(has("blk.0.attn_q.bias") || has("blk.0.attn_output.bias")),
                );
                config.insert("mlp_bias".into(), json!(has("blk.0.ffn_down.bias")));
            }
            "qwen2" if window.is_some() => {
                config.insert("use_sliding_window".into(), json!(true));
                config.insert("max_window_layers".into(), json!(0));
            }
            "qwen3" => {
                config.insert("attention_bias".into(), json!(has("blk.0.attn_q.bias")));
            }
            "gemma3_text" => self.gemma3(config)?,
            _ => {}
        }
        Ok(())
    }

    /// What llama.cpp knows of Gemma 3 without its being in the file.
    fn gemma3(&self, config: &mut Map<String, Value>) -> Result<()> {
        let size = |name: &str| config.get(name).and_then(Value::as_u64).unwrap_or(0);
        let head = match size("num_hidden_layers") {
            // The 27B model.
            62 => size("hidden_size") / size("num_attention_heads").max(1),
            _ => size("head_dim"),
        };
        config.insert("query_pre_attn_scalar".into(), json!(head));
        for cap in ["attn_logit_softcapping", "final_logit_softcapping"] {
            let value = self.float(cap)?;
            config.insert(cap.into(), json!(value));
        }
        if let Some(theta) = self.float("rope.freq_base_swa")? {
            config.insert("rope_local_base_freq".into(), json!(theta));
        }
        Ok(())
    }
}
