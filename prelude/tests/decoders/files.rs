//! Folders and configs that are not as they should be: what is missing, left over or not known is named.

use crate::{Fallible, Outcome, folder, load};
use glassbox_prelude::candle_core::{self, DType, Device, Tensor};
use glassbox_prelude::language::{Decoder, DecoderConfig, LlmProcessor};
use glassbox_prelude::nn::Checkpoint;
use glassbox_prelude::serde_json::{self, Value, json};
use std::collections::HashMap;

type Weights = HashMap<String, Tensor>;

/// A folder's model after its config and weights were changed.
fn changed(
    name: &str,
    change: impl FnOnce(&mut Value, &mut Weights),
) -> Fallible<glassbox_prelude::Result<Decoder>> {
    let folder = folder(name);
    let mut config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let mut weights =
        candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)?;
    change(&mut config, &mut weights);
    let new = tempfile::tempdir()?;
    std::fs::write(new.path().join("config.json"), config.to_string())?;
    candle_core::safetensors::save(&weights, new.path().join("model.safetensors"))?;
    Ok(Decoder::load(new.path(), DType::F32, &Device::Cpu))
}

#[test]
fn missing_and_left_over_weights_are_an_error_that_lists_them() -> Outcome {
    let loaded = changed("llama", |_, weights| {
        for layer in 0..3 {
            weights.remove(&format!("model.layers.{layer}.mlp.up_proj.weight"));
        }
        let norm = weights.remove("model.norm.weight").expect("a norm");
        weights.insert("model.final_norm.weight".into(), norm);
    })?;
    let error = loaded.err().ok_or("an error")?.to_string();
    for part in [
        "4 tensors are missing",
        "model.layers.N.mlp.up_proj.weight (N = 0–2)",
        "model.norm.weight",
        "1 tensors that are there belong to no part of this model: model.final_norm.weight",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let loaded = changed("qwen2", |_, weights| {
        let bias = weights["model.layers.0.self_attn.q_proj.bias"].clone();
        for layer in 0..3 {
            weights.insert(
                format!("model.layers.{layer}.self_attn.o_proj.bias"),
                bias.clone(),
            );
        }
    })?;
    let error = loaded.err().ok_or("an error")?.to_string();
    assert!(
        error.contains("3 tensors belong to no part of this model: model.layers.N.self_attn.o_proj.bias (N = 0–2)"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_config_of_another_model_says_which_tensors_have_another_shape() -> Outcome {
    let loaded = changed("llama", |config, _| {
        config["intermediate_size"] = json!(40);
    })?;
    let error = loaded.err().ok_or("an error")?.to_string();
    for part in ["9 tensors have another shape", "[48, 32]", "[40, 32]"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    Ok(())
}

#[test]
fn a_head_that_is_the_embedding_table_may_be_stored_too() -> Outcome {
    let loaded = changed("llama_tied_biased", |_, weights| {
        let table = weights["model.embed_tokens.weight"].clone();
        weights.insert("lm_head.weight".into(), table);
        let nothing = Tensor::zeros(6, DType::F32, &Device::Cpu).expect("zeros");
        weights.insert(
            "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
            nothing,
        );
    })?;
    loaded?;
    Ok(())
}

#[test]
fn every_family_that_a_config_names_can_be_drawn_at_random() -> Outcome {
    for name in [
        "llama",
        "mistral",
        "qwen2_windows",
        "qwen3",
        "phi",
        "phi3_partial",
        "gemma3",
    ] {
        let config = DecoderConfig::from_file(folder(name).join("config.json"))?;
        let llm = Decoder::new_random(&config, 1, &Device::Cpu)?;
        let same =
            Decoder::from_checkpoint(&config, &Checkpoint::random(1, DType::F32, &Device::Cpu))?;
        assert_eq!(llm.config, *same.config);
    }
    Ok(())
}

#[test]
fn several_ids_of_a_generation_config_end_a_text() -> Outcome {
    // The tokenizer of another fixture: only the ids of the model's own files count here.
    let new = tempfile::tempdir()?;
    let tokenizer = folder("../tokenizer");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tokenizer.join(file), new.path().join(file))?;
    }
    let file = "generation_config.json";
    std::fs::copy(folder("llama").join(file), new.path().join(file))?;
    let processor = LlmProcessor::from_dir(new.path())?;
    assert!(
        processor.eos_ids().ends_with(&[2, 5]),
        "{:?}",
        processor.eos_ids()
    );
    assert_eq!(load("llama")?.config.eos_ids(), [2]);
    Ok(())
}
