//! A run of several ranks is the run of one process. Threads stand in for processes, each with a model and a trainer of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use glassbox_prelude::candle_core::Device;
use glassbox_prelude::nn::LoraConfig;
use glassbox_prelude::parallel::{Collective, threads};
use glassbox_prelude::train::{
    CheckpointSettings, Example, LossAverage, LossKind, StepRecord, TrainReport, Trainer,
    TrainerSettings, TrainingSet, read_log,
};
use glassbox_prelude::vlm::{Vlm, VlmSettings};
use glassbox_prelude::{Error, Result};

use super::{alone, folder, settings, squares, values};

const STEPS: usize = 50;
/// At a high rate of learning the rounding of sums in another order grows to 10⁻³ within 50 steps, also in one process that cuts a step
/// into other batches; at this one it stays what it is.
const RATE: f64 = 1e-4;

/// What `work` comes to on each of some ranks.
pub(super) fn on_ranks<T: Send>(
    ranks: usize,
    work: impl Fn(Arc<dyn Collective>) -> T + Sync,
) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let running = threads(ranks)
            .into_iter()
            .map(|rank| scope.spawn(move || work(rank)));
        let running: Vec<_> = running.collect();
        let ended = running.into_iter().map(|one| one.join().expect("no panic"));
        ended.collect()
    })
}

/// Eight samples a step.
fn eight(steps: usize) -> TrainerSettings {
    TrainerSettings {
        batch_size: 8,
        learning_rate: RATE,
        validate_every: 10,
        validation_samples: 5,
        ..settings(steps)
    }
}

/// A run on some ranks: what each rank recorded, and its weights.
type Run = (Vec<StepRecord>, Vec<(String, Vec<f32>)>);

fn run_of(ranks: usize, settings: &TrainerSettings, set: &[Example]) -> Result<Vec<Run>> {
    run_with(|| Vlm::tiny(&Device::Cpu), ranks, settings, set)
}

fn run_with(
    model: impl Fn() -> Result<Vlm> + Sync,
    ranks: usize,
    settings: &TrainerSettings,
    set: &[Example],
) -> Result<Vec<Run>> {
    let set = set.to_vec();
    let one = |rank: Option<Arc<dyn Collective>>| -> Result<Run> {
        let vlm = model()?;
        let mut trainer = Trainer::new(settings.clone())?;
        if let Some(rank) = rank {
            trainer.train_with(rank);
        }
        trainer.fit(&vlm, &set, &set)?;
        Ok((trainer.records().to_vec(), values(&vlm)?))
    };
    match ranks {
        1 => Ok(vec![one(None)?]),
        _ => on_ranks(ranks, |rank| one(Some(rank)))
            .into_iter()
            .collect(),
    }
}

/// The largest relative difference of losses, validation losses and gradients' lengths; steps and tokens are the same.
fn farthest(one: &[StepRecord], other: &[StepRecord]) -> f64 {
    assert_eq!(one.len(), other.len());
    let apart = |a: f64, b: f64| (a - b).abs() / a.abs().max(1e-3);
    let pairs = one.iter().zip(other);
    pairs.fold(0.0, |most, (a, b)| {
        assert_eq!((a.step, a.tokens), (b.step, b.tokens));
        assert_eq!(a.validation_loss.is_some(), b.validation_loss.is_some());
        let held_out = apart(
            a.validation_loss.unwrap_or(1.0),
            b.validation_loss.unwrap_or(1.0),
        );
        most.max(apart(a.loss, b.loss))
            .max(held_out)
            .max(0.1 * apart(a.norm, b.norm))
    })
}

/// What must be the same on all ranks, to the bit.
fn bits(record: &StepRecord) -> (usize, u64, u64, Option<u64>) {
    let StepRecord {
        step, loss, norm, ..
    } = record;
    let held_out = record.validation_loss.map(f64::to_bits);
    (*step, loss.to_bits(), norm.to_bits(), held_out)
}

#[test]
fn several_ranks_have_the_losses_of_one_process_for_50_steps() -> Result<()> {
    let _alone = alone();
    let set = squares(11)?;
    let forms = [
        (
            LossKind::FullSequence,
            LossAverage::Tokens,
            1,
            STEPS,
            [2, 4],
        ),
        (LossKind::RandomPrefix, LossAverage::Tokens, 1, 15, [2, 3]),
        (LossKind::FullSequence, LossAverage::Samples, 4, 15, [2, 3]),
    ];
    for (loss, divide_by, accumulate, steps, numbers) in forms {
        let settings = TrainerSettings {
            loss,
            divide_by,
            batch_size: 8 / accumulate,
            accumulate,
            ..eight(steps)
        };
        let whole = run_of(1, &settings, &set)?;
        for ranks in numbers {
            let parts = run_of(ranks, &settings, &set)?;
            let apart = farthest(&whole[0].0, &parts[0].0);
            println!("{loss:?}, accumulate {accumulate}: {ranks} ranks, {apart:.1e} apart");
            assert!(apart <= 1e-6, "{loss:?} on {ranks} ranks: {apart:e}");
            let first: Vec<_> = parts[0].0.iter().map(bits).collect();
            for (rank, (records, weights)) in parts.iter().enumerate() {
                let own: Vec<_> = records.iter().map(bits).collect();
                assert!(own == first, "rank {rank} has other figures than rank 0");
                assert!(*weights == parts[0].1, "rank {rank} has other weights");
                let waited = records.iter().map(|record| record.waited_for_ranks.len());
                assert!(waited.into_iter().all(|count| count == ranks));
            }
        }
    }
    Ok(())
}

/// The tiny model with dropout in the LoRA of both networks, as in the blog's preset, but of the language model's head too.
fn dropping_everywhere(part: f64) -> Result<Vlm> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let with = |config: LoraConfig| LoraConfig {
        lora_dropout: part,
        ..config
    };
    let settings = VlmSettings {
        llm_lora: Some(with(LoraConfig::new(
            4,
            8.0,
            &["qkv_proj", "down_proj", "lm_head"],
        ))),
        vit_lora: Some(with(LoraConfig::new(4, 8.0, &["dense"]))),
        ..vlm.settings.clone()
    };
    vlm.with_settings(settings, 0)
}

#[test]
fn dropout_takes_the_same_of_a_sample_on_whichever_rank_and_in_whichever_batch_it_is() -> Result<()>
{
    let _alone = alone();
    let set = squares(11)?;
    let (whole, few) = (eight(STEPS), eight(12));
    let model = || dropping_everywhere(0.1);
    let one = run_with(model, 1, &whole, &set)?;
    let none = run_with(|| dropping_everywhere(0.0), 1, &few, &set)?;
    let differs = farthest(&one[0].0[..9], &none[0].0[..9]);
    assert!(differs > 1e-4, "it drops something: {differs:e}");
    let cut = TrainerSettings {
        batch_size: 2,
        accumulate: 4,
        ..few.clone()
    };
    let packed = TrainerSettings {
        packing: true,
        ..few.clone()
    };
    let again = TrainerSettings {
        gradient_checkpointing: true,
        ..few.clone()
    };
    let random = TrainerSettings {
        loss: LossKind::RandomPrefix,
        ..few.clone()
    };
    let one_random = run_with(model, 1, &random, &set)?;
    for (name, ranks, settings, one) in [
        ("2 ranks", 2, &whole, &one),
        ("4 ranks", 4, &few, &one),
        ("3 ranks, cut", 3, &cut, &one),
        ("cut", 1, &cut, &one),
        ("packed", 1, &packed, &one),
        ("computed again", 1, &again, &one),
        ("2 ranks, computed again", 2, &again, &one),
        ("2 ranks, random prefix", 2, &random, &one_random),
    ] {
        let parts = run_with(model, ranks, settings, &set)?;
        // The shorter runs are the beginning of the whole one, but for a last measurement.
        let steps = if settings.steps == STEPS || name.contains("random") {
            settings.steps
        } else {
            settings.steps - 1
        };
        let apart = farthest(&one[0].0[..steps], &parts[0].0[..steps]);
        println!("{name}: {apart:.1e} apart");
        assert!(apart <= 1e-6, "{name}: {apart:e}");
    }
    Ok(())
}

#[test]
fn two_ranks_make_the_steps_of_one_process_that_cuts_them_into_two_batches() -> Result<()> {
    let _alone = alone();
    let set = squares(11)?;
    // A rate at which any other rounding would show.
    let whole = TrainerSettings {
        learning_rate: 3e-3,
        ..eight(25)
    };
    let cut = TrainerSettings {
        batch_size: 4,
        accumulate: 2,
        ..whole.clone()
    };
    let (cut, ranks) = (run_of(1, &cut, &set)?, run_of(2, &whole, &set)?);
    let apart = cut[0].0.iter().zip(&ranks[0].0);
    let apart = apart.map(|(a, b)| (a.loss - b.loss).abs() / a.loss);
    let apart = apart.fold(0.0, f64::max);
    println!("{apart:.1e} apart");
    assert!(apart <= 1e-9, "{apart:e}");
    Ok(())
}

#[test]
fn a_run_goes_on_with_any_number_of_ranks() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let set = squares(11)?;
    let whole = run_of(2, &eight(20), &set)?;
    let until = |ranks: usize, steps: usize, at: &Path| -> Result<Vec<Vec<StepRecord>>> {
        let settings = TrainerSettings {
            checkpoints: Some(CheckpointSettings {
                every: 5,
                ..CheckpointSettings::new(at)
            }),
            ..eight(20)
        };
        let outcomes = on_ranks(ranks, |rank| -> Result<Vec<StepRecord>> {
            let vlm = Vlm::tiny(&Device::Cpu)?;
            let mut trainer = Trainer::new(settings.clone())?;
            trainer.train_with(rank);
            trainer.on_step(move |step| {
                if step.record().step == steps {
                    step.stop("here");
                }
                Ok(())
            });
            if at.is_dir() {
                trainer.resume(at, &vlm)?;
            }
            trainer.fit(&vlm, &set, &set)?;
            Ok(trainer.records().to_vec())
        });
        outcomes.into_iter().collect()
    };
    for (first, second, third) in [(2, 2, 2), (1, 4, 2), (4, 1, 3)] {
        let at = folder.path().join(format!("{first}-{second}-{third}"));
        until(first, 7, &at)?;
        until(second, 13, &at)?;
        let all = until(third, 20, &at)?;
        let apart = farthest(&whole[0].0, &all[0]);
        println!("{first}, {second}, {third} ranks: {apart:.1e} apart");
        assert!(apart <= 1e-6, "{apart:e}");
        if (first, second, third) == (2, 2, 2) {
            let own: Vec<_> = all[0].iter().map(bits).collect();
            let others: Vec<_> = whole[0].0.iter().map(bits).collect();
            assert!(own == others, "the same ranks have the same bits");
        }
    }
    Ok(())
}

#[test]
fn the_first_rank_alone_writes_and_its_callbacks_count_for_all() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let set = squares(9)?;
    let log = folder.path().join("log.jsonl");
    let outcomes = on_ranks(3, |rank| -> Result<(Option<String>, usize, Vec<u64>)> {
        let first = rank.rank() == 0;
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let mut trainer = Trainer::new(TrainerSettings {
            log: Some(log.clone()),
            run: Some(folder.path().join("run")),
            checkpoints: Some(CheckpointSettings::new(folder.path().join("kept"))),
            validate_every: 2,
            ..eight(9)
        })?;
        trainer.train_with(rank);
        trainer.measure("figure", move |_| match first {
            true => Ok(0.25),
            false => Err(Error::Input("measured on another rank".into())),
        });
        trainer.on_step(move |step| {
            assert!(first, "called on another rank");
            if step.record().step == 4 {
                step.scale_rate(0.5);
            }
            if step.record().step == 5 {
                step.stop("enough");
            }
            Ok(())
        });
        let report: TrainReport = trainer.fit(&vlm, &set, &set)?;
        let figure = trainer.records()[3].metrics["figure"];
        assert_eq!(figure, 0.25);
        let rates = trainer.records().iter().map(|record| record.rate.to_bits());
        Ok((report.stopped, trainer.step(), rates.collect()))
    });
    let outcomes: Vec<_> = outcomes.into_iter().collect::<Result<_>>()?;
    assert_eq!(outcomes[0].0.as_deref(), Some("enough"));
    assert_eq!(outcomes[0].1, 5);
    assert!(outcomes[0].2[4] != outcomes[0].2[3], "the rate changed");
    assert!(outcomes.iter().all(|other| *other == outcomes[0]));
    assert_eq!(read_log(&log)?.len(), 5);
    Ok(())
}

/// A set that is another one on one rank.
struct Faulty {
    set: Vec<Example>,
    at: usize,
    fault: Option<fn() -> Result<Example>>,
}

impl TrainingSet for Faulty {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        match self.fault {
            Some(fault) if position == self.at => fault(),
            _ => TrainingSet::example(&self.set, vlm, position),
        }
    }
}

/// How a run ends on each rank, one of which has a fault in its data: the errors, and at which step the trainers stand.
fn with_fault(fault: fn() -> Result<Example>) -> Result<Vec<(Option<String>, usize)>> {
    let (train, held_out) = (squares(16)?, squares(3)?);
    Ok(on_ranks(3, |rank| {
        let at = rank.rank();
        let vlm = Vlm::tiny(&Device::Cpu).expect("it is made");
        let mut trainer = Trainer::new(eight(4)).expect("settings");
        trainer.train_with(rank);
        let train = Faulty {
            set: train.clone(),
            at: 5,
            fault: (at == 1).then_some(fault),
        };
        let fitted = catch_unwind(AssertUnwindSafe(|| trainer.fit(&vlm, &train, &held_out)));
        let said = match fitted {
            Ok(fitted) => fitted.err().map(|error| error.to_string()),
            Err(_) => Some("panicked".to_owned()),
        };
        (said, trainer.step())
    }))
}

#[test]
fn what_goes_wrong_on_one_rank_ends_all_and_names_it() -> Result<()> {
    let _alone = alone();
    let broken = with_fault(|| Err(Error::Config("the disk is full".into())))?;
    let unreadable = with_fault(|| {
        Err(Error::Io {
            path: "picture-5.png".into(),
            source: std::io::Error::other("not mounted"),
        })
    })?;
    for (outcomes, word) in [(broken, "the disk is full"), (unreadable, "picture-5.png")] {
        let step = outcomes[0].1;
        for (rank, (said, stands)) in outcomes.iter().enumerate() {
            let said = said.as_deref().unwrap_or("nothing");
            assert!(said.contains(word), "rank {rank}: {said}");
            assert!(rank == 1 || said.contains("rank 1 of 3"), "{said}");
            assert_eq!(*stands, step);
        }
    }
    let outcomes = with_fault(|| panic!("a bug of one rank"))?;
    assert_eq!(outcomes[1].0.as_deref(), Some("panicked"));
    for rank in [0, 2] {
        let said = outcomes[rank].0.as_deref().unwrap_or("nothing");
        assert!(said.contains("rank 1 of 3"), "rank {rank}: {said}");
    }
    Ok(())
}

#[test]
fn an_interrupt_of_one_rank_stops_all_at_one_step_and_the_run_goes_on_to_the_bit() -> Result<()> {
    let _alone = alone();
    let set = squares(9)?;
    let whole = run_of(2, &eight(8), &set)?;
    let outcomes = on_ranks(2, |rank| -> Result<Run> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let mut trainer = Trainer::new(eight(8))?;
        trainer.train_with(rank);
        // Whichever rank looks first is interrupted, and that one alone.
        trainer.on_step(|step| {
            if step.record().step == 3 {
                glassbox_prelude::session::request_interrupt();
            }
            Ok(())
        });
        let stopped = trainer.fit(&vlm, &set, &set);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
        assert_eq!(trainer.step(), 3);
        trainer.fit(&vlm, &set, &set)?;
        Ok((trainer.records().to_vec(), values(&vlm)?))
    });
    for outcome in outcomes {
        let (records, weights) = outcome?;
        let own: Vec<_> = records.iter().map(bits).collect();
        let others: Vec<_> = whole[0].0.iter().map(bits).collect();
        assert!(own == others && weights == whole[0].1);
    }
    Ok(())
}

#[test]
fn ranks_that_differ_are_refused_but_the_first_weights_are_those_of_rank_0() -> Result<()> {
    let _alone = alone();
    let set = squares(9)?;
    let fitted = |change: &(dyn Fn(usize, &mut TrainerSettings) + Sync), samples: usize| {
        on_ranks(2, |rank| -> Result<Run> {
            let at = rank.rank();
            let tiny = Vlm::tiny(&Device::Cpu)?;
            let vlm = tiny.with_settings((*tiny.settings).clone(), at as u64)?;
            let mut settings = eight(2);
            change(at, &mut settings);
            let mut trainer = Trainer::new(settings)?;
            trainer.train_with(rank);
            let own = match at {
                1 => set[..samples].to_vec(),
                _ => set.clone(),
            };
            trainer.fit(&vlm, &own, &set)?;
            Ok((trainer.records().to_vec(), values(&vlm)?))
        })
    };
    let alike: Vec<Run> = fitted(&|_, _| {}, 9).into_iter().collect::<Result<_>>()?;
    assert!(alike[0].1 == alike[1].1);
    let rate = |at: usize, settings: &mut TrainerSettings| {
        settings.learning_rate *= 1.0 + at as f64;
    };
    let few = |_: usize, settings: &mut TrainerSettings| settings.batch_size = 1;
    for (outcomes, words) in [
        (fitted(&rate, 9), ["rank 1 of 2", "settings"]),
        (fitted(&|_, _| {}, 8), ["rank 1 of 2", "data"]),
        (fitted(&few, 9), ["1 samples", "2 ranks"]),
    ] {
        for outcome in outcomes {
            let said = outcome.map(|_| ()).unwrap_err().to_string();
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
    Ok(())
}
