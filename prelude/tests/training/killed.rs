//! A run that is killed again and again, at random moments, ends as the run that was left alone: the same losses to the bit.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use glassbox_prelude::train::{
    CheckpointSettings, OptimizerKind, Schedule, StepRecord, Trainer, TrainerSettings, read_log,
    run_checkpoints,
};
use glassbox_prelude::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{alone, dropping, folder, pictures, settings};

const STEPS: usize = 100;
const KILLS: usize = 25;
/// Where a child runs, and with which optimizer.
const PLACE: &str = "GLASSBOX_TEST_KILLED_RUN";
const OPTIMIZER: &str = "GLASSBOX_TEST_OPTIMIZER";

/// What the child process does: begins the run in its folder, or goes on with it. Alone it does nothing.
#[test]
fn the_run_that_is_killed() -> Result<()> {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return Ok(());
    };
    let free = std::env::var_os(OPTIMIZER).is_some();
    let (train, held_out) = open(&place)?;
    let kept = place.join("checkpoints");
    let log = place.join("run.jsonl");
    let mut trainer = Trainer::new(TrainerSettings {
        validate_every: 7,
        accumulate: 2,
        batch_size: 1,
        log: Some(log.clone()),
        checkpoints: Some(CheckpointSettings {
            every: 2,
            ..CheckpointSettings::new(&kept)
        }),
        optimizer: match free {
            true => OptimizerKind::ScheduleFree,
            false => OptimizerKind::Adamw,
        },
        schedule: match free {
            true => Schedule::Warmup { warmup: 0.1 },
            false => TrainerSettings::default().schedule,
        },
        ..settings(STEPS)
    })?;
    let vlm = dropping()?;
    match run_checkpoints(&kept)?.is_empty() {
        true => _ = std::fs::remove_file(&log), // of a run that saved nothing
        false => _ = trainer.resume(&kept, &vlm)?,
    }
    std::fs::write(place.join("ready"), "").map_err(|source| Error::Io {
        path: place.clone(),
        source,
    })?;
    trainer.fit(&vlm, &train, &held_out)?;
    Ok(())
}

fn open(
    place: &Path,
) -> Result<(
    glassbox_prelude::data::CocoCaptions,
    glassbox_prelude::data::CocoCaptions,
)> {
    use glassbox_prelude::data::{CocoCaptions, Split};
    let data = place.join("data");
    Ok((
        CocoCaptions::open(&data, Split::Train)?,
        CocoCaptions::open(&data, Split::Val)?,
    ))
}

/// The child, at work.
fn start(place: &Path, free: bool) -> Child {
    _ = std::fs::remove_file(place.join("ready"));
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    command
        .args(["--exact", "killed::the_run_that_is_killed", "--nocapture"])
        .env(PLACE, place)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if free {
        command.env(OPTIMIZER, "schedule_free");
    }
    command.spawn().expect("it starts")
}

fn wait_until_ready(place: &Path, child: &mut Child) {
    let begun = Instant::now();
    while !place.join("ready").exists() && child.try_wait().expect("it is ours").is_none() {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "it never begins"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A step's number, and the bits of its figures.
type Figures = (usize, u64, u64, u64, Option<u64>);

/// What must be the same, to the bit.
fn figures(place: &Path) -> Result<Vec<Figures>> {
    let one = |record: &StepRecord| {
        (
            record.step,
            record.loss.to_bits(),
            record.norm.to_bits(),
            record.tokens,
            record.validation_loss.map(f64::to_bits),
        )
    };
    Ok(read_log(place.join("run.jsonl"))?.iter().map(one).collect())
}

fn killed_run_equals_the_other(free: bool, kills: usize) -> Result<()> {
    let _alone = alone();
    let folder = folder()?;
    let place = |name: &str| folder.path().join(name);
    pictures(&place("whole").join("data"), 9, 3)?;
    assert!(
        start(&place("whole"), free)
            .wait()
            .expect("it ends")
            .success()
    );

    // The machine's pace decides how long some steps take.
    let last = read_log(place("whole").join("run.jsonl"))?.pop();
    let step = last.map_or(0.1, |last| last.seconds / STEPS as f64);
    let longest = (6.0 * step * 1e6) as u64; // µs
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut from, mut number) = (Vec::new(), 0);
    while from.len() < kills {
        let killed = place(&format!("killed-{number}"));
        if !killed.exists() {
            pictures(&killed.join("data"), 9, 3)?;
        }
        let mut child = start(&killed, free);
        wait_until_ready(&killed, &mut child);
        std::thread::sleep(Duration::from_micros(rng.random_range(0..longest)));
        child.kill().expect("it is ours"); // SIGKILL
        if child.wait().expect("it ends").success() {
            // It was at its end: another one for the kills that are left.
            same(&place("whole"), &killed)?;
            number += 1;
            continue;
        }
        let all = run_checkpoints(killed.join("checkpoints"))?;
        from.push(all.last().map_or(0, |one| one.step));
    }
    println!("killed {kills} times; the newest checkpoint then: {from:?}");
    let killed = place(&format!("killed-{number}"));
    if killed.exists() {
        assert!(start(&killed, free).wait().expect("it ends").success());
        same(&place("whole"), &killed)?;
    }
    Ok(())
}

/// Two runs made the same steps, to the bit, and hold the same at their end.
fn same(one: &Path, other: &Path) -> Result<()> {
    let whole = figures(one)?;
    assert_eq!(whole.len(), STEPS);
    assert_eq!(figures(other)?, whole);
    let last = |place: &Path, file: &str| -> Vec<u8> {
        let all = run_checkpoints(place.join("checkpoints")).expect("they can be read");
        let folder = &all.last().expect("there is one").folder;
        std::fs::read(folder.join(file)).expect("it is whole")
    };
    for file in ["trainable.safetensors", "optimizer.safetensors"] {
        assert!(last(one, file) == last(other, file), "{file}");
    }
    Ok(())
}

#[test]
fn a_run_killed_at_25_random_moments_has_the_losses_of_one_that_was_not() -> Result<()> {
    killed_run_equals_the_other(false, KILLS)
}

#[test]
fn schedule_free_goes_on_after_kills_to_the_bit_as_well() -> Result<()> {
    killed_run_equals_the_other(true, 6)
}
