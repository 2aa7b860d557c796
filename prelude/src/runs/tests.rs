//! Runs as a trainer writes them, read back.

use std::path::Path;

use candle_core::Device;

use super::*;
use crate::display::{LinePlot, Render};
use crate::train::validation::CaptionRecord;
use crate::train::{CheckpointSettings, Example, Trainer, TrainerSettings};
use crate::vision::Image;
use crate::vlm::Vlm;
use crate::{Error, Result};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn set() -> Result<Vec<Example>> {
    let red = Image::filled(64, 64, [200, 30, 40])?;
    let blue = Image::filled(64, 64, [20, 30, 240])?;
    Ok(vec![
        Example::new(&red, "a red square"),
        Example::new(&blue, "a blue square"),
    ])
}

fn settings(run: &Path) -> TrainerSettings {
    TrainerSettings {
        steps: 4,
        batch_size: 2,
        validate_every: 2,
        run: Some(run.to_path_buf()),
        quiet: true,
        ..TrainerSettings::tour()
    }
}

/// What the refusal says.
fn said<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.to_string(),
    }
}

fn train(settings: TrainerSettings) -> Result<(Vlm, Trainer)> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut trainer = Trainer::new(settings)?;
    trainer.note("data", "two squares");
    trainer.fit(&vlm, &set()?, &set()?)?;
    Ok((vlm, trainer))
}

#[test]
fn a_run_s_folder_tells_all_that_it_was() -> Result<()> {
    let folder = folder();
    let path = folder.path().join("a");
    let (_, trainer) = train(settings(&path))?;
    let run = Run::open(&path)?;
    assert_eq!(run.records(), trainer.records());
    assert_eq!(run.about.state, RunState::Finished);
    assert_eq!((run.about.seed, run.about.steps), (0, 4));
    assert_eq!(run.about.untrained, trainer.untrained());
    assert!(run.about.ended.is_some() && run.about.result.contains("validation loss"));
    let data: Vec<(&str, usize)> = (run.about.data.iter())
        .map(|data| (data.role.as_str(), data.examples))
        .collect();
    assert_eq!(data, [("train", 2), ("validation", 2)]);
    assert!(run.about.data.iter().all(|data| data.hash.is_some()));
    assert_eq!(run.config["data"], "two squares");
    assert_eq!(run.config["trainer"]["steps"], 4);
    assert_eq!(run.config["settings"]["name"], "tiny");
    let curve = std::fs::read_to_string(path.join("curve.svg")).expect("drawn");
    assert!(curve.starts_with("<svg"));
    let events = std::fs::read_dir(&path)
        .expect("there")
        .filter_map(|entry| entry.ok());
    let events = events.filter(|entry| entry.file_name().to_string_lossy().contains("tfevents"));
    assert_eq!(events.count(), 1);
    Ok(())
}

#[test]
fn a_new_run_does_not_write_over_another_and_one_that_goes_on_drops_what_it_makes_again()
-> Result<()> {
    let folder = folder();
    let path = folder.path().join("a");
    let (vlm, trainer) = train(settings(&path))?;
    let error = said(train(settings(&path)));
    assert!(
        error.contains("holds a run already (4 of 4 steps, finished)"),
        "{error}"
    );

    // A checkpoint of step 4; the process goes on to step 6 and is killed while it writes a line.
    let saved = folder.path().join("checkpoint");
    trainer.save(&saved, &vlm)?;
    let mut longer = trainer;
    longer.extend(2);
    longer.fit(&vlm, &set()?, &set()?)?;
    let log = path.join("log.jsonl");
    let text = std::fs::read_to_string(&log).expect("there");
    std::fs::write(&log, format!("{text}{{\"step\":7,\"lo")).expect("written");
    assert_eq!(Run::open(&path)?.records().len(), 6, "half a line is none");

    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut again = Trainer::new(TrainerSettings {
        steps: 5,
        ..settings(&path)
    })?;
    again.load(&saved, &vlm)?;
    again.fit(&vlm, &set()?, &set()?)?;
    let steps: Vec<usize> = Run::open(&path)?
        .records()
        .iter()
        .map(|record| record.step)
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
    Ok(())
}

#[test]
fn runs_are_a_table_curves_and_differences() -> Result<()> {
    let folder = folder();
    train(settings(&folder.path().join("a")))?;
    let faster = TrainerSettings {
        learning_rate: 0.01,
        quiet: false,
        log: Some(folder.path().join("b.jsonl")),
        checkpoints: Some(CheckpointSettings::new(folder.path().join("b-checkpoints"))),
        ..settings(&folder.path().join("deep/b"))
    };
    train(faster)?;
    std::fs::create_dir(folder.path().join("c")).expect("made");
    std::fs::write(folder.path().join("c/run.json"), "{\"format\": 9}").expect("written");
    let runs = Runs::open(folder.path())?;
    assert_eq!(runs.all().len(), 2);
    let text = runs.render().plain().to_owned();
    for word in [
        "deep/b",
        "finished",
        "4/4",
        "trainer.learning_rate",
        "0.01",
        "left out:",
        "newer version",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(
        !text.contains("trainer.steps"),
        "what is the same in all is no column\n{text}"
    );
    let curves = runs.curves().render();
    assert!(curves.plain().contains("deep/b") && curves.html().is_some());
    let difference = runs.difference("a", "deep/b")?;
    let names: Vec<&str> = difference
        .rows()
        .iter()
        .map(|(name, ..)| name.as_str())
        .collect();
    // What a run has and the other lacks is one; where it lies, and whether it was shown, is none.
    assert!(names.contains(&"trainer.learning_rate"), "{names:?}");
    for none in ["trainer.run", "trainer.quiet", "trainer.log"] {
        assert!(!names.contains(&none), "{names:?}");
        assert!(!text.contains(none), "{none} is a column of\n{text}");
    }
    let places = names.iter().find(|name| name.ends_with(".folder"));
    assert_eq!(places, None, "{names:?}");
    let error = said(runs.difference("a", "b"));
    assert!(error.contains("a, deep/b"), "{error}");
    let nothing = Runs::open(folder.path().join("a/none"));
    assert!(matches!(nothing, Err(Error::Io { .. })));
    Ok(())
}

#[test]
fn captions_over_time_are_kept_up_to_the_step_that_a_run_goes_on_from() -> Result<()> {
    let folder = folder();
    let (_, trainer) = train(settings(&folder.path().join("a")))?;
    let path = folder.path().join("b");
    let beginning = |earlier| Beginning {
        config: serde_json::json!({}),
        seed: 0,
        steps: 9,
        data: Vec::new(),
        earlier,
        untrained: None,
    };
    let mut recorder = Recorder::begin(&path, &beginning(&[]))?;
    for (step, record) in trainer.records().iter().enumerate() {
        recorder.step(record)?;
        let caption = format!("a {step}");
        recorder.captions(&[CaptionRecord {
            step: step + 1,
            picture: 0,
            caption,
        }])?;
    }
    drop(recorder);
    Recorder::begin(&path, &beginning(&trainer.records()[..2]))?;
    let said: Vec<String> = Run::open(&path)?
        .captions()
        .iter()
        .map(|said| said.caption.clone())
        .collect();
    assert_eq!(said, ["a 0", "a 1"]);
    Ok(())
}

#[test]
fn a_plot_takes_runs_wherever_their_steps_are() -> Result<()> {
    let folder = folder();
    let path = folder.path().join("a");
    let (_, trainer) = train(settings(&path))?;
    let plot = LinePlot::new("runs")
        .run("trainer", &trainer)
        .run("folder", &Run::open(&path)?)
        .run("records", trainer.records());
    let text = plot.render().plain().to_owned();
    for label in ["trainer", "folder", "records"] {
        assert!(text.contains(label), "{text}");
    }
    Ok(())
}
