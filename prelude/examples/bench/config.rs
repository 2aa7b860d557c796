//! The benchmark's settings: the defaults, with the top-level keys of a JSON file in their place.
//!
//! Keys, defaults and the way a file replaces them are those of `scripts/peer/bench_torch.py`, so that one file describes
//! the same work to both.

use std::path::{Path, PathBuf};

use candle_core::DType;
use glassbox_prelude::language::DecoderConfig;
use glassbox_prelude::vision::ViTConfig;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Failure;

/// What to measure, and with which sizes.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub threads: usize,
    pub dtype: String,
    pub seed: u64,
    pub reps: usize,
    pub warmup: usize,
    pub vit: Map<String, Value>,
    pub llm: Map<String, Value>,
    pub projector: String,
    pub vision_feature: String,
    pub lora: Option<Adapters>,
    pub n_start: usize,
    pub n_end: usize,
    pub n_query: usize,
    pub caption_tokens: usize,
    /// `predict_at_index` of successive steps.
    pub prefix_schedule: Vec<usize>,
    pub adamw: Optimizer,
    pub vit_batches: Vec<usize>,
    pub train_batches: Vec<usize>,
    pub new_tokens: usize,
    pub gen_reps: usize,
    /// Tokens for the blog's full re-run; `null`: as many as `new_tokens`.
    pub new_tokens_blog: Option<usize>,
    pub phi3full: FullSize,
}

/// LoRA on both models.
#[derive(Clone, Debug, Deserialize)]
pub struct Adapters {
    pub llm: Option<Adapter>,
    pub vit: Option<Adapter>,
}

/// LoRA on one model.
#[derive(Clone, Debug, Deserialize)]
pub struct Adapter {
    pub r: usize,
    pub alpha: f64,
    pub targets: Option<Vec<String>>,
    /// Of a ViT: also on the output projections and the MLP.
    #[serde(default)]
    pub dense: bool,
}

/// AdamW's settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Optimizer {
    pub lr: f64,
    pub betas: (f64, f64),
    pub eps: f64,
    pub weight_decay: f64,
}

/// The full-size language model with random weights.
#[derive(Clone, Debug, Deserialize)]
pub struct FullSize {
    pub prefill: usize,
    pub decode: usize,
    pub dtype: String,
    /// Where its 7 GB of weights are written.
    pub dir: PathBuf,
    /// Keep the weights afterwards.
    pub keep: bool,
    pub llm: Map<String, Value>,
}

impl Config {
    /// The defaults with what `file` says in their place, typed and as JSON.
    pub fn read(file: Option<&Path>) -> Result<(Self, Value), Failure> {
        let mut all: Map<String, Value> = serde_json::from_str(include_str!("default.json"))?;
        if let Some(file) = file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            let changes: Map<String, Value> = serde_json::from_str(&text)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            all.extend(changes);
        }
        let value = Value::Object(all);
        Ok((serde_json::from_value(value.clone())?, value))
    }

    /// The image encoder's sizes.
    pub fn vit_config(&self) -> Result<ViTConfig, Failure> {
        let mut fields = self.vit.clone();
        fields.insert("model_type".to_owned(), json!("vit"));
        Ok(serde_json::from_value(Value::Object(fields))?)
    }

    /// The language model's sizes.
    pub fn llm_config(&self) -> Result<DecoderConfig, Failure> {
        Ok(serde_json::from_value(phi3_fields(&self.llm))?)
    }
}

impl FullSize {
    /// The contents of its `config.json`.
    pub fn config_json(&self) -> Value {
        let mut value = phi3_fields(&self.llm);
        value["torch_dtype"] = json!("bfloat16");
        value
    }
}

fn phi3_fields(sizes: &Map<String, Value>) -> Value {
    let mut fields = sizes.clone();
    for (key, value) in [
        ("model_type", json!("phi3")),
        ("architectures", json!(["Phi3ForCausalLM"])),
        ("hidden_act", json!("silu")),
        ("tie_word_embeddings", json!(false)),
        ("rope_scaling", Value::Null),
    ] {
        fields.entry(key).or_insert(value);
    }
    Value::Object(fields)
}

/// PyTorch's name of a dtype.
pub fn dtype(name: &str) -> Result<DType, Failure> {
    match name {
        "float32" => Ok(DType::F32),
        "bfloat16" => Ok(DType::BF16),
        "float16" => Ok(DType::F16),
        _ => Err(format!("dtype {name:?}: expected float32, bfloat16 or float16").into()),
    }
}
