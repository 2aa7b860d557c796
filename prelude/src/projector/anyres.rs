//! LLaVA-OneVision's projector: [`Mlp2x`] on each tile of a picture, then the tiles as one sequence, with a learned vector behind each
//! row of patches.
//!
//! ```text
//! tiles [N, P, D_image] ─ fc1 → GELU → fc2 ─► [N, P, D_text] ─ join: whole │ row, newline │ row, newline … ─► [T, D_text]
//! ```

use super::{Mlp2x, Projection};
use crate::Result;
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::nn::{Checkpoint, Init, Weight, show};
use crate::vision::{Positions, Tiles};
use candle_core::Tensor;

/// Two linear layers and what puts tiles together.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// // LLaVA-OneVision's, with an MLP of this model's widths and a vector that ends each row.
/// let device = Device::Cpu;
/// let vlm = Vlm::tiny(&device)?;
/// let image_newline = Weight::frozen("image_newline", Tensor::zeros(128, DType::F32, &device)?);
/// let own = AnyresMlp { mlp: vlm.projector.mlp()?.clone(), image_newline, most: Some(9) };
/// let hidden = Tensor::zeros((1, 26, 96), DType::F32, &device)?; // class token and 25 patches
/// assert_eq!(own.project(&hidden)?.dims(), [1, 26, 128]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AnyresMlp {
    /// On each tile.
    pub mlp: Mlp2x,
    /// Behind each row of patches, `[D_text]`.
    pub image_newline: Weight,
    /// A grid of more patches than this many tiles have is shrunk: 9 in "anyres_max_9".
    pub most: Option<usize>,
}

shown_by_facts!(AnyresMlp);

impl AnyresMlp {
    /// From the weights of [`Mlp2x`], and `image_newline`.
    pub(crate) fn read(weights: &Checkpoint, mlp: Mlp2x, most: Option<usize>) -> Result<Self> {
        let width = mlp.fc2.output();
        Ok(Self {
            image_newline: weights.weight("image_newline", &[width], Init::Normal(0.02))?,
            mlp,
            most,
        })
    }

    fn facts(&self) -> Facts {
        Facts::new("AnyresMlp")
            .fact("mlp", format!("{:?}", self.mlp))
            .fact("image_newline", show::shape(self.image_newline.tensor()))
            .fact_if("tiles at most", self.most)
    }
}

impl Projection for AnyresMlp {
    fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        self.mlp.project(hidden_states) // [N, P, D_text]
    }

    fn input(&self) -> usize {
        self.mlp.input()
    }

    fn output(&self) -> usize {
        self.mlp.output()
    }

    fn positions(&self, encoder: Positions) -> Result<Option<Positions>> {
        self.mlp.positions(encoder)
    }

    fn join(&self, tokens: &Tensor, tiles: &Tiles) -> Result<Tensor> {
        tiles.packed(tokens, Some(self.image_newline.tensor()), self.most) // [T, D_text]
    }
}

crate::parts!(AnyresMlp { mlp, image_newline });
