//! The baseline that needs no language model: the caption of the training picture that looks most alike to the encoder.
//!
//! hidden states `[1, P, D]` → the mean of the patches, of length 1, `[D]` → the training picture with the largest cosine.

use glassbox_prelude::candle_core::{D, DType};
use glassbox_prelude::prelude::*;

use crate::Shown;

/// For each picture of `held_out` the caption of its neighbour in `train`.
pub fn captions(train: &[Shown], held_out: &[Shown]) -> Result<Vec<String>> {
    let known = directions(train)?; // [N, D]
    let asked = directions(held_out)?; // [M, D]
    let cosines = asked.matmul(&known.t()?)?; // [M, N]
    let nearest = cosines.argmax(D::Minus1)?.to_vec1::<u32>()?; // [M]
    let caption = |at: u32| train[at as usize].caption.clone();
    Ok(nearest.into_iter().map(caption).collect())
}

fn directions(pictures: &[Shown]) -> Result<Tensor> {
    let means = pictures.iter().map(|shown| {
        let patches = shown
            .hidden_states
            .to_dtype(DType::F32)?
            .to_device(&Device::Cpu)?; // [1, P, D]
        Ok(patches.mean(1)?) // [1, D]
    });
    let means = Tensor::cat(&means.collect::<Result<Vec<_>>>()?, 0)?; // [N, D]
    let lengths = means.sqr()?.sum_keepdim(1)?.sqrt()?; // [N, 1]
    Ok(means.broadcast_div(&lengths)?)
}
