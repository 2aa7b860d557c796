//! The composition: sequences, logits, losses and greedy generation of the blog's model.

use crate::compare::{Fixtures, Group, Outcome, Tensors, device, difference, number, numbers};
use candle_core::{DType, Tensor};
use glassbox_prelude::candle_core;
use glassbox_prelude::language::{Decoder, LlmInput, LlmProcessor, LogitsAt};
use glassbox_prelude::serde_json::Value;
use glassbox_prelude::vision::{ImageProcessor, Rescaling, Vit};
use glassbox_prelude::vlm::{
    AdapterTraining, CaptionBatch, PromptVectors, Query, Stopped, Vlm, VlmParts, VlmSettings,
};

const LOGITS: f64 = 1e-4;
const LOSS: f64 = 2e-5;
/// Relative difference between the mean of the blog's loop and one forward pass.
const MEANS: f64 = 5e-6;

type Error = Box<dyn std::error::Error>;

/// The blog's model from the fixtures, without its faults of training.
pub fn build(fixtures: &Fixtures) -> Result<Vlm, Error> {
    let feature = fixtures.json("vlm/expected.json")?["vision_feature"]
        .as_str()
        .ok_or("no vision_feature")?
        .parse()?;
    let parts = VlmParts {
        image_encoder: Vit::load(fixtures.path("vit"), DType::F32, &device()?)?.into(),
        image_processor: ImageProcessor::from_file(
            fixtures.path("images/preprocessor_config.json"),
        )?,
        llm: Decoder::load(fixtures.path("llm"), DType::F32, &device()?)?,
        llm_processor: LlmProcessor::from_dir(fixtures.path("tokenizer"))?,
    };
    let settings = VlmSettings {
        vision_feature: feature,
        rescaling: Rescaling::Once,
        adapters: AdapterTraining::Trained,
        prompt_vectors: PromptVectors::Trained,
        vit_lora: None,
        llm_lora: None,
        ..VlmSettings::blog()
    };
    let mut vlm = Vlm::new(parts, settings, 0)?;
    vlm.load_weights(fixtures.path("vlm/vlm.safetensors"))?;
    Ok(vlm)
}

/// Token ids of the captions, cut to their lengths.
fn lists(ids: &Tensor, lengths: Option<&Tensor>) -> Result<Vec<Vec<u32>>, Error> {
    let mut lists = ids.to_dtype(DType::U32)?.to_vec2::<u32>()?;
    if let Some(lengths) = lengths {
        for (list, length) in lists
            .iter_mut()
            .zip(lengths.to_dtype(DType::U32)?.to_vec1::<u32>()?)
        {
            list.truncate(length as usize);
        }
    }
    Ok(lists)
}

/// The first `rows` samples, with the query of a mode.
pub fn batch(want: &Tensors, mode: &str, rows: usize) -> Result<CaptionBatch, Error> {
    let mut caption_ids = lists(want.get("caption_ids")?, Some(want.get("caption_lengths")?))?;
    caption_ids.truncate(rows);
    let query = if mode == "query_text" {
        let mut queries = lists(want.get("query_ids")?, None)?;
        queries.truncate(rows);
        Query::Each(queries)
    } else {
        Query::Vector
    };
    Ok(CaptionBatch {
        pixel_values: want.get("pixel_values")?.narrow(0, 0, rows)?,
        caption_ids,
        query,
    })
}

fn rows_of(case: &Value) -> usize {
    if case["batch"] == "b1" { 1 } else { 2 }
}

pub fn cases(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let vlm = build(fixtures)?;
    let expected = fixtures.json("vlm/expected.json")?;
    let want = fixtures.tensors("vlm/expected.safetensors")?;
    let pixels = want.get("pixel_values")?;
    group.close(
        "image tokens",
        &vlm.image_tokens(pixels)?,
        want.get("image_tokens")?,
        LOGITS,
    );
    let ids = lists(want.get("caption_ids")?, Some(want.get("caption_lengths")?))?;
    for (caption, ids) in expected["captions"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(&ids)
    {
        group.equal(
            "caption ids",
            &vlm.caption_ids(caption.as_str().unwrap_or_default())?,
            ids,
        );
    }
    for case in expected["cases"].as_array().ok_or("no cases")? {
        let key = case["key"].as_str().ok_or("a case without key")?;
        let batch = batch(
            &want,
            case["mode"].as_str().unwrap_or_default(),
            rows_of(case),
        )?;
        let indices = numbers(&case["predict_at_index"]);
        let out = vlm.random_prefix_loss_at(&batch, &indices)?;
        group.close(
            &format!("{key} last logit"),
            &out.logits,
            want.get(&format!("{key}.last_logit"))?,
            LOGITS,
        );
        let targets: Vec<usize> = out.targets.iter().map(|&id| id as usize).collect();
        group.equal(
            &format!("{key} target"),
            &targets,
            &numbers(&case["target"]),
        );
        let loss = f64::from(out.value()?);
        group.within(
            &format!("{key} loss"),
            (loss - number(&case["loss"])?).abs(),
            LOSS,
        );
        let (input, logits) = (format!("{key}.llm_input"), format!("{key}.logits"));
        if want.map.contains_key(&input) {
            let prefixes: Vec<Vec<u32>> = batch
                .caption_ids
                .iter()
                .zip(&indices)
                .map(|(ids, &p)| ids[..p].to_vec())
                .collect();
            let image_tokens = vlm.image_tokens(&batch.pixel_values)?;
            let sequence = vlm.concatenate(&image_tokens, &batch.query, &prefixes)?;
            // The reference pads with the embedding of id 0, we with zeros: compare the tokens.
            let mask = sequence
                .attention_mask()?
                .to_dtype(DType::F32)?
                .unsqueeze(2)?;
            let masked = |t: &Tensor| t.broadcast_mul(&mask);
            group.close(
                &format!("{key} sequence"),
                &masked(&sequence.inputs_embeds)?,
                &masked(want.get(&input)?)?,
                LOGITS,
            );
            if want.map.contains_key(&logits) {
                let out = vlm.llm.forward(
                    &LlmInput::embeds(&sequence.inputs_embeds).logits_at(LogitsAt::Every),
                )?;
                group.close(
                    &format!("{key} all logits"),
                    out.logits()?,
                    want.get(&logits)?,
                    LOGITS,
                );
            }
        }
    }
    Ok(())
}

pub fn means(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let vlm = build(fixtures)?;
    let expected = fixtures.json("vlm/expected.json")?;
    let want = fixtures.tensors("vlm/expected.safetensors")?;
    for mode in ["query_vec", "query_text"] {
        let means = &expected[format!("{mode}.mean_over_prefixes")];
        let one = batch(&want, mode, 1)?;
        let both = batch(&want, mode, 2)?;
        let full = f64::from(vlm.full_sequence_loss_of(&one)?.value()?);
        let by_loop = vlm
            .target_range(one.caption_ids[0].len())
            .map(|p| Ok(f64::from(vlm.random_prefix_loss_at(&one, &[p])?.value()?)))
            .collect::<Result<Vec<f64>, Error>>()?;
        let loop_mean = by_loop.iter().sum::<f64>() / by_loop.len() as f64;
        let listed = means
            .as_object()
            .and_then(|m| m.iter().find(|(k, _)| k.starts_with("blog_loop_per_p")));
        let listed = listed
            .and_then(|(_, v)| v.as_array())
            .ok_or("no losses by index")?;
        group.equal(
            &format!("{mode} number of prefixes"),
            &by_loop.len(),
            &listed.len(),
        );
        for (p, (got, want)) in by_loop.iter().zip(listed).enumerate() {
            group.within(
                &format!("{mode} loss at index {}", p + 1),
                (got - number(want)?).abs(),
                LOSS,
            );
        }
        group.within(
            &format!("{mode} one forward against our loop, relative"),
            (full / loop_mean - 1.0).abs(),
            MEANS,
        );
        group.within(
            &format!("{mode} one forward against the reference, relative"),
            (full / number(&means["one_forward_mean"])? - 1.0).abs(),
            MEANS,
        );
        let out = vlm.full_sequence_loss_of(&both)?;
        let reference = number(&means["one_forward_b2_mean_of_means"])?;
        group.within(
            &format!("{mode} two captions, relative"),
            (f64::from(out.value()?) / reference - 1.0).abs(),
            MEANS,
        );
        let table = want.get(&format!("{mode}.full.ce_b2"))?.to_vec2::<f32>()?;
        let losses = out.cross_entropy.to_vec1::<f32>()?;
        let worst = out
            .places
            .iter()
            .zip(losses)
            .map(|(&(b, p), loss)| f64::from((loss - table[b][p]).abs()))
            .fold(0.0, f64::max);
        group.within(&format!("{mode} cross-entropy of each target"), worst, LOSS);
    }
    Ok(())
}

pub fn generation(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let vlm = build(fixtures)?;
    let want = fixtures.tensors("vlm/expected.safetensors")?;
    for mode in ["query_vec", "query_text"] {
        let batch = batch(&want, mode, 2)?;
        let ids = lists(want.get(&format!("{mode}.gen.ids"))?, None)?;
        let logits = want.get(&format!("{mode}.gen.step_logits"))?;
        let steps = ids[0].len();
        for (how, cached) in [("cache", true), ("full re-run", false)] {
            let mut generate = vlm
                .generate_from(&batch.pixel_values)
                .query(batch.query.clone())
                .max_new_tokens(steps)
                .stop_at(Vec::new())
                .keep_logits();
            if !cached {
                generate = generate.without_cache();
            }
            for (b, made) in generate.run_all()?.iter().enumerate() {
                group.equal(
                    &format!("{mode} ids of picture {b}, {how}"),
                    &made.ids,
                    &ids[b],
                );
                let steps = made.logits.as_ref().ok_or("no logits were kept")?;
                group.within(
                    &format!("{mode} logits of picture {b}, {how}"),
                    difference(steps, &logits.get(b)?),
                    LOGITS,
                );
            }
        }
        // Stopping at a token that appears in the middle gives the ids up to its first appearance.
        let eos = ids[0][steps / 2];
        let first = ids[0].iter().position(|&id| id == eos).unwrap_or(0);
        let one = vlm
            .generate_from(&batch.pixel_values.narrow(0, 0, 1)?)
            .query(match &batch.query {
                Query::Each(lists) => Query::Shared(lists[0].clone()),
                other => other.clone(),
            })
            .max_new_tokens(steps)
            .stop_at(vec![eos])
            .run()?;
        group.equal(
            &format!("{mode} stops at its end token"),
            &one.ids,
            &ids[0][..=first].to_vec(),
        );
        group.equal(
            &format!("{mode} says why it stopped"),
            &one.stopped,
            &Stopped::Eos,
        );
    }
    // Questions of different length in one batch give what each gives alone.
    let pixels = want.get("pixel_values")?;
    let queries = vec![vec![5u32, 6, 7], vec![9u32, 10, 11, 12, 13, 14]];
    for cached in [true, false] {
        let run = |pixels: &Tensor, query: Query| {
            let generate = vlm
                .generate_from(pixels)
                .query(query)
                .max_new_tokens(6)
                .stop_at(Vec::new());
            if cached {
                generate.run_all()
            } else {
                generate.without_cache().run_all()
            }
        };
        let together = run(pixels, Query::Each(queries.clone()))?;
        for (b, query) in queries.iter().enumerate() {
            let alone = run(&pixels.narrow(0, b, 1)?, Query::Shared(query.clone()))?;
            group.equal(
                &format!("ragged questions, picture {b}, cache {cached}"),
                &together[b].ids,
                &alone[0].ids,
            );
        }
    }
    Ok(())
}
