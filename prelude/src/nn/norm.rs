//! RMSNorm (Phi-3) and LayerNorm (ViT): each row of the last dimension normalised, then scaled by a weight.

use super::checkpoint::{Checkpoint, Init};
use super::ops;
use super::parameter::Weight;
use crate::Result;
use candle_core::Tensor;

/// `x / √(mean(x²) + eps) · weight`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let norm = RmsNorm::load(&Checkpoint::random(1, DType::F32, &Device::Cpu), "norm", 4, 1e-5)?;
/// let normed = norm.forward(&Tensor::new(&[[1f32, 2.0, 3.0, 6.0]], &Device::Cpu)?)?;
/// assert!((normed.sqr()?.mean_all()?.to_scalar::<f32>()? - 1.0).abs() < 1e-3); // mean of squares 1, the mean stays
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RmsNorm {
    /// Scale, `[D]`.
    pub weight: Weight,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// Reads `{name}.weight` of `dim` values.
    ///
    /// # Errors
    /// When the tensor is missing or has another shape.
    pub fn load(checkpoint: &Checkpoint, name: &str, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: checkpoint.weight(&format!("{name}.weight"), &[dim], Init::Ones)?,
            eps,
        })
    }

    /// `[.., D] → [.., D]`.
    ///
    /// # Errors
    /// When the last dimension is not the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, self.weight.tensor(), self.eps)
    }
}

/// `(x − mean) / √(variance + eps) · weight + bias`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let norm = LayerNorm::load(&Checkpoint::random(1, DType::F32, &Device::Cpu), "norm", 4, 1e-5)?;
/// let normed = norm.forward(&Tensor::new(&[[1f32, 2.0, 3.0, 6.0]], &Device::Cpu)?)?;
/// assert!(normed.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5); // mean 0
/// assert!((normed.sqr()?.mean_all()?.to_scalar::<f32>()? - 1.0).abs() < 1e-3); // variance 1
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LayerNorm {
    /// Scale, `[D]`.
    pub weight: Weight,
    /// Shift, `[D]`.
    pub bias: Weight,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// Reads `{name}.weight` and `{name}.bias` of `dim` values each.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(checkpoint: &Checkpoint, name: &str, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: checkpoint.weight(&format!("{name}.weight"), &[dim], Init::Ones)?,
            bias: checkpoint.weight(&format!("{name}.bias"), &[dim], Init::Zeros)?,
            eps,
        })
    }

    /// `[.., D] → [.., D]`.
    ///
    /// # Errors
    /// When the last dimension is not the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, self.weight.tensor(), self.bias.tensor(), self.eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ops::{layer_norm, rms_norm};
    use crate::nn::testing::{assert_close, check_gradient, random};

    fn weight(t: &Tensor) -> Weight {
        Weight::frozen("w", t.clone())
    }

    #[test]
    fn rms_norm_equals_the_composed_form_frozen_and_trainable() -> Result<()> {
        let (x, w) = (random(&[2, 5, 37], 2.0, 1), random(&[37], 1.0, 2));
        let norm = |x: &Tensor, w: &Tensor| {
            RmsNorm {
                weight: weight(w),
                eps: 1e-5,
            }
            .forward(x)
        };
        assert_close(&norm(&x, &w)?, &rms_norm::composed(&x, &w, 1e-5)?, 1e-6);
        check_gradient(
            std::slice::from_ref(&x),
            |a| norm(&a[0], &w),
            |a| rms_norm::composed(&a[0], &w, 1e-5),
            4e-6,
        )?;
        check_gradient(
            &[x, w],
            |a| norm(&a[0], &a[1]),
            |a| rms_norm::composed(&a[0], &a[1], 1e-5),
            4e-6,
        )
    }

    #[test]
    fn layer_norm_equals_the_composed_form_frozen_and_trainable() -> Result<()> {
        let (x, w, b) = (
            random(&[2, 5, 37], 2.0, 1),
            random(&[37], 1.0, 2),
            random(&[37], 1.0, 3),
        );
        let norm = |x: &Tensor, w: &Tensor, b: &Tensor| {
            LayerNorm {
                weight: weight(w),
                bias: weight(b),
                eps: 1e-12,
            }
            .forward(x)
        };
        let composed = |x: &Tensor, w: &Tensor, b: &Tensor| layer_norm::composed(x, w, b, 1e-12);
        assert_close(&norm(&x, &w, &b)?, &composed(&x, &w, &b)?, 2e-6);
        check_gradient(
            std::slice::from_ref(&x),
            |a| norm(&a[0], &w, &b),
            |a| composed(&a[0], &w, &b),
            4e-6,
        )?;
        check_gradient(
            &[x, w, b],
            |a| norm(&a[0], &a[1], &a[2]),
            |a| composed(&a[0], &a[1], &a[2]),
            4e-6,
        )
    }

    #[test]
    fn a_wrong_width_is_an_error() {
        let norm = RmsNorm {
            weight: weight(&random(&[8], 1.0, 1)),
            eps: 1e-5,
        };
        assert!(norm.forward(&random(&[2, 9], 1.0, 2)).is_err());
    }
}
