//! The trainer as a whole, on the tiny default model: the same seed gives the same weights, an interrupted or restored
//! run ends where an uninterrupted one does, and everything that trains gets a gradient.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use glassbox_prelude::candle_core::{DType, Device};
use glassbox_prelude::data::{CocoCaptions, Shapes, ShapesConfig, Split};
use glassbox_prelude::display::Render;
use glassbox_prelude::evaluate::attribute_accuracy;
use glassbox_prelude::nn::Network;
use glassbox_prelude::session::request_interrupt;
use glassbox_prelude::train::{Gradients, LossKind, Trainer, TrainerConfig, read_log};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::{BosPlacement, Targets, Vlm, VlmSettings};
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

/// Spoils pictures of the training and of the held-out part, each in another way.
fn spoil(pictures: &Pictures) -> std::io::Result<()> {
    let file = |split: &str, name: &str| pictures.folder.path().join(split).join(name);
    let cut = file("train2017", "000000000004.jpg");
    let bytes = std::fs::read(&cut)?;
    std::fs::write(&cut, &bytes[..bytes.len() * 6 / 10])?;
    std::fs::remove_file(file("train2017", "000000000007.jpg"))?;
    let pipe = file("val2017", "001000000001.jpg");
    std::fs::remove_file(&pipe)?;
    let made = std::process::Command::new("mkfifo").arg(&pipe).status()?;
    assert!(made.success());
    Ok(())
}

#[test]
fn unreadable_pictures_are_left_out_and_every_step_is_made() -> Result<()> {
    let _alone = alone();
    let pictures = pictures()?;
    spoil(&pictures).expect("the files are there");
    let log = pictures.folder.path().join("run.jsonl");
    let config = TrainerConfig {
        steps: 12, // more than two epochs
        log: Some(log.clone()),
        ..config()
    };
    let run = || -> Result<(Values, glassbox_prelude::train::TrainReport)> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let report = Trainer::new(config.clone())?.fit(&vlm, &pictures.train, &pictures.val)?;
        Ok((values(&vlm)?, report))
    };
    let (first, report) = run()?;
    assert_eq!((report.steps, report.samples), (12, 24));
    let mut names: Vec<String> = report.unreadable.iter().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names[0].starts_with("held-out example 0: ") && names[0].contains("named pipe"),
        "{names:?}"
    );
    assert!(
        names[1].contains("000000000004.jpg") && names[1].contains("cut off"),
        "{names:?}"
    );
    assert!(names[2].contains("000000000007.jpg"), "{names:?}");
    let shown = report.render().plain().to_owned();
    assert!(shown.contains("unreadable examples left out"), "{shown}");
    let records = read_log(&log)?;
    assert_eq!(records.last().map(|record| record.unreadable), Some(3));
    assert_eq!(run()?.0, first, "the same files and seed, the same weights");

    // None may be: the first ends the run, and so do too many.
    for (max_unreadable, words) in [(0.0, "named pipe"), (0.1, "2 of 10 training examples")] {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let config = TrainerConfig {
            max_unreadable,
            log: None,
            ..config.clone()
        };
        let error = Trainer::new(config)?
            .fit(&vlm, &pictures.train, &pictures.val)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
    let wrong = TrainerConfig {
        max_unreadable: f64::NAN,
        ..config
    };
    let error = Trainer::new(wrong).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("max_unreadable"), "{error}");

    let scored = attribute_accuracy(&Vlm::tiny(&Device::Cpu)?, &pictures.val, 4)?;
    assert_eq!((scored.predictions.len(), scored.unreadable.len()), (3, 1));
    assert!(
        scored
            .render()
            .plain()
            .contains("1 unreadable example left out")
    );
    Ok(())
}

#[test]
fn a_picture_that_vanishes_while_training_is_left_out_from_then_on() -> Result<()> {
    let _alone = alone();
    let pictures = pictures()?;
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut trainer = Trainer::new(TrainerConfig {
        steps: 2,
        ..config()
    })?;
    trainer.fit(&vlm, &pictures.train, &pictures.val)?;
    let gone = pictures.folder.path().join("train2017/000000000002.jpg");
    std::fs::remove_file(&gone).expect("it was there");
    trainer.extend(8);
    let report = trainer.fit(&vlm, &pictures.train, &pictures.val)?;
    assert_eq!((report.steps, report.new_steps), (10, 8));
    assert_eq!(report.unreadable.len(), 1, "{:?}", report.unreadable);
    assert!(report.unreadable[0].why.contains("000000000002.jpg"));
    Ok(())
}

#[test]
fn samples_without_a_target_are_an_error_that_names_them() -> Result<()> {
    let _alone = alone();
    let settings = VlmSettings {
        bos: BosPlacement::Once,
        targets: Targets::Middle,
        ..VlmSettings::tiny()
    };
    let vlm = Vlm::tiny(&Device::Cpu)?.with_settings(settings, 0)?;
    let image = Image::filled(32, 32, [9; 3])?;
    let sets = |captions: &[&str]| -> Vec<(Image, Vec<String>)> {
        captions
            .iter()
            .map(|caption| (image.clone(), vec![(*caption).to_owned()]))
            .collect()
    };
    let good = sets(&["two red circles"]);
    for loss in [LossKind::FullSequence, LossKind::RandomPrefix] {
        let fit = |train: &Vec<_>, held_out: &Vec<_>| {
            let config = TrainerConfig {
                batch_size: 3,
                steps: 1,
                loss,
                ..config()
            };
            Trainer::new(config)
                .and_then(|mut trainer| trainer.fit(&vlm, train, held_out))
                .unwrap_err()
        };
        let error = fit(&sets(&["red", "red", ""]), &good);
        assert!(matches!(error, Error::NoTarget { .. }), "{error}");
        let some = fit(&sets(&["two red circles", "red", "a blue star"]), &good).to_string();
        assert!(
            some.contains("training example 1, whose caption is \"red\""),
            "{some}"
        );
        let held_out = fit(&good, &sets(&["red"])).to_string();
        assert!(held_out.contains("held-out example 0"), "{held_out}");
    }
    Ok(())
}

#[test]
fn a_finished_trainer_says_so_and_another_model_is_refused() -> Result<()> {
    let _alone = alone();
    let pictures = pictures()?;
    let mut vlm = Vlm::tiny(&Device::Cpu)?;
    let mut trainer = Trainer::new(TrainerConfig {
        steps: 2,
        ..config()
    })?;
    trainer.fit(&vlm, &pictures.train, &pictures.val)?;
    let trained = values(&vlm)?;
    let again = trainer.fit(&vlm, &pictures.train, &pictures.val)?;
    assert_eq!((again.steps, again.new_steps), (2, 0));
    assert_eq!(values(&vlm)?, trained);
    let shown = again.render().plain().to_owned();
    let new = shown
        .lines()
        .find(|line| line.starts_with("of them in this call"));
    assert!(new.is_some_and(|line| line.ends_with(" 0")), "{shown}");

    let other = Vlm::tiny(&Device::Cpu)?;
    for steps in [0, 2] {
        trainer.extend(steps);
        let error = trainer
            .fit(&other, &pictures.train, &pictures.val)
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error}");
        assert!(
            error.to_string().contains("begun with another model"),
            "{error}"
        );
    }
    let folder = pictures.folder.path().join("checkpoint");
    assert!(trainer.save(&folder, &other).is_err());

    // It is the same model also if its parts were frozen in between.
    vlm.projector.set_trainable(false)?;
    vlm.projector.set_trainable(true)?;
    trainer.fit(&vlm, &pictures.train, &pictures.val)?;
    assert_eq!(trainer.step(), 4);
    Ok(())
}
