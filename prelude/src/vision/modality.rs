//! What an encoder must offer so that its positions can stand in a language model's sequence.
//!
//! input as numbers → [`Modality::encode`] → `[B, P, D]` → projector. A new tower, or an encoder of something other than
//! pictures, is one file that implements this trait.

use candle_core::Tensor;

use crate::Result;
use crate::display::MimeBundle;
use crate::nn::Network;

/// An encoder whose output positions become tokens of the language model.
pub trait Modality: Network + std::fmt::Debug + Send + Sync {
    /// Encodes a batch of prepared inputs: `[B, ..] → [B, P, D]`.
    ///
    /// # Errors
    /// When the input has another shape than the encoder takes.
    fn encode(&self, input: &Tensor) -> Result<Tensor>;

    /// D, the width of a position.
    fn dim(&self) -> usize;

    /// How the P positions of one input lie.
    fn positions(&self) -> Positions;

    /// One prepared input `[1, ..]` as a person would look at it.
    ///
    /// # Errors
    /// When the input has another shape than the encoder takes.
    fn render_input(&self, input: &Tensor) -> Result<MimeBundle>;
}

/// The order of an encoder's positions: special ones first, then the grid row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Positions that belong to no place, such as the class token.
    pub special: usize,
    /// Rows of the grid; 1 for a sequence.
    pub rows: usize,
    /// Columns of the grid.
    pub columns: usize,
}

impl Positions {
    /// P.
    pub fn count(&self) -> usize {
        self.special + self.rows * self.columns
    }

    /// A short name of a position: `CLS`, then `row,column` from 0.
    pub fn label(&self, position: usize) -> String {
        match position.checked_sub(self.special) {
            None if self.special == 1 => "CLS".into(),
            None => format!("special {position}"),
            Some(place) => format!(
                "{},{}",
                place / self.columns.max(1),
                place % self.columns.max(1)
            ),
        }
    }
}
