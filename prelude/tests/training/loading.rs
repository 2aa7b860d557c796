//! Reading ahead, batches of alike lengths, and features on disk: the same steps, sooner.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use glassbox_prelude::candle_core::Device;
use glassbox_prelude::data::CocoCaptions;
use glassbox_prelude::train::{Example, FeatureSettings, Trainer, TrainerSettings, TrainingSet};
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};

use super::{alone, folder, pictures, settings, squares, values};

/// A set that takes its time, and counts how often it is read.
#[derive(Clone)]
struct Slow {
    set: CocoCaptions,
    takes: Duration,
    read: Arc<AtomicUsize>,
    panics_at: Option<usize>,
}

impl TrainingSet for Slow {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        self.read.fetch_add(1, Ordering::SeqCst);
        assert!(self.panics_at != Some(position), "a set of somebody's");
        std::thread::sleep(self.takes);
        self.set.example(vlm, position)
    }

    fn handle(&self) -> Option<Arc<dyn TrainingSet + Send + Sync>> {
        Some(Arc::new(self.clone()))
    }
}

#[test]
fn the_number_of_threads_changes_nothing_but_the_wait() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (set, held_out) = pictures(folder.path(), 24, 2)?;
    // One that can't be read: another takes its place, whoever finds it out.
    std::fs::write(set.picture_path(5)?, "no picture").expect("it can be written");
    let slow = Slow {
        set,
        takes: Duration::from_millis(15),
        read: Arc::default(),
        panics_at: None,
    };
    let run = |workers: usize, prefetch: usize| -> Result<_> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let mut trainer = Trainer::new(TrainerSettings {
            workers,
            prefetch,
            cache_megabytes: 0,
            batch_size: 3,
            ..settings(20)
        })?;
        trainer.fit(&vlm, &slow, &held_out)?;
        let last = trainer.records().last().cloned().expect("steps were made");
        Ok((values(&vlm)?, last.waited, last.unreadable))
    };
    let (expected, alone, unreadable) = run(0, 2)?;
    assert_eq!(unreadable, 1);
    assert!(
        alone > 0.015 * 57.0,
        "each step waits for its three pictures: {alone}"
    );
    for (workers, prefetch) in [(1, 1), (2, 2), (5, 4)] {
        let (values, waited, unreadable) = run(workers, prefetch)?;
        assert_eq!(
            (values == expected, unreadable),
            (true, 1),
            "{workers} threads"
        );
        assert!(
            waited < alone,
            "{workers} threads, {prefetch} steps ahead: {waited} s, without {alone} s"
        );
    }
    Ok(())
}

#[test]
fn samples_are_kept_in_memory_up_to_the_limit() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (set, held_out) = pictures(folder.path(), 6, 2)?;
    let read = |cache_megabytes: usize| -> Result<usize> {
        let slow = Slow {
            set: set.clone(),
            takes: Duration::ZERO,
            read: Arc::default(),
            panics_at: None,
        };
        let mut trainer = Trainer::new(TrainerSettings {
            cache_megabytes,
            ..settings(12) // four epochs
        })?;
        trainer.fit(&Vlm::tiny(&Device::Cpu)?, &slow, &held_out)?;
        Ok(slow.read.load(Ordering::SeqCst))
    };
    assert_eq!(read(512)?, 6, "each once");
    assert!(read(0)? >= 24, "each in each epoch");
    Ok(())
}

#[test]
fn a_set_that_panics_on_a_thread_ends_the_run_with_its_words() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (set, held_out) = pictures(folder.path(), 6, 2)?;
    let slow = Slow {
        set,
        takes: Duration::ZERO,
        read: Arc::default(),
        panics_at: Some(2),
    };
    let error = Trainer::new(settings(6))?.fit(&Vlm::tiny(&Device::Cpu)?, &slow, &held_out);
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("training example 2 panicked") && error.contains("somebody's"),
        "{error}"
    );
    Ok(())
}

#[test]
fn an_interrupt_ends_a_wait_for_samples_at_once_and_the_run_goes_on() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (set, held_out) = pictures(folder.path(), 6, 2)?;
    let slow = Slow {
        set,
        takes: Duration::from_secs(5),
        read: Arc::default(),
        panics_at: None,
    };
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut trainer = Trainer::new(TrainerSettings {
        batch_size: 1,
        ..settings(1)
    })?;
    let begun = std::time::Instant::now();
    let asker = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(800));
        glassbox_prelude::session::request_interrupt();
    });
    let outcome = trainer.fit(&vlm, &slow, &held_out);
    asker.join().expect("it ends");
    assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    assert!(
        begun.elapsed() < Duration::from_millis(4500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(trainer.fit(&vlm, &slow, &held_out)?.steps, 1);
    Ok(())
}

#[test]
fn alike_lengths_come_together_in_whatever_sitting() -> Result<()> {
    let _alone = alone();
    let set = squares(16)?; // captions of four lengths
    let bucketed = TrainerSettings {
        bucket: 4,
        batch_size: 4,
        ..settings(6)
    };
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut whole = Trainer::new(bucketed.clone())?;
    whole.fit(&vlm, &set, &set)?;
    let other = Vlm::tiny(&Device::Cpu)?;
    let mut halves = Trainer::new(TrainerSettings {
        steps: 3,
        ..bucketed.clone()
    })?;
    halves.fit(&other, &set, &set)?;
    halves.extend(3);
    halves.fit(&other, &set, &set)?;
    assert_eq!(values(&other)?, values(&vlm)?);
    // Of four captions of each length every batch holds those of one: their tokens are a multiple of four.
    let tokens: Vec<u64> = whole.records().iter().map(|record| record.tokens).collect();
    assert!(
        tokens.windows(2).all(|two| (two[1] - two[0]) % 4 == 0),
        "{tokens:?}"
    );

    let pairs = vec![(
        vlm.image_processor
            .preprocess(&glassbox_prelude::vision::Image::filled(64, 64, [9; 3])?)?,
        vec!["a star".to_owned()],
    )];
    let error = Trainer::new(bucketed)?
        .fit(&vlm, &pairs, &set)
        .map(|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("TrainingSet::length"), "{error}");
    Ok(())
}

#[test]
fn features_of_a_frozen_encoder_are_kept_on_disk_and_give_the_same_steps() -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let (set, held_out) = pictures(&folder.path().join("data"), 6, 2)?;
    let kept = folder.path().join("features");
    let frozen = || -> Result<Vlm> {
        let mut vlm = Vlm::tiny(&Device::Cpu)?;
        vlm.set_trainable("image_encoder", false)?;
        Ok(vlm)
    };
    let run = |vlm: &Vlm, features: Option<FeatureSettings>| -> Result<Vec<f64>> {
        let mut trainer = Trainer::new(TrainerSettings {
            features,
            ..settings(6)
        })?;
        trainer.fit(vlm, &set, &held_out)?;
        Ok(trainer.records().iter().map(|record| record.loss).collect())
    };
    // Beside them lies the count of their bytes.
    let is_kept = |file: &std::fs::DirEntry| {
        let name = file.file_name();
        name.to_string_lossy().ends_with(".safetensors")
    };
    let files = |kept: &std::path::Path| -> usize {
        let folders = std::fs::read_dir(kept).into_iter().flatten().flatten();
        folders
            .map(|folder| {
                let files = std::fs::read_dir(folder.path()).into_iter().flatten();
                files.flatten().filter(|file| is_kept(file)).count()
            })
            .sum()
    };
    let plain = run(&frozen()?, None)?;
    let close = |losses: &[f64]| {
        plain
            .iter()
            .zip(losses)
            .all(|(one, other)| (one - other).abs() < 1e-4 * one)
    };
    let first = run(&frozen()?, Some(FeatureSettings::new(&kept)))?;
    assert!(close(&first), "{first:?} {plain:?}");
    assert_eq!(files(&kept), 6, "one of each picture");
    assert_eq!(
        run(&frozen()?, Some(FeatureSettings::new(&kept)))?,
        first,
        "from disk to the bit"
    );
    assert_eq!(files(&kept), 6);

    // A damaged file is computed anew.
    let one = std::fs::read_dir(&kept)
        .expect("there")
        .flatten()
        .next()
        .expect("one")
        .path();
    let file = std::fs::read_dir(one)
        .expect("there")
        .flatten()
        .find(is_kept)
        .expect("one")
        .path();
    std::fs::write(&file, "torn").expect("it can be written");
    assert_eq!(run(&frozen()?, Some(FeatureSettings::new(&kept)))?, first);
    assert!(std::fs::metadata(&file).expect("there").len() > 100);

    // A limit holds, and an encoder that trains is refused.
    let none = folder.path().join("none");
    let tight = FeatureSettings {
        megabytes: 0,
        ..FeatureSettings::new(&none)
    };
    assert_eq!(run(&frozen()?, Some(tight))?, first);
    assert_eq!(files(&none), 0, "nothing fits");
    let error = run(&Vlm::tiny(&Device::Cpu)?, Some(FeatureSettings::new(&kept)))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("trains") && error.contains("lora"),
        "{error}"
    );
    Ok(())
}
