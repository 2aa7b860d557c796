//! The blog's choices and faults as named switches, and two presets of the same code.
//!
//! [`VlmSettings::blog`] takes the choices of the post and its repository, faults included, as far as these switches name them;
//! [`VlmSettings::corrected`] repairs each fault. The repository also adds the strings for start and end of the picture to the
//! tokenizer as two tokens and resizes the embedding table: that is [`VlmSettings::new_tokens`], without its faults.
//! To see what one repair is worth, change one field:
//! `VlmSettings { bos: BosPlacement::Once, ..VlmSettings::blog() }`.

use super::base_models::BaseModels;
use crate::nn::{AttentionRule, LoraConfig};
use crate::projector::ProjectorKind;
use crate::vision::{Rescaling, VisionFeature};
use serde::{Deserialize, Serialize};

/// Whether LoRA trains.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut vlm = Vlm::tiny(&Device::Cpu)?;
/// let trained = vlm.trainable_parameters().len();
/// vlm.set_adapters(AdapterTraining::Frozen)?; // the blog's fault: LoRA is there and does not learn
/// assert!(vlm.trainable_parameters().len() < trained);
/// assert!(!vlm.trainable_parameters().iter().any(|parameter| parameter.role.is_lora()));
/// # Ok(()) }
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = |vlm: &Vlm| vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square");
/// assert_eq!(vlm.full_sequence_loss_of(&prompt(&vlm)?)?.targets.len(), 4); // three words and the end
/// vlm.set_targets(Targets::Middle); // the blog's: neither the last word nor the end
/// assert_eq!(vlm.full_sequence_loss_of(&prompt(&vlm)?)?.targets.len(), 1);
/// # Ok(()) }
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let corrected = Vlm::tiny(&Device::Cpu)?;
/// let settings = VlmSettings { bos: BosPlacement::EveryString, prompt: PromptStyle::Plain, ..VlmSettings::tiny() };
/// let blog = corrected.with_settings(settings, 0)?;
/// assert_eq!(blog.caption_ids("a red square")?[0], 1); // another <s>, in front of the caption
/// assert_ne!(corrected.caption_ids("a red square")?[0], 1);
/// # Ok(()) }
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let fixed = VlmSettings { prompt_vectors: PromptVectors::Fixed, ..VlmSettings::tiny() };
/// let vlm = Vlm::from_pretrained(&Preset::tiny().settings(fixed), &Device::Cpu)?;
/// assert!(!vlm.start_vec.is_trainable());
/// assert!(Vlm::tiny(&Device::Cpu)?.start_vec.is_trainable()); // corrected: they train
/// # Ok(()) }
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let chat = Vlm::tiny(&Device::Cpu)?;
/// let settings = VlmSettings { prompt: PromptStyle::Plain, ..VlmSettings::tiny() };
/// let plain = chat.with_settings(settings, 0)?;
/// let length = |vlm: &Vlm| -> Result<usize> { Ok(vlm.sequence(&[vlm.caption_prompt(&image, "a red square")?])?.lengths[0]) };
/// assert!(length(&plain)? < length(&chat)?); // without the template's marks for user and assistant
/// # Ok(()) }
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let settings = VlmSettings { projector: ProjectorKind::Linear, stop_at_eos: false, ..VlmSettings::tiny() };
/// let vlm = Vlm::from_pretrained(&Preset::tiny().settings(settings), &Device::Cpu)?;
/// assert!(!vlm.settings.stop_at_eos);
/// assert_ne!(VlmSettings::blog().targets, VlmSettings::corrected().targets);
/// # Ok(()) }
/// ```
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
    /// What stands for a picture in the model's own chat template, such as `<image>`, of a published model: a token of its vocabulary, or
    /// a word that marks the place. Without one the picture stands between `start_text` and `end_text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_token: Option<String>,
    /// Special tokens that the tokenizer does not have, such as `<|imstart|>`: each becomes one token with rows of its own in
    /// embedding table and LM head. These rows train and are saved; the tables stay frozen. Of a token that is there
    /// already the row trains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_tokens: Vec<String>,
    /// Whether the encoders' own weights train, all of them, and are saved with the fine-tune: for an encoder that begins
    /// untrained. Off in all presets, as the blog's ViT is pretrained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub train_encoder: bool,
    /// Who sees whom in the sequence, unless a prompt says otherwise: the blog's model is plain causal.
    #[serde(default, skip_serializing_if = "is_causal")]
    pub attention: AttentionRule,
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
            image_token: None,
            new_tokens: Vec::new(),
            train_encoder: false,
            attention: AttentionRule::Causal,
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

    /// `corrected` for a small real pair, DINOv2-small and SmolLM2-135M-Instruct ([`Preset::smol`](super::Preset::smol)):
    /// - DINOv2's patches after its final LayerNorm, its class token left out, four beside each other as one token: 16 × 16
    ///   patches become 64 image tokens;
    /// - the encoder stays frozen, so its hidden states can be made once and trained on many times (`vit_lora` may name DINOv2's
    ///   `query` and `value`);
    /// - LoRA of rank 16 and alpha 32 on all matrices of the language model's layers, which are small (4.9 million parameters);
    /// - a plain prompt of 17 tokens: the model's chat template puts a system message before each picture, 47 tokens in all, which
    ///   makes a step a third slower and says nothing of the picture (`prompt: PromptStyle::ChatTemplate` for conversations).
    pub fn smol() -> Self {
        Self {
            name: "smol".into(),
            vision_feature: VisionFeature::LastHiddenState,
            projector: ProjectorKind::PixelShuffle { factor: 2 },
            prompt: PromptStyle::Plain,
            vit_lora: None,
            llm_lora: Some(LoraConfig::new(
                16,
                32.0,
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

fn is_causal(rule: &AttentionRule) -> bool {
    *rule == AttentionRule::Causal
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
