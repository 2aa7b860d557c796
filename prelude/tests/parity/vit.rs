//! ViT against transformers: every stage, from both checkpoint layouts, and what comes back after saving.

use crate::compare::{Fixtures, Group, Outcome, device};
use glassbox_prelude::candle_core::{self, DType, Tensor};
use glassbox_prelude::vision::{Modality, VisionFeature, Vit, VitOutput};

const TOLERANCE: f64 = 1e-4;

pub fn stages(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let pixels = fixtures
        .tensors("vit/expected.safetensors")?
        .get("pixel_values")?
        .clone();
    both_layouts(fixtures, group, "vit", &pixels)
}

pub fn stages_224(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let about = fixtures.json("vit224/expected.json")?;
    let name = about["image"]
        .as_str()
        .or(about["images"][0].as_str())
        .ok_or("vit224 names no image")?;
    // The reference's own levels, not ours: for a JPEG the decoders differ.
    let levels = fixtures.tensors("images/expected_224_u8.safetensors")?;
    let table: Vec<f32> = levels.get("__lut_f32")?.to_vec1()?;
    let image = levels.get(name)?; // [3, H, W]
    let values: Vec<f32> = image
        .flatten_all()?
        .to_vec1::<u8>()?
        .iter()
        .map(|level| table[*level as usize])
        .collect();
    let pixels = Tensor::from_vec(values, image.dims(), &device()?)?.unsqueeze(0)?; // [1, 3, H, W]
    both_layouts(fixtures, group, "vit224", &pixels)
}

fn both_layouts(fixtures: &Fixtures, group: &mut Group, folder: &str, pixels: &Tensor) -> Outcome {
    let mut folders = vec![folder.to_string()];
    let classifying = format!("{folder}_for_image_classification");
    if fixtures.path(&classifying).is_dir() {
        folders.push(classifying);
    }
    for name in folders {
        let vit = Vit::load(fixtures.path(&name), DType::F32, &device()?)?;
        compare(
            fixtures,
            group,
            folder,
            &name,
            &vit.forward_with_attentions(pixels)?,
        )?;

        let output = vit.forward(pixels)?;
        for feature in [
            VisionFeature::HiddenState(-1),
            VisionFeature::HiddenState(1),
            VisionFeature::hidden_states(&[-1, 0])?,
            VisionFeature::LastHiddenState,
        ] {
            let encoded = vit.clone().with_feature(feature)?.encode(pixels)?;
            group.close(
                &format!("{name} encode {feature}"),
                &encoded,
                &output.feature(feature)?,
                0.0,
            );
        }

        let saved = tempfile::tempdir()?;
        vit.save(saved.path())?;
        let back = Vit::load(saved.path(), DType::F32, &device()?)?.forward(pixels)?;
        group.close(
            &format!("{name} saved and loaded"),
            &back.last_hidden_state,
            &output.last_hidden_state,
            0.0,
        );
        group.equal(
            &format!("{name} saved with the same names"),
            &tensor_names(&saved.path().join("model.safetensors"))?,
            &tensor_names(&fixtures.path(&name).join("model.safetensors"))?,
        );
    }
    Ok(())
}

fn compare(
    fixtures: &Fixtures,
    group: &mut Group,
    folder: &str,
    name: &str,
    found: &VitOutput,
) -> Outcome {
    let wanted = fixtures.tensors(&format!("{folder}/expected.safetensors"))?;
    let mut close = |key: &str, found: &Tensor| -> Outcome {
        group.close(&format!("{name} {key}"), found, wanted.get(key)?, TOLERANCE);
        Ok(())
    };
    close("patch_embeddings", &found.patch_embeddings)?;
    close("embeddings", found.embeddings())?;
    for (layer, hidden) in found.hidden_states.iter().enumerate().skip(1) {
        close(&format!("hidden_{layer}"), hidden)?;
    }
    close("last_hidden_state", &found.last_hidden_state)?;
    if let Some(pooled) = &found.pooler_output {
        close("pooler_output", pooled)?;
    }
    if let Some(logits) = &found.classifier_logits {
        close("classifier_logits", logits)?;
    }
    group.holds(
        &format!("{name} has a pooler or a classifier"),
        found.pooler_output.is_some() || found.classifier_logits.is_some(),
    );
    for (layer, map) in found.attentions.iter().enumerate() {
        let sums = map.sum(candle_core::D::Minus1)?;
        group.close(
            &format!("{name} attention rows of layer {layer} sum to 1"),
            &sums,
            &sums.ones_like()?,
            1e-5,
        );
    }
    group.equal(
        &format!("{name} attention maps"),
        &found.attentions.len(),
        &(found.hidden_states.len() - 1),
    );
    Ok(())
}

fn tensor_names(file: &std::path::Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut names: Vec<String> = candle_core::safetensors::load(file, &device()?)?
        .into_keys()
        .collect();
    names.sort();
    Ok(names)
}
