//! Token embedding: rows of a table by id.

use super::blocks::BlockType;
use super::checkpoint::{Checkpoint, Init};
use super::parameter::Weight;
use super::rows::TokenRows;
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// A table `[V, D]`; the gradient reaches only the rows that were looked up, when trainable.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::Embedding;
///
/// # fn main() -> Result<()> {
/// let weights = Checkpoint::random(1, DType::F32, &Device::Cpu);
/// let embedding = Embedding::load(&weights, "embed_tokens", 100, 16, Init::Normal(0.02))?;
/// let ids = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?;
/// assert_eq!(embedding.forward(&ids)?.dims(), [1, 3, 16]); // a row of the table for each token
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Embedding {
    /// The table, `[V, D]`.
    pub weight: Weight,
    /// Rows of new tokens, which take the place of the table's.
    pub rows: Option<TokenRows>,
}

impl Embedding {
    /// Reads `{name}.weight`, `[vocabulary, dim]`.
    ///
    /// # Errors
    /// When the tensor is missing or has another shape.
    pub fn load(
        checkpoint: &Checkpoint,
        name: &str,
        vocabulary: usize,
        dim: usize,
        init: Init,
    ) -> Result<Self> {
        Ok(Self {
            weight: checkpoint.table(&format!("{name}.weight"), &[vocabulary, dim], init)?,
            rows: None,
        })
    }

    /// Holds the table in blocks, rounded, and lets go of the floats: rows become floats as they are looked up. New rows stay as they are.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// vlm.llm.embed_tokens.quantize(BlockType::Q8_0)?; // where the table is the head too, the head computes with it
    /// assert!(vlm.llm.embed_ids(&[5, 6])?.sum_all()?.to_scalar::<f32>()?.is_finite());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` for a table that trains, has blocks of another type, is on a GPU, or has rows that the blocks do not divide.
    pub fn quantize(&mut self, kind: BlockType) -> Result<()> {
        self.weight.quantize(kind)
    }

    /// ids `[..]` of an integer dtype → `[.., D]`.
    ///
    /// # Errors
    /// When an id is not below V, naming it.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let table = self.weight.tensor();
        let (vocabulary, dim) = table.dims2()?;
        let vocabulary = self
            .rows
            .as_ref()
            .map_or(vocabulary, |rows| rows.vocabulary(vocabulary));
        let flat = ids.flatten_all()?.to_dtype(DType::I64)?; // [N]
        let list = flat.to_vec1::<i64>()?;
        if let Some(bad) = list.iter().find(|&&id| id < 0 || id as usize >= vocabulary) {
            return Err(Error::Input(format!(
                "token id {bad} is outside the vocabulary of {vocabulary}: was it made by another tokenizer?"
            )));
        }
        let rows = match &self.rows {
            None => self.weight.rows(&flat)?, // [N, D]
            Some(rows) => {
                let list: Vec<u32> = list.into_iter().map(|id| id as u32).collect();
                rows.look_up(&self.weight, &list)? // [N, D]
            }
        };
        let mut dims = ids.dims().to_vec();
        dims.push(dim);
        Ok(rows.reshape(dims)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{check_gradient, random};

    #[test]
    fn only_looked_up_rows_get_a_gradient() -> Result<()> {
        let table = random(&[6, 3], 1.0, 1);
        let ids = Tensor::new(&[[1u32, 4], [4, 0]], table.device())?;
        let lookup = |t: &Tensor| {
            Embedding {
                weight: Weight::frozen("e", t.clone()),
                rows: None,
            }
            .forward(&ids)
        };
        let one_hot = |t: &Tensor| -> Result<Tensor> {
            let mut hot = vec![0f32; 4 * 6];
            for (row, id) in [1, 4, 4, 0].into_iter().enumerate() {
                hot[row * 6 + id] = 1.0;
            }
            Ok(Tensor::from_vec(hot, (4, 6), t.device())?
                .matmul(t)?
                .reshape((2, 2, 3))?)
        };
        check_gradient(&[table], |a| lookup(&a[0]), |a| one_hot(&a[0]), 1e-6)
    }

    #[test]
    fn an_id_outside_the_table_is_an_error() -> Result<()> {
        let table = Embedding {
            weight: Weight::frozen("e", random(&[6, 3], 1.0, 1)),
            rows: None,
        };
        let ids = Tensor::new(&[6u32], table.weight.tensor().device())?;
        assert!(matches!(table.forward(&ids), Err(Error::Input(_))));
        Ok(())
    }
}
