//! What two ways of reading less save: several questions of a picture that is read once, and several tokens that one pass checks.
//!
//! ```text
//! cargo run --release -p glassbox-prelude --features glassbox-prelude/candle-transformers --example reading_once -- [--rounds 5] [--part questions,lookup]
//! ```
//! Random weights of ViT-B/16 and of a language model of 1024 × 12 layers. `questions`: all at once, as a batch of as many pictures, and
//! one by one. `lookup`: what a pass over several tokens takes beside one token, for weights in several forms; then whole answers with
//! proposals and without, where a text repeats itself, where it never does, and of the pretrained tiny model about drawn scenes. Ways take
//! turns in each round; ratios are medians of those of the rounds.
#![allow(clippy::print_stdout)] // a program's output

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use glassbox_prelude::data::{Shapes, ShapesConfig, Split};
use glassbox_prelude::language::{Decoder, DecoderConfig, LlmInput};
use glassbox_prelude::nn::{BlockType, Checkpoint};
use glassbox_prelude::vision::{Image, ImageProcessor, ImageProcessorConfig, ViTConfig, Vit};
use glassbox_prelude::vlm::{Generate, Generation, Vlm, VlmParts, VlmSettings};

type Failure = Box<dyn std::error::Error>;

const WIDTH: usize = 1024;
const INNER: usize = 2816;
const LAYERS: usize = 12;
/// Tokens of an answer to a question.
const ANSWER: usize = 16;

fn main() -> Result<(), Failure> {
    let (mut rounds, mut parts) = (5, "questions,lookup".to_owned());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        match word.as_str() {
            "--rounds" => rounds = value.parse()?,
            "--part" => parts = value,
            _ => return Err(format!("{word}: expected --rounds or --part").into()),
        }
    }
    glassbox_prelude::session::keep_freed_memory();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "threads {}, load before {}",
        rayon::current_num_threads(),
        load.trim()
    );
    for part in parts.split(',') {
        match part {
            "questions" => questions(rounds)?,
            "lookup" => {
                passes(rounds)?;
                answers(rounds)?;
            }
            _ => return Err(format!("part {part}: expected questions or lookup").into()),
        }
    }
    Ok(())
}

/// Random weights, in blocks or in f32, with the tokenizer of the tiny model.
fn random(held: Option<BlockType>) -> Result<Vlm, Failure> {
    let tiny = VlmParts::tiny(&Device::Cpu)?;
    let drawn = |seed| Checkpoint::random(seed, DType::F32, &Device::Cpu);
    let vit = ViTConfig::base_patch16_224();
    let config = DecoderConfig::new(tiny.llm.config.vocab_size, WIDTH, INNER, LAYERS, 16);
    let weights = match held {
        Some(kind) => drawn(2).quantized(kind),
        None => drawn(2),
    };
    let parts = VlmParts {
        image_processor: ImageProcessor::new(ImageProcessorConfig::vit(vit.image_size as u32))?,
        image_encoder: Vit::from_checkpoint(&vit, &drawn(1))?.into(),
        llm: Decoder::from_checkpoint(&config, &weights)?,
        llm_processor: tiny.llm_processor,
    };
    let settings = VlmSettings {
        llm_lora: None,
        vit_lora: None,
        ..VlmSettings::tiny()
    };
    Ok(Vlm::new(parts, settings, 1)?)
}

fn seconds<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, T), Failure> {
    let begun = Instant::now();
    let made = work()?;
    Ok((begun.elapsed().as_secs_f64(), made))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median over rounds of one way's time over another's.
fn ratio(one: &[f64], other: &[f64]) -> f64 {
    median(
        one.iter()
            .zip(other)
            .map(|(one, other)| one / other)
            .collect(),
    )
}

/// How many answers are others: by rounding alone, where two tokens are as likely.
fn others(one: &[Generation], other: &[Generation]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.filter(|(one, other)| one.ids != other.ids).count()
}

fn questions(rounds: usize) -> Result<(), Failure> {
    let vlm = random(None)?;
    let image = Image::filled(224, 224, [200, 30, 40])?;
    println!("\nquestions of one picture, {ANSWER} tokens each");
    for count in [2, 4, 8] {
        let asked: Vec<String> = (0..count)
            .map(|n| format!("how many shapes are there beside number {n}?"))
            .collect();
        let pictures = vec![image.clone(); count];
        let how = |generate: Generate| generate.max_new_tokens(ANSWER).stop_at(vec![]);
        let (mut together, mut batch, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        let mut differ = 0;
        for _ in 0..rounds {
            let (took, shared) =
                seconds(|| Ok(how(vlm.generate(&image)?.questions(&asked)?).run_all()?))?;
            together.push(took);
            // All questions are as long.
            let (took, _) = seconds(|| {
                let asked = vlm.generate_batch(&pictures)?.query(asked[0].as_str());
                Ok(how(asked).run_all()?)
            })?;
            batch.push(took);
            let (took, one_by_one) = seconds(|| {
                let answers = asked.iter();
                let answers = answers
                    .map(|words| Ok(how(vlm.generate(&image)?.query(words.as_str())).run()?));
                answers.collect::<Result<Vec<Generation>, Failure>>()
            })?;
            alone.push(took);
            differ += others(&shared, &one_by_one);
        }
        println!(
            "{count}: {:.2} s, {:.2} of a batch of {count} pictures, {:.2} of one by one; {differ} answers differ",
            median(together.clone()),
            ratio(&together, &batch),
            ratio(&together, &alone)
        );
    }
    Ok(())
}

/// Passes over some tokens behind 200 others.
fn passes(rounds: usize) -> Result<(), Failure> {
    const BEHIND: usize = 200;
    let config = DecoderConfig::new(8192, WIDTH, INNER, LAYERS, 16);
    println!("\na pass over several tokens, over one token's");
    for (name, dtype, held) in [
        ("f32", DType::F32, None),
        ("bf16", DType::BF16, None),
        ("Q8_0", DType::F32, Some(BlockType::Q8_0)),
        ("Q4_K", DType::F32, Some(BlockType::Q4K)),
        ("NF4", DType::F32, Some(BlockType::Nf4)),
    ] {
        let drawn = Checkpoint::random(2, dtype, &Device::Cpu);
        let drawn = match held {
            Some(kind) => drawn.quantized(kind),
            None => drawn,
        };
        let llm = Decoder::from_checkpoint(&config, &drawn)?;
        let cache = llm.new_cache(1, BEHIND + 16)?;
        let ids = |count: usize| {
            let ids: Vec<u32> = (0..count as u32).map(|n| 5 + n * 37 % 8_000).collect();
            Tensor::from_vec(ids, (1, count), &Device::Cpu)
        };
        llm.forward(&LlmInput::ids(&ids(BEHIND)?).cache(&cache))?;
        let counts = [1, 2, 3, 5, 9];
        let mut times = vec![Vec::new(); counts.len()];
        for _ in 0..3 * rounds {
            for (count, times) in counts.iter().zip(&mut times) {
                let ids = ids(*count)?;
                let (took, ()) =
                    seconds(|| Ok(llm.forward(&LlmInput::ids(&ids).cache(&cache)).map(drop)?))?;
                cache.truncate(BEHIND)?;
                times.push(took);
            }
        }
        let several = counts.iter().zip(&times).skip(1);
        let several: Vec<String> = several
            .map(|(count, several)| format!("{count}: {:.2}", ratio(several, &times[0])))
            .collect();
        println!(
            "{name}: one {:.1} ms; {}",
            1e3 * median(times[0].clone()),
            several.join(", ")
        );
    }
    Ok(())
}

/// Whole answers with proposals and without.
fn answers(rounds: usize) -> Result<(), Failure> {
    println!("\nanswers with up to 2 and 4 proposed tokens, over none");
    let image = Image::filled(224, 224, [200, 30, 40])?;
    for (name, held) in [
        ("f32", None),
        ("Q8_0", Some(BlockType::Q8_0)),
        ("Q4_K", Some(BlockType::Q4K)),
    ] {
        let vlm = random(held)?;
        let greedy = vlm.generate(&image)?.max_new_tokens(96).stop_at(vec![]);
        // A random model falls into a loop, and drawn at a high temperature it never repeats itself.
        let looped = compared(rounds, |lookup| {
            Ok(vec![greedy.clone().prompt_lookup(lookup).run()?])
        })?;
        println!("{name}, a text that repeats itself: {looped}");
        let drawn = compared(rounds, |lookup| {
            let drawn = greedy.clone().temperature(3.0).seed(1);
            Ok(vec![drawn.prompt_lookup(lookup).run()?])
        })?;
        println!("{name}, one that does not: {drawn}");
    }
    let tiny = Vlm::tiny(&Device::Cpu)?;
    let shapes = Shapes::new(ShapesConfig::default())?;
    let scenes = (0..20).map(|at| Ok(shapes.sample(Split::Val, at)?.image));
    let scenes = scenes.collect::<Result<Vec<Image>, Failure>>()?;
    let captions = compared(rounds, |lookup| {
        let made = scenes.iter().map(|scene| {
            let caption = tiny
                .generate(scene)?
                .prefix("a picture of")
                .max_new_tokens(48);
            Ok(caption.prompt_lookup(lookup).run()?)
        });
        made.collect()
    })?;
    println!("the tiny model, captions of 20 scenes: {captions}");
    Ok(())
}

/// Times with 2 and 4 proposals over those with none.
fn compared(
    rounds: usize,
    make: impl Fn(usize) -> Result<Vec<Generation>, Failure>,
) -> Result<String, Failure> {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let mut differ = 0;
    for _ in 0..rounds {
        let mut first: Option<Vec<Generation>> = None;
        for (lookup, times) in [0, 2, 4].into_iter().zip(&mut times) {
            let (took, made) = seconds(|| make(lookup))?;
            times.push(took);
            let first = first.get_or_insert_with(|| made.clone());
            differ += others(first, &made);
        }
    }
    let [none, two, four] = &times;
    Ok(format!(
        "{:.2} and {:.2} of {:.2} s; {differ} answers differ",
        ratio(two, none),
        ratio(four, none),
        median(none.clone())
    ))
}
