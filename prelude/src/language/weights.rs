//! The weights of a decoder as a file of the model has them: Hugging Face's names, new tokens' rows in their tables, and LoRA
//! added in where that is wanted.
//!
//! ```text
//! Decoder ─ saved_weights ─▶ name, shape ─ values, one tensor at a time ─▶ safetensors, GGUF
//! ```

use super::Decoder;
use super::decoder::ROWS;
use crate::Result;
use crate::nn::{
    BlockType, Blocks, Linear, Network, Part, Role, TokenRows, Weight, copied, shared,
};
use candle_core::{DType, Device, Tensor};

/// A weight as a file has it; its values are made when they are asked for, so that never more than one is there twice.
pub(crate) struct SavedWeight {
    /// Hugging Face's name.
    pub name: String,
    /// Of the values.
    pub shape: Vec<usize>,
    weight: Weight,
    /// The layer, where its LoRA is added in.
    adapted: Option<Linear>,
    /// Rows that take the place of some of a table's, or follow it.
    rows: Option<TokenRows>,
}

impl SavedWeight {
    fn new(weight: &Weight, rows: &[&TokenRows]) -> Self {
        let name = weight.name().to_string();
        let of = name.rsplit_once('.').map_or(name.as_str(), |(of, _)| of);
        let own = rows
            .iter()
            .find(|rows| rows.weight.name() == format!("{of}{ROWS}"));
        let mut shape = weight.tensor().dims().to_vec();
        if let Some(rows) = own {
            shape[0] = rows.vocabulary(shape[0]);
        }
        Self {
            shape,
            weight: shared(weight),
            adapted: None,
            rows: own.map(|rows| shared(*rows)),
            name,
        }
    }

    /// The blocks that hold the values, where they are those that a file has.
    pub fn blocks(&self) -> Option<&Blocks> {
        let as_they_are = self.adapted.is_none() && self.rows.is_none();
        self.weight.blocks().filter(|_| as_they_are)
    }

    /// What its values are held in now, in the file or not.
    pub fn held(&self) -> Option<BlockType> {
        self.weight.blocks().map(Blocks::kind)
    }

    /// The values, in the model's dtype.
    ///
    /// # Errors
    /// When a tensor operation fails, or there is no memory for it.
    pub fn values(&self) -> Result<Tensor> {
        let tensor = match &self.adapted {
            None => self.weight.values()?,
            Some(linear) => {
                let mut own = copied(linear)?;
                own.weight.dequantize()?;
                own.merge_lora()?;
                own.weight.tensor().detach() // [out, in]
            }
        };
        match &self.rows {
            None => Ok(tensor),
            // New tokens have no bias.
            Some(rows) if tensor.rank() == 1 => {
                let none = Tensor::zeros((rows.ids().len(), 1), DType::F32, &Device::Cpu)?; // [n, 1]
                let none = TokenRows::new("bias", rows.ids(), &none, tensor.dim(0)?)?;
                Ok(none.in_table(&tensor.unsqueeze(1)?)?.squeeze(1)?) // [V]
            }
            Some(rows) => rows.in_table(&tensor), // [V, D]
        }
    }
}

impl Decoder {
    /// Every weight that a file of the model holds, in the order of the forward pass. Without `lora` the weights are those
    /// underneath it (with it in layers whose LoRA is merged at the moment).
    pub(crate) fn saved_weights(&self, lora: bool) -> Vec<SavedWeight> {
        let rows = self.token_rows();
        let mut found = Vec::new();
        self.visit(&mut |part| match part {
            Part::Weight(weight) if weight.role() == Role::NewRows => {}
            Part::Weight(weight) => found.push(SavedWeight::new(weight, &rows)),
            Part::Linear(linear) => {
                let adapted = lora && linear.lora.is_some() && !linear.is_merged();
                found.push(SavedWeight {
                    adapted: adapted.then(|| shared(linear)),
                    ..SavedWeight::new(&linear.weight, &rows)
                });
                let bias = linear.bias.as_ref();
                found.extend(bias.map(|bias| SavedWeight::new(bias, &rows)));
            }
        });
        found
    }
}
