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

/// Numbers below `most`, by a seed.
fn drawn(seed: u64, count: usize, most: u64) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u32 % most as u32
    };
    (0..count).map(next).collect()
}

#[test]
fn proposals_change_no_token_of_many_random_prompts() -> TestResult {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    for seed in 0..120u64 {
        let numbers = drawn(seed + 1, 60, 576);
        let colour = [numbers[0] as u8, numbers[1] as u8, numbers[2] as u8];
        let image = Image::filled(64, 64, colour)?;
        // Words of few kinds, so that some repeat.
        let few = 3 + u64::from(numbers[3] % 40);
        let words: Vec<u32> = drawn(seed + 1, 4 + seed as usize % 40, few)
            .iter()
            .map(|id| id + 100)
            .collect();
        let plain = vlm
            .generate(&image)?
            .query(Query::Shared(words))
            .stop_at(vec![])
            .max_new_tokens(1 + seed as usize % 40);
        let plain = match seed % 4 {
            1 => plain.temperature(0.7).seed(seed),
            2 => plain.repetition_penalty(1.1),
            3 => plain.stop_at(vec![numbers[4] % 40 + 100]),
            _ => plain,
        };
        let most = 1 + seed as usize % 9;
        let mut told = Vec::new();
        let found = plain
            .clone()
            .keep_logits()
            .prompt_lookup(most)
            .run_with(&mut |_, id| {
                told.push(id);
                Ok(())
            })?;
        let wanted = plain.clone().keep_logits().run()?;
        assert_eq!(
            (&found[0].ids, found[0].stopped),
            (&wanted.ids, wanted.stopped),
            "{seed}"
        );
        assert_eq!(told, wanted.ids);
        let (ours, theirs) = (
            found[0].logits.as_ref().ok_or("logits")?,
            wanted.logits.ok_or("logits")?,
        );
        let apart = (ours - &theirs)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(apart < 1e-3, "{seed}: {apart}");
    }
    let image = Image::filled(64, 64, [200, 30, 40])?;
    let both = [image.clone(), Image::filled(64, 64, [20, 30, 240])?];
    let texts = |lookup| -> Result<Vec<String>> {
        let made = vlm
            .generate_batch(&both)?
            .temperature(1.0)
            .seed(3)
            .prompt_lookup(lookup)
            .run_all()?;
        Ok(made.into_iter().map(|made| made.text).collect())
    };
    assert_eq!(texts(3)?, texts(0)?);
    let refused = |generate: Generate| {
        generate
            .prompt_lookup(2)
            .run()
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(vlm.generate(&image)?.num_beams(2)).contains("leave out num_beams"));
    assert!(refused(vlm.generate(&image)?.without_cache()).contains("leave out without_cache"));
    Ok(())
}

#[test]
fn questions_of_one_picture_are_answered_as_one_by_one() -> TestResult {
    let tiny = Vlm::tiny(&Device::Cpu)?;
    let words = [
        "what is it",
        "a",
        "how many red circles are there above the large blue square",
        "colour",
    ];
    let settings = |attention| VlmSettings {
        attention,
        ..tiny.settings.clone()
    };
    for rule in [AttentionRule::Causal, AttentionRule::PrefixLm] {
        let vlm = tiny.with_settings(settings(rule), 0)?;
        for seed in 0..12 {
            let numbers = drawn(seed + 1, 6, 255);
            let pixels: Vec<u8> = drawn(seed + 9, 64 * 64 * 3, 255)
                .iter()
                .map(|byte| *byte as u8)
                .collect();
            let image = match seed % 2 {
                0 => Image::from_rgb(
                    image::RgbImage::from_raw(64, 64, pixels).ok_or("fewer bytes than pixels")?,
                )?,
                _ => Image::filled(
                    64,
                    64,
                    [numbers[0] as u8, numbers[1] as u8, numbers[2] as u8],
                )?,
            };
            let asked = &words[..1 + seed as usize % words.len()];
            let how = |generate: Generate| {
                let generate = generate.max_new_tokens(12).keep_logits();
                match seed % 3 {
                    0 => generate.stop_at(vec![]),
                    1 => generate.num_beams(2),
                    _ => generate,
                }
            };
            let together = how(vlm.generate(&image)?.questions(asked)?).run_all()?;
            assert_eq!(together.len(), asked.len());
            for (question, found) in asked.iter().zip(&together) {
                let alone = how(vlm.generate(&image)?.query(*question)).run()?;
                assert_eq!(found.ids, alone.ids, "{seed} {question}");
                if let (Some(ours), Some(theirs), 1) =
                    (&found.logits, &alone.logits, found.beams.len().max(1))
                {
                    let apart = (ours - theirs)?.abs()?.max_all()?.to_scalar::<f32>()?;
                    assert!(apart < 1e-3, "{seed}: {apart}");
                }
            }
        }
    }
    // Two pictures, two questions each.
    let images = [
        Image::filled(64, 64, [200, 30, 40])?,
        Image::filled(64, 64, [20, 30, 240])?,
    ];
    let all = tiny
        .generate_batch(&images)?
        .questions(&words[..2])?
        .max_new_tokens(5)
        .run_all()?;
    assert_eq!(all.len(), 4);
    for (at, found) in all.iter().enumerate() {
        let alone = tiny
            .generate(&images[at / 2])?
            .query(words[at % 2])
            .max_new_tokens(5)
            .run()?;
        assert_eq!(found.ids, alone.ids);
    }
    let none: [&str; 0] = [];
    assert!(tiny.generate(&images[0])?.questions(&none).is_err());
    Ok(())
}
