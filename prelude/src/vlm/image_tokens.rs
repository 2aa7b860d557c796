//! Stage 1, embedding: pixel values → hidden states → image tokens in the language model's space.
//!
//! Hidden states of any other encoder can take the place of pixel values, in this stage and in all that follow: loss,
//! generation, concatenation. [`Vlm::for_encoder`] makes a projector of their width.

use super::Vlm;
use crate::nn::Network;
use crate::projector::{Projector, ProjectorConfig};
use crate::vision::{Image, Modality};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

impl Vlm {
    /// Pixel values `[B, 3, H, W]` → image tokens `[B, P, D]`. What has the shape `[B, P, D_image]` counts as hidden states of
    /// an encoder already, and passes the projector only.
    ///
    /// # Errors
    /// When the picture has another size than the image encoder takes, the hidden states another width than the projector
    /// takes, or the input neither shape.
    pub fn image_tokens(&self, input: &Tensor) -> Result<Tensor> {
        let hidden = match input.rank() {
            4 => self.image_encoder.encode(input)?, // [B, P, D_image]
            3 => input.clone(),                     // [B, P, D_image]
            _ => {
                return Err(Error::Input(format!(
                    "pixel values are [batch, 3, height, width], hidden states [batch, positions, width]; got shape {:?}",
                    input.dims()
                )));
            }
        };
        self.projector
            .forward(&hidden.to_device(self.device())?.to_dtype(DType::F32)?) // [B, P, D]
    }

    /// Pictures → pixel values `[B, 3, H, W]` → image tokens `[B, P, D]`.
    ///
    /// # Errors
    /// For no pictures.
    pub fn embed_images(&self, images: &[Image]) -> Result<Tensor> {
        self.image_tokens(&self.image_processor.preprocess_batch(images)?)
    }

    /// The same model for another encoder, such as a [`Tower`](crate::vision::Tower): a fresh projector of its width, drawn
    /// from `seed`. Give what `encoder.encode(…)` makes wherever this model takes pixel values; the encoder stays outside,
    /// is not saved with the fine-tune, and the model's own one is asked no more and loses its LoRA.
    ///
    /// # Errors
    /// When the projector's form does not fit.
    pub fn for_encoder(&self, encoder: &dyn Modality, seed: u64) -> Result<Self> {
        let mut vlm = self.clone();
        let config = ProjectorConfig {
            input: encoder.dim(),
            ..self.projector.config
        };
        vlm.projector = Projector::new(config, seed, self.device())?;
        vlm.image_encoder.remove_lora()?;
        vlm.settings.vit_lora = None;
        Ok(vlm)
    }
}
