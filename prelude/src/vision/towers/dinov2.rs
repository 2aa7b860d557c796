//! DINOv2, e.g. <https://huggingface.co/facebook/dinov2-base>: learned scales on what each half of a layer adds. Stored for
//! 518 pixels; [`Tower::with_image_size`] makes it fit the 224 of its image processor.

use super::layer::{LayerNames, TowerLayer};
use super::{Tower, TowerConfig};
use crate::Result;
use crate::nn::{Checkpoint, Init, LayerNorm};
use crate::vision::{ImageProcessorConfig, Resample, Resize, VisionFeature};

/// A little more than the config's size around the middle, as DINOv2's processor does (256 for 224), with ImageNet's mean
/// and standard deviation.
fn processor(config: &TowerConfig) -> ImageProcessorConfig {
    let side = config.image_size as u32;
    ImageProcessorConfig {
        resize: Resize::ShortestEdge((f64::from(side) * 256.0 / 224.0).round() as u32),
        resample: Resample::Bicubic,
        center_crop: Some((side, side)),
        normalize: Some(([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
        ..ImageProcessorConfig::vit(side)
    }
}

const LAYER: LayerNames = LayerNames {
    norms: ["norm1", "norm2"],
    attention: [
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
    ],
    scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
};

pub(super) fn read(config: &TowerConfig, weights: &Checkpoint) -> Result<Tower> {
    let weights = &match weights.contains("dinov2.embeddings.cls_token") {
        true => weights.below("dinov2."),
        false => weights.clone(),
    };
    let (d, patch, count) = (
        config.hidden_size,
        config.patch_size,
        1 + config.grid() * config.grid(),
    );
    let init = Init::Normal(0.02);
    let layers = (0..config.num_hidden_layers)
        .map(|i| TowerLayer::read(config, weights, &format!("encoder.layer.{i}"), &LAYER))
        .collect::<Result<Vec<_>>>()?;
    let projection = "embeddings.patch_embeddings.projection";
    let patch_shape = [d, config.num_channels, patch, patch];
    Ok(Tower {
        feature: VisionFeature::LastHiddenState,
        patch_weight: weights.weight(&format!("{projection}.weight"), &patch_shape, init)?,
        patch_bias: Some(weights.weight(&format!("{projection}.bias"), &[d], Init::Zeros)?),
        class: Some(weights.weight("embeddings.cls_token", &[1, 1, d], init)?),
        positions: weights.weight("embeddings.position_embeddings", &[1, count, d], init)?,
        norm_before: None,
        layers,
        norm_after: Some(LayerNorm::load(
            weights,
            "layernorm",
            d,
            config.layer_norm_eps,
        )?),
        processor,
        config: crate::ReadOnly::new(config.clone()),
    })
}
