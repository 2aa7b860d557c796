//! What a model can be shown: a picture, which its image processor prepares, or numbers that are prepared for its encoder.

use super::Vlm;
use crate::Result;
use crate::display::MimeBundle;
use crate::vision::Image;
use candle_core::Tensor;

/// A picture, or one input prepared for the model's encoder: what [`Vlm::generate`], the instruments of
/// [`inspect`](crate::inspect) and a [`Trainer`](crate::train::Trainer) take.
pub trait VlmInput {
    /// The input as the model's encoder takes it, `[1, ..]`.
    ///
    /// # Errors
    /// For a picture where the encoder takes none, and when it cannot be processed.
    fn prepare(&self, vlm: &Vlm) -> Result<Tensor>;
}

impl VlmInput for Image {
    /// `[1, 3, H, W]`.
    fn prepare(&self, vlm: &Vlm) -> Result<Tensor> {
        vlm.image_processor.preprocess(self)
    }
}

impl VlmInput for Tensor {
    /// As it is.
    fn prepare(&self, _: &Vlm) -> Result<Tensor> {
        Ok(self.clone())
    }
}

impl Vlm {
    /// The input as the encoder sees it: a picture after resizing, cropping and scaling, or how an encoder of something else
    /// shows what it reads.
    ///
    /// # Errors
    /// As [`VlmInput::prepare`] and [`Modality::render_input`](crate::vision::Modality::render_input).
    pub fn render_input(&self, input: &dyn VlmInput) -> Result<MimeBundle> {
        self.image_encoder.render_input(&input.prepare(self)?)
    }
}
