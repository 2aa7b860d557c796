//! Average pool: the mean of each square of patches as one token, then a linear layer.
//!
//! `[B, (1 +) g·g, D_image] → [B, (g/f)·(g/f), D_image] → [B, (g/f)², D_text]`

use super::pixel_shuffle::pixel_shuffle;
use super::{Projection, layer, squares};
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::nn::{Checkpoint, Linear};
use crate::vision::Positions;
use crate::{Error, Result};
use candle_core::Tensor;

/// Fewer tokens of the same width.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let config = ProjectorConfig { kind: ProjectorKind::AveragePool { factor: 2 }, input: 16, output: 32 };
/// let projector = Projector::new(config, 1, &device)?;
/// let hidden = Tensor::randn(0f32, 1.0, (1, 36, 16), &device)?; // 6 × 6 patches
/// assert_eq!(projector.forward(&hidden)?.dims(), [1, 9, 32]); // a token for each 2 × 2 of them
/// assert_eq!(projector.get::<AveragePool>().map(|pool| pool.factor), Some(2));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AveragePool {
    /// f, the side of a square.
    pub factor: usize,
    /// `[D_image → D_text]`.
    pub fc1: Linear,
}

shown_by_facts!(AveragePool);

impl AveragePool {
    pub(super) fn load(
        weights: &Checkpoint,
        factor: usize,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        if factor == 0 {
            return Err(Error::Config(
                "the average pool's factor must be at least 1".into(),
            ));
        }
        Ok(Self {
            factor,
            fc1: layer(weights, "fc1", input, output)?,
        })
    }

    fn facts(&self) -> Facts {
        Facts::new("AveragePool")
            .fact("factor", self.factor)
            .fact("fc1", format!("{:?}", self.fc1))
    }
}

/// The mean of each square: `[B, (1 +) g·g, D] → [B, (g/f)·(g/f), D]`.
pub(super) fn pooled(hidden_states: &Tensor, factor: usize) -> Result<Tensor> {
    let wide = pixel_shuffle(hidden_states, factor)?; // [B, N, f²·D]
    let (batch, tokens, width) = wide.dims3()?;
    let patches = factor * factor;
    Ok(wide
        .reshape((batch, tokens, patches, width / patches))?
        .mean(2)?) // [B, N, D]
}

impl Projection for AveragePool {
    fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        self.fc1.forward(&pooled(hidden_states, self.factor)?) // [B, P / f², D_text]
    }

    fn input(&self) -> usize {
        self.fc1.input()
    }

    fn output(&self) -> usize {
        self.fc1.output()
    }

    fn positions(&self, encoder: Positions) -> Result<Option<Positions>> {
        squares(encoder, self.factor, "average pool")
    }
}

crate::parts!(AveragePool { fc1 });
