//! CLIP, SigLIP and DINOv2 towers against numbers made by `tests/towers/make.py`, which writes the formulas of
//! transformers out in numpy; SigLIP 2 and SmolVLM's against transformers itself (`scripts/fixtures/towers.py`).

use std::path::{Path, PathBuf};

use glassbox_prelude::candle_core::{self, DType, Device, Tensor};
use glassbox_prelude::nn::{LoraConfig, Network};
use glassbox_prelude::vision::{Encoder, Modality, Tower, VisionFeature};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/towers")
        .join(name)
}

fn difference(found: &Tensor, wanted: &Tensor) -> Result<f32, Box<dyn std::error::Error>> {
    if found.dims() != wanted.dims() {
        return Err(format!("shape {:?} instead of {:?}", found.dims(), wanted.dims()).into());
    }
    Ok((found - wanted)?.abs()?.max_all()?.to_scalar::<f32>()?)
}

fn check(name: &str, image_size: Option<usize>) -> Outcome {
    let expected =
        candle_core::safetensors::load(folder(name).join("expected.safetensors"), &Device::Cpu)?;
    let wanted = |key: &str| expected.get(key).ok_or(format!("no {key}"));
    let pixels = wanted("pixel_values")?;
    let mut tower = Tower::load(folder(name), DType::F32, &Device::Cpu)?;
    if let Some(size) = image_size {
        assert!(
            tower.encode(pixels).is_err(),
            "the stored size does not fit"
        );
        tower = tower.with_image_size(size)?;
    }
    let states = tower.hidden_states(pixels)?;
    for (index, state) in states.iter().enumerate() {
        let worst = difference(state, wanted(&format!("hidden_{index}"))?)?;
        assert!(worst < 1e-4, "{name} hidden_{index}: {worst}");
    }
    let last = tower
        .clone()
        .with_feature(VisionFeature::LastHiddenState)?
        .encode(pixels)?;
    let worst = difference(&last, wanted("last_hidden_state")?)?;
    assert!(worst < 1e-4, "{name} last_hidden_state: {worst}");
    let before = tower
        .clone()
        .with_feature(VisionFeature::HiddenState(-2))?
        .encode(pixels)?;
    assert_eq!(difference(&before, &states[states.len() - 2])?, 0.0);
    // Several side by side: the last, the first, and one of them again.
    let several = VisionFeature::hidden_states(&[-1, 0, 0])?;
    let wide = tower.clone().with_feature(several)?;
    let seen = wide.encode(pixels)?;
    let wanted_wide = Tensor::cat(&[&states[states.len() - 1], &states[0], &states[0]], 2)?;
    assert_eq!(difference(&seen, &wanted_wide)?, 0.0);
    assert_eq!(
        (wide.dim(), wide.positions()),
        (3 * tower.dim(), tower.positions())
    );
    for missing in [&[9][..], &[0, 9]] {
        let feature = VisionFeature::hidden_states(missing)?;
        assert!(tower.clone().with_feature(feature).is_err());
    }

    assert_eq!(tower.positions().count(), last.dim(1)?);
    assert_eq!(tower.dim(), last.dim(2)?);
    assert!(
        tower
            .render_input(&pixels.narrow(0, 0, 1)?)?
            .plain()
            .contains("picture")
    );

    let mut adapted = tower.clone().with_feature(VisionFeature::HiddenState(-1))?;
    assert_eq!(
        adapted.add_lora(&LoraConfig::new(2, 4.0, &["fc1"]), 1)?,
        states.len() - 1
    );
    let gradients = adapted.encode(pixels)?.sqr()?.mean_all()?.backward()?;
    for parameter in adapted
        .trainable_parameters()
        .iter()
        .filter(|one| one.name.contains("lora_B"))
    {
        let gradient = parameter
            .var
            .as_ref()
            .and_then(|var| gradients.get(var))
            .ok_or("no gradient")?;
        assert!(
            gradient.abs()?.max_all()?.to_scalar::<f32>()? > 0.0,
            "{}",
            parameter.name
        );
    }
    Ok(())
}

#[test]
fn clip() -> Outcome {
    check("clip", None)
}

#[test]
fn siglip() -> Outcome {
    check("siglip", None)
}

#[test]
fn siglip_2_of_one_size() -> Outcome {
    check("siglip2", None)
}

#[test]
fn smolvlm() -> Outcome {
    check("smolvlm", None)
}

#[test]
fn kin_that_is_not_read_is_refused_with_what_to_use() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.json");
    for (config, words) in [
        (
            r#"{"model_type": "siglip2", "vision_config": {"hidden_size": 8}}"#,
            "google/siglip2-base-patch16-224",
        ),
        (
            r#"{"model_type": "siglip2_vision_model", "num_patches": 256}"#,
            "NaFlex",
        ),
        (
            r#"{"model_type": "dinov2_with_registers"}"#,
            "facebook/dinov2-small",
        ),
        (r#"{"model_type": "swin"}"#, "siglip"),
    ] {
        std::fs::write(&path, config)?;
        let error = Encoder::load(folder.path(), DType::F32, &Device::Cpu).map(|_| ());
        let message = error.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    Ok(())
}

#[test]
fn a_new_tower_is_one_file_and_its_name_in_the_list() -> Outcome {
    // Whatever knows towers asks the table: none is named outside of its own file.
    let vision = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vision");
    let mut files = vec![vision.clone()];
    let mut named = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                files.push(entry?.path());
            }
            continue;
        }
        let own = path.starts_with(vision.join("towers"));
        let text = std::fs::read_to_string(&path)?;
        for kind in ["clip_vision_model", "siglip_vision_model", "smolvlm_vision"] {
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            if !own && code.into_iter().any(|line| line.contains(kind)) {
                named.push(format!("{}: {kind}", path.display()));
            }
        }
    }
    assert!(named.is_empty(), "{named:?}");
    let kinds = Encoder::kinds();
    for kind in [
        "vit",
        "clip",
        "siglip",
        "siglip_vision_model",
        "dinov2",
        "smolvlm",
    ] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    Ok(())
}

#[test]
fn dinov2_at_another_picture_size() -> Outcome {
    check("dinov2", Some(12))
}

#[test]
fn another_architecture_is_named() {
    let message = Tower::load(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/vit"),
        DType::F32,
        &Device::Cpu,
    )
    .map(|_| ())
    .expect_err("a ViT is no tower")
    .to_string();
    assert!(
        message.contains("\"vit\"") && message.contains("config.json"),
        "{message}"
    );
}

#[test]
fn a_tower_that_was_saved_reads_the_same() -> Outcome {
    for name in ["clip", "siglip", "siglip2", "dinov2", "smolvlm"] {
        let expected = candle_core::safetensors::load(
            folder(name).join("expected.safetensors"),
            &Device::Cpu,
        )?;
        let pixels = &expected["pixel_values"];
        let mut tower = Tower::load(folder(name), DType::F32, &Device::Cpu)?;
        tower = tower.with_image_size(pixels.dim(3)?)?;
        let saved = tempfile::tempdir()?;
        tower.save(saved.path())?;
        let again = Tower::load(saved.path(), DType::F32, &Device::Cpu)?;
        assert_eq!(again.config, tower.config, "{name}");
        let names = |tower: &Tower| -> Vec<String> {
            let all = tower.named_parameters().into_iter();
            all.map(|parameter| parameter.name).collect()
        };
        assert_eq!(names(&again), names(&tower), "{name}");
        assert_eq!(
            difference(&again.encode(pixels)?, &tower.encode(pixels)?)?,
            0.0
        );
    }
    Ok(())
}
