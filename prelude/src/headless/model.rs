//! The section `[model]`: a preset, two models by name or folder, a fine-tune to go on with; on which device, in which dtype.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::device::DeviceChoice;
use crate::nn::{BlockType, Quantize};
use crate::vlm::{Preset, Pretrained, Vlm, VlmSettings};
use crate::{Error, Result};

/// Where a model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A GPU if there is one that can be used.
    #[default]
    Best,
    /// The CPU.
    Cpu,
    /// A GPU; without one nothing begins.
    Gpu,
}

/// The number type of the models underneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 16 bits with 5 for the exponent.
    F16,
    /// 16 bits with 8 for the exponent.
    Bf16,
}

/// The blocks that the linear layers of the language model are held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldAs {
    /// As its GGUF file has them.
    #[serde(rename = "as_stored")]
    AsStored,
    /// 8.5 bits a value.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 6.6 bits a value.
    #[serde(rename = "q6_k")]
    Q6K,
    /// 4.5 bits a value.
    #[serde(rename = "q4_k")]
    Q4K,
    /// 4.5 bits a value, for rows that blocks of 256 do not divide.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// 4.1 bits a value, as QLoRA has them.
    #[serde(rename = "nf4")]
    Nf4,
}

impl HeldAs {
    fn quantize(self) -> Quantize {
        match self {
            Self::AsStored => Quantize::as_stored(),
            Self::Q8_0 => BlockType::Q8_0.into(),
            Self::Q6K => BlockType::Q6K.into(),
            Self::Q4K => BlockType::Q4K.into(),
            Self::Q4_0 => BlockType::Q4_0.into(),
            Self::Nf4 => BlockType::Nf4.into(),
        }
    }
}

/// Which model trains.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let pair = ModelConfig::pair("facebook/dinov2-small", "HuggingFaceTB/SmolLM2-135M");
/// assert_eq!(pair.image_encoder.as_deref(), Some("facebook/dinov2-small"));
/// let tiny = RunConfig::new("runs/a", ModelConfig::preset("tiny"), DataConfig::shapes())?;
/// assert!(tiny.to_toml()?.contains("preset = \"tiny\""));
/// assert!(RunConfig::new("runs/b", ModelConfig::preset("tini"), DataConfig::shapes()).is_err());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// `tiny` or another preset by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// In place of a preset: a folder, or a repository's name, of the encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_encoder: Option<String>,
    /// The same of the language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<String>,
    /// The folder of a fine-tune that `vlm.save` wrote, to go on with: with the model that it names, or the one named here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fine_tune: Option<PathBuf>,
    /// Where it computes.
    pub device: Place,
    /// Number type of the models underneath; none: as they are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Precision>,
    /// The blocks that the linear layers of the language model are held in, on the CPU; none: floats. LoRA trains on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantize: Option<HeldAs>,
    /// Whether what is not there may be fetched.
    pub allow_download: bool,
}

impl ModelConfig {
    /// A preset by name, such as `tiny`.
    pub fn preset(name: impl Into<String>) -> ModelConfig {
        ModelConfig {
            preset: Some(name.into()),
            ..ModelConfig::default()
        }
    }

    /// Two models, each a folder or a repository's name.
    pub fn pair(image_encoder: impl Into<String>, llm: impl Into<String>) -> ModelConfig {
        ModelConfig {
            image_encoder: Some(image_encoder.into()),
            llm: Some(llm.into()),
            ..ModelConfig::default()
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Config(format!("[model]: {what}")));
        match (&self.preset, &self.image_encoder, &self.llm) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            (None, None, None) if self.fine_tune.is_some() => {}
            (None, None, None) => {
                return wrong("name one: preset = \"tiny\", image_encoder and llm, or fine_tune");
            }
            (Some(_), _, _) => {
                return wrong(
                    "preset names both models: leave image_encoder and llm out, or preset",
                );
            }
            (None, Some(_), None) => return wrong("llm is missing beside image_encoder"),
            (None, None, Some(_)) => return wrong("image_encoder is missing beside llm"),
        }
        if let Some(preset) = &self.preset {
            // Whether there is such a preset is known without loading anything.
            preset.as_str().preset()?;
        }
        match &self.fine_tune {
            Some(folder) if !folder.is_dir() => wrong(&format!(
                "fine_tune {} is no folder{}",
                folder.display(),
                crate::files::looked_for_from(folder)
            )),
            _ => Ok(()),
        }
    }

    /// The preset as it stands, without settings of the file.
    fn bare(&self) -> Result<Preset> {
        let preset = match (
            &self.preset,
            &self.image_encoder,
            &self.llm,
            &self.fine_tune,
        ) {
            (Some(name), ..) => name.as_str().preset()?,
            (None, Some(encoder), Some(llm), _) => Preset::pair(encoder.as_str(), llm.as_str()),
            (None, _, _, Some(folder)) => Preset::fine_tune(folder)?,
            _ => {
                self.check()?;
                return Err(Error::Config("[model] names no model".into()));
            }
        };
        let preset = match &self.fine_tune {
            Some(folder) => preset.with_fine_tune(folder),
            None => preset,
        };
        let preset = match self.dtype {
            Some(Precision::F32) => preset.dtype(DType::F32),
            Some(Precision::F16) => preset.dtype(DType::F16),
            Some(Precision::Bf16) => preset.dtype(DType::BF16),
            None => preset,
        };
        let preset = match self.quantize {
            Some(held) => preset.quantize(held.quantize()),
            None => preset,
        };
        Ok(match self.allow_download {
            true => preset.allow_download(true),
            false => preset,
        })
    }

    /// The settings that the model has when the file says nothing.
    pub(super) fn usual_settings(&self) -> Result<VlmSettings> {
        match &self.fine_tune {
            Some(folder) => VlmSettings::of_fine_tune(folder),
            None => Ok(self.bare()?.settings),
        }
    }

    fn device(&self) -> Result<Device> {
        match self.device {
            Place::Best => Ok(Device::best()),
            Place::Cpu => Ok(Device::Cpu),
            Place::Gpu => Device::gpu(),
        }
    }

    /// Loads the model.
    pub(super) fn load(&self, settings: &VlmSettings, seed: u64) -> Result<Vlm> {
        let preset = self.bare()?.settings(settings.clone()).seed(seed);
        Vlm::from_pretrained(&preset, &self.device()?)
    }

    /// Loads the model with what a run has trained.
    pub(super) fn load_trained(&self, settings: &VlmSettings, trained: &Path) -> Result<Vlm> {
        let preset = self.bare()?.settings(settings.clone());
        Vlm::from_pretrained(&preset.with_fine_tune(trained), &self.device()?)
    }
}
