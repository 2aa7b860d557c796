//! Published vision-language models against transformers: `scripts/fixtures/published.py` writes tiny random models in the layouts of
//! published ones and what comes out of them, the tests here read the folders and compare.

// What is compared and how far apart it is, is for whoever runs the tests with `--nocapture`.
#![allow(clippy::print_stdout)]

mod bad_input;
mod cases;
mod computed;
mod layouts;
mod nanovlm;
mod parity;
mod peer;
mod python;
mod saved;
mod smolvlm;

use glassbox_prelude::prelude::*;
use peer::assert_close;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;
type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Of logits, f32.
const CLOSE: f32 = 1e-4;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/published")
        .join(name)
}

/// In f32, as the reference ran, with other settings than those that the layout decides.
fn load_with(name: &Path, settings: VlmSettings) -> Fallible<Vlm> {
    let preset = Preset::published(name.display().to_string()).settings(settings);
    Ok(Vlm::from_pretrained(
        &preset.dtype(DType::F32),
        &Device::Cpu,
    )?)
}

fn load(name: &str) -> Fallible<Vlm> {
    load_with(&folder(name), VlmSettings::published())
}

/// A copy of a model's folder, to be changed.
fn copied(folder: &Path) -> Fallible<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    Ok(copy)
}

fn picture(name: &str) -> Fallible<Image> {
    Ok(Image::load(folder(name).join("picture.png"))?)
}

/// What the reference makes of one text.
struct Case {
    text: String,
    ids: Vec<i64>,
    places: Vec<usize>,
    greedy: Vec<u32>,
    logits: Tensor,
}

/// What is expected of a folder, by the name of each text, and the picture's pixel values.
fn expected(name: &str) -> Fallible<(HashMap<String, Case>, Tensor)> {
    let file = folder(name).join("expected.safetensors");
    let mut tensors = glassbox_prelude::candle_core::safetensors::load(file, &Device::Cpu)?;
    let texts: HashMap<String, Value> =
        serde_json::from_slice(&std::fs::read(folder(name).join("expected.json"))?)?;
    let mut cases = HashMap::new();
    for (key, value) in texts {
        let logits = tensors
            .remove(&format!("{key}.logits"))
            .ok_or("no logits")?;
        let case = Case {
            text: value["text"].as_str().ok_or("no text")?.to_owned(),
            ids: serde_json::from_value(value["ids"].clone())?,
            places: serde_json::from_value(value["places"].clone())?,
            greedy: serde_json::from_value(value["greedy"].clone())?,
            logits,
        };
        cases.insert(key, case);
    }
    let pixels = tensors.remove("pixel_values").ok_or("no pixel_values")?;
    Ok((cases, pixels))
}

/// Logits of every place of a prompt, `[T, V]`.
fn logits(vlm: &Vlm, prompt: &Prompt) -> Fallible<Tensor> {
    let sequence = vlm.sequence(std::slice::from_ref(prompt))?;
    Ok(vlm.llm.forward(&sequence.input())?.logits()?.squeeze(0)?)
}
