//! The image half of Idefics3, SmolVLM and SmolVLM2, e.g. <https://huggingface.co/HuggingFaceTB/SmolVLM-256M-Instruct>: SigLIP
//! without its pooling head, for tiles of one size. A whole picture is cut into them by [`crate::vision::tiling`].
//!
//! The reference finds the row of the position table for a patch by comparing fractions in f32, so that on some grids (19, 25, 29 …
//! patches a side with torch 2.15, others on other processors) it takes a neighbour's. Here a patch has its own, as it does there for
//! the published models' grids: 26, 27 and 32.

use super::family::{Defaults, Family};
use super::siglip::{DEFAULTS, NAMES};
use super::TowerConfig;
use crate::vision::{ImageProcessorConfig, Resample, VisionFeature};

pub(super) const FAMILY: Family = Family {
    name: "SmolVLM",
    // The inner configs of some files have the type of the whole.
    model_types: &["smolvlm_vision", "idefics3_vision", "idefics3", "smolvlm"],
    wholes: &["idefics3", "smolvlm"],
    refused: &[],
    defaults: Defaults {
        hidden_size: 1152,
        num_attention_heads: 16,
        patch_size: 32,
        ..DEFAULTS
    },
    own_fields: |fields, _| {
        // How pictures are cut is said by the image processor's file, which is read.
        fields.ignore(&["size", "max_image_size", "use_base_siglip"]);
        Ok(())
    },
    prefixes: &["model.vision_model.", "vision_model."],
    names: NAMES,
    unread: &["text_model.", "connector.", "lm_head.", "position_ids"],
    carried: &[],
    architecture: "SmolVLMVisionTransformer",
    saved_below: "",
    own_saved: |_, _| {},
    feature: VisionFeature::LastHiddenState,
    processor,
};

/// One tile, without cutting.
fn processor(config: &TowerConfig) -> ImageProcessorConfig {
    ImageProcessorConfig {
        resample: Resample::Lanczos,
        ..ImageProcessorConfig::vit(config.image_size as u32)
    }
}
