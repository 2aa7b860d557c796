//! Image processor against Pillow and transformers: equal to the bit where the file is lossless.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use glassbox_prelude::vision::{AlphaPolicy, Image, ImageProcessor, ImageProcessorConfig, Resize};
use serde_json::Value;

use super::{Outcome, Row, read_json};

/// Mean and largest difference in levels that JPEG decoders may have, by the reference's notes.
const JPEG_FULL_COLOUR: (f64, f64) = (0.5, 6.0);
const JPEG_HALF_COLOUR: (f64, f64) = (1.0, 16.0);

pub fn check(fixtures: &Path, rows: &mut Vec<Row>) -> Outcome {
    let folder = fixtures.join("images");
    let index = read_json(&folder.join("index.json"))?;
    let index = index.as_object().ok_or("index.json is not an object")?;
    let processor = ImageProcessor::from_file(folder.join("preprocessor_config.json"))?;

    let levels = load(&folder, "expected_224_u8.safetensors")?;
    let table: Vec<f32> = levels.get("__lut_f32").ok_or("no __lut_f32")?.to_vec1()?;
    let white = load(&folder, "expected_224_u8_alpha_on_white.safetensors")?;
    let full = load(&folder, "expected_224_f32.safetensors")?;
    let vit = read_json(&fixtures.join("vit/config.json"))?;
    let size = vit["image_size"].as_u64().ok_or("no image_size")? as u32;
    let small = load(&folder, &format!("expected_{size}_f32.safetensors"))?;
    let small_processor = ImageProcessor::new(ImageProcessorConfig {
        resize: Resize::Exact {
            height: size,
            width: size,
        },
        ..processor.config().clone()
    })?;

    for (name, about) in index {
        let image = Image::load(folder.join(name))?;
        let wanted: Vec<u8> = levels
            .get(name)
            .ok_or(format!("no levels of {name}"))?
            .flatten_all()?
            .to_vec1()?;
        let wanted: Vec<f32> = wanted.iter().map(|level| table[*level as usize]).collect();
        compare(rows, name, about, &processor.preprocess(&image)?, &wanted)?;
        if let Some(full) = full.get(name) {
            compare(
                rows,
                &format!("{name} f32"),
                about,
                &processor.preprocess(&image)?,
                &flat(full)?,
            )?;
        }
        let wanted = small
            .get(name)
            .ok_or(format!("no small values of {name}"))?;
        compare(
            rows,
            &format!("{name} at {size}"),
            about,
            &small_processor.preprocess(&image)?,
            &flat(wanted)?,
        )?;
        if let Some(wanted) = white.get(name) {
            let wanted: Vec<u8> = wanted.flatten_all()?.to_vec1()?;
            let wanted: Vec<f32> = wanted.iter().map(|level| table[*level as usize]).collect();
            let on_white = processor
                .clone()
                .with_alpha(AlphaPolicy::OnWhite)
                .preprocess(&image)?;
            compare(rows, &format!("{name} on white"), about, &on_white, &wanted)?;
        }
    }
    Ok(())
}

fn load(folder: &Path, name: &str) -> Result<HashMap<String, Tensor>, Box<dyn std::error::Error>> {
    Ok(safetensors::load(folder.join(name), &Device::Cpu)?)
}

fn flat(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// Differences are counted in levels: 2/255 in values normalised with 0.5 and 0.5.
fn compare(
    rows: &mut Vec<Row>,
    name: &str,
    about: &Value,
    found: &Tensor,
    wanted: &[f32],
) -> Outcome {
    let found = flat(found)?;
    if found.len() != wanted.len() {
        return Err(format!("{name}: {} values, {} wanted", found.len(), wanted.len()).into());
    }
    let differences = found
        .iter()
        .zip(wanted)
        .map(|(one, other)| f64::from((one - other).abs()) * 127.5);
    let worst = differences.clone().fold(0.0, f64::max);
    let mean = differences.sum::<f64>() / wanted.len() as f64;
    let exact = about["lossless_file"]
        .as_bool()
        .ok_or(format!("{name}: lossless_file is missing"))?;
    let (mean_limit, limit) = match name {
        _ if exact => (0.0, 0.0),
        half if half.contains("420") => JPEG_HALF_COLOUR,
        _ => JPEG_FULL_COLOUR,
    };
    rows.push(Row::new("images", name, worst, limit));
    if !exact {
        rows.push(Row::new(
            "images",
            &format!("{name} (mean)"),
            mean,
            mean_limit,
        ));
    }
    Ok(())
}
