//! LoRA on published models, saved and read again; and models that were written with it merged, which transformers reads:
//! `scripts/peer/read_saved_vlms.py`. That needs Python with torch, transformers and pillow (see `python`); where there is none, the
//! test says so.

use crate::peer::{not_run, root};
use crate::python::{MISSING, transformers_5};
use crate::{CLOSE, Fallible, Outcome, assert_close, expected, folder, load_with, logits, picture};
use glassbox_prelude::nn::Network;
use glassbox_prelude::prelude::*;
use std::path::Path;

fn lora() -> VlmSettings {
    VlmSettings {
        llm_lora: Some(LoraConfig::new(
            2,
            8.0,
            &["q_proj", "v_proj", "qkv_proj", "fc1"],
        )),
        vit_lora: Some(LoraConfig::new(2, 4.0, &["q_proj"])),
        ..VlmSettings::published()
    }
}

/// A model whose LoRA, projector included, is as if it had been trained.
fn trained(name: &str) -> Fallible<Vlm> {
    trained_of(&folder(name))
}

pub fn trained_of(folder: &Path) -> Fallible<Vlm> {
    let vlm = load_with(folder, lora())?;
    for (at, parameter) in vlm.trainable_parameters().iter().enumerate() {
        let var = parameter.var.as_ref().ok_or("it trains")?;
        let step = Tensor::arange(0f32, var.elem_count() as f32, &Device::Cpu)?;
        let step = ((step + at as f64)?.sin()? * 0.05)?.reshape(var.shape())?;
        var.set(&(var.as_tensor() + step)?)?;
    }
    Ok(vlm)
}

fn all_logits(vlm: &Vlm, name: &str) -> Fallible<Tensor> {
    let (cases, _) = expected(name)?;
    logits(
        vlm,
        &vlm.text_prompt(&cases["text"].text, &[&picture(name)?])?,
    )
}

#[test]
fn lora_on_a_published_model_is_saved_and_read_again_with_its_base() -> Outcome {
    for name in [
        "llava_clip_llama",
        "llava_layers",
        "llava_next",
        "llava_onevision",
        "bunny",
        "bunny_phi3",
    ] {
        let vlm = trained(name)?;
        let want = all_logits(&vlm, name)?;
        let plain = all_logits(&crate::load(name)?, name)?;
        let moved = (&plain - &want)?
            .abs()?
            .flatten_all()?
            .max(0)?
            .to_scalar::<f32>()?;
        assert!(moved > 0.01, "{name}: the fine-tune changes nothing");
        let saved = tempfile::tempdir()?;
        vlm.save(saved.path())?;
        let preset = Preset::fine_tune(saved.path())?.dtype(DType::F32);
        let again = Vlm::from_pretrained(&preset, &Device::Cpu)?;
        assert!(again.llm.lora_config().is_some());
        assert_close(name, &all_logits(&again, name)?, &want, 1e-5)?;
    }
    Ok(())
}

#[test]
fn a_merged_model_is_read_again_in_its_layout() -> Outcome {
    for name in [
        "llava_clip_llama",
        "llava_clip_phi3",
        "llava_siglip_qwen2",
        "llava_layers",
        "llava_next",
        "llava_next_layers",
        "llava_onevision",
        "bunny",
        "bunny_phi3",
        "bunny_qwen2",
        "bunny_llama",
    ] {
        let vlm = trained(name)?;
        let want = all_logits(&vlm, name)?;
        let saved = tempfile::tempdir()?;
        vlm.save_merged(saved.path())?;
        let again = load_with(saved.path(), VlmSettings::published())?;
        assert!(again.llm.lora_config().is_none());
        assert_close(name, &all_logits(&again, name)?, &want, CLOSE)?;
        assert!(vlm.save_merged(folder(name)).is_err());
        // Once more as it is, bit for bit.
        let twice = tempfile::tempdir()?;
        again.save_merged(twice.path())?;
        let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors"));
        assert!(weights(saved.path())? == weights(twice.path())?, "{name}");
    }
    Ok(())
}

#[test]
fn a_pair_is_written_as_two_folders_with_its_lora_merged() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let saved = tempfile::tempdir()?;
    vlm.save_merged(saved.path())?;
    let parts = VlmParts::load(
        saved.path().join("image_encoder"),
        saved.path().join("llm"),
        DType::F32,
        &Device::Cpu,
    )?;
    let image = Image::filled(64, 64, [200, 30, 40])?;
    let pixels = vlm.image_processor.preprocess(&image)?;
    assert_close(
        "pixel values",
        &parts.image_processor.preprocess(&image)?,
        &pixels,
        0.0,
    )?;
    let seen = vlm.image_encoder.encode(&pixels)?;
    let mut encoder = parts.image_encoder.clone();
    encoder.set_feature(vlm.settings.vision_feature)?;
    assert_close("hidden states", &encoder.encode(&pixels)?, &seen, 1e-4)?;
    let ids = vlm.llm_processor.encode("a red square")?;
    assert_eq!(parts.llm_processor.encode("a red square")?, ids);
    let input = LlmInput::ids(&Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?);
    let (ours, theirs) = (vlm.llm.forward(&input)?, parts.llm.forward(&input)?);
    assert_close("logits", theirs.logits()?, ours.logits()?, 1e-3)
}

#[test]
fn transformers_reads_what_is_merged_with_the_same_greedy_ids() -> Outcome {
    let Some(mut command) = transformers_5()? else {
        not_run(MISSING);
        return Ok(());
    };
    let saved = tempfile::tempdir()?;
    let mut arguments = Vec::new();
    let list = |ids: &[u32]| {
        ids.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    for name in [
        "llava_clip_llama",
        "llava_clip_phi3",
        "llava_siglip_qwen2",
        "llava_layers",
        "llava_next",
        "llava_next_layers",
        "llava_onevision",
    ] {
        let vlm = trained(name)?;
        let (cases, _) = expected(name)?;
        let prompt = vlm.text_prompt(&cases["text"].text, &[&picture(name)?])?;
        let made = vlm
            .generate(&prompt)?
            .max_new_tokens(10)
            .stop_at(Vec::new())
            .run()?;
        let folder = saved.path().join(name);
        vlm.save_merged(&folder)?;
        let ids = list(&made.ids);
        arguments.push(format!("{name}={}={ids}", folder.display()));
    }
    // The language model of a pair, with its tokenizer.
    let tiny = Vlm::tiny(&Device::Cpu)?;
    let folder = saved.path().join("pair");
    tiny.save_merged(&folder)?;
    let ids = tiny.llm_processor.encode("a red square and two")?;
    let row = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
    let best = tiny
        .llm
        .forward(&LlmInput::ids(&row))?
        .logits()?
        .argmax(2)?
        .squeeze(0)?; // [T]
    let (read, said) = (list(&ids), list(&best.to_vec1::<u32>()?));
    arguments.push(format!("--pair={}={read}={said}", folder.display()));
    let output = command
        .arg(root().join("scripts/peer/read_saved_vlms.py"))
        .arg(root().join("tests/fixtures/published"))
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    print!("{said}");
    Ok(())
}
