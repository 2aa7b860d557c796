//! Every family of language models against transformers: `scripts/fixtures/decoders.py` writes tiny random models and what comes out
//! of them, the tests here read the models and compare. Figures of real models are checked where `GLASSBOX_REAL` and
//! `GLASSBOX_WHEELS` name folders that hold them.

// What is compared and how far apart it is, is for whoever runs the tests with `--nocapture`.
#![allow(clippy::print_stdout)]

mod families;
mod files;
mod gguf;
mod gguf_export;
mod lookup;
#[path = "../published/peer.rs"]
mod peer;
#[path = "../published/python.rs"]
mod python;
mod quantized;
mod real;
mod saved;
mod smol;

use glassbox_prelude::candle_core::{self, DType, Device, Tensor};
use glassbox_prelude::language::{Decoder, LlmInput, LogitsAt};
use peer::{assert_close, not_run};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Of logits and hidden states, f32.
const CLOSE: f32 = 1e-4;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/decoders")
        .join(name)
}

fn load(name: &str) -> Fallible<Decoder> {
    Ok(Decoder::load(folder(name), DType::F32, &Device::Cpu)?)
}

/// The tensors of an `expected.safetensors`.
struct Wanted(HashMap<String, Tensor>);

impl Wanted {
    fn of(file: &str) -> Fallible<Self> {
        Ok(Self(candle_core::safetensors::load(
            folder(file),
            &Device::Cpu,
        )?))
    }

    fn get(&self, key: &str) -> Fallible<&Tensor> {
        Ok(self.0.get(key).ok_or_else(|| format!("no {key}"))?)
    }

    fn rows(&self, key: &str) -> Fallible<Vec<Vec<u32>>> {
        Ok(self.get(key)?.to_dtype(DType::U32)?.to_vec2::<u32>()?)
    }
}

/// Greedy ids behind `prompt`, with a cache.
fn greedy(llm: &Decoder, prompt: &Tensor, tokens: usize) -> Fallible<Vec<Vec<u32>>> {
    let (batch, length) = prompt.dims2()?;
    let cache = llm.new_cache(batch, length + tokens)?;
    let mut made = vec![Vec::new(); batch];
    let mut next = prompt.clone();
    for _ in 0..tokens {
        let input = LlmInput::ids(&next).cache(&cache).logits_at(LogitsAt::Last);
        let best = llm.forward(&input)?.logits()?.argmax(1)?; // [B]
        for (made, id) in made.iter_mut().zip(best.to_vec1::<u32>()?) {
            made.push(id);
        }
        next = best.unsqueeze(1)?; // [B, 1]
    }
    Ok(made)
}
