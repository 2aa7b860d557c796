//! The encoder's place in a model: what any [`Modality`](crate::vision::Modality) needs to stand there, and another one under
//! the same language model.

use super::Vlm;
use super::base_models::BaseModels;
use super::settings::VlmSettings;
use crate::language::Decoder;
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let other = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// let vlm = vlm.for_encoder(other, 1)?; // with a fresh projector of its width
    /// assert_eq!((vlm.image_encoder.dim(), vlm.projector.config.input), (16, 16));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the projector's form does not fit the encoder's positions.
    pub fn for_encoder(&self, encoder: impl Into<Encoder>, seed: u64) -> Result<Self> {
        self.with_encoder(encoder.into(), seed)
    }

    /// Puts a projector of your own in place of the model's; it trains. See [`Projection`](crate::projector::Projection).
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// let config = ProjectorConfig { kind: ProjectorKind::AveragePool { factor: 5 }, input: 96, output: 128 };
    /// vlm.set_projector(Projector::new(config, 1, &Device::Cpu)?)?;
    /// let image_tokens = vlm.embed_images(&[Image::filled(80, 80, [200, 30, 40])?])?;
    /// assert_eq!(image_tokens.dims(), [1, 1, 128]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When it does not lead from the encoder's width to the language model's.
    pub fn set_projector(&mut self, own: impl Into<Projector>) -> Result<()> {
        let mut own = fitting(own.into(), &self.image_encoder, &self.llm)?;
        own.set_trainable(true)?;
        self.settings.change().projector = own.config.kind;
        self.projector = own;
        Ok(())
    }

    /// The projector, if it is one of the user's own.
    pub(super) fn own_projector(&self) -> Option<Projector> {
        (self.projector.config.kind == ProjectorKind::Own).then(|| self.projector.clone())
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
        // Both were the other encoder's.
        (vlm.tiling, vlm.published) = (None, None);
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
    llm: &Decoder,
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

/// A projector of the user's own, if it leads from this encoder to this language model.
pub(super) fn fitting(own: Projector, encoder: &Encoder, llm: &Decoder) -> Result<Projector> {
    let (input, output) = (encoder.dim(), llm.config.hidden_size);
    let config = *own.config;
    if (config.input, config.output) != (input, output) {
        return Err(Error::Config(format!(
            "the projector {} leads from {} to {}, here it must lead from {input} (the encoder {}) to {output} (the language \
             model's hidden_size)",
            own.kind(),
            config.input,
            config.output,
            encoder.kind()
        )));
    }
    own.positions(encoder.positions())?;
    Ok(own)
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
