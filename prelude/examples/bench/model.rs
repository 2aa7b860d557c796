//! The models that are measured, with random weights.

use candle_core::Tensor;
use glassbox_prelude::language::{Decoder, LlmProcessor};
use glassbox_prelude::nn::{Checkpoint, LoraConfig, Weight};
use glassbox_prelude::vision::{ImageProcessor, ImageProcessorConfig, Rescaling, Vit};
use glassbox_prelude::vlm::{
    AdapterTraining, BosPlacement, PromptStyle, PromptVectors, Targets, Vlm, VlmParts, VlmSettings,
};
use serde_json::json;

use crate::Failure;
use crate::config::{Adapter, Config, dtype};
use crate::measure::device;

/// What LoRA is put on in the language model when the settings do not say.
const LLM_TARGETS: [&str; 4] = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"];
/// The same for the image encoder.
const VIT_TARGETS: [&str; 3] = ["query", "key", "value"];

/// The image encoder alone.
pub fn random_vit(config: &Config) -> Result<Vit, Failure> {
    let weights = Checkpoint::random(config.seed, dtype(&config.dtype)?, &device()?);
    Ok(Vit::from_checkpoint(&config.vit_config()?, &weights)?)
}

/// The whole model; with or without LoRA.
pub fn random_vlm(config: &Config, with_lora: bool) -> Result<Vlm, Failure> {
    if config.projector != "mlp" {
        return Err(format!("projector {:?}: only \"mlp\" is measured", config.projector).into());
    }
    let weights = Checkpoint::random(config.seed + 1, dtype(&config.dtype)?, &device()?);
    let llm_config = config.llm_config()?;
    let image_encoder = random_vit(config)?.with_feature(config.vision_feature.parse()?)?;
    let parts = VlmParts {
        image_processor: ImageProcessor::new(ImageProcessorConfig::vit(
            image_encoder.config.image_size as u32,
        ))?,
        image_encoder: image_encoder.into(),
        llm: Decoder::from_checkpoint(&llm_config, &weights)?,
        llm_processor: small_tokenizer()?,
    };
    let lora = config.lora.as_ref().filter(|_| with_lora);
    let settings = VlmSettings {
        adapters: AdapterTraining::Trained,
        prompt_vectors: PromptVectors::Trained,
        targets: Targets::Middle,
        bos: BosPlacement::EveryString,
        prompt: PromptStyle::Plain,
        rescaling: Rescaling::Once,
        stop_at_eos: false,
        vit_lora: lora.and_then(|lora| lora.vit.as_ref()).map(vit_lora),
        llm_lora: lora.and_then(|lora| lora.llm.as_ref()).map(llm_lora),
        ..VlmSettings::blog()
    };
    let mut vlm = Vlm::new(parts, settings, config.seed)?;
    let width = llm_config.hidden_size;
    vlm.start_vec = prompt_vector("start_vec", config.n_start, width)?;
    vlm.end_vec = prompt_vector("end_vec", config.n_end, width)?;
    vlm.query_vec = prompt_vector("query_vec", config.n_query, width)?;
    Ok(vlm)
}

fn prompt_vector(name: &str, tokens: usize, width: usize) -> Result<Weight, Failure> {
    let values = Tensor::randn(0f32, 0.02f32, (1, tokens, width), &device()?)?; // [1, T, D]
    Ok(Weight::trainable(name, &values)?)
}

fn llm_lora(adapter: &Adapter) -> LoraConfig {
    lora(adapter, LLM_TARGETS.map(str::to_owned).to_vec())
}

fn vit_lora(adapter: &Adapter) -> LoraConfig {
    let mut targets = VIT_TARGETS.map(str::to_owned).to_vec();
    if adapter.dense {
        targets.push("dense".to_owned());
    }
    lora(adapter, targets)
}

fn lora(adapter: &Adapter, default_targets: Vec<String>) -> LoraConfig {
    let targets = adapter.targets.clone().unwrap_or(default_targets);
    let names: Vec<&str> = targets.iter().map(String::as_str).collect();
    LoraConfig {
        lora_dropout: 0.0,
        ..LoraConfig::new(adapter.r, adapter.alpha, &names)
    }
}

/// A tokenizer of a few words: the benchmark feeds token ids, but a `Vlm` has one.
fn small_tokenizer() -> Result<LlmProcessor, Failure> {
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2}},
    });
    Ok(LlmProcessor::from_bytes(
        tokenizer.to_string().as_bytes(),
        None,
    )?)
}
