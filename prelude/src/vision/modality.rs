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
use crate::display::heat::Scale;
use crate::display::{MimeBundle, Render, TensorView};
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
/// parts!(Spectrum { bands });
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let pixel_values = vlm.image_processor.preprocess(&Image::filled(80, 80, [200, 30, 40])?)?;
    /// assert_eq!(vlm.image_encoder.encode(&pixel_values)?.dims(), [1, 26, 96]); // [B, P, D]
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the input has another shape than the encoder takes.
    fn encode(&self, input: &Tensor) -> Result<Tensor>;

    /// D, the width of a position.
    fn dim(&self) -> usize;

    /// How the P positions of one input lie; [`Positions::of_the_input`] where each input has its own.
    fn positions(&self) -> Positions;

    /// How the positions of this input lie.
    ///
    /// # Errors
    /// When the input has another shape than the encoder takes.
    fn positions_of(&self, input: &Tensor) -> Result<Positions> {
        let _ = input;
        Ok(self.positions())
    }

    /// What stands at each position of one prepared input `[1, ..]`, in a word: an atom, a peak, row and column of a patch.
    ///
    /// # Errors
    /// As [`Modality::positions_of`].
    fn position_names(&self, input: &Tensor) -> Result<Vec<String>> {
        let positions = self.positions_of(input)?;
        Ok((0..positions.count())
            .map(|at| positions.label(at))
            .collect())
    }

    /// One prepared input `[1, ..]` with a number at each of its P positions, such as attention. A table of numbers, as long as nothing
    /// else is said.
    ///
    /// # Errors
    /// As [`Modality::positions_of`], and for another number of values.
    fn render_positions(&self, input: &Tensor, title: &str, values: &[f32]) -> Result<MimeBundle> {
        let names = self.position_names(input)?;
        if names.len() != values.len() {
            return Err(Error::Input(format!(
                "{} values are given for {} positions",
                values.len(),
                names.len()
            )));
        }
        let values = Tensor::from_slice(values, values.len(), &candle_core::Device::Cpu)?; // [P]
        let view = TensorView::new(&values).title(title).axes(&["position"]);
        Ok(view.labels(0, names).render())
    }

    /// [`Modality::render_positions`] in the colours of a scale that several pictures share, so that they can be compared. An encoder that
    /// does not say how it draws on a scale leaves each picture its own.
    ///
    /// # Errors
    /// As [`Modality::render_positions`].
    fn render_positions_on(
        &self,
        input: &Tensor,
        title: &str,
        values: &[f32],
        scale: Scale,
    ) -> Result<MimeBundle> {
        let _ = scale;
        self.render_positions(input, title, values)
    }

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
#[doc(hidden)]
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let pixel_values = vlm.image_processor.preprocess(&Image::filled(80, 80, [200, 30, 40])?)?;
/// let stages = vlm.image_encoder.stages(&pixel_values)?;
/// for (name, tensor) in &stages.named {
///     println!("{name}: {:?}", tensor.dims());
/// }
/// assert_eq!(stages.features.dims(), [1, 26, 96]); // what goes into the projector
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Stages {
    /// Names, such as `hidden_states[0]`, and tensors, in the order of the forward pass.
    pub named: Vec<(String, Tensor)>,
    /// What [`Modality::encode`] gives, `[B, P, D]`.
    pub features: Tensor,
}

/// The order of an encoder's positions: special ones first, then the grid row by row.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let positions = vlm.image_encoder.positions();
/// assert_eq!((positions.special, positions.rows, positions.columns), (1, 5, 5)); // a class token and the patches
/// assert_eq!(positions.count(), 26);
/// assert_eq!(positions.label(0), "CLS");
/// assert_eq!(positions.label(7), "1,1"); // row and column
/// # Ok(()) }
/// ```
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

    /// As many as the input has parts, atoms of a molecule say: [`Modality::positions_of`] tells. Written as a sequence of none.
    pub fn of_the_input() -> Self {
        Self::sequence(0)
    }

    /// Whether each input has its own number of positions.
    pub(crate) fn is_of_the_input(&self) -> bool {
        self.count() == 0
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
