//! Weights and how to list, freeze and train them.
//!
//! A [`Weight`] is a tensor that knows its Hugging Face name and whether it trains. A [`Network`] is anything made of
//! [`Linear`] layers and further weights; listing its parts ([`parts!`](crate::parts)) gives parameter listing, freezing, LoRA and
//! saving for free. A frozen weight may be held in [`Blocks`]: see [`Quantize`](super::Quantize).

use super::blocks::{BlockType, Blocks};
use super::linear::Linear;
use super::lora::LoraConfig;
use super::ops::Values;
use super::quantize::{self, Quantize};
use super::role::{Role, VlmPart};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use std::cell::{Cell, RefCell};

/// A named weight: frozen, or trainable through a `Var`.
///
/// A clone of a trainable weight has values of its own: training one does not change the other. Frozen values never change in
/// place, so clones share their memory. [`shared`] makes clones that stay one: in a forward pass use that, or
/// [`Weight::tensor`], as the gradient of a clone is the clone's.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let mut weight = Weight::frozen("scale", Tensor::ones(3, DType::F32, &device)?);
/// assert!(!weight.is_trainable());
/// weight.set_trainable(true)?;
/// let loss = weight.tensor().sqr()?.sum_all()?;
/// let gradient = loss.backward()?.get(weight.tensor()).expect("it trains").to_vec1::<f32>()?;
/// assert_eq!(gradient, [2.0; 3]);
/// # Ok(()) }
/// ```
pub struct Weight {
    name: String,
    /// Where the values are in blocks, what stands in for them.
    tensor: Tensor,
    blocks: Option<Blocks>,
    var: Option<Var>,
    role: Role,
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::shared;
///
/// # fn main() -> Result<()> {
/// let mut vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// vit.set_trainable(true)?;
/// let mut again = shared(&vit);
/// again.cls_token.set(&Tensor::ones((1, 1, 16), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(vit.cls_token.tensor().to_vec3::<f32>()?, again.cls_token.tensor().to_vec3::<f32>()?);
/// # Ok(()) }
/// ```
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
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::copied;
///
/// # fn main() -> Result<()> {
/// let mut vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// vit.set_trainable(true)?;
/// let mut copy = copied(&vit)?;
/// copy.cls_token.set(&Tensor::ones((1, 1, 16), DType::F32, &Device::Cpu)?)?;
/// assert_ne!(vit.cls_token.tensor().to_vec3::<f32>()?, copy.cls_token.tensor().to_vec3::<f32>()?);
/// # Ok(()) }
/// ```
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
            blocks: self.blocks.clone(),
            var: self.var.clone(),
            role: self.role,
        };
        if self.var.is_none() || sharing() {
            return share();
        }
        let own = Self::trainable(self.name.clone(), &self.tensor.detach());
        own.map(|own| own.with_role(self.role))
            .unwrap_or_else(|error| {
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
            blocks: None,
            var: None,
            role: Role::Base,
        }
    }

    /// A weight that gets no gradient and is held in blocks; `dtype` is that of the layer's input and output.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let exact = Tensor::randn(0f32, 1.0, (6, 64), &Device::Cpu)?;
    /// let blocks = Blocks::quantize(&exact, BlockType::Q8_0)?;
    /// let weight = Weight::in_blocks("fc.weight", blocks, DType::F32)?;
    /// let x = Tensor::randn(0f32, 1.0, (1, 64), &Device::Cpu)?;
    /// let wanted = x.matmul(&weight.values()?.t()?)?; // all values once, for comparison
    /// let y = Linear::new("fc", weight, None).forward(&x)?; // straight from the blocks
    /// assert!((y - wanted)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-4);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn in_blocks(name: impl Into<String>, blocks: Blocks, dtype: DType) -> Result<Self> {
        // One value for all takes no memory; whoever computes with it by mistake can't miss it.
        let nothing = Tensor::new(f32::NAN, &Device::Cpu)?.to_dtype(dtype)?;
        let tensor = nothing.broadcast_as(blocks.dims())?;
        Ok(Self {
            blocks: Some(blocks),
            ..Self::frozen(name, tensor)
        })
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

    /// The same weight in another role than [`Role::Base`].
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// A weight of this name and role with other values, trainable as this one is: clones of the model keep theirs.
    ///
    /// # Errors
    /// When the values cannot be copied into a variable.
    pub fn with_values(&self, values: Tensor) -> Result<Self> {
        let mut fresh = Self::frozen(self.name.clone(), values).with_role(self.role);
        fresh.set_trainable(self.is_trainable())?;
        Ok(fresh)
    }

    /// Full name, as in the checkpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is to the model.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The values; tracked by the gradient when trainable. For a weight in [`Weight::blocks`] this only tells shape, dtype and device,
    /// every value is NaN: take [`Weight::values`].
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The blocks that hold the values, where they are not floats.
    pub fn blocks(&self) -> Option<&Blocks> {
        self.blocks.as_ref()
    }

    /// The values as floats without gradient, also of a weight in blocks: then all of them are made, for this call.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn values(&self) -> Result<Tensor> {
        match &self.blocks {
            None => Ok(self.tensor.detach()),
            Some(blocks) => Ok(blocks.dequantize()?.to_dtype(self.tensor.dtype())?),
        }
    }

    /// Rows of a matrix by number, `[N, in]`.
    pub(crate) fn rows(&self, numbers: &Tensor) -> Result<Tensor> {
        let Some(blocks) = &self.blocks else {
            return Ok(self.tensor.index_select(numbers, 0)?);
        };
        let numbers = numbers.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        Ok(blocks.rows(&numbers)?.to_dtype(self.tensor.dtype())?)
    }

    /// As an operation takes it.
    pub(super) fn matrix(&self) -> Values<'_> {
        match &self.blocks {
            None => Values::Plain(&self.tensor),
            Some(blocks) => Values::Blocks(blocks),
        }
    }

    /// Holds the values in blocks, rounded, and lets go of the floats; a weight that has blocks of this type stays as it is. Only linear
    /// layers and tables of embeddings compute with blocks.
    ///
    /// # Errors
    /// `Input` for a weight that trains, has blocks of another type, is on a GPU, or that blocks of this type can't hold.
    pub(super) fn quantize(&mut self, kind: BlockType) -> Result<()> {
        if self.can_be(kind)? {
            let held = Blocks::quantize(&self.tensor, kind).map_err(|error| match error {
                Error::Input(what) => Error::Input(format!("{}: {what}", self.name)),
                other => other,
            })?;
            let name = std::mem::take(&mut self.name);
            *self = Self::in_blocks(name, held, self.tensor.dtype())?.with_role(self.role);
        }
        Ok(())
    }

    /// Whether there is something to do for [`Weight::quantize`], and it can be done.
    pub(super) fn can_be(&self, kind: BlockType) -> Result<bool> {
        let refused = |why: String| Err(Error::Input(format!("{}: {why}", self.name)));
        match &self.blocks {
            Some(blocks) if blocks.kind() == kind => return Ok(false),
            Some(blocks) => {
                return refused(format!(
                    "it is held as {} already, and would be rounded twice: dequantize it first",
                    blocks.kind()
                ));
            }
            None => {}
        }
        if self.is_trainable() {
            return refused(format!(
                "it trains, and an optimizer can't change {kind}: freeze it first"
            ));
        }
        if !self.tensor.device().is_cpu() {
            return refused(format!(
                "blocks of {kind} are computed with on the CPU only, it is on {:?}",
                self.tensor.device().location()
            ));
        }
        match self.tensor.dims2() {
            Err(_) => refused(format!(
                "blocks hold a matrix [out, in], it is {:?}",
                self.tensor.dims()
            )),
            Ok((_, columns)) => super::blocks::check_rows(columns, kind)
                .map(|()| true)
                .or_else(|error| refused(error.to_string())),
        }
    }

    /// Holds the values as floats again, as they were rounded; nothing happens to a weight that is not in blocks.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn dequantize(&mut self) -> Result<()> {
        if self.blocks.is_some() {
            let values = self.values()?;
            let name = std::mem::take(&mut self.name);
            *self = Self::frozen(name, values).with_role(self.role);
        }
        Ok(())
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
    /// `Input` for a weight in blocks that should train; when the tensor cannot be copied into a variable.
    pub fn set_trainable(&mut self, trainable: bool) -> Result<()> {
        if trainable {
            self.can_train()?;
        }
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

    /// Whether an optimizer can change it.
    pub(crate) fn can_train(&self) -> Result<()> {
        can_train(&self.name, self.blocks.as_ref())
    }

    /// Replaces the values: in place for a trainable weight (an optimizer sees it, and what [`shared`] made), else only here.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut weight = Weight::frozen("scale", Tensor::ones(3, DType::F32, &Device::Cpu)?);
    /// weight.set(&Tensor::zeros(3, DType::F32, &Device::Cpu)?)?;
    /// assert_eq!(weight.tensor().to_vec1::<f32>()?, [0.0; 3]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the shape or dtype differs; `Input` for a weight in blocks.
    pub fn set(&mut self, values: &Tensor) -> Result<()> {
        if let Some(blocks) = &self.blocks {
            return Err(Error::Input(format!(
                "{} is held as {}, whose values can't be set: have floats again with `dequantize()?` first",
                self.name,
                blocks.kind()
            )));
        }
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
            blocks: self.blocks.clone(),
            var: self.var.clone(),
            role: self.role,
            part: None,
        }
    }
}

/// Whether an optimizer can change values that may be held in blocks.
fn can_train(name: &str, blocks: Option<&Blocks>) -> Result<()> {
    match blocks {
        None => Ok(()),
        Some(blocks) => Err(Error::Input(format!(
            "{name} is held as {}, which an optimizer can't change: train LoRA on it (`add_lora`), or have floats again with \
             `dequantize()?` first",
            blocks.kind()
        ))),
    }
}

/// One entry of a model's parameter list. A view, not a copy: setting its variable changes the model.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let parameters = vlm.named_parameters();
/// let found: Option<&Parameter> = parameters.iter().find(|one| one.name == "projector.fc1.weight");
/// assert!(found.is_some_and(|one| one.is_trainable() && one.count() == 128 * 96));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Parameter {
    /// Full Hugging Face or PEFT name.
    pub name: String,
    /// The values; shares memory with the model. Of a weight in blocks only shape, dtype and device: see [`Parameter::values`].
    pub tensor: Tensor,
    /// The blocks that hold the values, where they are not floats.
    pub blocks: Option<Blocks>,
    /// Set for a trainable parameter: what an optimizer updates.
    pub var: Option<Var>,
    /// What it is to the network that holds it.
    pub role: Role,
    /// The part of the model that it belongs to, in the lists of a [`Vlm`](crate::vlm::Vlm).
    pub part: Option<VlmPart>,
}

impl Parameter {
    /// A parameter that trains, of a model of one's own.
    pub fn new(name: impl Into<String>, var: &Var) -> Self {
        Self {
            name: name.into(),
            tensor: var.as_tensor().clone(),
            blocks: None,
            var: Some(var.clone()),
            role: Role::Base,
            part: None,
        }
    }

    /// Whether it gets a gradient.
    pub fn is_trainable(&self) -> bool {
        self.var.is_some()
    }

    /// Whether an optimizer can change it.
    pub(crate) fn can_train(&self) -> Result<()> {
        can_train(&self.name, self.blocks.as_ref())
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.tensor.elem_count()
    }

    /// Bytes that the values take.
    pub fn bytes(&self) -> usize {
        match &self.blocks {
            None => self.count() * self.tensor.dtype().size_in_bytes(),
            Some(blocks) => blocks.bytes(),
        }
    }

    /// How the values are held: `f32`, or blocks such as `Q8_0`.
    pub fn held_as(&self) -> &'static str {
        match &self.blocks {
            None => self.tensor.dtype().as_str(),
            Some(blocks) => blocks.kind().name(),
        }
    }

    /// The values as floats without gradient, also of a weight in blocks: then all of them are made, for this call.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn values(&self) -> Result<Tensor> {
        match &self.blocks {
            None => Ok(self.tensor.detach()),
            Some(blocks) => Ok(blocks.dequantize()?.to_dtype(self.tensor.dtype())?),
        }
    }

    /// The same entry as one of a part of a model: `projector.fc1.weight`. Prompt vectors keep their name.
    pub(crate) fn of_part(mut self, part: &VlmPart) -> Self {
        if *part != VlmPart::PromptVectors {
            self.name = format!("{part}.{}", self.name);
        }
        self.part = Some(part.clone());
        self
    }
}

/// A piece of a model, as a visitor sees it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let mut linear_layers = 0;
/// vit.visit(&mut |part| {
///     if let Part::Linear(_) = part {
///         linear_layers += 1;
///     }
/// });
/// assert_eq!(linear_layers, 2 * 6); // query, key, value, output, and two of the MLP in each layer
/// # Ok(()) }
/// ```
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// A linear layer, which may carry LoRA.
    Linear(&'a Linear),
    /// Any other weight: norms, embeddings, class token.
    Weight(&'a Weight),
}

/// A piece of a model, to be changed.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// vit.visit_mut(&mut |part| match part {
///     PartMut::Weight(weight) if weight.name().contains("layernorm") => weight.set_trainable(true), // only the norms
///     _ => Ok(()),
/// })?;
/// assert_eq!(vit.trainable_parameters().len(), 2 * (2 * 2 + 1)); // weight and bias of two in each layer and the last
/// # Ok(()) }
/// ```
pub enum PartMut<'a> {
    /// A linear layer, which may carry LoRA.
    Linear(&'a mut Linear),
    /// Any other weight: norms, embeddings, class token.
    Weight(&'a mut Weight),
}

/// A model made of linear layers and further weights; `parts!(Encoder { conv, layers, norm })` implements it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// assert!(vit.trainable_parameters().is_empty());
/// vit.set_trainable(true)?;
/// assert_eq!(vit.trainable_parameters().len(), vit.named_parameters().len());
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` lists no weights",
    note = "a part of a network is a `Linear`, a `Weight`, a norm, another network, or a `Vec` or `Option` of one: leave \
            other fields out of `parts!`"
)]
pub trait Network {
    /// Calls `visitor` on every part, in the order of the forward pass.
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>));

    /// As [`Network::visit`], for changing the parts; stops at the first error.
    ///
    /// # Errors
    /// The visitor's.
    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()>;

    /// Every parameter, in the order of the forward pass, LoRA after the layer that carries it.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// let names: Vec<String> = vit.named_parameters().into_iter().map(|parameter| parameter.name).collect();
    /// assert_eq!(names[0], "embeddings.cls_token"); // Hugging Face's names
    /// # Ok(()) }
    /// ```
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
    /// `Input` for weights in blocks that should train, and nothing changes; when a weight cannot be copied into a variable.
    fn set_base_trainable(&mut self, trainable: bool) -> Result<()> {
        let mut can = Ok(());
        if trainable {
            self.visit(&mut |part| {
                if let (Part::Linear(Linear { weight, .. }) | Part::Weight(weight), Ok(())) =
                    (part, &can)
                {
                    can = weight.can_train();
                }
            });
        }
        can?;
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// let adapted = llm.add_lora(&LoraConfig::new(4, 8.0, &["o_proj"]), 1)?;
    /// assert_eq!(adapted, 2); // one in each layer
    /// assert!(llm.trainable_parameters().iter().all(|parameter| parameter.role.is_lora()));
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// let ids = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?;
    /// let before = vlm.llm.forward(&LlmInput::ids(&ids))?.logits()?.clone();
    /// vlm.llm.merge_lora()?; // W + s · B A as one matrix: as fast as without LoRA
    /// let after = vlm.llm.forward(&LlmInput::ids(&ids))?.logits()?.clone();
    /// assert!((before - after)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-3);
    /// # Ok(()) }
    /// ```
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

    /// Holds the matrices of frozen linear layers in blocks, rounded: `BlockType::Q8_0` for all, or a [`Quantize`] that tells them apart
    /// by name. LoRA on them stays as it is and trains on. Returns the number of matrices that were rounded; tables of
    /// embeddings are no linear layers and stay ([`Embedding::quantize`](super::Embedding::quantize)).
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// let before = vlm.llm.named_parameters().iter().map(Parameter::bytes).sum::<usize>();
    /// vlm.llm.quantize(BlockType::Q8_0)?; // and `vlm` shows Q8_0 where that is
    /// let after = vlm.llm.named_parameters().iter().map(Parameter::bytes).sum::<usize>();
    /// assert!(after < before / 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` for a layer that trains, carries LoRA that is merged, is on a GPU, or has rows that the blocks do not divide, by name, and
    /// nothing changes; for values that are not finite, found on the way.
    fn quantize(&mut self, how: impl Into<Quantize>) -> Result<usize>
    where
        Self: Sized,
    {
        quantize::quantize(self, &how.into())
    }

    /// Holds as floats again what is in blocks: the rounded values, in the dtype of the layers' inputs. Returns how many weights that were.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// let rounded = vlm.llm.quantize(BlockType::Q8_0)?;
    /// assert!(vlm.llm.set_base_trainable(true).is_err()); // blocks do not train
    /// assert_eq!(vlm.llm.dequantize()?, rounded);
    /// vlm.llm.set_base_trainable(true)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no memory for them.
    fn dequantize(&mut self) -> Result<usize> {
        let mut changed = 0;
        self.visit_mut(&mut |part| {
            let (PartMut::Linear(Linear { weight, .. }) | PartMut::Weight(weight)) = part;
            changed += usize::from(weight.blocks().is_some());
            weight.dequantize()
        })?;
        Ok(changed)
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
    #[doc(hidden)]
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
