//! Occlusion, integrated gradients and ablation look at all tiles of a picture, however it was cut: compared with what is reckoned by hand.

use super::*;
use crate::edits::{Edits, Site};
use crate::inspect::drawn::tests::{model, spot};
use crate::inspect::drawn::{input_places, placed};
use crate::inspect::{
    Ablation, image_token_ablation, prompt_integrated_gradients, prompt_occlusion,
};
use crate::vision::tiling::Tiling;
use crate::vlm::Piece;

/// Models that cut pictures, with a picture that each cuts, some with bars above and below or beside it.
const CASES: [(&str, (u32, u32)); 5] = [
    ("published/llava_next", (70, 45)),
    ("published/llava_next", (30, 66)),
    ("smolvlm/smolvlm", (70, 45)),
    ("smolvlm/idefics3", (40, 90)),
    ("nanovlm/global", (48, 30)),
];

fn tiles_of(vlm: &Vlm, image: &Image) -> Result<Tiles> {
    let tiling = vlm.tiling.as_ref();
    let tiling = tiling.ok_or_else(|| Error::Input("no tiling".into()))?;
    tiling.tile(image)
}

fn log_probability(vlm: &Vlm, prompt: &Prompt) -> Result<f64> {
    Ok(-f64::from(vlm.full_sequence_loss_of(prompt)?.value()?))
}

/// The tiles with one of 2 × 2 fields in `colour`, pixel by pixel. The grid's rows and columns that the picture fills are those that are
/// not black in a white picture.
fn covered_by_hand(
    vlm: &Vlm,
    size: (u32, u32),
    tiles: &Tiles,
    field: (usize, usize),
    colour: &[f32],
) -> Result<Tensor> {
    let white = tiles_of(vlm, &Image::filled(size.0, size.1, [255; 3])?)?.joined()?;
    let lit = |x: u32, y: u32| white.rgb().get_pixel(x, y).0[0] > 100;
    let rows: Vec<u32> = (0..white.height())
        .filter(|&y| (0..white.width()).any(|x| lit(x, y)))
        .collect();
    let columns: Vec<u32> = (0..white.width())
        .filter(|&x| (0..white.height()).any(|y| lit(x, y)))
        .collect();
    let half = |at: usize, all: usize| usize::from(at >= all / 2);
    let (count, channels, height, width) = tiles.pixel_values.dims4()?;
    let mut values = tiles.pixel_values.flatten_all()?.to_vec1::<f32>()?;
    for tile in 0..count {
        for y in 0..height {
            for x in 0..width {
                let there = match tiles.place(tile) {
                    None => Some((half(y, height), half(x, width))),
                    Some((row, column)) => {
                        let y = rows.iter().position(|&at| at as usize == row * height + y);
                        let x = columns
                            .iter()
                            .position(|&at| at as usize == column * width + x);
                        y.zip(x)
                            .map(|(y, x)| (half(y, rows.len()), half(x, columns.len())))
                    }
                };
                if there != Some(field) {
                    continue;
                }
                for (channel, colour) in colour.iter().enumerate() {
                    values[((tile * channels + channel) * height + y) * width + x] = *colour;
                }
            }
        }
    }
    Ok(Tensor::from_vec(
        values,
        (count, channels, height, width),
        tiles.pixel_values.device(),
    )?)
}

#[test]
fn a_field_is_covered_in_every_tile_that_shows_it() -> Result<()> {
    for (folder, size) in CASES {
        let vlm = model(folder)?;
        let image = spot(size, (0.3, 0.3))?;
        let prompt = vlm.question_prompt(&image, "a", "b")?;
        let map = prompt_occlusion(&vlm, &prompt, 0, 2)?;
        let tiles = tiles_of(&vlm, &image)?;
        let overview = tiles.overview.unwrap_or_default();
        let colour = tiles.pixel_values.get(overview)?.flatten_from(1)?.mean(1)?; // [C]
        let colour = colour.to_vec1::<f32>()?;
        let base = log_probability(&vlm, &prompt)?;
        for field in 0..4 {
            let mut covered = tiles.clone();
            let at = (field / 2, field % 2);
            covered.pixel_values = covered_by_hand(&vlm, size, &tiles, at, &colour)?;
            let without = log_probability(&vlm, &vlm.question_prompt(&covered, "a", "b")?)?;
            let (found, by_hand) = (f64::from(map.values()[field]), base - without);
            assert!(
                (found - by_hand).abs() < 1e-5,
                "{folder}, field {field}: {found} and {by_hand}"
            );
        }
        assert!(
            map.values().iter().any(|lost| lost.abs() > 1e-6),
            "{folder}"
        );
        // Any tile of the picture stands for it.
        let last = prompt.inputs().count() - 1;
        assert_eq!(
            prompt_occlusion(&vlm, &prompt, last, 2)?.values(),
            map.values(),
            "{folder}"
        );
        assert!(prompt_occlusion(&vlm, &prompt, last + 1, 2).is_err());
    }
    Ok(())
}

#[test]
fn integrated_gradients_over_all_tiles_are_complete() -> Result<()> {
    for (folder, size) in CASES {
        let vlm = model(folder)?;
        let image = spot(size, (0.3, 0.3))?;
        let prompt = vlm.question_prompt(&image, "a", "b")?;
        let made = prompt_integrated_gradients(&vlm, &prompt, 0, 64)?;
        let mut tiles = tiles_of(&vlm, &image)?;
        assert_eq!(
            made.attributions().dims(),
            tiles.pixel_values.dims(),
            "{folder}"
        );
        // The baseline has all tiles at 0.
        tiles.pixel_values = tiles.pixel_values.zeros_like()?;
        let (at_input, at_baseline) = made.scores();
        let dark = log_probability(&vlm, &vlm.question_prompt(&tiles, "a", "b")?)?;
        assert!((at_input - log_probability(&vlm, &prompt)?).abs() < 1e-5);
        assert!((at_baseline - dark).abs() < 1e-5, "{folder}");
        let way = (at_input - at_baseline).abs();
        let gap = made.gap()?.abs();
        assert!(
            way > 1e-4 && gap < 0.1 * way.max(0.01),
            "{folder}: {gap} of {way}"
        );
        // What the maps show is all of it.
        let map = made.map().ok_or_else(|| Error::Input("no map".into()))?;
        let mut sum: f32 = map.values().iter().sum();
        sum += map.others().iter().flat_map(PatchHeat::values).sum::<f32>();
        assert!(
            (f64::from(sum) - made.sum()?).abs() < 1e-3 * way.max(0.05),
            "{folder}"
        );
        assert_eq!(map.others().len(), 1, "{folder}");
    }
    Ok(())
}

/// Of each map's each patch, where its token stands: of the grid and of the whole.
fn tokens_by_hand(vlm: &Vlm, tiles: &Tiles, prompt: &Prompt) -> Result<[Vec<usize>; 2]> {
    let sequence = vlm.sequence(std::slice::from_ref(prompt))?;
    let inputs = input_places(&sequence);
    let tile = placed(vlm, None)?;
    let side = tile.rows;
    let mut grid = Vec::new();
    let whole = match vlm.tiling {
        Some(Tiling::Anyres(_)) => {
            let ((rows, columns), _) = tiles.packed_picture(side, None)?;
            let start = inputs[0].start;
            for row in 0..rows {
                grid.extend(
                    (0..columns).map(|column| start + side * side + row * (columns + 1) + column),
                );
            }
            start
        }
        _ => {
            let first = usize::from(tiles.overview == Some(0));
            for y in 0..tiles.rows * side {
                for x in 0..tiles.columns * side {
                    let input = first + y / side * tiles.columns + x / side;
                    grid.push(inputs[input].start + y % side * side + x % side);
                }
            }
            inputs[tiles.overview.unwrap_or_default()].start
        }
    };
    Ok([grid, (whole..whole + side * side).collect()])
}

#[test]
fn the_only_token_of_a_tile_that_says_anything_is_found() -> Result<()> {
    for (folder, size) in CASES {
        let vlm = model(folder)?;
        let image = spot(size, (0.3, 0.3))?;
        let prompt = vlm.question_prompt(&image, "a", "b")?;
        let tiles = tiles_of(&vlm, &image)?;
        let places = tokens_by_hand(&vlm, &tiles, &prompt)?;
        let all: Vec<usize> = places.concat();
        for map in 0..2 {
            // One token alone may say too little to be seen in f32.
            let mut says = false;
            for patch in [places[map].len() / 2, places[map].len() - 1] {
                let only = places[map][patch];
                let others = all.iter().copied().filter(|&place| place != only);
                let rest = Edits::new().zero(Site::new("inputs_embeds").tokens(others));
                let found = rest.run(|| image_token_ablation(&vlm, &prompt, 0, Ablation::Zero))?;
                let maps = [found.values(), found.others()[0].values()];
                for (at, values) in maps.iter().enumerate() {
                    assert_eq!(values.len(), places[at].len(), "{folder}");
                    for (token, lost) in values.iter().enumerate() {
                        let is = (at, token) == (map, patch);
                        assert!(
                            is || *lost == 0.0,
                            "{folder}: map {at}, token {token}: {lost}"
                        );
                        says |= is && *lost != 0.0;
                    }
                }
            }
            // Windows such as Mistral's do not reach back to the beginning.
            let window = vlm.llm.layers[0].self_attn.form().sliding_window;
            let reach = window.map_or(usize::MAX, |window| (window - 1) * vlm.llm.layers.len());
            let sequence = vlm.sequence(std::slice::from_ref(&prompt))?;
            let asked = sequence.answers[0][0].start - 1;
            let nearest = places[map].iter().max().copied().unwrap_or_default();
            let far = asked - nearest > reach;
            assert!(says || far, "{folder}: map {map}");
        }
        // A token in the place of the mean of all of the picture's.
        let map = image_token_ablation(&vlm, &prompt, 0, Ablation::Mean)?;
        let embeds = vlm.sequence(std::slice::from_ref(&prompt))?.inputs_embeds; // [1, T, D]
        let chosen = all.iter().map(|&place| embeds.narrow(1, place, 1));
        let chosen = chosen.collect::<candle_core::Result<Vec<_>>>()?; // [1, 1, D] each
        let mean = Tensor::cat(&chosen, 1)?.mean(1)?.squeeze(0)?; // [D]
        let site = Site::new("inputs_embeds").token(places[0][2]);
        let edits = Edits::new().replace(site, &mean);
        let lost =
            log_probability(&vlm, &prompt)? - edits.run(|| log_probability(&vlm, &prompt))?;
        assert!(
            (f64::from(map.values()[2]) - lost).abs() < 1e-5,
            "{folder}: {} and {lost}",
            map.values()[2]
        );
    }
    Ok(())
}

#[test]
fn of_a_picture_with_a_tile_missing_that_tile_is_looked_at_alone() -> Result<()> {
    let vlm = model("smolvlm/smolvlm")?;
    let image = spot((70, 45), (0.3, 0.3))?;
    let mut prompt = vlm.question_prompt(&image, "a", "b")?;
    let first = prompt
        .pieces
        .iter()
        .position(|piece| matches!(piece, Piece::Input(_)));
    prompt.pieces.remove(first.unwrap_or_default());
    let shown = ShownPicture::of(&vlm, &prompt, 0)?;
    assert_eq!(shown.pixel_values.dim(0)?, 1);
    assert_eq!(prompt_occlusion(&vlm, &prompt, 0, 2)?.values().len(), 4);
    let made = prompt_integrated_gradients(&vlm, &prompt, 0, 8)?;
    assert!(made.map().is_some_and(|map| map.others().is_empty()));
    Ok(())
}
