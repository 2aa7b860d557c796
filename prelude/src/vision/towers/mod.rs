//! Further image encoders: towers that are like ViT but for details, one file each.
//!
//! ```text
//! pixel_values ─ patches ─ (class token) ─ + positions ─ (LayerNorm)
//!     ─► L × (LayerNorm → attention → (scale) → + → LayerNorm → MLP → (scale) → +) ─► feature
//! ```
//! What stands in brackets, and the names of the weights, is what a tower's own file says as a table of its kind ([`clip`],
//! [`siglip`], [`dinov2`], [`smolvlm`]). To add a tower, write such a file and name it in the list below; config, weights,
//! image processor, features and what is refused follow from it. The weights are frozen when read; LoRA, training and the
//! instruments work as for any [`Modality`].

mod config;
mod family;
mod positions;
mod save;

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::layer::{VitLayer, run_layers};
use super::modality::{Modality, Positions, Stages, render_pixels};
use super::patches::embed_patches;
use super::{ImageProcessorConfig, VisionFeature};
use crate::display::MimeBundle;
use crate::edits::{activation, within_encoder};
pub use crate::nn::Activation;
use crate::nn::{Checkpoint, LayerNorm, Weight};
use crate::{Error, ReadOnly, Result};
use family::Family;

pub use config::TowerConfig;
pub(super) use config::refusal;

/// The kinds of tower: a module each, and the table that everything else looks them up in.
macro_rules! towers {
    ($($file:ident),+) => {
        $(pub mod $file;)+
        static FAMILIES: &[Family] = &[$($file::FAMILY),+];
    };
}
towers!(clip, siglip, dinov2, smolvlm);

/// An image encoder of one of the kinds in this module's list. A clone trains on its own: see [`Weight`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// // A SigLIP of 2 layers; published ones are read with `Tower::load(folder, DType::F32, &device)?`.
/// let device = Device::Cpu;
/// let config = r#"{"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32,
///     "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}"#;
/// let config = glassbox_prelude::vision::TowerConfig::from_json(config, "config.json".as_ref())?;
/// let tower = Tower::from_checkpoint(&config, &Checkpoint::random(1, DType::F32, &device))?;
/// let pixel_values = Tensor::zeros((1, 3, 32, 32), DType::F32, &device)?;
/// assert_eq!(tower.hidden_states(&pixel_values)?.len(), 3); // what enters, then each layer's output
/// assert_eq!(tower.encode(&pixel_values)?.dims(), [1, 16, 16]); // SigLIP has no class token
/// # Ok(()) }
/// ```
pub struct Tower {
    /// Sizes and settings.
    pub config: ReadOnly<TowerConfig>,
    /// What [`Modality::encode`] gives.
    pub feature: VisionFeature,
    /// What its own file says of it.
    family: &'static Family,
    /// The patch embedding as a convolution, `[D, C, p, p]`.
    patch_weight: Weight,
    patch_bias: Option<Weight>,
    /// Stands in front of the patches; D values.
    class: Option<Weight>,
    /// P·D values.
    positions: Weight,
    norm_before: Option<LayerNorm>,
    layers: Vec<VitLayer>,
    /// Part of `last_hidden_state`; CLIP has none there.
    norm_after: Option<LayerNorm>,
    /// Small tensors that its outputs do not need, for saving it whole.
    carried: Vec<(String, Tensor)>,
}

impl Clone for Tower {
    fn clone(&self) -> Self {
        Self {
            config: self.config.again(),
            feature: self.feature,
            family: self.family,
            patch_weight: self.patch_weight.clone(),
            patch_bias: self.patch_bias.clone(),
            class: self.class.clone(),
            positions: self.positions.clone(),
            norm_before: self.norm_before.clone(),
            layers: self.layers.clone(),
            norm_after: self.norm_after.clone(),
            carried: self.carried.clone(),
        }
    }
}

impl Tower {
    /// Reads a Hugging Face folder of a CLIP, SigLIP, DINOv2 or other kind of [`TowerConfig::kinds`]: `config.json` says
    /// which. A folder that also holds the text half is fine.
    ///
    /// # Errors
    /// A file missing, damaged or of another architecture, a tensor missing or of another shape.
    pub fn load(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Tower> {
        let dir = dir.as_ref();
        let path = dir.join("config.json");
        let text = crate::files::text(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let weights = Checkpoint::open(dir, dtype, device)?;
        let tower = Self::from_checkpoint(&TowerConfig::from_json(&text, &path)?, &weights)?;
        let known = tower.family.unread;
        weights.note_unread(dir, |name| known.iter().any(|part| name.contains(part)));
        Ok(tower)
    }

    /// A tower from named weights.
    ///
    /// # Errors
    /// A config that contradicts itself, a tensor missing or of another shape.
    pub fn from_checkpoint(config: &TowerConfig, weights: &Checkpoint) -> Result<Tower> {
        let family = config.clone().checked().and_then(|config| config.family());
        let complaint = |complaint| Error::Config(format!("tower config: {complaint}"));
        family.map_err(complaint)?.read(config, weights)
    }

    /// The same tower with another output for [`Modality::encode`].
    ///
    /// # Errors
    /// `Config` when the tower has no such hidden state.
    pub fn with_feature(mut self, feature: VisionFeature) -> Result<Tower> {
        self.set_feature(feature)?;
        Ok(self)
    }

    /// The same tower for pictures of another size: the position embeddings are resampled (bicubic, as the reference
    /// does). DINOv2 on the hub needs this: it is stored for 518 pixels and used with 224.
    ///
    /// # Errors
    /// `Config` when the patch size does not divide `image_size`.
    pub fn with_image_size(mut self, image_size: usize) -> Result<Tower> {
        if image_size == 0
            || image_size > 1 << 14
            || !image_size.is_multiple_of(self.config.patch_size)
        {
            return Err(Error::Config(format!(
                "image_size {image_size} must be a multiple of patch_size {}",
                self.config.patch_size
            )));
        }
        let special = usize::from(self.class.is_some());
        let (from, to) = (self.config.grid(), image_size / self.config.patch_size);
        if from != to {
            let tensor = positions::resample(
                self.positions.tensor(),
                self.config.hidden_size,
                special,
                from,
                to,
            )?;
            let tensor = match self.positions.tensor().rank() {
                3 => tensor.unsqueeze(0)?, // as it is stored: [1, P, D]
                _ => tensor,
            };
            self.positions = Weight::frozen(self.positions.name(), tensor);
        }
        self.config.change().image_size = image_size;
        Ok(self)
    }

    /// The input of the first layer, then the output of each: L + 1 times `[B, P, D]`.
    ///
    /// # Errors
    /// `Input` when the pixel values have another shape than the config says.
    pub fn hidden_states(&self, pixel_values: &Tensor) -> Result<Vec<Tensor>> {
        self.run(pixel_values, self.layers.len(), None)
    }

    /// As [`Tower::hidden_states`] for the first `count` layers, with their attention maps if these are asked for.
    fn run(
        &self,
        pixel_values: &Tensor,
        count: usize,
        maps: Option<&mut Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let _at = within_encoder();
        let d = self.config.hidden_size;
        let bias = self.patch_bias.as_ref();
        let mut hidden = embed_patches(
            pixel_values,
            self.config.image_size,
            &self.patch_weight,
            bias,
        )?; // [B, P − s, D]
        hidden = activation("patch_embeddings", hidden)?; // [B, P − s, D]
        if let Some(class) = &self.class {
            let class = class
                .tensor()
                .reshape((1, 1, d))?
                .broadcast_as((hidden.dim(0)?, 1, d))?; // [B, 1, D]
            hidden = Tensor::cat(&[&class, &hidden], 1)?; // [B, P, D]
        }
        let positions = self.positions.tensor().reshape((1, hidden.dim(1)?, d))?; // [1, P, D]
        hidden = hidden.broadcast_add(&positions)?; // [B, P, D]
        if let Some(norm) = &self.norm_before {
            hidden = norm.forward(&hidden)?; // [B, P, D]
        }
        run_layers(hidden, &self.layers[..count], maps) // [B, P, D] each
    }

    /// What [`Tower::feature`] names, of hidden states that reach that far.
    fn select(&self, states: &[Tensor]) -> Result<Tensor> {
        let last = |state: &Tensor| {
            let _at = within_encoder();
            let state = match &self.norm_after {
                Some(norm) => norm.forward(state)?,
                None => state.clone(),
            };
            activation("last_hidden_state", state)
        };
        self.feature.of(states, self.layers.len(), last) // [B, P, D]
    }
}

impl Modality for Tower {
    /// `[B, C, H, W] → [B, P, D]`: the output that [`Tower::feature`] names, without the work behind it.
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        let depth = self.feature.depth(self.layers.len())?;
        self.select(&self.run(input, depth, None)?)
    }

    fn dim(&self) -> usize {
        self.config.hidden_size * self.feature.states()
    }

    fn positions(&self) -> Positions {
        let grid = self.config.grid();
        Positions {
            special: usize::from(self.class.is_some()),
            rows: grid,
            columns: grid,
        }
    }

    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        render_pixels((self.family.processor)(&self.config), input)
    }

    fn kind(&self) -> String {
        self.config.model_type.clone()
    }

    fn image_processor(&self) -> Option<ImageProcessorConfig> {
        Some((self.family.processor)(&self.config))
    }

    fn feature(&self) -> Option<VisionFeature> {
        Some(self.feature)
    }

    fn set_feature(&mut self, feature: VisionFeature) -> Result<()> {
        feature.depth(self.layers.len())?;
        self.feature = feature;
        Ok(())
    }

    fn stages(&self, input: &Tensor) -> Result<Stages> {
        let states = self.hidden_states(input)?;
        let features = self.select(&states)?; // [B, P, D]
        let named = states.into_iter().enumerate();
        let named = named.map(|(index, hidden)| (format!("hidden_states[{index}]"), hidden));
        Ok(Stages {
            named: named.collect(),
            features,
        })
    }

    fn attentions(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let mut maps = Vec::with_capacity(self.layers.len());
        self.run(input, self.layers.len(), Some(&mut maps))?;
        Ok(maps)
    }
}

crate::parts!(Tower {
    class,
    positions,
    patch_weight,
    patch_bias,
    norm_before,
    layers,
    norm_after
});

#[cfg(test)]
#[path = "towers_tests.rs"]
mod tests;
