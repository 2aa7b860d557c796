//! SigLIP's image half, and SigLIP 2's for pictures of one size, e.g. <https://huggingface.co/google/siglip-base-patch16-224>
//! and <https://huggingface.co/google/siglip2-base-patch16-224>: no class token. The attention-pooling head is not read: a
//! language model takes the patches.

use super::clip::LAYER;
use super::family::{Defaults, Family, Names};
use super::{Activation, TowerConfig};
use crate::vision::{ImageProcessorConfig, Resample, VisionFeature};

/// SigLIP 2 in NaFlex form has a `model_type` of its own.
const NAFLEX: &str = "SigLIP 2 in NaFlex form (pictures of any shape, cut into patches beforehand) is not supported: use one of its \
                      checkpoints for pictures of one size, such as google/siglip2-base-patch16-224, whose model_type is \"siglip\"";

pub(super) const FAMILY: Family = Family {
    name: "SigLIP",
    model_types: &["siglip_vision_model"],
    wholes: &["siglip"],
    refused: &[("siglip2", NAFLEX), ("siglip2_vision_model", NAFLEX)],
    defaults: DEFAULTS,
    own_fields: |fields, _| {
        if fields.take::<usize>("num_patches")?.is_some() {
            return Err(format!("num_patches: {NAFLEX}"));
        }
        // With or without it: it is behind what a language model takes.
        fields.take::<bool>("vision_use_head").map(|_| ())
    },
    prefixes: &["vision_model."],
    names: NAMES,
    unread: &[
        "text_model.",
        "logit_scale",
        "logit_bias",
        "head.",
        "position_ids",
    ],
    carried: &[],
    architecture: "SiglipVisionModel",
    saved_below: "vision_model.",
    own_saved: |_, config| {
        config.insert("vision_use_head".into(), false.into());
    },
    feature: VisionFeature::LastHiddenState,
    processor,
};

pub(super) const DEFAULTS: Defaults = Defaults {
    hidden_size: 768,
    intermediate_size: Some(3072),
    num_attention_heads: 12,
    image_size: 224,
    patch_size: 16,
    layer_norm_eps: 1e-6,
    activation: Activation::GeluTanh,
};

pub(super) const NAMES: Names = Names {
    class: None,
    patch: "embeddings.patch_embedding",
    patch_bias: true,
    positions: "embeddings.position_embedding.weight",
    batched: false,
    norm_before: None,
    layers: "encoder.layers",
    layer: LAYER,
    norm_after: Some("post_layernorm"),
};

/// The whole picture at the config's size.
fn processor(config: &TowerConfig) -> ImageProcessorConfig {
    ImageProcessorConfig {
        resample: Resample::Bicubic,
        ..ImageProcessorConfig::vit(config.image_size as u32)
    }
}
