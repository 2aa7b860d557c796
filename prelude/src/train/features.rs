//! What a frozen encoder makes of its inputs, kept on disk: an input → its hidden states, computed once for all epochs and runs.
//!
//! ```text
//! folder/<encoder: its weights, kind and output>/<input: every value that the encoder reads>.safetensors    "features" [1, P, D]
//! ```
//! The values that the encoder reads are what the image processor made, so another processor is another input. What is there is
//! used; what does not fit in the limit any more is computed each time.

use std::path::PathBuf;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::kept::{Kept, Key};
use crate::nn::{Network, Part};
use crate::vlm::Vlm;
use crate::{Error, Result};

/// Where features, or prepared pictures, are kept on disk, and how many.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("features-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let vlm = Vlm::tiny(&Device::Cpu)?.with_settings(VlmSettings { vit_lora: None, ..VlmSettings::tiny() }, 0)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let features = Some(FeatureSettings { megabytes: 100, ..FeatureSettings::new(folder) });
/// let settings = TrainerSettings { steps: 2, batch_size: 1, features, ..TrainerSettings::tour() };
/// Trainer::new(settings)?.fit(&vlm, &set, &set)?; // the frozen encoder reads the picture once
/// assert!(folder.read_dir().is_ok_and(|mut files| files.next().is_some()));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// The folder; one may serve many runs, encoders and image processors.
    pub folder: PathBuf,
    /// All files of one encoder, or of one image processor, take at most so much, in 2²⁰ bytes.
    #[serde(default = "gigabyte")]
    pub megabytes: u64,
}

fn gigabyte() -> u64 {
    1024
}

impl FeatureSettings {
    /// At most a gigabyte in a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            megabytes: gigabyte(),
        }
    }
}

/// The features of one encoder.
pub(super) struct Features {
    kept: Kept,
}

impl Features {
    /// Those of the model's `image_encoder`.
    ///
    /// # Errors
    /// `Config` for an encoder that trains or drops, or whose inputs can't be told from hidden states.
    pub(super) fn open(vlm: &Vlm, settings: &FeatureSettings) -> Result<Self> {
        let encoder = &vlm.image_encoder;
        let refused = |why: String| {
            Error::Config(format!(
                "trainer: features are kept of a frozen encoder, and {why}; leave `features` out, or freeze it with \
                 `vlm.set_trainable(\"image_encoder\", false)?`"
            ))
        };
        if vlm.tiling.is_some() {
            return Err(refused(
                "this model cuts pictures into tiles, of which the features are not kept".into(),
            ));
        }
        if let Some(moving) = encoder.trainable_parameters().first() {
            return Err(refused(format!("image_encoder.{} trains", moving.name)));
        }
        let mut drops = None;
        encoder.visit(&mut |part| {
            if let Part::Linear(linear) = part
                && linear
                    .lora
                    .as_ref()
                    .is_some_and(|lora| lora.config().lora_dropout > 0.0)
            {
                drops.get_or_insert_with(|| linear.name().to_owned());
            }
        });
        if let Some(layer) = drops {
            return Err(refused(format!("the LoRA of {layer} has dropout")));
        }
        if encoder.input_axes().len() == 3 {
            return Err(refused(format!(
                "the encoder {} reads three axes, as hidden states have",
                encoder.kind()
            )));
        }
        let folder = settings.folder.join(key(vlm)?);
        let most = settings.megabytes.saturating_mul(1 << 20);
        Ok(Self {
            kept: Kept::open(folder, "features", most)?,
        })
    }

    /// The hidden states of an input, `[1, ..] → [1, P, D]`; one that is hidden states already stays.
    ///
    /// # Errors
    /// When the encoder can't read it.
    pub(super) fn of(&self, vlm: &Vlm, input: &Tensor) -> Result<Tensor> {
        if input.rank() != vlm.image_encoder.input_axes().len() {
            return Ok(input.clone());
        }
        let mut key = Key::new();
        key.tensor(input)?;
        self.kept.get(&key.hex(), vlm.device(), || {
            vlm.image_encoder.encode(input) // [1, P, D]
        })
    }
}

/// What the encoder is, in hexadecimal: all its weights, its kind and which output it gives.
fn key(vlm: &Vlm) -> Result<String> {
    let encoder = &vlm.image_encoder;
    let mut hash = Key::new();
    hash.bytes(encoder.kind().as_bytes());
    if let Some(feature) = encoder.feature() {
        hash.bytes(feature.to_string().as_bytes());
    }
    for parameter in encoder.named_parameters() {
        hash.bytes(parameter.name.as_bytes());
        hash.tensor(&parameter.values()?)?;
    }
    Ok(hash.hex())
}
