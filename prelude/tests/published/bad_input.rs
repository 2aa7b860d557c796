//! What is wrong with a folder is said by name.

use crate::{Fallible, Outcome, copied, folder, load, picture};
use glassbox_prelude::candle_core::safetensors;
use glassbox_prelude::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// A copy of a fixture with another config and other weights.
fn changed(
    name: &str,
    config: impl FnOnce(&mut Value),
    weights: impl FnOnce(&mut HashMap<String, Tensor>),
) -> Fallible<tempfile::TempDir> {
    let copy = copied(&folder(name))?;
    let path = copy.path().join("config.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config(&mut value);
    std::fs::write(path, value.to_string())?;
    let path = copy.path().join("model.safetensors");
    let mut tensors = safetensors::load(&path, &Device::Cpu)?;
    weights(&mut tensors);
    std::fs::remove_file(&path)?;
    safetensors::save(&tensors, &path)?;
    Ok(copy)
}

fn refused(folder: &Path) -> String {
    match Vlm::from_pretrained(folder, &Device::Cpu) {
        Ok(_) => String::from("no error"),
        Err(error) => error.to_string(),
    }
}

fn config_refused(name: &str, config: impl FnOnce(&mut Value)) -> Fallible<String> {
    Ok(refused(changed(name, config, |_| {})?.path()))
}

#[test]
fn fields_that_are_not_read_are_refused_by_name() -> Outcome {
    let cases: [(&str, &str, Value, &str); 14] = [
        (
            "llava_clip_llama",
            "/vision_feature_layer",
            serde_json::json!([]),
            "vision_feature_layer",
        ),
        (
            "llava_layers",
            "/vision_feature_layer",
            serde_json::json!([-2, "last"]),
            "vision_feature_layer",
        ),
        (
            "llava_layers",
            "/vision_feature_layer",
            vec![-1; 17].into(),
            "at most 16",
        ),
        (
            "llava_next",
            "/vision_feature_select_strategy",
            "full".into(),
            "vision_feature_select_strategy",
        ),
        (
            "llava_next",
            "/image_grid_pinpoints/0/0",
            84.into(),
            "image_grid_pinpoints",
        ),
        (
            "llava_next",
            "/text_config/model_type",
            "mixtral".into(),
            "mixtral",
        ),
        (
            "llava_clip_llama",
            "/vision_feature_select_strategy",
            "cls".into(),
            "vision_feature_select_strategy",
        ),
        (
            "llava_clip_llama",
            "/projector_hidden_act",
            "relu".into(),
            "projector_hidden_act",
        ),
        (
            "llava_clip_llama",
            "/text_config/model_type",
            "mamba".into(),
            "mamba",
        ),
        (
            "llava_clip_llama",
            "/vision_config/model_type",
            "pixtral".into(),
            "pixtral",
        ),
        (
            "llava_clip_llama",
            "/image_token_index",
            9999.into(),
            "image_token_index",
        ),
        (
            "llava_onevision",
            "/vision_aspect_ratio",
            "square".into(),
            "vision_aspect_ratio",
        ),
        (
            "bunny",
            "/mm_projector_type",
            "ldp".into(),
            "mm_projector_type",
        ),
        (
            "llava_clip_llama",
            "/architectures/0",
            "LlavaNextForConditionalGeneration".into(),
            "architectures",
        ),
    ];
    for (name, pointer, value, said) in cases {
        let error = config_refused(name, |config| {
            if let Some(place) = config.pointer_mut(pointer) {
                *place = value;
            }
        })?;
        // A tower's positions are known when it is there, behind the config.
        let whole = error.contains("config.json") || pointer.ends_with("strategy");
        assert!(error.contains(said) && whole, "{pointer}: {error}");
    }
    for (name, field) in [
        ("llava_clip_llama", "quantization_config"),
        ("bunny", "use_s2"),
        ("llava_onevision", "something_new"),
    ] {
        let error = config_refused(name, |config| config[field] = true.into())?;
        assert!(error.contains(field), "{field}: {error}");
    }
    for (name, field) in [
        ("llava_clip_llama", "text_config"),
        ("llava_clip_llama", "image_token_index"),
        ("llava_next", "image_grid_pinpoints"), // whose default is not what the image processor has
        ("bunny", "vocab_size"),                // whose default is not what the weights have
    ] {
        let error = config_refused(name, |config| {
            if let Some(fields) = config.as_object_mut() {
                fields.remove(field);
            }
        })?;
        let named = match field {
            "vocab_size" => "lm_head.weight",
            field => field,
        };
        assert!(error.contains(named), "{field}: {error}");
    }
    let error = config_refused("llava_clip_llama", |config| {
        config["model_type"] = "blip_2".into()
    })?;
    assert!(
        error.contains("blip_2") && error.contains("llava_onevision"),
        "{error}"
    );
    Ok(())
}

#[test]
fn weights_that_are_missing_or_left_over_are_listed_together() -> Outcome {
    let copy = changed(
        "llava_clip_llama",
        |_| {},
        |weights| {
            weights.remove("multi_modal_projector.linear_2.bias");
            weights.remove("language_model.model.norm.weight");
            let moved = weights.remove("vision_tower.vision_model.pre_layrnorm.weight");
            weights.extend(moved.map(|moved| {
                (
                    "vision_tower.vision_model.pre_norm.weight".to_owned(),
                    moved,
                )
            }));
        },
    )?;
    let error = refused(copy.path());
    for name in [
        "3 tensors are missing",
        "multi_modal_projector.linear_2.bias",
        "language_model.model.norm.weight",
        "vision_tower.vision_model.pre_layrnorm.weight",
        "1 tensors that are there belong to no part",
        "vision_tower.vision_model.pre_norm.weight",
    ] {
        assert!(error.contains(name), "{name}: {error}");
    }
    let copy = changed(
        "llava_clip_llama",
        |_| {},
        |weights| {
            weights.remove("multi_modal_projector.linear_2.bias");
        },
    )?;
    let error = refused(copy.path());
    assert!(
        error.contains("multi_modal_projector.linear_2.bias"),
        "{error}"
    );
    let copy = changed(
        "bunny",
        |_| {},
        |weights| {
            weights.retain(|name, _| !name.contains("vision_tower"));
        },
    )?;
    let error = refused(copy.path());
    assert!(error.contains("no weights of the image encoder"), "{error}");
    Ok(())
}

#[test]
fn places_and_pictures_must_be_as_many() -> Outcome {
    for name in ["llava_clip_llama", "bunny"] {
        let (vlm, image) = (load(name)?, picture(name)?);
        for (text, inputs, places) in [
            ("no place", 1, 0),
            ("<image> and <image>", 1, 2),
            ("<image>", 0, 1),
        ] {
            let inputs: Vec<&dyn VlmInput> = vec![&image; inputs];
            match vlm.text_prompt(text, &inputs) {
                Err(glassbox_prelude::Error::InputCount {
                    places: found,
                    inputs: given,
                }) => {
                    assert_eq!((found, given), (places, inputs.len()), "{text}");
                }
                other => return Err(format!("{text}: {:?}", other.map(|_| ())).into()),
            }
        }
    }
    let tiny = Vlm::tiny(&Device::Cpu)?;
    assert!(
        tiny.text_prompt("<image>", &[])
            .is_err_and(|error| error.to_string().contains("image_token"))
    );
    Ok(())
}
