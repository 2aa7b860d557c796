//! From names to a model: where the two pretrained models under a [`Vlm`] come from, and what a fine-tune adds.
//!
//! ```text
//! Preset { base, settings, … } ─ hub::resolve ─► two folders ─ VlmParts ─ Vlm::new ─► Vlm ─ (load_fine_tune) ─► Vlm
//! ```
//! An encoder is a ViT, CLIP, SigLIP or DINOv2 by name, or one of your own by [`Preset::encoder`].
//! [`Preset::vit_phi3`] is the blog's pair, [`Preset::pair`] any other, [`Preset::fine_tune`] a folder that
//! [`Vlm::save`] wrote. Nothing is fetched over the network unless [`Preset::allow_download`] was called.

use super::base_models::BaseModels;
use super::{Vlm, VlmParts, VlmSettings, encoder, save, tiny};
use crate::display::{Cell, MimeBundle, Render, Table};
use crate::hub::{self, HubOptions};
use crate::language::{LlmProcessor, Phi3};
use crate::nn::{Checkpoint, Network};
use crate::vision::{Encoder, ImageProcessor};
use crate::{Error, Result};
use candle_core::{DType, Device};
use std::path::{Path, PathBuf};

/// What an image encoder's folder holds besides weights.
const ENCODER_FILES: [&str; 2] = ["config.json", "preprocessor_config.json"];
/// What a language model's folder holds besides weights.
const LLM_FILES: [&str; 2] = ["config.json", "tokenizer.json"];
const LLM_KINDS: [&str; 1] = ["phi3"];

/// Everything that [`Vlm::from_pretrained`] needs to know. Shows where each part is, before anything is loaded.
#[derive(Clone)]
pub struct Preset {
    /// The models underneath.
    pub base: BaseModels,
    /// The switches.
    pub settings: VlmSettings,
    /// Dtype of the base models; `None`: each as it is stored.
    pub dtype: Option<DType>,
    /// Decides the first values of projector and LoRA.
    pub seed: u64,
    /// Cache, network and progress.
    pub hub: HubOptions,
    /// The folder of a fine-tune to read onto the base.
    pub fine_tune: Option<PathBuf>,
    /// An encoder that is there already, in place of the one that `base` names.
    pub encoder: Option<Encoder>,
}

impl Preset {
    /// The blog's pair, google/vit-base-patch16-224 and microsoft/Phi-3-mini-4k-instruct, with
    /// [`VlmSettings::corrected`]. About 8 GB to fetch and to hold: the ViT in f32, Phi-3 in bf16.
    pub fn vit_phi3() -> Self {
        Self::pair(
            "google/vit-base-patch16-224",
            "microsoft/Phi-3-mini-4k-instruct",
        )
    }

    /// Any ViT, CLIP, SigLIP or DINOv2 with any Phi-3, each a folder, a repository or [`BaseModels::TINY`], with
    /// [`VlmSettings::corrected`]. The LoRA of that preset names a ViT's layers: `vit_lora: None` keeps another encoder frozen.
    pub fn pair(image_encoder: impl Into<String>, llm: impl Into<String>) -> Self {
        Self {
            base: BaseModels::new(image_encoder, llm),
            settings: VlmSettings::corrected(),
            dtype: None,
            seed: 0,
            hub: HubOptions::from_env(),
            fine_tune: None,
            encoder: None,
        }
    }

    /// The tiny models that are part of the program, with [`VlmSettings::tiny`].
    pub fn tiny() -> Self {
        Self::pair(BaseModels::TINY, BaseModels::TINY).settings(VlmSettings::tiny())
    }

    /// A fine-tune that [`Vlm::save`] wrote, on the base that its `settings.json` names.
    ///
    /// # Errors
    /// A missing or damaged `settings.json`, or one that names no base: then read the fine-tune onto a model of yours with
    /// [`Vlm::load_fine_tune`], or name the base with [`Preset::pair`] and [`Preset::with_fine_tune`].
    pub fn fine_tune(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let settings = VlmSettings::of_fine_tune(dir)?;
        let Some(base) = settings.base.clone() else {
            return Err(Error::Config(format!(
                "{}: settings.json does not say which models the fine-tune is for: name them with `Preset::pair(image_encoder, llm).with_fine_tune(folder)`",
                dir.display()
            )));
        };
        Ok(Self::pair(base.image_encoder, base.llm).with_fine_tune(dir))
    }

    /// Reads a fine-tune onto the base; its settings replace those given here.
    pub fn with_fine_tune(mut self, dir: impl AsRef<Path>) -> Self {
        self.fine_tune = Some(dir.as_ref().to_path_buf());
        self
    }

    /// An encoder that is there already, such as one of your own, in place of the one that the base names.
    pub fn encoder(mut self, encoder: impl Into<Encoder>) -> Self {
        let encoder = encoder.into();
        let source = encoder.source().unwrap_or(BaseModels::IN_CODE);
        self.base.image_encoder = source.to_string();
        self.encoder = Some(encoder);
        self
    }

    /// Other switches.
    pub fn settings(mut self, settings: VlmSettings) -> Self {
        self.settings = settings;
        self
    }

    /// One dtype for both base models, instead of each as it is stored.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Other first values of projector and LoRA.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Allows the network for what is neither a folder nor in the Hugging Face cache. `HF_HUB_OFFLINE` forbids it
    /// still.
    pub fn allow_download(mut self, allow: bool) -> Self {
        self.hub = self.hub.allow_download(allow);
        self
    }

    /// Other settings of cache, network and progress than the environment gives.
    pub fn hub(mut self, options: HubOptions) -> Self {
        self.hub = options;
        self
    }

    fn encoder_options(&self) -> HubOptions {
        let options = self.hub.clone().required(&ENCODER_FILES);
        options.model_types(&Encoder::KINDS)
    }

    fn llm_options(&self) -> HubOptions {
        let options = self.hub.clone().required(&LLM_FILES);
        options.model_types(&LLM_KINDS)
    }

    /// Finds both parts before either is read: a missing one shows at once.
    fn parts(&self, device: &Device) -> Result<VlmParts> {
        let base = &self.base;
        let encoder = match (&self.encoder, base.image_encoder.as_str()) {
            (Some(_), _) | (None, BaseModels::TINY) => None,
            (None, BaseModels::IN_CODE) => return Err(self.needs_encoder()),
            (None, name) => Some(hub::resolve(name, &self.encoder_options())?),
        };
        let llm = match base.llm.as_str() {
            BaseModels::TINY => None,
            name => Some(hub::resolve(name, &self.llm_options())?),
        };
        let (image_encoder, image_processor) = match (&self.encoder, encoder) {
            (Some(encoder), _) => {
                let mut encoder = encoder.clone();
                encoder.remove_lora()?;
                let processor = ImageProcessor::of_encoder(&*encoder)?;
                (encoder, processor)
            }
            (None, None) => tiny::encoder(device)?,
            (None, Some(folder)) => {
                let (encoder, processor) = encoder::load(&folder, self.dtype_of(&folder)?, device)?;
                (encoder.with_source(&base.image_encoder), processor)
            }
        };
        let (llm, llm_processor) = match llm {
            None => tiny::llm(device)?,
            Some(folder) => (
                Phi3::load(&folder, self.dtype_of(&folder)?, device)?,
                LlmProcessor::from_dir(&folder)?,
            ),
        };
        Ok(VlmParts {
            image_encoder,
            image_processor,
            llm,
            llm_processor,
        })
    }

    /// What to say of a fine-tune whose encoder only its user has.
    fn needs_encoder(&self) -> Error {
        let Some(dir) = &self.fine_tune else {
            return Error::Config(
                "the encoder is given in code, not by name: give it with `Preset::encoder(…)`"
                    .into(),
            );
        };
        match save::encoder_kind(dir) {
            Ok(kind) => Error::Config(format!(
                "{}: the fine-tune was made with the encoder {kind}, which was given in code and lies in no folder: make it \
                 again and give it with `Preset::fine_tune(…)?.encoder(…)`",
                dir.display()
            )),
            Err(error) => error,
        }
    }

    fn dtype_of(&self, folder: &Path) -> Result<DType> {
        match self.dtype {
            Some(dtype) => Ok(dtype),
            // Only headers are read here.
            None => Ok(Checkpoint::open(folder, DType::F32, &Device::Cpu)?
                .stored_dtype()
                .unwrap_or(DType::F32)),
        }
    }

    /// The base as a fine-tune should remember it: folders by their full path.
    fn lasting_base(&self) -> BaseModels {
        let lasting = |name: &String| {
            hub::local_folder(name)
                .and_then(|folder| folder.canonicalize().ok())
                .map_or_else(|| name.clone(), |folder| folder.display().to_string())
        };
        BaseModels::new(lasting(&self.base.image_encoder), lasting(&self.base.llm))
    }
}

impl Render for Preset {
    fn render(&self) -> MimeBundle {
        let place = |name: &str, options: HubOptions| match name {
            BaseModels::TINY => Cell::text("part of the program"),
            BaseModels::IN_CODE => match &self.encoder {
                Some(encoder) => Cell::code(encoder.kind()),
                None => Cell::text(self.needs_encoder().to_string()),
            },
            _ => match hub::resolve(name, &options.allow_download(false)) {
                Ok(folder) => Cell::code(folder.display().to_string()),
                Err(error) => Cell::text(error.to_string()),
            },
        };
        let mut table = Table::new(["part", "name", "where"])
            .title(format!("Preset, settings “{}”", self.settings.name));
        for (part, name, options) in [
            (
                "image_encoder",
                &self.base.image_encoder,
                self.encoder_options(),
            ),
            ("llm", &self.base.llm, self.llm_options()),
        ] {
            table = table.row([Cell::code(part), Cell::code(name), place(name, options)]);
        }
        if let Some(dir) = &self.fine_tune {
            let dir = Cell::code(dir.display().to_string());
            table = table.row([Cell::code("fine-tune"), Cell::text(""), dir]);
        }
        table.render()
    }
}

impl Vlm {
    /// Loads two pretrained models and puts them together: `Vlm::from_pretrained(&Preset::vit_phi3(), &device)?`.
    ///
    /// # Errors
    /// [`Error::Hub`] for a model that is missing, gated, truncated or of another architecture, with what was looked for
    /// and what to do; a tensor missing or of another shape, naming it and both shapes; parts that do not fit each other.
    pub fn from_pretrained(preset: &Preset, device: &Device) -> Result<Self> {
        let parts = preset.parts(device)?;
        let mut settings = VlmSettings {
            base: Some(preset.lasting_base()),
            ..preset.settings.clone()
        };
        let Some(dir) = &preset.fine_tune else {
            return Self::new(parts, settings, preset.seed);
        };
        // The fine-tune brings its own.
        (settings.vit_lora, settings.llm_lora) = (None, None);
        let mut vlm = Self::new(parts, settings, preset.seed)?;
        vlm.load_fine_tune(dir)?;
        Ok(vlm)
    }
}
