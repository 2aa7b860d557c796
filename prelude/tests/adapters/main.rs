//! Adapters that PEFT saved: the right output, or a refusal that names the field.
//!
//! `make.py` wrote `cases` and `expected.json`: each field of PEFT's `LoraConfig` that changes what an adapter computes, on the tiny
//! models of `tests/fixtures`.

use glassbox_prelude::Result;
use glassbox_prelude::candle_core::{DType, Device, IndexOp, Tensor};
use glassbox_prelude::language::{Decoder, LlmInput};
use glassbox_prelude::lora::{TaskType, load_adapter, read_adapter_config, save_adapter};
use glassbox_prelude::nn::{LoraConfig, Network};
use glassbox_prelude::serde_json::{self, Map, Value, json};
use glassbox_prelude::vision::Vit;
use std::path::{Path, PathBuf};

/// As in the parity tests: the order of sums differs.
const TOLERANCE: f32 = 2e-4;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

fn expected() -> Map<String, Value> {
    serde_json::from_str(include_str!("expected.json")).expect("expected.json")
}

enum Model {
    Llm(Box<Decoder>),
    Vit(Box<Vit>),
}

impl Model {
    fn new(kind: &Value) -> Self {
        match kind.as_str() {
            Some("llm") => {
                let llm = Decoder::load(fixture("llm"), DType::F32, &Device::Cpu);
                Self::Llm(Box::new(llm.expect("the tiny language model")))
            }
            _ => {
                let vit = Vit::load(fixture("vit"), DType::F32, &Device::Cpu);
                Self::Vit(Box::new(vit.expect("the tiny ViT")))
            }
        }
    }

    fn network(&mut self) -> &mut dyn Network {
        match self {
            Self::Llm(llm) => &mut **llm,
            Self::Vit(vit) => &mut **vit,
        }
    }

    /// What `make.py` has PEFT compute.
    fn run(&self) -> Result<Vec<f32>> {
        match self {
            Self::Llm(llm) => {
                let ids = Tensor::new(&[[1u32, 5, 9, 17, 33, 2, 70]], &Device::Cpu)?;
                let logits = llm.forward(&LlmInput::ids(&ids))?.logits.expect("logits"); // [1, T, V]
                Ok(logits.i((0, ids.dim(1)? - 1, ..64))?.to_vec1()?)
            }
            Self::Vit(vit) => {
                let count = 3 * 64 * 64;
                let pixel = |i: usize| (-1.0 + 2.0 * i as f64 / (count - 1) as f64) as f32;
                let pixels: Vec<f32> = (0..count).map(pixel).collect();
                let pixels = Tensor::from_vec(pixels, (1, 3, 64, 64), &Device::Cpu)?;
                Ok(vit
                    .forward(&pixels)?
                    .last_hidden_state
                    .i((0, 0))?
                    .to_vec1()?)
            }
        }
    }
}

fn gap(found: &[f32], expected: &Value) -> f32 {
    let expected: Vec<f32> = serde_json::from_value(expected.clone()).expect("values");
    assert_eq!(found.len(), expected.len());
    let gaps = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    gaps.fold(0.0, f32::max)
}

#[test]
fn adapters_of_peft_give_its_output_or_are_refused_by_name() {
    for (name, case) in expected() {
        let folder = here().join("cases").join(&name);
        let mut model = Model::new(&case["kind"]);
        let loaded = load_adapter(model.network(), &folder);
        if let Some(words) = case["refuses"].as_array() {
            let message = loaded.expect_err(&name).to_string();
            for word in words {
                assert!(
                    message.contains(word.as_str().expect("a word")),
                    "{name}: {message}"
                );
            }
            continue;
        }
        let config = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let gap_to = |model: &Model| gap(&model.run().expect("an output"), &case["values"]);
        let found = gap_to(&model);
        assert!(found < TOLERANCE, "{name}: off by {found}, with {config:?}");

        // And the same again from what we write.
        let again = tempfile::tempdir().expect("a folder");
        save_adapter(model.network(), TaskType::None, None, again.path()).expect("saved");
        let mut reloaded = Model::new(&case["kind"]);
        load_adapter(reloaded.network(), again.path())
            .unwrap_or_else(|error| panic!("{name} again: {error}"));
        let found = gap_to(&reloaded);
        assert!(found < TOLERANCE, "{name} again: off by {found}");
    }
}

#[test]
fn lora_on_all_linear_layers_is_saved_by_their_names() {
    let mut model = Model::new(&json!("llm"));
    let config = LoraConfig::new(2, 4.0, &["all-linear"]);
    assert_eq!(model.network().add_lora(&config, 0).expect("added"), 12);
    let folder = tempfile::tempdir().expect("a folder");
    save_adapter(model.network(), TaskType::CausalLm, None, folder.path()).expect("saved");
    let text =
        std::fs::read_to_string(folder.path().join("adapter_config.json")).expect("a config");
    let saved: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        saved["target_modules"].as_array().map(Vec::len),
        Some(12),
        "{text}"
    );
    assert_eq!(saved["rank_pattern"], json!({}));
}

/// A plain adapter of PEFT with some fields changed.
fn edited(fields: Value) -> tempfile::TempDir {
    let from = here().join("cases/plain");
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(from.join("adapter_config.json")).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    for (name, value) in fields.as_object().expect("fields") {
        config[name] = value.clone();
    }
    std::fs::write(
        folder.path().join("adapter_config.json"),
        config.to_string(),
    )
    .expect("written");
    let weights = "adapter_model.safetensors";
    std::fs::copy(from.join(weights), folder.path().join(weights)).expect("copied");
    folder
}

#[test]
fn alpha_pattern_is_a_regular_expression() {
    let fields = json!({"r": 4, "alpha_pattern": {"model\\.layers\\.0\\.mlp\\..*": 64}});
    let config = read_adapter_config(edited(fields).path()).expect("read");
    assert_eq!(config.scale("model.layers.0.mlp.down_proj"), 16.0);
    assert_eq!(config.scale("model.layers.1.mlp.down_proj"), 2.0);
}

#[test]
fn a_base_that_was_changed_is_no_base() {
    for way in [
        "pissa",
        "pissa_niter_16",
        "olora",
        "corda",
        "loftq",
        "lora_ga",
        "of tomorrow",
    ] {
        let folder = edited(json!({ "init_lora_weights": way }));
        let error = load_adapter(Model::new(&json!("llm")).network(), folder.path());
        let message = error.expect_err(way).to_string();
        assert!(
            message.contains("init_lora_weights") && message.contains(way),
            "{message}"
        );
    }
    // EVA draws A from activations and leaves the base as it is, so in PEFT too the file is all there is.
    let folder = edited(json!({"init_lora_weights": "eva", "eva_config": {"rho": 2.0}}));
    load_adapter(Model::new(&json!("llm")).network(), folder.path()).expect("loaded");
}

#[test]
fn factors_that_the_config_leaves_out_are_named() {
    for fields in [
        json!({"exclude_modules": ["layers.0.mlp.down_proj"]}),
        json!({"target_modules": ["gate_up_proj"]}),
        json!({"target_modules": ["all-linear"]}),
        json!({"layers_to_transform": [1, 2]}),
    ] {
        let folder = edited(fields.clone());
        let error = load_adapter(Model::new(&json!("llm")).network(), folder.path());
        let message = error.expect_err("refused").to_string();
        assert!(
            message.contains("leave model.layers.0.mlp."),
            "{fields}: {message}"
        );
    }
    let folder = edited(json!({"target_modules": ["gate_up_proj", "down_proj", "o_proj"]}));
    let error = load_adapter(Model::new(&json!("llm")).network(), folder.path());
    let message = error.expect_err("refused").to_string();
    assert!(
        message.contains("o_proj.lora_A.weight is missing"),
        "{message}"
    );
}
