//! What weights in blocks cost and save at the sizes of Phi-3-mini: products, the time of a token, the memory of LoRA over them.
//!
//! ```text
//! cargo run --release -p glassbox-prelude --example small_weights -- [--layers 8] [--rounds 5] [--part products,token,train]
//! cargo run --release -p glassbox-prelude --example small_weights -- --part whole [--rounds 2]
//! cargo run --release -p glassbox-prelude --example small_weights -- --part file --file MODEL.gguf
//! cargo run --release -p glassbox-prelude --example small_weights -- --part write --file DIR [--layers 8]
//! ```
//! `whole` trains all 32 layers in NF4 and tells what the process held at most, as the system counts it (Linux; to make the model takes
//! 12 GB). `file` reads a prompt of 128 tokens and makes 64 with a file's blocks as they are, `write` writes random models of that shape as Q8_0
//! and Q4_K files: what `scripts/compare_with_llama_cpp.sh` has llama.cpp do too.
//!
//! The forms take turns in each round, and a round measures how fast memory is read too, so that ratios hold on a machine that does
//! other things; times are medians. Weights are random, cut from one pool; of the 32 layers only `--layers` are there, and what a token
//! takes is scaled by layers, the head being measured on its own.
#![allow(clippy::print_stdout)] // a program's output

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{D, DType, Device, Tensor};
use glassbox_prelude::language::{Decoder, DecoderConfig, GgufFile, GgufType, LlmInput, LogitsAt};
use glassbox_prelude::nn::{
    BlockType, Checkpoint, Linear, LoraConfig, Network, Parameter, Quantize, Weight, recomputing,
};
use glassbox_prelude::train::{AdamW, AdamWConfig, Gradients};
use glassbox_prelude::vlm::Vlm;
use half::bf16;

type Failure = Box<dyn std::error::Error>;

const LAYERS: usize = 32;
const D_MODEL: usize = 3072;
const INNER: usize = 8192;
const VOCABULARY: usize = 32_064;
/// `[in, out]` of a layer's matrices.
const SHAPES: [(&str, usize, usize); 4] = [
    ("qkv_proj", D_MODEL, 3 * D_MODEL),
    ("o_proj", D_MODEL, D_MODEL),
    ("gate_up_proj", D_MODEL, 2 * INNER),
    ("down_proj", INNER, D_MODEL),
];

fn main() -> Result<(), Failure> {
    let (mut layers, mut rounds, mut parts) = (8, 5, "products,token,train".to_owned());
    let mut path = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        match word.as_str() {
            "--layers" => layers = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            "--part" => parts = value,
            "--file" => path = Some(std::path::PathBuf::from(value)),
            _ => {
                return Err(
                    format!("{word}: expected --layers, --rounds, --part or --file").into(),
                );
            }
        }
    }
    if parts == "whole" {
        return whole(rounds);
    }
    glassbox_prelude::session::keep_freed_memory();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "threads {}, load before {}",
        rayon::current_num_threads(),
        load.trim()
    );
    if let ("file" | "write", Some(path)) = (parts.as_str(), &path) {
        return match parts.as_str() {
            "file" => file(path),
            _ => write(path, layers),
        };
    }
    let pool = Pool::new();
    if parts.contains("products") {
        products(&pool, rounds)?;
    }
    if parts.contains("token") {
        token(&pool, layers, rounds)?;
    }
    if parts.contains("train") {
        train(&pool, layers.min(4), rounds)?;
    }
    Ok(())
}

/// Random values with a standard deviation of about 0.02, from which all matrices are cut.
struct Pool(Vec<bf16>);

impl Pool {
    fn new() -> Self {
        let mut state = 0x2545_F491_4F6C_DD1Du64;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let four = |uniform: &mut dyn FnMut() -> f32| (0..4).map(|_| uniform()).sum::<f32>();
        Self(
            (0..1 << 24)
                .map(|_| bf16::from_f32(four(&mut uniform) * 0.035))
                .collect(),
        )
    }

    fn matrix(&self, rows: usize, columns: usize, at: usize) -> Result<Tensor, Failure> {
        let from = (at * 7_919) % (self.0.len() / 2);
        let values: Vec<bf16> = self.0[from..]
            .iter()
            .chain(&self.0)
            .cycle()
            .take(rows * columns)
            .copied()
            .collect();
        Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn seconds(work: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Bytes a second that all threads read of memory.
struct Memory(Vec<u64>);

impl Memory {
    fn new() -> Self {
        Self(vec![1; 96 << 20])
    }

    fn rate(&self) -> f64 {
        use rayon::prelude::*;
        let begun = Instant::now();
        let sum: u64 = self
            .0
            .par_chunks(1 << 20)
            .map(|part| part.iter().sum::<u64>())
            .sum();
        assert_eq!(sum, self.0.len() as u64);
        (self.0.len() * 8) as f64 / begun.elapsed().as_secs_f64()
    }
}

/// A layer's matrix in each form: name, layer, dtype of its input, bytes.
fn forms(plain: &Tensor) -> Result<Vec<(&'static str, Linear, DType, usize)>, Failure> {
    let mut forms = Vec::new();
    for (name, dtype) in [("f32", DType::F32), ("bf16", DType::BF16)] {
        let weight = Weight::frozen("w", plain.to_dtype(dtype)?);
        let bytes = weight.parameter().bytes();
        forms.push((name, Linear::new("w", weight, None), dtype, bytes));
    }
    for kind in [
        BlockType::Q8_0,
        BlockType::Q6K,
        BlockType::Q5K,
        BlockType::Q4K,
        BlockType::Nf4,
    ] {
        let blocks = glassbox_prelude::nn::Blocks::quantize(plain, kind)?;
        let weight = Weight::in_blocks("w", blocks, DType::F32)?;
        let bytes = weight.parameter().bytes();
        forms.push((
            kind.name(),
            Linear::new("w", weight, None),
            DType::F32,
            bytes,
        ));
    }
    Ok(forms)
}

fn products(pool: &Pool, rounds: usize) -> Result<(), Failure> {
    println!(
        "\nproducts, time over that of f32 in the same rounds; ‖ bytes a second of the weight over the memory's rate at m = 1"
    );
    let memory = Memory::new();
    for (name, input, output) in SHAPES {
        let forms = forms(&pool.matrix(output, input, input)?)?;
        for rows in [1, 4, 8, 16, 256] {
            let x = Tensor::randn(0f32, 1.0, (rows, input), &Device::Cpu)?;
            let mut times = vec![Vec::new(); forms.len()];
            let mut rates = Vec::new();
            for _ in 0..rounds {
                rates.push(memory.rate());
                for ((_, layer, dtype, _), times) in forms.iter().zip(&mut times) {
                    let x = x.to_dtype(*dtype)?;
                    times.push(seconds(|| Ok(layer.forward(&x).map(drop)?))?);
                }
            }
            let times: Vec<f64> = times.into_iter().map(median).collect();
            let rate = median(rates);
            let each = forms.iter().zip(&times).map(|((form, .., bytes), time)| {
                let share = match rows {
                    1 => format!(" ‖ {:.2}", *bytes as f64 / time / rate),
                    _ => String::new(),
                };
                format!(
                    "{form} {:.2} ({:.2} ms{share})",
                    time / times[0],
                    time * 1e3
                )
            });
            let each: Vec<String> = each.collect();
            println!("{name} {input} → {output}, m = {rows}: {}", each.join("  "));
        }
    }
    Ok(())
}

fn config(layers: usize) -> DecoderConfig {
    DecoderConfig::new(VOCABULARY, D_MODEL, INNER, layers, 32)
}

/// All weights of so many layers, in bf16.
fn weights(pool: &Pool, layers: usize) -> Result<HashMap<String, Tensor>, Failure> {
    let mut all = HashMap::new();
    let ones = |width: usize| Tensor::ones(width, DType::BF16, &Device::Cpu);
    for layer in 0..layers {
        let at = format!("model.layers.{layer}");
        for (index, (name, input, output)) in SHAPES.into_iter().enumerate() {
            let place = if name.contains("qkv") || name.contains("o_proj") {
                "self_attn"
            } else {
                "mlp"
            };
            let matrix = pool.matrix(output, input, 4 * layer + index)?;
            all.insert(format!("{at}.{place}.{name}.weight"), matrix);
        }
        all.insert(format!("{at}.input_layernorm.weight"), ones(D_MODEL)?);
        all.insert(
            format!("{at}.post_attention_layernorm.weight"),
            ones(D_MODEL)?,
        );
    }
    all.insert("model.norm.weight".into(), ones(D_MODEL)?);
    all.insert(
        "model.embed_tokens.weight".into(),
        pool.matrix(VOCABULARY, D_MODEL, 1)?,
    );
    all.insert(
        "lm_head.weight".into(),
        pool.matrix(VOCABULARY, D_MODEL, 2)?,
    );
    Ok(all)
}

/// `None`: as it is. The embedding table is bf16 in all.
fn model(
    all: &HashMap<String, Tensor>,
    layers: usize,
    how: Option<Quantize>,
) -> Result<Decoder, Failure> {
    let dtype = if how.is_some() {
        DType::F32
    } else {
        DType::BF16
    };
    let drawn = Checkpoint::from_tensors(all.clone(), dtype, &Device::Cpu);
    let drawn = match how {
        Some(how) => drawn.quantized(how),
        None => drawn,
    };
    Ok(Decoder::from_checkpoint(&config(layers), &drawn)?)
}

fn bytes_of(parameters: &[Parameter], part: &str) -> usize {
    let of = parameters
        .iter()
        .filter(|parameter| parameter.name.contains(part));
    of.map(Parameter::bytes).sum()
}

fn token(pool: &Pool, layers: usize, rounds: usize) -> Result<(), Failure> {
    println!(
        "\na token of Phi-3-mini from {layers} of its {LAYERS} layers, behind 16 others, scaled by layers"
    );
    let all = weights(pool, layers)?;
    let memory = Memory::new();
    let mut forms = Vec::new();
    for (name, how) in [
        ("bf16", None),
        ("Q8_0", Some(Quantize::to(BlockType::Q8_0))),
        ("Q4_K_M", Some(Quantize::q4_k_m(layers))),
        ("Q4_K", Some(Quantize::to(BlockType::Q4K))),
        ("NF4", Some(Quantize::to(BlockType::Nf4))),
    ] {
        let begun = Instant::now();
        let llm = model(&all, layers, how)?;
        println!("{name}: made in {:.1} s", begun.elapsed().as_secs_f64());
        let cache = llm.new_cache(1, 64)?;
        let ids: Vec<u32> = (0..16).map(|i| 100 + i).collect();
        let ids = Tensor::from_vec(ids, (1, 16), &Device::Cpu)?;
        llm.forward(&LlmInput::ids(&ids).cache(&cache).logits_at(LogitsAt::Last))?;
        forms.push((name, llm, cache, Vec::new(), Vec::new()));
    }
    let mut rates = Vec::new();
    for round in 0..rounds {
        rates.push(memory.rate());
        for (_, llm, cache, whole, head) in &mut forms {
            let id = Tensor::new(&[[200 + round as u32]], &Device::Cpu)?;
            let input = LlmInput::ids(&id).cache(cache).logits_at(LogitsAt::Last);
            let mut hidden = None;
            whole.push(seconds(|| {
                hidden = Some(llm.forward(&input)?.last_hidden_state);
                Ok(())
            })?);
            let hidden = hidden.ok_or("no hidden state")?;
            let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?.squeeze(1)?; // [1, D]
            head.push(seconds(|| {
                Ok(llm.lm_head(&last)?.argmax(D::Minus1).map(drop)?)
            })?);
        }
    }
    let rate = median(rates);
    println!(
        "memory is read at {:.1} GB/s in the same rounds",
        rate / 1e9
    );
    let mut first = None;
    for (name, llm, _, whole, head) in forms {
        let (whole, head) = (median(whole), median(head));
        let full = (whole - head) / layers as f64 * LAYERS as f64 + head;
        let parameters = llm.named_parameters();
        let (inside, outside) = (
            bytes_of(&parameters, "layers"),
            bytes_of(&parameters, "lm_head"),
        );
        let bytes = inside / layers * LAYERS + outside;
        let limit = bytes as f64 / rate;
        let over = full / *first.get_or_insert(full);
        println!(
            "{name}: {full:.3} s a token at full size ({over:.2} of bf16), {:.2} GB a token, {:.2} of the memory's rate",
            bytes as f64 / 1e9,
            limit / full
        );
    }
    Ok(())
}

/// Tokens a second of a GGUF file: of a prompt of 128, then of 64 that are made.
fn file(path: &std::path::Path) -> Result<(), Failure> {
    const PROMPT: usize = 128;
    const MADE: usize = 64;
    let llm =
        GgufFile::open(path)?.quantized_decoder(Quantize::as_stored(), DType::F32, &Device::Cpu)?;
    let ids: Vec<u32> = (0..PROMPT as u32).map(|i| 100 + i * 37 % 9_000).collect();
    let ids = Tensor::from_vec(ids, (1, PROMPT), &Device::Cpu)?;
    for _ in 0..3 {
        let cache = llm.new_cache(1, PROMPT + MADE)?;
        let input = LlmInput::ids(&ids).cache(&cache).logits_at(LogitsAt::Last);
        let prompt = seconds(|| Ok(llm.forward(&input).map(drop)?))?;
        let made = seconds(|| {
            for step in 0..MADE as u32 {
                let id = Tensor::new(&[[200 + step]], &Device::Cpu)?;
                let input = LlmInput::ids(&id).cache(&cache).logits_at(LogitsAt::Last);
                llm.forward(&input)?;
            }
            Ok(())
        })?;
        println!(
            "prompt of {PROMPT}: {:.1} tokens/s, {MADE} made: {:.2} tokens/s",
            PROMPT as f64 / prompt,
            MADE as f64 / made
        );
    }
    Ok(())
}

/// Random models of Phi-3-mini's shape with so many layers, with the tokenizer of the tiny model, as GGUF files.
fn write(folder: &std::path::Path, layers: usize) -> Result<(), Failure> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let llm = Decoder::new_random(&config(layers), 1, &Device::Cpu)?;
    std::fs::create_dir_all(folder)?;
    for (name, kind) in [("q8_0", GgufType::Q8_0), ("q4_k", GgufType::Q4K)] {
        let path = folder.join(format!("phi3-{layers}-{name}.gguf"));
        llm.save_gguf(&path, &vlm.llm_processor, kind)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Megabytes that are allocated now, by all threads; of none where the allocator does not say.
fn allocated() -> f64 {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let bytes = {
        // SAFETY: it reads the allocator's own counters, under its locks.
        let counters = unsafe { libc::mallinfo2() };
        counters.uordblks + counters.hblkhd
    };
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let bytes = 0;
    bytes as f64 / (1 << 20) as f64
}

/// The most that `work` allocates beyond what is there, in megabytes.
fn peak(work: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (before, over) = (allocated(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut highest = before;
            while !over.load(Ordering::Relaxed) {
                highest = highest.max(allocated());
                std::thread::sleep(std::time::Duration::from_micros(500));
            }
            highest
        });
        let outcome = work();
        over.store(true, Ordering::Relaxed);
        let highest = watcher.join().map_err(|_| "the watcher of memory ended")?;
        outcome.map(|()| highest - before)
    })
}

/// Tokens of a training step.
const TOKENS: usize = 220;

/// The blog's, without dropout.
fn lora() -> LoraConfig {
    LoraConfig {
        lora_dropout: 0.0,
        ..LoraConfig::blog_llm()
    }
}

fn caption() -> Result<Tensor, Failure> {
    let ids: Vec<u32> = (0..TOKENS as u32).map(|i| 100 + i * 37 % 30_000).collect();
    Ok(Tensor::from_vec(ids, (1, TOKENS), &Device::Cpu)?)
}

/// A forward and a backward pass, with gradient checkpointing or without.
fn gradients(llm: &Decoder, ids: &Tensor, again: bool) -> Result<Gradients, Failure> {
    let input = LlmInput::ids(ids).logits_at(LogitsAt::Last);
    let output = recomputing(again, || llm.forward(&input))?;
    let loss = output.logits()?.sqr()?.mean_all()?;
    let trained = llm.trainable_parameters();
    let gradients = Gradients::of(&loss, &trained)?;
    match gradients.missing(&trained).is_empty() {
        true => Ok(gradients),
        false => Err("a factor got no gradient".into()),
    }
}

/// Megabytes of this process, as the system counts them.
fn resident(name: &str) -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kilobytes.ok_or("no such line")?.parse::<f64>()? / 1024.0)
}

/// Steps of the full-size model with AdamW: weights and the table of embeddings in blocks, gradient checkpointing.
fn whole(rounds: usize) -> Result<(), Failure> {
    let mut llm = {
        let pool = Pool::new();
        model(
            &weights(&pool, LAYERS)?,
            LAYERS,
            Some(BlockType::Nf4.into()),
        )?
    };
    llm.embed_tokens.quantize(BlockType::Q8_0)?;
    llm.add_lora(&lora(), 1)?;
    let ids = caption()?;
    let trained = llm.trainable_parameters();
    let mut optimizer = AdamW::new(AdamWConfig::default())?;
    glassbox_prelude::session::keep_freed_memory();
    std::fs::write("/proc/self/clear_refs", "5")?; // the most is counted from here
    println!(
        "all {LAYERS} layers in NF4, {TOKENS} tokens: {:.0} MB held before the first step",
        resident("VmRSS")?
    );
    for step in 1..=rounds {
        let took = seconds(|| {
            let gradients = gradients(&llm, &ids, true)?;
            Ok(optimizer.step(&trained, &gradients)?)
        })?;
        println!(
            "step {step}: {took:.1} s, {:.2} GiB at most so far",
            resident("VmHWM")? / 1024.0
        );
    }
    Ok(())
}

/// A step of the blog's LoRA over blocks, by 1 and more layers: what a layer adds is what 32 of them take. The table of embeddings is in
/// Q8_0 too, of which only the rows that are read are ever floats.
fn train(pool: &Pool, layers: usize, rounds: usize) -> Result<(), Failure> {
    println!(
        "\nQLoRA: the blog's LoRA (r 64 on gate_up_proj, down_proj), {TOKENS} tokens, f32 between layers"
    );
    for kind in [BlockType::Q8_0, BlockType::Q4K, BlockType::Nf4] {
        for again in [false, true] {
            let mut passes = Vec::new();
            let (mut weights_full, mut lora_full, mut table) = (0, 0, 0);
            for count in [1, layers.max(2)] {
                let all = weights(pool, count)?;
                let mut llm = model(&all, count, Some(kind.into()))?;
                drop(all);
                llm.embed_tokens.quantize(BlockType::Q8_0)?;
                table = llm.embed_tokens.weight.parameter().bytes();
                llm.add_lora(&lora(), 1)?;
                let parameters = llm.named_parameters();
                let of = |lora: bool| -> usize {
                    let of = parameters
                        .iter()
                        .filter(|p| p.name.contains("layers") && p.role.is_lora() == lora);
                    of.map(Parameter::bytes).sum()
                };
                weights_full =
                    of(false) / count * LAYERS + bytes_of(&parameters, "lm_head") + table;
                lora_full = of(true) / count * LAYERS;
                drop(parameters);
                let ids = caption()?;
                let (mut times, mut beyond) = (Vec::new(), 0f64);
                for _ in 0..rounds {
                    let begun = Instant::now();
                    let over = peak(|| gradients(&llm, &ids, again).map(drop))?;
                    times.push(begun.elapsed().as_secs_f64());
                    beyond = beyond.max(over);
                }
                let took = median(times);
                println!(
                    "{kind}, {count} layers: forward and backward {took:.2} s, {beyond:.0} MB beyond the model"
                );
                passes.push((count, beyond));
            }
            let [(few, low), (many, high)] = passes[..] else {
                return Err("two sizes".into());
            };
            let each = (high - low) / (many - few) as f64;
            let full = low + each * (LAYERS - few) as f64;
            let megabytes = |bytes: usize| bytes as f64 / (1 << 20) as f64;
            let optimizer = 2.0 * megabytes(lora_full);
            println!(
                "{kind} at full size, {}: weights {:.0} MB (table of embeddings {:.0}) + LoRA {:.0} + AdamW {optimizer:.0} + passes with gradients {full:.0} (by {each:.0} a layer) = {:.2} GiB",
                match again {
                    true => "gradient checkpointing",
                    false => "activations kept",
                },
                megabytes(weights_full),
                megabytes(table),
                megabytes(lora_full),
                (megabytes(weights_full) + megabytes(lora_full) + optimizer + full) / 1024.0
            );
        }
    }
    Ok(())
}
