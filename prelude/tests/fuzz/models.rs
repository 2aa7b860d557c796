//! Damaged GGUF files, and damaged configs of every family of language models and of published vision-language models.

use crate::edits::{TextEdits, apply_within, edited_text, edits, text_edits};
use crate::{fixture, fuzz, read};
use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::language::{ChatMessage, Decoder, DecoderConfig, GgufFile, LlmInput};
use glassbox_prelude::nn::Checkpoint;
use glassbox_prelude::serde_json::{self, Value};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::Vlm;
use proptest::prelude::*;
use std::path::Path;

/// One batch through a model, with a cache and without.
pub fn run(llm: &Decoder) {
    let ids = Tensor::new(&[[1u32, 5, 9, 0]], &Device::Cpu).expect("four ids");
    _ = llm.forward(&LlmInput::ids(&ids));
    if llm.config.vocab_size < 1000
        && let Ok(cache) = llm.new_cache(1, 4)
    {
        _ = llm.forward(&LlmInput::ids(&ids).cache(&cache));
    }
}

#[test]
fn damaged_gguf_files_load_or_are_refused() {
    let files = [
        "llama.gguf",
        "gemma3_as_published.gguf",
        "llama_wide.Q4_0.gguf",
        "vocab_smollm.gguf",
        "vocab_spm.gguf",
    ];
    let files = files.map(|name| read(&format!("decoders/gguf/{name}")));
    // Most of the edits go where sizes, types and places are written.
    let strategy = (0..files.len(), edits(), any::<bool>());
    fuzz(&strategy, |(file, edits, head)| {
        let mut bytes = files[file].clone();
        let length = if head { 5000 } else { bytes.len() };
        apply_within(&mut bytes, length, &edits);
        let Ok(file) = GgufFile::from_bytes("edited.gguf", bytes) else {
            return;
        };
        if let Ok(processor) = file.processor() {
            if let Ok(ids) = processor.encode("two red circles\n and é🙂") {
                _ = processor.decode(&ids);
            }
            _ = processor.render_chat(&[ChatMessage::user("what is this?")], true);
        }
        if let Ok(llm) = file.decoder(DType::F32, &Device::Cpu) {
            run(&llm);
        }
    });
}

#[test]
fn damaged_configs_of_every_family_load_or_are_refused() {
    let models = [
        "llama_rope_linear",
        "mistral",
        "qwen2_windows",
        "qwen3",
        "phi",
        "phi3_partial",
        "gemma3",
    ];
    let models = models.map(|name| {
        let config: Value = serde_json::from_slice(&read(&format!("decoders/{name}/config.json")))
            .expect("a fixture is JSON");
        let weights = read(&format!("decoders/{name}/model.safetensors"));
        let weights = Checkpoint::from_bytes(name, weights, DType::F32, &Device::Cpu);
        (config, weights.expect("the fixture is whole"))
    });
    let strategy = (0..models.len(), text_edits());
    fuzz(&strategy, |(model, edits): (usize, TextEdits)| {
        let (config, weights) = &models[model];
        let bytes = edited_text(config, &edits);
        let Ok(config) = DecoderConfig::from_bytes(&bytes, Path::new("edited")) else {
            return;
        };
        // What was read can be written and read again; the last bit of a number may be lost on the way.
        let text = serde_json::to_string(&config).expect("JSON");
        let again = DecoderConfig::from_json(&text).expect("it was read");
        assert_eq!(again.vocab_size, config.vocab_size);
        if let Ok(llm) = Decoder::from_checkpoint(&config, weights) {
            run(&llm);
        }
    });
}

#[test]
fn damaged_configs_of_published_models_load_or_are_refused() {
    let names = [
        "published/llava_clip_llama",
        "published/llava_siglip_qwen2",
        "published/llava_onevision",
        "published/llava_layers",
        "published/llava_next",
        "published/bunny",
        "published/bunny_llama",
        "smolvlm/smolvlm",
        "smolvlm/smolvlm_2025",
        "nanovlm/v0_1",
        "nanovlm/global",
    ];
    let files = [
        "config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer_config.json",
        "generation_config.json",
    ];
    let folders = names.map(|name| {
        let copy = tempfile::tempdir().expect("a folder");
        let from = fixture(name);
        for entry in std::fs::read_dir(from).expect("the fixture") {
            let entry = entry.expect("an entry");
            let to = copy.path().join(entry.file_name());
            std::fs::copy(entry.path(), to).expect("copied");
        }
        copy
    });
    let picture = Image::filled(70, 45, [200, 30, 40]).expect("a picture");
    let strategy = (0..names.len(), 0..files.len() + 2, text_edits());
    fuzz(
        &strategy,
        |(model, file, edits): (usize, usize, TextEdits)| {
            // Most of what is read is in the first.
            let file = folders[model]
                .path()
                .join(files.get(file).unwrap_or(&files[0]));
            let Ok(whole) = std::fs::read(&file) else {
                return;
            };
            let value: Value = serde_json::from_slice(&whole).expect("a fixture is JSON");
            std::fs::write(&file, edited_text(&value, &edits)).expect("written");
            let vlm = Vlm::from_pretrained(folders[model].path(), &Device::Cpu);
            std::fs::write(&file, whole).expect("written");
            if let Ok(vlm) = vlm
                && let Ok(generate) = vlm.generate(&picture)
            {
                _ = generate.max_new_tokens(1).run();
            }
        },
    );
}
