//! The encoder of a model: any [`Modality`] in a box, and where it came from.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use candle_core::{DType, Device};

use super::{Modality, Tower, TowerConfig, Vit, towers};
use crate::{Error, Result, hub};

/// A [`Modality`] of whatever type: a [`Vit`], a [`Tower`], an encoder of your own. Its methods are those of [`Modality`] and
/// [`Network`](crate::nn::Network). A clone trains on its own: see [`Weight`](crate::nn::Weight).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// assert_eq!(vlm.image_encoder.kind(), "vit");
/// let vit = vlm.image_encoder.vit()?; // its own type, to take it apart
/// assert_eq!(vit.config.grid(), vlm.image_encoder.positions().rows);
/// assert!(vlm.image_encoder.get::<Tower>().is_none());
/// # Ok(()) }
/// ```
pub struct Encoder {
    modality: Box<dyn Modality>,
    source: Option<String>,
}

impl Encoder {
    /// Kinds of model, as the `model_type` of a `config.json`, that [`Encoder::load`] reads.
    pub fn kinds() -> Vec<&'static str> {
        let mut kinds = vec!["vit"];
        kinds.extend(TowerConfig::kinds());
        kinds
    }

    /// Why a kind of model that is known is not read, and what to use in its place.
    pub(crate) fn refusal(model_type: &str) -> Option<&'static str> {
        towers::refusal(model_type)
    }

    /// Reads a Hugging Face folder of a ViT or of a tower such as CLIP, SigLIP or DINOv2; its `config.json` says which. The weights are frozen.
    ///
    /// # Errors
    /// A file missing, damaged or of another architecture, a tensor missing or of another shape.
    pub fn load(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let kind = hub::model_type(dir)?;
        let encoder: Self = match kind.as_str() {
            "vit" => Vit::load(dir, dtype, device)?.into(),
            tower if Self::kinds().contains(&tower) => Tower::load(dir, dtype, device)?.into(),
            other => {
                let why = Self::refusal(other).map(ToString::to_string);
                return Err(Error::Config(format!(
                    "{}: model_type is {other:?}: {}",
                    dir.join("config.json").display(),
                    why.unwrap_or_else(|| format!(
                        "an image encoder's is {}",
                        Self::kinds().join(", ")
                    ))
                )));
            }
        };
        let source = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        Ok(encoder.with_source(source.display().to_string()))
    }

    /// The same encoder, with the folder or the name of the repository that its weights are in.
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The folder or repository that its weights are in, where known. A saved fine-tune names it.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The encoder as its own type.
    pub fn get<M: Modality>(&self) -> Option<&M> {
        let any: &dyn Any = &*self.modality;
        any.downcast_ref()
    }

    /// As [`Encoder::get`], for changing it.
    pub fn get_mut<M: Modality>(&mut self) -> Option<&mut M> {
        let any: &mut dyn Any = &mut *self.modality;
        any.downcast_mut()
    }

    /// The ViT that it is, with its layers and weights.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another encoder.
    pub fn vit(&self) -> Result<&Vit> {
        self.get().ok_or_else(|| {
            self.modality.lacks(
                "a ViT's layers",
                "use `image_encoder.get::<Type>()` for its own type",
            )
        })
    }
}

impl<M: Modality> From<M> for Encoder {
    fn from(encoder: M) -> Self {
        Self {
            modality: Box::new(encoder),
            source: None,
        }
    }
}

impl Clone for Encoder {
    fn clone(&self) -> Self {
        Self {
            modality: self.modality.clone_encoder(),
            source: self.source.clone(),
        }
    }
}

impl Deref for Encoder {
    type Target = dyn Modality;

    fn deref(&self) -> &Self::Target {
        &*self.modality
    }
}

impl DerefMut for Encoder {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.modality
    }
}

crate::parts!(Encoder { modality });
