//! DINOv2, e.g. <https://huggingface.co/facebook/dinov2-base>: learned scales on what each half of a layer adds. Stored for
//! 518 pixels; [`Tower::with_image_size`](super::Tower::with_image_size) makes it fit the 224 of its image processor.

use serde_json::json;

use super::family::{Defaults, Family, Names};
use super::{Activation, TowerConfig};
use crate::vision::layer::LayerNames;
use crate::vision::{ImageProcessorConfig, Resample, Resize, VisionFeature};

pub(super) const FAMILY: Family = Family {
    name: "DINOv2",
    model_types: &["dinov2"],
    wholes: &[],
    refused: &[(
        "dinov2_with_registers",
        "DINOv2 with register tokens is not supported: use one without, such as facebook/dinov2-small",
    )],
    defaults: Defaults {
        hidden_size: 768,
        intermediate_size: None,
        num_attention_heads: 12,
        image_size: 224,
        patch_size: 14,
        layer_norm_eps: 1e-6,
        activation: Activation::Gelu,
    },
    own_fields: |fields, config| {
        let giant = "DINOv2 giant is not supported: use small, base or large";
        fields.only("use_swiglu_ffn", &json!(false), giant)?;
        if let Some(ratio) = fields.take::<usize>("mlp_ratio")? {
            let (width, usual) = (config.intermediate_size, config.hidden_size.saturating_mul(4));
            config.intermediate_size = config.hidden_size.saturating_mul(ratio);
            if width != usual && width != config.intermediate_size {
                return Err(format!(
                    "intermediate_size {width} is not mlp_ratio {ratio} times hidden_size {}",
                    config.hidden_size
                ));
            }
        }
        config.qkv_bias = fields.take_or("qkv_bias", true)?;
        // Of first values, of masked pretraining, and of its use as a backbone of other models.
        fields.ignore(&[
            "layerscale_value",
            "use_mask_token",
            "apply_layernorm",
            "reshape_hidden_states",
            "stage_names",
            "out_features",
            "out_indices",
        ]);
        Ok(())
    },
    prefixes: &["dinov2."],
    names: Names {
        class: Some("embeddings.cls_token"),
        patch: "embeddings.patch_embeddings.projection",
        patch_bias: true,
        positions: "embeddings.position_embeddings",
        batched: true,
        norm_before: None,
        layers: "encoder.layer",
        layer: LayerNames {
            norms: ["norm1", "norm2"],
            attention: [
                "attention.attention.query",
                "attention.attention.key",
                "attention.attention.value",
                "attention.output.dense",
            ],
            mlp: ["mlp.fc1", "mlp.fc2"],
            scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
        },
        norm_after: Some("layernorm"),
    },
    unread: &["embeddings.mask_token", "classifier."],
    carried: &[],
    architecture: "Dinov2Model",
    saved_below: "",
    own_saved: |sizes, config| {
        config.insert("qkv_bias".into(), sizes.qkv_bias.into());
        config.insert("use_mask_token".into(), false.into());
        // transformers knows the width of the MLP by this alone.
        if sizes.intermediate_size.is_multiple_of(sizes.hidden_size) {
            let ratio = sizes.intermediate_size / sizes.hidden_size;
            config.insert("mlp_ratio".into(), ratio.into());
        }
    },
    feature: VisionFeature::LastHiddenState,
    processor,
};

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
