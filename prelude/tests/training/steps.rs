//! What one step does: in whatever parts it is computed, and for each part of the model at its own rate.

use std::collections::BTreeMap;

use glassbox_prelude::Result;
use glassbox_prelude::candle_core::DType;
use glassbox_prelude::nn::{LoraConfig, Network};
use glassbox_prelude::train::{
    LossAverage, LossKind, OptimizerKind, PartSettings, Schedule, TrainStage, TrainedPart, Trainer,
    TrainerSettings,
};
use glassbox_prelude::vlm::{Vlm, VlmParts, VlmSettings};

use super::{alone, device, dropping, settings, squares, values};

/// Names and values of what trains.
type Values = Vec<(String, Vec<f32>)>;

/// The values after a few steps, and the losses.
fn trained(settings: &TrainerSettings) -> Result<(Values, Vec<f64>)> {
    let (vlm, set) = (Vlm::tiny(&device()?)?, squares(12)?);
    let mut trainer = Trainer::new(settings.clone())?;
    trainer.fit(&vlm, &set, &set)?;
    let losses = trainer.records().iter().map(|record| record.loss);
    Ok((values(&vlm)?, losses.collect()))
}

#[test]
fn one_batch_of_eight_equals_two_of_four_and_four_of_two() -> Result<()> {
    let _alone = alone();
    for (loss, divide_by) in [
        (LossKind::FullSequence, LossAverage::Tokens),
        (LossKind::FullSequence, LossAverage::Samples),
        (LossKind::RandomPrefix, LossAverage::Tokens),
    ] {
        let of = |batch_size, accumulate| {
            trained(&TrainerSettings {
                batch_size,
                accumulate,
                loss,
                divide_by,
                // Adam turns rounding of a tiny gradient into a whole step: without its division the comparison is one of gradients.
                eps: 1.0,
                ..settings(3)
            })
        };
        let (whole, losses) = of(8, 1)?;
        for (batch_size, accumulate) in [(4, 2), (2, 4)] {
            let (parts, part_losses) = of(batch_size, accumulate)?;
            for (one, other) in losses.iter().zip(&part_losses) {
                assert!((one - other).abs() < 1e-6 * one, "{one} is not {other}");
            }
            for ((name, one), (_, other)) in whole.iter().zip(&parts) {
                for (one, other) in one.iter().zip(other) {
                    assert!((one - other).abs() < 1e-6, "{name}: {one} is not {other}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_token_counts_alike_or_every_caption() -> Result<()> {
    let _alone = alone();
    let (vlm, set) = (Vlm::tiny(&device()?)?, squares(2)?); // captions of two lengths
    let (mut sums, mut counts) = (Vec::new(), Vec::new());
    for example in &set {
        let loss = vlm.full_sequence_loss_of(&example.prompt(&vlm, Some(0))?)?;
        let each = loss.cross_entropy.to_vec1::<f32>()?;
        sums.push(each.iter().map(|loss| f64::from(*loss)).sum::<f64>());
        counts.push(each.len() as f64);
    }
    let first = |divide_by| -> Result<f64> {
        let mut trainer = Trainer::new(TrainerSettings {
            divide_by,
            ..settings(1)
        })?;
        trainer.fit(&Vlm::tiny(&device()?)?, &set, &set)?;
        Ok(trainer.records()[0].loss)
    };
    let tokens = (sums[0] + sums[1]) / (counts[0] + counts[1]);
    let samples = (sums[0] / counts[0] + sums[1] / counts[1]) / 2.0;
    assert!(
        (tokens - samples).abs() > 1e-3,
        "the captions differ in length"
    );
    assert!((first(LossAverage::Tokens)? - tokens).abs() < 1e-5);
    assert!((first(LossAverage::Samples)? - samples).abs() < 1e-5);
    Ok(())
}

/// How far each part moved in one step, on average.
fn moved(settings: &TrainerSettings) -> Result<BTreeMap<TrainedPart, f32>> {
    let (vlm, set) = (Vlm::tiny(&device()?)?, squares(4)?);
    let before = values(&vlm)?;
    Trainer::new(settings.clone())?.fit(&vlm, &set, &set)?;
    let mut moved: BTreeMap<TrainedPart, (f32, usize)> = BTreeMap::new();
    for (parameter, (_, old)) in vlm.trainable_parameters().iter().zip(before) {
        // A has no gradient as long as B is zero.
        if parameter.name.contains("lora_A") {
            continue;
        }
        let new = parameter.tensor.flatten_all()?.to_vec1::<f32>()?;
        let (sum, count) = moved.entry(TrainedPart::of(parameter)).or_default();
        *sum += new
            .iter()
            .zip(&old)
            .map(|(new, old)| (new - old).abs())
            .sum::<f32>();
        *count += old.len();
    }
    Ok(moved
        .into_iter()
        .map(|(part, (sum, count))| (part, sum / count as f32))
        .collect())
}

#[test]
fn each_part_moves_at_its_own_rate_and_lora_plus_moves_b_faster() -> Result<()> {
    let _alone = alone();
    let plain = TrainerSettings {
        learning_rate: 1e-3,
        weight_decay: 0.0,
        ..settings(1)
    };
    let same = moved(&plain)?;
    let own = |learning_rate| PartSettings {
        learning_rate: Some(learning_rate),
        weight_decay: None,
    };
    let by_part = moved(&TrainerSettings {
        parts: BTreeMap::from([
            (TrainedPart::Projector, own(2e-3)),
            (TrainedPart::Vectors, own(0.0)),
            (TrainedPart::EncoderLora, own(5e-4)),
        ]),
        ..plain.clone()
    })?;
    let faster = moved(&TrainerSettings {
        lora_plus: 4.0,
        ..plain.clone()
    })?;
    let near = |found: f32, expected: f32| (found - expected).abs() < 1e-2 * expected + 1e-9;
    let part = |map: &BTreeMap<TrainedPart, f32>, part| map[&part];
    for (which, by_part_factor, faster_factor) in [
        (TrainedPart::Projector, 2.0, 1.0),
        (TrainedPart::Vectors, 0.0, 1.0),
        (TrainedPart::EncoderLora, 0.5, 4.0),
        (TrainedPart::LlmLora, 1.0, 4.0),
    ] {
        let base = part(&same, which);
        assert!(base > 0.0, "{which:?}");
        assert!(
            near(part(&by_part, which), base * by_part_factor),
            "{which:?}"
        );
        assert!(
            near(part(&faster, which), base * faster_factor),
            "{which:?}"
        );
    }

    // A part that does not train has no rate.
    let idle = TrainerSettings {
        parts: BTreeMap::from([(TrainedPart::NewRows, own(1e-3))]),
        ..plain
    };
    let error = trained(&idle).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("parts names new_rows") && error.contains("llm_lora"),
        "{error}"
    );
    Ok(())
}

#[test]
fn weight_decay_is_that_of_the_part() -> Result<()> {
    let _alone = alone();
    let run = |decay| -> Result<Vec<(String, Vec<f32>)>> {
        let parts = BTreeMap::from([(
            TrainedPart::Projector,
            PartSettings {
                learning_rate: None,
                weight_decay: Some(decay),
            },
        )]);
        Ok(trained(&TrainerSettings {
            parts,
            ..settings(1)
        })?
        .0)
    };
    let (none, much) = (run(0.0)?, run(100.0)?);
    for ((name, none), (_, much)) in none.iter().zip(&much) {
        // A bias that is zero has nothing to decay from.
        if name.ends_with("bias") {
            continue;
        }
        assert_eq!(none != much, name.starts_with("projector"), "{name}");
    }
    Ok(())
}

#[test]
fn schedule_free_trains_and_a_falling_rate_beside_it_is_refused() -> Result<()> {
    let _alone = alone();
    let free = TrainerSettings {
        optimizer: OptimizerKind::ScheduleFree,
        schedule: Schedule::Warmup { warmup: 0.1 },
        steps: 30,
        batch_size: 4,
        ..settings(30)
    };
    let (vlm, set) = (Vlm::tiny(&device()?)?, squares(4)?);
    let report = Trainer::new(free.clone())?.fit(&vlm, &set, &set)?;
    let (before, after) = report.validation.expect("it was measured");
    assert!(after < 0.7 * before, "{after} after {before}");
    // What the model holds afterwards is what was measured last.
    let mut again = Trainer::new(TrainerSettings {
        steps: 31,
        ..free.clone()
    })?;
    let first = again
        .fit(&vlm, &set, &set)?
        .validation
        .expect("it was measured")
        .0;
    assert!((first - after).abs() < 1e-6, "{first} is not {after}");
    let falling = TrainerSettings {
        schedule: TrainerSettings::default().schedule,
        ..free
    };
    let error = Trainer::new(falling).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("schedule_free"), "{error}");
    Ok(())
}

#[test]
fn stages_train_one_part_after_the_other_each_with_its_own_schedule() -> Result<()> {
    let _alone = alone();
    let lora = vec![TrainedPart::LlmLora, TrainedPart::EncoderLora];
    let staged = TrainerSettings {
        schedule: Schedule::WarmupLinear {
            warmup: 0.0,
            floor: 0.0,
        },
        stages: vec![
            TrainStage {
                share: 0.5,
                train: vec![TrainedPart::Projector, TrainedPart::Vectors],
                learning_rate: Some(1e-2),
            },
            TrainStage {
                share: 0.5,
                train: lora.clone(),
                learning_rate: None,
            },
        ],
        ..settings(8)
    };
    let (vlm, set) = (Vlm::tiny(&device()?)?, squares(4)?);
    let of = |vlm: &Vlm, parts: &[TrainedPart]| -> Result<Vec<Vec<f32>>> {
        let parameters = vlm.trainable_parameters().into_iter();
        parameters
            .filter(|parameter| parts.contains(&TrainedPart::of(parameter)))
            .map(|parameter| Ok(parameter.tensor.flatten_all()?.to_vec1()?))
            .collect()
    };
    let first = [TrainedPart::Projector, TrainedPart::Vectors];
    let (before_first, before_lora) = (of(&vlm, &first)?, of(&vlm, &lora)?);
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut trainer = Trainer::new(staged.clone())?;
    let seen = kept.clone();
    trainer.on_step(move |step| {
        if step.record().step == 4 {
            let both = (of(step.vlm(), &first)?, of(step.vlm(), &lora)?);
            seen.lock().expect("not poisoned").push(both);
        }
        Ok(())
    });
    trainer.fit(&vlm, &set, &set)?;
    let (first_after, lora_after) = kept.lock().expect("not poisoned").remove(0);
    assert!(
        first_after != before_first && lora_after == before_lora,
        "the first stage"
    );
    let lora = [TrainedPart::LlmLora, TrainedPart::EncoderLora];
    assert!(
        of(&vlm, &first)? == first_after && of(&vlm, &lora)? != lora_after,
        "the second"
    );
    let rates: Vec<f64> = trainer.records().iter().map(|record| record.rate).collect();
    for (found, expected) in rates
        .iter()
        .zip([1e-2, 7.5e-3, 5e-3, 2.5e-3, 3e-3, 2.25e-3, 1.5e-3, 7.5e-4])
    {
        assert!((found - expected).abs() < 1e-12, "{rates:?}");
    }

    let mut never = staged.clone();
    never.stages[1].train.pop();
    let error = trained(&never).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("encoder_lora trains in this model and in none"),
        "{error}"
    );
    let mut odd = staged;
    odd.stages[1].share = 0.4;
    assert!(
        Trainer::new(odd)
            .map(|_| ())
            .unwrap_err()
            .to_string()
            .contains("0.9")
    );
    Ok(())
}

#[test]
fn beside_a_bf16_base_adapters_are_f32_and_move_by_small_steps() -> Result<()> {
    let _alone = alone();
    let tiny = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny");
    let load = |dtype| -> Result<Vlm> {
        let parts = VlmParts::load(tiny.join("vit"), tiny.join("llm"), dtype, &device()?)?;
        Vlm::new(parts, VlmSettings::tiny(), 0)
    };
    let vlm = load(DType::BF16)?;
    for parameter in vlm.named_parameters() {
        let base = !parameter.is_trainable();
        let expected = if base { DType::BF16 } else { DType::F32 };
        let exempt = base && parameter.name.ends_with("_vec");
        assert!(
            exempt || parameter.tensor.dtype() == expected,
            "{}",
            parameter.name
        );
    }
    let (before, set) = (values(&vlm)?, squares(4)?);
    let mut trainer = Trainer::new(TrainerSettings {
        learning_rate: 1e-6, // a bf16 value of 0.05 moves by steps of 2e-4
        ..settings(4)
    })?;
    trainer.fit(&vlm, &set, &set)?;
    let mut wide = Trainer::new(settings(1))?;
    wide.fit(&load(DType::F32)?, &set, &set)?;
    let (loss, plain) = (trainer.records()[0].loss, wide.records()[0].loss);
    assert!(
        (loss - plain).abs() < 0.02 * plain,
        "{loss} in bf16, {plain} in f32"
    );
    for ((name, old), (_, new)) in before.iter().zip(&values(&vlm)?) {
        assert!(old != new, "{name} did not move");
    }
    // What merging adds is seen, rounded to the weight.
    let pixels = vlm
        .image_processor
        .preprocess(&glassbox_prelude::vision::Image::filled(
            64,
            64,
            [200, 30, 40],
        )?)?;
    let mut merged = vlm.clone();
    merged.llm.merge_lora()?;
    let loss = |vlm: &Vlm| {
        vlm.full_sequence_loss(&pixels, &["a red star".to_owned()])?
            .value()
    };
    let (apart, together) = (loss(&vlm)?, loss(&merged)?);
    assert!(
        (apart - together).abs() < 0.02 * apart,
        "{apart} {together}"
    );
    Ok(())
}

#[test]
fn gradient_checkpointing_gives_the_same_steps_with_less_memory() -> Result<()> {
    let _alone = alone();
    for only_llm in [false, true] {
        let run = |gradient_checkpointing| -> Result<_> {
            let mut vlm = dropping()?; // its masks must be drawn alike
            if only_llm {
                // Nothing in front of the language model trains: its layers need a way back all the same.
                for part in [
                    "projector",
                    "image_encoder",
                    "start_vec",
                    "end_vec",
                    "query_vec",
                ] {
                    vlm.set_trainable(part, false)?;
                }
            }
            let set = squares(8)?;
            let mut trainer = Trainer::new(TrainerSettings {
                gradient_checkpointing,
                batch_size: 8,
                eps: 1e-3, // a gradient of rounding alone moves nothing
                ..settings(4)
            })?;
            let report = trainer.fit(&vlm, &set, &set)?;
            let losses: Vec<f64> = trainer.records().iter().map(|record| record.loss).collect();
            Ok((
                values(&vlm)?,
                losses,
                report.memory,
                trainer.plan().and_then(|plan| plan.sample),
            ))
        };
        let (plain, losses, _, sample) = run(false)?;
        let (checkpointed, other_losses, memory, less) = run(true)?;
        for (one, other) in losses.iter().zip(&other_losses) {
            assert!((one - other).abs() < 1e-5 * one, "{one} {other}");
        }
        for ((name, one), (_, other)) in plain.iter().zip(&checkpointed) {
            for (one, other) in one.iter().zip(other) {
                assert!((one - other).abs() < 1e-5, "{name}: {one} {other}");
            }
        }
        if let (Some((bytes, _)), Some((less, _)), Some((estimated, measured))) =
            (sample, less, memory)
        {
            println!(
                "a sample takes {bytes} bytes, with checkpointing {less}; {estimated} were thought of, {measured} measured"
            );
            assert!(less < bytes, "{less} {bytes}");
        }
    }
    Ok(())
}

#[test]
fn dora_begins_as_the_base_trains_its_lengths_and_merges() -> Result<()> {
    let _alone = alone();
    let base = Vlm::tiny(&device()?)?;
    let dora = VlmSettings {
        llm_lora: Some(LoraConfig {
            use_dora: true,
            lora_dropout: 0.1,
            ..LoraConfig::new(4, 8.0, &["qkv_proj", "down_proj"])
        }),
        ..base.settings.clone()
    };
    let plain = VlmSettings {
        llm_lora: Some(LoraConfig::new(4, 8.0, &["qkv_proj", "down_proj"])),
        ..base.settings.clone()
    };
    let (vlm, plain) = (base.with_settings(dora, 0)?, base.with_settings(plain, 0)?);
    let set = squares(4)?;
    let prompt = set[1].prompt(&vlm, Some(0))?;
    let loss = |vlm: &Vlm| vlm.full_sequence_loss_of(&prompt)?.value();
    assert!(
        (loss(&vlm)? - loss(&plain)?).abs() < 1e-5,
        "nothing is adapted yet"
    );
    let before = values(&vlm)?;
    Trainer::new(settings(4))?.fit(&vlm, &set, &set)?;
    let after = values(&vlm)?;
    let lengths = before
        .iter()
        .zip(&after)
        .filter(|((name, _), _)| name.ends_with("lora_magnitude_vector"));
    let moved = lengths
        .clone()
        .filter(|((_, old), (_, new))| old != new)
        .count();
    assert_eq!(
        (lengths.count(), moved),
        (8, 8),
        "two in each of four layers"
    );
    let mut merged = vlm.clone();
    let apart = loss(&vlm)?;
    merged.llm.merge_lora()?;
    assert!((loss(&merged)? - apart).abs() < 1e-4 * apart);
    merged.llm.unmerge_lora()?;
    assert!((loss(&merged)? - apart).abs() < 1e-4 * apart);
    // And from a folder again.
    let folder = super::folder()?;
    vlm.save(folder.path())?;
    let mut again = Vlm::tiny(&device()?)?;
    again.load_fine_tune(folder.path())?;
    assert!((loss(&again)? - apart).abs() < 1e-5 * apart);
    Ok(())
}
