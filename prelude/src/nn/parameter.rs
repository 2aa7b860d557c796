//! Weights and how to list, freeze and train them.
//!
//! A [`Weight`] is a tensor that knows its Hugging Face name and whether it trains. A [`Network`] is anything made of
//! [`Linear`] layers and further weights; implementing its two visitors gives parameter listing, freezing, LoRA and
//! saving for free.

use super::linear::Linear;
use super::lora::LoraConfig;
use crate::{Error, Result};
use candle_core::{Tensor, Var};
use std::cell::{Cell, RefCell};

/// A named weight: frozen, or trainable through a `Var`.
///
/// A clone of a trainable weight has values of its own: training one does not change the other. Frozen values never change in
/// place, so clones share their memory. [`shared`] makes clones that stay one: in a forward pass use that, or
/// [`Weight::tensor`], as the gradient of a clone is the clone's.
pub struct Weight {
    name: String,
    tensor: Tensor,
    var: Option<Var>,
}

/// How the clones of trainable weights that this thread makes come by their values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cloning {
    /// They get a copy.
    Copy,
    /// They share them.
    Share,
}

thread_local! {
    static CLONING: Cell<Cloning> = const { Cell::new(Cloning::Copy) };
    /// Why a copy could not be made, while [`copied`] runs.
    static FAILED: RefCell<Option<Option<Error>>> = const { RefCell::new(None) };
}

/// A clone of a model, or of anything made of weights, that shares all its values: training one trains the other.
pub fn shared<T: Clone>(model: &T) -> T {
    /// Also when a `clone` of the user's panics.
    struct Restore(Cloning);
    impl Drop for Restore {
        fn drop(&mut self) {
            CLONING.set(self.0);
        }
    }
    let _restore = Restore(CLONING.replace(Cloning::Share));
    model.clone()
}

/// A clone of a model, or of anything made of weights, whose trainable values are its own.
///
/// # Errors
/// When there is no memory for them, where `clone` would panic.
pub fn copied<T: Clone>(model: &T) -> Result<T> {
    FAILED.set(Some(None));
    let clone = model.clone();
    match FAILED.take().flatten() {
        Some(error) => Err(error),
        None => Ok(clone),
    }
}

/// Whether clones that are being made share what can change.
pub(super) fn sharing() -> bool {
    CLONING.get() == Cloning::Share
}

impl Clone for Weight {
    /// # Panics
    /// When there is no memory for the values of a trainable weight: [`copied`] gives the error instead.
    fn clone(&self) -> Self {
        let share = || Self {
            name: self.name.clone(),
            tensor: self.tensor.clone(),
            var: self.var.clone(),
        };
        if self.var.is_none() || sharing() {
            return share();
        }
        Self::trainable(self.name.clone(), &self.tensor.detach()).unwrap_or_else(|error| {
            FAILED.with_borrow_mut(|failed| match failed {
                Some(first) => {
                    first.get_or_insert(error);
                }
                None => panic!("{}: no memory for a copy: {error}", self.name),
            });
            share()
        })
    }
}

impl Weight {
    /// A weight that gets no gradient.
    pub fn frozen(name: impl Into<String>, tensor: Tensor) -> Self {
        Self {
            name: name.into(),
            tensor,
            var: None,
        }
    }

    /// A weight that an optimizer may change.
    ///
    /// # Errors
    /// When the tensor cannot be copied into a variable.
    pub fn trainable(name: impl Into<String>, tensor: &Tensor) -> Result<Self> {
        let mut weight = Self::frozen(name, tensor.clone());
        weight.set_trainable(true)?;
        Ok(weight)
    }

    /// Full name, as in the checkpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The values; tracked by the gradient when trainable.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The variable that an optimizer sets, when trainable.
    pub fn var(&self) -> Option<&Var> {
        self.var.as_ref()
    }

    /// Whether it gets a gradient.
    pub fn is_trainable(&self) -> bool {
        self.var.is_some()
    }

    /// Makes the weight trainable or frozen; the values stay. A weight that becomes trainable takes values of its own, so
    /// clones that were made before do not follow it.
    ///
    /// # Errors
    /// When the tensor cannot be copied into a variable.
    pub fn set_trainable(&mut self, trainable: bool) -> Result<()> {
        if trainable && self.var.is_none() {
            let var = Var::from_tensor(&self.tensor)?;
            self.tensor = var.as_tensor().clone();
            self.var = Some(var);
        } else if !trainable && self.var.take().is_some() {
            // A copy: whoever still holds the variable can go on changing it.
            self.tensor = self.tensor.detach().copy()?;
        }
        Ok(())
    }

    /// Replaces the values: in place for a trainable weight (an optimizer sees it, and what [`shared`] made), else only here.
    ///
    /// # Errors
    /// When the shape or dtype differs.
    pub fn set(&mut self, values: &Tensor) -> Result<()> {
        if values.dims() != self.tensor.dims() {
            return Err(Error::Input(format!(
                "{}: new values have shape {:?}, the weight has {:?}",
                self.name,
                values.dims(),
                self.tensor.dims()
            )));
        }
        let values = values
            .to_dtype(self.tensor.dtype())?
            .to_device(self.tensor.device())?;
        match &self.var {
            Some(var) => var.set(&values)?,
            None => self.tensor = values.detach(),
        }
        Ok(())
    }

    /// The entry of this weight in a parameter list.
    pub fn parameter(&self) -> Parameter {
        Parameter {
            name: self.name.clone(),
            tensor: self.tensor.clone(),
            var: self.var.clone(),
        }
    }
}

/// One entry of a model's parameter list. A view, not a copy: setting its variable changes the model.
#[derive(Clone)]
pub struct Parameter {
    /// Full Hugging Face or PEFT name.
    pub name: String,
    /// The values; shares memory with the model.
    pub tensor: Tensor,
    /// Set for a trainable parameter: what an optimizer updates.
    pub var: Option<Var>,
}

impl Parameter {
    /// Whether it gets a gradient.
    pub fn is_trainable(&self) -> bool {
        self.var.is_some()
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.tensor.elem_count()
    }

    /// The same entry under `{prefix}.{name}`.
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.name = format!("{prefix}.{}", self.name);
        self
    }
}

/// A piece of a model, as a visitor sees it.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// A linear layer, which may carry LoRA.
    Linear(&'a Linear),
    /// Any other weight: norms, embeddings, class token.
    Weight(&'a Weight),
}

/// A piece of a model, to be changed.
pub enum PartMut<'a> {
    /// A linear layer, which may carry LoRA.
    Linear(&'a mut Linear),
    /// Any other weight: norms, embeddings, class token.
    Weight(&'a mut Weight),
}

/// A model made of linear layers and further weights.
pub trait Network {
    /// Calls `visitor` on every part, in the order of the forward pass.
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>));

    /// As [`Network::visit`], for changing the parts; stops at the first error.
    ///
    /// # Errors
    /// The visitor's.
    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()>;

    /// Every parameter, in the order of the forward pass, LoRA after the layer that carries it.
    fn named_parameters(&self) -> Vec<Parameter> {
        let mut out = Vec::new();
        self.visit(&mut |part| match part {
            Part::Linear(linear) => out.extend(linear.parameters()),
            Part::Weight(weight) => out.push(weight.parameter()),
        });
        out
    }

    /// The parameters that train.
    fn trainable_parameters(&self) -> Vec<Parameter> {
        let mut parameters = self.named_parameters();
        parameters.retain(Parameter::is_trainable);
        parameters
    }

    /// Freezes or unfreezes every weight, LoRA included.
    ///
    /// # Errors
    /// When a weight cannot be copied into a variable.
    fn set_trainable(&mut self, trainable: bool) -> Result<()> {
        self.set_base_trainable(trainable)?;
        self.set_lora_trainable(trainable)
    }

    /// Freezes or unfreezes every weight of the base model; LoRA keeps its own state.
    ///
    /// # Errors
    /// When a weight cannot be copied into a variable.
    fn set_base_trainable(&mut self, trainable: bool) -> Result<()> {
        self.visit_mut(&mut |part| match part {
            PartMut::Linear(linear) => linear.set_base_trainable(trainable),
            PartMut::Weight(weight) => weight.set_trainable(trainable),
        })
    }

    /// Freezes or unfreezes the LoRA factors.
    ///
    /// # Errors
    /// When a factor cannot be copied into a variable.
    fn set_lora_trainable(&mut self, trainable: bool) -> Result<()> {
        self.visit_mut(&mut |part| match part {
            PartMut::Linear(linear) => linear
                .lora
                .as_mut()
                .map_or(Ok(()), |lora| lora.set_trainable(trainable)),
            PartMut::Weight(_) => Ok(()),
        })
    }

    /// Adds a fresh LoRA (A random, B zero, so that nothing changes yet) to every linear layer that `config` names.
    /// The base weights are not touched: freeze them with [`Network::set_base_trainable`]. Returns the number of layers.
    ///
    /// # Errors
    /// When no layer matches, naming the layers there are; when a layer has LoRA already.
    fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<usize> {
        config.validate()?;
        let mut added = 0;
        self.visit_mut(&mut |part| {
            if let PartMut::Linear(linear) = part
                && config.targets(linear.name())
            {
                linear.add_lora(config, seed)?;
                added += 1;
            }
            Ok(())
        })?;
        if added == 0 {
            let mut names: Vec<String> = Vec::new();
            self.visit(&mut |part| {
                if let Part::Linear(linear) = part {
                    let last = linear
                        .name()
                        .rsplit('.')
                        .next()
                        .unwrap_or_default()
                        .to_string();
                    if !names.contains(&last) {
                        names.push(last);
                    }
                }
            });
            return Err(Error::Input(format!(
                "no layer is named {}; this model's linear layers are {}",
                config.target_modules,
                names.join(", ")
            )));
        }
        Ok(added)
    }

    /// Takes LoRA off again; the base weights are as before.
    ///
    /// # Errors
    /// When a tensor operation fails.
    fn remove_lora(&mut self) -> Result<()> {
        self.visit_mut(&mut |part| {
            if let PartMut::Linear(linear) = part {
                if linear.is_merged() {
                    linear.unmerge_lora()?;
                }
                linear.lora = None;
            }
            Ok(())
        })
    }

    /// Adds every LoRA product into its base weight, for inference without the extra work.
    ///
    /// # Errors
    /// When a tensor operation fails.
    fn merge_lora(&mut self) -> Result<()> {
        self.visit_mut(&mut |part| match part {
            PartMut::Linear(linear) => linear.merge_lora(),
            PartMut::Weight(_) => Ok(()),
        })
    }

    /// Undoes [`Network::merge_lora`].
    ///
    /// # Errors
    /// When a tensor operation fails.
    fn unmerge_lora(&mut self) -> Result<()> {
        self.visit_mut(&mut |part| match part {
            PartMut::Linear(linear) => linear.unmerge_lora(),
            PartMut::Weight(_) => Ok(()),
        })
    }

    /// Switches LoRA dropout on (training) or off (everything else).
    fn set_training(&self, training: bool) {
        self.visit(&mut |part| {
            if let Part::Linear(linear) = part
                && let Some(lora) = &linear.lora
            {
                lora.set_training(training);
            }
        });
    }

    /// Has LoRA dropout draw again what it drew since training was last switched on: the step that it was for is not taken.
    fn take_back_draws(&self) {
        self.visit(&mut |part| {
            if let Part::Linear(linear) = part
                && let Some(lora) = &linear.lora
            {
                lora.take_back_draws();
            }
        });
    }

    /// The settings of the LoRA that the model carries, if any.
    fn lora_config(&self) -> Option<LoraConfig> {
        let mut config = None;
        self.visit(&mut |part| {
            if let (Part::Linear(linear), None) = (part, &config) {
                config = linear.lora.as_ref().map(|lora| lora.config().clone());
            }
        });
        config
    }
}
