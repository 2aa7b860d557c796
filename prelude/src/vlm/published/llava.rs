//! LLaVA in Hugging Face's layout, e.g. <https://huggingface.co/llava-hf/llava-1.5-7b-hf> and
//! <https://huggingface.co/xtuner/llava-phi-3-mini-hf>: a CLIP or SigLIP tower, the hidden states of an inner layer without the class
//! token, two linear layers, and any language model of [`families`](crate::language::families).

use super::folder::Folder;
use super::{Blueprint, Layout, text_model};
use crate::nn::Activation;
use crate::nn::checkpoint::Rule;
use crate::projector::{Mlp2x, Projector};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::{TowerConfig, VisionFeature};
use serde_json::Value;

pub(super) const LAYOUT: Layout = Layout {
    name: "LLaVA",
    model_type: "llava",
    architecture: "LlavaForConditionalGeneration",
    names: &[NAMES, NEWER_NAMES],
    template: None,
    video: None,
    read,
};

/// Names up to transformers 4.51, which newer versions still write.
pub(super) const NAMES: &[Rule] = &[
    Rule::new("vision_tower.vision_model.", &["image_encoder."]),
    Rule::new("vision_tower.", &["image_encoder."]),
    Rule::new("multi_modal_projector.linear_1.", &["projector.fc1."]),
    Rule::new("multi_modal_projector.linear_2.", &["projector.fc2."]),
    Rule::new("image_newline", &["projector.image_newline"]),
    Rule::new("language_model.model.", &["llm.model."]),
    Rule::new("language_model.lm_head.", &["llm.lm_head."]),
];

/// Names inside of transformers since 4.52.
pub(super) const NEWER_NAMES: &[Rule] = &[
    Rule::new("model.vision_tower.vision_model.", &["image_encoder."]),
    Rule::new("model.vision_tower.", &["image_encoder."]),
    Rule::new("model.multi_modal_projector.linear_1.", &["projector.fc1."]),
    Rule::new("model.multi_modal_projector.linear_2.", &["projector.fc2."]),
    Rule::new("model.image_newline", &["projector.image_newline"]),
    Rule::new("model.language_model.", &["llm.model."]),
    Rule::new("lm_head.", &["llm.lm_head."]),
];

fn read(fields: &mut Fields, folder: &Folder) -> Complaint<Blueprint> {
    let Common {
        tower,
        feature,
        mlp,
        text,
        image_token,
    } = Common::read(fields, folder, ("clip_vision_model", "llama"), -2, "default")?;
    let (input, output) = (tower.hidden_size * feature.states(), text.hidden_size);
    let projector = move |weights: &crate::nn::Checkpoint, _| {
        let mlp = Mlp2x::read(weights, (input, output), mlp.bias, mlp.activation, mlp.left_out)?;
        Ok(Projector::from(mlp))
    };
    Ok(Blueprint {
        tower,
        feature,
        llm: text,
        projector: Box::new(projector),
        image_processor: folder.image_processor()?,
        tiling: None,
        image_token,
        words: None,
    })
}

/// What LLaVA's layouts have in common.
pub(super) struct Common {
    pub tower: TowerConfig,
    pub feature: VisionFeature,
    pub mlp: Mlp,
    pub text: crate::language::DecoderConfig,
    pub image_token: String,
}

/// What a config says of the projector.
#[derive(Clone, Copy)]
pub(super) struct Mlp {
    pub bias: bool,
    pub activation: Activation,
    /// Positions in front that are left out.
    pub left_out: usize,
}

impl Common {
    /// `layer` and `strategy`: what absent fields stand for.
    pub fn read(
        fields: &mut Fields,
        folder: &Folder,
        (tower, language): (&str, &str),
        layer: i32,
        strategy: &str,
    ) -> Complaint<Self> {
        // transformers has defaults for these too, which no published file relies on.
        let inner = |fields: &mut Fields, name: &str| match fields.take::<Value>(name)? {
            Some(inner) => Ok(inner),
            None => Err(format!("{name} is missing")),
        };
        let mut vision = inner(fields, "vision_config")?;
        if let Value::Object(vision) = &mut vision {
            vision.entry("model_type").or_insert_with(|| tower.into());
        }
        let tower = TowerConfig::from_value(vision, "vision_config".as_ref())
            .map_err(|error| error.to_string())?;
        let tied = fields.take_or("tie_word_embeddings", false)?;
        let text = text_model::decoder(inner(fields, "text_config")?, language, tied)?;
        let layers: Value = fields.take_or("vision_feature_layer", layer.into())?;
        let number = |layer: &Value| layer.as_i64().and_then(|layer| i32::try_from(layer).ok());
        let several = match &layers {
            Value::Array(several) => several.iter().map(number).collect(),
            one => number(one).map(|one| vec![one]),
        };
        let several: Vec<i32> = several.filter(|several| !several.is_empty()).ok_or_else(|| {
            format!("vision_feature_layer is {layers}, which is neither the number of a layer nor a list of such")
        })?;
        // Of several, the projector reads the hidden states side by side.
        let feature = VisionFeature::hidden_states(&several)
            .map_err(|error| format!("vision_feature_layer: {error}"))?;
        let strategy: String =
            fields.take_or("vision_feature_select_strategy", strategy.to_owned())?;
        let left_out = match strategy.as_str() {
            "default" => 1,
            "full" => 0,
            other => {
                return Err(format!(
                    "vision_feature_select_strategy is {other:?}: \"default\" (without the first position, the class token) and \"full\" \
                     are known"
                ));
            }
        };
        let name: String = fields.take_or("projector_hidden_act", "gelu".to_owned())?;
        let activation = Activation::named(&name).ok_or_else(|| {
            format!("projector_hidden_act is {name:?}: gelu, gelu_pytorch_tanh, quick_gelu and silu are supported")
        })?;
        let id: Option<u32> = fields.take("image_token_id")?;
        let id = match (id, fields.take::<u32>("image_token_index")?) {
            (Some(a), Some(b)) if a != b => {
                return Err(format!("image_token_id is {a}, image_token_index {b}: which is meant?"));
            }
            (a, b) => a.or(b).ok_or("image_token_index is missing")?,
        };
        let image_token = folder.token("image_token_index", id)?;
        let mut processor = folder.processor()?;
        let as_read = |complaint: String| format!("processor_config.json: {complaint}");
        for (field, value) in [
            ("image_token", Value::from(image_token.as_str())),
            ("vision_feature_select_strategy", strategy.as_str().into()),
            ("patch_size", tower.patch_size.into()),
        ] {
            processor.only(field, &value, "config.json says otherwise").map_err(as_read)?;
        }
        // How many tokens a picture has is seen on the picture.
        processor.ignore(&["num_additional_image_tokens", "num_image_tokens", "video_processor", "video_token", "vision_aspect_ratio"]);
        processor.finish("a LLaVA processor").map_err(as_read)?;
        let bias = fields.take_or("multimodal_projector_bias", true)?;
        // Without effect: for videos or training, or said better by another field.
        fields.ignore(&["ignore_index", "image_seq_length", "vocab_size"]);
        Ok(Self {
            tower,
            feature,
            mlp: Mlp { bias, activation, left_out },
            text,
            image_token,
        })
    }
}
