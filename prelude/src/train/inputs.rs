//! The examples of one sitting: positions → prepared examples, kept as many as fit; what can't be read is left out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::order::Order;
use super::set::{Example, TrainingSet};
use super::unreadable::LeftOut;
use crate::vlm::Vlm;
use crate::{Error, Result};

/// Memory for prepared examples.
const CACHE_BYTES: usize = 512 << 20;

/// Reads a training set.
pub(super) struct Inputs<'a> {
    vlm: &'a Vlm,
    set: &'a dyn TrainingSet,
    order: Order,
    /// Part of the set that may be unreadable.
    max_unreadable: f64,
    /// Positions that could not be read in this sitting.
    unreadable: HashSet<usize>,
    examples: HashMap<usize, Arc<Example>>,
    bytes: usize,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(
        vlm: &'a Vlm,
        set: &'a dyn TrainingSet,
        order: Order,
        max_unreadable: f64,
    ) -> Self {
        Self {
            vlm,
            set,
            order,
            max_unreadable,
            unreadable: HashSet::new(),
            examples: HashMap::new(),
            bytes: 0,
        }
    }

    /// The example at `slot` of a step's batch, with its position. In the place of one that can't be read stands the next
    /// of the epoch's order that can, so that the same seed and the same files give the same steps.
    pub(super) fn pick(
        &mut self,
        (step, slot): (usize, usize),
        left_out: &mut LeftOut,
    ) -> Result<(usize, Arc<Example>)> {
        for later in 0..self.set.len() {
            let position = self.order.pick(step, slot, later);
            if self.unreadable.contains(&position) {
                continue;
            }
            match self.read(position) {
                Ok(example) => return Ok((position, example)),
                Err(error) => {
                    let limits = (self.max_unreadable, self.set.len());
                    left_out.add((false, position), error, limits)?;
                    self.unreadable.insert(position);
                }
            }
        }
        Err(Error::Input(
            "no training example can be read any more: see which were left out".into(),
        ))
    }

    fn read(&mut self, position: usize) -> Result<Arc<Example>> {
        if let Some(example) = self.examples.get(&position) {
            return Ok(example.clone());
        }
        let example = Arc::new(self.set.example(self.vlm, position)?);
        let bytes = example.input.elem_count() * example.input.dtype().size_in_bytes();
        if self.bytes + bytes <= CACHE_BYTES {
            self.bytes += bytes;
            self.examples.insert(position, example.clone());
        }
        Ok(example)
    }
}
