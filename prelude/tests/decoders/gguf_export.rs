//! GGUF files that we write: what our reader and `gguf` of Python read back, beside the files that llama.cpp's converter would write.

use crate::{CLOSE, Fallible, Outcome, Wanted, assert_close, folder, greedy, load, not_run};
use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::language::{
    Decoder, DecoderConfig, GgufFile, GgufType, LlmInput, LlmProcessor,
};
use glassbox_prelude::lora::load_adapter;
use glassbox_prelude::nn::Network;
use glassbox_prelude::serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Models of which the fixtures have a file as the converter writes it.
pub const CONVERTED: [&str; 9] = [
    "llama",
    "llama_rope_linear",
    "llama_rope_yarn",
    "llama_rope_llama3",
    "qwen2",
    "qwen3",
    "phi",
    "phi3_partial",
    "gemma3_as_published",
];
/// Further forms of the same families.
const OTHERS: [&str; 1] = ["llama_tied_biased"];

/// A tokenizer of a model's size: that of the converted files.
fn words(name: &str) -> Fallible<LlmProcessor> {
    let converted = folder(&format!("gguf/{name}.gguf"));
    let file = match converted.is_file() {
        true => converted,
        false => folder("gguf/llama.gguf"),
    };
    Ok(LlmProcessor::from_dir(file)?)
}

fn logits(llm: &Decoder) -> Fallible<Tensor> {
    let ids = Tensor::arange(3u32, 15, &Device::Cpu)?.unsqueeze(0)?; // [1, 12]
    Ok(llm.forward(&LlmInput::ids(&ids))?.logits()?.clone())
}

fn save(llm: &Decoder, words: &LlmProcessor, kind: GgufType, at: &Path) -> Fallible<Decoder> {
    let file = llm.save_gguf(at.join(format!("{kind}.gguf")), words, kind)?;
    assert_eq!(file.bytes, std::fs::metadata(&file.path)?.len());
    Ok(Decoder::load(&file.path, DType::F32, &Device::Cpu)?)
}

#[test]
fn what_is_written_is_read_back_as_the_same_model() -> Outcome {
    let at = tempfile::tempdir()?;
    for name in CONVERTED.into_iter().chain(OTHERS) {
        let (llm, words) = (load(name)?, words(name)?);
        let exact = save(&llm, &words, GgufType::F32, at.path())?;
        assert_close(name, &logits(&exact)?, &logits(&llm)?, 2e-5)?;
        let half = save(&llm, &words, GgufType::F16, at.path())?;
        // Those of transformers, whose choices are clear enough for two bytes.
        let want = Wanted::of(&format!("{name}/expected.safetensors"))?;
        let ids = want.get("input_ids")?.narrow(1, 0, 6)?;
        assert_eq!(greedy(&half, &ids, 16)?, want.rows("generated")?, "{name}");
        for kind in [GgufType::F16, GgufType::Q8_0, GgufType::Q4_0] {
            let read = save(&llm, &words, kind, at.path())?;
            let rounded = llm.rounded(kind)?;
            let what = format!("{name} {kind}, as a file and in memory");
            assert_close(&what, &logits(&read)?, &logits(&rounded)?, 2e-5)?;
        }
    }
    Ok(())
}

#[test]
fn blocks_are_those_that_the_formats_own_library_writes() -> Outcome {
    let at = tempfile::tempdir()?;
    let (llm, words) = (load("llama_wide")?, words("llama_wide")?);
    for kind in [GgufType::F16, GgufType::Q8_0, GgufType::Q4_0] {
        let path = at.path().join("x.gguf");
        llm.save_gguf(&path, &words, kind)?;
        let (ours, theirs) = (
            GgufFile::open(&path)?,
            GgufFile::open(folder(&format!("gguf/llama_wide.{kind}.gguf")))?,
        );
        for part in [
            "token_embd",
            "output",
            "blk.0.attn_q",
            "blk.0.attn_k",
            "blk.0.ffn_down",
            "output_norm",
        ] {
            let name = format!("{part}.weight");
            let what = format!("{name} as {kind}");
            assert_close(&what, &ours.tensor(&name)?, &theirs.tensor(&name)?, 0.0)?;
        }
    }
    Ok(())
}

#[test]
fn lora_and_new_tokens_are_in_the_file() -> Outcome {
    let at = tempfile::tempdir()?;
    let mut llm = load("llama")?;
    load_adapter(&mut llm, folder("llama_adapter"))?;
    let before = logits(&llm)?;
    let words = words("llama")?;
    let read = save(&llm, &words, GgufType::F32, at.path())?;
    assert_close("with LoRA beside it", &logits(&read)?, &before, CLOSE)?;
    assert!(read.lora_config().is_none());
    // The model itself is as it was.
    assert!(llm.lora_config().is_some());
    assert_close("afterwards", &logits(&llm)?, &before, 0.0)?;
    llm.merge_lora()?;
    let merged = save(&llm, &words, GgufType::F32, at.path())?;
    assert_close("merged before", &logits(&merged)?, &before, CLOSE)?;
    llm.unmerge_lora()?;

    let (larger, new) = words.with_new_tokens(&["<new>".into(), "<newer>".into()])?;
    let ids: Vec<u32> = new.iter().map(|token| token.id).collect();
    let like: Vec<Vec<u32>> = new.iter().map(|token| token.pieces.clone()).collect();
    llm.add_tokens(&ids, &like)?;
    let before = logits(&llm)?;
    let read = save(&llm, &larger, GgufType::F32, at.path())?;
    assert_close("with new tokens", &logits(&read)?, &before, CLOSE)?;
    let words = LlmProcessor::from_dir(at.path().join("F32.gguf"))?;
    assert_eq!(
        words.encode_plain("x<newer>y")?,
        larger.encode_plain("x<newer>y")?
    );
    Ok(())
}

#[test]
fn tokenizers_of_both_kinds_are_written_and_read_back() -> Outcome {
    let at = tempfile::tempdir()?;
    for name in ["gpt-2", "smollm", "llama-bpe", "qwen2", "spm"] {
        let original = GgufFile::open(folder(&format!("gguf/vocab_{name}.gguf")))?;
        let words = original.processor()?;
        // More rows than tokens, as models have them.
        let rows = words.vocab_size() + 5;
        let config = DecoderConfig::from_json(&small(rows).to_string())?;
        let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
        let path = at.path().join("x.gguf");
        llm.save_gguf(&path, &words, GgufType::F16)?;
        let read = LlmProcessor::from_dir(&path)?;
        assert_eq!(read.vocab_size(), rows, "{name}");
        assert_eq!(read.eos_ids(), words.eos_ids(), "{name}");
        assert_eq!(
            (read.bos_id(), read.pad_id(), read.chat_template()),
            (words.bos_id(), words.pad_id(), words.chat_template()),
            "{name}"
        );
        let hard = std::fs::read_to_string(folder("../../../scripts/fixtures/hard_strings.txt"))?;
        for text in hard.lines().take(400) {
            assert_eq!(read.encode(text)?, words.encode(text)?, "{name}: {text:?}");
        }
    }
    Ok(())
}

fn small(vocabulary: usize) -> Value {
    json!({"model_type": "llama", "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2})
}

#[test]
fn what_a_gguf_file_cant_tell_is_refused_by_name() -> Outcome {
    let at = tempfile::tempdir()?;
    let path = at.path().join("x.gguf");
    let words = words("llama")?;
    let rows = words.vocab_size();
    let with = |model: &str, field: &str, value: Value| {
        let mut config = small(rows);
        config["model_type"] = json!(model);
        config["head_dim"] = json!(16);
        config["num_key_value_heads"] = json!(2);
        if model == "gemma3_text" {
            config["query_pre_attn_scalar"] = json!(16);
        }
        config[field] = value;
        config
    };
    let mut windows = with("qwen2", "use_sliding_window", json!(true));
    windows["sliding_window"] = json!(8);
    windows["max_window_layers"] = json!(0);
    windows["head_dim"] = Value::Null;
    let mut upper = windows.clone();
    upper["num_hidden_layers"] = json!(2);
    upper["max_window_layers"] = json!(1);
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.5, "original_max_position_embeddings": 64});
    for (config, part) in [
        (windows, "sliding window of layer 0"),
        (upper, "sliding window of layer 1"),
        (
            with("llama", "rope_scaling", yarn),
            "rope_scaling of type yarn",
        ),
        (
            with("gemma3_text", "query_pre_attn_scalar", json!(7)),
            "query_pre_attn_scalar",
        ),
        (
            with("gemma3_text", "sliding_window_pattern", json!(1)),
            "sliding window of layer 0",
        ),
        (
            with("gemma3_text", "hidden_activation", json!("gelu")),
            "hidden_act",
        ),
    ] {
        let config = DecoderConfig::from_json(&config.to_string())?;
        let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
        let error = llm
            .save_gguf(&path, &words, GgufType::F16)
            .err()
            .ok_or(part)?
            .to_string();
        assert!(error.contains(part), "{part}: {error}");
        assert!(
            std::fs::read_dir(at.path())?.next().is_none(),
            "{part}: something was written"
        );
    }
    // Its activation is not Phi-2's.
    let grouped = load("phi_grouped")?.save_gguf(&path, &words, GgufType::F16);
    assert!(grouped.is_err_and(|error| error.to_string().contains("hidden_act")));
    let llm = Decoder::new_random(
        &DecoderConfig::from_json(&small(rows).to_string())?,
        0,
        &Device::Cpu,
    )?;
    let refused = |path: &Path, words: &LlmProcessor| {
        llm.save_gguf(path, words, GgufType::F16)
            .map(|_| ())
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert!(refused(&at.path().join("x.bin"), &words).contains("end in .gguf"));
    let (more, _) = words.with_new_tokens(&["<new>".into()])?;
    let error = refused(&path, &more);
    assert!(error.contains("<new>") && error.contains("rows"), "{error}");
    for (model, part) in [
        (
            json!({"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}),
            "WordLevel",
        ),
        (
            json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}),
            "no kind",
        ),
    ] {
        let json = json!({"version": "1.0", "added_tokens": [], "model": model, "pre_tokenizer": {"type": "WhitespaceSplit"}});
        let error = refused(
            &path,
            &LlmProcessor::from_bytes(json.to_string().as_bytes(), None)?,
        );
        assert!(error.contains(part), "{part}: {error}");
    }
    // Weights that are no numbers, or too large for two bytes.
    for (value, part) in [(f32::NAN, "NaN"), (1e6, "GgufType::F32")] {
        let mut llm = llm.clone();
        let weight = &mut llm.embed_tokens.weight;
        let mut values = weight.tensor().to_vec2::<f32>()?;
        values[1][1] = value;
        weight.set(&Tensor::new(values, &Device::Cpu)?)?;
        for kind in [GgufType::F16, GgufType::Q8_0] {
            let error = llm
                .save_gguf(&path, &words, kind)
                .err()
                .ok_or(part)?
                .to_string();
            assert!(
                error.contains(part)
                    && error.contains("embed_tokens") | error.contains("token_embd"),
                "{error}"
            );
        }
        assert!(
            std::fs::read_dir(at.path())?.next().is_none(),
            "{part}: something was left"
        );
    }
    Ok(())
}

/// Keys whose values are of the writer's own choice, or that converters of different age write or not.
const FREE: [&str; 6] = [
    "general.name",
    "general.file_type",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.merges",
    ".vocab_size",
];

#[test]
fn pythons_gguf_reads_the_same_keys_and_tensors_as_of_converted_files() -> Outcome {
    let Some(python) = crate::python::environment()? else {
        not_run(crate::python::MISSING);
        return Ok(());
    };
    let at = tempfile::tempdir()?;
    let mut command = Command::new(python);
    command.arg(crate::peer::root().join("scripts/peer/compare_gguf.py"));
    command.arg(FREE.join(","));
    for name in CONVERTED {
        let path = at.path().join(format!("{name}.gguf"));
        load(name)?.save_gguf(&path, &words(name)?, GgufType::F32)?;
        command.arg(format!(
            "{}={}",
            path.display(),
            folder(&format!("gguf/{name}.gguf")).display()
        ));
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let failed = String::from_utf8_lossy(&output.stderr);
    if failed.contains("No module named 'gguf'") {
        not_run("the Python environment lacks gguf: pip install gguf");
        return Ok(());
    }
    assert!(output.status.success(), "{said}\n{failed}");
    assert_eq!(said.lines().count(), CONVERTED.len(), "{said}");
    Ok(())
}
