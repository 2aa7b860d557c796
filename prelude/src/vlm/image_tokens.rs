//! Stage 1, embedding: pixel values → hidden states → image tokens in the language model's space.

use super::Vlm;
use crate::Result;
use crate::vision::{Image, Modality};
use candle_core::{DType, Tensor};

impl Vlm {
    /// Pixel values `[B, 3, H, W]` → image tokens `[B, P, D]`.
    ///
    /// # Errors
    /// When the picture has another size than the image encoder takes.
    pub fn image_tokens(&self, pixel_values: &Tensor) -> Result<Tensor> {
        let hidden = self.image_encoder.encode(pixel_values)?; // [B, P, D_image]
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
}
