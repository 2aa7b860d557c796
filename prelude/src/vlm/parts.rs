//! Parts of a model by name: freezing some of them, and the middle between two fine-tunes.

use super::Vlm;
use super::fingerprint::Fingerprints;
use crate::nn::{Network, Parameter, PartMut, VlmPart, Weight};
use crate::{Error, Result};
use std::sync::Arc;

impl Vlm {
    /// All that has weights, in the order of [`Vlm::named_parameters`], with the part that it is: what walks over a model walks over
    /// this.
    pub(crate) fn networks(&self) -> Vec<(VlmPart, &dyn Network)> {
        let mut all: Vec<(VlmPart, &dyn Network)> = vec![
            (VlmPart::ImageEncoder, &self.image_encoder),
            (VlmPart::Projector, &self.projector),
            (VlmPart::PromptVectors, &self.start_vec),
            (VlmPart::PromptVectors, &self.end_vec),
            (VlmPart::PromptVectors, &self.query_vec),
            (VlmPart::Llm, &self.llm),
        ];
        for other in &self.other_encoders {
            let name: Arc<str> = other.name.as_str().into();
            all.push((VlmPart::OtherEncoder(name.clone()), &other.encoder));
            all.push((VlmPart::OtherProjector(name), &other.projector));
        }
        all
    }

    /// [`Vlm::networks`], to be changed.
    fn networks_mut(&mut self) -> Vec<(VlmPart, &mut dyn Network)> {
        let mut all: Vec<(VlmPart, &mut dyn Network)> = vec![
            (VlmPart::ImageEncoder, &mut self.image_encoder),
            (VlmPart::Projector, &mut self.projector),
            (VlmPart::PromptVectors, &mut self.start_vec),
            (VlmPart::PromptVectors, &mut self.end_vec),
            (VlmPart::PromptVectors, &mut self.query_vec),
            (VlmPart::Llm, &mut self.llm),
        ];
        for other in &mut self.other_encoders {
            let name: Arc<str> = other.name.as_str().into();
            all.push((VlmPart::OtherEncoder(name.clone()), &mut other.encoder));
            all.push((VlmPart::OtherProjector(name), &mut other.projector));
        }
        all
    }

    /// Freezes or unfreezes everything whose name is `part` or begins with it, and says how many tensors that are: `"projector"`,
    /// `"image_encoder"`, `"llm.model.layers.0"`, `"start_vec"`; the names are those of [`Vlm::named_parameters`]. A clone keeps
    /// its own state.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// assert_eq!(vlm.set_trainable("projector", false)?, 4); // two weights, two biases
    /// assert!(vlm.trainable_parameters().iter().all(|p| !p.name.starts_with("projector")));
    /// assert!(vlm.set_trainable("projektor", false).is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no such part; `Input` for weights in blocks that should train, and nothing changes.
    pub fn set_trainable(&mut self, part: &str, trainable: bool) -> Result<usize> {
        let named = |name: &str| {
            name == part
                || name
                    .strip_prefix(part)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        if !self
            .named_parameters()
            .iter()
            .any(|parameter| named(&parameter.name))
        {
            let mut parts: Vec<String> = Vec::new();
            for parameter in self.named_parameters() {
                let first = parameter
                    .name
                    .split('.')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                if !parts.contains(&first) {
                    parts.push(first);
                }
            }
            return Err(Error::Input(format!(
                "the model has no part {part:?}: it has {}, and what `vlm.named_parameters()` lists below them",
                parts.join(", ")
            )));
        }
        if trainable {
            let parameters = self.named_parameters();
            let mut wanted = parameters.iter().filter(|p| named(&p.name));
            wanted.try_for_each(Parameter::can_train)?;
        }
        let mut changed = 0;
        for (of, network) in self.networks_mut() {
            let at = match of {
                VlmPart::PromptVectors => String::new(),
                of => format!("{of}."),
            };
            let mut set = |weight: &mut Weight| match named(&format!("{at}{}", weight.name())) {
                true => {
                    changed += 1;
                    weight.set_trainable(trainable)
                }
                false => Ok(()),
            };
            network.visit_mut(&mut |part| match part {
                PartMut::Weight(weight) => set(weight),
                PartMut::Linear(linear) => {
                    set(&mut linear.weight)?;
                    linear.bias.as_mut().map_or(Ok(()), &mut set)?;
                    linear
                        .lora
                        .as_mut()
                        .map_or(Ok(()), |lora| lora.weights_mut().try_for_each(&mut set))
                }
            })?;
        }
        Ok(changed)
    }

    /// The model between this fine-tune and another of the same base: everything that trains is `1 − share` parts this one's
    /// and `share` parts the other's. (LoRA's two factors are averaged one by one, not their product.)
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let (one, other) = (Vlm::tiny(&Device::Cpu)?, Vlm::tiny(&Device::Cpu)?);
    /// for parameter in other.trainable_parameters() {
    ///     if let Some(var) = &parameter.var {
    ///         var.set(&(var.as_tensor() + 1.0)?)?;
    ///     }
    /// }
    /// let middle = one.averaged(&other, 0.5)?;
    /// let first = |vlm: &Vlm| -> Result<f32> {
    ///     Ok(vlm.projector.mlp()?.fc1.weight.tensor().flatten_all()?.get(0)?.to_scalar()?)
    /// };
    /// assert!((first(&middle)? - first(&one)? - 0.5).abs() < 1e-6);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the models have not the same parts, shapes and base.
    pub fn averaged(&self, other: &Self, share: f64) -> Result<Self> {
        if !share.is_finite() {
            return Err(Error::Input(format!(
                "a share of {share} is none: give a number such as 0.5"
            )));
        }
        let (ours, theirs) = (self.named_parameters(), other.named_parameters());
        let differs = ours
            .iter()
            .zip(&theirs)
            .find(|(a, b)| a.name != b.name || a.tensor.dims() != b.tensor.dims());
        let unlike = |what: String| {
            Error::Input(format!(
                "two models can only be averaged if they are fine-tunes of one base in one form: {what}"
            ))
        };
        if let Some((a, b)) = differs {
            let of = |p: &Parameter| format!("{} {:?}", p.name, p.tensor.dims());
            return Err(unlike(format!("one has {}, the other {}", of(a), of(b))));
        }
        if ours.len() != theirs.len() {
            return Err(unlike(format!(
                "one has {} tensors, the other {}",
                ours.len(),
                theirs.len()
            )));
        }
        if Fingerprints::of(self)? != Fingerprints::of(other)? {
            return Err(unlike("their frozen base weights differ".into()));
        }
        let average = self.copy()?;
        for (mine, theirs) in average.named_parameters().iter().zip(&theirs) {
            if let Some(var) = &mine.var {
                let theirs = theirs
                    .values()?
                    .to_dtype(var.dtype())?
                    .to_device(var.device())?;
                var.set(&((var.as_tensor().detach() * (1.0 - share))? + (theirs * share)?)?)?;
            }
        }
        Ok(average)
    }
}
