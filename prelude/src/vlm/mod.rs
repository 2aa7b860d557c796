//! The vision-language model: a picture and the beginning of a caption → the next token.
//!
//! ```text
//! picture ─ image_processor ─► pixel_values ─ image_encoder ─► hidden_states ─ projector ─► image_tokens ─┐
//!                                                          start_vec │ image_tokens │ end_vec │ query │ prefix
//!                                                                                                         └─ llm ─► logits
//! ```
//!
//! # Layout: one file a stage, in the order of the blog
//! - [`settings`]: the blog's faults as named switches; the presets `blog` and `corrected`
//! - [`prompt`]: the texts around the picture and the caption as token ids
//! - [`input`]: what a model can be shown; [`encoder`]: another encoder under the same language model
//! - [`image_tokens`](mod@image_tokens): picture → image tokens
//! - [`concatenate`]: start | image | end | query | prefix
//! - [`loss`]: random-prefix loss, and every prefix in one forward pass; `target_strip`: which tokens carry it
//! - [`generate`]: token by token, by re-running everything or with a cache (`steps`); [`sampling`]: how a token is picked;
//!   [`beam`], `search`: several texts side by side
//! - [`save`]: a folder with everything that training changed; `fingerprint`: which base it belongs to
//! - [`pretrained`]: from the names of two models, or a saved fine-tune, to a whole model
//! - `show`: how all of this shows itself; `change`: settings that are changed afterwards
//! - [`tiny`]: the small pretrained model that is part of the program

pub mod base_models;
mod beam;
mod change;
pub mod concatenate;
pub mod encoder;
mod fingerprint;
pub mod generate;
pub mod image_tokens;
pub mod input;
pub mod loss;
mod loss_view;
pub mod pretrained;
pub mod prompt;
pub mod sampling;
pub mod save;
mod search;
pub mod settings;
mod show;
mod steps;
mod target_strip;
#[cfg(test)]
mod tests;
pub mod tiny;

pub use base_models::BaseModels;
pub use beam::{BeamSearch, EarlyStopping};
pub use concatenate::{Query, Sequence};
pub use generate::{Beam, Generate, Generation, Stopped};
pub use input::VlmInput;
pub use loss::{CaptionBatch, LossOutput};
pub use pretrained::Preset;
pub use sampling::Sampling;
pub use settings::{
    AdapterTraining, BosPlacement, PromptStyle, PromptVectors, Targets, VlmSettings,
};

use crate::display::{MimeBundle, ModelTable, Render};
use crate::language::{LlmProcessor, Phi3};
use crate::nn::{Network, Parameter, Weight};
use crate::projector::Projector;
use crate::vision::{Encoder, ImageProcessor};
use crate::{Error, ReadOnly, Result};
use candle_core::{DType, Device};
use std::path::Path;

/// The blog's model. A clone is a copy ([`Vlm::copy`]) that trains on its own; [`Vlm::share`] gives another handle to the same
/// weights.
pub struct Vlm {
    /// Pixel values, or whatever it takes, → hidden states: a ViT ([`Encoder::vit`]) or any other [`Modality`](crate::vision::Modality).
    pub image_encoder: Encoder,
    /// Picture → pixel values.
    pub image_processor: ImageProcessor,
    /// Embeddings → logits.
    pub llm: Phi3,
    /// Text ↔ token ids.
    pub llm_processor: LlmProcessor,
    /// Hidden states → image tokens.
    pub projector: Projector,
    /// What stands before the picture, `[1, Ls, D]`; Ls is 0 with [`PromptVectors::Tokens`], here and below.
    pub start_vec: Weight,
    /// What stands behind the picture, `[1, Le, D]`.
    pub end_vec: Weight,
    /// The question or instruction, `[1, Lq, D]`.
    pub query_vec: Weight,
    /// The switches. They can be read like any field; [`Vlm::set_settings`] and its kind change them.
    pub settings: ReadOnly<VlmSettings>,
}

/// The members of a [`Vlm`] that exist before it is put together.
#[derive(Clone)]
pub struct VlmParts {
    /// Pixel values, or whatever it takes, → hidden states.
    pub image_encoder: Encoder,
    /// Picture → pixel values.
    pub image_processor: ImageProcessor,
    /// Embeddings → logits.
    pub llm: Phi3,
    /// Text ↔ token ids.
    pub llm_processor: LlmProcessor,
}

impl VlmParts {
    /// Reads Hugging Face folders: an image encoder (ViT, CLIP, SigLIP or DINOv2) with its `preprocessor_config.json`, a
    /// language model with its tokenizer.
    ///
    /// # Errors
    /// A file missing, damaged or of another architecture.
    pub fn load(
        encoder: impl AsRef<Path>,
        llm: impl AsRef<Path>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let (encoder, llm) = (encoder.as_ref(), llm.as_ref());
        let (image_encoder, image_processor) = encoder::load(encoder, dtype, device)?;
        Ok(Self {
            image_encoder,
            image_processor,
            llm: Phi3::load(llm, dtype, device)?,
            llm_processor: LlmProcessor::from_dir(llm)?,
        })
    }
}

impl Vlm {
    /// Puts a model together: a fresh projector and LoRA (both drawn from `seed`), prompt vectors from the words of the
    /// prompt, and everything trainable or frozen as `settings` says.
    ///
    /// # Errors
    /// When the parts do not fit each other, or LoRA names no layer.
    pub fn new(parts: VlmParts, settings: VlmSettings, seed: u64) -> Result<Self> {
        let VlmParts {
            mut image_encoder,
            image_processor,
            llm,
            llm_processor,
        } = parts;
        if llm_processor.vocab_size() > llm.config.vocab_size {
            return Err(Error::Config(format!(
                "the tokenizer has {} entries, the language model only {} embeddings (vocab_size): they are of different models",
                llm_processor.vocab_size(),
                llm.config.vocab_size
            )));
        }
        let (llm_processor, mut llm) = with_new_tokens(llm_processor, llm, &settings.new_tokens)?;
        if let Some(config) = &settings.vit_lora {
            encoder::add_lora(&mut image_encoder, config, seed)?;
        }
        if let Some(config) = &settings.llm_lora {
            llm.add_lora(config, seed)?;
        }
        let projector = encoder::new_projector(&image_encoder, settings.projector, &llm, seed)?;
        let prompt = prompt::Prompt::new(&llm_processor, &settings)?;
        let vector = |name: &str, ids: &[u32]| -> Result<Weight> {
            let ids = match settings.prompt_vectors {
                PromptVectors::Tokens => &[],
                PromptVectors::Fixed | PromptVectors::Trained => ids,
            };
            Ok(Weight::frozen(
                name,
                llm.embed_ids(ids)?.to_dtype(DType::F32)?.detach(),
            ))
        };
        encoder::set_feature(&mut image_encoder, &settings)?;
        let mut vlm = Self {
            image_processor: image_processor.with_rescaling(settings.rescaling)?,
            image_encoder,
            start_vec: vector("start_vec", &prompt.start)?,
            end_vec: vector("end_vec", &prompt.end)?,
            query_vec: vector("query_vec", &prompt.query)?,
            llm,
            llm_processor,
            projector,
            settings: ReadOnly::new(settings),
        };
        vlm.freeze_by_settings()?;
        Ok(vlm)
    }

    /// The same pretrained parts under other settings, put together as by [`Vlm::new`]: LoRA is taken off and added as
    /// the settings say, projector and prompt vectors begin again. Frozen base weights are shared, not copied.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let faulty = VlmSettings { rescaling: Rescaling::Twice, ..vlm.settings.clone() };
    /// let faulty = vlm.with_settings(faulty, 0)?;
    /// assert_eq!(faulty.image_processor.config().rescaling, Rescaling::Twice);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Vlm::new`], and for a model with new tokens, whose tables can't be had back.
    pub fn with_settings(&self, settings: VlmSettings, seed: u64) -> Result<Self> {
        if !self.settings.new_tokens.is_empty() {
            return Err(Error::Input(
                "this model has new tokens in its tables: load its parts again and use `Vlm::new`"
                    .into(),
            ));
        }
        let mut parts = VlmParts {
            image_encoder: self.image_encoder.clone(),
            image_processor: self.image_processor.clone(),
            llm: self.llm.clone(),
            llm_processor: self.llm_processor.clone(),
        };
        parts.image_encoder.remove_lora()?;
        parts.llm.remove_lora()?;
        Self::new(parts, settings, seed)
    }

    /// The base models frozen; projector, LoRA and prompt vectors trainable as the settings say.
    fn freeze_by_settings(&mut self) -> Result<()> {
        self.image_encoder
            .set_base_trainable(self.settings.train_encoder)?;
        self.llm.set_base_trainable(false)?;
        let adapters = self.settings.adapters == AdapterTraining::Trained;
        self.image_encoder.set_lora_trainable(adapters)?;
        self.llm.set_lora_trainable(adapters)?;
        self.projector.set_trainable(true)?;
        for rows in self.llm.token_rows_mut() {
            rows.weight.set_trainable(true)?;
        }
        let vectors = self.settings.prompt_vectors == PromptVectors::Trained;
        for vector in [&mut self.start_vec, &mut self.end_vec, &mut self.query_vec] {
            vector.set_trainable(vectors && vector.tensor().elem_count() > 0)?;
        }
        Ok(())
    }

    /// Device of the language model, where sequences are put together.
    pub fn device(&self) -> &Device {
        self.llm.device()
    }

    /// Every parameter, named `image_encoder.…`, `projector.…`, `start_vec`, `end_vec`, `query_vec`, `llm.…`.
    pub fn named_parameters(&self) -> Vec<Parameter> {
        let mut out = Vec::new();
        let parts: [(&str, &dyn Network); 3] = [
            ("image_encoder", &self.image_encoder),
            ("projector", &self.projector),
            ("llm", &self.llm),
        ];
        for (name, part) in parts {
            out.extend(
                part.named_parameters()
                    .into_iter()
                    .map(|p| p.prefixed(name)),
            );
            if name == "projector" {
                out.extend(
                    [&self.start_vec, &self.end_vec, &self.query_vec].map(Weight::parameter),
                );
            }
        }
        out
    }

    /// The parameters that training changes.
    pub fn trainable_parameters(&self) -> Vec<Parameter> {
        let mut parameters = self.named_parameters();
        parameters.retain(Parameter::is_trainable);
        parameters
    }

    /// Switches LoRA dropout on (for training steps) or off (for everything else).
    pub fn set_training(&self, training: bool) {
        self.image_encoder.set_training(training);
        self.llm.set_training(training);
    }

    /// As if the training step that is under way had not begun: dropout draws again what it has drawn for it.
    pub(crate) fn take_back_draws(&self) {
        self.image_encoder.take_back_draws();
        self.llm.take_back_draws();
    }

    /// Parts, parameters, what trains, dtype and device.
    pub fn table(&self) -> ModelTable {
        // The parts by the blog's names; an encoder other than the blog's by its kind too.
        let kind = self.image_encoder.kind();
        let part = |name: &str| match name.split('.').next().unwrap_or_default() {
            "image_encoder" if kind != "vit" => format!("image_encoder ({kind})"),
            part => part.to_string(),
        };
        let title = format!("Vlm, settings “{}”", self.settings.name);
        ModelTable::of(title, &self.named_parameters(), &part)
    }
}

/// Tokenizer and language model with further special tokens.
fn with_new_tokens(
    processor: LlmProcessor,
    mut llm: Phi3,
    tokens: &[String],
) -> Result<(LlmProcessor, Phi3)> {
    if tokens.is_empty() {
        return Ok((processor, llm));
    }
    let (processor, new) = processor.with_new_tokens(tokens)?;
    let (ids, pieces): (Vec<_>, Vec<_>) = new.into_iter().map(|t| (t.id, t.pieces)).unzip();
    llm.add_tokens(&ids, &pieces)?;
    Ok((processor, llm))
}

impl Render for Vlm {
    fn render(&self) -> MimeBundle {
        self.table().render()
    }
}
