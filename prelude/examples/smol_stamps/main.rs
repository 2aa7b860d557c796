//! Trains the small real pair of `Preset::smol` on a folder of captioned pictures and says what the pictures are worth to it.
//!
//! ```text
//! folder of pictures with texts ─ split by caption ─► training │ validation ─ frozen encoder, once ─► hidden states
//!     ─ Trainer ─► model ─ Evaluator ─► CIDEr-D beside: blind, another picture, most frequent caption, nearest neighbour
//! ```
//! `cargo run --release -p glassbox-prelude --example smol_stamps -- ENCODER LLM STAMPS [OPTION VALUE]…`, with two folders or
//! repositories (the second also a GGUF file) and, as an example, Debian's `tuxpaint-stamps-default`. Options:
//! `--steps N` or `--minutes N` (at a constant rate), `--batch`, `--rate`, `--seed`, `--feature hidden_states[8]`, `--hidden FILE` (keeps the hidden
//! states for the next run), `--judged N` (so many of the held-out pictures, not all), `--photographs FOLDER` (COCO's layout, looked at and not
//! scored), `--save FOLDER`.

#![allow(clippy::print_stdout)] // a program that reports to a terminal

mod neighbours;
mod split;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use glassbox_prelude::candle_core;
use glassbox_prelude::data::Split;
use glassbox_prelude::display::Render;
use glassbox_prelude::nn::{Network, Parameter};
use glassbox_prelude::prelude::*;

/// Longest caption that is generated.
const NEW_TOKENS: usize = 24;
/// Part of the captions that are held out.
const HELD_OUT: f64 = 0.12;
/// Steps between two looks at the clock, with `--minutes`.
const STRETCH: usize = 10;

struct Options {
    encoder: String,
    llm: String,
    stamps: PathBuf,
    photographs: Option<PathBuf>,
    save: Option<PathBuf>,
    feature: Option<VisionFeature>,
    hidden: Option<PathBuf>,
    steps: usize,
    minutes: Option<usize>,
    judged: usize,
    batch: usize,
    rate: f64,
    seed: u64,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> std::result::Result<Self, String> {
        let arguments: Vec<String> = arguments.collect();
        let [encoder, llm, stamps, rest @ ..] = &arguments[..] else {
            return Err("usage: smol_stamps ENCODER LLM STAMPS [OPTION VALUE]…".into());
        };
        let mut options = Self {
            encoder: encoder.clone(),
            llm: llm.clone(),
            stamps: stamps.into(),
            photographs: None,
            save: None,
            feature: None,
            hidden: None,
            steps: 400,
            minutes: None,
            judged: usize::MAX,
            batch: 8,
            rate: 1e-3,
            seed: 0,
        };
        for pair in rest.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} needs a value", pair[0]));
            };
            let wrong = |what: &str| format!("{name} {value}: not {what}");
            let number = || value.parse().map_err(|_| wrong("a number"));
            match name.as_str() {
                "--photographs" => options.photographs = Some(value.into()),
                "--save" => options.save = Some(value.into()),
                "--feature" => {
                    options.feature = Some(value.parse().map_err(|_| wrong("a feature"))?);
                }
                "--hidden" => options.hidden = Some(value.into()),
                "--steps" => options.steps = number()?,
                "--minutes" => options.minutes = Some(number()?),
                "--judged" => options.judged = number()?,
                "--batch" => options.batch = number()?,
                "--seed" => options.seed = number()? as u64,
                "--rate" => options.rate = value.parse().map_err(|_| wrong("a number"))?,
                _ => {
                    return Err(format!(
                        "{name}: not an option; there are --photographs, --save, --feature, --hidden, --steps, --minutes, --judged, --batch, --seed and --rate"
                    ));
                }
            }
        }
        Ok(options)
    }
}

fn main() -> std::process::ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(complaint) => {
            println!("{complaint}");
            return std::process::ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let smol = Preset::smol();
    let preset = Preset {
        base: BaseModels::new(&options.encoder, &options.llm),
        settings: VlmSettings {
            vision_feature: options.feature.unwrap_or(smol.settings.vision_feature),
            ..smol.settings.clone()
        },
        ..smol
    }
    .seed(options.seed);
    let vlm = Vlm::from_pretrained(&preset, &Device::best())?;
    println!("{}", vlm.table().render().plain());

    let stamps = Captions::text_files(&options.stamps)?;
    println!("{stamps:?}");
    let parts = split::by_caption(&stamps, HELD_OUT, options.seed)?;
    println!(
        "{} pictures to train on, {} held out, no caption in both",
        parts.train.len(),
        parts.held_out.len()
    );
    let begun = Instant::now();
    let mut kept = match &options.hidden {
        Some(file) if file.is_file() => candle_core::safetensors::load(file, vlm.device())?,
        _ => HashMap::new(),
    };
    let train = encoded(&vlm, &parts.train, &mut kept)?;
    let held_out = encoded(&vlm, &parts.held_out, &mut kept)?;
    if let Some(file) = &options.hidden {
        candle_core::safetensors::save(&kept, file)?;
    }
    println!(
        "{} pictures through the frozen encoder in {:.0} s",
        train.len() + held_out.len(),
        begun.elapsed().as_secs_f64()
    );
    let first = vlm.sequence(&[vlm.caption_prompt(&train[0].hidden_states, &train[0].caption)?])?;
    println!("{}", first.strip(0)?.render().plain());

    train_on(&vlm, options, &train, &held_out)?;
    if let Some(folder) = &options.save {
        vlm.save(folder)?;
    }
    judge(&vlm, options.judged, &parts, &train, &held_out)?;
    if let Some(folder) = &options.photographs {
        let photographs = CocoCaptions::open(folder, Split::Val)?;
        for position in 0..photographs.len() {
            let sample = photographs.sample(position)?;
            let said = vlm
                .generate(&sample.image)?
                .max_new_tokens(NEW_TOKENS)
                .run()?;
            println!(
                "{}: {:?}; people: {:?}",
                sample.file_name, said.text, sample.captions[0]
            );
        }
    }
    Ok(())
}

/// Trains for so many steps, or for so long at a constant rate, and says what came of it.
fn train_on(vlm: &Vlm, options: &Options, train: &[Shown], held_out: &[Shown]) -> Result<()> {
    let steps = options.minutes.map_or(options.steps, |_| STRETCH);
    let mut config = TrainerConfig {
        learning_rate: options.rate,
        steps,
        batch_size: options.batch,
        seed: options.seed,
        validate_every: (steps / 8).max(1),
        validation_samples: held_out.len().min(options.judged),
        ..TrainerConfig::default()
    };
    if options.minutes.is_some() {
        config.schedule = Schedule::Constant;
        config.validate_every = 0;
    }
    let examples = |shown: &[Shown]| -> Vec<Example> {
        let one = |shown: &Shown| Example::new(&shown.hidden_states, shown.caption.as_str());
        shown.iter().map(one).collect()
    };
    let (train, held_out) = (examples(train), examples(held_out));
    let begun = Instant::now();
    let mut trainer = Trainer::new(config)?;
    let mut report = trainer.fit(vlm, &train, &held_out)?;
    while options
        .minutes
        .is_some_and(|minutes| begun.elapsed().as_secs() < 60 * minutes as u64)
    {
        trainer.extend(STRETCH);
        report = trainer.fit(vlm, &train, &held_out)?;
    }
    println!("{}", report.render().plain());
    for record in trainer.records() {
        if let Some(loss) = record.validation_loss {
            println!(
                "step {}: loss {:.3}, validation loss {loss:.3}",
                record.step, record.loss
            );
        }
    }
    let seconds = report.seconds / report.steps as f64;
    println!("{seconds:.2} s a step, validation included; {}", memory());
    Ok(())
}

/// A picture as the projector takes it.
struct Shown {
    caption: String,
    /// `[1, P, D_image]`.
    hidden_states: Tensor,
}

/// The encoder is frozen: its hidden states are made once, and not at all where they were kept. What can't be decoded is named and left out.
fn encoded(
    vlm: &Vlm,
    part: &split::Part,
    kept: &mut HashMap<String, Tensor>,
) -> Result<Vec<Shown>> {
    let trains = vlm.image_encoder.named_parameters();
    if trains.iter().any(Parameter::is_trainable) {
        return Err(Error::Input(
            "the encoder trains: its hidden states can't be kept".into(),
        ));
    }
    let mut pictures = Vec::with_capacity(part.len());
    for position in 0..part.len() {
        let (name, caption) = part.named(position)?;
        // Of another model or layer they would be others.
        let key = format!("{} {}", vlm.settings.vision_feature, name);
        if !kept.contains_key(&key) {
            let sample = match part.sample(position) {
                Ok(sample) => sample,
                Err(error) => {
                    println!("left out: {error}");
                    continue;
                }
            };
            let pixel_values = vlm.image_processor.preprocess(&sample.image)?; // [1, 3, 224, 224]
            let hidden_states = vlm.image_encoder.encode(&pixel_values)?.detach(); // [1, P, D_image]
            kept.insert(key.clone(), hidden_states);
        }
        if let Some(hidden_states) = kept.get(&key) {
            let hidden_states = hidden_states.clone();
            pictures.push(Shown {
                caption,
                hidden_states,
            });
        }
    }
    Ok(pictures)
}

/// What it says of pictures whose captions it has never seen, beside what needs no model.
fn judge(
    vlm: &Vlm,
    judged: usize,
    parts: &split::Parts,
    train: &[Shown],
    held_out: &[Shown],
) -> Result<()> {
    let begun = Instant::now();
    let evaluation = Evaluator::captions()
        .max_new_tokens(NEW_TOKENS)
        .pictures(judged)
        .usual_captions(train.iter().map(|shown| shown.caption.as_str()))
        .run(vlm, &parts.held_out)?;
    println!("{}", evaluation.render().plain());
    let held_out = &held_out[..evaluation.answers().len().min(held_out.len())];
    let nearest = neighbours::captions(train, held_out)?;
    let answers: Vec<Answered> = nearest
        .iter()
        .zip(held_out)
        .map(|(said, shown)| Answered::new(said.clone(), [shown.caption.clone()]))
        .collect();
    for metric in [
        &Bleu::default() as &dyn Metric,
        &RougeL::default(),
        &CiderD::default(),
    ] {
        for score in metric.scores(&answers)? {
            let interval = score.interval(0);
            println!(
                "nearest neighbour: {score:?} [{:.3}, {:.3}]",
                interval.low, interval.high
            );
        }
    }
    println!(
        "judged in {:.0} s; {}",
        begun.elapsed().as_secs_f64(),
        memory()
    );
    for ((answer, near), shown) in evaluation.answers().iter().zip(&nearest).zip(held_out) {
        println!(
            "{:?}: says {:?}, neighbour {near:?}",
            shown.caption, answer.prediction
        );
    }
    Ok(())
}

/// The most memory that this process held, by the kernel's word.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    format!(
        "at most {} of memory",
        line.map_or("an unknown amount", str::trim)
    )
}
