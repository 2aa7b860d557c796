//! Damaged picture files and image processor settings.

use crate::edits::{
    Edit, TextEdits, apply, apply_within, edited_text, edited_weights, edits, text_edits,
    weight_edits,
};
use crate::{fuzz, read};
use glassbox_prelude::Error;
use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::image::{DynamicImage, ImageFormat};
use glassbox_prelude::nn::Checkpoint;
use glassbox_prelude::serde_json::{self, Value};
use glassbox_prelude::vision::{
    DecodeOptions, ExifPolicy, Image, ImageProcessor, ImageProcessorConfig, Modality, Resize,
    Tiling, Tower, TowerConfig,
};
use proptest::prelude::*;
use proptest::sample::Index;
use std::io::Cursor;
use std::path::Path;

/// Small pictures of every kind: the fixtures, and what the encoders write of one of them.
fn originals() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = [
        "checker_33x500.png",
        "la_64x80.png",
        "one_1x1.png",
        "palette_150x111.png",
        "rows3_50x3.png",
        "up_16x16.png",
        "exif6_120x80.jpg",
        "grayjpeg_99x64.jpg",
        "photo_200x150_q85_420.jpg",
    ]
    .map(|name| read(&format!("images/{name}")))
    .into();
    let small = read("images/up_16x16.png");
    let small = glassbox_prelude::image::load_from_memory(&small).expect("a fixture decodes");
    for format in [ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp] {
        for picture in [
            DynamicImage::from(small.to_rgb8()),
            DynamicImage::from(small.to_rgba8()),
        ] {
            let mut bytes = Vec::new();
            picture
                .write_to(&mut Cursor::new(&mut bytes), format)
                .expect("the encoder writes");
            files.push(bytes);
        }
    }
    files
}

#[derive(Clone, Debug)]
enum PictureEdits {
    Anywhere(Vec<Edit>),
    /// In the first bytes, where sizes and tables are.
    Start(Vec<Edit>),
}

fn picture_edits() -> impl Strategy<Value = PictureEdits> {
    prop_oneof![
        edits().prop_map(PictureEdits::Anywhere),
        edits().prop_map(PictureEdits::Start),
    ]
}

/// Makes the checksums of a PNG file true again, so that edits get past them.
fn repair_png(bytes: &mut [u8]) {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    if !bytes.starts_with(SIGNATURE) {
        return;
    }
    let mut at = SIGNATURE.len();
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(chunk) = bytes.get(at + 4..at.saturating_add(8).saturating_add(length)) else {
            return;
        };
        let checksum = crc32(chunk).to_be_bytes();
        let end = at + 8 + length;
        match bytes.get_mut(end..end + 4) {
            Some(place) => place.copy_from_slice(&checksum),
            None => return,
        }
        at = end + 4;
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn damaged_pictures_are_decoded_or_refused() {
    let originals = originals();
    let exact = ImageProcessor::new(ImageProcessorConfig::vit(16)).expect("valid settings");
    let cropping = ImageProcessor::new(ImageProcessorConfig {
        resize: Resize::ShortestEdge(8),
        center_crop: Some((12, 6)),
        ..ImageProcessorConfig::vit(16)
    })
    .expect("valid settings");
    let strategy = (any::<Index>(), picture_edits(), any::<bool>());
    fuzz(&strategy, |(which, edits, upright)| {
        let mut bytes = which.get(&originals).clone();
        match &edits {
            PictureEdits::Anywhere(edits) => apply(&mut bytes, edits),
            PictureEdits::Start(edits) => apply_within(&mut bytes, 64, edits),
        }
        repair_png(&mut bytes);
        let exif = match upright {
            true => ExifPolicy::Apply,
            false => ExifPolicy::Ignore,
        };
        let Ok(image) = Image::from_bytes(&bytes, DecodeOptions { exif }) else {
            return;
        };
        for processor in [&exact, &cropping] {
            if let Ok(pixels) = processor.preprocess(&image) {
                assert_eq!(pixels.dims()[..2], [1, 3]);
            }
        }
    });
}

#[test]
fn damaged_preprocessor_configs_are_used_or_refused() {
    let original: Value =
        serde_json::from_slice(&read("images/preprocessor_config.json")).expect("JSON");
    let crop = serde_json::json!({
        "do_resize": true, "size": {"shortest_edge": 12}, "do_center_crop": true, "crop_size": 10, "resample": 3,
        "do_rescale": true, "rescale_factor": 0.00392, "do_normalize": true, "image_mean": [0.4, 0.4, 0.4],
        "image_std": [0.2, 0.2, 0.2],
    });
    let image = Image::filled(9, 7, [10, 200, 30]).expect("it has pixels");
    let strategy = (any::<bool>(), text_edits());
    fuzz(&strategy, |(cropping, edits): (bool, TextEdits)| {
        let text = edited_text(if cropping { &crop } else { &original }, &edits);
        let text = String::from_utf8_lossy(&text);
        let Ok(config) = ImageProcessorConfig::from_json(&text, Path::new("edited")) else {
            return;
        };
        // Large sizes are allowed, but not worth the time.
        let side = match config.resize {
            Resize::Keep => 0,
            Resize::Exact { height, width } => height.max(width),
            Resize::ShortestEdge(side) | Resize::Padded { side, .. } => side,
        };
        let crop = config
            .center_crop
            .map_or(0, |(height, width)| height.max(width));
        let Ok(processor) = ImageProcessor::new(config) else {
            return;
        };
        if side.max(crop) <= 512 {
            _ = processor.preprocess(&image);
        }
    });
}

#[test]
fn damaged_tiling_configs_are_used_or_refused() {
    let split = serde_json::json!({
        "image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 40}, "max_image_size": {"longest_edge": 16},
        "do_image_splitting": true, "do_resize": true, "resample": 1, "do_rescale": true, "rescale_factor": 0.00392,
        "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    });
    let anyres = serde_json::json!({
        "image_processor_type": "LlavaNextImageProcessor", "size": {"shortest_edge": 12},
        "crop_size": {"height": 12, "width": 12}, "image_grid_pinpoints": [[12, 24], [24, 12], [24, 24]],
        "do_center_crop": true, "resample": 3, "image_mean": [0.4, 0.4, 0.4], "image_std": [0.2, 0.2, 0.2],
    });
    let image = Image::filled(31, 7, [10, 200, 30]).expect("it has pixels");
    let strategy = (any::<bool>(), text_edits());
    fuzz(&strategy, |(cutting, edits): (bool, TextEdits)| {
        let text = edited_text(if cutting { &split } else { &anyres }, &edits);
        let text = String::from_utf8_lossy(&text);
        let Ok(tiling) = Tiling::from_json(&text, Path::new("edited")) else {
            return;
        };
        match tiling.tile(&image) {
            Ok(tiles) => assert_eq!(tiles.pixel_values.dims()[0], tiles.count()),
            Err(error) => assert!(matches!(error, Error::Input(_)), "{error}"),
        }
    });
}

#[test]
fn damaged_tower_configs_are_read_or_refused() {
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let originals = [
        read(include_str!("../../../tests/towers/clip/config.json")),
        read(include_str!("../../../tests/towers/siglip2/config.json")),
        read(include_str!("../../../tests/towers/dinov2/config.json")),
        read(include_str!("../../../tests/towers/smolvlm/config.json")),
    ];
    let strategy = (any::<Index>(), text_edits());
    fuzz(&strategy, |(which, edits): (Index, TextEdits)| {
        let text = edited_text(which.get(&originals), &edits);
        let text = String::from_utf8_lossy(&text);
        if let Ok(config) = TowerConfig::from_json(&text, Path::new("edited")) {
            assert!(config.grid() > 0 && config.hidden_size % config.num_attention_heads == 0);
        }
    });
}

#[test]
fn damaged_towers_load_or_are_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/towers");
    let towers = ["clip", "siglip", "siglip2", "dinov2", "smolvlm"].map(|name| {
        let read = |file: &str| std::fs::read(folder.join(name).join(file)).expect("a fixture");
        let config: Value = serde_json::from_slice(&read("config.json")).expect("JSON");
        (config, read("model.safetensors"))
    });
    let strategy = (any::<Index>(), text_edits(), weight_edits(), any::<bool>());
    fuzz(&strategy, |(which, edits, weight_edits, whole)| {
        let (config, weights) = which.get(&towers);
        let text = edited_text(config, &edits);
        let text = match whole {
            true => config.to_string(),
            false => String::from_utf8_lossy(&text).into_owned(),
        };
        let Ok(config) = TowerConfig::from_json(&text, Path::new("edited")) else {
            return;
        };
        let weights = edited_weights(weights, &weight_edits);
        let Ok(weights) = Checkpoint::from_bytes("edited", weights, DType::F32, &Device::Cpu)
        else {
            return;
        };
        if let Ok(tower) = Tower::from_checkpoint(&config, &weights)
            && config.image_size <= 256
        {
            let shape = (1, config.num_channels, config.image_size, config.image_size);
            let pixels = Tensor::zeros(shape, DType::F32, &Device::Cpu);
            _ = tower.encode(&pixels.expect("a small picture"));
        }
    });
}
