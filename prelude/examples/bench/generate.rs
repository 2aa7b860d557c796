//! Captions of random models, greedy: through `Vlm::generate`, by a loop over the key-value cache, and the blog's way.

use candle_core::{DType, Tensor};
use glassbox_prelude::language::{LlmInput, LogitsAt};
use glassbox_prelude::vlm::{Query, Vlm};
use serde_json::json;

use crate::Failure;
use crate::config::{Config, dtype};
use crate::measure::{Figures, add_rates, device, timed};

pub fn run(config: &Config, way: &str) -> Result<Figures, Failure> {
    let vlm = crate::model::random_vlm(config, false)?;
    let side = config.vit_config()?.image_size;
    let pixels = Tensor::randn(0f32, 1f32, (1, 3, side, side), &device()?)?
        .to_dtype(dtype(&config.dtype)?)?; // [1, 3, H, W]
    let blog = way == "blog_full_reforward";
    let tokens = config
        .new_tokens_blog
        .filter(|_| blog)
        .unwrap_or(config.new_tokens);
    let mut ids = Vec::new();
    let warmup = usize::from(!blog);
    let mut figures = timed(config.gen_reps, warmup, |_| {
        ids = match way {
            "hf_generate_kv" => {
                vlm.generate_from(&pixels)
                    .max_new_tokens(tokens)
                    .stop_at(Vec::new())
                    .run()?
                    .ids
            }
            "kv_manual" => with_own_loop(&vlm, &pixels, tokens)?,
            _ => {
                let generate = vlm.generate_from(&pixels).max_new_tokens(tokens);
                generate.stop_at(Vec::new()).without_cache().run()?.ids
            }
        };
        Ok(())
    })?;
    figures.insert("new_tokens".to_owned(), json!(tokens));
    add_rates(&mut figures, "tokens", tokens, 3);
    figures.insert(
        "ids_head".to_owned(),
        json!(ids.iter().take(8).collect::<Vec<_>>()),
    );
    figures.insert("note".to_owned(), json!("image encode + prefill included"));
    Ok(figures)
}

/// Greedy generation written out: what a cell would do by hand.
fn with_own_loop(vlm: &Vlm, pixels: &Tensor, tokens: usize) -> Result<Vec<u32>, Failure> {
    let image_tokens = vlm.image_tokens(pixels)?; // [1, P, D]
    let sequence = vlm.concatenate(&image_tokens, &Query::Vector, &[Vec::new()])?; // [1, T, D]
    let cache = vlm
        .llm
        .new_cache(1, sequence.inputs_embeds.dim(1)? + tokens)?;
    let mut embeds = sequence.inputs_embeds;
    let mut ids = Vec::with_capacity(tokens);
    while ids.len() < tokens {
        let input = LlmInput::embeds(&embeds)
            .cache(&cache)
            .logits_at(LogitsAt::Last);
        let output = vlm.llm.forward(&input)?;
        let next = output
            .logits()?
            .argmax(candle_core::D::Minus1)?
            .to_dtype(DType::U32)?; // [1]
        let id = next.to_vec1::<u32>()?[0];
        ids.push(id);
        embeds = vlm.llm.embed_ids(&[id])?; // [1, 1, D]
    }
    Ok(ids)
}
