//! The instruments of this module on a whole [`Vlm`]: a picture and a caption in, something to look at out.
//!
//! Nothing here changes the model. Every function works on one picture and one caption.

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
use crate::vlm::{Query, Sequence, Vlm};

/// Every stage from pixel values to logits, for `image` and a caption that is read up to its last token.
///
/// # Errors
/// For an empty caption or a picture that cannot be processed.
pub fn trace_caption(vlm: &Vlm, image: &Image, caption: &str) -> Result<StageTrace> {
    let mut trace = StageTrace::new(format!("“{caption}”, settings {}", vlm.settings.name));
    let (pixel_values, took) = timed(|| vlm.image_processor.preprocess(image))?; // [1, 3, H, W]
    trace.record(
        "pixel_values",
        &["B", "C", "H", "W"],
        &pixel_values,
        Some(took),
        Some(Expected::PIXELS),
    )?;
    let (seen, took) = timed(|| vlm.image_encoder.forward(&pixel_values))?;
    let axes = ["B", "P", "D"];
    trace.record(
        "image_encoder/patch_embeddings",
        &axes,
        &seen.patch_embeddings,
        None,
        None,
    )?;
    for (index, hidden) in seen.hidden_states.iter().enumerate() {
        let name = format!("image_encoder/hidden_states[{index}]");
        trace.record(&name, &axes, hidden, None, Some(Expected::HIDDEN))?;
    }
    let feature = seen.feature(vlm.image_encoder.feature)?; // [1, P, D of the encoder]
    trace.record(
        "image features",
        &axes,
        &feature,
        Some(took),
        Some(Expected::HIDDEN),
    )?;
    let (image_tokens, took) = timed(|| {
        let feature = feature.to_device(vlm.device())?.to_dtype(DType::F32)?;
        vlm.projector.forward(&feature)
    })?; // [1, P, D]
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
pub fn caption_ledger(vlm: &Vlm, image: &Image, caption: &str) -> Result<GradientLedger> {
    let pixel_values = vlm.image_processor.preprocess(image)?; // [1, 3, H, W]
    let loss = vlm.full_sequence_loss(&pixel_values, &[caption.to_owned()])?;
    GradientLedger::of(&loss.loss, &vlm.named_parameters())
}

/// The loss of each token of `caption` under each of `pictures`, named as given. A black picture and one of something
/// else beside the right one show which words are read off the picture.
///
/// # Errors
/// For an empty caption or a picture that cannot be processed, and [`Error::Interrupted`].
pub fn caption_losses(
    vlm: &Vlm,
    caption: &str,
    pictures: &[(String, Image)],
) -> Result<TokenLossMap> {
    let mut map: Option<TokenLossMap> = None;
    for (name, picture) in pictures {
        check_interrupt()?;
        let pixel_values = vlm.image_processor.preprocess(picture)?; // [1, 3, H, W]
        let loss = vlm.full_sequence_loss(&pixel_values, &[caption.to_owned()])?;
        let losses = loss.cross_entropy.to_dtype(DType::F32)?.to_vec1::<f32>()?; // [N]
        let tokens = || loss.targets.iter().map(|id| vlm.llm_processor.token(*id));
        let before = map.take().unwrap_or_else(|| TokenLossMap::new(tokens()));
        map = Some(before.row(name.clone(), losses)?);
    }
    map.ok_or_else(|| Error::Input("a loss map needs at least one picture".into()))
}

/// What each layer of the language model would say after each token of the caption.
///
/// # Errors
/// For an empty caption.
pub fn caption_lens(vlm: &Vlm, image: &Image, caption: &str) -> Result<LogitLens> {
    let (sequence, ids) = read(vlm, image, caption)?;
    let input = Phi3Input::embeds(&sequence.inputs_embeds).with_hidden_states();
    let output = vlm.llm.forward(&input)?;
    let word = |id: u32| vlm.llm_processor.token(id);
    let tokens: Vec<String> = ids.iter().map(|id| word(*id)).collect();
    LogitLens::of(&vlm.llm, &output.hidden_states, &tokens, &word)
}

/// Where the image encoder's class token looks (rollout over its layers), and how much of the picture each caption token
/// takes in directly, in the language model's last layer.
///
/// # Errors
/// For an empty caption, or if the image tokens are no patch grid.
pub fn caption_attention(vlm: &Vlm, image: &Image, caption: &str) -> Result<Vec<PatchHeat>> {
    let pixel_values = vlm.image_processor.preprocess(image)?; // [1, 3, H, W]
    let seen = vlm.image_encoder.forward_with_attentions(&pixel_values)?;
    let rolled = attention_rollout(&seen.attentions)?; // [P, P]
    let mut maps = vec![PatchHeat::attention(
        "image encoder, rollout from CLS",
        image,
        &rolled,
        0,
    )?];
    let (sequence, ids) = read(vlm, image, caption)?;
    let input = Phi3Input::embeds(&sequence.inputs_embeds).with_attentions();
    let output = vlm.llm.forward(&input)?;
    let Some(last) = output.attentions.last() else {
        return Ok(maps);
    };
    let attention = mean_over_heads(last)?; // [T, T]
    let (start, patches) = image_place(&sequence)?;
    for (index, id) in ids.iter().enumerate() {
        let row = attention.get(sequence.prompt_lengths[0] + index)?; // [T]
        let weights = row.narrow(0, start, patches)?.to_vec1::<f32>()?;
        let share = weights.iter().sum::<f32>() * 100.0;
        let word = vlm.llm_processor.token(*id).replace('▁', " ");
        maps.push(PatchHeat::new(
            format!("“{}” · {share:.0}% on the picture", word.trim()),
            image,
            &weights,
        )?);
    }
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
        let pixel_values = vlm.image_processor.preprocess(picture)?; // [1, 3, H, W]
        Ok(-f64::from(
            vlm.full_sequence_loss(&pixel_values, &captions)?.value()?,
        ))
    };
    occlusion(&format!("what “{caption}” needs"), image, side, &mut score)
}

/// The sequence that ends with the whole caption, and the caption's token ids.
fn read(vlm: &Vlm, image: &Image, caption: &str) -> Result<(Sequence, Vec<u32>)> {
    let ids = vlm.caption_ids(caption)?;
    let image_tokens = vlm.embed_images(std::slice::from_ref(image))?; // [1, P, D]
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
        let mut parts = VlmParts {
            image_encoder: crate::vision::Vit::load(
                fixtures.join("vit"),
                DType::F32,
                &Device::Cpu,
            )?,
            image_processor: crate::vision::ImageProcessor::new(
                crate::vision::ImageProcessorConfig::vit(64),
            )?,
            llm: crate::language::Phi3::load(fixtures.join("llm"), DType::F32, &Device::Cpu)?,
            llm_processor: crate::language::LlmProcessor::from_dir(fixtures.join("tokenizer"))?,
        };
        // The pooler is not on the way to the loss: its LoRA would rightly be in red.
        parts.image_encoder.pooler = None;
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
        assert!(caption_losses(&vlm, CAPTION, &[]).is_err());
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
