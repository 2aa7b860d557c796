//! `preprocessor_config.json` → an image processor's settings: each field read, or refused by name.

use std::path::Path;

use serde_json::{Value, json};

use super::fields::{Complaint, Fields};
use super::image_processor::mean_colour;
use super::{AlphaPolicy, ImageProcessorConfig, Resample, Rescaling, Resize};
use crate::{Error, Result};

/// Mean and standard deviation of OpenAI's CLIP.
pub(super) const CLIP: [[f64; 3]; 2] = [
    [0.48145466, 0.4578275, 0.40821073],
    [0.26862954, 0.26130258, 0.27577711],
];

/// Stands among the fields of a LLaVA processor that pads pictures to a square.
const PADDED: &str = " pads";

/// Stands among the fields of LLaVA-OneVision's processor, which cuts a picture only where it is a prompt's only one.
pub(super) const ALONE: &str = " alone";

/// A size as it is written: one number, or a dict with these keys.
pub(super) enum Size {
    Side(u32),
    Both { height: u32, width: u32 },
    Shortest(u32),
    Longest(u32),
}

/// Reads a file with `reader`; what that leaves over is an error.
///
/// # Errors
/// `Json`, or `Config` with the file's name in front.
pub(super) fn read<T>(
    text: &str,
    file: &Path,
    reader: impl FnOnce(&mut Fields) -> Complaint<T>,
) -> Result<T> {
    let value: Value = serde_json::from_str(text).map_err(|source| Error::Json {
        path: file.into(),
        source,
    })?;
    let all = || {
        let mut fields = Fields::of(value)?;
        defaults_of_kind(&mut fields)?;
        let read = reader(&mut fields)?;
        // Bookkeeping, the form of what comes out, and what pads pictures of one size by nothing.
        fields.ignore(&[
            "_processor_class",
            "_valid_processor_keys",
            "auto_map",
            "data_format",
            "default_to_square",
            "device",
            "disable_grouping",
            "do_convert_rgb",
            "do_pad",
            "feature_extractor_type",
            "image_processor_type",
            "input_data_format",
            "processor_class",
            "return_tensors",
        ]);
        for (name, why) in [
            ("do_flip_channel_order", "channels stay as they are"),
            ("do_reduce_labels", "there are no labels here"),
        ] {
            fields.only(name, &json!(false), why)?;
        }
        fields.finish("an image processor")?;
        Ok(read)
    };
    all().map_err(|complaint: String| Error::Config(format!("{}: {complaint}", file.display())))
}

/// What transformers' classes take where a file says nothing. A file without the name of its class is a ViT's.
fn defaults_of_kind(fields: &mut Fields) -> Complaint<()> {
    let mut kind = String::new();
    for name in ["image_processor_type", "feature_extractor_type"] {
        if fields.has(name) && kind.is_empty() {
            kind = fields.take::<String>(name)?.unwrap_or_default();
        }
    }
    let end = kind
        .find("ImageProcessor")
        .or_else(|| kind.find("FeatureExtractor"));
    let kind = &kind[..end.unwrap_or(kind.len())];
    let defaults = match kind {
        "CLIP" | "Bit" | "Llava" | "LlavaNext" => json!({
            "resample": 3, "do_center_crop": true, "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224}, "image_mean": CLIP[0], "image_std": CLIP[1],
        }),
        "LlavaOnevision" => json!({
            "resample": 3, "size": {"height": 384, "width": 384}, "image_mean": CLIP[0], "image_std": CLIP[1],
        }),
        "Siglip" => json!({"resample": 3, "size": {"height": 224, "width": 224}}),
        "Idefics3" | "SmolVLM" => json!({
            "resample": 1, "size": {"longest_edge": 1456}, "max_image_size": {"longest_edge": 364},
            "do_image_splitting": true,
        }),
        _ => json!({}),
    };
    if kind == "Llava" && fields.take_or("do_pad", false)? {
        fields.default(PADDED, true.into());
    }
    let pinpoints = default_pinpoints(kind);
    if !pinpoints.is_empty() {
        fields.default("image_grid_pinpoints", json!(pinpoints));
    }
    if kind == "LlavaOnevision" {
        fields.default(ALONE, true.into());
    }
    if let Value::Object(defaults) = defaults {
        for (name, value) in defaults {
            fields.default(&name, value);
        }
    }
    Ok(())
}

/// Heights and widths that pictures are fitted into where a file says nothing, by the kind of its class; none for kinds that cut none.
pub(crate) fn default_pinpoints(kind: &str) -> Vec<(u32, u32)> {
    let sides = || (1..=6_u32).map(|side| side * 384);
    match kind {
        "LlavaNext" => vec![(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)],
        "LlavaOnevision" => sides()
            .flat_map(|height| sides().map(move |width| (height, width)))
            .collect(),
        _ => Vec::new(),
    }
}

/// The steps that every processor has: resize, crop, rescale, normalise.
///
/// # Errors
/// For values missing or of the wrong kind, and for a file that cuts pictures into tiles.
pub(super) fn plain(fields: &mut Fields) -> Complaint<ImageProcessorConfig> {
    for name in [
        "image_grid_pinpoints",
        "do_image_splitting",
        "max_image_size",
    ] {
        if fields.has(name) {
            return Err(format!(
                "{name} cuts pictures into tiles: read this file with `Tiling::from_file`"
            ));
        }
    }
    let do_resize = fields.take_or("do_resize", true)?;
    let do_center_crop = fields.take_or("do_center_crop", false)?;
    let padded = fields.take_or(PADDED, false)?;
    let resize = match size(fields, "size")? {
        Some(Size::Side(side) | Size::Shortest(side)) if do_resize && padded => Resize::Padded {
            side,
            colour: [0; 3],
        },
        _ if padded => return Err("do_pad makes pictures squares: size must be one length".into()),
        _ if !do_resize => Resize::Keep,
        // a bare number is a side of a square for ViT, the shorter side where a crop follows (CLIP)
        Some(Size::Side(side)) if do_center_crop => Resize::ShortestEdge(side),
        Some(Size::Side(side)) => Resize::Exact {
            height: side,
            width: side,
        },
        Some(Size::Both { height, width }) => Resize::Exact { height, width },
        Some(Size::Shortest(side)) => Resize::ShortestEdge(side),
        Some(Size::Longest(_)) => {
            return Err("size has longest_edge, which only `Tiling::from_file` reads".into());
        }
        None => return Err("do_resize is set but size is missing".into()),
    };
    let center_crop = match size(fields, "crop_size")? {
        _ if !do_center_crop => None,
        Some(Size::Side(side)) => Some((side, side)),
        Some(Size::Both { height, width }) => Some((height, width)),
        _ => return Err("do_center_crop is set but crop_size has no height and width".into()),
    };
    let mut config = numbers(fields, resize, center_crop)?;
    if let Resize::Padded { colour, .. } = &mut config.resize {
        *colour = mean_colour(config.normalize);
    }
    Ok(config)
}

/// The steps on levels: rescale and normalise, and the filter, behind sizes that are known.
///
/// # Errors
/// For values of the wrong kind.
pub(super) fn numbers(
    fields: &mut Fields,
    resize: Resize,
    center_crop: Option<(u32, u32)>,
) -> Complaint<ImageProcessorConfig> {
    let do_rescale = fields.take_or("do_rescale", true)?;
    let factor = fields.take_or("rescale_factor", 1.0 / 255.0)?;
    let do_normalize = fields.take_or("do_normalize", true)?;
    let (mean, std) = (
        channels(fields, "image_mean")?,
        channels(fields, "image_std")?,
    );
    Ok(ImageProcessorConfig {
        resize,
        resample: fields.take_or("resample", Resample::Bilinear)?,
        center_crop,
        rescale_factor: do_rescale.then_some(factor),
        normalize: do_normalize.then_some((mean, std)),
        alpha: AlphaPolicy::default(),
        rescaling: Rescaling::default(),
    })
}

/// One number for each channel, or one for all.
fn channels(fields: &mut Fields, name: &str) -> Complaint<[f64; 3]> {
    match fields.take::<Value>(name)? {
        None => Ok([0.5; 3]),
        Some(Value::Number(one)) => Ok([one.as_f64().unwrap_or(f64::NAN); 3]),
        Some(several) => {
            fields.default(name, several);
            Ok(fields.take(name)?.unwrap_or([0.5; 3]))
        }
    }
}

/// A size, in any of the ways in which it is written.
///
/// # Errors
/// For keys that are not understood.
pub(super) fn size(fields: &mut Fields, name: &str) -> Complaint<Option<Size>> {
    let Some(value) = fields.take::<Value>(name)? else {
        return Ok(None);
    };
    let in_it = |complaint: String| format!("{name}: {complaint}");
    if !value.is_object() {
        fields.default(name, value);
        return Ok(fields.take(name)?.map(Size::Side));
    }
    let mut keys = Fields::of(value).map_err(in_it)?;
    let mut take = |key: &str| keys.take::<u32>(key).map_err(in_it);
    let (height, width) = (take("height")?, take("width")?);
    let (shortest, longest) = (take("shortest_edge")?, take("longest_edge")?);
    keys.finish("a size").map_err(in_it)?;
    match (height, width, shortest, longest) {
        (Some(height), Some(width), None, None) => Ok(Some(Size::Both { height, width })),
        (None, None, Some(side), None) => Ok(Some(Size::Shortest(side))),
        (None, None, None, Some(side)) => Ok(Some(Size::Longest(side))),
        _ => Err(format!(
            "{name} must have height and width, or shortest_edge, or longest_edge, and nothing besides"
        )),
    }
}
