//! SigLIP's image half, e.g. <https://huggingface.co/google/siglip-base-patch16-224>: no class token. The attention-pooling
//! head is not read: a language model takes the patches.

use super::clip::{LAYER, below_prefix};
use super::layer::TowerLayer;
use super::{Tower, TowerConfig};
use crate::Result;
use crate::nn::{Checkpoint, Init, LayerNorm};
use crate::vision::{ImageProcessorConfig, Resample, VisionFeature};

/// The whole picture at the config's size.
fn processor(config: &TowerConfig) -> ImageProcessorConfig {
    ImageProcessorConfig {
        resample: Resample::Bicubic,
        ..ImageProcessorConfig::vit(config.image_size as u32)
    }
}

pub(super) fn read(config: &TowerConfig, weights: &Checkpoint) -> Result<Tower> {
    let weights = &below_prefix(weights);
    let (d, patch, count) = (
        config.hidden_size,
        config.patch_size,
        config.grid() * config.grid(),
    );
    let init = Init::Normal(0.02);
    let layers = (0..config.num_hidden_layers)
        .map(|i| TowerLayer::read(config, weights, &format!("encoder.layers.{i}"), &LAYER))
        .collect::<Result<Vec<_>>>()?;
    let patch_shape = [d, config.num_channels, patch, patch];
    Ok(Tower {
        feature: VisionFeature::LastHiddenState,
        patch_weight: weights.weight("embeddings.patch_embedding.weight", &patch_shape, init)?,
        patch_bias: Some(weights.weight("embeddings.patch_embedding.bias", &[d], Init::Zeros)?),
        class: None,
        positions: weights.weight("embeddings.position_embedding.weight", &[count, d], init)?,
        norm_before: None,
        layers,
        norm_after: Some(LayerNorm::load(
            weights,
            "post_layernorm",
            d,
            config.layer_norm_eps,
        )?),
        processor,
        config: crate::ReadOnly::new(config.clone()),
    })
}
