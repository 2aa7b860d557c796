//! LoRA over a language model that is held in blocks (QLoRA): losses, gradients and steps are those of the model whose weights are the
//! same values as floats.

use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::display::Render;
use glassbox_prelude::nn::{BlockType, LoraConfig, Network, Parameter, Quantize};
use glassbox_prelude::train::{Example, Gradients, TrainedPart, Trainer, TrainerSettings};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::{Preset, Vlm, VlmSettings};
use glassbox_prelude::{Error, Result};

use super::{alone, dropping, folder, settings, squares, values};

const CLOSE: f64 = 1e-4;

/// The tiny model with LoRA on all linear layers of a language model in blocks, whose B is not zero; and the same with floats.
fn pair(how: Quantize) -> Result<(Vlm, Vlm)> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let lora = LoraConfig::new(4, 8.0, &["all-linear"]);
    let settings = VlmSettings {
        llm_lora: Some(lora),
        ..vlm.settings.clone()
    };
    let mut own = vlm.with_settings(settings, 0)?;
    own.llm.quantize(how)?;
    for (at, parameter) in own.llm.trainable_parameters().iter().enumerate() {
        if let Some(var) = &parameter.var {
            let shifted = (var.as_tensor().detach() + 0.01 * (at % 5 + 1) as f64)?;
            var.set(&shifted)?;
        }
    }
    let mut plain = own.copy()?;
    plain.llm.dequantize()?;
    Ok((own, plain))
}

fn gradients(vlm: &Vlm, captions: &[&str]) -> Result<(f64, Gradients)> {
    let image = Image::filled(64, 64, [200, 30, 40])?;
    let pixels = vlm.image_processor.preprocess(&image)?;
    let pixels = Tensor::cat(&vec![pixels; captions.len()], 0)?; // [B, 3, H, W]
    let loss = vlm
        .full_sequence_loss_of(&vlm.caption_batch(&pixels, captions)?)?
        .loss;
    let value = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
    Ok((value, Gradients::of(&loss, &vlm.trainable_parameters())?))
}

fn length(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}

#[test]
fn losses_and_gradients_are_those_of_the_dequantized_model() -> Result<()> {
    let _alone = alone();
    for how in [
        Quantize::to(BlockType::Q8_0),
        Quantize::to(BlockType::Q4_0),
        Quantize::to(BlockType::Nf4),
        Quantize::to(BlockType::Nf4).but(&["qkv_proj"], BlockType::Q8_0),
        // Only its rows are whole blocks of 256.
        Quantize::to(BlockType::Q8_0).but(&["down_proj"], BlockType::Q4K),
        Quantize::to(BlockType::Q5_1)
            .but(&["down_proj"], BlockType::Q6K)
            .leaving(&["lm_head"]),
    ] {
        let (own, plain) = pair(how.clone())?;
        for captions in [
            &["a red square"][..],
            &["a star", "two red circles and a blue square", "a"],
        ] {
            let (own_loss, ours) = gradients(&own, captions)?;
            let (plain_loss, theirs) = gradients(&plain, captions)?;
            let trains = own.trainable_parameters();
            assert!(ours.missing(&trains).is_empty());
            assert!(
                (own_loss - plain_loss).abs() < CLOSE * plain_loss,
                "{own_loss} {plain_loss}"
            );
            let mut worst = 0f64;
            for parameter in &trains {
                let (Some(g), Some(w)) = (ours.get(&parameter.name), theirs.get(&parameter.name))
                else {
                    return Err(Error::Input(format!("{} got no gradient", parameter.name)));
                };
                let (apart, size) = (length(&(g - w)?)?, length(w)?);
                // The ViT's LoRA begins with B = 0, where A has no gradient yet.
                assert!(
                    size > 0.0 || !parameter.name.starts_with("llm"),
                    "{}",
                    parameter.name
                );
                worst = worst.max(apart / size);
                assert!(
                    apart <= CLOSE * size,
                    "{}: {apart:e} of {size:e}",
                    parameter.name
                );
            }
            println!(
                "{how:?}, batch {}: gradients within {worst:.1e}",
                captions.len()
            );
        }
    }
    Ok(())
}

#[test]
fn the_trainer_takes_the_same_steps() -> Result<()> {
    let _alone = alone();
    let set = squares(6)?;
    for (gradient_checkpointing, dropout) in [(false, false), (true, false), (false, true)] {
        let (own, plain) = match dropout {
            false => pair(Quantize::to(BlockType::Q8_0))?,
            true => {
                let mut own = dropping()?;
                own.llm.quantize(BlockType::Q8_0)?;
                let mut plain = own.copy()?;
                plain.llm.dequantize()?;
                (own, plain)
            }
        };
        let frozen = own.llm.layers[0].mlp.down_proj.weight.values()?;
        let before = values(&own)?;
        let run = |vlm: &Vlm| -> Result<Vec<f64>> {
            let mut trainer = Trainer::new(TrainerSettings {
                gradient_checkpointing,
                ..settings(5)
            })?;
            trainer.fit(vlm, &set, &set)?;
            Ok(trainer.records().iter().map(|record| record.loss).collect())
        };
        let (ours, theirs) = (run(&own)?, run(&plain)?);
        for (one, other) in ours.iter().zip(&theirs) {
            assert!((one - other).abs() < 1e-3 * other, "{ours:?} {theirs:?}");
        }
        assert!(
            values(&own)?
                .iter()
                .zip(&before)
                .all(|(now, then)| now != then)
        );
        let after = own.llm.layers[0].mlp.down_proj.weight.values()?;
        assert_eq!(length(&(after - frozen)?)?, 0.0);
    }
    Ok(())
}

#[test]
fn the_plan_counts_the_blocks() -> Result<()> {
    let _alone = alone();
    let (own, plain) = pair(Quantize::to(BlockType::Q8_0))?;
    let plan = |vlm: &Vlm| -> Result<(usize, usize)> {
        let mut trainer = Trainer::new(settings(2))?;
        let set = squares(4)?;
        trainer.fit(vlm, &set, &set)?;
        let plan = trainer
            .plan()
            .ok_or_else(|| Error::Input("no plan".into()))?;
        assert!(
            plan.parts
                .iter()
                .any(|part| part.part == TrainedPart::LlmLora)
        );
        Ok((plan.weights, plan.gradients))
    };
    let ((ours, our_gradients), (theirs, their_gradients)) = (plan(&own)?, plan(&plain)?);
    let held: usize = own.named_parameters().iter().map(Parameter::bytes).sum();
    assert_eq!(ours, held);
    assert_eq!(our_gradients, their_gradients);
    let linear: usize = own
        .llm
        .named_parameters()
        .iter()
        .filter(|p| p.blocks.is_some())
        .map(Parameter::count)
        .sum();
    assert_eq!(theirs - ours, linear * 4 - linear / 32 * 34);
    let shown = own.render().plain().to_owned();
    assert!(shown.contains("Q8_0"), "{shown}");
    Ok(())
}

#[test]
fn a_fine_tune_of_blocks_is_saved_and_read_again() -> Result<()> {
    let _alone = alone();
    let at = folder()?;
    let own = Vlm::from_pretrained(&Preset::tiny().quantize(BlockType::Q8_0), &Device::Cpu)?;
    let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square"); 2];
    Trainer::new(settings(3))?.fit(&own, &set, &set)?;
    own.save(at.path())?;
    let said = std::fs::read_to_string(at.path().join("settings.json"));
    assert!(said.is_ok_and(|text| text.contains(r#""llm_held_as": "Q8_0""#)));
    let preset = Preset::fine_tune(at.path())?.quantize(BlockType::Q8_0);
    let again = Vlm::from_pretrained(&preset, &Device::Cpu)?;
    let image = Image::filled(64, 64, [200, 30, 40])?;
    let loss = |vlm: &Vlm| Ok::<f64, Error>(gradients(vlm, &["a red square"])?.0);
    assert_eq!(loss(&own)?, loss(&again)?);
    // Onto floats it fits too, and says what it was trained on.
    let plain = Vlm::load(at.path())?;
    assert!(
        plain
            .llm
            .named_parameters()
            .iter()
            .all(|p| p.blocks.is_none())
    );
    assert!((loss(&plain)? - loss(&own)?).abs() < 0.1 * loss(&own)?);
    assert_ne!(loss(&plain)?, loss(&own)?);
    // Generation goes the way of single tokens.
    let mut floats = own.copy()?;
    floats.llm.dequantize()?;
    let says =
        |vlm: &Vlm| Ok::<String, Error>(vlm.generate(&image)?.max_new_tokens(12).run()?.text);
    assert_eq!(says(&own)?, says(&floats)?);
    Ok(())
}
