//! CLIP's image half, e.g. <https://huggingface.co/openai/clip-vit-large-patch14-336>: a LayerNorm before the layers, none
//! in `last_hidden_state`, no bias in the patch embedding.

use super::family::{Defaults, Family, Names};
use super::{Activation, TowerConfig};
use crate::vision::layer::LayerNames;
use crate::vision::processor_file::CLIP;
use crate::vision::{ImageProcessorConfig, Resample, Resize, VisionFeature};

pub(super) const FAMILY: Family = Family {
    name: "CLIP",
    model_types: &["clip_vision_model"],
    wholes: &["clip"],
    refused: &[],
    defaults: Defaults {
        hidden_size: 768,
        intermediate_size: Some(3072),
        num_attention_heads: 12,
        image_size: 224,
        patch_size: 32,
        layer_norm_eps: 1e-5,
        activation: Activation::QuickGelu,
    },
    // LLaVA's files have the text half's `vocab_size` here too.
    own_fields: |fields, _| {
        fields.ignore(&["projection_dim", "vocab_size"]);
        Ok(())
    },
    prefixes: &["vision_model."],
    names: Names {
        class: Some("embeddings.class_embedding"),
        patch: "embeddings.patch_embedding",
        patch_bias: false,
        positions: "embeddings.position_embedding.weight",
        batched: false,
        norm_before: Some("pre_layrnorm"),
        layers: "encoder.layers",
        layer: LAYER,
        norm_after: None,
    },
    unread: &[
        "text_model.",
        "text_projection.",
        "visual_projection.",
        "logit_scale",
        "position_ids",
    ],
    carried: &["post_layernorm.weight", "post_layernorm.bias"],
    architecture: "CLIPVisionModel",
    saved_below: "vision_model.",
    own_saved: |_, _| {},
    feature: VisionFeature::HiddenState(-1),
    processor,
};

/// Names shared by CLIP, SigLIP and SmolVLM.
pub(super) const LAYER: LayerNames = LayerNames {
    norms: ["layer_norm1", "layer_norm2"],
    attention: [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
    ],
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: None,
};

/// The shorter side to the config's size, then its middle, as CLIP's processor does.
fn processor(config: &TowerConfig) -> ImageProcessorConfig {
    let side = config.image_size as u32;
    ImageProcessorConfig {
        resize: Resize::ShortestEdge(side),
        resample: Resample::Bicubic,
        center_crop: Some((side, side)),
        normalize: Some((CLIP[0], CLIP[1])),
        ..ImageProcessorConfig::vit(side)
    }
}
