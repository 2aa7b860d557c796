//! The trainer's settings, one by one: steps in parts, rates by part, checkpoints and kills, bad samples, what watches a run.

#![allow(clippy::print_stdout)]

mod bad_samples;
mod checkpoints;
mod conversations;
mod events;
mod killed;
mod loading;
mod mpirun;
mod packing;
mod planned;
mod quantized;
mod ranks;
mod ranks_evaluate;
mod recomputed;
mod steps;
mod timed;
mod watched;

use std::sync::{Mutex, MutexGuard, PoisonError};

use glassbox_prelude::candle_core::{DType, Device};
use glassbox_prelude::data::{CocoCaptions, Shapes, ShapesConfig, Split};
use glassbox_prelude::nn::LoraConfig;
use glassbox_prelude::prelude::DeviceChoice;
use glassbox_prelude::train::{Example, Schedule, TrainerSettings};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::{Vlm, VlmSettings};
use glassbox_prelude::{Error, Result};

/// An interrupt reaches whichever loop of the process looks first: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where models train: `GLASSBOX_DEVICE`, by default the CPU.
fn device() -> Result<Device> {
    Device::chosen()
}

fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|source| Error::Io {
        path: "temporary folder".into(),
        source,
    })
}

/// Shapes pictures of 32 × 32, some for training and some held out.
fn pictures(
    at: &std::path::Path,
    train: usize,
    held_out: usize,
) -> Result<(CocoCaptions, CocoCaptions)> {
    let shapes = Shapes::new(ShapesConfig {
        image_size: 32,
        ..ShapesConfig::default()
    })?;
    shapes.write_coco(at, train, held_out)?;
    Ok((
        CocoCaptions::open(at, Split::Train)?,
        CocoCaptions::open(at, Split::Val)?,
    ))
}

/// Squares of one colour, each with a caption of another length.
fn squares(count: usize) -> Result<Vec<Example>> {
    let captions = [
        "a red star",
        "two red circles and a blue square",
        "a star",
        "three small green circles",
    ];
    (0..count)
        .map(|at| {
            let image = Image::filled(64, 64, [(at * 37 % 256) as u8, 30, (at * 91 % 256) as u8])?;
            Ok(Example::new(&image, captions[at % captions.len()]))
        })
        .collect()
}

/// The tiny model with dropout in the language model's LoRA: a random stream that a run that goes on must find again.
fn dropping() -> Result<Vlm> {
    let vlm = Vlm::tiny(&device()?)?;
    let settings = VlmSettings {
        llm_lora: Some(LoraConfig {
            lora_dropout: 0.1,
            ..LoraConfig::new(4, 8.0, &["qkv_proj", "down_proj"])
        }),
        ..vlm.settings.clone()
    };
    vlm.with_settings(settings, 0)
}

fn settings(steps: usize) -> TrainerSettings {
    TrainerSettings {
        batch_size: 2,
        steps,
        validate_every: 0,
        validation_samples: 2,
        schedule: Schedule::Constant,
        ..TrainerSettings::tour()
    }
}

/// Names and values of what trains.
fn values(vlm: &Vlm) -> Result<Vec<(String, Vec<f32>)>> {
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
