//! Copies of a model, and settings that are changed on a model that is there.
//!
//! A copy has what can change for itself and shares the rest: frozen weights never change in place. A setting is changed by a
//! method that makes it true; what would need weights that begin anew is refused by name.

use super::{AdapterTraining, PromptVectors, PromptWords, Targets, Vlm, VlmSettings, encoder};
use crate::nn::{Network, VlmPart, Weight, copied, shared};
use crate::vision::Rescaling;
use crate::{Error, ReadOnly, Result};
use candle_core::DType;

impl Clone for Vlm {
    /// As [`Vlm::copy`].
    ///
    /// # Panics
    /// When there is no memory for the copy.
    fn clone(&self) -> Self {
        Self {
            image_encoder: self.image_encoder.clone(),
            image_processor: self.image_processor.clone(),
            llm: self.llm.clone(),
            llm_processor: self.llm_processor.clone(),
            projector: self.projector.clone(),
            start_vec: self.start_vec.clone(),
            end_vec: self.end_vec.clone(),
            query_vec: self.query_vec.clone(),
            settings: self.settings.again(),
            other_encoders: self.other_encoders.clone(),
            tiling: self.tiling.clone(),
            words: self.words.clone(),
            published: self.published.clone(),
        }
    }
}

impl Vlm {
    /// A model of its own with the same values: training or setting one leaves the other as it is. What trains is copied
    /// (projector, LoRA, prompt vectors, new rows), what is frozen is shared, as nothing changes it in place: so a copy of a large
    /// model is small. Freezing and unfreezing on the copy is the copy's own, too.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let copy = vlm.copy()?;
    /// for parameter in copy.projector.named_parameters() {
    ///     if let Some(var) = parameter.var {
    ///         var.set(&var.zeros_like()?)?;
    ///     }
    /// }
    /// assert_ne!(vlm.projector.mlp()?.fc1.weight.tensor().abs()?.max_all()?.to_scalar::<f32>()?, 0.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no memory for the copy.
    pub fn copy(&self) -> Result<Self> {
        copied(self)
    }

    /// Another handle to the same weights: training through one changes what the other gives. Costs next to nothing.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let mut other = vlm.share(); // the same weights, settings of its own
    /// other.set_stop_at_eos(false);
    /// assert!(vlm.settings.stop_at_eos && !other.settings.stop_at_eos);
    /// # Ok(()) }
    /// ```
    pub fn share(&self) -> Self {
        shared(self)
    }

    /// Changes the question or instruction. All that was trained stays, except `query_vec` itself: it begins again as the
    /// embeddings of the new words, and trains if the old one did.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// vlm.set_query("How many circles?")?;
    /// assert_eq!(vlm.settings.query_text, "How many circles?");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the tokenizer or the chat template refuses.
    pub fn set_query(&mut self, text: &str) -> Result<()> {
        let query_text = text.to_owned();
        self.set_settings(VlmSettings {
            query_text,
            ..self.settings.clone()
        })
    }

    /// Freezes or unfreezes LoRA, on encoders and language model.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// vlm.set_adapters(AdapterTraining::Frozen)?; // only projector and prompt vectors train
    /// assert!(!vlm.trainable_parameters().iter().any(|parameter| parameter.role.is_lora()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When a factor cannot be copied into a variable.
    pub fn set_adapters(&mut self, adapters: AdapterTraining) -> Result<()> {
        self.set_settings(VlmSettings {
            adapters,
            ..self.settings.clone()
        })
    }

    /// Changes which tokens of a caption are targets of the loss.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// vlm.set_targets(Targets::Middle); // the blog's fault: it never learns to stop
    /// assert_eq!(vlm.settings.targets, Targets::Middle);
    /// # Ok(()) }
    /// ```
    pub fn set_targets(&mut self, targets: Targets) {
        self.settings.change().targets = targets;
    }

    /// Changes whether generation stops at an end-of-sequence token.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// vlm.set_stop_at_eos(false);
    /// let written = vlm.generate(&Image::filled(80, 80, [200, 30, 40])?)?.max_new_tokens(9).run()?;
    /// assert_eq!(written.ids.len(), 9); // to the very last, as the blog does
    /// # Ok(()) }
    /// ```
    pub fn set_stop_at_eos(&mut self, stop: bool) {
        self.settings.change().stop_at_eos = stop;
    }

    /// Changes the settings of the model as it is: what was trained stays. Prompt vectors whose words change begin again as the
    /// embeddings of the new ones.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// let settings = VlmSettings { query_text: "What is this?".into(), ..vlm.settings.clone() };
    /// vlm.set_settings(settings)?;
    /// assert_eq!(vlm.settings.query_text, "What is this?");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] for what would need weights that begin anew (the projector's form, LoRA's form, new tokens, the base
    /// models), naming it: use [`Vlm::with_settings`]. Nothing is changed then.
    pub fn set_settings(&mut self, settings: VlmSettings) -> Result<()> {
        let old = self.settings.clone();
        let refused = [
            ("projector", settings.projector != old.projector),
            ("vit_lora", settings.vit_lora != old.vit_lora),
            ("llm_lora", settings.llm_lora != old.llm_lora),
            ("new_tokens", settings.new_tokens != old.new_tokens),
            ("base", settings.base != old.base),
        ];
        if let Some((name, _)) = refused.iter().find(|(_, differs)| *differs) {
            return Err(Error::Input(format!(
                "`{name}` can't be changed on a model that is there, its weights would begin anew: \
                 `vlm.with_settings(settings, seed)?` puts such a model together"
            )));
        }
        let mut new = self.share();
        if settings.rescaling != old.rescaling {
            new.set_rescaling(settings.rescaling)?;
        }
        if settings.vision_feature != old.vision_feature {
            encoder::set_feature(&mut new.image_encoder, &settings)?;
            let (made, taken) = (new.image_encoder.dim(), new.projector.config.input);
            if made != taken {
                return Err(Error::Input(format!(
                    "`vision_feature` can't be changed to {} on a model that is there: its positions are {made} wide, the projector \
                     takes {taken}, and another's weights would begin anew: `vlm.with_settings(settings, seed)?` puts such a model \
                     together",
                    settings.vision_feature
                )));
            }
        }
        if settings.adapters != old.adapters {
            let train = settings.adapters == AdapterTraining::Trained;
            new.image_encoder.set_lora_trainable(train)?;
            new.llm.set_lora_trainable(train)?;
            for other in &mut new.other_encoders {
                other.encoder.set_lora_trainable(train)?;
            }
        }
        if settings.train_encoder != old.train_encoder {
            new.image_encoder
                .set_base_trainable(settings.train_encoder)?;
            for other in &mut new.other_encoders {
                other.encoder.set_base_trainable(settings.train_encoder)?;
            }
        }
        new.word_prompt(&old, &settings)?;
        new.settings = ReadOnly::new(settings);
        *self = new;
        Ok(())
    }

    /// Has the image processors of all encoders scale this way.
    pub(super) fn set_rescaling(&mut self, rescaling: Rescaling) -> Result<()> {
        let others = self.other_encoders.iter_mut();
        let others = others.map(|other| &mut other.image_processor);
        for processor in std::iter::once(&mut self.image_processor).chain(others) {
            *processor = processor.clone().with_rescaling(rescaling)?;
        }
        Ok(())
    }

    /// Makes the prompt vectors those of the new settings; those whose words are the same stay.
    fn word_prompt(&mut self, old: &VlmSettings, new: &VlmSettings) -> Result<()> {
        let (before, after) = (
            PromptWords::new(&self.llm_processor, old)?,
            PromptWords::new(&self.llm_processor, new)?,
        );
        let tokens = |settings: &VlmSettings| settings.prompt_vectors == PromptVectors::Tokens;
        let trained = new.prompt_vectors == PromptVectors::Trained;
        let parts = [
            (&mut self.start_vec, &before.start, &after.start),
            (&mut self.end_vec, &before.end, &after.end),
            (&mut self.query_vec, &before.query, &after.query),
        ];
        for (vector, before, after) in parts {
            let anew = tokens(old) != tokens(new) || (before != after && !tokens(new));
            let mut trains = vector.is_trainable();
            if new.prompt_vectors != old.prompt_vectors {
                trains = trained;
            }
            if anew {
                let ids: &[u32] = if tokens(new) { &[] } else { after };
                let values = self.llm.embed_ids(ids)?.to_dtype(DType::F32)?.detach();
                // A vector of no words did not train for want of any.
                trains |= trained && vector.tensor().elem_count() == 0;
                *vector = Weight::frozen(vector.name(), values).with_role(vector.role());
            }
            vector.set_trainable(trains && vector.tensor().elem_count() > 0)?;
        }
        Ok(())
    }

    /// The settings as the parts really are: they may have been taken apart since.
    pub(super) fn true_settings(&self) -> VlmSettings {
        let mut settings = self.settings.clone();
        settings.rescaling = self.image_processor.config().rescaling;
        if let Some(feature) = self.image_encoder.feature() {
            settings.vision_feature = feature;
        }
        settings.projector = self.projector.config.kind;
        settings.vit_lora = self.image_encoder.lora_config();
        settings.llm_lora = self.llm.lora_config();
        let (lora, base): (Vec<_>, Vec<_>) = self
            .named_parameters()
            .into_iter()
            .partition(|parameter| parameter.role.is_lora());
        if lora.iter().all(|factor| factor.is_trainable()) && !lora.is_empty() {
            settings.adapters = AdapterTraining::Trained;
        } else if !lora.is_empty() && !lora.iter().any(|factor| factor.is_trainable()) {
            settings.adapters = AdapterTraining::Frozen;
        }
        settings.train_encoder |= base
            .iter()
            .any(|weight| weight.part == Some(VlmPart::ImageEncoder) && weight.is_trainable());
        settings
    }
}
