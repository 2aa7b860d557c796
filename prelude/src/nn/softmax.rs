//! Softmax over the last dimension, with a gradient.

use super::ops;
use crate::Result;
use candle_core::{D, Tensor};

/// `softmax(x)` over the last dimension: `[.., N] → [.., N]`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let logits = Tensor::new(&[[1f32, 1.0, 1.0, 1.0]], &Device::Cpu)?;
/// assert_eq!(softmax(&logits)?.to_vec2::<f32>()?, [[0.25; 4]]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When a tensor operation fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    ops::softmax(x)
}

/// The logarithms of `softmax(x)` over the last dimension, `[.., N] → [.., N]`: a loss of one's own begins with it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let prompt = vlm.caption_prompt(&image, "a red square")?;
/// let ids = prompt.answer_ids();
/// let parameters = vlm.trainable_parameters();
/// let mut optimizer = AdamW::new(AdamWConfig::default())?;
/// for _ in 0..2 {
///     let sequence = vlm.sequence(&[prompt.clone()])?; // [1, T, D]
///     let logits = vlm.llm.forward(&sequence.input())?.logits()?.clone(); // [1, T, V]
///     let before = sequence.prompt_lengths[0] - 1; // each token is predicted from the one before
///     let log_p = log_softmax(&logits.narrow(1, before, ids.len())?.squeeze(0)?)?; // [n, V]
///     let right = Tensor::new(ids.as_slice(), vlm.device())?.unsqueeze(1)?; // [n, 1]
///     let loss = log_p.gather(&right, 1)?.neg()?.mean_all()?;
///     optimizer.step(&parameters, &Gradients::of(&loss, &parameters)?)?;
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
/// When a tensor operation fails.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    Ok(candle_nn::ops::log_softmax(x, D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    #[test]
    fn equals_the_composed_form_and_finite_differences() -> Result<()> {
        let x = random(&[3, 5, 37], 2.0, 1);
        let composed = |x: &Tensor| Ok(candle_nn::ops::softmax(x, D::Minus1)?);
        assert_close(&softmax(&x)?, &composed(&x)?, 4e-7);
        check_gradient(&[x], |a| softmax(&a[0]), |a| composed(&a[0]), 2e-6)
    }

    #[test]
    fn masked_places_are_exactly_zero() -> Result<()> {
        let masked = [f32::NEG_INFINITY, 0.5, f32::NEG_INFINITY, -1.0];
        let x = Tensor::new(&[masked, [f32::NEG_INFINITY; 4]], &candle_core::Device::Cpu)?;
        let y = softmax(&x)?.to_vec2::<f32>()?;
        assert_eq!((y[0][0], y[0][2]), (0.0, 0.0));
        assert!((y[0][1] + y[0][3] - 1.0).abs() < 1e-6);
        assert_eq!(y[1], [0.0; 4]);
        Ok(())
    }
}
