//! A fine-tune as one folder: everything that training changed, and the settings it was trained with.
//!
//! ```text
//! folder/settings.json        the switches, the kind of encoder, the names of the base models and their fingerprints
//! folder/vlm.safetensors      projector.*, start_vec, end_vec, query_vec, llm.*.rows of new tokens,
//!                             image_encoder.* where the encoder trained as a whole; other_encoders.<name>.*
//! folder/llm_adapter/         PEFT adapter of the language model, if it has LoRA
//! folder/vit_adapter/         PEFT adapter of the image encoder, if it has LoRA
//! folder/other_encoders/NAME/ PEFT adapter of another encoder, if it has LoRA: see `saved_encoders`
//! ```
//! The base models are not copied; `settings.json` names them where they are known by name, so that
//! [`Preset::fine_tune`](super::Preset::fine_tune) finds them again. An encoder that was given in code has to be given again:
//! [`Preset::encoder`](super::Preset::encoder), [`Preset::other_encoder`](super::Preset::other_encoder).

use super::base_models::BaseModels;
use super::encoder::set_feature;
use super::fingerprint::Fingerprints;
use super::saved_encoders::SavedEncoder;
use super::settings::{PromptVectors, VlmSettings};
use super::{Vlm, with_new_tokens};
use crate::lora::{TaskType, drop_adapter, load_adapter, save_adapter};
use crate::nn::checkpoint::save_safetensors;
use crate::nn::{BlockType, Checkpoint, Init, Network, Parameter, PartMut, Role, Weight};
use crate::projector::ProjectorKind;
use crate::session::stopping::writing;
use crate::session::stopping_takes;
use crate::{Error, ReadOnly, Result, notes};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const SETTINGS: &str = "settings.json";
const WEIGHTS: &str = "vlm.safetensors";
const LLM_ADAPTER: &str = "llm_adapter";
const VIT_ADAPTER: &str = "vit_adapter";

/// What `settings.json` holds.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(flatten)]
    settings: VlmSettings,
    /// The encoder's [`kind`](crate::vision::Modality::kind); absent: a ViT.
    #[serde(default)]
    encoder: Option<String>,
    /// Absent: any base of the same sizes will do.
    #[serde(default)]
    base_fingerprints: Option<Fingerprints>,
    /// Encoders besides the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    other_encoders: Vec<SavedEncoder>,
    /// The blocks that the language model was held in while it trained; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    llm_held_as: Option<String>,
    /// The name of the projector's type, where it is one of the user's own.
    #[serde(
        default,
        rename = "projector_type",
        skip_serializing_if = "Option::is_none"
    )]
    projector: Option<String>,
}

impl Saved {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(SETTINGS);
        match crate::files::bytes(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| Error::Json { path, source })
            }
            Err(source) => Err(Error::Io { path, source }),
        }
    }
}

impl VlmSettings {
    /// The settings of a fine-tune that [`Vlm::save`] wrote.
    ///
    /// # Errors
    /// A missing or damaged `settings.json`.
    pub fn of_fine_tune(dir: impl AsRef<Path>) -> Result<Self> {
        Ok(Saved::read(dir.as_ref())?.settings)
    }
}

/// The encoders besides the first that a saved fine-tune was made with.
pub(super) fn other_encoders(dir: &Path) -> Result<Vec<SavedEncoder>> {
    Ok(Saved::read(dir)?.other_encoders)
}

/// Whether a folder is one that [`Vlm::save`] wrote.
pub(super) fn is_fine_tune(dir: &Path) -> bool {
    dir.join(SETTINGS).is_file()
}

/// The kind of encoder that a saved fine-tune was made with.
pub(super) fn encoder_kind(dir: &Path) -> Result<String> {
    Ok(Saved::read(dir)?.encoder.unwrap_or_else(|| "vit".into()))
}

impl Vlm {
    /// Writes the fine-tune; see the module's head for the layout.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?; // and then it is trained
    /// let folder = std::env::temp_dir().join(format!("first-{}", std::process::id()));
    /// vlm.save(&folder)?;
    /// let again = Vlm::load(&folder)?;
    /// assert_eq!(again.settings, vlm.settings);
    /// # std::fs::remove_dir_all(folder).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the folder cannot be written, or when the language model's own weights train, which have no place there.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let settings = self.true_settings();
        let own = |parameter: &Parameter| parameter.is_trainable() && parameter.role == Role::Base;
        if let Some(parameter) = self.llm.named_parameters().iter().find(|p| own(p)) {
            return Err(Error::Input(format!(
                "the language model's own weights train ({}, …) and are no part of a fine-tune: save them with \
                 `vlm.llm.save(folder)?` and freeze them with `vlm.llm.set_base_trainable(false)?`",
                parameter.name
            )));
        }
        let parts = self.named_parameters().into_iter();
        let values = parts
            .filter(Parameter::is_trainable)
            .map(|p| p.tensor.elem_count());
        let bytes = size_of::<f32>() * values.sum::<usize>();
        let _saving = stopping_takes(writing(bytes), "saving the fine-tune");
        std::fs::create_dir_all(dir).map_err(|source| Error::Io {
            path: dir.into(),
            source,
        })?;
        let projector = self.projector.named_parameters().into_iter();
        let projector = projector.map(|p| Ok((format!("projector.{}", p.name), p.values()?)));
        let mut tensors = projector.collect::<Result<Vec<(String, Tensor)>>>()?;
        for vector in [&self.start_vec, &self.end_vec, &self.query_vec] {
            if vector.tensor().elem_count() > 0 {
                tensors.push((vector.name().to_string(), vector.tensor().clone()));
            }
        }
        for rows in self.llm.token_rows() {
            let name = format!("llm.{}", rows.weight.name());
            tensors.push((name, rows.weight.tensor().clone()));
        }
        if settings.train_encoder {
            let parameters = self.image_encoder.named_parameters().into_iter();
            for parameter in parameters.filter(|parameter| !parameter.role.is_lora()) {
                tensors.push((encoder_name(&parameter.name), parameter.values()?));
            }
        }
        for other in &self.other_encoders {
            tensors.extend(other.saved_weights()?);
        }
        save_safetensors(&dir.join(WEIGHTS), &tensors)?;
        // PEFT looks for a folder or a repository under this name.
        let base = self.settings.base.as_ref();
        let in_file = |name: &'_ String| BaseModels::is_in_file(name).then(|| name.clone());
        let (llm, vit) = (dir.join(LLM_ADAPTER), dir.join(VIT_ADAPTER));
        if self.llm.lora_config().is_some() {
            let base = base.and_then(|base| in_file(&base.llm));
            save_adapter(&self.llm, TaskType::CausalLm, base.as_deref(), llm)?;
        } else {
            drop_adapter(&llm)?;
        }
        if self.image_encoder.lora_config().is_some() {
            let base = base.and_then(|base| in_file(&base.image_encoder));
            save_adapter(&self.image_encoder, TaskType::None, base.as_deref(), vit)?;
        } else {
            drop_adapter(&vit)?;
        }
        for other in &self.other_encoders {
            other.save_adapter(dir)?;
        }
        let path = dir.join(SETTINGS);
        let saved = Saved {
            settings,
            encoder: Some(self.image_encoder.kind()),
            base_fingerprints: Some(Fingerprints::of(self)?),
            other_encoders: self.other_encoders.iter().map(SavedEncoder::of).collect(),
            llm_held_as: held_as(&self.llm),
            projector: self.own_projector().map(|own| own.kind()),
        };
        let text = serde_json::to_string_pretty(&saved).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        std::fs::write(&path, text + "\n").map_err(|source| Error::Io { path, source })
    }

    /// Reads a fine-tune that [`Vlm::save`] wrote onto this model's base: LoRA, projector, prompt vectors and settings
    /// are replaced. What trains is as the settings say.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let folder = std::env::temp_dir().join(format!("second-{}", std::process::id()));
    /// Vlm::tiny(&Device::Cpu)?.save(&folder)?;
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// vlm.load_fine_tune(&folder)?; // what was trained takes the place of what this model has
    /// assert_eq!(vlm.settings.name, "tiny");
    /// # std::fs::remove_dir_all(folder).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A missing or damaged file, or a fine-tune of another base model.
    pub fn load_fine_tune(&mut self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let Saved {
            mut settings,
            encoder,
            base_fingerprints,
            other_encoders,
            llm_held_as,
            projector,
        } = Saved::read(dir)?;
        let (trained_on, here) = (llm_held_as, held_as(&self.llm));
        if trained_on != here {
            let said = |held: &Option<String>| match held {
                Some(kinds) => format!("in blocks of {kinds}"),
                None => "as floats".to_owned(),
            };
            notes::say(&format!(
                "{}: the fine-tune was trained on a language model that was held {}, this one is held {}: what it says may differ by the \
                 rounding",
                dir.display(),
                said(&trained_on),
                said(&here)
            ));
        }
        self.check_encoders(&other_encoders, dir)?;
        let kind = self.image_encoder.kind();
        if let Some(encoder) = encoder.filter(|encoder| *encoder != kind) {
            return Err(Error::Config(format!(
                "{}: the fine-tune was made with the encoder {encoder}, this model's is {kind}: load it onto a model with \
                 that encoder (`vlm.for_encoder`, or `Preset::encoder`)",
                dir.display()
            )));
        }
        if let Some(fingerprints) = base_fingerprints {
            fingerprints.check(self, dir)?;
        }
        // What this model really stands on counts, not where it was when the fine-tune was saved.
        settings.base = self.settings.base.clone().or(settings.base);
        let mut new = self.clone();
        if settings.projector == ProjectorKind::Own {
            let kind = self.projector.kind();
            if projector.as_ref() != Some(&kind) || self.own_projector().is_none() {
                return Err(Error::Config(format!(
                    "{}: the fine-tune was made with the projector {}, which was given in code, this model's is {kind}: give it \
                     with `vlm.set_projector(own)?` before you load it, or with `Preset::fine_tune(…)?.projector(own)`",
                    dir.display(),
                    projector.as_deref().unwrap_or("of somebody's own")
                )));
            }
        }
        set_feature(&mut new.image_encoder, &settings)?;
        new.projector.config.change().kind = settings.projector;
        new.projector.config.change().input = new.image_encoder.dim();
        new.projector.positions(new.image_encoder.positions())?;
        new.settings.change().train_encoder = settings.train_encoder;
        if new.settings.new_tokens.is_empty() {
            (new.llm_processor, new.llm) =
                with_new_tokens(new.llm_processor, new.llm, &settings.new_tokens)?;
        } else if new.settings.new_tokens != settings.new_tokens {
            return Err(Error::Config(format!(
                "{}: the fine-tune has the new tokens {:?}, this model {:?}: load it onto a model without any",
                dir.display(),
                settings.new_tokens,
                new.settings.new_tokens
            )));
        }
        new.settings.change().prompt_vectors = settings.prompt_vectors;
        new.load_weights(dir.join(WEIGHTS))?;
        new.load_encoders(&other_encoders, dir, &dir.join(WEIGHTS))?;
        // An adapter that the settings speak of and that is not there is an error that names it.
        if settings.llm_lora.is_some() || dir.join(LLM_ADAPTER).is_dir() {
            load_adapter(&mut new.llm, dir.join(LLM_ADAPTER))?;
        } else {
            new.llm.remove_lora()?;
        }
        if settings.vit_lora.is_some() || dir.join(VIT_ADAPTER).is_dir() {
            load_adapter(&mut new.image_encoder, dir.join(VIT_ADAPTER))?;
        } else {
            new.image_encoder.remove_lora()?;
        }
        new.set_rescaling(settings.rescaling)?;
        new.settings = ReadOnly::new(settings);
        new.freeze_by_settings()?;
        new.unfreeze_encoders(&other_encoders)?;
        *self = new;
        Ok(())
    }

    /// Reads projector, prompt vectors and the rows of new tokens from a safetensors file with `projector.*`, `start_vec`,
    /// `end_vec`, `query_vec` and `llm.*.rows`; the vectors may have any length. Of an encoder that trains as a whole also
    /// `image_encoder.*`.
    ///
    /// # Errors
    /// A missing or damaged file, or one for other widths.
    pub fn load_weights(&mut self, file: impl AsRef<Path>) -> Result<()> {
        let weights = Checkpoint::open(file, DType::F32, self.device())?;
        let projector = self.projector.with_weights(&weights.below("projector."))?;
        let width = self.llm.config.hidden_size;
        let vector = |name: &str, old: &Weight| -> Result<Weight> {
            let length = weights
                .shape(name)
                .and_then(|shape| shape.get(1).copied())
                .unwrap_or(0);
            let values = match self.settings.prompt_vectors {
                PromptVectors::Tokens => Tensor::zeros((1, 0, width), DType::F32, self.device())?,
                PromptVectors::Fixed | PromptVectors::Trained => {
                    weights.get(name, &[1, length, width], Init::Zeros)?
                }
            };
            let mut weight = Weight::frozen(name, values).with_role(Role::PromptVector);
            weight.set_trainable(old.is_trainable() && length > 0)?;
            Ok(weight)
        };
        let start = vector("start_vec", &self.start_vec)?;
        let end = vector("end_vec", &self.end_vec)?;
        let query = vector("query_vec", &self.query_vec)?;
        for rows in self.llm.token_rows_mut() {
            let name = format!("llm.{}", rows.weight.name());
            let values = weights.get(&name, rows.weight.tensor().dims(), Init::Zeros)?;
            rows.weight = rows.weight.with_values(values)?;
        }
        if self.settings.train_encoder {
            self.image_encoder
                .visit_mut(&mut |part| read_part(part, "image_encoder.", &weights))?;
        }
        (self.start_vec, self.end_vec, self.query_vec, self.projector) =
            (start, end, query, projector);
        Ok(())
    }
}

/// The types of blocks that a network's weights are held in, the most frequent first.
fn held_as(network: &dyn Network) -> Option<String> {
    let mut kinds: BTreeMap<BlockType, usize> = BTreeMap::new();
    for parameter in network.named_parameters() {
        if let Some(blocks) = &parameter.blocks {
            *kinds.entry(blocks.kind()).or_default() += 1;
        }
    }
    let mut kinds: Vec<(BlockType, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let names: Vec<&str> = kinds.iter().map(|(kind, _)| kind.name()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The name of an encoder's weight in `vlm.safetensors`.
fn encoder_name(weight: &str) -> String {
    format!("image_encoder.{weight}")
}

/// The saved values in place of those of a part, whose names begin with `at` in the file.
pub(crate) fn read_part(part: PartMut<'_>, at: &str, saved: &Checkpoint) -> Result<()> {
    match part {
        PartMut::Weight(weight) => read_anew(weight, at, saved),
        PartMut::Linear(linear) => {
            read_anew(&mut linear.weight, at, saved)?;
            let bias = linear.bias.as_mut();
            bias.map_or(Ok(()), |bias| read_anew(bias, at, saved))
        }
    }
}

/// The saved values in place of a weight's; clones of the model keep theirs.
fn read_anew(weight: &mut Weight, at: &str, saved: &Checkpoint) -> Result<()> {
    let old = weight.tensor();
    let values = saved.get(&format!("{at}{}", weight.name()), old.dims(), Init::Zeros)?;
    let values = values.to_dtype(old.dtype())?.to_device(old.device())?;
    *weight = weight.with_values(values)?;
    Ok(())
}
