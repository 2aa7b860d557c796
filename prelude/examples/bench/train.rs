//! A training step: loss, gradients of everything that trains, AdamW.

use candle_core::Tensor;
use glassbox_prelude::train::{AdamW, AdamWConfig, Gradients};
use glassbox_prelude::vlm::{CaptionBatch, Query};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::Failure;
use crate::config::{Config, dtype};
use crate::measure::{Figures, add_rates, device, rounded, timed};

pub fn run(config: &Config, batch: usize, loss: &str) -> Result<Figures, Failure> {
    let vlm = crate::model::random_vlm(config, true)?;
    let all = vlm.named_parameters();
    let trainable = vlm.trainable_parameters();
    let count = |parameters: &[glassbox_prelude::nn::Parameter]| -> usize {
        parameters.iter().map(|parameter| parameter.count()).sum()
    };
    let mut optimizer = AdamW::new(AdamWConfig {
        learning_rate: config.adamw.lr,
        beta1: config.adamw.betas.0,
        beta2: config.adamw.betas.1,
        eps: config.adamw.eps,
        weight_decay: config.adamw.weight_decay,
    })?;
    vlm.set_training(true);
    let input = random_batch(config, batch)?;
    let mut losses = Vec::new();
    let mut figures = timed(config.reps, config.warmup, |step| {
        let output = match loss {
            "random_prefix" => {
                let index = config.prefix_schedule[step % config.prefix_schedule.len()];
                vlm.random_prefix_loss_at(&input, &vec![index; batch])?
            }
            _ => vlm.full_sequence_loss_of(&input)?,
        };
        let gradients = Gradients::of(&output.loss, &trainable)?;
        optimizer.step(&trainable, &gradients)?;
        losses.push(rounded(f64::from(output.value()?), 4));
        Ok(())
    })?;
    add_rates(&mut figures, "steps", 1, 4);
    let seconds = figures
        .get("median_s")
        .and_then(|value| value.as_f64())
        .unwrap_or(f64::NAN);
    figures.insert(
        "images_per_s".to_owned(),
        rounded(batch as f64 / seconds, 4),
    );
    figures.insert("losses".to_owned(), json!(losses));
    figures.insert("trainable_params".to_owned(), json!(count(&trainable)));
    figures.insert("total_params".to_owned(), json!(count(&all)));
    Ok(figures)
}

/// Random pictures and captions of random tokens.
fn random_batch(config: &Config, batch: usize) -> Result<CaptionBatch, Failure> {
    let side = config.vit_config()?.image_size;
    let pixels = Tensor::randn(0f32, 1f32, (batch, 3, side, side), &device()?)?; // [B, 3, H, W]
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let vocabulary = config.llm_config()?.vocab_size.min(32_000) as u32;
    let caption_ids = (0..batch)
        .map(|_| {
            (0..config.caption_tokens)
                .map(|_| rng.random_range(3..vocabulary))
                .collect()
        })
        .collect();
    Ok(CaptionBatch {
        pixel_values: pixels.to_dtype(dtype(&config.dtype)?)?,
        caption_ids,
        query: Query::Vector,
    })
}
