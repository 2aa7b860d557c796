//! What watches a run: callbacks, figures, captions, the best state, and an early end.

use std::sync::{Arc, Mutex};

use glassbox_prelude::Result;
use glassbox_prelude::candle_core::Device;
use glassbox_prelude::evaluate::{Bleu, Evaluator};
use glassbox_prelude::train::{
    BestBy, CheckpointSettings, EarlyStop, Trainer, TrainerSettings, read_log, run_checkpoints,
};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::Vlm;

use super::{alone, folder, pictures, settings, squares};

#[test]
fn a_callback_sees_each_step_logs_changes_the_rate_and_stops() -> Result<()> {
    let _alone = alone();
    let (vlm, set, folder) = (Vlm::tiny(&Device::Cpu)?, squares(4)?, folder()?);
    let log = folder.path().join("run.jsonl");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut trainer = Trainer::new(TrainerSettings {
        log: Some(log.clone()),
        ..settings(10)
    })?;
    let steps = seen.clone();
    trainer.on_step(move |step| {
        steps.lock().expect("not poisoned").push(step.record().step);
        step.log("twice", 2.0 * step.record().loss);
        step.scale_rate(0.5);
        if step.record().step == 3 {
            step.stop("three are enough");
        }
        Ok(())
    });
    let report = trainer.fit(&vlm, &set, &set)?;
    assert_eq!(*seen.lock().expect("not poisoned"), [1, 2, 3]);
    assert_eq!(
        (report.steps, report.stopped.as_deref()),
        (3, Some("three are enough"))
    );
    let records = read_log(&log)?;
    for (at, record) in records.iter().enumerate() {
        assert!((record.metrics["twice"] - 2.0 * record.loss).abs() < 1e-9);
        assert!(
            (record.rate - 3e-3 * 0.5f64.powi(at as i32)).abs() < 1e-12,
            "{}",
            record.rate
        );
    }
    trainer.fit(&vlm, &set, &set)?; // goes on
    assert_eq!(trainer.step(), 10);
    let mut broken = Trainer::new(settings(2))?;
    broken.on_step(|step| {
        step.scale_rate(f64::NAN);
        Ok(())
    });
    let error = broken
        .fit(&vlm, &set, &set)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("scale_rate"), "{error}");
    Ok(())
}

#[test]
fn figures_decide_the_best_checkpoint_and_when_to_end() -> Result<()> {
    let _alone = alone();
    let (vlm, set, folder) = (Vlm::tiny(&Device::Cpu)?, squares(4)?, folder()?);
    let kept = folder.path().join("checkpoints");
    let mut trainer = Trainer::new(TrainerSettings {
        validate_every: 1,
        best_by: BestBy {
            figure: "score".into(),
            highest: true,
        },
        early_stop: Some(EarlyStop {
            patience: 3,
            least: 0.0,
        }),
        checkpoints: Some(CheckpointSettings {
            every: 1,
            keep_last: 1,
            ..CheckpointSettings::new(&kept)
        }),
        ..settings(20)
    })?;
    let mut scores = [1.0, 5.0, 3.0, 2.0, 4.0].into_iter();
    trainer.measure("score", move |_| Ok(scores.next().unwrap_or(0.0)));
    let report = trainer.fit(&vlm, &set, &set)?;
    assert_eq!(
        report.steps, 5,
        "two good ones and three that are not better"
    );
    assert!(report.stopped.is_some_and(|why| why.contains("score")));
    assert_eq!(trainer.best(), Some((2, 5.0)));
    let steps: Vec<usize> = run_checkpoints(&kept)?.iter().map(|one| one.step).collect();
    assert_eq!(steps, [2, 5], "the best and the last");
    let best = trainer.best_checkpoint().expect("it is kept");
    let other = Vlm::tiny(&Device::Cpu)?;
    Trainer::load_weights(&best, &other)?;
    assert_ne!(super::values(&other)?, super::values(&vlm)?);

    let mut unknown = Trainer::new(TrainerSettings {
        best_by: BestBy {
            figure: "CIDER".into(),
            highest: true,
        },
        ..settings(1)
    })?;
    let error = unknown
        .fit(&vlm, &set, &set)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("CIDER") && error.contains("validation_loss"),
        "{error}"
    );
    Ok(())
}

#[test]
fn metrics_and_captions_of_fixed_pictures_are_taken_with_the_validation_loss() -> Result<()> {
    let _alone = alone();
    let (vlm, folder) = (Vlm::tiny(&Device::Cpu)?, folder()?);
    let (train, held_out) = pictures(folder.path(), 6, 3)?;
    let mut trainer = Trainer::new(TrainerSettings {
        validate_every: 2,
        ..settings(4)
    })?;
    trainer
        .measure_scores(
            Evaluator::new()
                .metric(Bleu::default())
                .pictures(2)
                .max_new_tokens(4),
            held_out.clone(),
        )
        .watch_pictures(vec![
            Image::filled(64, 64, [200, 30, 40])?,
            Image::filled(64, 64, [9; 3])?,
        ]);
    trainer.fit(&vlm, &train, &held_out)?;
    let measured: Vec<usize> = trainer
        .records()
        .iter()
        .filter(|record| record.metrics.contains_key("BLEU-4"))
        .map(|record| record.step)
        .collect();
    assert_eq!(measured, [2, 4]);
    let captions: Vec<(usize, usize)> = trainer
        .captions()
        .iter()
        .map(|one| (one.step, one.picture))
        .collect();
    assert_eq!(captions, [(2, 0), (2, 1), (4, 0), (4, 1)]);
    Ok(())
}
