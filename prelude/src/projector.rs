//! The projector: the image encoder's hidden states → vectors that the language model takes for tokens.
//!
//! `[B, P, D_image] → [B, P, D_text]`. [`ProjectorKind`] names the forms there are.

use crate::nn::{Checkpoint, Init, Linear, Network, Part, PartMut, gelu};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

/// The form of a projector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectorKind {
    /// One linear layer, `fc1`.
    Linear,
    /// `fc1` → GELU → `fc2`: the blog's and LLaVA's.
    #[default]
    Mlp2xGelu,
    /// Each square of `factor` × `factor` patches side by side as one token, then one linear layer, `fc1`: fewer, wider
    /// tokens. A class token in front is left out.
    PixelShuffle {
        /// Side of the square; divides the side of the patch grid.
        factor: usize,
    },
}

/// Form and widths of a projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectorConfig {
    /// Its form.
    pub kind: ProjectorKind,
    /// Width of the image encoder's hidden states.
    pub input: usize,
    /// Width of the language model's embeddings.
    pub output: usize,
}

/// Maps image features into the language model's embedding space. Cheap to clone; clones share their weights.
#[derive(Clone, Debug)]
pub struct Projector {
    /// Form and widths.
    pub config: ProjectorConfig,
    /// `[D_image → D_text]`; for [`ProjectorKind::PixelShuffle`] `[factor² · D_image → D_text]`.
    pub fc1: Linear,
    /// `[D_text → D_text]`, for [`ProjectorKind::Mlp2xGelu`].
    pub fc2: Option<Linear>,
}

impl Projector {
    /// A trainable projector with freshly drawn weights (uniform in ±1/√in, as torch draws linear layers).
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn new(config: ProjectorConfig, seed: u64, device: &Device) -> Result<Self> {
        let mut projector =
            Self::from_checkpoint(config, &Checkpoint::random(seed, DType::F32, device))?;
        projector.set_trainable(true)?;
        Ok(projector)
    }

    /// A frozen projector from weights named `fc1.weight`, `fc1.bias`, `fc2.weight`, `fc2.bias`.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn from_checkpoint(config: ProjectorConfig, weights: &Checkpoint) -> Result<Self> {
        let (input, output) = (config.input, config.output);
        let layer = |name: &str, input: usize| {
            let init = Init::Uniform(1.0 / (input as f64).sqrt());
            Linear::load_with(weights, name, (input, output), true, init)
        };
        let squares = match config.kind {
            ProjectorKind::PixelShuffle { factor: 0 } => {
                return Err(Error::Config(
                    "the pixel-shuffle factor must be at least 1".into(),
                ));
            }
            ProjectorKind::PixelShuffle { factor } => factor * factor,
            _ => 1,
        };
        Ok(Self {
            config,
            fc1: layer("fc1", squares * input)?,
            fc2: match config.kind {
                ProjectorKind::Linear | ProjectorKind::PixelShuffle { .. } => None,
                ProjectorKind::Mlp2xGelu => Some(layer("fc2", output)?),
            },
        })
    }

    /// `[B, P, D_image] → [B, P, D_text]`.
    ///
    /// # Errors
    /// When the hidden states have another width.
    pub fn forward(&self, hidden_states: &Tensor) -> Result<Tensor> {
        let found = hidden_states.dim(candle_core::D::Minus1)?;
        if found != self.config.input {
            return Err(Error::Input(format!(
                "the projector takes hidden states of width {}, the image encoder gives {found}",
                self.config.input
            )));
        }
        let hidden_states = match self.config.kind {
            ProjectorKind::PixelShuffle { factor } => &pixel_shuffle(hidden_states, factor)?, // [B, P / f², f²·D_image]
            _ => hidden_states,
        };
        let hidden = self.fc1.forward(hidden_states)?; // [B, P, D_text]
        match &self.fc2 {
            None => Ok(hidden),
            Some(fc2) => fc2.forward(&gelu(&hidden)?), // [B, P, D_text]
        }
    }
}

/// Squares of patches side by side: `[B, (1 +) g·g, D] → [B, (g/f)·(g/f), f²·D]`.
fn pixel_shuffle(hidden_states: &Tensor, factor: usize) -> Result<Tensor> {
    let (batch, positions, width) = hidden_states.dims3()?;
    let side = positions.isqrt();
    // One position more than a square: a class token, whose place is in front.
    let class = usize::from(side * side != positions);
    let side = (positions - class.min(positions)).isqrt();
    if side * side + class != positions || !side.is_multiple_of(factor) {
        return Err(Error::Input(format!(
            "{positions} positions are no square grid (with or without a class token) whose side {factor} divides"
        )));
    }
    let cells = side / factor;
    Ok(hidden_states
        .narrow(1, class, side * side)? // [B, g·g, D]
        .contiguous()?
        .reshape(&[batch, cells, factor, cells, factor, width][..])?
        .permute([0, 1, 3, 2, 4, 5])? // [B, g/f, g/f, f, f, D]
        .reshape((batch, cells * cells, factor * factor * width))?)
}

impl Network for Projector {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part::Linear(&self.fc1));
        if let Some(fc2) = &self.fc2 {
            visitor(Part::Linear(fc2));
        }
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        visitor(PartMut::Linear(&mut self.fc1))?;
        self.fc2
            .as_mut()
            .map_or(Ok(()), |fc2| visitor(PartMut::Linear(fc2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projector(kind: ProjectorKind) -> Result<Projector> {
        Projector::new(
            ProjectorConfig {
                kind,
                input: 4,
                output: 6,
            },
            1,
            &Device::Cpu,
        )
    }

    #[test]
    fn kinds_give_the_language_models_width() -> Result<()> {
        let hidden = Tensor::ones((2, 17, 4), DType::F32, &Device::Cpu)?;
        assert_eq!(
            projector(ProjectorKind::Linear)?.forward(&hidden)?.dims(),
            [2, 17, 6]
        );
        assert_eq!(
            projector(ProjectorKind::Mlp2xGelu)?
                .forward(&hidden)?
                .dims(),
            [2, 17, 6]
        );
        let shuffled = projector(ProjectorKind::PixelShuffle { factor: 2 })?;
        assert_eq!(shuffled.forward(&hidden)?.dims(), [2, 4, 6]);
        assert_eq!(
            shuffled.forward(&hidden.narrow(1, 0, 16)?)?.dims(),
            [2, 4, 6]
        );
        assert!(matches!(
            shuffled.forward(&hidden.narrow(1, 0, 15)?),
            Err(Error::Input(_))
        ));
        assert!(
            projector(ProjectorKind::PixelShuffle { factor: 3 })?
                .forward(&hidden)
                .is_err()
        );
        assert!(projector(ProjectorKind::PixelShuffle { factor: 0 }).is_err());
        assert!(
            projector(ProjectorKind::Linear)?
                .forward(&hidden.narrow(2, 0, 3)?)
                .is_err()
        );
        Ok(())
    }

    #[test]
    fn pixel_shuffle_puts_neighbours_together() -> Result<()> {
        // A class token, then a 4×4 grid of patches numbered row by row.
        let numbers: Vec<f32> = std::iter::once(-1.0)
            .chain((0..16).map(|i| i as f32))
            .collect();
        let hidden = Tensor::from_vec(numbers, (1, 17, 1), &Device::Cpu)?;
        let shuffled = pixel_shuffle(&hidden, 2)?.squeeze(0)?.to_vec2::<f32>()?;
        assert_eq!(shuffled[0], [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(shuffled[3], [10.0, 11.0, 14.0, 15.0]);
        Ok(())
    }
}
