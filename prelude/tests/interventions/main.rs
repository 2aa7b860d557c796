//! Edits of named activations in every family of language models and every encoder, and the instruments that are built on them, where
//! the right answer is known: no-op edits, weights edited by hand, planted heads, linear models, sums.

// How close a sum came is for whoever runs the tests with `--nocapture`.
#![allow(clippy::print_stdout)]

mod attention;
mod decoders;
mod encoders;
mod instruments;
mod whole;

use glassbox_prelude::language::LlmInput;
use glassbox_prelude::prelude::*;
use std::path::{Path, PathBuf};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// Every family, and what differs within one.
const DECODERS: [&str; 13] = [
    "gemma3",
    "gemma3_as_published",
    "llama",
    "llama_rope_yarn",
    "llama_tied_biased",
    "mistral",
    "phi",
    "phi3_partial",
    "phi_grouped",
    "qwen2",
    "qwen2_windows",
    "qwen3",
    "../llm", // Phi-3
];
const TOWERS: [&str; 5] = ["clip", "dinov2", "siglip", "siglip2", "smolvlm"];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn decoder(name: &str) -> Result<Decoder> {
    let folder = tests().join("fixtures/decoders").join(name);
    Decoder::load(folder, DType::F32, &Device::Cpu)
}

/// Two sequences of nine ids.
fn ids(llm: &Decoder) -> Result<Tensor> {
    let vocabulary = llm.config.vocab_size as u32;
    let ids: Vec<u32> = (0..18).map(|i| (i * 7 + 3) % vocabulary).collect();
    Ok(Tensor::from_vec(ids, (2, 9), &Device::Cpu)?)
}

fn logits(llm: &Decoder, ids: &Tensor) -> Result<Tensor> {
    Ok(llm.forward(&LlmInput::ids(ids))?.logits()?.clone())
}

fn bits(x: &Tensor) -> Result<Vec<u32>> {
    let values = x.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}

fn difference(one: &Tensor, other: &Tensor) -> Result<f32> {
    Ok((one - other)?.abs()?.max_all()?.to_scalar::<f32>()?)
}

/// Whether an edit of it has the pass take attention's other form, whose sums are rounded otherwise.
fn unfused(name: &str) -> bool {
    let parts = ["rotated_queries", "rotated_keys", "attention_weights"];
    parts.iter().any(|part| name.ends_with(part))
}

/// Columns `from..to` of a linear layer's weight as zeros.
fn without_columns(linear: &mut Linear, columns: std::ops::Range<usize>) -> Result<()> {
    let weight = linear.weight.tensor();
    let zeros = Tensor::zeros(
        (weight.dim(0)?, columns.len()),
        weight.dtype(),
        weight.device(),
    )?;
    let weight = weight.slice_assign(&[0..weight.dim(0)?, columns], &zeros)?;
    linear.weight = Weight::frozen(linear.weight.name(), weight);
    Ok(())
}

/// A linear layer's weight and bias times a number.
fn scaled(linear: &mut Linear, factor: f64) -> Result<()> {
    linear.weight = Weight::frozen(linear.weight.name(), (linear.weight.tensor() * factor)?);
    if let Some(bias) = &linear.bias {
        linear.bias = Some(Weight::frozen(bias.name(), (bias.tensor() * factor)?));
    }
    Ok(())
}

/// An encoder's layers, its own pass, and pixel values that it takes.
struct Fixture<M> {
    name: &'static str,
    model: M,
    pixels: Tensor,
}

fn towers() -> Result<Vec<Fixture<Tower>>> {
    let load = |name| {
        let model = Tower::load(tests().join("towers").join(name), DType::F32, &Device::Cpu)?;
        let side = model.config.image_size;
        let pixels = Tensor::rand(-1f32, 1.0, (2, 3, side, side), &Device::Cpu)?;
        Ok(Fixture {
            name,
            model,
            pixels,
        })
    };
    TOWERS.into_iter().map(load).collect()
}

fn vit() -> Result<Fixture<Vit>> {
    let folder = tests().join("fixtures/vit");
    let model = Vit::load(folder, DType::F32, &Device::Cpu)?;
    let side = model.config.image_size;
    let pixels = Tensor::rand(-1f32, 1.0, (2, 3, side, side), &Device::Cpu)?;
    Ok(Fixture {
        name: "vit",
        model,
        pixels,
    })
}
