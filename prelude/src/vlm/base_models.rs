//! The names of the two pretrained models under a model: what settings, presets and saved fine-tunes all speak of.

use serde::{Deserialize, Serialize};

/// The two pretrained models under a [`super::Vlm`]: each a folder, or a repository on the Hugging Face hub (`owner/name`, or
/// `owner/name@revision` for another branch, tag or commit than `main`).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let base = BaseModels::new("google/vit-base-patch16-224", "microsoft/Phi-3-mini-4k-instruct");
/// assert_eq!(base.llm, "microsoft/Phi-3-mini-4k-instruct");
/// assert_eq!(Preset::tiny().base.llm, BaseModels::TINY);
/// ```
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
    /// The name of the tiny language model of chemistry, which is part of the program too: see [`super::Preset::chemistry`].
    pub const CHEMISTRY: &str = "built-in chemistry";
    /// What stands for the name of an encoder that has no folder: it is given with [`super::Preset::encoder`].
    pub const IN_CODE: &str = "given in code";

    /// A pair by name.
    pub fn new(image_encoder: impl Into<String>, llm: impl Into<String>) -> Self {
        Self {
            image_encoder: image_encoder.into(),
            llm: llm.into(),
        }
    }

    /// A published model that brings both, as a whole: its folder, or its repository's name, in both places.
    pub fn published(name: impl Into<String>) -> Self {
        let name = name.into();
        Self::new(name.clone(), name)
    }

    /// The published model that both are of, if they are.
    pub(super) fn whole(&self) -> Option<&str> {
        let one = self.image_encoder == self.llm && Self::is_in_file(&self.llm);
        one.then_some(self.llm.as_str())
    }

    /// Whether a name is that of a folder or a repository.
    pub(super) fn is_in_file(name: &str) -> bool {
        ![Self::TINY, Self::CHEMISTRY, Self::IN_CODE].contains(&name)
    }
}
