//! Which model a trainer was begun with, so that another one is refused: the record of steps and the optimizer's state
//! belong to the first.
//!
//! A model is known by its tensors. One whose parts were frozen and unfrozen in between has new variables of equal values,
//! and the rest of its tensors as they were; a clone shares all of them.

use std::collections::HashSet;

use candle_core::{DType, Tensor, TensorId};

use crate::nn::Parameter;
use crate::vlm::Vlm;
use crate::{Error, Result};

/// The model of a trainer that has begun.
pub(super) struct Begun {
    tensors: HashSet<TensorId>,
    trained: Vec<Parameter>,
}

impl Begun {
    pub(super) fn with(vlm: &Vlm) -> Self {
        Self {
            tensors: tensors(vlm).collect(),
            trained: vlm.trainable_parameters(),
        }
    }

    /// Refuses another model than the one of the beginning.
    pub(super) fn check(&self, vlm: &Vlm) -> Result<()> {
        if !tensors(vlm).any(|tensor| self.tensors.contains(&tensor)) {
            return Err(another("no weight of this model"));
        }
        let now = vlm.named_parameters();
        for old in &self.trained {
            let Some(new) = now.iter().find(|new| new.name == old.name) else {
                continue;
            };
            if new.tensor.id() != old.tensor.id() && !equal(&new.tensor, &old.tensor)? {
                return Err(another(&format!("another {}", old.name)));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Begun({} tensors trained)", self.trained.len())
    }
}

fn tensors(vlm: &Vlm) -> impl Iterator<Item = TensorId> {
    vlm.named_parameters()
        .into_iter()
        .map(|parameter| parameter.tensor.id())
}

fn equal(one: &Tensor, other: &Tensor) -> Result<bool> {
    if one.dims() != other.dims() {
        return Ok(false);
    }
    let flat = |tensor: &Tensor| tensor.detach().flatten_all()?.to_dtype(DType::F32);
    let same = flat(one)?.eq(&flat(other)?)?; // [N]
    Ok(same.to_dtype(DType::F32)?.min(0)?.to_scalar::<f32>()? == 1.0)
}

fn another(what: &str) -> Error {
    Error::Config(format!(
        "this trainer was begun with another model, which had {what}: go on with that one, or train this one with a new \
         Trainer"
    ))
}
