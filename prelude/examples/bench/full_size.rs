//! Phi-3-mini at its full size with random bf16 weights: memory-mapped, prefilled, and a few tokens generated.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use candle_core::{D, DType, Tensor};
use glassbox_prelude::language::{Decoder, DecoderConfig, LlmInput, LogitsAt};
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::config::{FullSize, dtype};
use crate::measure::{Figures, device, median, rounded};

const INDEX: &str = "model.safetensors.index.json";
/// Random values that all weights are cut from: cheap to make, still of full rank.
const POOL: usize = 1 << 24;

/// Loads the weights and generates from random token ids.
pub fn run(full: &FullSize) -> Result<Figures, Failure> {
    let begun = Instant::now();
    let device = device()?;
    let llm = Decoder::load(&full.dir, dtype(&full.dtype)?, &device)?;
    device.synchronize()?;
    let load = begun.elapsed().as_secs_f64();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let vocabulary = llm.config.vocab_size.min(32_000) as u32;
    let ids: Vec<u32> = (0..full.prefill)
        .map(|_| rng.random_range(3..vocabulary))
        .collect();
    let cache = llm.new_cache(1, full.prefill + full.decode)?;
    let mut ids = Tensor::from_vec(ids, (1, full.prefill), &device)?; // [1, T]
    let mut seconds = Vec::new();
    for _ in 0..=full.decode {
        let begun = Instant::now();
        let output = llm.forward(&LlmInput::ids(&ids).cache(&cache).logits_at(LogitsAt::Last))?;
        ids = output
            .logits()?
            .argmax_keepdim(D::Minus1)?
            .to_dtype(DType::U32)?; // [1, 1]
        device.synchronize()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let (prefill, decode) = (seconds[0], median(&seconds[1..]));
    let mut figures = Figures::new();
    for (name, value) in [
        ("load_s", rounded(load, 2)),
        ("load_plus_first_prefill_s", rounded(load + prefill, 2)),
        ("prefill_first_s", rounded(prefill, 4)),
        ("prefill_tokens", json!(full.prefill)),
        (
            "prefill_tok_per_s",
            rounded(full.prefill as f64 / prefill, 2),
        ),
        ("decode_median_s", rounded(decode, 4)),
        ("decode_tok_per_s", rounded(1.0 / decode, 3)),
        ("decode_n", json!(full.decode)),
    ] {
        figures.insert(name.to_owned(), value);
    }
    Ok(figures)
}

/// Writes random weights in two files with an index, unless they are there. Says whether it wrote.
pub fn write(full: &FullSize) -> Result<bool, Failure> {
    if full.dir.join(INDEX).exists() {
        return Ok(false);
    }
    std::fs::create_dir_all(&full.dir)?;
    let config = full.config_json();
    let sizes: DecoderConfig = serde_json::from_value(config.clone())?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let pool = pool(&mut rng);
    let mut places = Map::new();
    for (number, tensors) in shards(&sizes).into_iter().enumerate() {
        let name = format!("model-{:05}-of-00002.safetensors", number + 1);
        for (tensor, _) in &tensors {
            places.insert(tensor.clone(), json!(name));
        }
        write_shard(&full.dir.join(name), &tensors, &pool, &mut rng)?;
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": places});
    std::fs::write(
        full.dir.join("config.json"),
        serde_json::to_vec_pretty(&config)?,
    )?;
    std::fs::write(full.dir.join(INDEX), index.to_string())?;
    Ok(true)
}

/// Values with mean 0 and standard deviation 0.02, as bytes: the sum of twelve uniform numbers is close to normal.
fn pool(rng: &mut ChaCha8Rng) -> Vec<u8> {
    (0..POOL)
        .flat_map(|_| {
            let words: [u64; 3] = rng.random();
            let sum: f32 = words
                .iter()
                .flat_map(|word| (0..4).map(move |part| (word >> (16 * part)) as u16))
                .map(|uniform| f32::from(uniform) / 65_536.0)
                .sum();
            bf16::from_f32((sum - 6.0) * 0.02).to_le_bytes()
        })
        .collect()
}

/// Names and shapes of all tensors, in two files.
fn shards(sizes: &DecoderConfig) -> [Vec<(String, Vec<usize>)>; 2] {
    let (d, inner, v) = (sizes.hidden_size, sizes.intermediate_size, sizes.vocab_size);
    let head = d / sizes.num_attention_heads;
    let qkv = d + 2 * sizes.kv_heads() * head;
    let mut shards = [
        vec![("model.embed_tokens.weight".to_owned(), vec![v, d])],
        vec![
            ("model.norm.weight".to_owned(), vec![d]),
            ("lm_head.weight".to_owned(), vec![v, d]),
        ],
    ];
    for layer in 0..sizes.num_hidden_layers {
        let shard = usize::from(layer >= sizes.num_hidden_layers * 2 / 3);
        for (part, shape) in [
            ("self_attn.qkv_proj", vec![qkv, d]),
            ("self_attn.o_proj", vec![d, d]),
            ("mlp.gate_up_proj", vec![2 * inner, d]),
            ("mlp.down_proj", vec![d, inner]),
            ("input_layernorm", vec![d]),
            ("post_attention_layernorm", vec![d]),
        ] {
            shards[shard].push((format!("model.layers.{layer}.{part}.weight"), shape));
        }
    }
    shards
}

/// Streams one safetensors file: norms are ones, matrices are cut from the pool at a random place.
fn write_shard(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    pool: &[u8],
    rng: &mut ChaCha8Rng,
) -> Result<(), Failure> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for (name, shape) in tensors {
        let bytes = shape.iter().product::<usize>() * 2;
        header.insert(
            name.clone(),
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + bytes]}),
        );
        offset += bytes;
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let one = bf16::ONE.to_le_bytes();
    for (_, shape) in tensors {
        let mut left = shape.iter().product::<usize>() * 2;
        if shape.len() == 1 {
            file.write_all(&one.repeat(shape[0]))?;
            continue;
        }
        let mut start = 2 * rng.random_range(0..1usize << 20);
        while left > 0 {
            let count = left.min(pool.len() - start);
            file.write_all(&pool[start..start + count])?;
            left -= count;
            start = 0;
        }
    }
    file.flush()?;
    Ok(())
}
