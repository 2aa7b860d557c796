//! A model with its LoRA merged → a folder in the layout that it came from, which transformers reads.
//!
//! ```text
//! each tensor of the files it came from: ours in its place, its rows put together again │ or, of no use here, as it was ─► model.safetensors
//! config.json, tokenizer, templates, image processor … ─ as they were, but for the dtype ─► beside it
//! ```
//! A model that is no published one becomes two folders, `image_encoder` and `llm`, each as transformers has such a model.

use crate::nn::checkpoint::save_safetensors;
use crate::nn::{Checkpoint, Network};
use crate::session::stopping::writing;
use crate::session::stopping_takes;
use crate::vision::{Tower, Vit};
use crate::vlm::Vlm;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Published;

/// Endings of the files beside the weights that are taken along.
const BESIDE: [&str; 6] = ["json", "jinja", "txt", "model", "py", "md"];
/// Of one of those endings, and not taken along.
const INDEX: &str = "model.safetensors.index.json";

impl Vlm {
    /// Writes the model with its LoRA merged into the weights, for transformers: a published model in the layout that it came from
    /// (config, weights, tokenizer, templates, image processor), any other as two folders, `image_encoder` and `llm`. Prompt vectors and a
    /// projector of such a pair have no place there: [`Vlm::save`] keeps them.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let from = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published/llava_clip_llama");
    /// # let folder = std::env::temp_dir().join(format!("merged-{}", std::process::id()));
    /// let preset = Preset::published(from).settings(VlmSettings {
    ///     llm_lora: Some(LoraConfig::new(2, 4.0, &["q_proj", "v_proj"])),
    ///     ..VlmSettings::published()
    /// });
    /// let vlm = Vlm::from_pretrained(&preset, &Device::Cpu)?; // and then it is trained
    /// vlm.save_merged(&folder)?;
    /// let merged = Vlm::from_pretrained(folder.as_path(), &Device::Cpu)?;
    /// # assert!(merged.llm.lora_config().is_none());
    /// # std::fs::remove_dir_all(&folder).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the folder can't be written, when the one that the model came from is gone, and for parts that its layout has no place for,
    /// by name.
    pub fn save_merged(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        if !self.settings.new_tokens.is_empty() {
            return Err(Error::Input(format!(
                "the new tokens {:?} would have to be written into the tokenizer's files, which is not supported: `vlm.save` keeps them",
                self.settings.new_tokens
            )));
        }
        if let Some(other) = self.other_encoders.first() {
            return Err(Error::Input(format!(
                "the encoder {:?} has no place in the layout: `vlm.save` keeps it",
                other.name
            )));
        }
        std::fs::create_dir_all(dir).map_err(|source| Error::Io {
            path: dir.into(),
            source,
        })?;
        let mut merged = self.copy()?;
        merged.llm.merge_lora()?;
        merged.image_encoder.merge_lora()?;
        match self.published() {
            Some(published) => merged.in_layout(published, dir),
            None => merged.as_pair(dir),
        }
    }

    /// `image_encoder/` and `llm/`.
    fn as_pair(&self, dir: &Path) -> Result<()> {
        let encoder = dir.join("image_encoder");
        if let Some(vit) = self.image_encoder.get::<Vit>() {
            vit.save(&encoder)?;
        } else if let Some(tower) = self.image_encoder.get::<Tower>() {
            tower.save(&encoder)?;
        } else {
            return Err(Error::Input(format!(
                "the encoder {} has no layout of Hugging Face's: `vlm.llm.save(folder)` writes the language model alone",
                self.image_encoder.kind()
            )));
        }
        let config = self.image_processor.config().to_json();
        write_json(&encoder.join("preprocessor_config.json"), &config)?;
        self.llm.save(dir.join("llm"))?;
        self.llm_processor.save(dir.join("llm"))
    }

    fn in_layout(&self, published: &Published, dir: &Path) -> Result<()> {
        let from = published.folder();
        if same_folder(from, dir) {
            return Err(Error::Input(format!(
                "{} is the folder that the model came from: give another",
                dir.display()
            )));
        }
        let dtype = self.llm.dtype();
        let stored = Checkpoint::open(from, dtype, &Device::Cpu)?;
        let mut ours: BTreeMap<String, Tensor> = BTreeMap::new();
        for parameter in self.named_parameters() {
            if parameter.tensor.elem_count() > 0 && !parameter.role.is_lora() {
                let values = parameter.values()?;
                ours.insert(parameter.name, values);
            }
        }
        let tied = self.llm.config.tie_word_embeddings;
        let (mut tensors, mut placed) = (Vec::new(), BTreeSet::new());
        for theirs in stored.names() {
            let names = published.names.ours(&theirs);
            let own = names.iter().map(|name| match name.as_str() {
                "llm.lm_head.weight" if tied => ours.get("llm.model.embed_tokens.weight"),
                name => ours.get(name),
            });
            let tensor = match own.collect::<Option<Vec<&Tensor>>>() {
                Some(parts) if !parts.is_empty() => {
                    let parts = parts.into_iter().map(|part| part.detach().to_dtype(dtype));
                    let whole = Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
                    check_shape(&theirs, &whole, &stored)?;
                    whole
                }
                _ => stored.carried(&theirs)?,
            };
            placed.extend(names);
            tensors.push((theirs, tensor));
        }
        if let Some(name) = ours.keys().find(|name| !placed.contains(*name)) {
            return Err(Error::Input(format!(
                "{name} has no place in the layout of {}: `vlm.save` keeps it",
                published.name()
            )));
        }
        let bytes = tensors
            .iter()
            .map(|(_, tensor)| tensor.elem_count() * tensor.dtype().size_in_bytes());
        let _saving = stopping_takes(writing(bytes.sum()), "saving the merged model");
        save_safetensors(&dir.join("model.safetensors"), &tensors)?;
        copy_beside(from, dir)?;
        let path = from.join("config.json");
        let text = crate::files::text(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let mut config: Value =
            serde_json::from_str(&text).map_err(|source| Error::Json { path, source })?;
        set_dtype(&mut config, dtype);
        write_json(&dir.join("config.json"), &config)
    }
}

/// A weight that was replaced by one of another form has no place any more.
fn check_shape(theirs: &str, tensor: &Tensor, stored: &Checkpoint) -> Result<()> {
    match stored.shape(theirs) {
        Some(shape) if shape != tensor.dims() => Err(Error::Input(format!(
            "{theirs} has shape {:?} now, {shape:?} in the layout that the model came from: `vlm.save` keeps it",
            tensor.dims()
        ))),
        _ => Ok(()),
    }
}

fn same_folder(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Tokenizer, templates, processors, code and so on: all but the weights and what is written anew.
fn copy_beside(from: &Path, dir: &Path) -> Result<()> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    };
    for entry in std::fs::read_dir(from).map_err(io(from))? {
        let path = entry.map_err(io(from))?.path();
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() && name == "additional_chat_templates" {
            let inner = dir.join(name);
            std::fs::create_dir_all(&inner).map_err(io(&inner))?;
            copy_beside(&path, &inner)?;
        }
        if path.is_file() && BESIDE.contains(&ending) && name != INDEX && name != "config.json" {
            std::fs::copy(&path, dir.join(name)).map_err(io(&path))?;
        }
    }
    Ok(())
}

/// The dtype in the fields that say it, of the whole and of its parts.
fn set_dtype(config: &mut Value, dtype: DType) {
    let name = crate::vision::vit::torch_dtype(dtype);
    let Value::Object(fields) = config else {
        return;
    };
    for field in ["dtype", "torch_dtype"] {
        if fields.get(field).is_some_and(Value::is_string) {
            fields.insert(field.into(), name.into());
        }
    }
    for part in ["text_config", "vision_config"] {
        if let Some(part) = fields.get_mut(part) {
            set_dtype(part, dtype);
        }
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|source| Error::Json {
        path: path.into(),
        source,
    })?;
    std::fs::write(path, text + "\n").map_err(|source| Error::Io {
        path: path.into(),
        source,
    })
}
