//! A published model's folder → its parts, with what was read of it and what was not.

use super::{Blueprint, Layout, config_error, layout_of};
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::hub::HubOptions;
use crate::language::{Decoder, LlmProcessor};
use crate::nn::Checkpoint;
use crate::nn::checkpoint::Names;
use crate::projector::{Projector, ProjectorKind};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::{Encoder, ImageProcessor, ImageProcessorConfig, Tiling, Tower};
use crate::vlm::settings::{BosPlacement, PromptStyle, PromptVectors, VlmSettings};
use crate::vlm::{Vlm, VlmParts};
use crate::{Error, Result};
use candle_core::{DType, Device};
use serde_json::{Map, Value};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a model came from that was read as a whole: its layout, its folder, and the weights in it that nothing here needs.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published/llava_clip_llama");
/// let vlm = Vlm::from_pretrained(folder, &Device::Cpu)?; // a published model's folder, or its name on the hub
/// assert_eq!(vlm.published().map(Published::model_type), Some("llava"));
/// assert!(Vlm::tiny(&Device::Cpu)?.published().is_none()); // its parts are the program's own
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Published {
    pub(super) layout: &'static Layout,
    folder: PathBuf,
    /// The rules that its weights' names follow.
    pub(super) names: Names,
    unused: Arc<Vec<String>>,
}

impl Published {
    /// The layout as people call it.
    pub fn name(&self) -> &str {
        self.layout.name
    }

    /// The `model_type` of its `config.json`.
    pub fn model_type(&self) -> &str {
        self.layout.model_type
    }

    /// The folder that it was read from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names, in its files, of the weights that nothing here needs: buffers, a tied head, the pooling head of a tower.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// What stands for a video in a text.
    pub(in crate::vlm) fn video(&self) -> Option<&'static str> {
        self.layout.video
    }

    fn facts(&self) -> Facts {
        let unused = match self.unused.len() {
            0 => "none".to_owned(),
            count => {
                let some: Vec<&str> = self.unused.iter().map(String::as_str).take(3).collect();
                let more = if count > 3 { ", …" } else { "" };
                format!("{count}: {}{more}", some.join(", "))
            }
        };
        Facts::new(format!("Published: {}", self.name()))
            .fact("model_type", self.model_type())
            .fact("folder", self.folder.display())
            .fact("weights that are of no use here", unused)
    }
}

shown_by_facts!(Published);

impl Vlm {
    /// Where the model came from, if it was read as a whole from a published model's folder.
    pub fn published(&self) -> Option<&Published> {
        self.published.as_deref()
    }
}

/// A model's folder while it is read.
pub(crate) struct Folder {
    pub dir: PathBuf,
    /// For what the model has elsewhere.
    pub hub: HubOptions,
    /// Its weights, of which only headers are read here; opened when first asked for.
    headers: OnceCell<Checkpoint>,
}

impl Folder {
    /// A file of JSON, if it is there.
    pub fn json(&self, name: &str) -> Result<Option<Value>> {
        let path = self.dir.join(name);
        match crate::files::bytes(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::Json { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// The fields of `processor_config.json` but for the image processor's, which newer files have inside; none where it is absent.
    pub fn processor(&self) -> Complaint<Fields> {
        let whole = self
            .json("processor_config.json")
            .map_err(|error| error.to_string())?;
        let mut fields = Fields::of(whole.unwrap_or_else(|| Value::Object(Map::new())))?;
        fields.ignore(&[
            "image_processor",
            "processor_class",
            "chat_template",
            "auto_map",
        ]);
        Ok(fields)
    }

    /// The text of the image processor's fields, and the file that has them.
    fn image_processor_text(&self) -> Result<(String, PathBuf)> {
        let path = self.dir.join("preprocessor_config.json");
        match crate::files::text(&path) {
            Ok(text) => return Ok((text, path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { path, source }),
        }
        let whole = self.json("processor_config.json")?.unwrap_or_default();
        match whole.get("image_processor") {
            Some(fields) => Ok((fields.to_string(), self.dir.join("processor_config.json"))),
            None => Err(Error::Config(format!(
                "{} holds neither a preprocessor_config.json nor a processor_config.json with an image_processor: how pictures are \
                 prepared is not known",
                self.dir.display()
            ))),
        }
    }

    /// The image processor, of a model whose pictures are one square.
    pub fn image_processor(&self) -> Complaint<ImageProcessor> {
        let read = || {
            let (text, file) = self.image_processor_text()?;
            ImageProcessor::new(ImageProcessorConfig::from_json(&text, &file)?)
        };
        read().map_err(|error: Error| error.to_string())
    }

    /// How pictures are cut.
    pub fn tiling(&self) -> Complaint<Tiling> {
        let read = || {
            let (text, file) = self.image_processor_text()?;
            Tiling::from_json(&text, &file)
        };
        read().map_err(|error: Error| error.to_string())
    }

    /// Whether the files hold a weight of this name.
    pub fn has_weight(&self, name: &str) -> Complaint<bool> {
        if let Some(weights) = self.headers.get() {
            return Ok(weights.contains(name));
        }
        let weights = Checkpoint::open(&self.dir, DType::F32, &Device::Cpu);
        let weights = weights.map_err(|error| error.to_string())?;
        Ok(self.headers.get_or_init(|| weights).contains(name))
    }

    /// How a token is written that the config names by its id.
    pub fn token(&self, name: &str, id: u32) -> Complaint<String> {
        let tokenizer = LlmProcessor::from_dir(&self.dir).map_err(|error| error.to_string())?;
        let token = tokenizer.token(id);
        match tokenizer.token_id(&token) {
            Some(found) if found == id => Ok(token),
            _ => Err(format!(
                "{name} is {id}, which the tokenizer has no token for"
            )),
        }
    }
}

/// What a folder gives: the parts, and what a [`Vlm`] is to know besides.
pub(in crate::vlm) struct Opened {
    pub parts: VlmParts,
    pub projector: Projector,
    pub tiling: Option<Tiling>,
    pub published: Published,
    settings: VlmSettings,
}

impl Opened {
    /// Settings that somebody asks for, with those that the model decides.
    pub fn settings(&self, asked: VlmSettings) -> VlmSettings {
        let own = &self.settings;
        VlmSettings {
            vision_feature: own.vision_feature,
            projector: own.projector,
            bos: own.bos,
            prompt_vectors: own.prompt_vectors,
            start_text: own.start_text.clone(),
            end_text: own.end_text.clone(),
            image_token: own.image_token.clone(),
            ..asked
        }
    }
}

/// Reads a folder; `dtype`: that of the weights as they are stored, unless it is given.
///
/// # Errors
/// [`Error::Config`] for a field that is missing, not known or not supported, [`Error::Checkpoint`] with the list of weights that are
/// missing, of another shape, or of no use, and a file that is missing or damaged.
pub(in crate::vlm) fn open(
    dir: &Path,
    dtype: Option<DType>,
    device: &Device,
    hub: &HubOptions,
) -> Result<Opened> {
    let folder = Folder {
        dir: dir.to_path_buf(),
        hub: hub.clone(),
        headers: OnceCell::new(),
    };
    let file = dir.join("config.json");
    let Some(config) = folder.json("config.json")? else {
        return Err(Error::Io {
            path: file,
            source: std::io::ErrorKind::NotFound.into(),
        });
    };
    let layout = layout_of(&config).map_err(|complaint| config_error(&file, &complaint))?;
    let blueprint =
        blueprint(layout, config, &folder).map_err(|complaint| config_error(&file, &complaint))?;
    let stored = |dtype| Checkpoint::open_named(dir, layout.names, dtype, device);
    let dtype = match dtype {
        Some(dtype) => dtype,
        // Only headers are read here.
        None => stored(DType::F32)?.stored_dtype().unwrap_or(DType::F32),
    };
    let weights = stored(dtype)?;
    let tied = blueprint.llm.tie_word_embeddings;
    let known = |name: &str| {
        let tower = name.strip_prefix("image_encoder.");
        tower.is_some_and(|name| blueprint.tower.leaves_out(name))
            || name.ends_with("rotary_emb.inv_freq")
            || (tied && name == "llm.lm_head.weight")
    };
    let (tower, projector, llm) =
        weights.all_of_use(|weights| built(&blueprint, weights), known)?;
    let unread = weights.unread();
    let unused = unread.iter().map(|name| match weights.rules() {
        Some(rules) => rules.theirs(name),
        None => name.clone(),
    });
    let Some(names) = weights.rules().cloned() else {
        return Err(Error::Config(format!("{}: no weights", dir.display())));
    };
    let published = Published {
        layout,
        folder: dir.to_path_buf(),
        names,
        unused: Arc::new(unused.collect()),
    };
    let settings = VlmSettings {
        vision_feature: blueprint.feature,
        projector: ProjectorKind::Own,
        image_token: Some(blueprint.image_token),
        ..VlmSettings::published()
    };
    Ok(Opened {
        parts: VlmParts {
            image_encoder: Encoder::from(tower).with_source(dir.display().to_string()),
            image_processor: blueprint.image_processor,
            llm,
            llm_processor: match blueprint.words {
                Some(words) => words,
                None => llm_processor(layout, dir)?,
            },
        },
        projector,
        tiling: blueprint.tiling,
        published,
        settings,
    })
}

/// The layout's own reading, with the fields that say nothing of what is computed; nothing may be left.
fn blueprint(layout: &Layout, config: Value, folder: &Folder) -> Complaint<Blueprint> {
    let mut fields = Fields::of(config)?;
    fields.ignore(&["model_type"]);
    let blueprint = (layout.read)(&mut fields, folder)?;
    fields.bookkeeping()?;
    fields.finish(&format!("a model of the layout {}", layout.name))?;
    Ok(blueprint)
}

/// The tokenizer, with the layout's chat template where it has one of its own.
fn llm_processor(layout: &Layout, dir: &Path) -> Result<LlmProcessor> {
    let processor = LlmProcessor::from_dir(dir)?;
    match layout.template {
        Some(template) => Ok(processor.with_chat_template(template)),
        None => Ok(processor),
    }
}

/// The parts, from weights under our names.
fn built(blueprint: &Blueprint, weights: &Checkpoint) -> Result<(Tower, Projector, Decoder)> {
    let tower = Tower::from_checkpoint(&blueprint.tower, &weights.below("image_encoder."))?
        .with_feature(blueprint.feature)?;
    let positions = crate::vision::Modality::positions(&tower);
    // Trains in f32, whatever the base has.
    let own = weights.below("projector.").with_dtype(DType::F32);
    let projector = (blueprint.projector)(&own, positions)?;
    let llm = Decoder::from_checkpoint(&blueprint.llm, &weights.below("llm."))?;
    Ok((tower, projector, llm))
}

impl VlmSettings {
    /// What a published model is read with: its own words around the picture, nothing trained but its projector. Set `llm_lora` to
    /// fine-tune it. What the model itself decides (the feature, the projector, the token of the image) is filled in when it is read.
    pub fn published() -> Self {
        Self {
            name: "published".into(),
            prompt_vectors: PromptVectors::Tokens,
            bos: BosPlacement::Once,
            prompt: PromptStyle::ChatTemplate,
            start_text: String::new(),
            end_text: String::new(),
            query_text: "Describe this image.".into(),
            vit_lora: None,
            llm_lora: None,
            ..Self::corrected()
        }
    }
}
