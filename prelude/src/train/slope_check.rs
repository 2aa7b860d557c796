//! The first step's second question, asked of an encoder of one's own: is its gradient the slope of the loss?
//!
//! Where one of two paths to the loss has no way back (a residual around `softmax_last_dim`), every parameter gets a gradient and yet a wrong
//! one. So the weights are moved a little, in random directions, and the loss has to change as the gradient says:
//!
//! ```text
//! loss(θ + r) − loss(θ − r)  =  2 · gradient · r      for a few r of random signs, small enough for the loss to be straight
//! ```
//! In `r` every tensor counts as much as any other, as far as 2% of its values allow. What differs is looked for tensor by tensor, to be
//! named. The loss is that of the step's first samples, all their tokens, without dropout. Where it is too flat to tell from
//! rounding, has a corner, or is random, nothing is claimed. Cost: 1 backward pass, and 6 forward passes where all is well.

use candle_core::{DType, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::gradient_check::WITHOUT_BACKWARD;
use super::gradients::Gradients;
use crate::nn::{Parameter, VlmPart};
use crate::session::check_interrupt;
use crate::vision::{Tower, Vit};
use crate::vlm::{Prompt, Vlm};
use crate::{Error, Result};

/// Samples of the first batch that are looked at.
const SAMPLES: usize = 4;
/// Directions in which the weights are moved.
const DIRECTIONS: usize = 3;
/// The largest move of a weight, as a part of the root mean square of its tensor.
const MOVE: f64 = 0.02;
/// Of a tensor of zeros.
const MOVE_OF_ZEROS: f64 = 0.002;
/// How far the loss may be from itself by rounding, as a part of it.
const ROUNDING: f64 = 1e-6;
/// A change so many times as large as rounding can be compared.
const CLEAR: f64 = 20.0;
/// The change that one tensor makes, as a part of the loss, is at most this.
const LARGEST: f64 = 0.01;
/// What is off by less than this part of what one tensor changes is right.
const TOLERANCE: f64 = 0.05;
/// Tensors that are looked at one by one.
const NAMED: usize = 16;

/// A trainable tensor, with its gradient and what it is moved by.
struct Moved<'a> {
    name: &'a str,
    var: &'a Var,
    /// On the CPU, in order.
    gradient: Vec<f64>,
    /// How far each of its values is moved.
    step: f64,
    /// How much the loss changes by it, up to a factor that depends on the direction.
    change: f64,
}

/// Refuses a first step of an encoder of one's own whose gradient is not the slope of the loss.
pub(super) fn check(vlm: &Vlm, parameters: &[Parameter], prompts: &[Prompt]) -> Result<()> {
    let encoder = &vlm.image_encoder;
    let tested = encoder.get::<Vit>().is_some() || encoder.get::<Tower>().is_some();
    let own: Vec<Parameter> = parameters
        .iter()
        .filter(|parameter| parameter.part == Some(VlmPart::ImageEncoder))
        .cloned()
        .collect();
    if tested || own.is_empty() {
        return Ok(());
    }
    let prompts = &prompts[..prompts.len().min(SAMPLES)];
    let loss = || vlm.full_sequence_loss_of(&prompts);
    let first = loss()?;
    let gradients = Gradients::of(&first.loss, &own)?;
    let value = f64::from(first.value()?);
    let rounding = ROUNDING * value.abs().max(1.0);
    let again = f64::from(loss()?.value()?);
    if !value.is_finite() || (again - value).abs() > rounding {
        return Ok(()); // an encoder with randomness of its own
    }
    let mut moved = moved(&own, &gradients, value, rounding)?;
    let measure = |moved: &[&Moved<'_>]| {
        let loss = || -> Result<f64> {
            check_interrupt()?;
            Ok(f64::from(loss()?.value()?))
        };
        differs(moved, &loss, rounding)
    };
    moved.retain(|moved| moved.change > CLEAR * rounding);
    if moved.is_empty() || !measure(&moved.iter().collect::<Vec<_>>())? {
        return Ok(());
    }
    let mut wrong = Vec::new();
    for moved in moved.iter().take(NAMED) {
        if measure(&[moved])? {
            wrong.push(moved.name.to_owned());
        }
    }
    if wrong.is_empty() {
        wrong.extend(moved.iter().map(|moved| moved.name.to_owned()));
    }
    Err(Error::WrongGradient {
        hint: hint(),
        parameters: wrong,
    })
}

/// What can be moved, and how far.
fn moved<'a>(
    parameters: &'a [Parameter],
    gradients: &Gradients,
    loss: f64,
    rounding: f64,
) -> Result<Vec<Moved<'a>>> {
    let mut all = Vec::new();
    for parameter in parameters {
        let (Some(var), Some(gradient)) = (&parameter.var, gradients.get(&parameter.name)) else {
            continue;
        };
        // In fewer bits a move of 2% is lost.
        if !matches!(var.dtype(), DType::F32 | DType::F64) {
            continue;
        }
        let gradient = values(gradient)?;
        let length = length(&gradient);
        let mean = length_of(var)? / (gradient.len().max(1) as f64).sqrt();
        let step = if mean > 0.0 {
            MOVE * mean
        } else {
            MOVE_OF_ZEROS
        };
        if length > 0.0 && length.is_finite() {
            all.push(Moved {
                name: &parameter.name,
                var,
                gradient,
                step,
                change: 2.0 * step * length,
            });
        }
    }
    // Each counts as much as the one that can do least, unless that can do next to nothing.
    let least = all
        .iter()
        .map(|moved| moved.change)
        .filter(|change| *change > CLEAR * rounding)
        .fold(
            LARGEST * loss.abs() / (all.len().max(1) as f64).sqrt(),
            f64::min,
        );
    for moved in &mut all {
        let shrink = (least / moved.change).min(1.0);
        moved.step *= shrink;
        moved.change *= shrink;
    }
    Ok(all)
}

/// Whether the loss changes otherwise than the gradients of these tensors say.
fn differs(moved: &[&Moved<'_>], loss: &dyn Fn() -> Result<f64>, rounding: f64) -> Result<bool> {
    let one = moved
        .iter()
        .map(|moved| moved.change)
        .fold(f64::INFINITY, f64::min);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let directions: Vec<Vec<Vec<f64>>> = (0..DIRECTIONS)
        .map(|_| {
            let mut signs = |moved: &&Moved<'_>| -> Vec<f64> {
                let sign = |_: &f64| {
                    if rng.random() {
                        moved.step
                    } else {
                        -moved.step
                    }
                };
                moved.gradient.iter().map(sign).collect()
            };
            moved.iter().map(&mut signs).collect()
        })
        .collect();
    let mut whole = Vec::new();
    for direction in &directions {
        whole.push(change(moved, direction, 1.0, loss)?);
    }
    let said: Vec<f64> = directions.iter().map(|d| predicted(moved, d)).collect();
    let far = |measured: &[f64]| {
        let squares = measured.iter().zip(&said).map(|(m, s)| (m - s) * (m - s));
        (squares.sum::<f64>() / DIRECTIONS as f64).sqrt()
    };
    let least = TOLERANCE * one + 4.0 * rounding;
    if far(&whole) <= least {
        return Ok(false);
    }
    // A loss that is not straight comes nearer in steps of half the size, by a known amount.
    let mut halves = Vec::new();
    for direction in &directions {
        halves.push(2.0 * change(moved, direction, 0.5, loss)?);
    }
    let straight = whole.iter().zip(&halves).map(|(w, h)| (4.0 * h - w) / 3.0);
    let straight: Vec<f64> = straight.collect();
    let bends = whole.iter().zip(&halves).map(|(w, h)| (w - h) * (w - h));
    let bends = (bends.sum::<f64>() / DIRECTIONS as f64).sqrt();
    Ok(far(&straight) > 2.0 * least + 3.0 * bends)
}

/// How the loss changes from one side to the other. The weights are as before when it returns.
fn change(
    moved: &[&Moved<'_>],
    direction: &[Vec<f64>],
    factor: f64,
    loss: &dyn Fn() -> Result<f64>,
) -> Result<f64> {
    let before = moved
        .iter()
        .map(|moved| moved.var.copy())
        .collect::<candle_core::Result<Vec<_>>>()?;
    let side = |factor: f64| -> Result<f64> {
        for ((moved, before), direction) in moved.iter().zip(&before).zip(direction) {
            let step = Tensor::from_slice(direction, before.shape(), &candle_core::Device::Cpu)?;
            let step = (step * factor)?
                .to_dtype(before.dtype())?
                .to_device(before.device())?;
            moved.var.set(&(before + step)?)?;
        }
        loss()
    };
    let sides = side(factor).and_then(|above| Ok(above - side(-factor)?));
    for (moved, before) in moved.iter().zip(&before) {
        moved.var.set(before)?;
    }
    sides
}

fn predicted(moved: &[&Moved<'_>], direction: &[Vec<f64>]) -> f64 {
    let all = moved.iter().zip(direction);
    let each = all.map(|(moved, direction)| {
        let products = moved.gradient.iter().zip(direction);
        products
            .map(|(gradient, step)| gradient * step)
            .sum::<f64>()
    });
    2.0 * each.sum::<f64>()
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.to_device(&candle_core::Device::Cpu)?.flatten_all()?; // [N]
    Ok(flat.to_dtype(DType::F64)?.to_vec1()?)
}

fn length(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn length_of(var: &Var) -> Result<f64> {
    Ok(length(&values(&var.as_detached_tensor())?))
}

fn hint() -> String {
    format!(
        "The loss changes otherwise than their gradient says, so on one of several ways between them and the loss is an operation without \
         a backward pass ({}): use candle_nn::ops::softmax, layer_norm_slow, rms_norm_slow, rope_slow, forward_diff, or this prelude's \
         LayerNorm, RmsNorm and softmax. Where that is meant (a straight-through estimator), TrainerConfig {{ require_gradients: false, .. }} \
         trains all the same",
        WITHOUT_BACKWARD.join("; ")
    )
}
