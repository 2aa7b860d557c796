//! Pretraining of the language model: documents → next-token loss on their captions, given what stands before.

use std::time::Instant;

use glassbox_prelude::Result;
use glassbox_prelude::candle_core::{Device, Tensor};
use glassbox_prelude::data::shapes::Scene;
use glassbox_prelude::data::{SceneAttributes, Shapes, ShapesConfig, Split};
use glassbox_prelude::language::{Decoder, DecoderConfig, LlmInput, LlmProcessor, LogitsAt};
use glassbox_prelude::nn::{Network, cross_entropy};
use glassbox_prelude::train::{AdamW, AdamWConfig, Gradients, Schedule};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::documents::{Document, Kind, Place, Words};
use super::{Outcome, Plan, say};

/// Standard deviation of the noise on places with several words, in units of the embeddings' own.
const NOISE: f64 = 0.2;
/// Held-out scenes that the model is asked to describe from their sheets at the end.
const QUESTIONS: usize = 200;
/// Longest description, in tokens.
const LONGEST: usize = 32;

/// The sizes of the model, its special tokens taken from the tokenizer.
pub fn config(processor: &LlmProcessor) -> DecoderConfig {
    let rows = processor.vocab_size().next_multiple_of(32);
    let mut config = DecoderConfig::new(rows, 128, 256, 4, 4);
    config.max_position_embeddings = 256;
    config.bos_token_id = processor.bos_id();
    config.pad_token_id = processor.pad_id();
    config.eos_token_id = processor.eos_id().map(Into::into);
    config
}

/// Trains a fresh model; `sheets`: also on sheets, which are nearly nine of ten documents then.
pub fn pretrain(
    config: &DecoderConfig,
    words: &Words,
    plan: &Plan,
    sheets: bool,
) -> Result<(Decoder, Outcome)> {
    let mut llm = Decoder::new_random(config, plan.seed, &Device::Cpu)?;
    llm.set_trainable(true)?;
    let parameters = llm.named_parameters();
    let shapes = Shapes::new(ShapesConfig {
        seed: plan.seed,
        ..ShapesConfig::default()
    })?;
    let mut adamw = AdamW::new(AdamWConfig {
        learning_rate: plan.rate,
        weight_decay: 0.02,
        ..AdamWConfig::default()
    })?;
    let schedule = Schedule::WarmupCosine {
        warmup: 0.04,
        floor: 0.02,
    };
    let begun = Instant::now();
    let mut mean = None;
    for step in 0..plan.steps {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        rng.set_stream(step as u64);
        let kind = Kind::draw(sheets, &mut rng);
        let mut documents = Vec::with_capacity(plan.batch);
        for place in 0..plan.batch {
            let index = (step * plan.batch + place) as u64;
            let captions = shapes.captions(Split::Train, index);
            let caption = &captions[rng.random_range(0..captions.len())];
            documents.push(words.document(
                &shapes.scene(Split::Train, index),
                caption,
                kind,
                &mut rng,
            )?);
        }
        let loss = loss(&llm, &documents, &mut rng)?;
        let mut gradients = Gradients::of(&loss, &parameters)?;
        gradients.clip(1.0)?;
        adamw.step_with_rate(&parameters, &gradients, plan.rate_at(step, schedule))?;
        let now = f64::from(loss.to_scalar::<f32>()?);
        let mean = mean.insert(mean.map_or(now, |mean| mean + (now - mean) * 0.02));
        if (step + 1) % 200 == 0 || step + 1 == plan.steps {
            let seconds = begun.elapsed().as_secs_f64();
            say(&format!(
                "llm {:>6}/{}  loss {mean:.4}  {seconds:.0} s",
                step + 1,
                plan.steps
            ));
        }
    }
    let right = read_sheets(&llm, words, &shapes)?;
    let losses = vec![(
        "caption loss, nats a token".to_string(),
        mean.unwrap_or(f64::NAN),
    )];
    let score = (
        "held-out sheets described without a fault".to_string(),
        right,
    );
    llm.set_trainable(false)?;
    Ok((
        llm,
        Outcome {
            seconds: begun.elapsed().as_secs_f64(),
            losses,
            score,
        },
    ))
}

/// Mean loss over the captions' tokens of a batch.
fn loss(llm: &Decoder, documents: &[Document], rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let longest = documents
        .iter()
        .map(|document| document.context.len() + document.caption.len())
        .max()
        .unwrap_or(1);
    let mut rows = Vec::with_capacity(documents.len());
    let (mut places, mut targets) = (Vec::new(), Vec::new());
    for (row, document) in documents.iter().enumerate() {
        let mut row_places = document.context.clone();
        for (index, id) in document.caption.iter().enumerate() {
            places.push((row, document.context.len() + index - 1)); // the token before predicts this one
            targets.push(*id);
            row_places.push(vec![(*id, 1.0)]);
        }
        row_places.resize(longest, Vec::new()); // padding behind, seen by nothing that counts
        rows.push(row_places);
    }
    let embeddings = embed(llm, &rows, Some(rng))?; // [B, T, D]
    let output = llm.forward(&LlmInput::embeds(&embeddings).logits_at(LogitsAt::Chosen(places)))?;
    cross_entropy(output.logits()?, &targets) // logits [N, V]
}

/// Each place's embedding: the weighted sum of its tokens'. `[B, T, D]`.
fn embed(llm: &Decoder, rows: &[Vec<Place>], noise: Option<&mut ChaCha8Rng>) -> Result<Tensor> {
    let table = llm.embed_tokens.weight.tensor(); // [V, D]
    let (vocabulary, width) = table.dims2()?;
    let (batch, tokens) = (rows.len(), rows.first().map_or(0, Vec::len));
    let mut weights = vec![0f32; batch * tokens * vocabulary];
    for (place, row) in rows
        .iter()
        .flatten()
        .zip(weights.chunks_exact_mut(vocabulary))
    {
        for (id, weight) in place {
            row[*id as usize] += weight;
        }
    }
    let weights = Tensor::from_vec(weights, (batch * tokens, vocabulary), &Device::Cpu)?; // [B·T, V]
    let embeddings = weights.matmul(table)?.reshape((batch, tokens, width))?; // [B, T, D]
    let Some(rng) = noise else {
        return Ok(embeddings);
    };
    let spread = table
        .detach()
        .sqr()?
        .mean_all()?
        .sqrt()?
        .to_scalar::<f32>()?;
    let mut values = Vec::with_capacity(batch * tokens * width);
    for place in rows.iter().flatten() {
        let scale = if place.len() > 1 {
            NOISE as f32 * spread
        } else {
            0.0
        };
        values.extend((0..width).map(|_| {
            if scale > 0.0 {
                scale * normal(rng)
            } else {
                0.0
            }
        }));
    }
    Ok((embeddings + Tensor::from_vec(values, (batch, tokens, width), &Device::Cpu)?)?)
}

/// The part of held-out scenes that the model describes right from their sheets, greedily.
fn read_sheets(llm: &Decoder, words: &Words, shapes: &Shapes) -> Result<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let scenes: Vec<Scene> = (0..QUESTIONS as u64)
        .map(|index| shapes.scene(Split::Val, index))
        .collect();
    let sheets: Vec<Vec<Place>> = scenes
        .iter()
        .map(|scene| Ok(words.document(scene, "", Kind::Shown, &mut rng)?.context))
        .collect::<Result<_>>()?;
    let embeddings = embed(llm, &sheets, None)?; // [B, T, D]
    let cache = llm.new_cache(QUESTIONS, embeddings.dim(1)? + LONGEST)?;
    let mut input = LlmInput::embeds(&embeddings).cache(&cache);
    let mut answers = vec![Vec::new(); QUESTIONS];
    for _ in 0..LONGEST {
        let output = llm.forward(&input.logits_at(LogitsAt::Last))?;
        let next = output.logits()?.argmax(1)?; // [B]
        for (answer, id) in answers.iter_mut().zip(next.to_vec1::<u32>()?) {
            answer.push(id);
        }
        input = LlmInput::ids(&next.unsqueeze(1)?).cache(&cache); // [B, 1]
    }
    let mut right = 0;
    for (answer, scene) in answers.iter().zip(&scenes) {
        let caption = answer
            .split(|id| words.ends(*id))
            .next()
            .unwrap_or_default();
        let found = SceneAttributes::from_caption(&words.text(caption)?);
        right += usize::from(found == SceneAttributes::from_scene(scene));
    }
    Ok(right as f64 / QUESTIONS as f64)
}

/// A standard normal number, by Box and Muller.
fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v): (f32, f32) = (rng.random_range(f32::EPSILON..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
