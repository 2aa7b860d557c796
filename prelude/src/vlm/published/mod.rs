//! Published vision-language models: a folder as Hugging Face has it → the same bricks as the blog's model, each to be looked at.
//!
//! ```text
//! config.json ─ model_type ─► Layout ─ read ─► Blueprint: tower, feature, projector, language model, pictures, image token
//! *.safetensors ─ Layout's rules of names ─► image_encoder.…, projector.…, llm.… ─► Encoder, Projector, Decoder ─► Vlm
//! ```
//! To add one: a file with its `Layout`, and a line in the list below. Every field of its config and every weight in its files is
//! used, known by name to be of no use here, or an error. [`Vlm::save_merged`](super::Vlm::save_merged) writes a model in the layout that it came from.
//!
//! ```
//! use glassbox_prelude::prelude::*;
//! # fn main() -> Result<()> {
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published/llava_clip_llama");
//! let vlm = Vlm::from_pretrained(folder, &Device::Cpu)?; // or by name, "llava-hf/llava-1.5-7b-hf"
//! let image = Image::filled(40, 30, [200, 30, 40])?;
//! let written = vlm.generate(&image)?.query("a b").max_new_tokens(4).run()?;
//! # assert!(!written.ids.is_empty() && vlm.published().is_some());
//! # Ok(()) }
//! ```

mod folder;
mod save;
mod text_model;

pub use folder::Published;
pub(super) use folder::open;

use crate::language::{DecoderConfig, LlmProcessor};
use crate::nn::Checkpoint;
use crate::nn::checkpoint::Rule;
use crate::projector::Projector;
use crate::vision::fields::{Complaint, Fields};
use crate::vision::{ImageProcessor, Positions, Tiling, TowerConfig, VisionFeature};
use crate::{Error, Result};
use folder::Folder;
use serde_json::Value;

/// The layouts: a module each, and the table that everything else looks them up in.
macro_rules! layouts {
    ($($file:ident: $($layout:ident),+;)+) => {
        $(pub mod $file;)+
        static LAYOUTS: &[&Layout] = &[$($(&$file::$layout),+),+];
    };
}
layouts!(
    llava: LAYOUT;
    llava_next: LAYOUT;
    llava_onevision: LAYOUT;
    bunny: PHI, PHI3, QWEN2, QWEN, LLAMA;
    idefics3: IDEFICS3, SMOLVLM;
    nanovlm: LAYOUT;
);

/// How the checkpoints of a kind of published model are laid out.
pub(crate) struct Layout {
    /// As people say it.
    pub name: &'static str,
    /// `model_type` of its `config.json`.
    pub model_type: &'static str,
    /// transformers' class, or that of its own code.
    pub architecture: &'static str,
    /// Names of weights, a set of rules for each generation of its files: theirs ↔ `image_encoder.…` (a tower's names), `projector.…`
    /// (the names of the projector's type), `llm.…` (transformers' names of the family).
    pub names: &'static [&'static [Rule]],
    /// The chat template, in Jinja, of a layout whose code does not ask its files for one.
    pub template: Option<&'static str>,
    /// What stands for a video in a text, which is refused.
    pub video: Option<&'static str>,
    /// The fields of its config, and the files beside it.
    pub read: fn(&mut Fields, &Folder) -> Complaint<Blueprint>,
}

/// Weights below `projector.`, how the encoder's positions lie → the projector.
type MakeProjector = Box<dyn Fn(&Checkpoint, Positions) -> Result<Projector>>;

/// What a layout's file makes of a folder: all that is to be known before weights are read.
pub(crate) struct Blueprint {
    /// The image encoder.
    pub tower: TowerConfig,
    /// Which of its outputs goes into the projector.
    pub feature: VisionFeature,
    /// The language model.
    pub llm: DecoderConfig,
    /// Makes the projector.
    pub projector: MakeProjector,
    /// Picture → pixel values.
    pub image_processor: ImageProcessor,
    /// How pictures are cut, where they are.
    pub tiling: Option<Tiling>,
    /// What stands for a picture in a text: a token of the vocabulary, or a word that only marks the place.
    pub image_token: String,
    /// The tokenizer with the chat template, where they are not what transformers' files in the folder say.
    pub words: Option<LlmProcessor>,
}

/// `model_type` of what can be read.
pub(crate) fn model_types() -> Vec<&'static str> {
    LAYOUTS.iter().map(|layout| layout.model_type).collect()
}

/// The layout of a config.
///
/// # Errors
/// When there is none of its name, or its class is another one.
fn layout_of(config: &Value) -> Complaint<&'static Layout> {
    let model_type = crate::hub::kind_of(config);
    let found = LAYOUTS
        .iter()
        .find(|layout| layout.model_type == model_type);
    let Some(layout) = found else {
        let all = LAYOUTS.iter();
        let all = all.map(|layout| format!("{} ({})", layout.model_type, layout.name));
        return Err(format!(
            "model_type is {model_type:?}, which is no published vision-language model that can be read: there are {}",
            all.collect::<Vec<_>>().join(", ")
        ));
    };
    let classes = config["architectures"].as_array();
    let classes: Vec<&str> = classes
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !classes.is_empty() && !classes.contains(&layout.architecture) {
        return Err(format!(
            "architectures is {}, of {} only {} is read",
            classes.join(", "),
            layout.name,
            layout.architecture
        ));
    }
    Ok(layout)
}

/// A complaint as an error of the file that it is about.
fn config_error(file: &std::path::Path, complaint: &str) -> Error {
    Error::Config(format!("{}: {complaint}", file.display()))
}
