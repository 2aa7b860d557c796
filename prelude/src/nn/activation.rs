//! Activations: GELU (exact, or by tanh), SiLU, and gates such as SwiGLU on a packed gate-and-up projection.

use super::ops;
use crate::{Error, Result};
use candle_core::{D, Tensor};

/// GELU as ViT and the projector use it: `x · Φ(x)` with the exact normal distribution function, any shape.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let x = Tensor::new(&[-3f32, 0.0, 3.0], &Device::Cpu)?;
/// let y = gelu(&x)?.to_vec1::<f32>()?;
/// assert!(y[0].abs() < 0.01 && y[1] == 0.0 && (y[2] - 3.0).abs() < 0.01);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When a tensor operation fails.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    ops::gelu(x)
}

/// SwiGLU as Phi-3 uses it: `[.., 2·I]`, gate first, → `silu(gate) · up`, `[.., I]`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let gate_up = Tensor::new(&[[0f32, 10.0, 5.0, 5.0]], &Device::Cpu)?; // gate [0, 10], up [5, 5]
/// let y = swiglu(&gate_up)?.to_vec2::<f32>()?;
/// assert_eq!(y[0][0], 0.0); // closed
/// assert!((y[0][1] - 50.0).abs() < 0.01); // silu(10) is nearly 10
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the last dimension is odd.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let packed = gate_up.dim(D::Minus1)?;
    if !packed.is_multiple_of(2) {
        return Err(Error::Input(format!(
            "swiglu needs gate and up of equal width side by side, the last dimension is {packed}"
        )));
    }
    ops::swiglu(gate_up)
}

/// What stands inside an MLP.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::Activation;
///
/// # fn main() -> Result<()> {
/// let x = Tensor::new(&[-1f32, 0.0, 2.0], &Device::Cpu)?;
/// assert_eq!(Activation::Gelu.forward(&x)?.to_vec1::<f32>()?, gelu(&x)?.to_vec1::<f32>()?);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// `x · Φ(x)`, exact.
    Gelu,
    /// GELU with tanh in place of the normal distribution function (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// `x · σ(1.702 x)`.
    QuickGelu,
}

impl Activation {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Silu, Self::Gelu, Self::GeluTanh, Self::QuickGelu];

    /// The activation that a config calls so in its `hidden_act`.
    pub(crate) fn named(name: &str) -> Option<Activation> {
        let named = |activation: &Self| activation.names().contains(&name);
        Self::ALL.into_iter().find(named)
    }

    /// The name that is written.
    pub(crate) fn name(self) -> &'static str {
        self.names()[0]
    }

    /// The names of transformers, which has several classes for one function.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Silu => &["silu", "swish"],
            Self::Gelu => &["gelu"],
            Self::GeluTanh => &["gelu_pytorch_tanh", "gelu_new", "gelu_fast"],
            Self::QuickGelu => &["quick_gelu"],
        }
    }

    /// Any shape.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => Ok(x.silu()?),
            Self::Gelu => gelu(x),
            Self::GeluTanh => Ok(x.gelu()?),
            // x · σ(1.702 x) = x / (1 + exp(−1.702 x))
            Self::QuickGelu => Ok((x / ((x * -1.702)?.exp()? + 1.0)?)?),
        }
    }

    /// `[.., 2·I]`, gate first, → `activation(gate) · up`, `[.., I]`.
    ///
    /// # Errors
    /// When the last dimension is odd.
    pub fn gated(self, gate_up: &Tensor) -> Result<Tensor> {
        let packed = gate_up.dim(D::Minus1)?;
        if self == Self::Silu || !packed.is_multiple_of(2) {
            return swiglu(gate_up);
        }
        let gate = gate_up.narrow(D::Minus1, 0, packed / 2)?; // [.., I]
        let up = gate_up.narrow(D::Minus1, packed / 2, packed / 2)?; // [.., I]
        Ok((self.forward(&gate.contiguous()?)? * up)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    #[test]
    fn gelu_equals_the_composed_form_and_finite_differences() -> Result<()> {
        let x = random(&[7, 33], 2.0, 2);
        assert_close(&gelu(&x)?, &x.gelu_erf()?, 1e-6);
        check_gradient(&[x], |a| gelu(&a[0]), |a| Ok(a[0].gelu_erf()?), 2e-6)
    }

    #[test]
    fn swiglu_equals_the_composed_form_and_finite_differences() -> Result<()> {
        let x = random(&[2, 5, 34], 2.0, 3);
        let composed = |x: &Tensor| -> Result<Tensor> {
            Ok((x.narrow(2, 0, 17)?.silu()? * x.narrow(2, 17, 17)?)?)
        };
        assert_close(&swiglu(&x)?, &composed(&x)?, 1e-6);
        check_gradient(&[x], |a| swiglu(&a[0]), |a| composed(&a[0]), 2e-6)
    }

    #[test]
    fn gates_of_every_activation_equal_the_composed_form_and_finite_differences() -> Result<()> {
        use Activation::{Gelu, GeluTanh, QuickGelu, Silu};
        for activation in [Silu, Gelu, GeluTanh, QuickGelu] {
            let x = random(&[2, 3, 12], 1.0, 5);
            let composed = |x: &Tensor| -> Result<Tensor> {
                let gate = activation.forward(&x.narrow(2, 0, 6)?.contiguous()?)?;
                Ok((gate * x.narrow(2, 6, 6)?)?)
            };
            assert_close(&activation.gated(&x)?, &composed(&x)?, 1e-6);
            check_gradient(&[x], |a| activation.gated(&a[0]), |a| composed(&a[0]), 2e-6)?;
        }
        Ok(())
    }

    #[test]
    fn every_activation_is_its_formula_by_each_of_its_names() -> Result<()> {
        let at = [-3.0, -1.0, -0.1, 0.0, 0.3, 1.0, 4.0];
        let x = Tensor::new(&at, &candle_core::Device::Cpu)?.to_dtype(candle_core::DType::F32)?;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let tanh = |x: f64| (0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x)).tanh();
        // Φ at the places above.
        let cdf = [
            0.001_349_898_031_630_1,
            0.158_655_253_931_457_05,
            0.460_172_162_722_971,
            0.5,
            0.617_911_422_188_952_6,
            0.841_344_746_068_542_9,
            0.999_968_328_758_166_9,
        ];
        for activation in Activation::ALL {
            for name in activation.names() {
                assert_eq!(Activation::named(name), Some(activation));
            }
            let found = activation.forward(&x)?.to_vec1::<f32>()?;
            for ((x, cdf), found) in at.into_iter().zip(cdf).zip(found) {
                let wanted = match activation {
                    Activation::Silu => x * sigmoid(x),
                    Activation::Gelu => x * cdf,
                    Activation::GeluTanh => 0.5 * x * (1.0 + tanh(x)),
                    Activation::QuickGelu => x * sigmoid(1.702 * x),
                };
                assert!(
                    (f64::from(found) - wanted).abs() < 2e-6,
                    "{activation:?} at {x}: {found} instead of {wanted}"
                );
            }
        }
        assert_eq!(Activation::named("relu"), None);
        Ok(())
    }

    #[test]
    fn swiglu_refuses_an_odd_width() {
        assert!(matches!(
            swiglu(&random(&[2, 3], 1.0, 4)),
            Err(Error::Input(_))
        ));
    }
}
