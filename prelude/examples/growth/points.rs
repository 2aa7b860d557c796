//! What is measured: the axes, and one size of one of them.

use candle_core::{DType, Device, Tensor};
use glassbox_prelude::data::{CocoCaptions, Split};
use glassbox_prelude::train::{AdamW, AdamWConfig, Gradients};
use glassbox_prelude::vlm::{Prompt, PromptPart, Vlm};
use serde_json::{Value, json};

use crate::coco_size::{resident, write};
use crate::config::Config;
use crate::measure::timed;
use crate::{Failure, model};

/// One thing that can be large.
pub struct Axis {
    /// As it is asked for.
    pub name: &'static str,
    /// As the table says it.
    pub what: &'static str,
    pub sizes: &'static [usize],
    /// The exponents of the algorithm: of the time, and of the memory.
    pub own_time: f64,
    pub own_memory: f64,
}

/// What was measured at one size.
pub struct Point {
    /// Of the processor, all threads together; the least of three times.
    pub seconds: f64,
    /// The most memory held, above what was held before the first time.
    pub megabytes: f64,
}

/// A training step unless it says otherwise. Attention compares all places with all: its part of a step is quadratic.
pub const AXES: [Axis; 7] = [
    axis(
        "caption",
        "the tokens of a caption",
        &[128, 256, 512, 1024, 2048],
        2.0,
        2.0,
    ),
    axis(
        "pictures",
        "the pictures of a prompt, 21 tokens each",
        &[8, 16, 32, 64, 128],
        2.0,
        2.0,
    ),
    axis(
        "batch",
        "the samples of a step",
        &[2, 4, 8, 16, 32],
        1.0,
        1.0,
    ),
    axis(
        "rank",
        "the rank of LoRA, both models",
        &[16, 32, 64, 128, 256],
        1.0,
        1.0,
    ),
    axis(
        "layers",
        "the layers of both models",
        &[2, 4, 8, 16, 32],
        1.0,
        1.0,
    ),
    axis(
        "generated",
        "the tokens of an answer, with the cache",
        &[64, 128, 256, 512, 1024],
        2.0,
        1.0,
    ),
    axis(
        "rows",
        "the captions of a COCO file that is opened",
        &[100, 1_000, 10_000, 100_000, 1_000_000],
        1.0,
        1.0,
    ),
];

const fn axis(
    name: &'static str,
    what: &'static str,
    sizes: &'static [usize],
    own_time: f64,
    own_memory: f64,
) -> Axis {
    Axis {
        name,
        what,
        sizes,
        own_time,
        own_memory,
    }
}

/// Measures one size here, in this process.
pub fn measure(axis: &Axis, size: usize) -> Result<Point, Failure> {
    let (mut layers, mut rank, mut batch, mut pictures, mut tokens) = (4, 16, 1, 1, 32);
    match axis.name {
        "rows" => return rows(size),
        "generated" => return generated(size),
        "caption" => tokens = size,
        "pictures" => pictures = size,
        "batch" => batch = size,
        "rank" => rank = size,
        "layers" => layers = size,
        other => return Err(format!("nothing measures {other}").into()),
    }
    let vlm = random_vlm(layers, rank, true)?;
    let prompts = vec![prompt(pictures, tokens)?; batch];
    let trainable = vlm.trainable_parameters();
    let mut optimizer = AdamW::new(AdamWConfig::default())?;
    vlm.set_training(true);
    measured(|| {
        let output = vlm.full_sequence_loss_of(&prompts)?;
        let gradients = Gradients::of(&output.loss, &trainable)?;
        optimizer.step(&trainable, &gradients)?;
        Ok(())
    })
}

fn generated(tokens: usize) -> Result<Point, Failure> {
    let vlm = random_vlm(4, 16, false)?;
    let pixels = pixels()?;
    measured(|| {
        let answer = vlm.generate_from(&pixels).max_new_tokens(tokens);
        let made = answer.stop_at(Vec::new()).run()?.ids.len();
        if made == tokens {
            Ok(())
        } else {
            Err(format!("{made} tokens of {tokens}").into())
        }
    })
}

fn rows(captions: usize) -> Result<Point, Failure> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), captions.div_ceil(5), captions)?;
    forget_the_peak()?;
    measured(|| {
        let read = CocoCaptions::open(folder.path(), Split::Train)?
            .report()
            .captions;
        if read == captions {
            Ok(())
        } else {
            Err(format!("{read} captions of {captions}").into())
        }
    })
}

fn measured(mut work: impl FnMut() -> Result<(), Failure>) -> Result<Point, Failure> {
    let before = resident("VmRSS")?;
    let figures = timed(3, 0, |_| work())?;
    let seconds = figures.get("cpu_min_s").and_then(Value::as_f64);
    Ok(Point {
        seconds: seconds.ok_or("no time was measured")?,
        megabytes: resident("VmHWM")? - before,
    })
}

/// Lets the system count the most memory held from now on.
fn forget_the_peak() -> Result<(), Failure> {
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}

/// Random weights of a small model: a ViT of 192 × `layers` over 64 × 64 pixels, a Phi-3 of 256 × `layers`.
fn random_vlm(layers: usize, rank: usize, with_lora: bool) -> Result<Vlm, Failure> {
    let (mut config, _) = Config::read(None)?;
    let set = |fields: &mut serde_json::Map<String, Value>, sizes: Value| {
        if let Value::Object(sizes) = sizes {
            fields.extend(sizes);
        }
    };
    set(
        &mut config.vit,
        json!({"hidden_size": 192, "num_hidden_layers": layers, "num_attention_heads": 3, "intermediate_size": 768, "image_size": SIDE}),
    );
    set(
        &mut config.llm,
        json!({"hidden_size": 256, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 4,
            "intermediate_size": 512, "vocab_size": VOCABULARY}),
    );
    if let Some(lora) = &mut config.lora {
        for adapter in [&mut lora.llm, &mut lora.vit].into_iter().flatten() {
            adapter.r = rank;
        }
    }
    model::random_vlm(&config, with_lora)
}

const SIDE: usize = 64;
const VOCABULARY: usize = 4096;

fn pixels() -> Result<Tensor, Failure> {
    Ok(Tensor::randn(0f32, 1f32, (1, 3, SIDE, SIDE), &Device::Cpu)?.to_dtype(DType::F32)?) // [1, 3, H, W]
}

/// So many pictures, and a caption of so many tokens.
fn prompt(pictures: usize, tokens: usize) -> Result<Prompt, Failure> {
    let mut prompt = Prompt::new();
    for _ in 0..pictures {
        prompt = prompt
            .vector(PromptPart::Start)
            .input(&pixels()?)
            .vector(PromptPart::End);
    }
    let ids: Vec<u32> = (0..tokens)
        .map(|n| 3 + (n * 7919 % (VOCABULARY - 3)) as u32)
        .collect();
    Ok(prompt.target(&ids))
}
