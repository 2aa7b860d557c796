//! The plainest projector: one linear layer, `[B, P, D_image] → [B, P, D_text]`.

use super::{Projection, layer};
use crate::Result;
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::nn::{Checkpoint, Linear};
use crate::vision::Positions;
use candle_core::Tensor;

/// One linear layer.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let config = ProjectorConfig { kind: ProjectorKind::Linear, input: 16, output: 32 };
/// let projector = Projector::new(config, 1, &Device::Cpu)?;
/// let hidden = Tensor::randn(0f32, 1.0, (1, 26, 16), &Device::Cpu)?;
/// assert_eq!(projector.forward(&hidden)?.dims(), [1, 26, 32]);
/// assert!(projector.get::<LinearProjector>().is_some_and(|own| own.fc1.output() == 32));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LinearProjector {
    /// `[D_image → D_text]`.
    pub fc1: Linear,
}

shown_by_facts!(LinearProjector);

impl LinearProjector {
    pub(super) fn load(weights: &Checkpoint, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            fc1: layer(weights, "fc1", input, output)?,
        })
    }

    fn facts(&self) -> Facts {
        Facts::new("LinearProjector").fact("fc1", format!("{:?}", self.fc1))
    }
}

impl Projection for LinearProjector {
    fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        self.fc1.forward(hidden_states) // [B, P, D_text]
    }

    fn input(&self) -> usize {
        self.fc1.input()
    }

    fn output(&self) -> usize {
        self.fc1.output()
    }

    fn positions(&self, encoder: Positions) -> Result<Option<Positions>> {
        Ok(Some(encoder))
    }
}

crate::parts!(LinearProjector { fc1 });
