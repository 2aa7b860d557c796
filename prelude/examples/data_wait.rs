//! How long the model waits for its samples: pictures as files, read by 0, 1, 2 or 4 threads.
//!
//! ```sh
//! cargo run --release -p glassbox-prelude --example data_wait
//! ```
//! Shapes of 64 × 64, and JPEGs of 500 × 375 with the detail of photographs (drawn here). Nothing is kept in memory, so each epoch
//! reads all pictures again.

#![allow(clippy::print_stdout)] // a program that reports to a terminal

use std::path::Path;

use glassbox_prelude::candle_core::Device;
use glassbox_prelude::data::{CocoCaptions, Shapes, ShapesConfig, Split};
use glassbox_prelude::train::{Trainer, TrainerSettings};
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};

const PICTURES: u32 = 48;

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("glassbox-data-wait-{}", std::process::id()));
    let outcome = measure(&folder);
    _ = std::fs::remove_dir_all(&folder);
    outcome
}

fn measure(folder: &Path) -> Result<()> {
    Shapes::new(ShapesConfig::default())?.write_coco(
        folder.join("shapes"),
        PICTURES as usize,
        4,
    )?;
    let shapes = CocoCaptions::open(folder.join("shapes"), Split::Train)?;
    let photographs = photographs(&folder.join("photographs"))?;
    println!("| pictures | threads | s a step | of them waiting |");
    println!("|---|---|---|---|");
    for (name, set) in [
        ("shapes 64 × 64", &shapes),
        ("JPEG 500 × 375", &photographs),
    ] {
        for workers in [0, 1, 2, 4] {
            let mut trainer = Trainer::new(TrainerSettings {
                workers,
                cache_megabytes: 0,
                steps: 24,
                batch_size: 8,
                validate_every: 0,
                validation_samples: 1,
                ..TrainerSettings::tour()
            })?;
            trainer.fit(&Vlm::tiny(&Device::Cpu)?, set, set)?;
            // The first steps wait for what nobody could ask for before.
            let records = trainer.records();
            let (first, last) = (&records[3], &records[records.len() - 2]);
            let steps = (last.step - first.step) as f64;
            let (seconds, waited) = (last.seconds - first.seconds, last.waited - first.waited);
            println!(
                "| {name} | {workers} | {:.3} | {:.1}% |",
                seconds / steps,
                100.0 * waited / seconds
            );
        }
    }
    Ok(())
}

/// JPEGs with captions: waves of many lengths and some noise, about as many bytes as photographs have.
fn photographs(folder: &Path) -> Result<CocoCaptions> {
    let failed = |source| Error::Io {
        path: folder.to_path_buf(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for id in 0..PICTURES {
        let picture = image::RgbImage::from_fn(500, 375, |x, y| {
            let (x, y, id) = (x as f32, y as f32, id as f32);
            let wave = |length: f32| {
                ((x + 2.0 * y + 40.0 * id) / length).sin() + ((3.0 * x - y) / length).cos()
            };
            let noise = ((x * 12.9898 + y * 78.233 + id).sin() * 43758.547).fract();
            let value = |shift: f32| {
                let sum: f32 = [3.0, 9.0, 31.0, 120.0]
                    .map(|length| wave(length + shift))
                    .iter()
                    .sum();
                (128.0 + 22.0 * sum + 20.0 * noise).clamp(0.0, 255.0) as u8
            };
            image::Rgb([value(0.0), value(1.0), value(5.0)])
        });
        let name = format!("{id:012}.jpg");
        picture
            .save(folder.join(&name))
            .map_err(|source| Error::Image {
                what: name.clone(),
                source,
            })?;
        images.push(serde_json::json!({"id": id, "file_name": name, "width": 500, "height": 375}));
        annotations
            .push(serde_json::json!({"id": id, "image_id": id, "caption": "two red circles"}));
    }
    let file = folder.join("captions.json");
    let json = serde_json::json!({"images": images, "annotations": annotations});
    std::fs::write(&file, json.to_string()).map_err(failed)?;
    CocoCaptions::from_files(&file, folder)
}
