//! A number that is planted on the token of a bright patch is found where the patch lies in the picture, however the picture was cut.

use super::*;
use crate::inspect::{caption_attention, encoder_attention_in_tiles, prompt_attention};
use crate::vlm::Preset;
use candle_core::{DType, Device, IndexOp};
use image::{Rgb, RgbImage};
use std::path::Path;

pub(in crate::inspect) fn model(folder: &str) -> Result<Vlm> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let preset = Preset::published(fixtures.join(folder).display().to_string());
    Vlm::from_pretrained(&preset.dtype(DType::F32), &Device::Cpu)
}

/// Black, with one white part: its middle as a share of height and of width.
pub(in crate::inspect) fn spot(
    (width, height): (u32, u32),
    (down, across): (f64, f64),
) -> Result<Image> {
    let (y, x) = (down * f64::from(height), across * f64::from(width));
    let near = |at: u32, middle: f64, side: u32| {
        (f64::from(at) + 0.5 - middle).abs() < 0.06 * f64::from(side)
    };
    Image::from_rgb(RgbImage::from_fn(width, height, |column, row| {
        match near(column, x, width) && near(row, y, height) {
            true => Rgb([255; 3]),
            false => Rgb([0; 3]),
        }
    }))
}

/// The brightest patch of pixel values `[1, 3, H, W]`, of `side` × `side`.
fn brightest(pixels: &Tensor, side: usize) -> Result<(f32, usize)> {
    let (_, _, height, width) = pixels.dims4()?;
    let (tall, wide) = (height / side, width / side);
    let mut best = (f32::NEG_INFINITY, 0);
    for patch in 0..side * side {
        let (row, column) = (patch / side, patch % side);
        let part = pixels
            .narrow(2, row * tall, tall)?
            .narrow(3, column * wide, wide)?;
        let level = part.mean_all()?.to_scalar::<f32>()?;
        if level > best.0 {
            best = (level, patch);
        }
    }
    Ok(best)
}

/// How bright each of `rows` × `columns` patches of a picture is.
fn levels(picture: &Image, (rows, columns): (usize, usize)) -> Vec<f64> {
    let range = |at: usize, all: usize, side: u32| {
        (at * side as usize / all) as u32..((at + 1) * side as usize / all) as u32
    };
    let mut levels = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let (mut sum, mut count) = (0_u64, 0_u64);
            for y in range(row, rows, picture.height()) {
                for x in range(column, columns, picture.width()) {
                    sum += u64::from(picture.rgb().get_pixel(x, y).0[0]);
                    count += 1;
                }
            }
            levels.push(sum as f64 / count.max(1) as f64);
        }
    }
    levels
}

/// Plants a number on the token of the brightest patch among all tiles of the grid, and looks for it on the map.
fn planted_is_found(vlm: &Vlm, image: &Image, at: (f64, f64)) -> Result<()> {
    let prompt = vlm.question_prompt(image, "a", "b")?;
    let sequence = vlm.sequence(std::slice::from_ref(&prompt))?;
    let inputs = input_places(&sequence);
    let drawn = pictures_of(vlm, &prompt)?;
    let [in_tiles, whole] = &drawn[..] else {
        return Err(Error::Input(format!("{} maps", drawn.len())));
    };
    assert!(in_tiles.name.contains("tiles") && whole.name.contains("one tile"));
    let tile = placed(vlm, None)?;
    // The token, by the pixel values alone.
    let tiling = vlm
        .tiling
        .as_ref()
        .ok_or_else(|| Error::Input("no tiling".into()))?;
    let tiles = tiling.tile(image)?;
    let mut best = (f32::NEG_INFINITY, 0, 0);
    for number in (0..tiles.count()).filter(|number| tiles.place(*number).is_some()) {
        let (level, patch) = brightest(&tiles.pixel_values.i(number..=number)?, tile.rows)?;
        if level > best.0 {
            best = (level, number, patch);
        }
    }
    let (_, number, patch) = best;
    let mut row = vec![0.0; sequence.inputs_embeds.dim(1)?];
    let token = match tiling {
        // One sequence: behind the whole, in rows without the bars and with a vector behind each.
        Tiling::Anyres(_) => {
            let (row, column) = tiles.place(number).unwrap_or_default();
            let (all_rows, all_columns) = (tiles.rows * tile.rows, tiles.columns * tile.columns);
            let ((rows, columns), _) = tiles.packed_picture(tile.rows, None)?;
            let row = row * tile.rows + patch / tile.columns - (all_rows - rows) / 2;
            let column = column * tile.columns + patch % tile.columns - (all_columns - columns) / 2;
            inputs[0].start + tile.count() + row * (columns + 1) + column
        }
        _ => {
            // Inputs are read in the order of their places among the words.
            let (row, column) = tiles.place(number).unwrap_or_default();
            let first = usize::from(tiles.overview == Some(0));
            inputs[first + row * tiles.columns + column].start + patch
        }
    };
    row[token] = 1.0;
    let map = in_tiles.map("b", &row, &inputs)?;
    let size = (in_tiles.positions.rows, in_tiles.positions.columns);
    // There the picture under the map is bright, and there the picture that was shown is.
    let levels = levels(&in_tiles.picture, size);
    let most = levels.iter().copied().fold(0.0, f64::max);
    let found = levels[map.peak().0 * size.1 + map.peak().1];
    assert!(found >= 0.95 * most && most > 20.0, "{found} of {most}");
    let there = (
        (at.0 * size.0 as f64) as usize,
        (at.1 * size.1 as f64) as usize,
    );
    let (row_off, column_off) = (
        map.peak().0.abs_diff(there.0),
        map.peak().1.abs_diff(there.1),
    );
    assert!(
        row_off <= 1 && column_off <= 1,
        "{:?} for {there:?} of {size:?}",
        map.peak()
    );
    assert_eq!(map.values().iter().filter(|value| **value > 0.0).count(), 1);
    assert!(
        whole
            .map("b", &row, &inputs)?
            .values()
            .iter()
            .all(|value| *value == 0.0)
    );
    Ok(())
}

#[test]
fn a_planted_number_lands_where_its_patch_lies() -> Result<()> {
    for (folder, size) in [
        ("published/llava_next", (70, 45)),
        ("published/llava_next", (30, 66)),
        ("published/llava_next_layers", (31, 70)),
        ("smolvlm/smolvlm", (70, 45)),
        ("smolvlm/idefics3", (40, 90)),
        ("nanovlm/global", (48, 30)),
    ] {
        let vlm = model(folder)?;
        for at in [(0.13, 0.2), (0.85, 0.75), (0.3, 0.85)] {
            let image = spot(size, at)?;
            planted_is_found(&vlm, &image, at)
                .map_err(|error| Error::Input(format!("{folder}: {error}")))?;
        }
    }
    Ok(())
}

#[test]
fn maps_in_tiles_hold_what_the_tokens_of_the_picture_take_in() -> Result<()> {
    for folder in ["published/llava_next", "smolvlm/smolvlm", "nanovlm/global"] {
        let vlm = model(folder)?;
        let image = spot((70, 45), (0.3, 0.3))?;
        let prompt = vlm.question_prompt(&image, "a", "b")?;
        let maps = prompt_attention(&vlm, &prompt)?;
        let sequence = vlm.sequence(std::slice::from_ref(&prompt))?;
        assert_eq!(maps.len() % 2, 0, "{folder}");
        // The last layer's attention, by hand.
        let output = vlm.llm.forward(&sequence.input().with_attentions())?;
        let last = output
            .attentions
            .last()
            .ok_or_else(|| Error::Input("none".into()))?;
        let mean = last.mean(1)?.squeeze(0)?; // [T, T]
        let place = sequence.answers[0][0].clone().next().unwrap_or_default();
        let row = numbers(&mean.get(place)?)?;
        let all: f32 = input_places(&sequence)
            .into_iter()
            .flatten()
            .map(|token| row[token])
            .sum();
        let drawn: f32 = maps[..2].iter().flat_map(|map| map.values()).sum();
        // Vectors behind rows have no place.
        let behind = match vlm.tiling {
            Some(Tiling::Anyres(_)) => all - drawn,
            _ => 0.0,
        };
        assert!(
            behind >= 0.0 && (all - drawn - behind).abs() < 1e-4,
            "{folder}: {all} {drawn}"
        );
        assert!(drawn > 0.0);
        let maps = encoder_attention_in_tiles(&vlm, &image)?;
        assert_eq!(maps.len(), 2, "{folder}");
        assert!(maps[0].values().len() > maps[1].values().len());
        assert!(maps[0].values().iter().all(|value| value.is_finite()));
        let maps = caption_attention(&vlm, &image, "a")?;
        assert!(maps.len() >= 4, "{folder}");
    }
    Ok(())
}

#[test]
fn several_pictures_in_tiles_have_maps_of_their_own() -> Result<()> {
    for folder in ["published/llava_next", "smolvlm/smolvlm", "nanovlm/global"] {
        let vlm = model(folder)?;
        let (one, two) = (spot((70, 45), (0.2, 0.2))?, spot((30, 66), (0.8, 0.8))?);
        let word = vlm.settings.image_token.clone().unwrap_or_default();
        let prompt = vlm.text_prompt(&format!("{word} {word}"), &[&one, &two])?;
        let drawn = pictures_of(&vlm, &prompt)?;
        let names: Vec<&str> = drawn.iter().map(|drawn| drawn.name.as_str()).collect();
        assert_eq!(names.len(), 4, "{folder}: {names:?}");
        assert!(
            names[0].starts_with("picture 0 in") && names[3] == "picture 1 in one tile",
            "{names:?}"
        );
        // A tile that was taken out: those that are left are drawn by themselves.
        if !matches!(vlm.tiling, Some(Tiling::Anyres(_))) {
            let mut prompt = vlm.text_prompt(&word, &[&one])?;
            let first = prompt
                .pieces
                .iter()
                .position(|piece| matches!(piece, Piece::Input(_)));
            let count = prompt.inputs().count();
            prompt
                .pieces
                .remove(first.unwrap_or_default() + if folder.starts_with("nano") { 2 } else { 0 });
            let drawn = pictures_of(&vlm, &prompt)?;
            assert_eq!(drawn.len(), count - 1, "{folder}");
        }
    }
    Ok(())
}
