//! The norm at one place of a layer: RMSNorm, Gemma's RMSNorm by 1 + weight, LayerNorm, or none.

use super::form::NormKind;
use crate::Result;
use crate::nn::{Checkpoint, Init, LayerNorm, Network, Part, PartMut, RmsNorm, Weight};
use candle_core::{D, DType, Tensor};

/// A norm of a language model.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// assert!(matches!(llm.norm, Norm::Rms(_))); // GPT-NeoX would have `Norm::Layer`
/// let x = Tensor::ones((1, 3, 16), DType::F32, &Device::Cpu)?;
/// assert_eq!(llm.norm.forward(&x)?.dims(), [1, 3, 16]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub enum Norm {
    /// `x / √(mean(x²) + eps) · weight`.
    Rms(RmsNorm),
    /// `x / √(mean(x²) + eps) · (1 + weight)`.
    RmsPlusOne(RmsNorm),
    /// `(x − mean) / √(variance + eps) · weight + bias`.
    Layer(LayerNorm),
    /// This model has no norm here: vectors pass as they are.
    Absent,
}

impl Norm {
    /// Reads the norm `name` of `dim` values.
    pub(super) fn load(
        kind: NormKind,
        weights: &Checkpoint,
        name: &str,
        dim: usize,
        eps: f64,
    ) -> Result<Self> {
        Ok(match kind {
            NormKind::Rms => Self::Rms(RmsNorm::load(weights, name, dim, eps)?),
            NormKind::Layer => Self::Layer(LayerNorm::load(weights, name, dim, eps)?),
            NormKind::RmsPlusOne => Self::RmsPlusOne(RmsNorm {
                weight: weights.weight(&format!("{name}.weight"), &[dim], Init::Zeros)?,
                eps,
            }),
        })
    }

    /// `[.., D] → [.., D]`.
    ///
    /// # Errors
    /// When the last dimension is not the norm's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Rms(norm) => norm.forward(x),
            Self::Layer(norm) => norm.forward(x),
            Self::Absent => Ok(x.clone()),
            Self::RmsPlusOne(norm) => {
                // In f32 whatever the model: in 8 bits of mantissa, 1 + weight would lose most of the weight.
                let factor = (norm.weight.tensor().to_dtype(DType::F32)? + 1.0)?; // [D]
                let norm = RmsNorm {
                    weight: Weight::frozen(norm.weight.name(), factor),
                    eps: norm.eps,
                };
                let y = norm.forward(&x.to_dtype(DType::F32)?)?; // [.., D]
                Ok(y.to_dtype(x.dtype())?)
            }
        }
    }
}

/// The norm as the linear map that it is once its scale is known: for taking a normed sum apart.
impl Norm {
    /// What becomes of `parts`, `[N, D]`, when they are normed with the scale of their sum `total`, `[1, D]`: they sum to what the
    /// norm makes of it, less [`Norm::bias`]. f32.
    ///
    /// # Errors
    /// When the last dimension is not the norm's.
    pub(crate) fn frozen_at(&self, total: &Tensor, parts: &Tensor) -> Result<Tensor> {
        let f32 = |t: &Tensor| t.to_dtype(DType::F32);
        let (total, parts) = (f32(total)?, f32(parts)?);
        let scaled = |centred: Tensor, of: Tensor, eps: f64, weight: Tensor| -> Result<Tensor> {
            let scale = (of.sqr()?.mean_keepdim(D::Minus1)? + eps)?
                .sqrt()?
                .recip()?; // [1, 1]
            Ok(centred.broadcast_mul(&scale)?.broadcast_mul(&weight)?) // [N, D]
        };
        match self {
            Self::Absent => Ok(parts),
            Self::Rms(norm) => scaled(parts, total, norm.eps, f32(norm.weight.tensor())?),
            Self::RmsPlusOne(norm) => {
                let weight = (f32(norm.weight.tensor())? + 1.0)?; // [D]
                scaled(parts, total, norm.eps, weight)
            }
            Self::Layer(norm) => {
                let centred = |t: &Tensor| t.broadcast_sub(&t.mean_keepdim(D::Minus1)?);
                let weight = f32(norm.weight.tensor())?; // [D]
                scaled(centred(&parts)?, centred(&total)?, norm.eps, weight)
            }
        }
    }

    /// What the norm adds, `[D]`, f32.
    ///
    /// # Errors
    /// When the dtype can't be had.
    pub(crate) fn bias(&self) -> Result<Option<Tensor>> {
        match self {
            Self::Layer(norm) => Ok(Some(norm.bias.tensor().to_dtype(DType::F32)?)),
            Self::Rms(_) | Self::RmsPlusOne(_) | Self::Absent => Ok(None),
        }
    }
}

impl Network for Norm {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        match self {
            Self::Rms(norm) | Self::RmsPlusOne(norm) => norm.visit(visitor),
            Self::Layer(norm) => norm.visit(visitor),
            Self::Absent => {}
        }
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        match self {
            Self::Rms(norm) | Self::RmsPlusOne(norm) => norm.visit_mut(visitor),
            Self::Layer(norm) => norm.visit_mut(visitor),
            Self::Absent => Ok(()),
        }
    }
}
