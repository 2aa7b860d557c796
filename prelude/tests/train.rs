//! The trainer as a whole, on the tiny default model: the same seed gives the same weights, an interrupted or restored
//! run ends where an uninterrupted one does, and everything that trains gets a gradient.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use glassbox_prelude::candle_core::{DType, Device};
use glassbox_prelude::data::{CocoCaptions, Shapes, ShapesConfig, Split};
use glassbox_prelude::session::request_interrupt;
use glassbox_prelude::train::{Gradients, LossKind, Trainer, TrainerConfig, read_log};
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};

/// An interrupt reaches whichever loop of the process looks first: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Pictures {
    folder: tempfile::TempDir,
    train: CocoCaptions,
    val: CocoCaptions,
}

fn pictures() -> Result<Pictures> {
    let folder = tempfile::tempdir().map_err(|source| Error::Io {
        path: "temporary folder".into(),
        source,
    })?;
    Shapes::new(ShapesConfig {
        image_size: 32,
        ..ShapesConfig::default()
    })?
    .write_coco(folder.path(), 10, 4)?;
    let train = CocoCaptions::open(folder.path(), Split::Train)?;
    let val = CocoCaptions::open(folder.path(), Split::Val)?;
    Ok(Pictures { folder, train, val })
}

fn config() -> TrainerConfig {
    TrainerConfig {
        batch_size: 2,
        steps: 8,
        validate_every: 4,
        validation_samples: 3,
        ..TrainerConfig::tour()
    }
}

/// Names and values of what trains.
type Values = Vec<(String, Vec<f32>)>;

/// Every trainable value of the model.
fn values(vlm: &Vlm) -> Result<Values> {
    let parameters = vlm.trainable_parameters().into_iter();
    parameters
        .map(|p| {
            Ok((
                p.name,
                p.tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?,
            ))
        })
        .collect()
}

/// Trains a fresh model without a break.
fn trained(pictures: &Pictures, config: TrainerConfig) -> Result<(Values, Trainer)> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut trainer = Trainer::new(config)?;
    trainer.fit(&vlm, &pictures.train, &pictures.val)?;
    Ok((values(&vlm)?, trainer))
}

#[test]
fn the_seed_decides_the_weights() -> Result<()> {
    let _alone = alone();
    let pictures = pictures()?;
    for loss in [LossKind::FullSequence, LossKind::RandomPrefix] {
        let config = TrainerConfig {
            loss,
            steps: 4,
            ..config()
        };
        let (first, trainer) = trained(&pictures, config.clone())?;
        assert_eq!(first, trained(&pictures, config.clone())?.0);
        assert_ne!(
            first,
            trained(&pictures, TrainerConfig { seed: 9, ..config })?.0
        );
        let records = trainer.records();
        assert_eq!(records.len(), 4);
        assert!(
            records
                .iter()
                .all(|record| record.loss.is_finite() && record.norm > 0.0)
        );
        assert!(records[3].validation_loss.is_some());
    }
    Ok(())
}

#[test]
fn an_interrupted_run_goes_on_as_if_it_had_not_been() -> Result<()> {
    let _alone = alone();
    let pictures = pictures()?;
    let (expected, _) = trained(&pictures, config())?;

    let log = pictures.folder.path().join("run.jsonl");
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut trainer = Trainer::new(TrainerConfig {
        log: Some(log.clone()),
        ..config()
    })?;
    let watched = log.clone();
    let watcher = std::thread::spawn(move || {
        while std::fs::read_to_string(&watched).map_or(0, |text| text.lines().count()) < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        request_interrupt();
    });
    let outcome = trainer.fit(&vlm, &pictures.train, &pictures.val);
    watcher.join().expect("the watcher ends");
    assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    let stopped = trainer.step();
    assert!((3..8).contains(&stopped), "stopped after step {stopped}");

    let report = trainer.fit(&vlm, &pictures.train, &pictures.val)?;
    assert_eq!((report.steps, report.samples), (8, 16));
    assert_eq!(values(&vlm)?, expected);
    let steps: Vec<usize> = read_log(&log)?.iter().map(|record| record.step).collect();
    assert_eq!(
        steps,
        (1..=8).collect::<Vec<_>>(),
        "one log for both sittings"
    );
    Ok(())
}

#[test]
fn a_restored_run_goes_on_as_if_it_had_not_stopped() -> Result<()> {
    let _alone = alone();
    let pictures = pictures()?;
    let folder = pictures.folder.path().join("checkpoint");
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut trainer = Trainer::new(TrainerConfig {
        steps: 5,
        schedule: glassbox_prelude::train::Schedule::Constant,
        ..config()
    })?;
    trainer.fit(&vlm, &pictures.train, &pictures.val)?;
    trainer.save(&folder, &vlm)?;
    trainer.save(&folder, &vlm)?; // over the first
    trainer.extend(3);
    trainer.fit(&vlm, &pictures.train, &pictures.val)?;

    let other = Vlm::tiny(&Device::Cpu)?;
    let mut restored = Trainer::new(TrainerConfig {
        steps: 8,
        schedule: glassbox_prelude::train::Schedule::Constant,
        ..config()
    })?;
    restored.load(&folder, &other)?;
    assert_eq!(restored.step(), 5);
    restored.fit(&other, &pictures.train, &pictures.val)?;
    assert_eq!(values(&other)?, values(&vlm)?);

    let mut wrong = Trainer::new(TrainerConfig {
        seed: 1,
        ..config()
    })?;
    let error = wrong
        .load(&folder, &other)
        .expect_err("another seed")
        .to_string();
    assert!(error.contains("seed 0"), "{error}");
    let error = wrong
        .load(pictures.folder.path().join("nowhere"), &other)
        .expect_err("no such folder")
        .to_string();
    assert!(error.contains("nowhere"), "{error}");
    Ok(())
}

#[test]
fn everything_that_trains_gets_a_gradient() -> Result<()> {
    let _alone = alone();
    let pictures = pictures()?;
    let vlm = Vlm::tiny(&Device::Cpu)?;
    // One step first: LoRA's A has no gradient as long as B is zero.
    Trainer::new(TrainerConfig {
        steps: 1,
        ..config()
    })?
    .fit(&vlm, &pictures.train, &pictures.val)?;
    let sample = pictures.train.sample(0)?;
    let pixels = vlm.image_processor.preprocess(&sample.image)?;
    let parameters = vlm.named_parameters();
    let loss = vlm.full_sequence_loss(&pixels, &sample.captions[..1])?.loss;
    let gradients = Gradients::of(&loss, &parameters)?;
    assert_eq!(gradients.missing(&parameters), Vec::<String>::new());
    for parameter in &parameters {
        let norm = match gradients.get(&parameter.name) {
            Some(gradient) => gradient.sqr()?.sum_all()?.to_scalar::<f32>()?,
            None => 0.0,
        };
        assert_eq!(
            norm > 0.0,
            parameter.is_trainable(),
            "{}: gradient {norm}",
            parameter.name
        );
    }
    Ok(())
}

#[test]
fn settings_out_of_range_are_refused() {
    let config = TrainerConfig {
        batch_size: 0,
        ..config()
    };
    let error = Trainer::new(config)
        .map(|_| ())
        .expect_err("no samples in a step")
        .to_string();
    assert!(error.contains("batch_size"), "{error}");
}
