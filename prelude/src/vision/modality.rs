//! What an encoder must offer so that its positions can stand in a language model's sequence, and what it may offer.
//!
//! ```text
//! input as numbers ─ Modality::encode ─► [B, P, D] ─ projector ─► tokens of the language model
//! ```
//! A new tower, or an encoder of something other than pictures, is one file (or one cell) that implements this trait.
//! Four methods, and the list of its weights as a [`Network`], are asked of every encoder. The others are what only some can
//! do (an image processor, a choice of hidden states, attention maps); what they do by default is to say so.

use std::any::Any;
use std::fmt::Debug;

use candle_core::Tensor;

use super::{ImageProcessor, ImageProcessorConfig, VisionFeature};
use crate::display::{MimeBundle, Render};
use crate::nn::Network;
use crate::{Error, Result};

/// An encoder whose output positions become tokens of the language model: the `image_encoder` of a
/// [`Vlm`](crate::vlm::Vlm), behind an [`Encoder`](super::Encoder).
///
/// An encoder of your own is a `Clone` type (clones share what is frozen and copy what trains, as
/// [`Weight`](crate::nn::Weight) and [`Linear`](crate::nn::Linear) do) that lists its weights as a [`Network`] and implements this trait:
///
/// ```
/// use glassbox_prelude::prelude::*;
///
/// /// Reads a spectrum of 64 values in 8 bands of 8.
/// #[derive(Clone, Debug)]
/// struct Spectrum {
///     bands: Linear,
/// }
///
/// impl Network for Spectrum {
///     fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
///         visitor(Part::Linear(&self.bands));
///     }
///     fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
///         visitor(PartMut::Linear(&mut self.bands))
///     }
/// }
///
/// impl Modality for Spectrum {
///     fn encode(&self, input: &Tensor) -> Result<Tensor> {
///         self.bands.forward(&input.reshape(((), 8, 8))?) // [B, 64] → [B, 8, 8] → [B, 8, D]
///     }
///     fn dim(&self) -> usize {
///         self.bands.output()
///     }
///     fn positions(&self) -> Positions {
///         Positions::sequence(8)
///     }
///     fn input_axes(&self) -> &'static [&'static str] {
///         &["B", "N"]
///     }
///     fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
///         Ok(TensorView::new(input).render())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let weights = Checkpoint::random(1, DType::F32, &device);
/// let spectrum = Spectrum { bands: Linear::load(&weights, "bands", (8, 32), true)? };
/// let vlm = Vlm::tiny(&device)?.for_encoder(spectrum, 0)?; // the same language model, a projector of 32 → its width
/// let input = Tensor::rand(0f32, 1.0, (1, 64), &device)?;
/// assert_eq!(vlm.image_tokens(&input)?.dim(1)?, 8);
/// let written = vlm.generate(&input)?.max_new_tokens(4).run()?; // untrained: anything
/// assert!(written.ids.len() <= 4);
/// assert!(vlm.image_encoder.attentions(&input).is_err()); // it says that it has none
/// # Ok(()) }
/// ```
pub trait Modality: Network + CloneEncoder + Any + Debug + Send + Sync {
    /// Encodes a batch of prepared inputs: `[B, ..] → [B, P, D]`.
    ///
    /// # Errors
    /// When the input has another shape than the encoder takes.
    fn encode(&self, input: &Tensor) -> Result<Tensor>;

    /// D, the width of a position.
    fn dim(&self) -> usize;

    /// How the P positions of one input lie.
    fn positions(&self) -> Positions;

    /// One prepared input `[1, ..]` as a person would look at it.
    ///
    /// # Errors
    /// When the input has another shape than the encoder takes.
    fn render_input(&self, input: &Tensor) -> Result<MimeBundle>;

    /// Names of the axes of a batch of prepared inputs, the batch first. Pixel values unless said otherwise.
    fn input_axes(&self) -> &'static [&'static str] {
        &["B", "C", "H", "W"]
    }

    /// What kind of encoder it is, in tables, messages and saved fine-tunes: the `model_type` of the Hugging Face config, or
    /// for an encoder of your own the name of its type.
    fn kind(&self) -> String {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_string()
    }

    /// How pictures become its input; `None` if it takes something else.
    fn image_processor(&self) -> Option<ImageProcessorConfig> {
        None
    }

    /// Which of several outputs [`Modality::encode`] gives; `None` if there is only one.
    fn feature(&self) -> Option<VisionFeature> {
        None
    }

    /// Chooses what [`Modality::encode`] gives.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an encoder with one output, `Config` when there is no such hidden state.
    fn set_feature(&mut self, feature: VisionFeature) -> Result<()> {
        Err(self.lacks(&format!("{feature}"), "it has one output only"))
    }

    /// The tensors on the way from the input to what [`Modality::encode`] gives, for a stage trace; each `[B, P, D]`.
    ///
    /// # Errors
    /// As [`Modality::encode`].
    fn stages(&self, input: &Tensor) -> Result<Stages> {
        Ok(Stages {
            named: Vec::new(),
            features: self.encode(input)?,
        })
    }

    /// Attention probabilities of every layer, `[B, H, P, P]` each, rows sum to 1, without gradient.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an encoder that has none to show; and as [`Modality::encode`].
    fn attentions(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let _ = input;
        Err(self.lacks(
            "attention maps",
            "implement `Modality::attentions` if it has attention",
        ))
    }

    /// The error of an encoder that does not have what is asked for.
    fn lacks(&self, what: &str, hint: &str) -> Error {
        Error::Unsupported {
            encoder: self.kind(),
            what: what.to_string(),
            hint: hint.to_string(),
        }
    }
}

/// How an encoder behind a trait object is cloned: every `Clone` type has it.
#[diagnostic::on_unimplemented(
    message = "an encoder must be `Clone`, and `{Self}` is not",
    note = "put `#[derive(Clone, Debug)]` above it: clones of weights and layers share what is frozen and copy what trains"
)]
pub trait CloneEncoder {
    /// A clone, as [`Weight`](crate::nn::Weight) is cloned.
    fn clone_encoder(&self) -> Box<dyn Modality>;
}

impl<M: Modality + Clone> CloneEncoder for M {
    fn clone_encoder(&self) -> Box<dyn Modality> {
        Box::new(self.clone())
    }
}

/// What an encoder computes on its way.
#[derive(Clone)]
pub struct Stages {
    /// Names, such as `hidden_states[0]`, and tensors, in the order of the forward pass.
    pub named: Vec<(String, Tensor)>,
    /// What [`Modality::encode`] gives, `[B, P, D]`.
    pub features: Tensor,
}

/// The order of an encoder's positions: special ones first, then the grid row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Positions that belong to no place, such as the class token.
    pub special: usize,
    /// Rows of the grid; 1 for a sequence.
    pub rows: usize,
    /// Columns of the grid.
    pub columns: usize,
}

impl Positions {
    /// Positions one after the other, without a special one.
    pub fn sequence(length: usize) -> Self {
        Self {
            special: 0,
            rows: 1,
            columns: length,
        }
    }

    /// P.
    pub fn count(&self) -> usize {
        self.special + self.rows * self.columns
    }

    /// A short name of a position: `CLS`, then `row,column` from 0.
    pub fn label(&self, position: usize) -> String {
        match position.checked_sub(self.special) {
            None if self.special == 1 => "CLS".into(),
            None => format!("special {position}"),
            Some(place) => format!(
                "{},{}",
                place / self.columns.max(1),
                place % self.columns.max(1)
            ),
        }
    }
}

/// Pixel values as the picture that they came from.
pub(super) fn render_pixels(config: ImageProcessorConfig, input: &Tensor) -> Result<MimeBundle> {
    match ImageProcessor::new(config)?.to_images(input)?.first() {
        Some(image) => Ok(image.render()),
        None => Err(Error::Input("there is no picture in an empty batch".into())),
    }
}
