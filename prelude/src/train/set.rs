//! What a trainer learns from: numbered inputs with captions.

use candle_core::Tensor;

use crate::data::CocoCaptions;
use crate::vlm::{Vlm, VlmInput};
use crate::{Error, Result};

/// Numbered inputs with captions: what a [`Trainer`](super::Trainer) learns from and is measured on. A COCO folder is one,
/// for models that read pictures; so is a `Vec` of pairs, such as `(Tensor, Vec<String>)` with inputs that are prepared
/// for the model's encoder.
pub trait TrainingSet {
    /// Number of examples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The example at `position`, its input prepared for the model's encoder.
    ///
    /// # Errors
    /// When there is no such example, or its input cannot be read or prepared. `Io`, `Image` and `Json` say that it can't
    /// be read: a trainer leaves it out and takes another.
    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example>;

    /// How messages call the example at `position`.
    fn name(&self, position: usize) -> String {
        format!("example {position}")
    }
}

/// One input with its captions.
#[derive(Clone)]
pub struct Example {
    /// As the encoder takes it, `[1, ..]`; pixel values `[1, 3, H, W]` for pictures.
    pub input: Tensor,
    /// Its captions; one of them is drawn each time.
    pub captions: Vec<String>,
}

impl TrainingSet for CocoCaptions {
    fn len(&self) -> usize {
        CocoCaptions::len(self)
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        let sample = self.sample(position)?;
        Ok(Example {
            input: sample.image.prepare(vlm)?,
            captions: sample.captions,
        })
    }

    fn name(&self, position: usize) -> String {
        match self.picture_path(position) {
            Ok(path) => format!("example {position} ({})", path.display()),
            Err(_) => format!("example {position}"),
        }
    }
}

impl<I: VlmInput> TrainingSet for Vec<(I, Vec<String>)> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        let (input, captions) = self.get(position).ok_or_else(|| {
            let count = Vec::len(self);
            Error::Input(format!("there is no example {position} among {count}"))
        })?;
        Ok(Example {
            input: input.prepare(vlm)?,
            captions: captions.clone(),
        })
    }
}

/// Inputs of one batch, `[1, ..]` each → `[B, ..]`.
pub(super) fn batch(inputs: &[Tensor]) -> Result<Tensor> {
    if let [first, rest @ ..] = inputs
        && let Some(other) = rest.iter().find(|other| other.dims() != first.dims())
    {
        return Err(Error::Input(format!(
            "inputs of {:?} and {:?} can't be one batch: prepare all to one shape, or train with batch_size 1",
            first.dims(),
            other.dims()
        )));
    }
    Ok(Tensor::cat(inputs, 0)?) // [B, ..]
}
