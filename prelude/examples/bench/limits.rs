//! What this machine gives at most: the rate of the best matrix product that the prelude runs, and that of reading memory.

use std::time::Instant;

use candle_core::{Device, Tensor};
use glassbox_prelude::nn::{Linear, Weight};
use rayon::prelude::*;
use serde_json::json;

use crate::Failure;
use crate::measure::{Figures, rounded};

/// Rows, in, out: the shapes of a ViT-B/16 with one and eight pictures, and a large square.
const SHAPES: [(usize, usize, usize); 6] = [
    (197, 768, 768),
    (197, 768, 3072),
    (1576, 768, 3072),
    (1576, 3072, 768),
    (768, 768, 768),
    (2048, 2048, 2048),
];
const ROUNDS: usize = 7;
/// Values that are read to measure the memory: a gigabyte, more than any cache.
const READ: usize = 1 << 28;

pub fn run() -> Result<Figures, Failure> {
    let mut figures = Figures::new();
    let (mut best, mut rates) = (0f64, Figures::new());
    for (rows, input, output) in SHAPES {
        let tensor = |rows: usize| Tensor::randn(0f32, 1f32, (rows, input), &Device::Cpu);
        let layer = Linear::new(
            "limit",
            Weight::frozen("limit.weight", tensor(output)?),
            None,
        );
        let x = tensor(rows)?; // [N, in]
        let seconds = fastest(|| {
            layer.forward(&x)?;
            Ok(())
        })?;
        let rate = 2.0 * (rows * input * output) as f64 / seconds / 1e9;
        best = best.max(rate);
        rates.insert(format!("{rows}x{input}x{output}"), rounded(rate, 1));
    }
    figures.insert("product_gflop_per_s".to_owned(), rounded(best, 1));
    figures.insert("products_gflop_per_s".to_owned(), json!(rates));
    let values = vec![1f32; READ];
    let seconds = fastest(|| {
        let sum: f32 = values.par_chunks(1 << 16).map(sum).sum();
        if sum <= 0.0 {
            return Err("ones add up to nothing".into());
        }
        Ok(())
    })?;
    let rate = (READ * size_of::<f32>()) as f64 / seconds / 1e9;
    figures.insert("memory_gb_per_s".to_owned(), rounded(rate, 2));
    Ok(figures)
}

/// In independent lanes, so that memory is what is waited for.
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 64];
    for values in values.chunks_exact(64) {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += value;
        }
    }
    lanes.iter().sum()
}

fn fastest(mut work: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        work()?;
        fastest = fastest.min(begun.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
