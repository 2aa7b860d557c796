//! The blog's and LLaVA's projector: `fc1` → GELU → `fc2`, `[B, P, D_image] → [B, P, D_text]`. LLaVA leaves the class token out
//! before it.

use super::{Projection, layer};
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::nn::{Activation, Checkpoint, Linear};
use crate::vision::Positions;
use crate::{Error, Result};
use candle_core::Tensor;

/// Two linear layers with a bend between them.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let mlp = vlm.projector.mlp()?; // what leads from the image encoder into the language model
/// assert_eq!((mlp.fc1.input(), mlp.fc1.output(), mlp.fc2.output()), (96, 128, 128));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Mlp2x {
    /// `[D_image → D_text]`.
    pub fc1: Linear,
    /// `[D_text → D_text]`.
    pub fc2: Linear,
    /// Between them: GELU in the blog's.
    pub activation: Activation,
    /// Positions in front that it leaves out, such as a class token: none in the blog's.
    pub left_out: usize,
}

shown_by_facts!(Mlp2x);

impl Mlp2x {
    pub(super) fn load(weights: &Checkpoint, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            fc1: layer(weights, "fc1", input, output)?,
            fc2: layer(weights, "fc2", output, output)?,
            activation: Activation::Gelu,
            left_out: 0,
        })
    }

    /// One of a published model, which has its own choice of biases and bend.
    pub(crate) fn read(
        weights: &Checkpoint,
        (input, output): (usize, usize),
        bias: bool,
        activation: Activation,
        left_out: usize,
    ) -> Result<Self> {
        Ok(Self {
            fc1: Linear::load(weights, "fc1", (input, output), bias)?,
            fc2: Linear::load(weights, "fc2", (output, output), bias)?,
            activation,
            left_out,
        })
    }

    fn facts(&self) -> Facts {
        Facts::new("Mlp2x")
            .fact("fc1", format!("{:?}", self.fc1))
            .fact("fc2", format!("{:?}", self.fc2))
            .fact("between them", format!("{:?}", self.activation))
            .fact_if(
                "left out before it",
                (self.left_out > 0).then(|| format!("{} positions in front", self.left_out)),
            )
    }
}

impl Projection for Mlp2x {
    fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        let kept = match self.left_out {
            0 => hidden_states.clone(),
            out => {
                let positions = hidden_states.dim(1)?;
                let kept = positions.checked_sub(out).filter(|kept| *kept > 0);
                let kept = kept.ok_or_else(|| {
                    Error::Input(format!(
                        "the projector leaves out {out} positions in front, the hidden states have {positions}"
                    ))
                })?;
                hidden_states.narrow(1, out, kept)? // [B, P - left out, D_image]
            }
        };
        let hidden = self.fc1.forward(&kept)?; // [B, P, D_text]
        self.fc2.forward(&self.activation.forward(&hidden)?) // [B, P, D_text]
    }

    fn input(&self) -> usize {
        self.fc1.input()
    }

    fn output(&self) -> usize {
        self.fc2.output()
    }

    fn positions(&self, encoder: Positions) -> Result<Option<Positions>> {
        // Without its first patch a grid is none.
        if self.left_out > encoder.special {
            return Ok(None);
        }
        Ok(Some(Positions {
            special: encoder.special - self.left_out,
            ..encoder
        }))
    }
}

crate::parts!(Mlp2x { fc1, fc2 });
