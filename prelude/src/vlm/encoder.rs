//! The encoder's place in a model: what any [`Modality`](crate::vision::Modality) needs to stand there, and another one under
//! the same language model.

use super::Vlm;
use super::base_models::BaseModels;
use super::settings::VlmSettings;
use crate::language::Phi3;
use crate::nn::{LoraConfig, Network};
use crate::projector::{Projector, ProjectorConfig, ProjectorKind};
use crate::vision::{Encoder, ImageProcessor, Tower};
use crate::{Error, Result};
use candle_core::{DType, Device};
use std::path::Path;

impl Vlm {
    /// The same language model under another encoder, such as a [`Tower`] or one of your own: it becomes the model's
    /// `image_encoder` with the image processor that it asks for, frozen unless `settings.train_encoder`, and gets a fresh
    /// projector of its width, drawn from `seed`. Prompt vectors and LoRA of the language model are copies of this model's.
    ///
    /// # Errors
    /// When the projector's form does not fit the encoder's positions.
    pub fn for_encoder(&self, encoder: impl Into<Encoder>, seed: u64) -> Result<Self> {
        self.with_encoder(encoder.into(), seed)
    }

    fn with_encoder(&self, mut encoder: Encoder, seed: u64) -> Result<Self> {
        encoder.remove_lora()?;
        let mut vlm = self.clone();
        let settings = vlm.settings.change();
        settings.vit_lora = None;
        if let Some(feature) = encoder.feature() {
            settings.vision_feature = feature;
        }
        if let Some(base) = &mut settings.base {
            base.image_encoder = encoder
                .source()
                .map_or_else(|| BaseModels::IN_CODE.to_string(), ToString::to_string);
        }
        vlm.projector = new_projector(&encoder, self.projector.config.kind, &self.llm, seed)?;
        vlm.image_processor =
            ImageProcessor::of_encoder(&*encoder)?.with_rescaling(self.settings.rescaling)?;
        encoder.set_trainable(vlm.settings.train_encoder)?;
        vlm.image_encoder = encoder;
        Ok(vlm)
    }
}

/// An encoder's folder with its image processor. A tower is fitted to the size that its processor gives: DINOv2 is stored
/// for 518 pixels and used with 224.
pub(super) fn load(dir: &Path, dtype: DType, device: &Device) -> Result<(Encoder, ImageProcessor)> {
    let mut encoder = Encoder::load(dir, dtype, device)?;
    let processor = ImageProcessor::from_file(dir.join("preprocessor_config.json"))?;
    if let (Some((height, width)), Some(tower)) =
        (processor.config().output_size(), encoder.get_mut::<Tower>())
        && height == width
        && height as usize != tower.config.image_size
    {
        *tower = tower.clone().with_image_size(height as usize)?;
    }
    Ok((encoder, processor))
}

/// A fresh projector from the encoder's width to the language model's.
pub(super) fn new_projector(
    encoder: &Encoder,
    kind: ProjectorKind,
    llm: &Phi3,
    seed: u64,
) -> Result<Projector> {
    let config = ProjectorConfig {
        kind,
        input: encoder.dim(),
        output: llm.config.hidden_size,
    };
    let projector = Projector::new(config, seed, llm.device())?;
    projector.positions(encoder.positions())?;
    Ok(projector)
}

/// The output that the settings name, of an encoder that has a choice.
pub(super) fn set_feature(encoder: &mut Encoder, settings: &VlmSettings) -> Result<()> {
    match encoder.feature() {
        Some(_) => encoder.set_feature(settings.vision_feature),
        None => Ok(()),
    }
}

/// Fresh LoRA on the encoder. The presets name a ViT's layers: for another encoder the message says what to do.
pub(super) fn add_lora(encoder: &mut Encoder, config: &LoraConfig, seed: u64) -> Result<usize> {
    let kind = encoder.kind();
    encoder
        .add_lora(config, seed)
        .map_err(|error| match error {
            Error::Input(message) if kind != "vit" => Error::Input(format!(
                "vit_lora on the encoder {kind}: {message}; name those, or keep the encoder frozen with \
                 `VlmSettings {{ vit_lora: None, ..settings }}`"
            )),
            error => error,
        })
}
