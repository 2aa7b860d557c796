//! Logits, hidden states, attention, padded batches, embeddings as input, caches and greedy generation of each family.

use crate::{CLOSE, Fallible, Outcome, Wanted, assert_close, folder, greedy, load};
use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::language::{Decoder, LlmInput};
use glassbox_prelude::lora::{TaskType, load_adapter, save_adapter};
use glassbox_prelude::nn::{LoraConfig, Network};
use glassbox_prelude::vlm::VlmSettings;

fn check(name: &str) -> Outcome {
    let llm = load(name)?;
    let want = Wanted::of(&format!("{name}/expected.safetensors"))?;
    let ids = want.get("input_ids")?;
    let out = llm.forward(&LlmInput::ids(ids).with_hidden_states().with_attentions())?;
    assert_close("logits", out.logits()?, want.get("ids.logits")?, CLOSE)?;
    let last = out.hidden_states.len() - 1;
    for (i, hidden) in out.hidden_states.iter().enumerate() {
        // transformers' last one is behind the final norm.
        let hidden = if i == last {
            &out.last_hidden_state
        } else {
            hidden
        };
        let key = format!("ids.hidden_{i}");
        assert_close(&key, hidden, want.get(&key)?, CLOSE)?;
    }
    let seen = [&out.attentions[0], &out.attentions[last - 1]];
    for (seen, key) in seen.iter().zip(["ids.attention_0", "ids.attention_last"]) {
        assert_close(key, seen, want.get(key)?, CLOSE)?;
    }
    let embeds = llm.forward(&LlmInput::embeds(want.get("inputs_embeds")?))?;
    let wanted = want.get("embeds.logits")?;
    assert_close("inputs_embeds", embeds.logits()?, wanted, CLOSE)?;
    for side in ["left", "right"] {
        let key = |part: &str| format!("pad.{side}{part}");
        let mask = want.get(&key("_mask"))?;
        let input = LlmInput::ids(want.get(&key("_ids"))?)
            .attention_mask(mask)
            .position_ids(want.rows(&key("_positions"))?);
        let logits = llm.forward(&input)?.logits()?.clone();
        let shown = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let logits = logits.broadcast_mul(&shown)?; // [B, T, V]
        assert_close(&key(""), &logits, want.get(&key(".logits"))?, CLOSE)?;
    }
    // In chunks through a cache, through every window.
    let cache = llm.new_cache(2, 20)?;
    let mut chunks = Vec::new();
    for (start, length) in [(0, 7), (7, 1), (8, 9), (17, 3)] {
        let part = ids.narrow(1, start, length)?;
        let out = llm.forward(&LlmInput::ids(&part).cache(&cache))?;
        chunks.push(out.logits()?.clone());
    }
    let logits = Tensor::cat(&chunks, 1)?;
    assert_close("in chunks", &logits, want.get("ids.logits")?, CLOSE)?;
    let made = greedy(&llm, &ids.narrow(1, 0, 6)?, 16)?;
    assert_eq!(made, want.rows("generated")?, "greedy ids");
    round_trip(&llm, out.logits()?, ids, 0.0)?;
    trains(llm, ids)
}

/// What is saved is the same model when it is read again.
fn round_trip(llm: &Decoder, logits: &Tensor, ids: &Tensor, tolerance: f32) -> Outcome {
    let saved = tempfile::tempdir()?;
    llm.save(saved.path())?;
    let again = Decoder::load(saved.path(), DType::F32, &Device::Cpu)?;
    assert_eq!(again.config, *llm.config);
    let out = again.forward(&LlmInput::ids(ids))?;
    assert_close("saved and read", out.logits()?, logits, tolerance)
}

/// Every weight gets a gradient, and the blog's LoRA finds the family's layers.
fn trains(mut llm: Decoder, ids: &Tensor) -> Outcome {
    llm.set_trainable(true)?;
    let loss = |llm: &Decoder| -> Fallible<Tensor> {
        Ok(llm
            .forward(&LlmInput::ids(ids))?
            .logits()?
            .sqr()?
            .mean_all()?)
    };
    let gradients = loss(&llm)?.backward()?;
    for parameter in llm.named_parameters() {
        let var = parameter.var.ok_or("it trains")?;
        let gradient = gradients
            .get(&var)
            .ok_or_else(|| format!("{} has none", parameter.name))?;
        let size = gradient.abs()?.sum_all()?.to_scalar::<f32>()?;
        // A bias of the keys shifts all scores of a query alike.
        let without_effect = parameter.name.ends_with("k_proj.bias");
        assert!(size > 0.0 || without_effect, "{}", parameter.name);
    }
    llm.set_trainable(false)?;
    let blog = VlmSettings::blog().llm_lora.ok_or("the blog has LoRA")?;
    let layers = llm.add_lora(&llm.lora_for(&blog), 0)?;
    assert!(layers >= 2 * llm.layers.len(), "{layers}");
    Ok(())
}

macro_rules! families {
    ($($test:ident: $name:literal),+ $(,)?) => {$(
        #[test]
        fn $test() -> Outcome {
            check($name)
        }
    )+};
}

families! {
    llama: "llama",
    llama_with_a_tied_head_biases_and_heads_of_their_own_width: "llama_tied_biased",
    llama_with_llama3_positions_in_bf16_shards: "llama_rope_llama3",
    llama_with_yarn_positions_in_f16: "llama_rope_yarn",
    llama_with_linear_positions: "llama_rope_linear",
    mistral_with_a_window_in_every_layer: "mistral",
    qwen2: "qwen2",
    qwen2_with_windows_in_upper_layers: "qwen2_windows",
    qwen3: "qwen3",
    phi: "phi",
    phi_with_grouped_keys_and_exact_gelu: "phi_grouped",
    phi3_with_heads_that_turn_in_part: "phi3_partial",
    gemma3_with_local_and_global_layers: "gemma3",
    gemma3_as_published: "gemma3_as_published",
}

#[test]
fn lora_that_peft_put_on_a_llama_gives_its_logits_and_is_saved_under_the_same_names() -> Outcome {
    let mut llm = load("llama")?;
    let want = Wanted::of("llama_adapter/expected.safetensors")?;
    let base = Wanted::of("llama/expected.safetensors")?;
    let config = load_adapter(&mut llm, folder("llama_adapter"))?;
    assert_eq!(config.r, 4);
    let ids = base.get("input_ids")?;
    let logits = |llm: &Decoder| -> Fallible<Tensor> {
        Ok(llm.forward(&LlmInput::ids(ids))?.logits()?.clone())
    };
    assert_close("adapted", &logits(&llm)?, want.get("logits")?, CLOSE)?;
    let saved = tempfile::tempdir()?;
    save_adapter(&llm, TaskType::CausalLm, Some("llama"), saved.path())?;
    let names = |file: std::path::PathBuf| -> Fallible<Vec<String>> {
        let tensors = glassbox_prelude::candle_core::safetensors::load(file, &Device::Cpu)?;
        let mut names: Vec<String> = tensors.into_keys().collect();
        names.sort();
        Ok(names)
    };
    let file = "adapter_model.safetensors";
    let (ours, peft) = (
        names(saved.path().join(file))?,
        names(folder("llama_adapter").join(file))?,
    );
    assert_eq!(ours, peft);
    let mut again = load("llama")?;
    load_adapter(&mut again, saved.path())?;
    assert_close("saved", &logits(&again)?, want.get("logits")?, CLOSE)?;
    again.merge_lora()?;
    assert_close("merged", &logits(&again)?, want.get("logits")?, CLOSE)
}

#[test]
fn names_of_phi3s_layers_mean_those_of_the_family() -> Outcome {
    let config = LoraConfig::new(
        2,
        4.0,
        &["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "lm_head"],
    );
    for (name, wanted) in [
        (
            "llama",
            "q_proj or k_proj or v_proj or o_proj or gate_proj or up_proj or down_proj or lm_head",
        ),
        (
            "phi",
            "q_proj or k_proj or v_proj or dense or fc1 or fc2 or lm_head",
        ),
        (
            "phi3_partial",
            "qkv_proj or o_proj or gate_up_proj or down_proj or lm_head",
        ),
    ] {
        let meant = load(name)?.lora_for(&config);
        assert_eq!(meant.target_modules.to_string(), wanted, "{name}");
    }
    Ok(())
}

#[test]
fn new_tokens_of_a_head_with_bias_are_saved_without_one() -> Outcome {
    let mut llm = load("phi")?;
    // A row that is there, and two behind the table.
    llm.add_tokens(&[90, 96, 97], &[vec![5, 6], vec![7], vec![8]])?;
    let ids = Tensor::new(&[[3u32, 90, 97, 96, 4]], &Device::Cpu)?;
    let logits = llm.forward(&LlmInput::ids(&ids))?.logits()?.clone();
    assert_eq!(logits.dims(), [1, 5, 98]);
    round_trip(&llm, &logits, &ids, 1e-5)
}
