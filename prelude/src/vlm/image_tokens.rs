//! Stage 1, embedding: pixel values → hidden states → image tokens in the language model's space.
//!
//! Hidden states that are there already can take the place of pixel values, in this stage and in all that follow: loss,
//! generation, concatenation.

use super::Vlm;
use crate::vision::{Image, Positions};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

impl Vlm {
    /// What the encoder takes, pixel values `[B, 3, H, W]` for a picture's → image tokens `[B, P, D]`. What has the shape
    /// `[B, P, D_image]` counts as hidden states already and passes the projector only, unless the encoder itself takes
    /// three axes (then see [`Vlm::project`]).
    ///
    /// # Errors
    /// When the picture has another size than the image encoder takes, the hidden states another width than the projector
    /// takes, or the input neither shape.
    pub fn image_tokens(&self, input: &Tensor) -> Result<Tensor> {
        let axes = self.image_encoder.input_axes();
        if input.rank() != axes.len() {
            if input.rank() == 3 {
                return self.project(input);
            }
            return Err(Error::Input(format!(
                "the encoder {} takes [{}], the projector hidden states [B, P, D]; got shape {:?}",
                self.image_encoder.kind(),
                axes.join(", "),
                input.dims()
            )));
        }
        let hidden = self.image_encoder.encode(input)?; // [B, P, D_image]
        if hidden.rank() != 3 || hidden.dims()[0] != input.dims()[0] {
            return Err(Error::Input(format!(
                "the encoder {} made {:?} of {:?}: `Modality::encode` must give [B, P, D] with the same B",
                self.image_encoder.kind(),
                hidden.dims(),
                input.dims()
            )));
        }
        self.project(&hidden)
    }

    /// Hidden states `[B, P, D_image]` of the encoder → image tokens `[B, P, D]`.
    ///
    /// # Errors
    /// When the hidden states have another width than the projector takes.
    pub fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        self.projector.forward(
            &hidden_states
                .to_device(self.device())?
                .to_dtype(DType::F32)?,
        ) // [B, P, D]
    }

    /// How the image tokens of one input lie; `None` if they belong to no place, as a perceiver resampler's do.
    ///
    /// # Errors
    /// When the projector's form does not fit the encoder's positions.
    pub fn image_positions(&self) -> Result<Option<Positions>> {
        self.projector.positions(self.image_encoder.positions())
    }

    /// Pictures → pixel values `[B, 3, H, W]` → image tokens `[B, P, D]`.
    ///
    /// # Errors
    /// For no pictures.
    pub fn embed_images(&self, images: &[Image]) -> Result<Tensor> {
        self.image_tokens(&self.image_processor.preprocess_batch(images)?)
    }
}
