//! Token embedding: rows of a table by id.

use super::checkpoint::{Checkpoint, Init};
use super::parameter::Weight;
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// A table `[V, D]`; the gradient reaches only the rows that were looked up, when trainable.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// The table, `[V, D]`.
    pub weight: Weight,
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
            weight: checkpoint.weight(&format!("{name}.weight"), &[vocabulary, dim], init)?,
        })
    }

    /// ids `[..]` of an integer dtype → `[.., D]`.
    ///
    /// # Errors
    /// When an id is not below V, naming it.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (vocabulary, dim) = self.weight.tensor().dims2()?;
        let flat = ids.flatten_all()?.to_dtype(DType::I64)?; // [N]
        if let Some(bad) = flat
            .to_vec1::<i64>()?
            .iter()
            .find(|&&id| id < 0 || id as usize >= vocabulary)
        {
            return Err(Error::Input(format!(
                "token id {bad} is outside the vocabulary of {vocabulary}: was it made by another tokenizer?"
            )));
        }
        let rows = self.weight.tensor().index_select(&flat, 0)?; // [N, D]
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
        };
        let ids = Tensor::new(&[6u32], table.weight.tensor().device())?;
        assert!(matches!(table.forward(&ids), Err(Error::Input(_))));
        Ok(())
    }
}
