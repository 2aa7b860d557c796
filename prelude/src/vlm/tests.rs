//! The composition as a whole, on a model of a few thousand random weights.

use super::*;
use crate::language::{DecoderConfig, LlmInput};
use crate::lora::{TaskType, load_adapter, save_adapter};
use crate::nn::LoraConfig;
use crate::projector::ProjectorKind;
use crate::vision::{Image, ImageProcessorConfig, Modality, ViTConfig, Vit};
use candle_core::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

mod bad_input;
mod every_kind;
mod new_tokens;
mod other_encoder;
mod other_encoders;
mod packing;
mod prompts;

const WIDTH: usize = 24;

fn parts() -> Result<VlmParts> {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tokenizer");
    let llm_processor = LlmProcessor::from_dir(tokenizer)?;
    let llm = DecoderConfig {
        max_position_embeddings: 128,
        ..DecoderConfig::new(llm_processor.vocab_size() + 3, WIDTH, 32, 2, 2)
    };
    Ok(VlmParts {
        image_encoder: Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?
            .into(),
        image_processor: ImageProcessor::new(ImageProcessorConfig::vit(32))?,
        llm: Decoder::new_random(&llm, 2, &Device::Cpu)?,
        llm_processor,
    })
}

/// LoRA small enough for the small model, on the layers that the preset names.
fn shrunk(mut settings: VlmSettings) -> VlmSettings {
    for lora in [&mut settings.vit_lora, &mut settings.llm_lora]
        .into_iter()
        .flatten()
    {
        lora.r = 2;
        lora.lora_dropout = 0.0;
    }
    settings
}

fn vlm(settings: VlmSettings) -> Result<Vlm> {
    Vlm::new(parts()?, shrunk(settings), 3)
}

/// With a perceiver resampler for a projector.
fn resampled() -> VlmSettings {
    VlmSettings {
        name: "resampled".into(),
        projector: ProjectorKind::PerceiverResampler {
            latents: 3,
            layers: 2,
            heads: 2,
            head_dim: 4,
        },
        ..VlmSettings::corrected()
    }
}

fn pictures(count: usize) -> Result<Vec<Image>> {
    let colours = [[200, 30, 40], [20, 180, 60], [30, 60, 220]];
    (0..count)
        .map(|i| Image::filled(40, 30, colours[i % 3]))
        .collect()
}

fn captions() -> Vec<String> {
    vec![
        "a red square".into(),
        "two green circles and a small blue triangle".into(),
    ]
}

/// LoRA's B begins at zero, so that A has no gradient in the first step: give B other values.
fn stir(vlm: &Vlm) -> Result<()> {
    for parameter in vlm.trainable_parameters() {
        if let Some(var) = parameter.var.filter(|_| parameter.name.contains("lora_B")) {
            var.set(&Tensor::full(0.05f32, var.dims(), var.device())?)?;
        }
    }
    Ok(())
}

#[test]
fn every_trainable_parameter_gets_a_gradient_and_no_frozen_one_does() -> Result<()> {
    for settings in [
        VlmSettings::blog(),
        VlmSettings::corrected(),
        VlmSettings::tiny(),
        resampled(),
        VlmSettings::new_tokens(),
    ] {
        let name = settings.name.clone();
        let vlm = vlm(settings)?;
        stir(&vlm)?;
        let pixels = vlm.image_processor.preprocess_batch(&pictures(2)?)?;
        let full = vlm.full_sequence_loss(&pixels, &captions())?;
        let random =
            vlm.random_prefix_loss(&pixels, &captions(), &mut ChaCha8Rng::seed_from_u64(1))?;
        for out in [full, random] {
            let grads = out.loss.backward()?;
            for parameter in vlm.named_parameters() {
                let size = grads
                    .get(&parameter.tensor)
                    .map(|g| Ok::<_, Error>(g.abs()?.sum_all()?.to_scalar::<f32>()?))
                    .transpose()?;
                match (parameter.is_trainable(), size) {
                    (true, Some(size)) => {
                        assert!(size > 0.0, "{name}: {} has a zero gradient", parameter.name)
                    }
                    (true, None) => panic!("{name}: {} trains but has no gradient", parameter.name),
                    (false, Some(_)) => {
                        panic!("{name}: {} is frozen but has a gradient", parameter.name)
                    }
                    (false, None) => {}
                }
            }
        }
    }
    Ok(())
}

#[test]
fn presets_train_what_they_say() -> Result<()> {
    let trains = |settings| -> Result<Vec<String>> {
        Ok(vlm(settings)?
            .trainable_parameters()
            .into_iter()
            .map(|p| p.name)
            .collect())
    };
    let blog = trains(VlmSettings::blog())?;
    assert!(
        blog.iter().all(|name| name.starts_with("projector.")),
        "{blog:?}"
    );
    assert_eq!(blog.len(), 4);
    let corrected = trains(VlmSettings::corrected())?;
    for part in ["start_vec", "end_vec", "query_vec", "projector.fc1.weight"] {
        assert!(corrected.iter().any(|name| name == part), "{part}");
    }
    assert_eq!(
        corrected
            .iter()
            .filter(|name| name.starts_with("llm.") && name.contains("lora_"))
            .count(),
        8
    );
    assert_eq!(
        corrected
            .iter()
            .filter(|name| name.starts_with("image_encoder."))
            .count(),
        12
    );
    Ok(())
}

#[test]
fn blog_lora_has_the_blogs_number_of_parameters() {
    // Phi-3-mini: D 3072, MLP 8192, 32 layers. ViT-B/16: D 768, MLP 3072, 12 layers.
    let llm = LoraConfig::blog_llm();
    assert_eq!(32 * llm.r * ((3072 + 2 * 8192) + (8192 + 3072)), 62_914_560);
    let vit = LoraConfig::blog_vit();
    assert_eq!(
        12 * vit.r * ((768 + 768) + (768 + 3072) + (3072 + 768)),
        884_736
    );
}

#[test]
fn the_beginning_token_stands_once_or_before_every_string() -> Result<()> {
    let processor = parts()?.llm_processor;
    let bos = processor.bos_id().expect("the tokenizer has one");
    let count = |settings: &VlmSettings| -> Result<usize> {
        let prompt = PromptWords::new(&processor, settings)?;
        let all: Vec<u32> = [prompt.start, prompt.end, prompt.query].concat();
        Ok(all.iter().filter(|&&id| id == bos).count())
    };
    assert_eq!(count(&VlmSettings::blog())?, 3);
    assert_eq!(count(&VlmSettings::corrected())?, 1);
    let plain = VlmSettings {
        prompt: PromptStyle::Plain,
        ..VlmSettings::corrected()
    };
    assert_eq!(count(&plain)?, 1);
    let chat = PromptWords::new(&processor, &VlmSettings::corrected())?;
    let user = processor
        .token_id("<|user|>")
        .expect("the tokenizer has one");
    let assistant = processor
        .token_id("<|assistant|>")
        .expect("the tokenizer has one");
    assert!(
        chat.start.contains(&user) && chat.query.last() == Some(&assistant),
        "{chat:?}"
    );
    Ok(())
}

#[test]
fn one_forward_is_the_mean_over_all_prefixes() -> Result<()> {
    for settings in [VlmSettings::blog(), VlmSettings::corrected()] {
        let vlm = vlm(settings)?;
        let pixels = vlm.image_processor.preprocess_batch(&pictures(2)?)?;
        let batch = vlm.caption_batch(&pixels, &captions())?;
        let full = vlm.full_sequence_loss_of(&batch)?.value()?;
        let mut sum = 0.0;
        for b in 0..2 {
            let one = CaptionBatch {
                pixel_values: pixels.narrow(0, b, 1)?,
                caption_ids: vec![batch.caption_ids[b].clone()],
                query: Query::Vector,
            };
            let range = vlm.target_range(one.caption_ids[0].len());
            let count = range.len() as f32;
            for p in range {
                sum += vlm.random_prefix_loss_at(&one, &[p])?.value()? / count / 2.0;
            }
        }
        assert!((full / sum - 1.0).abs() < 5e-6, "{full} {sum}");
    }
    Ok(())
}

#[test]
fn generation_is_the_same_cached_and_not_alone_and_in_a_batch() -> Result<()> {
    let vlm = vlm(VlmSettings::tiny())?;
    let images = pictures(3)?;
    let cached = vlm.generate_batch(&images)?.max_new_tokens(7).run_all()?;
    let rerun = vlm
        .generate_batch(&images)?
        .max_new_tokens(7)
        .without_cache()
        .run_all()?;
    for (i, image) in images.iter().enumerate() {
        let mut seen = Vec::new();
        let alone = vlm
            .generate(image)?
            .max_new_tokens(7)
            .run_with(&mut |_, id| {
                seen.push(id);
                Ok(())
            })?;
        assert_eq!(cached[i].ids, rerun[i].ids);
        assert_eq!(cached[i].ids, alone[0].ids);
        assert_eq!(seen, alone[0].ids);
    }
    Ok(())
}

#[test]
fn draws_depend_on_the_seed_only() -> Result<()> {
    let vlm = vlm(VlmSettings::tiny())?;
    let image = &pictures(1)?[0];
    let draw = |seed| -> Result<Vec<u32>> {
        Ok(vlm
            .generate(image)?
            .max_new_tokens(12)
            .temperature(2.0)
            .seed(seed)
            .run()?
            .ids)
    };
    assert_eq!(draw(1)?, draw(1)?);
    assert_ne!(draw(1)?, draw(2)?);
    Ok(())
}

#[test]
fn dropout_acts_in_training_only() -> Result<()> {
    let mut settings = VlmSettings::corrected();
    if let Some(lora) = &mut settings.llm_lora {
        *lora = LoraConfig {
            lora_dropout: 0.5,
            ..LoraConfig::new(2, 2.0, &["down_proj"])
        };
    }
    let vlm = Vlm::new(parts()?, settings, 3)?;
    stir(&vlm)?;
    let pixels = vlm.image_processor.preprocess_batch(&pictures(2)?)?;
    let loss = || {
        vlm.full_sequence_loss(&pixels, &captions())
            .and_then(|out| out.value())
    };
    let still = loss()?;
    vlm.set_training(true);
    let (first, second) = (loss()?, loss()?);
    assert!(first != still && first != second);
    vlm.set_training(false);
    assert_eq!(loss()?, still);
    Ok(())
}

#[test]
fn a_fine_tune_comes_back_whole() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let vlm = vlm(VlmSettings {
        query_text: "What is it?".into(),
        ..resampled()
    })?;
    stir(&vlm)?;
    vlm.save(dir.path())?;
    let mut other = Vlm::new(parts()?, shrunk(VlmSettings::blog()), 9)?;
    other.load_fine_tune(dir.path())?;
    let image = &pictures(1)?[0];
    assert_eq!(
        vlm.generate(image)?.run()?.ids,
        other.generate(image)?.run()?.ids
    );
    assert_eq!(other.settings, vlm.settings);
    let names = |vlm: &Vlm| {
        vlm.trainable_parameters()
            .into_iter()
            .map(|p| p.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&other), names(&vlm));
    Ok(())
}

#[test]
fn an_adapter_for_another_base_names_the_layer() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut small = parts()?.llm;
    small.add_lora(&LoraConfig::new(2, 2.0, &["down_proj"]), 0)?;
    save_adapter(&small, TaskType::CausalLm, None, dir.path())?;
    let mut wide = Decoder::new_random(
        &DecoderConfig::new(50, 2 * WIDTH, 32, 2, 2),
        0,
        &Device::Cpu,
    )?;
    let error = load_adapter(&mut wide, dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("down_proj") && error.contains("[24, 2]") && error.contains("[48, 2]"),
        "{error}"
    );
    assert!(
        wide.lora_config().is_none(),
        "a refused adapter must leave nothing behind"
    );
    let mut shallow =
        Decoder::new_random(&DecoderConfig::new(50, WIDTH, 32, 1, 2), 0, &Device::Cpu)?;
    let error = load_adapter(&mut shallow, dir.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("model.layers.1.mlp.down_proj"), "{error}");
    let mut deep = Decoder::new_random(&DecoderConfig::new(50, WIDTH, 32, 3, 2), 0, &Device::Cpu)?;
    let error = load_adapter(&mut deep, dir.path()).unwrap_err().to_string();
    assert!(error.contains("model.layers.2.mlp.down_proj"), "{error}");
    Ok(())
}

#[test]
fn parts_of_different_models_are_refused() -> Result<()> {
    let mut parts = parts()?;
    parts.llm = Decoder::new_random(&DecoderConfig::new(100, WIDTH, 32, 1, 2), 0, &Device::Cpu)?;
    let error = Vlm::new(parts, shrunk(VlmSettings::tiny()), 0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("vocab_size"), "{error}");
    Ok(())
}

#[test]
fn the_strip_names_every_part() -> Result<()> {
    let vlm = vlm(VlmSettings::corrected())?;
    let image_tokens = vlm.embed_images(&pictures(1)?)?;
    let sequence = vlm.concatenate(&image_tokens, &Query::Vector, &[vlm.caption_ids("a red")?])?;
    assert_eq!(sequence.strip(0)?.len(), sequence.lengths[0]);
    assert_eq!(sequence.inputs_embeds.dims()[1], sequence.lengths[0]);
    assert!(sequence.strip(1).is_err());
    Ok(())
}

#[test]
fn a_prompt_put_together_by_hand_shows_its_words_once_it_was_read() -> Result<()> {
    let vlm = vlm(VlmSettings::corrected())?;
    let by_hand = Prompt::new()
        .vector(PromptPart::Start)
        .image_tokens(&vlm.embed_images(&pictures(1)?)?)
        .vector(PromptPart::End)
        .vector(PromptPart::Query)
        .target(&vlm.caption_ids("a red star")?);
    let own = vlm.caption_prompt(&pictures(1)?[0], "a red star")?;
    let words = |prompt: Prompt| -> Result<_> { Ok(vlm.sequence(&[prompt])?.segments[0].clone()) };
    assert_eq!(words(by_hand)?, words(own)?);
    Ok(())
}

#[test]
fn other_settings_leave_the_model_they_come_from_alone() -> Result<()> {
    let corrected = vlm(VlmSettings::corrected())?;
    stir(&corrected)?;
    let blog = corrected.with_settings(shrunk(VlmSettings::blog()), 3)?;
    let fresh = vlm(VlmSettings::blog())?;
    let names = |model: &Vlm| -> Vec<(String, bool)> {
        let parameters = model.named_parameters();
        parameters
            .into_iter()
            .map(|p| (p.name.clone(), p.is_trainable()))
            .collect()
    };
    assert_eq!(names(&blog), names(&fresh));
    let pixels = blog.image_processor.preprocess_batch(&pictures(2)?)?;
    let loss = |model: &Vlm| model.full_sequence_loss(&pixels, &captions())?.value();
    assert_eq!(loss(&blog)?, loss(&fresh)?);
    // What was stirred is still stirred, and trains.
    assert_ne!(loss(&corrected)?, loss(&vlm(VlmSettings::corrected())?)?);
    assert!(corrected.trainable_parameters().len() > blog.trainable_parameters().len());
    Ok(())
}
