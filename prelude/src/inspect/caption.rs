//! The instruments of this module on a whole [`Vlm`]: a picture and a caption in, something to look at out.
//!
//! Nothing here changes the model. Every function works on one input and one caption, which it makes a prompt of: see
//! [`super::prompt`] for prompts of any form. The input is a picture, an open [`Prompt`](crate::vlm::Prompt) or, where a
//! picture is not drawn on, whatever the model's encoder takes ([`VlmInput`]).

use super::drawn::{Drawn, grid, numbers, pictures_of, placed, side_by_side};
use super::ledger::GradientLedger;
use super::logit_lens::LogitLens;
use super::occlusion::occlusion;
use super::patches::{PatchHeat, attention_rollout};
use super::prompt;
use super::token_loss::TokenLossMap;
use super::trace::StageTrace;
use crate::error::Result;
use crate::session::check_interrupt;
use crate::vision::Image;
use crate::vlm::{Vlm, VlmInput};
use candle_core::Tensor;

/// Every stage from the encoder's input to logits, for `input` and a caption that is read to its end.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let trace = trace_caption(&vlm, &Image::filled(64, 64, [200, 30, 40])?, "a red square")?; // shows itself as a table
/// assert!(trace.len() > 10);
/// assert!(trace.total_time().as_nanos() > 0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For an empty caption or a picture that cannot be processed.
pub fn trace_caption(vlm: &Vlm, input: &dyn VlmInput, caption: &str) -> Result<StageTrace> {
    let mut trace = StageTrace::new(format!("“{caption}”, settings {}", vlm.settings.name));
    let (prompt, took) = prompt::timed(|| vlm.caption_prompt(input, caption))?;
    prompt::trace_stages(vlm, &prompt, Some(took), &mut trace)?;
    Ok(trace)
}

/// What a backward pass of the caption's loss (every prefix at once) gives to each parameter.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let ledger = caption_ledger(&vlm, &Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// assert!(ledger.errors().is_empty()); // everything that trains has a gradient
/// assert!(ledger.entries().iter().any(|entry| entry.name.contains("projector")));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For an empty caption, or when the backward pass fails.
pub fn caption_ledger(vlm: &Vlm, input: &dyn VlmInput, caption: &str) -> Result<GradientLedger> {
    prompt::prompt_ledger(vlm, &vlm.caption_prompt(input, caption)?)
}

/// The loss of each token of `caption` under each of `inputs`, pictures mostly, named as given. A black picture and one of
/// something else beside the right one show which words are read off the picture.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let picture = |color| Image::filled(64, 64, color);
/// let inputs = [("red".to_string(), picture([200, 30, 40])?), ("black".to_string(), picture([0, 0, 0])?)];
/// let losses = caption_losses(&vlm, "a red square", &inputs)?;
/// let means = losses.means(); // nats a token
/// assert_eq!(means.len(), 2);
/// assert!(means.iter().all(|(_, nats)| *nats > 0.0));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For an empty caption or a picture that cannot be processed, and [`Error::Interrupted`](crate::Error::Interrupted).
pub fn caption_losses<I: VlmInput>(
    vlm: &Vlm,
    caption: &str,
    inputs: &[(String, I)],
) -> Result<TokenLossMap> {
    let prompts = inputs
        .iter()
        .map(|(name, input)| Ok((name.clone(), vlm.caption_prompt(input, caption)?)));
    prompt::prompt_losses(vlm, &prompts.collect::<Result<Vec<_>>>()?)
}

/// What each layer of the language model would say after each token of the caption.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let lens = caption_lens(&vlm, &Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let words: Vec<String> = lens.best(lens.depth() - 1).iter().map(|id| vlm.llm_processor.token(*id)).collect();
/// println!("the last layer says {words:?}");
/// assert!(words.len() >= 3);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For an empty caption.
pub fn caption_lens(vlm: &Vlm, input: &dyn VlmInput, caption: &str) -> Result<LogitLens> {
    prompt::prompt_lens(vlm, &vlm.caption_prompt(input, caption)?)
}

/// Where the image encoder looks (rollout over its layers): its class token, or the mean of its patches where it has none.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let heat = encoder_attention(&vlm, &Image::filled(64, 64, [200, 30, 40])?)?;
/// assert!(heat.values().iter().all(|share| (0.0..=1.0).contains(share)));
/// let (row, column) = heat.peak(); // where it looks most
/// assert!(row * column < heat.values().len());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for an encoder without attention maps or without a place for pictures.
pub fn encoder_attention(vlm: &Vlm, image: &Image) -> Result<PatchHeat> {
    let (from, row) = rolled_out(vlm, &image.prepare(vlm)?)?;
    let title = format!("image encoder, rollout from {from}");
    PatchHeat::of_positions(title, image, vlm.image_encoder.positions(), &row)
}

/// [`encoder_attention`] of a picture that the model cuts into tiles: all tiles put together where they lie, each of which the encoder
/// sees by itself, and the whole in one tile, where that is shown. Of one that it does not cut, [`encoder_attention`] alone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?; // reads pictures whole: one map
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let maps = encoder_attention_in_tiles(&vlm, &image)?;
/// assert_eq!(maps.len(), 1);
/// assert_eq!(maps[0].values(), encoder_attention(&vlm, &image)?.values());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// As [`encoder_attention`].
pub fn encoder_attention_in_tiles(vlm: &Vlm, image: &Image) -> Result<Vec<PatchHeat>> {
    let cut = vlm.tiling.as_ref().map(|tiling| tiling.tile(image));
    let Some(tiles) = cut.transpose()?.filter(|tiles| tiles.rows > 0) else {
        return Ok(vec![encoder_attention(vlm, image)?]);
    };
    let positions = vlm.image_encoder.positions();
    let mut maps = Vec::new();
    let mut cells = vec![Vec::new(); tiles.rows * tiles.columns];
    let mut whole = None;
    for tile in 0..tiles.count() {
        check_interrupt()?;
        let (from, row) = rolled_out(vlm, &tiles.pixel_values.narrow(0, tile, 1)?)?; // [1, 3, H, W] → [P]
        match tiles.place(tile) {
            Some((row_of, column)) => {
                cells[row_of * tiles.columns + column] = row[positions.special..].to_vec();
            }
            None => whole = Some((from, row)),
        }
    }
    let (rows, columns) = (tiles.rows, tiles.columns);
    let values = side_by_side((rows, columns), positions, |row, column, patch| {
        let cell = &cells[row * columns + column];
        cell.get(patch).copied().unwrap_or(f32::NAN)
    });
    let lying = grid(rows * positions.rows, columns * positions.columns);
    let title = format!("image encoder, rollout in each of {rows} × {columns} tiles");
    maps.push(PatchHeat::of_positions(
        title,
        &tiles.joined()?,
        lying,
        &values,
    )?);
    if let Some((from, row)) = whole {
        let title = format!("image encoder, rollout from {from}, the picture in one tile");
        maps.push(PatchHeat::of_positions(title, image, positions, &row)?);
    }
    Ok(maps)
}

/// Rollout over the encoder's layers for one input, `[P]`: from where, and how much of each position is there.
fn rolled_out(vlm: &Vlm, input: &Tensor) -> Result<(&'static str, Vec<f32>)> {
    let encoder = &vlm.image_encoder;
    let rolled = attention_rollout(&encoder.attentions(input)?)?; // [P, P]
    let (from, row) = match encoder.positions().special {
        0 => ("the mean of all patches", rolled.mean(0)?), // [P]
        _ => ("CLS", rolled.get(0)?),                      // [P]
    };
    Ok((from, numbers(&row)?))
}

/// How much of the picture each caption token takes in directly, in the language model's last layer, on one scale for all tokens; in
/// tiles, as [`prompt_attention`](super::prompt_attention).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let maps = token_attention(&vlm, &Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// assert!(maps.len() >= 3); // one for each token of the caption
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For an empty caption, or if the image tokens belong to no place, as a perceiver resampler's.
pub fn token_attention(vlm: &Vlm, image: &Image, caption: &str) -> Result<Vec<PatchHeat>> {
    let prompt = vlm.caption_prompt(image, caption)?;
    let pictures = match vlm.tiling {
        None => {
            let positions = placed(vlm, None)?;
            vec![Drawn::whole(
                "the picture".into(),
                image.clone(),
                0,
                positions,
            )]
        }
        Some(_) => pictures_of(vlm, &prompt)?,
    };
    let sequence = vlm.sequence(std::slice::from_ref(&prompt))?;
    prompt::attention_maps(vlm, &sequence, &pictures)
}

/// [`encoder_attention_in_tiles`] and [`token_attention`] side by side: each of the two on a scale of its own, since the encoder's map is
/// of another quantity than the tokens'.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let maps = caption_attention(&vlm, &Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// assert!(maps.len() > 3); // the encoder's own, then one for each token
/// assert_eq!(maps[0].values().len(), maps[1].values().len()); // one number for each patch
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// Those of both: for an encoder without attention maps ask for [`token_attention`] alone.
pub fn caption_attention(vlm: &Vlm, image: &Image, caption: &str) -> Result<Vec<PatchHeat>> {
    let mut maps = encoder_attention_in_tiles(vlm, image)?;
    maps.extend(token_attention(vlm, image, caption)?);
    Ok(maps)
}

/// What happens to the probability of the caption when one field of the picture after the other is covered: red fields
/// are those that it needs. The number is the mean log-probability of its tokens, with the picture less without the field.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let heat = caption_occlusion(&vlm, &image, "a red square", 2)?; // 2 × 2 fields
/// assert_eq!(heat.values().len(), 4);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For an empty caption, a `side` that does not fit the picture, and [`Error::Interrupted`](crate::Error::Interrupted).
pub fn caption_occlusion(
    vlm: &Vlm,
    image: &Image,
    caption: &str,
    side: usize,
) -> Result<PatchHeat> {
    let mut score = |picture: &Image| {
        let prompt = vlm.caption_prompt(picture, caption)?;
        Ok(-f64::from(vlm.full_sequence_loss_of(&prompt)?.value()?))
    };
    occlusion(&format!("what “{caption}” needs"), image, side, &mut score)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Render;
    use crate::inspect::LedgerState;
    use crate::vlm::{AdapterTraining, VlmParts, VlmSettings};
    use candle_core::DType;
    use candle_core::Device;
    use std::path::Path;

    const CAPTION: &str = "a red square";

    fn model(adapters: AdapterTraining) -> Result<Vlm> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let mut vit = crate::vision::Vit::load(fixtures.join("vit"), DType::F32, &Device::Cpu)?;
        // The pooler is not on the way to the loss: its LoRA would rightly be in red.
        vit.pooler = None;
        let parts = VlmParts {
            image_encoder: vit.into(),
            image_processor: crate::vision::ImageProcessor::new(
                crate::vision::ImageProcessorConfig::vit(64),
            )?,
            llm: crate::language::Decoder::load(fixtures.join("llm"), DType::F32, &Device::Cpu)?,
            llm_processor: crate::language::LlmProcessor::from_dir(fixtures.join("tokenizer"))?,
        };
        let settings = VlmSettings {
            adapters,
            ..VlmSettings::corrected()
        };
        Vlm::new(parts, settings, 1)
    }

    fn picture() -> Result<Image> {
        Image::from_rgb(image::RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb([(x * 4) as u8, (y * 4) as u8, 90])
        }))
    }

    #[test]
    fn every_instrument_takes_a_caption() -> Result<()> {
        let (vlm, image) = (model(AdapterTraining::Trained)?, picture()?);
        let trace = trace_caption(&vlm, &image, CAPTION)?;
        assert!(trace.warnings().is_empty(), "{:?}", trace.warnings());
        assert!(
            trace
                .render()
                .plain()
                .contains("image_encoder/hidden_states[3]")
        );
        let pictures = [
            ("its picture".to_owned(), image.clone()),
            ("black".to_owned(), Image::filled(64, 64, [0; 3])?),
        ];
        let losses = caption_losses(&vlm, CAPTION, &pictures)?;
        assert_eq!(losses.means().len(), 2);
        assert!(caption_losses::<Image>(&vlm, CAPTION, &[]).is_err());
        assert_eq!(
            caption_lens(&vlm, &image, CAPTION)?.depth(),
            vlm.llm.layers.len() + 1
        );
        let maps = caption_attention(&vlm, &image, CAPTION)?;
        assert_eq!(maps.len(), 1 + vlm.caption_ids(CAPTION)?.len());
        assert!(maps.iter().all(|map| map.values().len() == 16));
        // The tokens' maps have one scale, named below each, and their shares in the titles; the encoder's has its own.
        let told: Vec<String> = maps
            .iter()
            .map(|map| map.render().plain().to_owned())
            .collect();
        let scale = |told: &String| {
            told.split_once("scale of all maps to ")
                .map(|(_, rest)| rest.split(',').next().unwrap_or_default().to_owned())
        };
        assert!(scale(&told[0]).is_none(), "{}", told[0]);
        let most = scale(&told[1]);
        assert!(
            most.is_some() && told[1..].iter().all(|told| scale(told) == most),
            "{told:?}"
        );
        assert!(
            told[1..]
                .iter()
                .all(|told| told.contains("% on the picture")),
            "{told:?}"
        );
        assert_eq!(
            caption_occlusion(&vlm, &image, CAPTION, 2)?.values().len(),
            4
        );
        Ok(())
    }

    #[test]
    fn the_ledger_shows_the_blogs_frozen_lora() -> Result<()> {
        let image = picture()?;
        let trained = caption_ledger(&model(AdapterTraining::Trained)?, &image, CAPTION)?;
        assert!(trained.errors().is_empty(), "{:?}", trained.errors());
        let frozen = caption_ledger(&model(AdapterTraining::Frozen)?, &image, CAPTION)?;
        assert!(!frozen.errors().is_empty());
        assert!(
            frozen
                .errors()
                .iter()
                .all(|entry| entry.state == LedgerState::FrozenLora)
        );
        Ok(())
    }
}
