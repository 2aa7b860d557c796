//! CLIP's image half, e.g. <https://huggingface.co/openai/clip-vit-large-patch14-336>: a LayerNorm before the layers, none
//! in `last_hidden_state`, no bias in the patch embedding.

use super::layer::{LayerNames, TowerLayer};
use super::{Tower, TowerConfig};
use crate::Result;
use crate::nn::{Checkpoint, Init, LayerNorm};
use crate::vision::{ImageProcessorConfig, Resample, Resize, VisionFeature};

/// The shorter side to the config's size, then its middle, as CLIP's processor does.
fn processor(config: &TowerConfig) -> ImageProcessorConfig {
    let side = config.image_size as u32;
    ImageProcessorConfig {
        resize: Resize::ShortestEdge(side),
        resample: Resample::Bicubic,
        center_crop: Some((side, side)),
        normalize: Some((
            [0.48145466, 0.4578275, 0.40821073],
            [0.26862954, 0.26130258, 0.27577711],
        )),
        ..ImageProcessorConfig::vit(side)
    }
}

/// Names shared by CLIP and SigLIP.
pub(super) const LAYER: LayerNames = LayerNames {
    norms: ["layer_norm1", "layer_norm2"],
    attention: [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
    ],
    scales: None,
};

/// The checkpoint below `vision_model.`, where it has that prefix.
pub(super) fn below_prefix(weights: &Checkpoint) -> Checkpoint {
    match weights.contains("vision_model.embeddings.position_embedding.weight") {
        true => weights.below("vision_model."),
        false => weights.clone(),
    }
}

pub(super) fn read(config: &TowerConfig, weights: &Checkpoint) -> Result<Tower> {
    let weights = &below_prefix(weights);
    let (d, patch, count) = (
        config.hidden_size,
        config.patch_size,
        1 + config.grid() * config.grid(),
    );
    let init = Init::Normal(0.02);
    let layers = (0..config.num_hidden_layers)
        .map(|i| TowerLayer::read(config, weights, &format!("encoder.layers.{i}"), &LAYER))
        .collect::<Result<Vec<_>>>()?;
    let patch_shape = [d, config.num_channels, patch, patch];
    Ok(Tower {
        feature: VisionFeature::default(),
        patch_weight: weights.weight("embeddings.patch_embedding.weight", &patch_shape, init)?,
        patch_bias: None,
        class: Some(weights.weight("embeddings.class_embedding", &[d], init)?),
        positions: weights.weight("embeddings.position_embedding.weight", &[count, d], init)?,
        norm_before: Some(LayerNorm::load(
            weights,
            "pre_layrnorm",
            d,
            config.layer_norm_eps,
        )?),
        layers,
        norm_after: None,
        processor,
        config: crate::ReadOnly::new(config.clone()),
    })
}
