//! Idefics3's, SmolVLM's and nanoVLM's layouts: LoRA saved and read again, and what is written merged, as transformers and nanoVLM's own
//! code read it. That needs Python with torch and transformers (see `python`), and for nanoVLM a clone of its repository in
//! `GLASSBOX_NANOVLM` (with torchvision and einops in `PYTHONPATH`); where there is none, the test says so.

use crate::cases::{Fixture, fixture, pixel_values};
use crate::parity::expanded;
use crate::peer::{not_run, root};
use crate::python::{MISSING, transformers_5};
use crate::saved::trained_of;
use crate::{CLOSE, Fallible, Outcome, assert_close, copied, load_with, logits};
use glassbox_prelude::candle_core::safetensors;
use glassbox_prelude::prelude::*;
use glassbox_prelude::vision::NanoSplit;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const ALL: [&str; 9] = [
    "smolvlm/idefics3",
    "smolvlm/smolvlm",
    "smolvlm/smolvlm_2025",
    "nanovlm/v0_1",
    "nanovlm/v0_2",
    "nanovlm/chat",
    "nanovlm/tiles",
    "nanovlm/global",
    "nanovlm/longest",
];

/// A prompt with a picture.
fn prompt(vlm: &Vlm, fixture: &Fixture) -> Fallible<Prompt> {
    let case = &fixture.cases[0];
    // nanoVLM's texts have the image token once for each vector.
    let text = match &case.all["question"] {
        Value::Null => case.text.clone(),
        question => {
            let content = json!([{"type": "image"}, {"type": "text", "text": question}]);
            let message = json!({"role": "user", "content": content});
            let processor = &vlm.llm_processor;
            processor.render_conversation(&[message], &ChatOptions::new(true))?
        }
    };
    Ok(vlm.text_prompt(&text, &case.shown())?)
}

fn all_logits(vlm: &Vlm, fixture: &Fixture) -> Fallible<Tensor> {
    logits(vlm, &prompt(vlm, fixture)?)
}

#[test]
fn lora_is_saved_and_read_again_with_its_base_and_merged_in_its_layout() -> Outcome {
    for name in ALL {
        let fixture = fixture(name)?;
        let vlm = trained_of(&fixture.folder)?;
        let want = all_logits(&vlm, &fixture)?;
        let plain = all_logits(&fixture.model(VlmSettings::published())?, &fixture)?;
        let moved = (&plain - &want)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(moved > 0.01, "{name}: the fine-tune changes nothing");
        let saved = tempfile::tempdir()?;
        vlm.save(saved.path())?;
        let preset = Preset::fine_tune(saved.path())?.dtype(DType::F32);
        let again = Vlm::from_pretrained(&preset, &Device::Cpu)?;
        assert!(again.llm.lora_config().is_some(), "{name}");
        assert_close(name, &all_logits(&again, &fixture)?, &want, 1e-5)?;

        let merged = tempfile::tempdir()?;
        vlm.save_merged(merged.path())?;
        let again = load_with(merged.path(), VlmSettings::published())?;
        assert!(again.llm.lora_config().is_none(), "{name}");
        assert_close(name, &all_logits(&again, &fixture)?, &want, CLOSE)?;
    }
    Ok(())
}

/// Merged models in folders, with ids, pixel values and logits beside the weights.
fn merged(names: &[&str], into: &Path) -> Fallible<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for name in names {
        let fixture = fixture(name)?;
        let vlm = trained_of(&fixture.folder)?;
        let prompt = prompt(&vlm, &fixture)?;
        let image = vlm.settings.image_token.clone().ok_or("an image token")?;
        let id = vlm.llm_processor.token_id(&image).map_or(-1, i64::from);
        let mut ids = expanded(&vlm, &prompt, id)?;
        ids.retain(|id| *id >= 0);
        let mut pixels = pixel_values(&prompt)?.ok_or("pixel values")?; // [N, 3, H, W]
        if name.starts_with("smolvlm") {
            pixels = pixels.unsqueeze(0)?; // [1, N, 3, H, W]
        }
        let ids: Vec<f32> = ids.into_iter().map(|id| id as f32).collect();
        let tensors = HashMap::from([
            ("input_ids", Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?),
            ("pixel_values", pixels),
            ("logits", logits(&vlm, &prompt)?.unsqueeze(0)?),
        ]);
        let folder = into.join(name);
        vlm.save_merged(&folder)?;
        safetensors::save(&tensors, folder.join("logits.safetensors"))?;
        folders.push(folder);
    }
    Ok(folders)
}

fn checked(script: &str, arguments: &[&Path], folders: &[PathBuf]) -> Outcome {
    let scripts = root().join("scripts/fixtures");
    let output = transformers_5()?
        .ok_or(MISSING)?
        .arg(scripts.join(script))
        .args(arguments)
        .arg("check")
        .args(folders)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        said.matches("largest difference").count(),
        folders.len(),
        "{said}"
    );
    print!("{said}");
    Ok(())
}

#[test]
fn transformers_reads_what_is_merged_with_the_same_logits() -> Outcome {
    if transformers_5()?.is_none() {
        not_run(MISSING);
        return Ok(());
    }
    let saved = tempfile::tempdir()?;
    let folders = merged(&ALL[..3], saved.path())?;
    checked("smolvlm.py", &[], &folders)
}

#[test]
fn nanovlms_own_code_reads_what_is_merged_with_the_same_logits() -> Outcome {
    let clone = std::env::var_os("GLASSBOX_NANOVLM").map(PathBuf::from);
    let Some(clone) = clone else {
        not_run("GLASSBOX_NANOVLM names no clone of nanoVLM");
        return Ok(());
    };
    let saved = tempfile::tempdir()?;
    let folders = merged(&ALL[3..], saved.path())?;
    checked("nanovlm.py", &[&clone], &folders)
}

/// A copy of a fixture with another value at a place of a file.
fn refused(name: &str, file: &str, place: &str, value: Value) -> Fallible<String> {
    let fixture = fixture(name)?;
    let copy = copied(&fixture.folder)?;
    let path = copy.path().join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let (parent, key) = place.rsplit_once('/').ok_or("a place")?;
    let parent = json.pointer_mut(parent).and_then(Value::as_object_mut);
    parent.ok_or("no such place")?.insert(key.into(), value);
    std::fs::write(path, json.to_string())?;
    Ok(match Vlm::from_pretrained(copy.path(), &Device::Cpu) {
        Ok(_) => String::from("no error"),
        Err(error) => error.to_string(),
    })
}

#[test]
fn fields_that_contradict_each_other_or_are_not_read_are_refused_by_name() -> Outcome {
    let (smol, nano) = ("smolvlm/smolvlm_2025", "nanovlm/global");
    let config = "config.json";
    let cases: [(&str, &str, &str, Value, &[&str]); 24] = [
        (smol, config, "/scale_factor", 3.into(), &["scale_factor"]),
        (
            smol,
            config,
            "/scale_factor",
            4.into(),
            &["pixel_shuffle_factor", "scale_factor"],
        ),
        (
            smol,
            config,
            "/image_token_id",
            999.into(),
            &["image_token_id", "999"],
        ),
        (smol, config, "/vocab_size", 7.into(), &["vocab_size"]),
        (
            smol,
            config,
            "/text_config/use_resampler",
            true.into(),
            &["use_resampler"],
        ),
        (
            smol,
            config,
            "/text_config/qk_layer_norms",
            true.into(),
            &["qk_layer_norms"],
        ),
        (
            smol,
            config,
            "/text_config/rope_interleaved",
            true.into(),
            &["rope_interleaved"],
        ),
        (
            smol,
            config,
            "/text_config/model_type",
            "mamba".into(),
            &["mamba"],
        ),
        (
            smol,
            config,
            "/vision_config/image_size",
            32.into(),
            &["image"],
        ),
        (
            smol,
            config,
            "/vision_config/hidden_act",
            "relu".into(),
            &["relu"],
        ),
        (smol, config, "/new_field", true.into(), &["new_field"]),
        (
            smol,
            "processor_config.json",
            "/image_seq_len",
            64.into(),
            &["image_seq_len", "64"],
        ),
        (
            smol,
            "preprocessor_config.json",
            "/max_image_size",
            json!({"longest_edge": 32}),
            &["max_image_size", "image_size"],
        ),
        (
            smol,
            "preprocessor_config.json",
            "/new_field",
            1.into(),
            &["new_field"],
        ),
        (
            nano,
            config,
            "/vit_cls_flag",
            true.into(),
            &["vit_cls_flag"],
        ),
        (
            nano,
            config,
            "/lm_use_tokens",
            true.into(),
            &["lm_use_tokens"],
        ),
        (
            nano,
            config,
            "/lm_attn_scaling",
            json!(0.5),
            &["lm_attn_scaling"],
        ),
        (
            nano,
            config,
            "/mp_pixel_shuffle_factor",
            3.into(),
            &["mp_pixel_shuffle_factor"],
        ),
        (
            nano,
            config,
            "/mp_image_token_length",
            64.into(),
            &["mp_image_token_length", "64"],
        ),
        (
            nano,
            config,
            "/max_img_size",
            40.into(),
            &["max_img_size 40"],
        ),
        (
            nano,
            config,
            "/vlm_extra_tokens",
            json!({"boi_token": "<b>"}),
            &["image_token"],
        ),
        (
            nano,
            config,
            "/lm_rope_factor",
            json!(2.0),
            &["lm_rope_factor"],
        ),
        (
            nano,
            config,
            "/lm_n_kv_heads",
            3.into(),
            &["num_key_value_heads"],
        ),
        (
            nano,
            config,
            "/lm_chat_template",
            Value::Null,
            &["lm_chat_template"],
        ),
    ];
    for (name, file, place, value, words) in cases {
        let message = refused(name, file, place, value)?;
        for word in words {
            assert!(message.contains(word), "{name}, {place}: {message}");
        }
    }
    Ok(())
}

#[test]
fn weights_that_are_missing_or_of_no_use_are_listed_by_their_own_names() -> Outcome {
    for (name, gone, other, said) in [
        (
            "smolvlm/idefics3",
            "model.connector.modality_projection.proj.weight",
            "model.more.weight",
            ["modality_projection.proj.weight", "model.more.weight"],
        ),
        (
            "nanovlm/v0_2",
            "decoder.blocks.1.attn.out_proj.weight",
            "decoder.blocks.9.norm1.weight",
            ["attn.out_proj.weight", "norm1.weight"],
        ),
    ] {
        let fixture = fixture(name)?;
        let copy = copied(&fixture.folder)?;
        let path = copy.path().join("model.safetensors");
        let mut tensors = safetensors::load(&path, &Device::Cpu)?;
        let tensor = tensors.remove(gone).ok_or("no such weight")?;
        tensors.insert(other.into(), tensor);
        std::fs::remove_file(&path)?;
        safetensors::save(&tensors, &path)?;
        let Err(error) = Vlm::from_pretrained(copy.path(), &Device::Cpu) else {
            return Err("it is read".into());
        };
        let message = error.to_string();
        for word in ["missing"].into_iter().chain(said) {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
    Ok(())
}

#[test]
fn a_picture_that_the_model_has_no_tokens_for_and_a_tokenizer_that_is_nowhere_are_errors() -> Outcome
{
    let fixture = fixture("nanovlm/global")?;
    let copy = tempfile::tempdir()?;
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture.folder.join(file), copy.path().join(file))?;
    }
    let cache = tempfile::tempdir()?;
    let preset = Preset::published(copy.path().display().to_string());
    let hub = preset.hub.clone().cache_dir(cache.path());
    let Err(error) = Vlm::from_pretrained(&preset.clone().hub(hub.clone()), &Device::Cpu) else {
        return Err("there is no tokenizer".into());
    };
    let message = error.to_string();
    assert!(
        message.contains("lm_tokenizer") && message.contains("SmolLM2-135M-Instruct"),
        "{message}"
    );
    // From the cache, as the Python tools leave it: the tokenizer alone, without the weights of its model.
    let snapshot = cache
        .path()
        .join("models--HuggingFaceTB--SmolLM2-135M-Instruct/snapshots/0123");
    std::fs::create_dir_all(&snapshot)?;
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture.folder.join(file), snapshot.join(file))?;
    }
    let refs = cache
        .path()
        .join("models--HuggingFaceTB--SmolLM2-135M-Instruct/refs");
    std::fs::create_dir_all(&refs)?;
    std::fs::write(refs.join("main"), "0123")?;
    let vlm = Vlm::from_pretrained(&preset.hub(hub), &Device::Cpu)?;
    assert_eq!(
        vlm.llm_processor.token_id("<|global_image|>"),
        fixture
            .model(VlmSettings::published())?
            .llm_processor
            .token_id("<|global_image|>")
    );
    let mut narrow = vlm.copy()?;
    let few = [("image_token", "<|image|>"), ("r1c1", "<row_1_col_1>")];
    let few = few.map(|(name, token)| (name.to_owned(), token.to_owned()));
    narrow.tiling = Some(Tiling::Nano(NanoSplit::new(16, 48, false, few.into())?));
    let wide = Image::filled(40, 16, [200, 30, 40])?;
    let Err(error) = narrow.generate(&wide) else {
        return Err("a tile without a token".into());
    };
    assert!(error.to_string().contains("r1c2"), "{error}");
    Ok(())
}
