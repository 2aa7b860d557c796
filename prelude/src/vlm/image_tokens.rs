//! Stage 1, embedding: pixel values → hidden states → image tokens in the language model's space.
//!
//! Hidden states that are there already can take the place of pixel values, in this stage and in all that follow: loss,
//! generation, concatenation.

use super::Vlm;
use crate::edits::{Axes, activation, activation_at, within};
use crate::projector::Projector;
use crate::vision::{Encoder, Image, Positions, Tiles};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

impl Vlm {
    /// What the encoder takes, pixel values `[B, 3, H, W]` for a picture's → image tokens `[B, P, D]`. What has the shape
    /// `[B, P, D_image]` counts as hidden states already and passes the projector only, unless the encoder itself takes
    /// three axes (then see [`Vlm::project`]).
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let hidden = vlm.image_encoder.encode(&image.prepare(&vlm)?)?; // [1, P, D_image]
    /// let changed = (hidden * 0.5)?; // or cut, or another layer's
    /// let said = vlm.generate(&changed)?.max_new_tokens(4).run()?;
    /// let loss = vlm.full_sequence_loss_of(&vlm.caption_prompt(&changed, "a red square")?)?;
    /// # assert!(!said.ids.is_empty() && loss.value()? > 0.0);
    /// # Ok(()) }
    /// ```
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
        let hidden = encoded(&self.image_encoder, None, input)?; // [B, P, D_image]
        self.project(&hidden)
    }

    /// Hidden states `[B, P, D_image]` of the encoder → image tokens `[B, P, D]`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let pixel_values = vlm.image_processor.preprocess(&Image::filled(80, 80, [200, 30, 40])?)?;
    /// let hidden_states = vlm.image_encoder.encode(&pixel_values)?; // [1, 26, 96]
    /// assert_eq!(vlm.project(&hidden_states)?.dims(), [1, 26, 128]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the hidden states have another width than the projector takes.
    pub fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        let hidden_states = hidden_states
            .to_device(self.device())?
            .to_dtype(DType::F32)?;
        projected(&self.projector, hidden_states) // [B, P, D]
    }

    /// A picture in tiles → the one sequence that its tiles become, `[1, T, D]`.
    ///
    /// # Errors
    /// As [`Vlm::image_tokens`], and when the projector puts no tiles together.
    pub fn joined_tiles(&self, tiles: &Tiles) -> Result<Tensor> {
        let tokens = self.image_tokens(&tiles.pixel_values)?; // [N, P, D]
        let joined = self.projector.join(&tokens, tiles)?.unsqueeze(0)?; // [1, T, D]
        activation("image_tokens, joined", joined)
    }

    /// How the image tokens of one input lie; `None` if they belong to no place, as a perceiver resampler's do.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let positions = vlm.image_positions()?;
    /// assert_eq!(positions.map(|all| (all.special, all.rows, all.columns)), Some((1, 5, 5)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the projector's form does not fit the encoder's positions.
    pub fn image_positions(&self) -> Result<Option<Positions>> {
        self.projector.positions(self.image_encoder.positions())
    }

    /// Pictures → pixel values `[B, 3, H, W]` → image tokens `[B, P, D]`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let images = [Image::filled(80, 80, [200, 30, 40])?, Image::filled(80, 80, [30, 40, 200])?];
    /// assert_eq!(vlm.embed_images(&images)?.dims(), [2, 26, 128]); // [B, P, D]
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For no pictures.
    pub fn embed_images(&self, images: &[Image]) -> Result<Tensor> {
        self.image_tokens(&self.image_processor.preprocess_batch(images)?)
    }
}

/// Hidden states `[B, P, D_image]` → `[B, P, D]`.
pub(super) fn projected(projector: &Projector, hidden_states: Tensor) -> Result<Tensor> {
    let hidden_states = activation("image features", hidden_states)?; // [B, P, D_image]
    activation("image_tokens", projector.forward(&hidden_states)?)
}

/// The name by which edits know what the encoder takes.
pub(crate) fn input_name(encoder: &Encoder) -> &'static str {
    match encoder.image_processor() {
        Some(_) => "pixel_values",
        None => "input",
    }
}

/// An encoder's hidden states `[B, P, D_image]`, checked: it may be anybody's. `name` is that of an encoder besides the first.
pub(super) fn encoded(encoder: &Encoder, name: Option<&str>, input: &Tensor) -> Result<Tensor> {
    let other = name.map(|name| within(|| format!("other_encoders.{name}")));
    let input = &activation_at(input_name(encoder), input.clone(), Axes::rows())?; // [B, ..]
    let _at = match other {
        Some(other) => other,
        None => within(|| "image_encoder".to_owned()),
    };
    let hidden = encoder.encode(input).map_err(|error| match error {
        Error::Candle(error) => Error::Input(format!(
            "the encoder {} could not read {:?}, it takes [{}]: {error}",
            encoder.kind(),
            input.dims(),
            encoder.input_axes().join(", ")
        )),
        error => error,
    })?; // [B, P, D_image]
    if hidden.rank() != 3 || hidden.dims()[0] != input.dims()[0] {
        return Err(Error::Input(format!(
            "the encoder {} made {:?} of {:?}: `Modality::encode` must give [B, P, D] with the same B",
            encoder.kind(),
            hidden.dims(),
            input.dims()
        )));
    }
    Ok(hidden)
}
