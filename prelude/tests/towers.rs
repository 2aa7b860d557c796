//! CLIP, SigLIP and DINOv2 towers against numbers made by `tests/towers/make.py`, which writes the formulas of
//! transformers out in numpy.

use std::path::{Path, PathBuf};

use glassbox_prelude::candle_core::{self, DType, Device, Tensor};
use glassbox_prelude::nn::{LoraConfig, Network};
use glassbox_prelude::vision::{Modality, Tower, VisionFeature};

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
    assert!(
        tower
            .clone()
            .with_feature(VisionFeature::HiddenState(9))
            .is_err()
    );

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
