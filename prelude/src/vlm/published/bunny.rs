//! Bunny, e.g. <https://huggingface.co/BAAI/Bunny-v1_0-3B>: SigLIP, the hidden states before its last layer, two linear layers, Phi-2 (or
//! Phi-3, Qwen1.5, Llama). Its code is not transformers' but lies beside the weights, so that its config says the language model's
//! fields and little of the tower: what its code takes for granted is taken here.
//!
//! Pictures are padded to a square of the mean colour; `<image>` in a text marks a place and is no token.

use super::folder::Folder;
use super::{Blueprint, Layout, text_model};
use crate::nn::checkpoint::Rule;
use crate::nn::{Activation, Checkpoint};
use crate::projector::{Mlp2x, Projector};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::{ImageProcessor, ImageProcessorConfig, Resample, Resize, TowerConfig, VisionFeature};
use serde_json::{Value, json};

pub(super) const PHI: Layout = layout("bunny-phi", "BunnyPhiForCausalLM", |fields, folder| {
    read(fields, folder, "phi")
});
pub(super) const PHI3: Layout = layout("bunny-phi3", "BunnyPhi3ForCausalLM", |fields, folder| {
    read(fields, folder, "phi3")
});
pub(super) const QWEN2: Layout = layout("bunny-qwen2", "BunnyQwen2ForCausalLM", |fields, folder| {
    read(fields, folder, "qwen2")
});
/// The same by the names of its repository's code, where the above are those of its files on the hub.
pub(super) const QWEN: Layout = layout("bunny-qwen", "BunnyQwenForCausalLM", |fields, folder| {
    read(fields, folder, "qwen2")
});
pub(super) const LLAMA: Layout = layout("bunny-llama", "BunnyLlamaForCausalLM", |fields, folder| {
    read(fields, folder, "llama")
});

const fn layout(
    model_type: &'static str,
    architecture: &'static str,
    read: fn(&mut Fields, &Folder) -> Complaint<Blueprint>,
) -> Layout {
    Layout {
        name: "Bunny",
        model_type,
        architecture,
        names: &[NAMES],
        template: Some(TEMPLATE),
        video: None,
        read,
    }
}

const NAMES: &[Rule] = &[
    Rule::new(
        "model.vision_tower.vision_tower.vision_model.",
        &["image_encoder."],
    ),
    Rule::new("model.mm_projector.0.", &["projector.fc1."]),
    Rule::new("model.mm_projector.2.", &["projector.fc2."]),
    Rule::new("model.", &["llm.model."]),
    Rule::new("lm_head.", &["llm.lm_head."]),
];

/// What its code writes around a conversation, whatever the language model; there is no file for it, and a template that the tokenizer
/// came with is not what it was trained with. No space stands behind the end of an answer.
const TEMPLATE: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, \
     and polite answers to the user's questions. {% for message in messages %}{% if message['role'] == 'user' %}{{ 'USER: ' + \
     message['content'] + ' ' }}{% elif message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}{% else %}{{ \
     raise_exception('Bunny reads turns of user and assistant only') }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ \
     'ASSISTANT:' }}{% endif %}";

/// Sizes of the towers that its models have, by their names; the fields are those of SigLIP's own config.
fn tower_named(name: &str) -> Complaint<Value> {
    let repository = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match repository {
        "siglip-so400m-patch14-384" => Ok(json!({"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
            "num_attention_heads": 16, "image_size": 384, "patch_size": 14})),
        _ => Err(format!(
            "mm_vision_tower is {name:?}: of towers by name only siglip-so400m-patch14-384 is known; give the sizes of another SigLIP as \
             vision_config"
        )),
    }
}

fn read(fields: &mut Fields, folder: &Folder, family: &str) -> Complaint<Blueprint> {
    let name: String = fields.take_or("mm_vision_tower", String::new())?;
    let mut vision = match fields.take::<Value>("vision_config")? {
        Some(vision) => vision,
        None if name.is_empty() => return Err("mm_vision_tower is missing".into()),
        None => tower_named(&name)?,
    };
    let (tower, feature) = tower(&mut vision, folder)?;
    let off = "its tower sees pictures of one size only here";
    fields.only("use_s2", &json!(false), off)?;
    fields.only("mm_projector_type", &json!("mlp2x_gelu"), "other projectors of Bunny are not read")?;
    fields.only("mm_hidden_size", &json!(tower.hidden_size), "the tower's hidden_size says otherwise")?;
    fields.only("use_mm_proj", &json!(true), "without a projector it is no model of pictures")?;
    let side = tower.image_size as u32;
    let resize = match fields.take::<String>("image_aspect_ratio")?.as_deref() {
        // The mean of SigLIP's processor, 0.5, as a level.
        Some("pad") => Resize::Padded { side, colour: [127; 3] },
        None | Some("square") => Resize::Exact { height: side, width: side },
        Some(other) => {
            return Err(format!("image_aspect_ratio is {other:?}: \"pad\" and \"square\" are supported"));
        }
    };
    let image_processor = ImageProcessor::new(ImageProcessorConfig {
        resize,
        resample: Resample::Bicubic,
        ..ImageProcessorConfig::vit(side)
    });
    // How it was trained and how its rows were padded, and longest texts, which the context limits.
    fields.ignore(&[
        "continuous_training",
        "freeze_mm_mlp_adapter",
        "mm_projector_lr",
        "tokenizer_model_max_length",
        "tokenizer_padding_side",
        "tune_mm_mlp_adapter",
        "unfreeze_vision_tower",
    ]);
    let mut text = fields.rest();
    if let Value::Object(text) = &mut text {
        // Of the whole, not of the language model.
        text.remove("architectures");
        if family == "phi" && !folder.has_weight("lm_head.bias")? {
            text.insert("lm_head_bias".into(), false.into());
        }
    }
    let llm = text_model::decoder(text, family, false)?;
    let (input, output) = (tower.hidden_size, llm.hidden_size);
    let projector = move |weights: &Checkpoint, _| {
        let mlp = Mlp2x::read(weights, (input, output), true, Activation::Gelu, 0)?;
        Ok(Projector::from(mlp))
    };
    Ok(Blueprint {
        tower,
        feature,
        llm,
        projector: Box::new(projector),
        image_processor: image_processor.map_err(|error| error.to_string())?,
        tiling: None,
        image_token: "<image>".into(),
        words: None,
    })
}

/// The tower with as many layers as the files have: its own code leaves the last one out, whose output is not used.
fn tower(vision: &mut Value, folder: &Folder) -> Complaint<(TowerConfig, VisionFeature)> {
    let Value::Object(config) = &mut *vision else {
        return Err("vision_config is no JSON object with fields".into());
    };
    config
        .entry("model_type")
        .or_insert_with(|| "siglip_vision_model".into());
    let whole = TowerConfig::from_value(vision.clone(), "vision_config".as_ref())
        .map_err(|error| error.to_string())?;
    let has = |layer: usize| {
        folder.has_weight(&format!(
            "model.vision_tower.vision_tower.vision_model.encoder.layers.{layer}.layer_norm1.weight"
        ))
    };
    let layers = whole.num_hidden_layers;
    if layers > 1 && !has(layers - 1)? && has(layers - 2)? {
        let shorter = TowerConfig {
            num_hidden_layers: layers - 1,
            ..whole
        };
        return Ok((shorter, VisionFeature::HiddenState(-1)));
    }
    if !has(0)? {
        return Err(
            "the files hold no weights of the image encoder (model.vision_tower.…), which Bunny's code would fetch from another \
             repository: use a checkpoint that has them, such as BAAI/Bunny-v1_0-3B"
                .into(),
        );
    }
    Ok((whole, VisionFeature::HiddenState(-2)))
}
