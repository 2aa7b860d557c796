//! Image processor against Pillow and transformers: equal to the bit where the file is lossless.

use crate::compare::{Fixtures, Group, Outcome};
use glassbox_prelude::candle_core::Tensor;
use glassbox_prelude::serde_json::Value;
use glassbox_prelude::vision::{AlphaPolicy, Image, ImageProcessor, ImageProcessorConfig, Resize};

/// Mean and largest difference in levels that JPEG decoders may have, by the notes beside the fixtures.
const JPEG_FULL_COLOUR: (f64, f64) = (0.5, 6.0);
const JPEG_HALF_COLOUR: (f64, f64) = (1.0, 16.0);

pub fn processor(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let index = fixtures.json("images/index.json")?;
    let index = index.as_object().ok_or("index.json is not an object")?;
    let processor = ImageProcessor::from_file(fixtures.path("images/preprocessor_config.json"))?;

    let levels = fixtures.tensors("images/expected_224_u8.safetensors")?;
    let table: Vec<f32> = levels.get("__lut_f32")?.to_vec1()?;
    let values = |levels: &Tensor| -> Result<Vec<f32>, Box<dyn std::error::Error>> {
        let levels: Vec<u8> = levels.flatten_all()?.to_vec1()?;
        Ok(levels.iter().map(|level| table[*level as usize]).collect())
    };
    let white = fixtures.tensors("images/expected_224_u8_alpha_on_white.safetensors")?;
    let full = fixtures.tensors("images/expected_224_f32.safetensors")?;
    let side = fixtures.json("vit/config.json")?["image_size"]
        .as_u64()
        .ok_or("no image_size")? as u32;
    let small = fixtures.tensors(&format!("images/expected_{side}_f32.safetensors"))?;
    let small_processor = ImageProcessor::new(ImageProcessorConfig {
        resize: Resize::Exact {
            height: side,
            width: side,
        },
        ..processor.config().clone()
    })?;

    for (name, about) in index {
        let image = Image::load(fixtures.path("images").join(name))?;
        let found = processor.preprocess(&image)?; // [1, 3, H, W]
        compare(group, name, about, &found, &values(levels.get(name)?)?)?;
        if let Ok(wanted) = full.get(name) {
            compare(
                group,
                &format!("{name} spelled out"),
                about,
                &found,
                &flat(wanted)?,
            )?;
        }
        let found = small_processor.preprocess(&image)?;
        compare(
            group,
            &format!("{name} at {side}"),
            about,
            &found,
            &flat(small.get(name)?)?,
        )?;
        if let Ok(wanted) = white.get(name) {
            let on_white = processor
                .clone()
                .with_alpha(AlphaPolicy::OnWhite)
                .preprocess(&image)?;
            compare(
                group,
                &format!("{name} on white"),
                about,
                &on_white,
                &values(wanted)?,
            )?;
        }
    }
    Ok(())
}

fn flat(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// Differences are counted in levels: 2/255 in values normalised with 0.5 and 0.5.
fn compare(
    group: &mut Group,
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
    let limits = match name {
        _ if exact => (0.0, 0.0),
        half if half.contains("420") => JPEG_HALF_COLOUR,
        _ => JPEG_FULL_COLOUR,
    };
    group.within(&format!("{name}, levels"), worst, limits.1);
    if !exact {
        group.within(&format!("{name}, mean of levels"), mean, limits.0);
    }
    Ok(())
}
