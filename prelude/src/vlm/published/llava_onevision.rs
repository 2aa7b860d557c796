//! LLaVA-OneVision, e.g. <https://huggingface.co/llava-hf/llava-onevision-qwen2-0.5b-ov-hf>: SigLIP on tiles of any resolution, two linear
//! layers, a learned vector behind each row of patches, Qwen2. One picture a prompt is cut; of several each is one tile. Its videos are
//! not read.

use super::Layout;
use super::llava::{Common, NAMES, NEWER_NAMES};
use super::llava_next::in_tiles;

pub(super) const LAYOUT: Layout = Layout {
    name: "LLaVA-OneVision",
    model_type: "llava_onevision",
    architecture: "LlavaOnevisionForConditionalGeneration",
    names: &[NAMES, NEWER_NAMES],
    template: None,
    video: Some("<video>"),
    read: |fields, folder| {
        let common = Common::read(fields, folder, ("siglip_vision_model", "qwen2"), -1, "full")?;
        // Videos.
        fields.ignore(&["video_token_id", "video_token_index"]);
        let ratio: String = fields.take_or("vision_aspect_ratio", "anyres_max_9".to_owned())?;
        let most = ratio
            .strip_prefix("anyres_max_")
            .and_then(|most| most.parse::<usize>().ok());
        let most = most.filter(|most| *most > 0).ok_or_else(|| {
            format!("vision_aspect_ratio is {ratio:?}: only \"anyres_max_\" and a number of tiles are supported")
        })?;
        in_tiles(fields, folder, common, "LlavaOnevision", Some(most))
    },
};
