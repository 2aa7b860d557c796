//! candle-transformers' models as a second oracle, where it agrees with transformers: towers, ViT and decoder on the weights of
//! the other fixtures. And the example with its models in ours, run.
//!
//! Where it does not agree, and is no oracle: its DINOv2 (LayerNorm with ε = 1e-5 for 1e-6, GELU by tanh for the exact one,
//! positions resampled to the nearest for bicubic), its LongRoPE.

#[path = "../examples/candle_models.rs"]
mod candle_models;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glassbox_prelude::candle_core::{Var, safetensors};
use glassbox_prelude::candle_nn::{Module, VarBuilder};
use glassbox_prelude::candle_transformers::models::{clip, phi3, siglip, vit};
use glassbox_prelude::prelude::*;
use serde_json::Value;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests")
        .join(path)
}

fn weights(folder: &str) -> Result<VarBuilder<'static>> {
    let tensors = safetensors::load(tests(folder).join("model.safetensors"), &Device::Cpu)?;
    Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

fn expected(folder: &str) -> Result<HashMap<String, Tensor>> {
    let file = tests(folder).join("expected.safetensors");
    Ok(safetensors::load(file, &Device::Cpu)?)
}

fn config(folder: &str) -> std::result::Result<Value, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(tests(folder).join("config.json"))?;
    Ok(serde_json::from_str(&text)?)
}

fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.max_all()?.to_scalar()?)
}

#[test]
fn its_siglip_and_clip_agree_with_our_towers() -> Outcome {
    for folder in ["towers/siglip", "towers/siglip2"] {
        let pixels = &expected(folder)?["pixel_values"];
        let tower = Tower::load(tests(folder), DType::F32, &Device::Cpu)?;
        let whole = config(folder)?;
        let inner = whole.get("vision_config").unwrap_or(&whole);
        let sizes: siglip::VisionConfig = serde_json::from_value(inner.clone())?;
        let theirs = siglip::VisionModel::new(&sizes, false, weights(folder)?.pp("vision_model"))?;
        let worst = difference(&tower.encode(pixels)?, &theirs.forward(pixels)?)?;
        assert!(worst < 2e-5, "{folder}: {worst}");
    }
    let folder = "towers/clip";
    let tower = Tower::load(tests(folder), DType::F32, &Device::Cpu)?;
    let sizes = clip::vision_model::ClipVisionConfig {
        embed_dim: tower.config.hidden_size,
        activation: clip::text_model::Activation::QuickGelu,
        intermediate_size: tower.config.intermediate_size,
        num_hidden_layers: tower.config.num_hidden_layers,
        num_attention_heads: tower.config.num_attention_heads,
        projection_dim: 0,
        num_channels: 3,
        image_size: tower.config.image_size,
        patch_size: tower.config.patch_size,
    };
    let pixels = &expected(folder)?["pixel_values"];
    let weights = weights(folder)?.pp("vision_model");
    let theirs = clip::vision_model::ClipVisionTransformer::new(weights, &sizes)?;
    let theirs = theirs.output_hidden_states(pixels)?;
    let ours = tower.hidden_states(pixels)?;
    // Ours begin with the input of the first layer, theirs end with the pooled output.
    assert_eq!(theirs.len(), ours.len());
    for (ours, theirs) in ours[1..].iter().zip(&theirs) {
        assert!(difference(ours, theirs)? < 2e-5);
    }
    Ok(())
}

#[test]
fn its_vit_agrees_with_ours() -> Outcome {
    let folder = "fixtures/vit_for_image_classification";
    let ours = Vit::load(tests(folder), DType::F32, &Device::Cpu)?;
    let pixels = &expected("fixtures/vit")?["pixel_values"];
    let logits = ours
        .forward(pixels)?
        .classifier_logits
        .ok_or("no classifier")?;
    let sizes: vit::Config = serde_json::from_value(config(folder)?)?;
    let theirs = vit::Model::new(&sizes, logits.dim(1)?, weights(folder)?)?.forward(pixels)?;
    let worst = difference(&logits, &theirs)?;
    assert!(worst < 2e-5, "{worst}");
    Ok(())
}

#[test]
fn its_phi3_agrees_with_our_decoder() -> Outcome {
    let folder = "fixtures/llm";
    let sizes: phi3::Config = serde_json::from_value(config(folder)?)?;
    let mut theirs = phi3::Model::new(&sizes, weights(folder)?)?;
    let ids: Vec<u32> = (0..40).map(|place| (place * 37 + 5) % 700).collect();
    let ids = Tensor::from_vec(ids, (1, 40), &Device::Cpu)?;
    let last = theirs.forward(&ids, 0)?.squeeze(1)?; // [1, V]
    let ours = Decoder::load(tests(folder), DType::F32, &Device::Cpu)?;
    let input = LlmInput::ids(&ids).logits_at(LogitsAt::Last);
    let ours = ours.forward(&input)?.logits()?.reshape(last.dims())?;
    let worst = difference(&ours, &last)?;
    assert!(worst < 1e-4, "{worst}");
    Ok(())
}

#[test]
fn its_models_stand_in_ours_frozen_in_front_and_behind() -> Outcome {
    let found = candle_models::run(&tests("towers/siglip"))?;
    let (before, after) = found.losses;
    assert!(after < before - 0.03, "{before} → {after}");
    assert!(found.logits < 1e-4, "{}", found.logits);
    assert_eq!(found.texts.0, found.texts.1);
    assert!(!found.texts.0.is_empty());
    Ok(())
}

#[test]
fn no_gradient_comes_through_its_decoder() -> Outcome {
    // What the example says of it: should candle change that, the example should too.
    let vlm = Vlm::from_pretrained(
        &Preset::tiny().settings(VlmSettings {
            vit_lora: None,
            llm_lora: None,
            prompt_vectors: PromptVectors::Fixed,
            ..VlmSettings::tiny()
        }),
        &Device::Cpu,
    )?;
    let decoder = candle_models::CandleLlama::of(&vlm)?;
    let embeds = Var::randn(0_f32, 1.0, (1, 5, vlm.llm.config.hidden_size), &Device::Cpu)?;
    let logits = decoder.logits(embeds.as_tensor(), 0, &mut decoder.cache()?)?;
    // Its last norm has no backward pass and says nothing: the graph ends there, and the backward pass of what is left succeeds.
    let gradients = logits.sqr()?.sum_all()?.backward()?;
    let gradient = gradients.get(embeds.as_tensor());
    assert!(gradient.is_none(), "a gradient came through: {gradient:?}");
    Ok(())
}
