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
//! - [`prompt`]: what the model reads, piece by piece; [`prompts`]: what makes prompts; [`words`]: the texts around the picture
//! - [`input`]: what a model can be shown; [`encoder`]: another encoder under the same language model, [`other_encoders`]: several
//! - [`image_tokens`](mod@image_tokens): picture → image tokens
//! - [`concatenate`]: prompts → start | image | end | query | prefix as vectors; `packing`: several in one row;
//!   [`sequence`]: what comes of it; [`query`]
//! - [`loss`]: random-prefix loss, and every prefix in one forward pass; `target_strip`: which tokens carry it
//! - [`generate`]: token by token, by re-running everything or with a cache (`steps`); [`sampling`]: how a token is picked;
//!   `beam`, `search`: several texts side by side; `lookup`: several tokens checked in one pass
//! - [`save`]: a folder with everything that training changed; `saved_encoders`: of encoders besides the first; `fingerprint`:
//!   which base it belongs to; `draws`: where dropout stands
//! - [`published`]: published models by name, whole, in their own layouts
//! - [`pretrained`]: from the names of two models, or a saved fine-tune, to a whole model; `preset_encoders`: with further encoders
//! - `next_tokens`: what comes next, looked at; `parts`: freezing by name, and averages of fine-tunes
//! - `show`: how all of this shows itself; `change`: settings that are changed afterwards
//! - [`tiny`]: the small pretrained model that is part of the program; `built_in_llm`: its language model, and one of chemistry

pub mod base_models;
mod beam;
mod built_in_llm;
mod change;
pub mod concatenate;
mod draws;
pub mod encoder;
pub(crate) mod fingerprint;
pub mod generate;
pub mod image_tokens;
pub mod input;
mod lookup;
pub mod loss;
mod loss_view;
mod next_tokens;
pub mod other_encoders;
pub(crate) mod packing;
mod parts;
mod preset_encoders;
pub mod pretrained;
pub mod prompt;
pub mod prompts;
pub mod published;
pub mod query;
pub mod sampling;
pub mod save;
mod saved_encoders;
mod search;
pub mod sequence;
pub mod settings;
mod show;
mod steps;
mod target_strip;
#[cfg(test)]
mod tests;
pub mod tiny;
pub mod words;

pub use base_models::BaseModels;
#[doc(hidden)]
pub use beam::BeamSearch;
pub use beam::EarlyStopping;
pub use generate::{Beam, Generate, Generation, Stopped};
pub use input::VlmInput;
pub use loss::{CaptionBatch, LossOutput, PromptBatch};
pub use other_encoders::NamedEncoder;
pub use preset_encoders::{EncoderFrom, OtherEncoder};
pub use pretrained::{Preset, Pretrained};
pub use prompt::{InputPiece, Piece, Prompt, PromptPart, Seen, TargetPiece};
pub use prompts::conversation::Turn;
pub use prompts::infilling::{GapOrder, Infilling};
pub use published::Published;
pub use query::Query;
pub use sampling::Sampling;
pub use sequence::{Segments, Sequence};
pub use settings::{
    AdapterTraining, BosPlacement, PromptStyle, PromptVectors, Targets, VlmSettings,
};
pub use words::PromptWords;

use crate::display::{MimeBundle, ModelTable, Render};
use crate::language::{Decoder, LlmProcessor};
use crate::nn::{Network, Parameter, Role, VlmPart, Weight};
use crate::projector::{Projector, ProjectorKind};
use crate::vision::{Encoder, ImageProcessor, Tiling};
use crate::{Error, ReadOnly, Result};
use candle_core::{DType, Device};
use std::path::Path;
use std::sync::Arc;

/// The blog's model. A clone is a copy ([`Vlm::copy`]) that trains on its own; [`Vlm::share`] gives another handle to the same
/// weights.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?; // trains in minutes; its projector knows nothing yet
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let image_tokens = vlm.embed_images(&[image.clone()])?; // image encoder, then projector
/// assert_eq!(image_tokens.dims(), [1, 26, 128]);
/// let written = vlm.generate(&image)?.max_new_tokens(8).run()?;
/// assert!(written.ids.len() <= 8);
/// let (all, trained) = (vlm.named_parameters(), vlm.trainable_parameters());
/// assert!(trained.len() < all.len()); // projector, prompt vectors and LoRA train
/// # Ok(()) }
/// ```
pub struct Vlm {
    /// Pixel values, or whatever it takes, → hidden states: a ViT ([`Encoder::vit`]) or any other [`Modality`](crate::vision::Modality).
    pub image_encoder: Encoder,
    /// Picture → pixel values.
    pub image_processor: ImageProcessor,
    /// Embeddings → logits.
    pub llm: Decoder,
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
    /// Encoders besides the first, by name: see [`Vlm::add_encoder`].
    pub other_encoders: Vec<NamedEncoder>,
    /// How pictures are cut into tiles before the encoder, where they are.
    pub tiling: Option<Tiling>,
    words: words::WordsCache,
    /// Where it came from as a whole.
    published: Option<Arc<Published>>,
}

/// The members of a [`Vlm`] that exist before it is put together.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let parts = VlmParts::tiny(&Device::Cpu)?; // pretrained ones: VlmParts::load("vit", "phi3", DType::F32, &device)?
/// let vlm = Vlm::new(parts, VlmSettings::tiny(), 1)?; // with a projector drawn from seed 1
/// assert_eq!((vlm.projector.config.input, vlm.projector.config.output), (96, 128));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct VlmParts {
    /// Pixel values, or whatever it takes, → hidden states.
    pub image_encoder: Encoder,
    /// Picture → pixel values.
    pub image_processor: ImageProcessor,
    /// Embeddings → logits.
    pub llm: Decoder,
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
            llm: Decoder::load(llm, dtype, device)?,
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
        Self::new_with(parts, settings, None, seed)
    }

    /// As [`Vlm::new`]; `own` is the projector where the settings name [`ProjectorKind::Own`].
    fn new_with(
        parts: VlmParts,
        mut settings: VlmSettings,
        own: Option<Projector>,
        seed: u64,
    ) -> Result<Self> {
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
        // Which decides its width.
        encoder::set_feature(&mut image_encoder, &settings)?;
        if let Some(config) = &settings.vit_lora {
            encoder::add_lora(&mut image_encoder, config, seed)?;
        }
        if let Some(config) = &mut settings.llm_lora {
            *config = llm.lora_for(config);
            llm.add_lora(config, seed)?;
        }
        let own = own.filter(|_| settings.projector == ProjectorKind::Own);
        let projector = match own {
            Some(own) => encoder::fitting(own, &image_encoder, &llm)?,
            None => encoder::new_projector(&image_encoder, settings.projector, &llm, seed)?,
        };
        let prompt = PromptWords::new(&llm_processor, &settings)?;
        let vector = |name: &str, ids: &[u32]| -> Result<Weight> {
            let ids = match settings.prompt_vectors {
                PromptVectors::Tokens => &[],
                PromptVectors::Fixed | PromptVectors::Trained => ids,
            };
            let values = llm.embed_ids(ids)?.to_dtype(DType::F32)?.detach(); // [1, T, D]
            Ok(Weight::frozen(name, values).with_role(Role::PromptVector))
        };
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
            other_encoders: Vec::new(),
            tiling: None,
            words: words::WordsCache::default(),
            published: None,
        };
        vlm.freeze_by_settings()?;
        Ok(vlm)
    }

    /// The same pretrained parts under other settings, put together as by [`Vlm::new`]: LoRA is taken off and added as
    /// the settings say, projector and prompt vectors begin again. Frozen base weights are shared, not copied. Encoders besides
    /// the first stay as they are.
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
        let mut vlm = Self::new_with(parts, settings, self.own_projector(), seed)?;
        vlm.other_encoders = self.other_encoders.clone();
        (vlm.tiling, vlm.published) = (self.tiling.clone(), self.published.clone());
        Ok(vlm)
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
        for other in &mut self.other_encoders {
            other
                .encoder
                .set_base_trainable(self.settings.train_encoder)?;
            other.encoder.set_lora_trainable(adapters)?;
            other.projector.set_trainable(true)?;
        }
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

    /// The prompt vector of a part.
    fn vector_of(&self, part: PromptPart) -> &Weight {
        match part {
            PromptPart::Start => &self.start_vec,
            PromptPart::End => &self.end_vec,
            PromptPart::Query => &self.query_vec,
        }
    }

    /// Every parameter, named `image_encoder.…`, `projector.…`, `start_vec`, `end_vec`, `query_vec`, `llm.…`, and of other encoders
    /// `other_encoders.<name>.encoder.…` and `other_encoders.<name>.projector.…`.
    pub fn named_parameters(&self) -> Vec<Parameter> {
        let all = self.networks().into_iter();
        all.flat_map(|(part, network)| {
            let parameters = network.named_parameters().into_iter();
            parameters.map(move |parameter| parameter.of_part(&part))
        })
        .collect()
    }

    /// The parameters that training changes.
    pub fn trainable_parameters(&self) -> Vec<Parameter> {
        let mut parameters = self.named_parameters();
        parameters.retain(Parameter::is_trainable);
        parameters
    }

    /// Switches dropout, LoRA's and that of parts of one's own, on (for training steps) or off (for everything else).
    pub fn set_training(&self, training: bool) {
        for (_, network) in self.networks() {
            network.set_training(training);
        }
    }

    /// As if the training step that is under way had not begun: dropout draws again what it has drawn for it.
    pub(crate) fn take_back_draws(&self) {
        for (_, network) in self.networks() {
            network.take_back_draws();
        }
    }

    /// Parts, parameters, what trains, dtype and device.
    pub fn table(&self) -> ModelTable {
        // The parts by the blog's names; an encoder other than the blog's by its kind too.
        let kind = self.image_encoder.kind();
        let part = |parameter: &Parameter| match &parameter.part {
            Some(VlmPart::ImageEncoder) if kind != "vit" => format!("image_encoder ({kind})"),
            Some(VlmPart::PromptVectors) | None => parameter.name.clone(),
            Some(part) => part.to_string(),
        };
        let title = format!("Vlm, settings “{}”", self.settings.name);
        ModelTable::of(title, &self.named_parameters(), &part)
    }
}

/// Tokenizer and language model with further special tokens.
fn with_new_tokens(
    processor: LlmProcessor,
    mut llm: Decoder,
    tokens: &[String],
) -> Result<(LlmProcessor, Decoder)> {
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
