//! Encoders besides the first in a [`Preset`]: by the name of a folder or repository, or given in code.
//!
//! ```text
//! Preset::other_encoder ─┐
//! the fine-tune's own ───┴─► OtherEncoder ─ hub::resolve ─► encoder with its image processor ─► Vlm::add_encoder
//! ```

use super::Preset;
use super::base_models::BaseModels;
use super::pretrained::{lasting, why_refused};
use super::{encoder, save, tiny};
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::hub;
use crate::projector::ProjectorKind;
use crate::vision::{Encoder, ImageProcessor, Modality};
use crate::{Error, Result};
use candle_core::Device;
use std::path::Path;

/// An encoder with its image processor.
type ReadEncoder = (Encoder, ImageProcessor);
/// One that is read, with its name and the form of its projector.
pub(super) type NewEncoder = (String, ReadEncoder, ProjectorKind);

/// One more encoder of a [`Preset`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let second = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let preset = Preset::tiny().other_encoder("close-up", second, ProjectorKind::Linear);
/// let other: &OtherEncoder = &preset.other_encoders[0];
/// assert_eq!(other.name, "close-up");
/// let vlm = Vlm::from_pretrained(&preset, &Device::Cpu)?;
/// assert_eq!(vlm.encoder_names().len(), 2);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct OtherEncoder {
    /// By which prompts call it.
    pub name: String,
    /// Which it is.
    pub encoder: EncoderFrom,
    /// The form of its projector.
    pub projector: ProjectorKind,
}

/// Where an encoder comes from.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let named = EncoderFrom::from("facebook/dinov2-small"); // a folder or a repository
/// assert!(matches!(named, EncoderFrom::Named(_)));
/// let vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// assert!(matches!(EncoderFrom::from(vit), EncoderFrom::Here(_)));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub enum EncoderFrom {
    /// A folder or a repository.
    Named(String),
    /// It is there already.
    Here(Encoder),
}

impl From<&str> for EncoderFrom {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl From<String> for EncoderFrom {
    fn from(name: String) -> Self {
        Self::Named(name)
    }
}

impl From<Encoder> for EncoderFrom {
    fn from(encoder: Encoder) -> Self {
        Self::Here(encoder)
    }
}

impl<M: Modality> From<M> for EncoderFrom {
    fn from(encoder: M) -> Self {
        Self::Here(encoder.into())
    }
}

impl OtherEncoder {
    fn facts(&self) -> Facts {
        let from = match &self.encoder {
            EncoderFrom::Named(name) => name.clone(),
            EncoderFrom::Here(encoder) => encoder.kind(),
        };
        Facts::new(format!("OtherEncoder {:?}", self.name))
            .fact("encoder", from)
            .fact("projector", format!("{:?}", self.projector))
    }
}

impl EncoderFrom {
    fn facts(&self) -> Facts {
        match self {
            Self::Named(name) => Facts::new("EncoderFrom::Named").fact("name", name),
            Self::Here(encoder) => Facts::new("EncoderFrom::Here").fact("kind", encoder.kind()),
        }
    }
}

shown_by_facts!(OtherEncoder, EncoderFrom);

impl Preset {
    /// One more encoder, called `name` in prompts: a folder or repository, or one that is there already. Its projector is of the
    /// form `projector`; a fine-tune has a form of its own.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let second = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 1, 2), 1, &Device::Cpu)?;
    /// let preset = Preset::tiny().other_encoder("close-up", second, ProjectorKind::Linear);
    /// let vlm = Vlm::from_pretrained(&preset, &Device::Cpu)?;
    /// assert_eq!(vlm.encoder_names(), ["image_encoder", "close-up"]);
    /// # Ok(()) }
    /// ```
    pub fn other_encoder(
        mut self,
        name: impl Into<String>,
        encoder: impl Into<EncoderFrom>,
        projector: ProjectorKind,
    ) -> Self {
        self.other_encoders.push(OtherEncoder {
            name: name.into(),
            encoder: encoder.into(),
            projector,
        });
        self
    }

    /// The encoders besides the first: those that are named here, and those that only the fine-tune names.
    pub(super) fn others(&self, device: &Device) -> Result<Vec<NewEncoder>> {
        let mut others = self.other_encoders.clone();
        for saved in self.fine_tune.iter().map(|dir| save::other_encoders(dir)) {
            for saved in saved? {
                if others.iter().any(|other| other.name == saved.name) {
                    continue;
                }
                let Some(source) = saved.source else {
                    let dir = self.fine_tune.as_deref().unwrap_or(Path::new(""));
                    return Err(Error::Config(format!(
                        "{}: the fine-tune was made with one more encoder, {:?} of the kind {}, which was given in code and lies in no \
                         folder: make it again and give it with `Preset::fine_tune(…)?.other_encoder({:?}, …)`",
                        dir.display(),
                        saved.name,
                        saved.kind,
                        saved.name
                    )));
                };
                others.push(OtherEncoder {
                    name: saved.name,
                    encoder: source.into(),
                    // What it has is read with its weights; one of the user's own has to be there before.
                    projector: match saved.projector {
                        ProjectorKind::Own => ProjectorKind::Linear,
                        named => named,
                    },
                });
            }
        }
        let read = others.into_iter().map(|other| {
            let encoder = match other.encoder {
                EncoderFrom::Here(encoder) => {
                    let processor = ImageProcessor::of_encoder(&*encoder)?;
                    (encoder, processor)
                }
                EncoderFrom::Named(name) if name == BaseModels::TINY => tiny::encoder(device)?,
                EncoderFrom::Named(name) => {
                    let folder = hub::resolve(&name, &self.encoder_options());
                    let folder = folder.map_err(why_refused)?;
                    let (encoder, processor) =
                        encoder::load(&folder, self.dtype_of(&folder)?, device)?;
                    (encoder.with_source(lasting(&name)), processor)
                }
            };
            Ok((other.name, encoder, other.projector))
        });
        read.collect()
    }
}
