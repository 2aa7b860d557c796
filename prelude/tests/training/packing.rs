//! Several samples in one row: the same steps as one in each.

use glassbox_prelude::candle_core::Tensor;
use glassbox_prelude::nn::{AttentionRule, Network};
use glassbox_prelude::train::{NotFinite, Trainer, TrainerSettings};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::{Prompt, Vlm, VlmSettings};
use glassbox_prelude::{Error, Result};

use super::{alone, device, settings, squares, values};

fn packed(packing: bool) -> TrainerSettings {
    TrainerSettings {
        packing,
        batch_size: 4,
        accumulate: 2,
        eps: 1e-3, // a gradient of rounding alone moves nothing
        ..settings(4)
    }
}

/// By a rule of the model's own.
fn ruled(attention: AttentionRule) -> Result<Vlm> {
    let vlm = Vlm::tiny(&device()?)?;
    let settings = VlmSettings {
        attention,
        ..vlm.settings.clone()
    };
    vlm.with_settings(settings, 0)
}

#[test]
fn packed_steps_are_those_of_samples_in_rows_of_their_own() -> Result<()> {
    let _alone = alone();
    let set = squares(16)?;
    for rule in [AttentionRule::Causal, AttentionRule::PrefixLm] {
        for (max_tokens, gradient_checkpointing) in [(None, false), (Some(64), true)] {
            let run = |packing| -> Result<_> {
                let vlm = ruled(rule)?;
                let mut trainer = Trainer::new(TrainerSettings {
                    max_tokens,
                    gradient_checkpointing,
                    ..packed(packing)
                })?;
                trainer.fit(&vlm, &set, &set)?;
                let losses = trainer.records().iter().map(|record| record.loss);
                let tokens = trainer.records().iter().map(|record| record.tokens);
                let (losses, tokens): (Vec<f64>, Vec<u64>) = (losses.collect(), tokens.collect());
                Ok((values(&vlm)?, losses, tokens))
            };
            let (plain, losses, tokens) = run(false)?;
            let (together, other, same) = run(true)?;
            assert_eq!(tokens, same);
            for (one, other) in losses.iter().zip(&other) {
                assert!((one - other).abs() < 1e-5, "{rule:?}: {one} {other}");
            }
            for ((name, one), (_, other)) in plain.iter().zip(&together) {
                for (one, other) in one.iter().zip(other) {
                    assert!((one - other).abs() < 1e-5, "{rule:?} {name}: {one} {other}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_plan_of_a_packed_run_counts_rows() -> Result<()> {
    let _alone = alone();
    let (vlm, set) = (Vlm::tiny(&device()?)?, squares(16)?);
    let mut trainer = Trainer::new(TrainerSettings {
        accumulate: 1,
        batch_size: 8,
        ..packed(true)
    })?;
    let report = trainer.fit(&vlm, &set, &set)?;
    let plan = trainer.plan().expect("a plan");
    let (rows, tokens) = plan.packed.expect("rows");
    let (_, longest) = plan.sample.unwrap_or((0, 0));
    assert!(rows < 8 && tokens > longest, "{rows} {tokens} {longest}");
    if let Some((estimated, measured)) = report.memory {
        println!("packed: {estimated} bytes were thought of, {measured} measured");
    }
    Ok(())
}

/// In a row with a sample whose loss is no number all losses are none: only that sample is to blame.
#[test]
fn a_nan_in_a_packed_row_is_blamed_on_its_own_sample() -> Result<()> {
    let _alone = alone();
    let vlm = Vlm::tiny(&device()?)?;
    let prompts = (0..8).map(|at| {
        let image = Image::filled(64, 64, [at * 30, 30, 9])?;
        let pixels = vlm.image_processor.preprocess(&image)?;
        let pixels = match at {
            3 => (pixels * f64::NAN)?,
            _ => pixels,
        };
        vlm.caption_prompt(&pixels, "a red star")
    });
    let set: Vec<Prompt> = prompts.collect::<Result<_>>()?;
    let held_out = squares(2)?;
    let mut trainer = Trainer::new(TrainerSettings {
        steps: 1,
        ..packed(true) // all eight
    })?;
    let error = trainer.fit(&vlm, &set, &held_out).map(|_| ()).unwrap_err();
    let Error::NotFinite { samples, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(samples[..], ["training example 3".to_owned()]);

    let mut trainer = Trainer::new(TrainerSettings {
        not_finite: NotFinite::LeaveOut,
        ..packed(true)
    })?;
    let report = trainer.fit(&vlm, &set, &held_out)?;
    assert_eq!((report.steps, report.unreadable.len()), (4, 1));
    assert_eq!(report.unreadable[0].position, 3);
    Ok(())
}

/// Hidden states in place of pictures, as a cache of features gives them, are packed as they are.
#[test]
fn features_of_a_frozen_encoder_are_packed_as_pictures_are() -> Result<()> {
    let _alone = alone();
    let mut vlm = Vlm::tiny(&device()?)?;
    vlm.image_encoder.set_trainable(false)?;
    let hidden = |at: u8| -> Result<Tensor> {
        let image = Image::filled(64, 64, [at * 30, 30, 9])?;
        vlm.image_encoder
            .encode(&vlm.image_processor.preprocess(&image)?)
    };
    let set = (0..8).map(|at| {
        let words = ["a star", "two red circles and a blue square"][usize::from(at % 2)];
        vlm.caption_prompt(&hidden(at)?, words)
    });
    let set: Vec<Prompt> = set.collect::<Result<_>>()?;
    let run = |packing| -> Result<Vec<f64>> {
        let vlm = vlm.clone();
        let mut trainer = Trainer::new(packed(packing))?;
        trainer.fit(&vlm, &set, &set)?;
        Ok(trainer.records().iter().map(|record| record.loss).collect())
    };
    for (one, other) in run(false)?.iter().zip(run(true)?) {
        assert!((one - other).abs() < 1e-5, "{one} {other}");
    }
    Ok(())
}
