//! Pretraining of the image encoder: pictures → what each patch shows.
//!
//! From every patch's hidden state, linear heads tell the colour, shape and size of the object that covers it, whether
//! the object's middle lies there, and how much of each sixteenth of the patch is covered; from the class token, how
//! many objects there are. The heads stand on the last hidden state before and after the final LayerNorm, so that
//! both can be used as features, and are dropped at the end.

use std::time::Instant;

use glassbox_prelude::Result;
use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::data::shapes::Scene;
use glassbox_prelude::data::{Colour, Shape, Shapes, ShapesConfig, Size, Split};
use glassbox_prelude::nn::{Checkpoint, Linear, Network, Parameter, cross_entropy_rows};
use glassbox_prelude::train::{AdamW, AdamWConfig, Gradients, Schedule};
use glassbox_prelude::vision::{ImageProcessor, ImageProcessorConfig, ViTConfig, Vit};

use super::sheet::Sheet;
use super::{Outcome, Plan, say};

/// Side of the pictures that the encoder sees, and of its patches, in pixels.
const IMAGE: u32 = 80;
const PATCH: u32 = 16;
/// Patches along a side. No two objects have their middles in one patch.
pub const SIDE: usize = (IMAGE / PATCH) as usize;
/// Sizes at which pictures are drawn, a step each, before they are scaled to what the encoder sees.
const DRAWN: [u32; 3] = [80, 128, 112];
/// Cells along a patch for the coverage head.
const CELLS: usize = 4;
/// Sizes of the heads on a patch: colour, shape, size, nothing/part/middle, objects alike, coverage.
const HEADS: [usize; 6] = [6, 4, 2, 3, 4, CELLS * CELLS];
/// Names and weights of the losses, the class token's count last.
const LOSSES: [(&str, f64); 7] = [
    ("colour", 1.0),
    ("shape", 1.0),
    ("size", 0.5),
    ("part", 2.0),
    ("alike", 0.5),
    ("coverage", 4.0),
    ("count", 0.5),
];

/// The sizes of the model.
pub fn config() -> ViTConfig {
    ViTConfig::new(IMAGE as usize, PATCH as usize, 96, 384, 4, 4)
}

/// What turns a picture into the model's input.
pub fn image_processor() -> ImageProcessorConfig {
    ImageProcessorConfig::vit(IMAGE)
}

struct Heads {
    patch: Linear,
    count: Linear,
}

impl Heads {
    fn new(random: &Checkpoint, name: &str, width: usize) -> Result<Heads> {
        let mut patch = Linear::load(
            random,
            &format!("{name}.patch"),
            (width, HEADS.iter().sum()),
            true,
        )?;
        let mut count = Linear::load(random, &format!("{name}.count"), (width, 4), true)?;
        patch.set_trainable(true)?;
        count.set_trainable(true)?;
        Ok(Heads { patch, count })
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.patch
            .parameters()
            .into_iter()
            .chain(self.count.parameters())
            .collect()
    }
}

/// What the heads should say about a batch.
#[derive(Default)]
struct Targets {
    colour: Vec<u32>,
    shape: Vec<u32>,
    size: Vec<u32>,
    part: Vec<u32>,
    alike: Vec<u32>,
    /// 1 for patches that show an object.
    shown: Vec<f32>,
    /// 1 for patches with a middle.
    middle: Vec<f32>,
    covered: Vec<f32>,
    count: Vec<u32>,
}

impl Targets {
    fn add(&mut self, scene: &Scene) {
        let sheet = Sheet::new(scene, SIDE as u32);
        self.count.push(sheet.count as u32 - 1);
        for patch in &sheet.patches {
            self.colour.push(patch.map_or(0, |p| {
                Colour::ALL.iter().position(|c| *c == p.colour).unwrap_or(0) as u32
            }));
            self.shape.push(patch.map_or(0, |p| {
                Shape::ALL.iter().position(|s| *s == p.shape).unwrap_or(0) as u32
            }));
            self.size
                .push(patch.map_or(0, |p| u32::from(p.size == Size::Large)));
            self.part
                .push(patch.map_or(0, |p| if p.alike.is_some() { 2 } else { 1 }));
            let alike = patch.and_then(|p| p.alike);
            self.alike.push(alike.map_or(0, |n| n as u32 - 1));
            self.middle.push(f32::from(u8::from(alike.is_some())));
            self.shown.push(f32::from(u8::from(patch.is_some())));
        }
        let fine = SIDE * CELLS;
        for patch in 0..SIDE * SIDE {
            for cell in 0..CELLS * CELLS {
                let (row, column) = (
                    patch / SIDE * CELLS + cell / CELLS,
                    patch % SIDE * CELLS + cell % CELLS,
                );
                let inside = |part: f32| {
                    let (x, y) = (
                        (column as f32 + part) / fine as f32,
                        (row as f32 + part) / fine as f32,
                    );
                    scene.objects.iter().any(|object| object.covers(x, y))
                };
                let hits = [0.25, 0.5, 0.75]
                    .into_iter()
                    .filter(|part| inside(*part))
                    .count();
                self.covered.push(hits as f32 / 3.0);
            }
        }
    }
}

/// The mean losses in the order of [`LOSSES`].
fn losses(heads: &Heads, hidden: &Tensor, targets: &Targets) -> Result<[Tensor; 7]> {
    let (batch, tokens, width) = hidden.dims3()?;
    let rows = batch * (tokens - 1); // N
    let patches = hidden
        .narrow(1, 1, tokens - 1)?
        .contiguous()?
        .reshape((rows, width))?; // [N, D]
    let logits = heads.patch.forward(&patches)?; // [N, all of HEADS]
    let head = |index: usize| -> Result<Tensor> {
        let first = HEADS[..index].iter().sum();
        Ok(logits.narrow(1, first, HEADS[index])?.contiguous()?)
    };
    // The mean over the rows where `mask` is 1.
    let mean = |losses: Tensor, mask: &[f32]| -> Result<Tensor> {
        let number = f64::from(mask.iter().sum::<f32>().max(1.0));
        Ok(((losses * Tensor::new(mask, &Device::Cpu)?)?.sum_all()? / number)?)
    };
    let wanted = Tensor::from_slice(&targets.covered, (rows, HEADS[5]), &Device::Cpu)?; // [N, cells]
    let class = hidden
        .narrow(1, 0, 1)?
        .contiguous()?
        .reshape((batch, width))?; // [B, D]
    Ok([
        mean(
            cross_entropy_rows(&head(0)?, &targets.colour)?,
            &targets.shown,
        )?,
        mean(
            cross_entropy_rows(&head(1)?, &targets.shape)?,
            &targets.shown,
        )?,
        mean(
            cross_entropy_rows(&head(2)?, &targets.size)?,
            &targets.shown,
        )?,
        cross_entropy_rows(&head(3)?, &targets.part)?.mean_all()?,
        mean(
            cross_entropy_rows(&head(4)?, &targets.alike)?,
            &targets.middle,
        )?,
        (head(5)? - wanted)?.sqr()?.mean_all()?,
        cross_entropy_rows(&heads.count.forward(&class)?, &targets.count)?.mean_all()?,
    ])
}

/// A fresh encoder.
pub fn fresh(seed: u64) -> Result<Vit> {
    Vit::new_random(&config(), seed, &Device::Cpu)
}

/// Trains an encoder with fresh heads, on scenes that begin behind those of `seen` steps.
pub fn pretrain(mut vit: Vit, plan: &Plan, seen: usize) -> Result<(Vit, Outcome)> {
    let config = vit.config.clone();
    vit.set_trainable(true)?;
    let random = Checkpoint::random(plan.seed, DType::F32, &Device::Cpu);
    let before = Heads::new(&random, "heads_before", config.hidden_size)?;
    let after = Heads::new(&random, "heads_after", config.hidden_size)?;
    let mut parameters = vit.named_parameters();
    parameters.extend(before.parameters());
    parameters.extend(after.parameters());
    let processor = ImageProcessor::new(image_processor())?;
    let mut adamw = AdamW::new(AdamWConfig {
        learning_rate: plan.rate,
        weight_decay: 0.02,
        ..AdamWConfig::default()
    })?;
    let schedule = Schedule::WarmupCosine {
        warmup: 0.04,
        floor: 0.02,
    };
    let begun = Instant::now();
    let mut mean: Option<[f64; 7]> = None;
    for step in 0..plan.steps {
        let image_size = DRAWN[step % DRAWN.len()];
        let shapes = Shapes::new(ShapesConfig {
            seed: plan.seed,
            image_size,
            ..ShapesConfig::default()
        })?;
        let mut targets = Targets::default();
        let mut pictures = Vec::with_capacity(plan.batch);
        for place in 0..plan.batch {
            let scene = shapes.scene(Split::Train, ((seen + step) * plan.batch + place) as u64);
            pictures.push(shapes.draw(&scene)?);
            targets.add(&scene);
        }
        let output = vit.forward(&processor.preprocess_batch(&pictures)?)?;
        let mut total = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        let mut now = [0.0; 7];
        for (heads, hidden) in [
            (&before, &output.hidden_states[config.num_hidden_layers]),
            (&after, &output.last_hidden_state),
        ] {
            for (index, loss) in losses(heads, hidden, &targets)?.into_iter().enumerate() {
                now[index] = f64::from(loss.to_scalar::<f32>()?);
                total = (total + (loss * LOSSES[index].1)?)?;
            }
        }
        let mut gradients = Gradients::of(&total, &parameters)?;
        gradients.clip(1.0)?;
        adamw.step_with_rate(&parameters, &gradients, plan.rate_at(step, schedule))?;
        let mean = mean.get_or_insert(now);
        for (mean, now) in mean.iter_mut().zip(now) {
            *mean += (now - *mean) * 0.02;
        }
        if (step + 1) % 200 == 0 || step + 1 == plan.steps {
            let losses: Vec<String> = LOSSES
                .iter()
                .zip(*mean)
                .map(|((name, _), loss)| format!("{name} {loss:.3}"))
                .collect();
            let seconds = begun.elapsed().as_secs_f64();
            say(&format!(
                "vit {:>6}/{}  {}  {seconds:.0} s",
                step + 1,
                plan.steps,
                losses.join("  ")
            ));
        }
    }
    let right = read_pictures(&vit, &after, &processor, plan.seed)?;
    let mean = mean.unwrap_or([f64::NAN; 7]);
    let losses = LOSSES
        .iter()
        .zip(mean)
        .map(|((name, _), loss)| (format!("{name} loss, nats"), loss))
        .collect();
    let score = (
        "held-out pictures with every object's middle, colour and shape right".to_string(),
        right,
    );
    vit.set_trainable(false)?;
    Ok((
        vit,
        Outcome {
            seconds: begun.elapsed().as_secs_f64(),
            losses,
            score,
        },
    ))
}

/// The part of held-out pictures whose objects the heads tell right: where a middle is, its colour and its shape.
fn read_pictures(vit: &Vit, heads: &Heads, processor: &ImageProcessor, seed: u64) -> Result<f64> {
    const PICTURES: usize = 200;
    let shapes = Shapes::new(ShapesConfig {
        seed,
        image_size: DRAWN[1],
        ..ShapesConfig::default()
    })?;
    let mut right = 0;
    for index in 0..PICTURES as u64 {
        let scene = shapes.scene(Split::Val, index);
        let pixels = processor.preprocess(&shapes.draw(&scene)?)?; // [1, 3, H, W]
        let hidden = vit
            .forward(&pixels)?
            .last_hidden_state
            .narrow(1, 1, SIDE * SIDE)?
            .squeeze(0)?; // [P, D]
        let logits = heads.patch.forward(&hidden.contiguous()?)?;
        let best = |index: usize| -> Result<Vec<u32>> {
            let first = HEADS[..index].iter().sum();
            Ok(logits
                .narrow(1, first, HEADS[index])?
                .argmax(1)?
                .to_vec1()?)
        };
        let (colour, shape, part) = (best(0)?, best(1)?, best(3)?);
        let mut targets = Targets::default();
        targets.add(&scene);
        right += usize::from((0..SIDE * SIDE).all(|patch| {
            let middle = targets.part[patch] == 2;
            middle == (part[patch] == 2)
                && (!middle
                    || (colour[patch] == targets.colour[patch]
                        && shape[patch] == targets.shape[patch]))
        }));
    }
    Ok(right as f64 / PICTURES as f64)
}
