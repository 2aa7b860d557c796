//! Phi-3: hidden states, logits, padding, KV cache, bf16 shards, sliding window, LongRoPE.

use crate::compare::{Fixtures, Group, Outcome, device, numbers};
use candle_core::{DType, IndexOp, Tensor};
use glassbox_prelude::candle_core;
use glassbox_prelude::language::{Decoder, LlmInput, LogitsAt};
use glassbox_prelude::nn::cross_entropy;

/// Largest difference of hidden states and logits, from the fixtures' README.
const LOGITS: f64 = 1e-4;
/// The loss in f32.
const LOSS: f64 = 2e-5;

fn load(fixtures: &Fixtures, dir: &str) -> Result<Decoder, Box<dyn std::error::Error>> {
    Ok(Decoder::load(fixtures.path(dir), DType::F32, &device()?)?)
}

pub fn plain(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let model = load(fixtures, "llm")?;
    let want = fixtures.tensors("llm/expected.safetensors")?;
    let ids = want.get("input_ids")?;
    let out = model.forward(&LlmInput::ids(ids).with_hidden_states().with_attentions())?;
    for (i, hidden) in out.hidden_states.iter().skip(1).enumerate() {
        group.close(
            &format!("layer {i} output"),
            hidden,
            want.get(&format!("ids.layer_{i}_out"))?,
            LOGITS,
        );
    }
    group.equal(
        "number of hidden states",
        &out.hidden_states.len(),
        &(model.config.num_hidden_layers + 1),
    );
    group.close(
        "final norm",
        &out.last_hidden_state,
        want.get("ids.final_norm")?,
        LOGITS,
    );
    group.close("logits", out.logits()?, want.get("ids.logits")?, LOGITS);

    let (batch, tokens) = ids.dims2()?;
    let shifted = out
        .logits()?
        .narrow(1, 0, tokens - 1)?
        .reshape((batch * (tokens - 1), model.config.vocab_size))?;
    let targets: Vec<u32> = ids
        .narrow(1, 1, tokens - 1)?
        .flatten_all()?
        .to_dtype(DType::U32)?
        .to_vec1()?;
    let loss = cross_entropy(&shifted, &targets)?.reshape(1)?;
    group.close("shifted loss", &loss, want.get("ids.loss_shifted")?, LOSS);

    let last = model.forward(&LlmInput::ids(ids).logits_at(LogitsAt::Last))?;
    group.close(
        "logits at the last token only",
        last.logits()?,
        &want.get("ids.logits")?.i((.., tokens - 1))?,
        LOGITS,
    );
    let places = vec![(1, 3), (0, tokens - 1), (1, 0)];
    let some = model.forward(&LlmInput::ids(ids).logits_at(LogitsAt::Chosen(places.clone())))?;
    for (row, (b, t)) in places.into_iter().enumerate() {
        group.close(
            &format!("logits at sequence {b}, token {t}"),
            &some.logits()?.i(row)?,
            &want.get("ids.logits")?.i((b, t))?,
            LOGITS,
        );
    }
    for (layer, attention) in out.attentions.iter().enumerate() {
        let sums = attention.sum(candle_core::D::Minus1)?;
        group.close(
            &format!("layer {layer} attention rows sum to 1"),
            &sums,
            &sums.ones_like()?,
            1e-5,
        );
    }
    let embeds = model.forward(&LlmInput::embeds(want.get("inputs_embeds")?))?;
    group.close(
        "logits from inputs_embeds",
        embeds.logits()?,
        want.get("embeds.logits")?,
        LOGITS,
    );
    let (cos, sin) = tables(&model, want.get("rope.cos")?.dim(0)?)?;
    group.close("rotary cosines", &cos, want.get("rope.cos")?, 1e-5);
    group.close("rotary sines", &sin, want.get("rope.sin")?, 1e-5);
    Ok(())
}

/// Cosines and sines of positions `0..length`, `[length, R]`: each half of a head uses the same angles.
fn tables(model: &Decoder, length: usize) -> Result<(Tensor, Tensor), Box<dyn std::error::Error>> {
    let (frequencies, scaling) = model.config.inverse_frequencies(length);
    let rotary =
        glassbox_prelude::nn::Rotary::new(&frequencies, &[(0..length as u32).collect()], scaling)?;
    let (cos, sin) = rotary.tables()?;
    let twice =
        |t: Tensor| -> candle_core::Result<Tensor> { Tensor::cat(&[&t, &t], 2)?.squeeze(0) };
    Ok((twice(cos)?, twice(sin)?))
}

/// Zeroes the rows that are padding.
fn masked(logits: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    logits.broadcast_mul(&mask.to_dtype(DType::F32)?.unsqueeze(2)?)
}

pub fn padding(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let model = load(fixtures, "llm")?;
    let want = fixtures.tensors("llm/expected.safetensors")?;
    let (right, left) = (want.get("pad.right_mask")?, want.get("pad.left_mask")?);

    let out = model.forward(&LlmInput::ids(want.get("pad.right_ids")?).attention_mask(right))?;
    group.close(
        "padding on the right",
        &masked(out.logits()?, right)?,
        &masked(want.get("pad.right.logits")?, right)?,
        LOGITS,
    );

    let input = LlmInput::ids(want.get("pad.left_ids")?).attention_mask(left);
    let key = "pad.left_arange_positions.logits";
    let out = model.forward(&input)?;
    group.close(
        "padding on the left, counted positions",
        &masked(out.logits()?, left)?,
        &masked(want.get(key)?, left)?,
        LOGITS,
    );

    let positions = want
        .get("pad.left_position_ids")?
        .to_dtype(DType::U32)?
        .to_vec2::<u32>()?;
    let key = "pad.left_mask_positions.logits";
    let out = model.forward(&input.position_ids(positions))?;
    group.close(
        "padding on the left, positions by the mask",
        &masked(out.logits()?, left)?,
        &masked(want.get(key)?, left)?,
        LOGITS,
    );
    Ok(())
}

/// Feeds `ids` in chunks through a cache and puts the logits together.
fn in_chunks(
    model: &Decoder,
    ids: &Tensor,
    chunks: &[usize],
) -> Result<Tensor, Box<dyn std::error::Error>> {
    let cache = model.new_cache(ids.dim(0)?, ids.dim(1)?)?;
    let mut logits = Vec::new();
    let mut start = 0;
    for &chunk in chunks {
        let out = model.forward(&LlmInput::ids(&ids.narrow(1, start, chunk)?).cache(&cache))?;
        logits.push(out.logits()?.clone());
        start += chunk;
    }
    Ok(Tensor::cat(&logits, 1)?)
}

pub fn cache(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let model = load(fixtures, "llm")?;
    let want = fixtures.tensors("llm/expected.safetensors")?;
    let chunks = fixtures.json("llm/expected.json")?;
    for key in ["kv.steps", "kv.chunked"] {
        let expected = want.get(&format!("{key}.logits"))?;
        let chunks = numbers(&chunks[key]);
        let ids = want.get("input_ids")?.narrow(1, 0, chunks.iter().sum())?;
        let got = in_chunks(&model, &ids, &chunks)?;
        group.close(&format!("{key} {chunks:?}"), &got, expected, LOGITS);
        let full = model.forward(&LlmInput::ids(&ids))?;
        group.close(
            &format!("{key} against our full forward"),
            &got,
            full.logits()?,
            LOGITS,
        );
    }
    Ok(())
}

pub fn bf16_shards(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let want = fixtures.tensors("llm/expected.safetensors")?;
    let row = want.get("input_ids")?.narrow(0, 0, 1)?;
    let model = load(fixtures, "llm_bf16_sharded")?;
    let out = model.forward(&LlmInput::ids(&row))?;
    group.close(
        "bf16 weights, f32 arithmetic",
        out.logits()?,
        want.get("bf16_weights_f32_compute.logits_row0")?,
        LOGITS,
    );
    let low = Decoder::load(fixtures.path("llm_bf16_sharded"), DType::BF16, &device()?)?;
    let out = low.forward(&LlmInput::ids(&row))?;
    // No reference for bf16 arithmetic: eight bits of mantissa over a few layers stay within a few percent.
    let exact = want.get("bf16_weights_f32_compute.logits_row0")?;
    let size = exact.abs()?.max_all()?.to_scalar::<f32>()?;
    group.close(
        "bf16 arithmetic, relative to the largest logit",
        &(out.logits()? / f64::from(size))?,
        &(exact / f64::from(size))?,
        5e-2,
    );
    Ok(())
}

pub fn sliding_window(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let model = load(fixtures, "llm_sliding_window")?;
    let want = fixtures.tensors("llm_sliding_window/expected.safetensors")?;
    let ids = want.get("input_ids")?;
    group.holds(
        "the config has a window",
        model.config.sliding_window.is_some(),
    );
    let out = model.forward(&LlmInput::ids(ids))?;
    group.close("logits", out.logits()?, want.get("logits")?, LOGITS);
    let mut chunks = vec![12];
    chunks.resize(1 + ids.dim(1)? - 12, 1);
    group.close(
        "logits with a cache, 12 then single tokens",
        &in_chunks(&model, ids, &chunks)?,
        want.get("kv.logits")?,
        LOGITS,
    );
    Ok(())
}

pub fn longrope(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let model = load(fixtures, "llm_longrope")?;
    let want = fixtures.tensors("llm_longrope/expected.safetensors")?;
    let ids = want.get("input_ids")?;
    let mut lengths: Vec<usize> = want
        .map
        .keys()
        .filter_map(|key| key.strip_prefix("logits_"))
        .filter_map(|n| n.parse().ok())
        .collect();
    lengths.sort_unstable();
    for &n in &lengths {
        let part = ids.narrow(1, 0, n)?;
        let out = model.forward(&LlmInput::ids(&part))?;
        group.close(
            &format!("logits of {n} tokens"),
            out.logits()?,
            want.get(&format!("logits_{n}"))?,
            LOGITS,
        );
        let (cos, sin) = tables(&model, n)?;
        group.close(
            &format!("cosines of {n} tokens"),
            &cos,
            want.get(&format!("cos_{n}"))?,
            1e-5,
        );
        group.close(
            &format!("sines of {n} tokens"),
            &sin,
            want.get(&format!("sin_{n}"))?,
            1e-5,
        );
    }
    // Through the border with a cache, the last token must see what a full forward sees.
    let longest = *lengths.last().ok_or("no lengths")?;
    let border = model
        .config
        .long_rope_border()
        .ok_or("the config has no longrope")?;
    let cache = model.new_cache(1, longest)?;
    let mut logits = model.forward(&LlmInput::ids(&ids.narrow(1, 0, border - 2)?).cache(&cache))?;
    for t in border - 2..longest {
        logits = model.forward(&LlmInput::ids(&ids.narrow(1, t, 1)?).cache(&cache))?;
    }
    let expected = want
        .get(&format!("logits_{longest}"))?
        .narrow(1, longest - 1, 1)?;
    group.close(
        "cache through the border, last token",
        logits.logits()?,
        &expected,
        LOGITS,
    );
    Ok(())
}
