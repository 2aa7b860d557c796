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
    /// `[D_image → D_text]`.
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
        Ok(Self {
            config,
            fc1: layer("fc1", input)?,
            fc2: match config.kind {
                ProjectorKind::Linear => None,
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
        let hidden = self.fc1.forward(hidden_states)?; // [B, P, D_text]
        match &self.fc2 {
            None => Ok(hidden),
            Some(fc2) => fc2.forward(&gelu(&hidden)?), // [B, P, D_text]
        }
    }
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
