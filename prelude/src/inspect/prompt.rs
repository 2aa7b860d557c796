//! The instruments of this module on a whole [`Vlm`] and any [`Prompt`]: caption, question, conversation, few-shot, infilling.
//!
//! prompt (several inputs, several answers, or one that is left open) → a trace, a ledger, losses, a lens, maps of the pictures.
//! [`caption`](super::caption) has them for a picture and a caption. Nothing here changes the model.

use candle_core::{DType, Tensor};

use super::drawn::{Drawn, input_places, numbers, pictures_of, stage_one};
use super::ledger::GradientLedger;
use super::logit_lens::LogitLens;
use super::occlusion::by_field;
use super::patches::{PatchHeat, mean_over_heads};
use super::shown::ShownPicture;
use super::token_loss::TokenLossMap;
use super::trace::{Expected, StageTrace};
use crate::edits::within;
use crate::error::{Error, Result};
use crate::session::check_interrupt;
use crate::vlm::{InputPiece, Piece, Prompt, PromptPart, Seen, Sequence, Vlm};
use std::time::{Duration, Instant};

/// Every stage from the encoders' inputs to logits, for one prompt, which is read to its end.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let question = vlm.question_prompt(&image, "how many corners?", "four")?;
/// let trace = trace_prompt(&vlm, &question)?;
/// # assert!(trace.len() > 10);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`Vlm::sequence`].
pub fn trace_prompt(vlm: &Vlm, prompt: &Prompt) -> Result<StageTrace> {
    let mut trace = StageTrace::new(format!("a prompt, settings {}", vlm.settings.name));
    trace_stages(vlm, prompt, None, &mut trace)?;
    Ok(trace)
}

/// The stages of a prompt, behind what `trace` has already. `prepared`: how long preparing its input took, where that is known.
pub(super) fn trace_stages(
    vlm: &Vlm,
    prompt: &Prompt,
    prepared: Option<Duration>,
    trace: &mut StageTrace,
) -> Result<()> {
    let mut prompt = prompt.clone();
    let several = prompt.inputs().count() > 1;
    let inputs = prompt.pieces.iter_mut().filter_map(|piece| match piece {
        Piece::Input(input) => Some(input),
        _ => None,
    });
    for (at, input) in inputs.enumerate() {
        // With one input the stages have no number.
        let number = if several {
            format!("[{at}]")
        } else {
            String::new()
        };
        trace_input(vlm, input, &number, prepared, trace)?;
    }
    for (part, name) in [
        (PromptPart::Start, "start_vec"),
        (PromptPart::End, "end_vec"),
        (PromptPart::Query, "query_vec"),
    ] {
        let is_read = |piece: &Piece| matches!(piece, Piece::Vector(own) if *own == part);
        if prompt.pieces.iter().any(is_read) {
            let embeds = vlm.prompt_vector(part)?; // [1, L, D]
            trace.record(name, &["1", "T", "D"], &embeds, None, None)?;
        }
    }
    let (sequence, took) = timed(|| vlm.sequence(std::slice::from_ref(&prompt)))?;
    let axes = ["B", "T", "D"];
    let embeds = &sequence.inputs_embeds; // [1, T, D]
    let expected = Some(Expected::HIDDEN);
    trace.record("inputs_embeds", &axes, embeds, Some(took), expected)?;
    let input = sequence.input().with_hidden_states();
    let (output, took) = timed(|| vlm.llm.forward(&input))?;
    for (index, hidden) in output.hidden_states.iter().enumerate() {
        let name = format!("llm/hidden_states[{index}]");
        trace.record(&name, &axes, hidden, None, expected)?; // [1, T, D]
    }
    let last = &output.last_hidden_state; // [1, T, D]
    trace.record("last_hidden_state", &axes, last, None, None)?;
    let logits = output.logits()?; // [1, T, V]
    trace.record("logits", &["B", "T", "V"], logits, Some(took), None)
}

/// One input's way into the sequence, from as far as it has come; it is left embedded.
fn trace_input(
    vlm: &Vlm,
    input: &mut InputPiece,
    number: &str,
    prepared: Option<Duration>,
    trace: &mut StageTrace,
) -> Result<()> {
    let axes = ["B", "P", "D"];
    let expected = Some(Expected::HIDDEN);
    if let Seen::Prepared(shown) = &input.seen {
        let (encoder, _) = stage_one(vlm, input)?;
        let part = match &input.encoder {
            None => "image_encoder".to_owned(),
            Some(name) => format!("other_encoders.{name}"),
        };
        let mut features = shown.clone(); // hidden states [1, P, D of the encoder], unless it is what the encoder takes
        let mut took = None;
        if shown.rank() == encoder.input_axes().len() {
            let (name, likely) = match encoder.image_processor() {
                Some(_) => ("pixel_values", Some(Expected::PIXELS)),
                None => ("input", None),
            };
            let name = format!("{name}{number}");
            trace.record(&name, encoder.input_axes(), shown, prepared, likely)?;
            let (seen, encoding) = timed(|| {
                let _at = within(|| part.clone());
                encoder.stages(shown)
            })?;
            for (name, tensor) in &seen.named {
                // Patch embeddings have no scale of their own: the encoder's weights decide it.
                let hidden = name.starts_with("hidden_states");
                let name = format!("{part}{number}/{name}");
                trace.record(&name, &axes, tensor, None, expected.filter(|_| hidden))?;
            }
            (features, took) = (seen.features, Some(encoding)); // [1, P, D of the encoder]
        }
        let name = format!("image features{number}");
        trace.record(&name, &axes, &features, took, expected)?;
        let (tokens, took) = timed(|| vlm.project_for(input.encoder.as_deref(), &features))?; // [1, P, D]
        let name = format!("image_tokens{number}");
        trace.record(&name, &axes, &tokens, Some(took), expected)?;
        input.seen = Seen::Embedded(tokens);
    } else if let Seen::Tiled(tiles) = &input.seen {
        let name = format!("pixel_values{number}");
        let shown = &tiles.pixel_values; // [N, 3, H, W]
        let axes_of_tiles = ["N", "C", "H", "W"];
        trace.record(
            &name,
            &axes_of_tiles,
            shown,
            prepared,
            Some(Expected::PIXELS),
        )?;
        let (seen, took) = timed(|| vlm.image_encoder.stages(shown))?;
        let axes = ["N", "P", "D"];
        for (name, tensor) in &seen.named {
            let hidden = name.starts_with("hidden_states");
            let name = format!("image_encoder{number}/{name}");
            trace.record(&name, &axes, tensor, None, expected.filter(|_| hidden))?;
        }
        let name = format!("image features{number}");
        trace.record(&name, &axes, &seen.features, Some(took), expected)?;
        let (tokens, took) = timed(|| vlm.project(&seen.features))?; // [N, P, D]
        let name = format!("image_tokens{number}");
        trace.record(&name, &axes, &tokens, Some(took), expected)?;
        let join = || Ok(vlm.projector.join(&tokens, tiles)?.unsqueeze(0)?);
        let (joined, took) = timed(join)?; // [1, T, D]
        let name = format!("image_tokens{number}, joined");
        trace.record(&name, &["1", "T", "D"], &joined, Some(took), expected)?;
        input.seen = Seen::Embedded(joined);
    } else if let Seen::Embedded(tokens) = &input.seen {
        let name = format!("image_tokens{number}");
        trace.record(&name, &axes, tokens, None, expected)?;
    }
    Ok(())
}

/// What a backward pass of the loss of all targets of a prompt gives to each parameter.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let ledger = prompt_ledger(&vlm, &prompt)?;
/// assert!(ledger.errors().is_empty()); // everything that trains has a gradient
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoTarget`] for a prompt without any, or when the backward pass fails.
pub fn prompt_ledger(vlm: &Vlm, prompt: &Prompt) -> Result<GradientLedger> {
    let loss = vlm.full_sequence_loss_of(prompt)?;
    GradientLedger::of(&loss.loss, &vlm.named_parameters())
}

/// The loss of each target of prompts that have the same ones, named as given: the same question about different pictures, or with
/// and without examples before it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = |color| vlm.question_prompt(&Image::filled(64, 64, color)?, "how many corners?", "four");
/// let losses = prompt_losses(&vlm, &[("red".into(), prompt([200, 30, 40])?), ("black".into(), prompt([0, 0, 0])?)])?;
/// assert_eq!(losses.means()[1].0, "black");
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For no prompts, or for other targets than the first has; and [`Error::Interrupted`].
pub fn prompt_losses(vlm: &Vlm, prompts: &[(String, Prompt)]) -> Result<TokenLossMap> {
    let mut map: Option<(TokenLossMap, Vec<u32>)> = None;
    for (name, prompt) in prompts {
        check_interrupt()?;
        let loss = vlm.full_sequence_loss_of(prompt)?;
        let losses = loss.cross_entropy.to_dtype(DType::F32)?.to_vec1::<f32>()?; // [N]
        let tokens = || loss.targets.iter().map(|id| vlm.llm_processor.token(*id));
        let (before, targets) = map
            .take()
            .unwrap_or_else(|| (TokenLossMap::new(tokens()), loss.targets.clone()));
        if targets != loss.targets {
            return Err(Error::Input(format!(
                "{name:?} has other targets ({:?}) than the prompts before it ({:?}): a loss map compares the same ones",
                vlm.llm_processor.decode(&loss.targets)?,
                vlm.llm_processor.decode(&targets)?
            )));
        }
        map = Some((before.row(name, losses)?, targets));
    }
    let map = map.map(|(map, _)| map);
    map.ok_or_else(|| Error::Input("a loss map needs at least one input".into()))
}

/// What each layer of the language model would say after each token of the answers; of a prompt that is left open, after its last
/// token.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let open = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a")?.without_answer();
/// let lens = prompt_lens(&vlm, &open)?;
/// assert_eq!(lens.best(0).len(), 1); // what each layer would say first
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// As [`Vlm::sequence`].
pub fn prompt_lens(vlm: &Vlm, prompt: &Prompt) -> Result<LogitLens> {
    let sequence = vlm.sequence(std::slice::from_ref(prompt))?;
    let (places, tokens) = looked_at(&sequence)?;
    let output = vlm.llm.forward(&sequence.input().with_hidden_states())?;
    let at = Tensor::new(places, vlm.device())?; // [N]
    let chosen = output.hidden_states.iter();
    let chosen = chosen.map(|hidden| Ok(hidden.index_select(&at, 1)?)); // [1, N, D] each
    let chosen = chosen.collect::<Result<Vec<_>>>()?;
    let word = |id: u32| vlm.llm_processor.token(id);
    LogitLens::of(&vlm.llm, &chosen, &tokens, &word)
}

/// How much of each picture the tokens of the answers take in directly, in the language model's last layer: a map for each token and
/// picture, drawn on the picture as its encoder sees it, all on one scale; each title has the share that is spent on the picture. Of a prompt that is left open, its last token's. A picture in tiles has two maps:
/// all of its tiles put together where they lie, and the whole in one tile, where that is shown.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let maps = prompt_attention(&vlm, &vlm.question_prompt(&image, "how many corners?", "four")?)?;
/// assert!(!maps.is_empty()); // a map for each token of the answer
/// assert!(maps[0].values().iter().all(|weight| *weight >= 0.0));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For a prompt without a picture that is there as pixels, or if its image tokens belong to no place, as a perceiver resampler's.
pub fn prompt_attention(vlm: &Vlm, prompt: &Prompt) -> Result<Vec<PatchHeat>> {
    let pictures = pictures_of(vlm, prompt)?;
    if pictures.is_empty() {
        return Err(Error::Input(
            "the prompt shows no picture as pixel values: there is nothing to draw on".into(),
        ));
    }
    let sequence = vlm.sequence(std::slice::from_ref(prompt))?;
    attention_maps(vlm, &sequence, &pictures)
}

/// The maps of [`prompt_attention`], on these pictures.
pub(super) fn attention_maps(
    vlm: &Vlm,
    sequence: &Sequence,
    pictures: &[Drawn],
) -> Result<Vec<PatchHeat>> {
    let (places, tokens) = looked_at(sequence)?;
    let output = vlm.llm.forward(&sequence.input().with_attentions())?;
    let Some(last) = output.attentions.last() else {
        return Ok(Vec::new());
    };
    let attention = mean_over_heads(last)?; // [T, T]
    let inputs = input_places(sequence);
    let mut maps = Vec::with_capacity(places.len() * pictures.len());
    for (&place, token) in places.iter().zip(&tokens) {
        let row = numbers(&attention.get(place as usize)?)?; // [T]
        let word = token.replace('▁', " ");
        for drawn in pictures {
            maps.push(drawn.map(&word, &row, &inputs)?);
        }
    }
    // A word that takes next to nothing from the picture must not look like one that takes all.
    Ok(PatchHeat::on_one_scale(maps))
}

/// What happens to the probability of a prompt's answers when one field after the other of the picture at `input` is covered with its
/// mean colour: red fields are those that they need. The number is the mean log-probability of the targets, with the picture less without
/// the field. Of a picture in tiles `input` is any of them: the field is covered in each tile that shows it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let heat = prompt_occlusion(&vlm, &prompt, 0, 2)?; // the first picture in 2 × 2 fields
/// assert_eq!(heat.values().len(), 4);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For an input that is no picture there as pixels, a prompt without targets, a `side` that does not fit, and
/// [`Error::Interrupted`].
pub fn prompt_occlusion(
    vlm: &Vlm,
    prompt: &Prompt,
    input: usize,
    side: usize,
) -> Result<PatchHeat> {
    let shown = ShownPicture::of(vlm, prompt, input)?;
    let (height, width) = shown.size()?;
    let colour = shown.mean_colour()?; // [1, C, 1, 1]
    let mut score = |field: Option<(usize, usize)>| {
        let prompt = match field {
            None => prompt.clone(),
            Some(field) => shown.put(prompt, &shown.covered(field, side, &colour)?)?,
        };
        Ok(-f64::from(vlm.full_sequence_loss_of(&prompt)?.value()?))
    };
    let title = format!("what the answer needs of picture {input}");
    let values = by_field(&title, (height, width), side, &mut score)?;
    PatchHeat::grid(title, &shown.picture()?, side, side, values)
}

/// The places of the answers' tokens with what stands there; of a sequence without any, the last.
pub(super) fn looked_at(sequence: &Sequence) -> Result<(Vec<u32>, Vec<String>)> {
    let answers = sequence.answers.first().into_iter().flatten();
    let mut places: Vec<usize> = answers.cloned().flatten().collect();
    if places.is_empty() {
        places.extend(sequence.last_places().first().map(|(_, place)| *place));
    }
    let words = sequence.segments.first().into_iter().flatten();
    let words: Vec<&String> = words.flat_map(|(_, words)| words).collect();
    let spelled = places.iter().map(|&place| match words.get(place) {
        Some(word) => Ok((*word).clone()),
        None => Err(Error::Input(format!(
            "there is no token {place} in a sequence of {}",
            words.len()
        ))),
    });
    let spelled = spelled.collect::<Result<_>>()?;
    Ok((
        places.into_iter().map(|place| place as u32).collect(),
        spelled,
    ))
}

pub(super) fn timed<T>(stage: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let value = stage()?;
    Ok((value, begun.elapsed()))
}
