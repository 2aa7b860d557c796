//! What a pair of models of real size takes: seconds a training step, memory as estimated before the first step and as measured in the
//! second, seconds a caption. The weights are random, of the sizes that are published: what they say doesn't matter here.
//!
//! ```sh
//! cargo run --release -p glassbox-prelude --example real_pair -- [smol] [blog] [--batch 1] [--steps 3] [--layers N]
//! ```
//! `smol` is `Preset::smol` (DINOv2-small and SmolLM2-135M in f32), `blog` the post's (ViT-B/16 in f32, Phi-3-mini in bf16, LoRA of
//! rank 64 and 8; 7.7 GB of weights). `--layers` builds only so many layers of the language models. Each pair runs with the one
//! `TrainerSettings`, in the order in which they are named; both where none is.

#![allow(clippy::print_stdout)] // a program that reports to a terminal

use std::time::Instant;

use glassbox_prelude::candle_core::{DType, Device};
use glassbox_prelude::display::Render;
use glassbox_prelude::language::{Decoder, DecoderConfig};
use glassbox_prelude::nn::Checkpoint;
use glassbox_prelude::train::{Example, Trainer, TrainerSettings};
use glassbox_prelude::vision::{
    Encoder, Image, ImageProcessor, ImageProcessorConfig, Tower, TowerConfig, ViTConfig, Vit,
};
use glassbox_prelude::vlm::{Vlm, VlmParts, VlmSettings};
use glassbox_prelude::{Error, Result};
use serde_json::{Value, json};

const CAPTION: &str = "a red star above a small blue circle and a green square";

struct Options {
    pairs: Vec<String>,
    batch: usize,
    steps: usize,
    layers: Option<usize>,
}

fn main() -> Result<()> {
    let options = options(std::env::args().skip(1))?;
    let mut found = Vec::new();
    for pair in &options.pairs {
        found.push(measure(pair, &options)?);
    }
    println!(
        "\n| pair | parameters | s a step | memory, estimated and measured, MB | ratio | s a caption of 12 tokens |"
    );
    println!("|---|---|---|---|---|---|");
    for row in found {
        println!("{row}");
    }
    Ok(())
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        pairs: Vec::new(),
        batch: 1,
        steps: 3,
        layers: None,
    };
    let usage = "usage: real_pair [smol] [blog] [--batch N] [--steps N] [--layers N]";
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse::<usize>().ok());
            let value = value.filter(|value| *value > 0);
            value.ok_or_else(|| Error::Input(format!("{word} wants a number above 0; {usage}")))
        };
        match word.as_str() {
            "smol" | "blog" => options.pairs.push(word),
            "--batch" => options.batch = number()?,
            "--steps" => options.steps = number()?.max(2),
            "--layers" => options.layers = Some(number()?),
            _ => return Err(Error::Input(format!("{word:?}: {usage}"))),
        }
    }
    if options.pairs.is_empty() {
        options.pairs = ["smol", "blog"].map(str::to_owned).to_vec();
    }
    Ok(options)
}

/// Trains a few steps and writes a caption; one row of the table.
fn measure(pair: &str, options: &Options) -> Result<String> {
    let vlm = built(pair, options.layers)?;
    println!("{}", vlm.render().plain());
    let images = [[200, 30, 40], [20, 180, 60]].map(|rgb| Image::filled(224, 224, rgb));
    let mut set = Vec::new();
    for image in images {
        set.push(Example::new(&image?, CAPTION));
    }
    let mut trainer = Trainer::new(TrainerSettings {
        batch_size: options.batch,
        steps: options.steps,
        validation_samples: 1,
        validate_every: options.steps,
        workers: 0,
        ..TrainerSettings::default()
    })?;
    let report = trainer.fit(&vlm, &set, &set)?;
    println!("{}", report.render().plain());
    // The first step's time has what is made once.
    let records = trainer.records();
    let last = records.len() - 1;
    let step = (records[last].seconds - records[0].seconds) / last as f64;
    let (estimated, measured) = report
        .memory
        .ok_or_else(|| Error::Input("memory is measured on Linux with glibc alone".into()))?;
    let begun = Instant::now();
    let image = Image::filled(224, 224, [20, 180, 60])?;
    vlm.generate(&image)?
        .max_new_tokens(12)
        .stop_at(Vec::new())
        .run()?;
    let caption = begun.elapsed().as_secs_f64();
    let parameters: usize = vlm.named_parameters().iter().map(|p| p.count()).sum();
    Ok(format!(
        "| {pair} | {:.0} million | {step:.2} | {:.0}, {:.0} | {:.3} | {caption:.2} |",
        parameters as f64 / 1e6,
        estimated as f64 / 1e6,
        measured as f64 / 1e6,
        estimated as f64 / measured as f64,
    ))
}

/// The pair with random weights of its published sizes; `layers` of its language model at most.
fn built(pair: &str, layers: Option<usize>) -> Result<Vlm> {
    let cpu = Device::Cpu;
    let f32s = Checkpoint::random(0, DType::F32, &cpu);
    let (encoder, mut llm, dtype, settings): (Encoder, Value, DType, VlmSettings) = match pair {
        "smol" => {
            let config = TowerConfig::from_json(&dinov2_small().to_string(), "dinov2".as_ref())?;
            let tower = Tower::from_checkpoint(&config, &f32s)?.with_image_size(224)?;
            (
                tower.into(),
                smollm2_135m(),
                DType::F32,
                VlmSettings::smol(),
            )
        }
        _ => {
            let vit = Vit::from_checkpoint(&ViTConfig::base_patch16_224(), &f32s)?;
            (vit.into(), phi3_mini(), DType::BF16, VlmSettings::blog())
        }
    };
    if let (Some(layers), Some(all)) = (layers, llm["num_hidden_layers"].as_u64()) {
        llm["num_hidden_layers"] = json!(all.min(layers as u64));
    }
    let config: DecoderConfig = serde_json::from_value(llm)
        .map_err(|error| Error::Config(format!("language model: {error}")))?;
    let weights = Checkpoint::random(1, dtype, &cpu);
    let parts = VlmParts {
        image_processor: ImageProcessor::new(ImageProcessorConfig::vit(224))?,
        image_encoder: encoder,
        llm: Decoder::from_checkpoint(&config, &weights)?,
        // Its token ids lie below those of either language model.
        llm_processor: Vlm::tiny(&cpu)?.llm_processor.clone(),
    };
    Vlm::new(parts, settings, 0)
}

fn dinov2_small() -> Value {
    json!({"model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4,
        "hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": 518, "patch_size": 14, "num_channels": 3,
        "qkv_bias": true, "use_swiglu_ffn": false, "layerscale_value": 1.0})
}

fn smollm2_135m() -> Value {
    json!({"model_type": "llama", "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192,
        "rope_theta": 100_000.0, "tie_word_embeddings": true, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2})
}

fn phi3_mini() -> Value {
    json!({"model_type": "phi3", "vocab_size": 32_064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096, "rope_theta": 10_000.0, "sliding_window": 2047, "hidden_act": "silu",
        "bos_token_id": 1, "eos_token_id": 32_000, "pad_token_id": 32_000})
}
