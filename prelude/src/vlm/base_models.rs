//! The names of the two pretrained models under a model: what settings, presets and saved fine-tunes all speak of.

use serde::{Deserialize, Serialize};

/// The two pretrained models under a [`super::Vlm`]: each a folder, or a repository on the Hugging Face hub (`owner/name`, or
/// `owner/name@revision` for another branch, tag or commit than `main`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseModels {
    /// Pixel values → hidden states.
    pub image_encoder: String,
    /// Embeddings → logits.
    pub llm: String,
}

impl BaseModels {
    /// The name of the models that are part of the program. The space keeps it apart from every repository's name.
    pub const TINY: &str = "built-in tiny";
    /// What stands for the name of an encoder that has no folder: it is given with [`super::Preset::encoder`].
    pub const IN_CODE: &str = "given in code";

    /// A pair by name.
    pub fn new(image_encoder: impl Into<String>, llm: impl Into<String>) -> Self {
        Self {
            image_encoder: image_encoder.into(),
            llm: llm.into(),
        }
    }

    /// Whether a name is that of a folder or a repository.
    pub(super) fn is_in_file(name: &str) -> bool {
        ![Self::TINY, Self::IN_CODE].contains(&name)
    }
}
