//! From names to a model: where the two pretrained models under a [`Vlm`] come from, and what a fine-tune adds.
//!
//! ```text
//! Preset { base, settings, … } ─ hub::resolve ─► two folders ─ VlmParts ─ Vlm::new ─► Vlm ─ (load_fine_tune) ─► Vlm
//! ```
//! [`Preset::published`] is a whole published model. Further encoders are `preset_encoders`'s. An encoder is a ViT, CLIP, SigLIP or DINOv2 by name, or one of your own by [`Preset::encoder`].
//! [`Preset::vit_phi3`] is the blog's pair, [`Preset::smol`] a small one, [`Preset::chemistry`] one for molecules, [`Preset::pair`] any other, [`Preset::fine_tune`] a
//! folder that [`Vlm::save`] wrote. Nothing is fetched over the network unless [`Preset::allow_download`] was called.

use super::base_models::BaseModels;
use super::built_in_llm::LlmFiles;
use super::preset_encoders::{EncoderFrom, NewEncoder, OtherEncoder};
use super::{Vlm, VlmParts, VlmSettings, encoder, published, save, tiny};
use crate::device::DeviceChoice;
use crate::display::{Cell, MimeBundle, Render, Table};
use crate::hub::{self, HubError, HubOptions};
use crate::language::families::MODEL_TYPES;
use crate::language::gguf::is_gguf;
use crate::language::{Decoder, LlmProcessor};
use crate::nn::{Checkpoint, Network, Quantize};
use crate::projector::Projector;
use crate::vision::{Encoder, ImageProcessor};
use crate::{Error, Result};
use candle_core::{DType, Device};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an image encoder's folder holds besides weights.
const ENCODER_FILES: [&str; 2] = ["config.json", "preprocessor_config.json"];
/// What a language model's folder holds besides weights.
const LLM_FILES: [&str; 2] = ["config.json", "tokenizer.json"];

/// Everything that [`Vlm::from_pretrained`] needs to know. Shows where each part is, before anything is loaded.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let preset = Preset::tiny().seed(7).settings(VlmSettings { projector: ProjectorKind::Linear, ..VlmSettings::tiny() });
/// let vlm = Vlm::from_pretrained(&preset, &Device::Cpu)?;
/// assert_eq!(vlm.settings.projector, ProjectorKind::Linear);
/// assert_eq!(Preset::vit_phi3().base.image_encoder, "google/vit-base-patch16-224"); // the blog's
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Preset {
    /// The models underneath.
    pub base: BaseModels,
    /// The switches.
    pub settings: VlmSettings,
    /// Dtype of the base models; `None`: each as it is stored.
    pub dtype: Option<DType>,
    /// How the linear layers of the language model are held; `None`: as floats.
    pub quantize: Option<Quantize>,
    /// Decides the first values of projector and LoRA.
    pub seed: u64,
    /// Cache, network and progress.
    pub hub: HubOptions,
    /// The folder of a fine-tune to read onto the base.
    pub fine_tune: Option<PathBuf>,
    /// An encoder that is there already, in place of the one that `base` names.
    pub encoder: Option<Encoder>,
    /// A projector of your own, where the settings name none of those that are here.
    pub projector: Option<Projector>,
    /// Encoders besides the first: see [`Preset::other_encoder`].
    pub other_encoders: Vec<OtherEncoder>,
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

    /// Any ViT, CLIP, SigLIP or DINOv2 with any language model of [`families`](crate::language::families), each a folder, a repository,
    /// [`BaseModels::TINY`], or for the language model [`BaseModels::CHEMISTRY`] or a GGUF file, with
    /// [`VlmSettings::corrected`]. The LoRA of that preset names a ViT's layers: `vit_lora: None` keeps another encoder frozen.
    pub fn pair(image_encoder: impl Into<String>, llm: impl Into<String>) -> Self {
        Self {
            base: BaseModels::new(image_encoder, llm),
            settings: VlmSettings::corrected(),
            dtype: None,
            quantize: None,
            seed: 0,
            hub: HubOptions::from_env(),
            fine_tune: None,
            encoder: None,
            projector: None,
            other_encoders: Vec::new(),
        }
    }

    /// A small real pair, facebook/dinov2-small and HuggingFaceTB/SmolLM2-135M-Instruct, with [`VlmSettings::smol`]: 64 image
    /// tokens, LoRA of rank 16 on the language model. About 360 MB to fetch, 0.7 GB to hold: both in f32, the faster dtype on a CPU.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// let smol = Preset::smol();
    /// assert_eq!(smol.base.image_encoder, "facebook/dinov2-small");
    /// // With the network: Vlm::from_pretrained(&smol.allow_download(true), &Device::best())?
    /// // With both on disk, the second as a folder or a GGUF file:
    /// let here = Preset { base: BaseModels::new("dinov2-small", "SmolLM2-135M-Instruct.Q4_1.gguf"), ..smol };
    /// # assert_eq!(here.settings.name, "smol");
    /// ```
    pub fn smol() -> Self {
        Self::pair(
            "facebook/dinov2-small",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
        )
        .settings(VlmSettings::smol())
        .dtype(DType::F32)
    }

    /// A published vision-language model as a whole, by the folder or the repository that has it, such as
    /// `"llava-hf/llava-1.5-7b-hf"`, with [`VlmSettings::published`]: see [`crate::vlm::published`].
    pub fn published(name: impl Into<String>) -> Self {
        Self {
            base: BaseModels::published(name),
            ..Self::pair("", "")
        }
        .settings(VlmSettings::published())
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
        let preset = match base.whole() {
            Some(name) => Self::published(name),
            None => Self::pair(base.image_encoder, base.llm),
        };
        Ok(preset.with_fine_tune(dir))
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

    /// A projector of your own, in place of one that the settings name.
    pub fn projector(mut self, own: impl Into<Projector>) -> Self {
        let own = own.into();
        self.settings.projector = own.config.kind;
        self.projector = Some(own);
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

    /// Holds the linear layers of the language model in blocks: a quarter of the memory of f32 with `BlockType::Q8_0`, and LoRA trains on
    /// them as on floats (QLoRA). `Quantize::as_stored()` takes the blocks of a GGUF file as they are.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::from_pretrained(&Preset::tiny().quantize(BlockType::Q8_0), &Device::Cpu)?;
    /// assert_eq!(vlm.llm.layers[0].mlp.down_proj.weight.blocks().map(Blocks::kind), Some(BlockType::Q8_0));
    /// assert!(vlm.trainable_parameters().iter().all(|parameter| parameter.blocks.is_none())); // LoRA, projector, vectors
    /// # Ok(()) }
    /// ```
    pub fn quantize(mut self, how: impl Into<Quantize>) -> Self {
        self.quantize = Some(how.into());
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

    pub(super) fn encoder_options(&self) -> HubOptions {
        let options = self.hub.clone().required(&ENCODER_FILES);
        options.model_types(&Encoder::kinds())
    }

    fn whole_options(&self) -> HubOptions {
        // What else it needs depends on its layout, which says so when it is read.
        let options = self.hub.clone().required(&["config.json"]);
        options.model_types(&published::model_types())
    }

    fn llm_options(&self) -> HubOptions {
        let options = self.hub.clone().required(&LLM_FILES);
        options.model_types(&MODEL_TYPES)
    }

    /// Finds both parts before either is read: a missing one shows at once.
    fn parts(&self, device: &Device) -> Result<VlmParts> {
        let base = &self.base;
        let encoder = match (&self.encoder, base.image_encoder.as_str()) {
            (Some(_), _) | (None, BaseModels::TINY) => None,
            (None, BaseModels::IN_CODE) => return Err(self.needs_encoder()),
            (None, name) => {
                let folder = hub::resolve(name, &self.encoder_options());
                Some(folder.map_err(why_refused)?)
            }
        };
        let built_in = LlmFiles::named(&base.llm);
        let llm = match base.llm.as_str() {
            _ if built_in.is_some() => None,
            name if is_gguf(Path::new(name)) => Some(PathBuf::from(name)),
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
        let (mut llm, llm_processor) = match (built_in, llm) {
            (Some(files), _) => files.load(device)?,
            (None, None) => tiny::llm(device)?,
            (None, Some(folder)) => {
                let dtype = self.dtype_of(&folder)?;
                let llm = match &self.quantize {
                    None => Decoder::load(&folder, dtype, device)?,
                    Some(how) => Decoder::load_quantized(&folder, how.clone(), dtype, device)?,
                };
                return Ok(VlmParts {
                    image_encoder,
                    image_processor,
                    llm,
                    llm_processor: LlmProcessor::from_dir(&folder)?,
                });
            }
        };
        if let Some(how) = &self.quantize {
            llm.quantize(how.clone())?;
        }
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

    pub(super) fn dtype_of(&self, folder: &Path) -> Result<DType> {
        match self.dtype {
            Some(dtype) => Ok(dtype),
            None if is_gguf(folder) => Ok(DType::F32),
            // Only headers are read here.
            None => Ok(Checkpoint::open(folder, DType::F32, &Device::Cpu)?
                .stored_dtype()
                .unwrap_or(DType::F32)),
        }
    }

    /// Settings of a model on this base; without LoRA where a fine-tune brings its own.
    fn settings_on_base(&self, settings: VlmSettings) -> VlmSettings {
        let mut settings = VlmSettings {
            base: Some(self.lasting_base()),
            ..settings
        };
        if self.fine_tune.is_some() {
            (settings.vit_lora, settings.llm_lora) = (None, None);
        }
        settings
    }

    /// The base as a fine-tune should remember it.
    fn lasting_base(&self) -> BaseModels {
        BaseModels::new(lasting(&self.base.image_encoder), lasting(&self.base.llm))
    }
}

/// A name as a fine-tune should remember it: folders by their full path.
pub(super) fn lasting(name: &str) -> String {
    hub::local_folder(name)
        .and_then(|folder| folder.canonicalize().ok())
        .map_or_else(|| name.to_owned(), |folder| folder.display().to_string())
}

/// Of an encoder whose kind is known and not read: why, and what to use in its place.
pub(super) fn why_refused(error: Error) -> Error {
    match &error {
        Error::Hub(HubError::WrongArchitecture { path, found, .. }) => {
            match Encoder::refusal(found) {
                Some(why) => Error::Config(format!(
                    "{}: model_type is {found:?}: {why}",
                    path.display()
                )),
                None => error,
            }
        }
        _ => error,
    }
}

impl Render for Preset {
    fn render(&self) -> MimeBundle {
        let place = |name: &str, options: HubOptions| match name {
            BaseModels::TINY | BaseModels::CHEMISTRY => Cell::text("part of the program"),
            BaseModels::IN_CODE => match &self.encoder {
                Some(encoder) => Cell::code(encoder.kind()),
                None => Cell::text(self.needs_encoder().to_string()),
            },
            _ if is_gguf(Path::new(name)) => Cell::code(name),
            _ => match hub::resolve(name, &options.allow_download(false)) {
                Ok(folder) => Cell::code(folder.display().to_string()),
                Err(error) => Cell::text(error.to_string()),
            },
        };
        let base_name = self.base.whole();
        let mut table = Table::new(["part", "name", "where"])
            .title(format!("Preset, settings “{}”", self.settings.name));
        if let Some(name) = base_name {
            let cells = [
                Cell::code("whole model"),
                Cell::code(name),
                place(name, self.whole_options()),
            ];
            table = table.row(cells);
        }
        for (part, name, options) in [
            (
                "image_encoder",
                &self.base.image_encoder,
                self.encoder_options(),
            ),
            ("llm", &self.base.llm, self.llm_options()),
        ]
        .into_iter()
        .filter(|_| base_name.is_none())
        {
            table = table.row([Cell::code(part), Cell::code(name), place(name, options)]);
        }
        for other in &self.other_encoders {
            let (name, place) = match &other.encoder {
                EncoderFrom::Named(name) => (name.clone(), place(name, self.encoder_options())),
                EncoderFrom::Here(encoder) => {
                    (BaseModels::IN_CODE.into(), Cell::code(encoder.kind()))
                }
            };
            table = table.row([Cell::code(other.name.clone()), Cell::code(name), place]);
        }
        if let Some(dir) = &self.fine_tune {
            let dir = Cell::code(dir.display().to_string());
            table = table.row([Cell::code("fine-tune"), Cell::text(""), dir]);
        }
        table.render()
    }
}

/// What says which model is meant: a [`Preset`], the name of one (`"tiny"`, `"smol"`, `"vit_phi3"`), the folder of a fine-tune, or a
/// published model's folder or name (`"owner/name"`).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::from_pretrained("tiny", &Device::Cpu)?;
/// # let folder = std::env::temp_dir().join(format!("by-folder-{}", std::process::id()));
/// # let folder = folder.to_string_lossy();
/// # let folder: &str = &folder;
/// vlm.save(folder)?;
/// let again = Vlm::from_pretrained(folder, &Device::Cpu)?;
/// # assert_eq!(again.settings, vlm.settings);
/// # std::fs::remove_dir_all(folder).ok();
/// let error = Vlm::from_pretrained("tinny", &Device::Cpu).unwrap_err();
/// assert!(error.to_string().contains("\"tiny\""));
/// # Ok(()) }
/// ```
pub trait Pretrained {
    /// The preset that is meant.
    ///
    /// # Errors
    /// For a name that is none.
    fn preset(&self) -> Result<Preset>;
}

impl Pretrained for Preset {
    fn preset(&self) -> Result<Preset> {
        Ok(self.clone())
    }
}

impl Pretrained for Path {
    fn preset(&self) -> Result<Preset> {
        match self.join("config.json").is_file() && !save::is_fine_tune(self) {
            true => Ok(Preset::published(self.display().to_string())),
            false => Preset::fine_tune(self),
        }
    }
}

impl Pretrained for PathBuf {
    fn preset(&self) -> Result<Preset> {
        self.as_path().preset()
    }
}

impl Pretrained for String {
    fn preset(&self) -> Result<Preset> {
        self.as_str().preset()
    }
}

impl Pretrained for str {
    fn preset(&self) -> Result<Preset> {
        match self {
            "tiny" | BaseModels::TINY => Ok(Preset::tiny()),
            "smol" => Ok(Preset::smol()),
            "vit_phi3" => Ok(Preset::vit_phi3()),
            folder if Path::new(folder).is_dir() => Path::new(folder).preset(),
            name if is_repository(name) => Ok(Preset::published(name)),
            other => Err(Error::Config(format!(
                "{other:?} is neither the name of a preset (\"tiny\", \"smol\", \"vit_phi3\"), nor the folder of a fine-tune that `vlm.save` \
                 wrote or of a published model{}, nor a repository's name (\"owner/name\"); two models by name are \
                 `Preset::pair(image_encoder, llm)`",
                crate::files::looked_for_from(Path::new(other))
            ))),
        }
    }
}

/// Whether it is `owner/name` and no path.
fn is_repository(name: &str) -> bool {
    !name.starts_with(['.', '/', '~']) && !name.ends_with('/') && name.matches('/').count() == 1
}

impl Vlm {
    /// A fine-tune that [`Vlm::save`] wrote, with its base, on the best device there is.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let folder = std::env::temp_dir().join(format!("loaded-{}", std::process::id()));
    /// Vlm::tiny(&Device::Cpu)?.save(&folder)?;
    /// let vlm = Vlm::load(&folder)?;
    /// # std::fs::remove_dir_all(&folder).ok();
    /// # assert_eq!(vlm.settings.name, "tiny");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Preset::fine_tune`] and [`Vlm::from_pretrained`].
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        Self::assembled(&Preset::fine_tune(dir)?, &Device::best())
    }

    /// Loads two pretrained models and puts them together: `Vlm::from_pretrained(&Preset::vit_phi3(), &device)?`, or by the name
    /// of a preset or the folder of a fine-tune, `Vlm::from_pretrained("tiny", &device)?`: see [`Pretrained`].
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::from_pretrained(&Preset::tiny(), &Device::Cpu)?; // or "tiny", a folder, a repository's name
    /// assert_eq!(vlm.settings.name, "tiny");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Hub`] for a model that is missing, gated, truncated or of another architecture, with what was looked for
    /// and what to do; a tensor missing or of another shape, naming it and both shapes; parts that do not fit each other.
    pub fn from_pretrained(preset: &(impl Pretrained + ?Sized), device: &Device) -> Result<Self> {
        Self::assembled(&preset.preset()?, device)
    }

    fn assembled(preset: &Preset, device: &Device) -> Result<Self> {
        if let (Some(name), None) = (preset.base.whole(), &preset.encoder) {
            return Self::whole(preset, name, device);
        }
        let others = preset.others(device)?;
        let parts = preset.parts(device)?;
        let settings = preset.settings_on_base(preset.settings.clone());
        let vlm = Self::new_with(parts, settings, preset.projector.clone(), preset.seed)?;
        vlm.completed(preset, others)
    }

    /// With the encoders besides the first, and the fine-tune, if there is one.
    fn completed(mut self, preset: &Preset, others: Vec<NewEncoder>) -> Result<Self> {
        for (name, encoder, projector) in others {
            self.add_encoder_with(&name, encoder, projector, preset.seed)?;
        }
        if let Some(dir) = &preset.fine_tune {
            self.load_fine_tune(dir)?;
        }
        Ok(self)
    }

    /// A published model.
    fn whole(preset: &Preset, name: &str, device: &Device) -> Result<Self> {
        let folder = hub::resolve(name, &preset.whole_options())?;
        let mut opened = published::open(&folder, preset.dtype, device, &preset.hub)?;
        opened.parts.image_encoder = opened.parts.image_encoder.with_source(name);
        if let Some(how) = &preset.quantize {
            opened.parts.llm.quantize(how.clone())?;
        }
        let settings = preset.settings_on_base(opened.settings(preset.settings.clone()));
        let projector = Some(opened.projector);
        let mut vlm = Self::new_with(opened.parts, settings, projector, preset.seed)?;
        vlm.tiling = opened.tiling;
        vlm.published = Some(Arc::new(opened.published));
        let others = preset.others(device)?;
        vlm.completed(preset, others)
    }
}
