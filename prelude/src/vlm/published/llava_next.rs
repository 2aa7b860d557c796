//! LLaVA-NeXT (<https://huggingface.co/llava-hf/llava-v1.6-mistral-7b-hf>): CLIP on the tiles of a picture of any resolution, two
//! linear layers, a learned vector behind each row of patches, Llama, Mistral or another. Each picture of a prompt is cut.

use super::folder::Folder;
use super::llava::{Common, NAMES, NEWER_NAMES};
use super::{Blueprint, Layout};
use crate::nn::Checkpoint;
use crate::projector::{AnyresMlp, Mlp2x, Projector};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::{ImageProcessor, Positions, Tiling, default_pinpoints};

pub(super) const LAYOUT: Layout = Layout {
    name: "LLaVA-NeXT",
    model_type: "llava_next",
    architecture: "LlavaNextForConditionalGeneration",
    names: &[NAMES, NEWER_NAMES],
    template: None,
    video: None,
    read: |fields, folder| {
        let common = Common::read(fields, folder, ("clip_vision_model", "llama"), -2, "default")?;
        in_tiles(fields, folder, common, "LlavaNext", None)
    },
};

/// The rest of a layout whose pictures are cut in LLaVA's way; `most`: tiles that a grid has at most, before it is shrunk.
pub(super) fn in_tiles(
    fields: &mut Fields,
    folder: &Folder,
    common: Common,
    processor: &str,
    most: Option<usize>,
) -> Complaint<Blueprint> {
    let Common {
        tower,
        feature,
        mlp,
        text,
        image_token,
    } = common;
    fields.only(
        "use_image_newline_parameter",
        &true.into(),
        "without image_newline it is another model",
    )?;
    let tiling = folder.tiling()?;
    let Tiling::Anyres(anyres) = &tiling else {
        return Err(
            "the image processor cuts pictures in Idefics3's way, the model reads LLaVA's tiles (image_grid_pinpoints)".into(),
        );
    };
    let pinpoints: Vec<(u32, u32)> = match fields.take("image_grid_pinpoints")? {
        Some(pinpoints) => pinpoints,
        None => default_pinpoints(processor),
    };
    if pinpoints != anyres.pinpoints() {
        return Err(
            "image_grid_pinpoints (or, where the field is absent, what its class takes for it) are others than those of the image \
             processor's file"
                .into(),
        );
    }
    let side = tower.image_size as u32;
    let made = tiling.numbers().output_size();
    if made.is_some_and(|made| made != (side, side)) {
        return Err(format!(
            "the image processor makes tiles of {made:?} pixels, the tower reads {side}×{side} (vision_config.image_size)"
        ));
    }
    let image_processor =
        ImageProcessor::new(tiling.numbers().clone()).map_err(|error| error.to_string())?;
    let (input, output) = (tower.hidden_size * feature.states(), text.hidden_size);
    let projector = move |weights: &Checkpoint, positions: Positions| {
        if positions.special != mlp.left_out {
            return Err(crate::Error::Config(format!(
                "vision_feature_select_strategy leaves out {} positions in front of a tile's patches, the tower has {} there: tiles \
                 can only be put together of all of their patches and nothing else",
                mlp.left_out, positions.special
            )));
        }
        let mlp = Mlp2x::read(weights, (input, output), mlp.bias, mlp.activation, mlp.left_out)?;
        Ok(Projector::from(AnyresMlp::read(weights, mlp, most)?))
    };
    Ok(Blueprint {
        tower,
        feature,
        llm: text,
        projector: Box::new(projector),
        image_processor,
        tiling: Some(tiling),
        image_token,
        words: None,
    })
}
