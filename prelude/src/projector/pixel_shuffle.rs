//! Pixel shuffle: squares of patches side by side as one wide token, then a linear layer, or LayerNorm and two.
//!
//! ```text
//! [B, (1 +) g·g, D] ─► [B, (g/f)·(g/f), f²·D] ─ fc1 ─► [B, (g/f)², D_text]                     Idefics3, SmolVLM
//!                                             └ norm ─ fc1 ─ GELU ─ fc2 ─► [B, (g/f)², D_text]  InternVL
//! ```

use super::{Projection, layer, squares};
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::nn::{Checkpoint, LayerNorm, Linear, gelu};
use crate::vision::Positions;
use crate::{Error, Result};
use candle_core::Tensor;

/// torch's default.
const EPS: f64 = 1e-5;

/// Fewer, wider tokens.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let config = ProjectorConfig { kind: ProjectorKind::PixelShuffle { factor: 3 }, input: 16, output: 32 };
/// let projector = Projector::new(config, 1, &device)?;
/// let hidden = Tensor::randn(0f32, 1.0, (1, 36, 16), &device)?; // 6 × 6 patches
/// assert_eq!(projector.forward(&hidden)?.dims(), [1, 4, 32]); // a token for each 3 × 3 of them
/// let own = projector.get::<PixelShuffle>();
/// assert_eq!(own.map(|own| own.fc1.input()), Some(3 * 3 * 16)); // nine patches side by side
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PixelShuffle {
    /// f, the side of a square.
    pub factor: usize,
    /// D_image.
    pub(super) input: usize,
    /// On the wide tokens, `[f²·D_image]`.
    pub norm: Option<LayerNorm>,
    /// `[f²·D_image → D_text]`.
    pub fc1: Linear,
    /// `[D_text → D_text]`, behind a GELU.
    pub fc2: Option<Linear>,
}

shown_by_facts!(PixelShuffle);

impl PixelShuffle {
    /// Squares, then `fc1`.
    pub(super) fn load(
        weights: &Checkpoint,
        factor: usize,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        if factor == 0 {
            return Err(Error::Config(
                "the pixel-shuffle factor must be at least 1".into(),
            ));
        }
        Ok(Self {
            factor,
            input,
            norm: None,
            fc1: layer(weights, "fc1", factor * factor * input, output)?,
            fc2: None,
        })
    }

    /// Squares, then `fc1`, of a published model, which has its own choice of biases.
    pub(crate) fn read(
        weights: &Checkpoint,
        factor: usize,
        input: usize,
        output: usize,
        bias: bool,
    ) -> Result<Self> {
        Ok(Self {
            factor,
            input,
            norm: None,
            fc1: Linear::load(weights, "fc1", (factor * factor * input, output), bias)?,
            fc2: None,
        })
    }

    /// Squares, then `norm`, `fc1`, GELU and `fc2`.
    pub(super) fn load_mlp(
        weights: &Checkpoint,
        factor: usize,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let plain = Self::load(weights, factor, input, output)?;
        Ok(Self {
            norm: Some(LayerNorm::load(
                weights,
                "norm",
                factor * factor * input,
                EPS,
            )?),
            fc2: Some(layer(weights, "fc2", output, output)?),
            ..plain
        })
    }

    fn facts(&self) -> Facts {
        Facts::new("PixelShuffle")
            .fact("factor", self.factor)
            .fact(
                "norm",
                if self.norm.is_some() {
                    "LayerNorm"
                } else {
                    "none"
                },
            )
            .fact("fc1", format!("{:?}", self.fc1))
            .fact_if("fc2", self.fc2.as_ref().map(|fc2| format!("{fc2:?}")))
    }
}

impl Projection for PixelShuffle {
    fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        let mut wide = pixel_shuffle(hidden_states, self.factor)?; // [B, P / f², f²·D_image]
        if let Some(norm) = &self.norm {
            wide = norm.forward(&wide)?;
        }
        let hidden = self.fc1.forward(&wide)?; // [B, P / f², D_text]
        match &self.fc2 {
            None => Ok(hidden),
            Some(fc2) => fc2.forward(&gelu(&hidden)?),
        }
    }

    fn input(&self) -> usize {
        self.input
    }

    fn output(&self) -> usize {
        self.fc1.output()
    }

    fn positions(&self, encoder: Positions) -> Result<Option<Positions>> {
        squares(encoder, self.factor, "pixel shuffle")
    }
}

/// Squares of patches side by side: `[B, (1 +) g·g, D] → [B, (g/f)·(g/f), f²·D]`.
pub(super) fn pixel_shuffle(hidden_states: &Tensor, factor: usize) -> Result<Tensor> {
    let (batch, positions, width) = hidden_states.dims3()?;
    let side = positions.isqrt();
    // One position more than a square: a class token, whose place is in front.
    let class = usize::from(side * side != positions);
    let side = (positions - class.min(positions)).isqrt();
    if factor == 0 || side * side + class != positions || !side.is_multiple_of(factor) {
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

crate::parts!(PixelShuffle { norm, fc1, fc2 });
