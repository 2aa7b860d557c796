//! Beam search and the filters before a draw, against numbers that transformers made (tests/generation/make.py).

use std::path::{Path, PathBuf};

use glassbox_prelude::candle_core;
use glassbox_prelude::prelude::*;
use glassbox_prelude::serde_json::{self, Value};
use glassbox_prelude::vision::Rescaling;
use glassbox_prelude::vlm::{BeamSearch, Generate};

type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests")
        .join(path)
}

fn expected() -> std::result::Result<Value, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(fixture("generation/expected.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// The blog's model from the parity fixtures.
fn vlm() -> Result<Vlm> {
    let parts = VlmParts {
        image_encoder: Vit::load(fixture("fixtures/vit"), DType::F32, &Device::Cpu)?.into(),
        image_processor: ImageProcessor::from_file(fixture(
            "fixtures/images/preprocessor_config.json",
        ))?,
        llm: Decoder::load(fixture("fixtures/llm"), DType::F32, &Device::Cpu)?,
        llm_processor: LlmProcessor::from_dir(fixture("fixtures/tokenizer"))?,
    };
    let settings = VlmSettings {
        rescaling: Rescaling::Once,
        vit_lora: None,
        llm_lora: None,
        ..VlmSettings::blog()
    };
    let mut vlm = Vlm::new(parts, settings, 0)?;
    vlm.load_weights(fixture("fixtures/vlm/vlm.safetensors"))?;
    Ok(vlm)
}

fn pixel_values() -> Result<Tensor> {
    let file = fixture("fixtures/vlm/expected.safetensors");
    let tensors = candle_core::safetensors::load(file, &Device::Cpu)?;
    Ok(tensors["pixel_values"].clone())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|id| Some(id.as_u64()? as u32)).collect()
}

fn setup(generate: Generate, case: &Value) -> Generate {
    generate
        .num_beams(case["num_beams"].as_u64().unwrap_or(0) as usize)
        .length_penalty(number(&case["length_penalty"]))
        .early_stopping(match &case["early_stopping"] {
            Value::Bool(true) => EarlyStopping::WhenFull,
            Value::Bool(false) => EarlyStopping::Heuristic,
            _ => EarlyStopping::Never,
        })
        .repetition_penalty(number(&case["repetition_penalty"]) as f32)
        .stop_at(ids(&case["stop_ids"]))
}

#[test]
fn beams_are_those_of_transformers() -> TestResult {
    let expected = &expected()?["beams"];
    let tokens = expected["max_new_tokens"].as_u64().ok_or("no length")? as usize;
    let (vlm, pixels) = (vlm()?, pixel_values()?);
    for case in expected["cases"].as_array().ok_or("no cases")? {
        let generate = setup(vlm.generate_from(&pixels).max_new_tokens(tokens), case);
        let what = format!(
            "{} beams, length penalty {}, early stopping {}",
            case["num_beams"], case["length_penalty"], case["early_stopping"]
        );
        let found = generate.clone().run_all()?;
        let uncached = generate.clone().without_cache().run_all()?;
        for (picture, texts) in case["pictures"]
            .as_array()
            .ok_or("no texts")?
            .iter()
            .enumerate()
        {
            let texts = texts.as_array().ok_or("no texts")?;
            let beams = &found[picture].beams;
            assert_eq!(beams.len(), texts.len(), "{what}, picture {picture}");
            for (beam, want) in beams.iter().zip(texts) {
                assert_eq!(beam.ids, ids(&want["ids"]), "{what}, picture {picture}");
                let (score, want) = (beam.score, number(&want["score"]));
                assert!((score / want - 1.0).abs() < 1e-4, "{score} {want}");
            }
            assert_eq!(found[picture].ids, beams[0].ids);
            assert_eq!(uncached[picture].ids, beams[0].ids);
        }
        // Alone as in the batch, and streamed as a whole.
        let mut streamed = Vec::new();
        let alone = setup(
            vlm.generate_from(&pixels.narrow(0, 1, 1)?)
                .max_new_tokens(tokens),
            case,
        )
        .keep_logits()
        .run_with(&mut |_, id| {
            streamed.push(id);
            Ok(())
        })?;
        assert_eq!(alone[0].ids, found[1].ids);
        assert_eq!(streamed, found[1].ids);
        let logits = alone[0].logits.as_ref().ok_or("no logits")?;
        assert_eq!(
            logits.dims(),
            [alone[0].ids.len(), vlm.llm.config.vocab_size]
        );
    }
    Ok(())
}

#[test]
fn ragged_prompts_search_as_they_do_alone() -> TestResult {
    let (vlm, pixels) = (vlm()?, pixel_values()?);
    let queries = vec![vec![5, 6, 7, 8, 9, 10], vec![11]];
    let search = |pixels: &Tensor, queries: Vec<Vec<u32>>| {
        vlm.generate_from(pixels)
            .query(Query::Each(queries))
            .stop_at((0..832).step_by(9).collect())
            .max_new_tokens(6)
            .num_beams(3)
    };
    let together = search(&pixels, queries.clone()).run_all()?;
    let uncached = search(&pixels, queries.clone()).without_cache().run_all()?;
    for picture in 0..2 {
        let one = pixels.narrow(0, picture, 1)?;
        let alone = search(&one, vec![queries[picture].clone()]).run()?;
        assert_eq!(together[picture].ids, alone.ids);
        assert_eq!(uncached[picture].ids, alone.ids);
    }
    Ok(())
}

#[test]
fn one_beam_is_greedy_and_drawn_beams_are_refused() -> TestResult {
    let (vlm, pixels) = (vlm()?, pixel_values()?);
    let greedy = vlm.generate_from(&pixels).max_new_tokens(8).run_all()?;
    let one = vlm
        .generate_from(&pixels)
        .max_new_tokens(8)
        .num_beams(1)
        .run_all()?;
    for (greedy, one) in greedy.iter().zip(&one) {
        assert_eq!(greedy.ids, one.ids);
        assert!(one.beams.is_empty());
    }
    let drawn = vlm.generate_from(&pixels).num_beams(2).temperature(1.0);
    assert!(matches!(drawn.run_all(), Err(Error::Input(_))));
    assert!(matches!(
        vlm.generate_from(&pixels).num_beams(0).run_all(),
        Err(Error::Input(_))
    ));
    assert_eq!(BeamSearch::default().num_beams, 1);
    Ok(())
}

#[test]
fn filters_before_a_draw_are_those_of_transformers() -> TestResult {
    for case in expected()?["sampling"].as_array().ok_or("no cases")? {
        let sampling = Sampling {
            temperature: number(&case["temperature"]) as f32,
            top_k: case["top_k"].as_u64().unwrap_or(0) as usize,
            top_p: number(&case["top_p"]) as f32,
            repetition_penalty: number(&case["repetition_penalty"]) as f32,
        };
        let list = |name: &str| case[name].as_array().into_iter().flatten().map(number);
        let logits: Vec<f32> = list("logits").map(|x| x as f32).collect();
        let mut found = vec![0.0; logits.len()];
        for (id, probability) in sampling.distribution(&logits, &ids(&case["made"]))? {
            found[id as usize] = probability;
        }
        for (id, (found, want)) in found.iter().zip(list("probabilities")).enumerate() {
            assert!(
                (found - want).abs() < 1e-5,
                "{sampling:?}, token {id}: {found} {want}"
            );
        }
    }
    Ok(())
}
