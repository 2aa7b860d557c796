//! The instruments of this module on a whole [`Vlm`]: a picture and a caption in, something to look at out.
//!
//! Nothing here changes the model. Every function works on one input and one caption. The input is a picture or, where a
//! picture is not drawn on, whatever the model's encoder takes ([`VlmInput`]).

use std::time::{Duration, Instant};

use candle_core::DType;

use super::ledger::GradientLedger;
use super::logit_lens::LogitLens;
use super::occlusion::occlusion;
use super::patches::{PatchHeat, attention_rollout, mean_over_heads};
use super::token_loss::TokenLossMap;
use super::trace::{Expected, StageTrace};
use crate::display::SegmentKind;
use crate::error::{Error, Result};
use crate::language::Phi3Input;
use crate::session::check_interrupt;
use crate::vision::Image;
use crate::vlm::{Query, Sequence, Vlm, VlmInput};

/// Every stage from the encoder's input to logits, for `input` and a caption that is read up to its last token.
///
/// # Errors
/// For an empty caption or a picture that cannot be processed.
pub fn trace_caption(vlm: &Vlm, input: &dyn VlmInput, caption: &str) -> Result<StageTrace> {
    let mut trace = StageTrace::new(format!("“{caption}”, settings {}", vlm.settings.name));
    let encoder = &vlm.image_encoder;
    let (input, took) = timed(|| input.prepare(vlm))?; // [1, 3, H, W] for a picture
    let (name, expected) = match encoder.image_processor() {
        Some(_) => ("pixel_values", Some(Expected::PIXELS)),
        None => ("input", None),
    };
    trace.record(name, encoder.input_axes(), &input, Some(took), expected)?;
    let (seen, took) = timed(|| encoder.stages(&input))?;
    let axes = ["B", "P", "D"];
    for (name, tensor) in &seen.named {
        // Patch embeddings have no scale of their own: the encoder's weights decide it.
        let expected = name
            .starts_with("hidden_states")
            .then_some(Expected::HIDDEN);
        let name = format!("image_encoder/{name}");
        trace.record(&name, &axes, tensor, None, expected)?;
    }
    let feature = seen.features; // [1, P, D of the encoder]
    trace.record(
        "image features",
        &axes,
        &feature,
        Some(took),
        Some(Expected::HIDDEN),
    )?;
    let (image_tokens, took) = timed(|| vlm.project(&feature))?; // [1, P, D]
    trace.record(
        "image_tokens",
        &axes,
        &image_tokens,
        Some(took),
        Some(Expected::HIDDEN),
    )?;
    let names = ["start_vec", "end_vec", "query_vec"];
    for (name, embeds) in names.iter().zip(vlm.prompt_embeds()?) {
        trace.record(name, &["1", "T", "D"], &embeds, None, None)?;
    }
    let prefix = vlm.caption_ids(caption)?;
    let (sequence, took) = timed(|| vlm.concatenate(&image_tokens, &Query::Vector, &[prefix]))?;
    let axes = ["B", "T", "D"];
    let embeds = &sequence.inputs_embeds; // [1, T, D]
    trace.record(
        "inputs_embeds",
        &axes,
        embeds,
        Some(took),
        Some(Expected::HIDDEN),
    )?;
    let input = Phi3Input::embeds(embeds).with_hidden_states();
    let (output, took) = timed(|| vlm.llm.forward(&input))?;
    for (index, hidden) in output.hidden_states.iter().enumerate() {
        let name = format!("llm/hidden_states[{index}]");
        trace.record(&name, &axes, hidden, None, Some(Expected::HIDDEN))?;
    }
    trace.record(
        "last_hidden_state",
        &axes,
        &output.last_hidden_state,
        None,
        None,
    )?;
    trace.record(
        "logits",
        &["B", "T", "V"],
        output.logits()?,
        Some(took),
        None,
    )?;
    Ok(trace)
}

/// What a backward pass of the caption's loss (every prefix at once) gives to each parameter.
///
/// # Errors
/// For an empty caption, or when the backward pass fails.
pub fn caption_ledger(vlm: &Vlm, input: &dyn VlmInput, caption: &str) -> Result<GradientLedger> {
    let loss = vlm.full_sequence_loss(&input.prepare(vlm)?, &[caption.to_owned()])?;
    GradientLedger::of(&loss.loss, &vlm.named_parameters())
}

/// The loss of each token of `caption` under each of `inputs`, pictures mostly, named as given. A black picture and one of
/// something else beside the right one show which words are read off the picture.
///
/// # Errors
/// For an empty caption or a picture that cannot be processed, and [`Error::Interrupted`].
pub fn caption_losses<I: VlmInput>(
    vlm: &Vlm,
    caption: &str,
    inputs: &[(String, I)],
) -> Result<TokenLossMap> {
    let named = inputs.iter().map(|(name, input)| (name.as_str(), input));
    losses_of(
        vlm,
        caption,
        &mut named.map(|(name, input)| (name, input as &dyn VlmInput)),
    )
}

/// What [`caption_losses`] does, compiled once.
fn losses_of(
    vlm: &Vlm,
    caption: &str,
    inputs: &mut dyn Iterator<Item = (&str, &dyn VlmInput)>,
) -> Result<TokenLossMap> {
    let mut map: Option<TokenLossMap> = None;
    for (name, input) in inputs {
        check_interrupt()?;
        let loss = vlm.full_sequence_loss(&input.prepare(vlm)?, &[caption.to_owned()])?;
        let losses = loss.cross_entropy.to_dtype(DType::F32)?.to_vec1::<f32>()?; // [N]
        let tokens = || loss.targets.iter().map(|id| vlm.llm_processor.token(*id));
        let before = map.take().unwrap_or_else(|| TokenLossMap::new(tokens()));
        map = Some(before.row(name, losses)?);
    }
    map.ok_or_else(|| Error::Input("a loss map needs at least one input".into()))
}

/// What each layer of the language model would say after each token of the caption.
///
/// # Errors
/// For an empty caption.
pub fn caption_lens(vlm: &Vlm, input: &dyn VlmInput, caption: &str) -> Result<LogitLens> {
    let (sequence, ids) = read(vlm, input, caption)?;
    let input = Phi3Input::embeds(&sequence.inputs_embeds).with_hidden_states();
    let output = vlm.llm.forward(&input)?;
    let word = |id: u32| vlm.llm_processor.token(id);
    let tokens: Vec<String> = ids.iter().map(|id| word(*id)).collect();
    LogitLens::of(&vlm.llm, &output.hidden_states, &tokens, &word)
}

/// Where the image encoder looks (rollout over its layers): its class token, or the mean of its patches where it has none.
///
/// # Errors
/// [`Error::Unsupported`] for an encoder without attention maps or without a place for pictures.
pub fn encoder_attention(vlm: &Vlm, image: &Image) -> Result<PatchHeat> {
    let encoder = &vlm.image_encoder;
    let rolled = attention_rollout(&encoder.attentions(&image.prepare(vlm)?)?)?; // [P, P]
    let positions = encoder.positions();
    let (from, row) = match positions.special {
        0 => ("the mean of all patches", rolled.mean(0)?), // [P]
        _ => ("CLS", rolled.get(0)?),                      // [P]
    };
    let title = format!("image encoder, rollout from {from}");
    PatchHeat::of_positions(title, image, positions, &row.to_vec1::<f32>()?)
}

/// How much of the picture each caption token takes in directly, in the language model's last layer.
///
/// # Errors
/// For an empty caption, or if the image tokens belong to no place, as a perceiver resampler's.
pub fn token_attention(vlm: &Vlm, image: &Image, caption: &str) -> Result<Vec<PatchHeat>> {
    let positions = vlm.image_positions()?.ok_or_else(|| {
        Error::Input(format!(
            "the image tokens of a projector of the form {:?} belong to no place in the picture: nothing to draw on it",
            vlm.projector.config.kind
        ))
    })?;
    let (sequence, ids) = read(vlm, image, caption)?;
    let input = Phi3Input::embeds(&sequence.inputs_embeds).with_attentions();
    let output = vlm.llm.forward(&input)?;
    let Some(last) = output.attentions.last() else {
        return Ok(Vec::new());
    };
    let attention = mean_over_heads(last)?; // [T, T]
    let (start, patches) = image_place(&sequence)?;
    let mut maps = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let row = attention.get(sequence.prompt_lengths[0] + index)?; // [T]
        let weights = row.narrow(0, start, patches)?.to_vec1::<f32>()?;
        let share = weights.iter().sum::<f32>() * 100.0;
        let word = vlm.llm_processor.token(*id).replace('▁', " ");
        let title = format!("“{}” · {share:.0}% on the picture", word.trim());
        maps.push(PatchHeat::of_positions(title, image, positions, &weights)?);
    }
    Ok(maps)
}

/// [`encoder_attention`] and [`token_attention`] side by side.
///
/// # Errors
/// Those of both: for an encoder without attention maps ask for [`token_attention`] alone.
pub fn caption_attention(vlm: &Vlm, image: &Image, caption: &str) -> Result<Vec<PatchHeat>> {
    let mut maps = vec![encoder_attention(vlm, image)?];
    maps.extend(token_attention(vlm, image, caption)?);
    Ok(maps)
}

/// What happens to the probability of the caption when one field of the picture after the other is covered: red fields
/// are those that it needs. The number is the mean log-probability of its tokens, with the picture less without the field.
///
/// # Errors
/// For an empty caption, a `side` that does not fit the picture, and [`Error::Interrupted`].
pub fn caption_occlusion(
    vlm: &Vlm,
    image: &Image,
    caption: &str,
    side: usize,
) -> Result<PatchHeat> {
    let captions = [caption.to_owned()];
    let mut score = |picture: &Image| {
        let pixel_values = picture.prepare(vlm)?; // [1, 3, H, W]
        let loss = vlm.full_sequence_loss(&pixel_values, &captions)?;
        Ok(-f64::from(loss.value()?))
    };
    occlusion(&format!("what “{caption}” needs"), image, side, &mut score)
}

/// The sequence that ends with the whole caption, and the caption's token ids.
fn read(vlm: &Vlm, input: &dyn VlmInput, caption: &str) -> Result<(Sequence, Vec<u32>)> {
    let ids = vlm.caption_ids(caption)?;
    let image_tokens = vlm.image_tokens(&input.prepare(vlm)?)?; // [1, P, D]
    let sequence = vlm.concatenate(&image_tokens, &Query::Vector, std::slice::from_ref(&ids))?;
    Ok((sequence, ids))
}

/// Where the image tokens of the first sequence begin, and how many there are.
fn image_place(sequence: &Sequence) -> Result<(usize, usize)> {
    let mut start = 0;
    for (kind, tokens) in sequence.segments.first().into_iter().flatten() {
        if *kind == SegmentKind::Image {
            return Ok((start, tokens.len()));
        }
        start += tokens.len();
    }
    Err(Error::Input("there is no picture in this sequence".into()))
}

fn timed<T>(stage: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let value = stage()?;
    Ok((value, begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Render;
    use crate::inspect::LedgerState;
    use crate::vlm::{AdapterTraining, VlmParts, VlmSettings};
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
            llm: crate::language::Phi3::load(fixtures.join("llm"), DType::F32, &Device::Cpu)?,
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
