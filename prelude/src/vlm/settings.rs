//! The blog's choices and faults as named switches, and two presets of the same code.
//!
//! [`VlmSettings::blog`] takes the choices of the post and its repository, faults included, as far as these switches name them;
//! [`VlmSettings::corrected`] repairs each fault. The repository also adds the strings for start and end of the picture to the
//! tokenizer as two tokens and resizes the embedding table: that is [`VlmSettings::new_tokens`], without its faults.
//! To see what one repair is worth, change one field:
//! `VlmSettings { bos: BosPlacement::Once, ..VlmSettings::blog() }`.

use super::base_models::BaseModels;
use crate::nn::LoraConfig;
use crate::projector::ProjectorKind;
use crate::vision::{Rescaling, VisionFeature};
use serde::{Deserialize, Serialize};

/// Whether LoRA trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterTraining {
    /// The blog's first fault: after LoRA is added, *every* parameter of encoder and language model is frozen, LoRA
    /// included. Only the projector learns.
    Frozen,
    /// LoRA learns.
    #[default]
    Trained,
}

/// Which tokens of a caption are targets of the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// The blog's third fault: `predict_at_index` is drawn from 1 to T−2 of the caption's T ids. The last word is never a target, and
    /// there is no end-of-sequence token: the model never learns to stop. With [`BosPlacement::EveryString`], as in the blog, index 0
    /// is `<s>`, so the first word is asked for, but behind an `<s>` that generation leaves out. With
    /// [`BosPlacement::Once`] the first word is left out of the targets instead.
    Middle,
    /// Every token of the caption and the end-of-sequence token behind it.
    #[default]
    AllAndEos,
}

/// Where the beginning-of-sequence token stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BosPlacement {
    /// The blog's fourth fault: each special string is tokenized by itself, so that `<s>` stands before start, end,
    /// query and caption.
    EveryString,
    /// At the very beginning only.
    #[default]
    Once,
}

/// Whether start, end and query vectors learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptVectors {
    /// The blog's fifth fault: they are plain tensors, never trained and not in the checkpoint.
    Fixed,
    /// They train and are saved.
    #[default]
    Trained,
    /// There are none: the words of the prompt are looked up in the embedding table each time. What trains are the rows of
    /// [`VlmSettings::new_tokens`] among them.
    Tokens,
}

/// How the prompt is worded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptStyle {
    /// The blog's sixth fault: the query stands there as plain text, though the language model was tuned on a chat template.
    Plain,
    /// In the model's own chat template, if it has one: picture and query are the user's turn, the caption is the answer.
    #[default]
    ChatTemplate,
}

/// All switches of a [`super::Vlm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VlmSettings {
    /// Name of the preset that these settings began as.
    pub name: String,
    /// Which hidden states become image tokens: the blog takes the last layer's output *before* the final LayerNorm. An
    /// encoder with one output ignores it.
    #[serde(with = "by_name")]
    pub vision_feature: VisionFeature,
    /// The form of the projector.
    #[serde(default)]
    pub projector: ProjectorKind,
    /// The blog's second fault: pictures in [0, 1] are divided by 255 again, the ViT sees near-black.
    pub rescaling: Rescaling,
    /// Whether LoRA trains.
    pub adapters: AdapterTraining,
    /// Which tokens are targets.
    pub targets: Targets,
    /// Where `<s>` stands.
    pub bos: BosPlacement,
    /// Whether the prompt vectors train.
    pub prompt_vectors: PromptVectors,
    /// How the prompt is worded.
    pub prompt: PromptStyle,
    /// Whether generation stops at an end-of-sequence token (the blog always makes `max_new_tokens`).
    pub stop_at_eos: bool,
    /// The string that marks the beginning of the picture.
    pub start_text: String,
    /// The string that marks the end of the picture.
    pub end_text: String,
    /// The question or instruction.
    pub query_text: String,
    /// Special tokens that the tokenizer does not have, such as `<|imstart|>`: each becomes one token with rows of its own in
    /// embedding table and LM head. These rows train and are saved; the tables stay frozen. Of a token that is there
    /// already the row trains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_tokens: Vec<String>,
    /// Whether the encoder's own weights train, all of them, and are saved with the fine-tune: for an encoder that begins
    /// untrained. Off in all presets, as the blog's ViT is pretrained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub train_encoder: bool,
    /// LoRA on the image encoder.
    pub vit_lora: Option<LoraConfig>,
    /// LoRA on the language model.
    pub llm_lora: Option<LoraConfig>,
    /// The models underneath, where they are known by name: so that a saved fine-tune says what it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseModels>,
}

impl VlmSettings {
    /// The choices of the post and its repository, faults included.
    pub fn blog() -> Self {
        Self {
            name: "blog".into(),
            vision_feature: VisionFeature::default(),
            projector: ProjectorKind::Mlp2xGelu,
            rescaling: Rescaling::Twice,
            adapters: AdapterTraining::Frozen,
            targets: Targets::Middle,
            bos: BosPlacement::EveryString,
            prompt_vectors: PromptVectors::Fixed,
            prompt: PromptStyle::Plain,
            stop_at_eos: false,
            start_text: "<|imstart|>".into(),
            end_text: "<|imend|>".into(),
            query_text: "This image contains: ".into(),
            new_tokens: Vec::new(),
            train_encoder: false,
            vit_lora: Some(LoraConfig::blog_vit()),
            llm_lora: Some(LoraConfig::blog_llm()),
            base: None,
        }
    }

    /// The same model with every fault repaired.
    pub fn corrected() -> Self {
        Self {
            name: "corrected".into(),
            rescaling: Rescaling::Once,
            adapters: AdapterTraining::Trained,
            targets: Targets::AllAndEos,
            bos: BosPlacement::Once,
            prompt_vectors: PromptVectors::Trained,
            prompt: PromptStyle::ChatTemplate,
            stop_at_eos: true,
            query_text: "This image contains:".into(),
            ..Self::blog()
        }
    }

    /// `corrected` with start and end of the picture as new special tokens, whose rows of the embedding table train in place
    /// of `start_vec` and `end_vec`.
    pub fn new_tokens() -> Self {
        let corrected = Self::corrected();
        Self {
            name: "new_tokens".into(),
            prompt_vectors: PromptVectors::Tokens,
            new_tokens: vec![corrected.start_text.clone(), corrected.end_text.clone()],
            ..corrected
        }
    }

    /// `corrected` with LoRA of a size that fits the tiny default model.
    pub fn tiny() -> Self {
        Self {
            name: "tiny".into(),
            vit_lora: Some(LoraConfig::new(4, 8.0, &["query", "value"])),
            llm_lora: Some(LoraConfig::new(
                8,
                16.0,
                &["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
            )),
            ..Self::corrected()
        }
    }
}

impl Default for VlmSettings {
    fn default() -> Self {
        Self::corrected()
    }
}

/// A vision feature as its name.
mod by_name {
    use super::VisionFeature;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        feature: &VisionFeature,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(feature)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<VisionFeature, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
