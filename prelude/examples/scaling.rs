//! Steps of one process and of several ranks, measured side by side; the plan for more machines that follows from them, and what it would have said
//! of the ranks that there are.
//!
//! ```text
//! each rank alone ─ seconds a step ─┐
//! a short and a long sum ─ link ────┴─▶ ScalingPlan ─▶ a step of these ranks: computed │ measured ─▶ the table
//! ```
//! ```sh
//! cargo build --release -p glassbox-prelude --example scaling
//! RAYON_NUM_THREADS=1 mpirun -n 2 --bind-to none target/release/examples/scaling [LAYERS RANK STEPS]
//! ```
//! Each rank has as many samples together with the others as it had alone. Ranks on one machine compute beside each other in both parts, so give each
//! as many threads as it has cores.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program's output

#[allow(dead_code)]
#[path = "bench/config.rs"]
mod config;
#[allow(dead_code)]
#[path = "bench/measure.rs"]
mod measure;
#[allow(dead_code)]
#[path = "bench/model.rs"]
mod model;
#[path = "../tests/training/timed.rs"]
mod timed;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use glassbox_prelude::Result;
use glassbox_prelude::display::Render as _;
use glassbox_prelude::parallel::{self, Collective, Link, ScalingPlan};
use glassbox_prelude::train::{Example, Schedule, StepRecord, Trainer, TrainerSettings};
use glassbox_prelude::vision::Image;

/// Whatever went wrong; the program only reports it.
pub type Failure = Box<dyn std::error::Error>;

/// Samples of each rank in a step.
const SAMPLES: usize = 2;
/// Values of a bucket of gradients, as the prelude sums them.
const BUCKET: u64 = 1 << 22;

fn main() -> ExitCode {
    // A rank that failed does not wait for the others: its end is theirs.
    match run().and_then(|()| Ok(parallel::leave()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("scaling: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> std::result::Result<(), Failure> {
    let numbers = std::env::args().skip(1).map(|word| word.parse());
    let numbers: Vec<usize> = numbers.collect::<std::result::Result<_, _>>()?;
    let number = |at: usize, usual: usize| numbers.get(at).copied().unwrap_or(usual);
    let (layers, rank, steps) = (number(0, 4), number(1, 64), number(2, 9));
    let world = parallel::world()?;
    let ranks = world.ranks();
    if ranks < 2 {
        return Err("this is one process: start it by `mpirun -n 2`".into());
    }
    let (mut config, _) = config::Config::read(None)?;
    for part in [&mut config.vit, &mut config.llm] {
        part.insert("num_hidden_layers".into(), layers.into());
    }
    if let Some(llm) = config.lora.as_mut().and_then(|lora| lora.llm.as_mut()) {
        llm.r = rank;
    }
    let set: Vec<Example> = (0..SAMPLES * ranks)
        .map(|at| {
            let colour = [(at * 37 % 256) as u8, 30, (at * 91 % 256) as u8];
            Ok(Example::new(
                &Image::filled(224, 224, colour)?,
                "a square of some colour",
            ))
        })
        .collect::<Result<_>>()?;
    let trained = |ranks: Arc<dyn Collective>| -> std::result::Result<_, Failure> {
        let vlm = model::random_vlm(&config, true)?;
        let mut trainer = Trainer::new(TrainerSettings {
            steps,
            batch_size: SAMPLES * ranks.ranks(),
            learning_rate: 1e-5,
            validate_every: 0,
            validation_samples: SAMPLES,
            schedule: Schedule::Constant,
            quiet: true,
            ..TrainerSettings::tour()
        })?;
        trainer.train_with(ranks);
        trainer.fit(&vlm, &set, &set)?;
        let trainable = vlm.trainable_parameters();
        let values: usize = trainable.iter().map(|one| one.count()).sum();
        Ok((trainer.records().to_vec(), values as u64))
    };
    let (one, values) = trained(parallel::alone())?;
    // All have done their part before any waits in a sum that is timed.
    let link = Link::measure(&*world)?;
    let sums = Arc::new(AtomicU64::new(0));
    let timed = timed::Timed {
        ranks: world.clone(),
        sums: sums.clone(),
    };
    let (together, _) = trained(Arc::new(timed))?;
    if world.rank() > 0 {
        return Ok(());
    }
    let plan = ScalingPlan::of_steps("measured here", &one, values)?;
    let plan = plan.messages(values.div_ceil(BUCKET) as usize);
    let expected = plan.step(&link, ranks);
    let seconds = |records: &[StepRecord]| records.last().map_or(0.0, |last| last.seconds);
    let sums = sums.load(Ordering::Relaxed) as f64 / 1e6;
    let median = ScalingPlan::of_steps("", &unshared(&together), values)?;
    println!(
        "{}: {:.1} MB/s, {:.0} µs; {values} values train ({:.1} MB)",
        link.name,
        link.bytes_per_second / 1e6,
        link.latency_seconds * 1e6,
        values as f64 * 4.0 / 1e6
    );
    println!(
        "a step of one process {:.3} s; of {ranks} ranks computed {:.3} s, measured {:.3} s",
        expected.compute,
        expected.seconds,
        median.step(&link, 1).seconds
    );
    println!(
        "sums of gradients: computed {:.3} s a step, measured {:.3} s ({:.1}% of the steps' time)",
        expected.exchange,
        sums / steps as f64,
        100.0 * sums / seconds(&together)
    );
    println!("{}", plan.table(&[link], 64).render().plain());
    Ok(())
}

/// The steps as if one process had made them, for their median.
fn unshared(records: &[StepRecord]) -> Vec<StepRecord> {
    let mut records = records.to_vec();
    for record in &mut records {
        record.waited_for_ranks.clear();
    }
    records
}
