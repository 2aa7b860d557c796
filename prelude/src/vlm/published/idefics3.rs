//! Idefics3 and SmolVLM in Hugging Face's layout, e.g. <https://huggingface.co/HuggingFaceTB/SmolVLM-256M-Instruct>: SigLIP without its head on
//! tiles of one size, pixel shuffle and a linear layer, Llama. Each tile is named in the text; a prompt may have any number of
//! pictures. SmolVLM2's videos are not read.

use super::folder::Folder;
use super::{Blueprint, Layout, text_model};
use crate::nn::Checkpoint;
use crate::nn::checkpoint::Rule;
use crate::projector::{PixelShuffle, Projector};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::{
    ImageProcessor, ImageProcessorConfig, Resize, Tiling, TowerConfig, VisionFeature,
};
use serde_json::{Map, Value, json};

pub(super) const IDEFICS3: Layout = Layout {
    name: "Idefics3",
    model_type: "idefics3",
    architecture: "Idefics3ForConditionalGeneration",
    names: &[NAMES],
    template: None,
    video: None,
    read: |fields, folder| read(fields, folder, "idefics3_vision"),
};

pub(super) const SMOLVLM: Layout = Layout {
    name: "SmolVLM",
    model_type: "smolvlm",
    architecture: "SmolVLMForConditionalGeneration",
    video: Some("<video>"),
    read: |fields, folder| read(fields, folder, "smolvlm_vision"),
    ..IDEFICS3
};

const NAMES: &[Rule] = &[
    Rule::new("model.vision_model.", &["image_encoder."]),
    Rule::new(
        "model.connector.modality_projection.proj.",
        &["projector.fc1."],
    ),
    Rule::new("model.text_model.", &["llm.model."]),
    Rule::new("lm_head.", &["llm.lm_head."]),
];

fn read(fields: &mut Fields, folder: &Folder, tower: &str) -> Complaint<Blueprint> {
    let mut vision = object(fields, "vision_config")?;
    vision.entry("model_type").or_insert_with(|| tower.into());
    let tower = TowerConfig::from_value(Value::Object(vision), "vision_config".as_ref())
        .map_err(|error| error.to_string())?;
    let factor: usize = fields.take_or("scale_factor", 2)?;
    let tokens = shuffled(&tower, factor, "scale_factor")?;
    let tied = fields.take_or("tie_word_embeddings", false)?;
    let text = language_model(object(fields, "text_config")?, factor)?;
    let mut text = text_model::decoder(Value::Object(text), "llama", tied)?;
    // transformers 4 and 5 ask different ones of two fields; what the files hold is what counts.
    text.tie_word_embeddings = tied || !folder.has_weight("lm_head.weight")?;
    fields.only(
        "vocab_size",
        &json!(text.vocab_size),
        "text_config.vocab_size says otherwise",
    )?;
    let id: u32 = fields.take_or("image_token_id", 128_257)?;
    let image_token = folder.token("image_token_id", id)?;
    // Of whole models, where padding and training are not for us.
    fields.ignore(&[
        "_pad_token_id",
        "transformers.js_config",
        "use_reentrant_checkpointing",
    ]);

    let mut processor = folder.processor()?;
    let as_read = |complaint: String| format!("processor_config.json: {complaint}");
    let why = "vision_config and scale_factor say otherwise";
    processor
        .only("image_seq_len", &json!(tokens), why)
        .map_err(as_read)?;
    processor.ignore(&["video_processor"]);
    processor.finish("an Idefics3 processor").map_err(as_read)?;

    let tiling = folder.tiling()?;
    let Tiling::Split(way) = &tiling else {
        return Err("the image processor cuts pictures in LLaVA's way (image_grid_pinpoints), the model reads Idefics3's tiles".into());
    };
    let side = way.tile_side();
    if side as usize != tower.image_size {
        return Err(format!(
            "the image processor makes tiles of {side} pixels a side (max_image_size), the tower reads {} (vision_config.image_size)",
            tower.image_size
        ));
    }
    let whole = ImageProcessor::new(ImageProcessorConfig {
        resize: Resize::Exact {
            height: side,
            width: side,
        },
        ..tiling.numbers().clone()
    });
    let (input, output) = (tower.hidden_size, text.hidden_size);
    let projector = move |weights: &Checkpoint, _| {
        let shuffle = PixelShuffle::read(weights, factor, input, output, false)?;
        Ok(Projector::from(shuffle))
    };
    Ok(Blueprint {
        tower,
        feature: VisionFeature::LastHiddenState,
        llm: text,
        projector: Box::new(projector),
        image_processor: whole.map_err(|error| error.to_string())?,
        tiling: Some(tiling),
        image_token,
        words: None,
    })
}

fn object(fields: &mut Fields, name: &str) -> Complaint<Map<String, Value>> {
    match fields.take::<Value>(name)? {
        Some(Value::Object(inner)) => Ok(inner),
        Some(_) => Err(format!("{name} is no JSON object with fields")),
        None => Err(format!("{name} is missing")),
    }
}

/// How many tokens a tile has: patches by squares of `factor`.
pub(super) fn shuffled(tower: &TowerConfig, factor: usize, name: &str) -> Complaint<usize> {
    let grid = tower.grid();
    match factor > 0 && grid.is_multiple_of(factor) {
        true => Ok((grid / factor).pow(2)),
        false => Err(format!(
            "{name} is {factor}, which does not divide the {grid} patches along a side of a tile"
        )),
    }
}

/// `text_config` without what the code that trained these models wrote into it, each of which must say that it is off.
fn language_model(mut text: Map<String, Value>, factor: usize) -> Complaint<Map<String, Value>> {
    let said = |name: &str| format!("text_config.{name}");
    for (name, value, why) in [
        ("pixel_shuffle_factor", json!(factor), "scale_factor says otherwise"),
        ("qk_layer_norms", json!(false), "norms on queries and keys are not read here"),
        ("use_resampler", json!(false), "a resampler in the place of pixel shuffle is not read"),
    ] {
        match text.remove(name) {
            None | Some(Value::Null) => {}
            Some(found) if found == value => {}
            Some(found) => return Err(format!("{} is {found}: {why}", said(name))),
        }
    }
    // Of the resampler that is not used; of training, and of how another library runs it.
    for name in ["perceiver_config", "neftune_noise_alpha", "_flash_attn_2_enabled"] {
        text.remove(name);
    }
    let own = json!(["VLlama3ForCausalLM"]); // that code's name for its Llama
    if text.get("architectures") == Some(&own) {
        text.remove("architectures");
    }
    Ok(text)
}
