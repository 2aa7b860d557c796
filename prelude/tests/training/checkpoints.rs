//! Checkpoints that are damaged, of others, of other versions and of other settings; and a disk that is full.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use glassbox_prelude::candle_core::Tensor;
use glassbox_prelude::nn::{Network, PartMut};
use glassbox_prelude::train::{
    CheckpointSettings, Example, FailedSave, Trainer, TrainerSettings, run_checkpoints,
};
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};

use super::{alone, device, folder, settings, squares, values};

/// A run of six steps with a checkpoint after every second.
fn run(kept: &Path) -> Result<(Vlm, Trainer, Vec<Example>)> {
    let (vlm, set) = (Vlm::tiny(&device()?)?, squares(5)?);
    let mut trainer = Trainer::new(with_checkpoints(kept))?;
    trainer.fit(&vlm, &set, &set)?;
    Ok((vlm, trainer, set))
}

fn with_checkpoints(kept: &Path) -> TrainerSettings {
    TrainerSettings {
        checkpoints: Some(CheckpointSettings {
            every: 2,
            keep_last: 3,
            ..CheckpointSettings::new(kept)
        }),
        ..settings(6)
    }
}

fn step(kept: &Path, step: usize) -> PathBuf {
    kept.join(format!("step-{step:08}"))
}

#[test]
fn a_damaged_foreign_or_newer_checkpoint_is_refused_and_the_one_before_it_offered() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (vlm, ..) = run(folder.path())?;
    let newest = step(folder.path(), 6);
    let read = |name: &str| std::fs::read(newest.join(name)).expect("it is there");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(newest.join(name), bytes).expect("it can be written")
    };
    let (weights, state, json) = (
        read("trainable.safetensors"),
        read("optimizer.safetensors"),
        read("trainer.json"),
    );
    let mut flipped = weights.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let newer = String::from_utf8_lossy(&json).replacen("\"version\": 2", "\"version\": 3", 1);
    let before = values(&vlm)?;
    for (name, bytes, reason) in [
        (
            "trainable.safetensors",
            &weights[..weights.len() / 2],
            "bytes",
        ),
        ("optimizer.safetensors", &state[..state.len() - 1], "bytes"),
        ("trainable.safetensors", &flipped[..], "checksum"),
        ("trainer.json", &json[..json.len() / 2], "no whole JSON"),
        ("trainer.json", newer.as_bytes(), "newer version"),
        (
            "trainer.json",
            b"{\"global_step\": 6}",
            "no checkpoint of this trainer",
        ),
    ] {
        let good = read(name);
        write(name, bytes);
        let mut trainer = Trainer::new(with_checkpoints(folder.path()))?;
        let error = trainer.resume(folder.path(), &vlm).unwrap_err().to_string();
        assert!(error.contains(reason), "{name}: {error}");
        assert!(
            error.contains("step-00000004"),
            "the one before is offered: {error}"
        );
        let error = trainer.load(&newest, &vlm).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{name}: {error}");
        assert!(error.to_string().contains("step-00000004"), "{error}");
        assert_eq!(
            (trainer.step(), values(&vlm)?),
            (0, before.clone()),
            "nothing changes"
        );
        write(name, &good);
    }
    let mut trainer = Trainer::new(with_checkpoints(folder.path()))?;
    assert_eq!(trainer.resume(folder.path(), &vlm)?, 6);

    std::fs::remove_file(newest.join("optimizer.safetensors")).expect("it is there");
    let error = trainer.load(&newest, &vlm).unwrap_err().to_string();
    assert!(
        error.contains("optimizer.safetensors is missing"),
        "{error}"
    );
    std::fs::remove_file(newest.join("trainer.json")).expect("it is there");
    let error = trainer.load(&newest, &vlm).unwrap_err().to_string();
    assert!(error.contains("is no checkpoint of a trainer"), "{error}");
    let error = trainer
        .resume(folder.path().join("nowhere"), &vlm)
        .unwrap_err()
        .to_string();
    assert!(error.contains("holds no checkpoint"), "{error}");
    Ok(())
}

#[test]
fn the_first_layout_is_still_read() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (vlm, trainer, set) = run(folder.path())?;
    let old = step(folder.path(), 4);
    // What trainers wrote before there was a version: these fields, and AdamW's three tensors a parameter.
    let records: Vec<_> = trainer.records()[..4]
        .iter()
        .map(|r| serde_json::json!({"step": r.step, "loss": r.loss, "rate": r.rate, "norm": r.norm, "tokens": r.tokens, "seconds": r.seconds}))
        .collect();
    let json = serde_json::json!({
        "seed": 0, "batch_size": 2, "step": 4, "tokens": trainer.records()[3].tokens, "seconds": 1.5, "untrained": 2.5,
        "records": records, "unreadable": [],
    });
    std::fs::write(old.join("trainer.json"), json.to_string()).expect("it can be written");
    let other = Vlm::tiny(&device()?)?;
    let mut restored = Trainer::new(settings(6))?;
    restored.load(&old, &other)?;
    assert_eq!((restored.step(), Trainer::saved_settings(&old)?), (4, None));
    restored.fit(&other, &set, &set)?;
    assert_eq!(values(&other)?, values(&vlm)?);
    let mut wrong = Trainer::new(TrainerSettings {
        seed: 3,
        ..settings(6)
    })?;
    let error = wrong.load(&old, &other).unwrap_err().to_string();
    assert!(error.contains("seed 0 (here 3)"), "{error}");
    Ok(())
}

#[test]
fn other_settings_are_listed_and_those_that_steps_do_not_feel_are_taken() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (vlm, mut trainer, set) = run(folder.path())?;
    let changed = TrainerSettings {
        learning_rate: 1e-4,
        max_norm: None,
        label_smoothing: 0.1,
        steps: 9,
        ..with_checkpoints(folder.path())
    };
    let mut other = Trainer::new(changed)?;
    let error = other.resume(folder.path(), &vlm).unwrap_err().to_string();
    for named in [
        "learning_rate 0.003 (here 0.0001)",
        "max_norm 1.0 (here 0.0)",
        "label_smoothing 0.0 (here 0.1)",
    ] {
        assert!(error.contains(named), "{error}");
    }
    assert!(!error.contains("steps 6"), "{error}");
    other.load_changed(step(folder.path(), 6), &vlm)?;
    assert_eq!(other.step(), 6);

    // A longer run with measurements in between is the same run.
    let longer = TrainerSettings {
        steps: 8,
        validate_every: 1,
        ..with_checkpoints(folder.path())
    };
    let second = Vlm::tiny(&device()?)?;
    let mut restored = Trainer::new(longer)?;
    restored.load(step(folder.path(), 6), &second)?;
    assert_eq!(restored.records(), trainer.records(), "to the bit");
    restored.fit(&second, &set, &set)?;
    trainer.extend(2);
    trainer.fit(&vlm, &set, &set)?;
    assert_eq!(values(&second)?, values(&vlm)?);
    Ok(())
}

#[test]
fn another_model_another_set_and_a_folder_of_something_else_are_refused() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (vlm, trainer, set) = run(folder.path())?;
    let saved = step(folder.path(), 6);
    let mut other = Vlm::tiny(&device()?)?;
    other.llm.visit_mut(&mut |part| match part {
        PartMut::Weight(weight) if weight.name().contains("norm") => {
            let zeros = Tensor::zeros(weight.tensor().dims(), weight.tensor().dtype(), &device()?)?;
            weight.set(&zeros)
        }
        _ => Ok(()),
    })?;
    let mut fresh = Trainer::new(with_checkpoints(folder.path()))?;
    let error = fresh.load(&saved, &other).unwrap_err().to_string();
    assert!(error.contains("another language model"), "{error}");

    let mut fewer = Vlm::tiny(&device()?)?;
    fewer.set_trainable("projector", false)?;
    let error = fresh.load(&saved, &fewer).unwrap_err().to_string();
    assert!(
        error.contains("other trainable parts") && error.contains("projector"),
        "{error}"
    );

    let third = Vlm::tiny(&device()?)?;
    fresh.load(&saved, &third)?;
    fresh.extend(1);
    let error = fresh
        .fit(&third, &squares(4)?, &set)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("5 training examples"), "{error}");

    let own = folder.path().join("letters");
    std::fs::create_dir(&own).expect("it is not there");
    std::fs::write(own.join("letter.txt"), "dear").expect("it can be written");
    let error = trainer.save(&own, &vlm).unwrap_err().to_string();
    assert!(error.contains("no checkpoint of a trainer"), "{error}");
    assert!(own.join("letter.txt").exists());
    Ok(())
}

/// Where the child of the next test runs.
const PLACE: &str = "GLASSBOX_TEST_FULL_DISK";

/// What that child does: a run whose files can't grow any more after its third step, as on a full disk. Alone it does nothing.
#[test]
fn the_run_on_a_full_disk() -> Result<()> {
    let Some(kept) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return Ok(());
    };
    for (on_failure, name) in [(FailedSave::Warn, "warn"), (FailedSave::Stop, "stop")] {
        let kept = kept.join(name);
        let (vlm, set) = (Vlm::tiny(&device()?)?, squares(5)?);
        let mut with = with_checkpoints(&kept);
        if let Some(checkpoints) = &mut with.checkpoints {
            checkpoints.on_failure = on_failure;
        }
        limit(None);
        let mut trainer = Trainer::new(with)?;
        trainer.on_step(|step| {
            if step.record().step == 3 {
                limit(Some(4096));
            }
            Ok(())
        });
        let outcome = trainer.fit(&vlm, &set, &set);
        limit(None);
        match on_failure {
            FailedSave::Warn => assert_eq!(outcome?.steps, 6, "training goes on"),
            FailedSave::Stop => {
                assert!(
                    matches!(outcome, Err(Error::Checkpoint { .. } | Error::Io { .. })),
                    "{outcome:?}"
                );
                assert_eq!(trainer.step(), 4, "the step counts");
            }
        }
        let left: Vec<_> = std::fs::read_dir(&kept)
            .expect("it is there")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(
            left,
            ["step-00000002"],
            "the old one stays, nothing half written does"
        );
        let mut restored = Trainer::new(with_checkpoints(&kept))?;
        assert_eq!(restored.resume(&kept, &Vlm::tiny(&device()?)?)?, 2);
    }
    std::fs::write(kept.join("passed"), "").expect("there is room again");
    Ok(())
}

/// Files of this process may have so many bytes.
fn limit(bytes: Option<u64>) {
    let limit = libc::rlimit {
        rlim_cur: bytes.unwrap_or(libc::RLIM_INFINITY),
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit lives through the call; without the signal a write that is too long is an error.
    let set = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &limit)
    };
    assert_eq!(set, 0);
}

#[test]
fn on_a_full_disk_the_old_checkpoint_stays_and_training_goes_on_or_stops() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let output = Command::new(std::env::current_exe().expect("this test has a file"))
        .args([
            "--exact",
            "checkpoints::the_run_on_a_full_disk",
            "--nocapture",
        ])
        .env(PLACE, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && folder.path().join("passed").exists(),
        "{said}"
    );
    assert!(
        said.contains("checkpoint of step 4 could not be written"),
        "{said}"
    );
    assert!(run_checkpoints(folder.path().join("warn"))?.len() == 1);
    Ok(())
}

#[test]
fn a_new_run_does_not_mix_its_checkpoints_with_those_of_another() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (_, _, set) = run(folder.path())?;
    let there = run_checkpoints(folder.path())?.len();
    let vlm = Vlm::tiny(&device()?)?;
    let mut fresh = Trainer::new(with_checkpoints(folder.path()))?;
    let error = fresh.fit(&vlm, &set, &set).unwrap_err().to_string();
    assert!(
        error.contains("checkpoints of another run, the newest of step 6"),
        "{error}"
    );
    assert_eq!(
        (fresh.step(), run_checkpoints(folder.path())?.len()),
        (0, there)
    );
    Ok(())
}
