//! Damaged configs, weights, tokenizers, adapters, settings and annotations.

use crate::edits::{
    TextEdits, WeightEdits, apply, edited_text, edited_weights, edits, text_edits, weight_edits,
};
use crate::{fixture, fuzz, read};
use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::data::CocoCaptions;
use glassbox_prelude::hub::check_safetensors;
use glassbox_prelude::language::{ChatMessage, Decoder, DecoderConfig, LlmInput, LlmProcessor};
use glassbox_prelude::lora::load_adapter;
use glassbox_prelude::nn::Checkpoint;
use glassbox_prelude::serde_json::{self, Value, json};
use glassbox_prelude::vision::{ViTConfig, Vit};
use glassbox_prelude::vlm::Vlm;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn json_of(name: &str) -> Value {
    serde_json::from_slice(&read(name)).expect("a fixture is JSON")
}

/// Either file of a pair as it is, or edited.
fn maybe<T: std::fmt::Debug + Clone>(
    edits: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![2 => edits.prop_map(Some), 1 => Just(None)]
}

fn text(original: &Value, edits: &Option<TextEdits>) -> Vec<u8> {
    match edits {
        Some(edits) => edited_text(original, edits),
        None => original.to_string().into_bytes(),
    }
}

fn checkpoint(bytes: Vec<u8>) -> Option<Checkpoint> {
    Checkpoint::from_bytes("edited", bytes, DType::F32, &Device::Cpu).ok()
}

#[test]
fn damaged_vits_load_or_are_refused() {
    let config = json_of("vit224/config.json");
    let weights = read("vit224/model.safetensors");
    let strategy = (maybe(text_edits()), weight_edits());
    fuzz(&strategy, |(edits, weight_edits): (_, WeightEdits)| {
        let bytes = text(&config, &edits);
        let Ok(config) = ViTConfig::from_json(&String::from_utf8_lossy(&bytes), Path::new("e"))
        else {
            return;
        };
        let Some(weights) = checkpoint(edited_weights(&weights, &weight_edits)) else {
            return;
        };
        if let Ok(vit) = Vit::from_checkpoint(&config, &weights)
            && config.image_size <= 256
        {
            let side = config.image_size;
            let pixels = Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu);
            _ = vit.forward(&pixels.expect("a small picture"));
        }
    });
}

#[test]
fn damaged_phi3s_load_or_are_refused() {
    let config = json_of("llm_longrope/config.json");
    let weights = read("llm_longrope/model.safetensors");
    let strategy = (maybe(text_edits()), weight_edits());
    fuzz(&strategy, |(edits, weight_edits): (_, WeightEdits)| {
        let bytes = text(&config, &edits);
        let Ok(config) = DecoderConfig::from_bytes(&bytes, Path::new("edited")) else {
            return;
        };
        let Some(weights) = checkpoint(edited_weights(&weights, &weight_edits)) else {
            return;
        };
        if let Ok(llm) = Decoder::from_checkpoint(&config, &weights) {
            let ids = Tensor::new(&[[1u32, 5, 9, 0]], &Device::Cpu).expect("four ids");
            _ = llm.forward(&LlmInput::ids(&ids));
            if let Ok(cache) = llm.new_cache(1, 4) {
                _ = llm.forward(&LlmInput::ids(&ids).cache(&cache));
            }
        }
    });
}

#[test]
fn damaged_tokenizers_load_or_are_refused() {
    let tokenizer = json_of("tokenizer/tokenizer.json");
    let config = json_of("tokenizer/tokenizer_config.json");
    let strategy = (maybe(text_edits()), maybe(text_edits()));
    fuzz(&strategy, |(tokenizer_edits, config_edits)| {
        let tokenizer = text(&tokenizer, &tokenizer_edits);
        let config = text(&config, &config_edits);
        let Ok(processor) = LlmProcessor::from_bytes(&tokenizer, Some(&config)) else {
            return;
        };
        if let Ok(ids) = processor.encode("two red circles\n and é🙂") {
            _ = processor.decode(&ids);
            _ = processor.decode_with_special(&ids);
        }
        _ = processor.encode_plain("");
        _ = processor.decode(&[0, 1, u32::MAX]);
        _ = processor.render_chat(&[ChatMessage::user("what is this?")], true);
    });
}

#[test]
fn damaged_files_beside_a_tokenizer_load_or_are_refused() {
    let folder = Folder::new();
    folder.write("tokenizer.json", &read("tokenizer/tokenizer.json"));
    let token = json!({"content": "<x>", "lstrip": true, "rstrip": false, "normalized": false, "special": true});
    let config = json!({
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": true, "bos_token": "<s>", "pad_token": token,
        "added_tokens_decoder": {"1": {"content": "<s>"}, "900": token}, "additional_special_tokens": ["<y>", token],
        "chat_template": [{"name": "default", "template": "{{ bos_token }}"}],
    });
    let map = json!({"pad_token": token, "additional_special_tokens": ["<z>", token]});
    let added = json!({"<x>": 900, "<w>": 901});
    let generation =
        json!({"bos_token_id": 1, "eos_token_id": [2, 5], "pad_token_id": 0, "max_length": 20});
    let strategy = (
        maybe(text_edits()),
        maybe(text_edits()),
        maybe(text_edits()),
        maybe(text_edits()),
    );
    fuzz(
        &strategy,
        |(config_edits, map_edits, added_edits, generation_edits)| {
            folder.write(
                "generation_config.json",
                &text(&generation, &generation_edits),
            );
            folder.write("tokenizer_config.json", &text(&config, &config_edits));
            folder.write("special_tokens_map.json", &text(&map, &map_edits));
            folder.write("added_tokens.json", &text(&added, &added_edits));
            let Ok(processor) = LlmProcessor::from_dir(folder.path()) else {
                return;
            };
            if let Ok(ids) = processor.encode("two <x> circles<y>") {
                _ = processor.decode(&ids);
            }
            _ = processor.render_chat(&[ChatMessage::user("what is this?")], true);
        },
    );
}

#[test]
fn damaged_chat_templates_are_rendered_or_refused() {
    let processor = LlmProcessor::from_dir(fixture("tokenizer")).expect("a tokenizer");
    let template = include_bytes!("../chat/templates/Qwen-Qwen3-0.6B.jinja");
    let messages = [
        ChatMessage::new("system", "be brief"),
        ChatMessage::user("a~b {{ x }}"),
        ChatMessage::assistant("<think>\nso\n</think>\nyes"),
    ];
    fuzz(&edits(), |edits| {
        let mut bytes = template.to_vec();
        apply(&mut bytes, &edits);
        let text = String::from_utf8_lossy(&bytes);
        _ = processor.render_chat_with(&text, &messages, true);
    });
}

/// A folder that is written again for each case.
struct Folder(tempfile::TempDir);

impl Folder {
    /// In memory where the machine has a place for that.
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()),
            false => tempfile::tempdir(),
        };
        Self(folder.expect("a temporary folder"))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder");
        }
        // A new file each time: the last case may still have the old one mapped.
        _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[test]
fn damaged_adapters_load_or_are_refused() {
    let base = Decoder::load(fixture("llm"), DType::F32, &Device::Cpu).expect("the fixture loads");
    let config = json_of("lora/llm_adapter/adapter_config.json");
    let weights = read("lora/llm_adapter/adapter_model.safetensors");
    let folder = Folder::new();
    let strategy = (maybe(text_edits()), weight_edits());
    fuzz(&strategy, |(edits, weight_edits): (_, WeightEdits)| {
        folder.write("adapter_config.json", &text(&config, &edits));
        let file = folder.write(
            "adapter_model.safetensors",
            &edited_weights(&weights, &weight_edits),
        );
        _ = check_safetensors(&file);
        let mut llm = base.clone();
        if load_adapter(&mut llm, folder.path()).is_ok() {
            let ids = Tensor::new(&[[1u32, 5, 9]], &Device::Cpu).expect("three ids");
            _ = llm.forward(&LlmInput::ids(&ids));
        }
    });
}

#[test]
fn damaged_shard_indices_load_or_are_refused() {
    let index = json_of("llm_bf16_sharded/model.safetensors.index.json");
    let folder = Folder::new();
    for shard in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ] {
        folder.write(shard, &read(&format!("llm_bf16_sharded/{shard}")));
    }
    fuzz(&text_edits(), |edits| {
        folder.write("model.safetensors.index.json", &edited_text(&index, &edits));
        if let Ok(weights) = Checkpoint::open(folder.path(), DType::BF16, &Device::Cpu) {
            _ = weights.names();
        }
    });
}

#[test]
fn damaged_fine_tunes_load_or_are_refused() {
    let vlm = Vlm::tiny(&Device::Cpu).expect("the tiny default");
    let folder = Folder::new();
    vlm.save(folder.path()).expect("it is saved");
    let settings: Value = serde_json::from_slice(
        &std::fs::read(folder.path().join("settings.json")).expect("settings"),
    )
    .expect("JSON");
    let weights = std::fs::read(folder.path().join("vlm.safetensors")).expect("weights");
    let strategy = (maybe(text_edits()), weight_edits());
    fuzz(&strategy, |(edits, weight_edits): (_, WeightEdits)| {
        folder.write("settings.json", &text(&settings, &edits));
        folder.write("vlm.safetensors", &edited_weights(&weights, &weight_edits));
        let mut vlm = vlm.clone();
        _ = vlm.load_fine_tune(folder.path());
    });
}

#[test]
fn damaged_coco_annotations_load_or_are_refused() {
    let folder = Folder::new();
    for name in ["1.png", "2.png"] {
        folder.write(&format!("pictures/{name}"), &read("images/one_1x1.png"));
    }
    let original = json!({
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": 1, "file_name": "1.png", "width": 1, "height": 1},
            {"id": 2, "file_name": "2.png", "width": 1, "height": 1},
            {"id": 3, "file_name": "gone.png", "width": 1, "height": 1},
        ],
        "annotations": [
            {"id": 10, "image_id": 1, "caption": "a red dot"},
            {"id": 11, "image_id": 1, "caption": " a dot.\n"},
            {"id": 12, "image_id": 2, "caption": "nothing é"},
            {"id": 13, "image_id": 9, "caption": "an orphan"},
        ],
    });
    fuzz(&text_edits(), |edits| {
        let file = folder.write("captions.json", &edited_text(&original, &edits));
        let Ok(captions) = CocoCaptions::from_files(&file, folder.path().join("pictures")) else {
            return;
        };
        assert!(!captions.is_empty());
        _ = captions.all_captions();
        for sample in captions.samples(0, 0) {
            _ = sample;
        }
    });
}
