//! GGUF: the same models as files of llama.cpp, every type of weights, both kinds of vocabulary, and damaged files.

use crate::gguf_export::CONVERTED;
use crate::{CLOSE, Outcome, Wanted, assert_close, folder};
use glassbox_prelude::candle_core::{DType, Device};
use glassbox_prelude::language::{ChatMessage, Decoder, GgufFile, LlmInput, LlmProcessor};
use glassbox_prelude::serde_json::{self, Value};

#[test]
fn a_model_in_a_gguf_file_is_the_model_in_the_folder() -> Outcome {
    for name in CONVERTED {
        let file = folder(&format!("gguf/{name}.gguf"));
        let llm = Decoder::load(&file, DType::F32, &Device::Cpu)?;
        let want = Wanted::of(&format!("{name}/expected.safetensors"))?;
        let out = llm.forward(&LlmInput::ids(want.get("input_ids")?))?;
        assert_close(name, out.logits()?, want.get("ids.logits")?, CLOSE)?;
        let processor = LlmProcessor::from_dir(&file)?;
        assert_eq!(processor.eos_ids(), [2], "{name}");
        assert_eq!(llm.config.eos_ids(), [2], "{name}");
    }
    Ok(())
}

#[test]
fn every_type_of_weights_gives_the_values_that_its_own_library_gives() -> Outcome {
    let file = GgufFile::open(folder("gguf/blocks.gguf"))?;
    let want = Wanted::of("gguf/blocks.safetensors")?;
    assert_eq!(want.0.len(), 13);
    for (name, values) in &want.0 {
        assert_close(name, &file.tensor(name)?, values, 1e-6)?;
    }
    Ok(())
}

#[test]
fn quantised_models_give_transformers_logits() -> Outcome {
    let want = Wanted::of("gguf/logits.safetensors")?;
    let names: Vec<&String> = want.0.keys().filter(|name| *name != "input_ids").collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in names {
        let file = folder(&format!("gguf/{name}.gguf"));
        let llm = Decoder::load(file, DType::F32, &Device::Cpu)?;
        let out = llm.forward(&LlmInput::ids(want.get("input_ids")?))?;
        // Drawn blocks make large logits: rounding grows with them.
        let wanted = want.get(name)?;
        let size = wanted.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        assert_close(name, out.logits()?, wanted, CLOSE.max(1e-5 * size))?;
    }
    Ok(())
}

#[test]
fn vocabularies_in_a_gguf_file_give_the_ids_of_the_tokenizers_that_they_were() -> Outcome {
    let cases: Value = serde_json::from_slice(&std::fs::read(folder("gguf/vocabularies.json"))?)?;
    for (name, cases) in cases.as_object().ok_or("an object")? {
        let processor = GgufFile::open(folder(&format!("gguf/vocab_{name}.gguf")))?.processor()?;
        for case in cases.as_array().ok_or("a list")? {
            let text = case[0].as_str().ok_or("a text")?;
            let wanted: Vec<u32> = serde_json::from_value(case[1].clone())?;
            let ids = processor.encode(text)?;
            assert_eq!(ids, wanted, "{name}: {text:?}");
            let plain = processor.encode_plain(text)?;
            if !text.contains("<s>") && !text.contains("<|") && name != "qwen2" {
                assert_eq!(processor.decode(&plain)?, text, "{name}");
            }
        }
        if name == "spm" {
            assert_eq!(processor.bos_id(), Some(1));
            assert_eq!(processor.eos_ids(), [2]);
            continue;
        }
        // The end of a turn ends a text too.
        assert_eq!(processor.eos_ids(), [1, 2], "{name}");
        assert_eq!(processor.pad_id(), Some(2), "{name}");
        let chat = processor.render_chat(&[ChatMessage::user("hi")], false)?;
        assert_eq!(chat, "<|begin|>user: hi<|end|>", "{name}");
    }
    Ok(())
}

/// A file's bytes with one stretch replaced.
fn replaced_in(file: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths are written in front");
    let mut bytes = std::fs::read(folder(file)).expect("the fixture");
    let at = bytes.windows(from.len()).position(|window| window == from);
    let at = at.expect("it is there");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    replaced_in("gguf/llama.gguf", from, to)
}

#[test]
fn damaged_or_unknown_gguf_files_are_refused_by_name() -> Outcome {
    let whole = std::fs::read(folder("gguf/llama.gguf"))?;
    let half = whole[..whole.len() / 2].to_vec();
    let mut version = whole.clone();
    version[4] = 1;
    let mut big_endian = whole.clone();
    big_endian[4..8].copy_from_slice(&3u32.to_be_bytes());
    let mut many = whole.clone();
    many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    for (bytes, part) in [
        (b"GGML".to_vec(), "no GGUF file"),
        (whole[..3].to_vec(), "truncated"),
        (half, "truncated"),
        (version, "version 1"),
        (big_endian, "big-endian"),
        (many, "tensors would take more"),
        (
            replaced(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight"),
            "twice",
        ),
        (
            replaced(b"blk.1.attn_q.weight", b"blk.1.attn_x.weight"),
            "blk.1.attn_x.weight",
        ),
        (
            replaced(b"llama.rope.freq_base", b"llama.rope.freq_bass"),
            "llama.rope.freq_bass",
        ),
        (
            replaced(b"llama.block_count", b"llama.block_cound"),
            "llama.block_count",
        ),
    ] {
        let loaded = GgufFile::from_bytes("x.gguf", bytes)
            .and_then(|file| file.decoder(DType::F32, &Device::Cpu));
        let error = loaded.err().ok_or(part)?.to_string();
        assert!(
            error.contains("x.gguf") && error.contains(part),
            "{part}: {error}"
        );
    }
    // The value of general.architecture stands behind its key, type and length.
    let mut text = b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0".to_vec();
    let other = [&text[..], b"mamba"].concat();
    text.extend(b"llama");
    let file = GgufFile::from_bytes("x.gguf", replaced(&text, &other))?;
    let error = file.config().err().ok_or("an error")?.to_string();
    assert!(
        error.contains("mamba") && error.contains("qwen3"),
        "{error}"
    );
    for (from, to) in [
        (&b"tokenizer.ggml.pre"[..], &b"tokenizer.ggml.prx"[..]),
        (&b"tokenizer.ggml.merges"[..], &b"tokenizer.ggml.murges"[..]),
    ] {
        let bytes = replaced_in("gguf/vocab_smollm.gguf", from, to);
        let file = GgufFile::from_bytes("x.gguf", bytes)?;
        let error = file.processor().err().ok_or("an error")?.to_string();
        assert!(error.contains("tokenizer.ggml."), "{error}");
    }
    Ok(())
}
