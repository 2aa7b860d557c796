//! Further image encoders: towers that are like ViT but for details, one file each.
//!
//! ```text
//! pixel_values ─ patches ─ (class token) ─ + positions ─ (LayerNorm)
//!     ─► L × (LayerNorm → attention → (scale) → + → LayerNorm → MLP → (scale) → +) ─► feature
//! ```
//! What stands in brackets, and the names of the weights, is what [`clip`], [`siglip`] and [`dinov2`] decide. To add a
//! tower, write such a file. The weights are frozen when read; LoRA, training and the instruments work as for any
//! [`Modality`].

pub mod clip;
pub mod dinov2;
mod layer;
mod positions;
pub mod siglip;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::feature::place;
use super::modality::{Modality, Positions, Stages, render_pixels};
use super::patches::embed_patches;
use super::{ImageProcessorConfig, VisionFeature};
use crate::display::MimeBundle;
use crate::nn::{Checkpoint, LayerNorm, Network, Part, PartMut, Weight};
use crate::{Error, ReadOnly, Result};
use layer::TowerLayer;

/// An image encoder of the CLIP, SigLIP or DINOv2 kind. A clone trains on its own: see [`Weight`].
pub struct Tower {
    /// Sizes and settings.
    pub config: ReadOnly<TowerConfig>,
    /// What [`Modality::encode`] gives.
    pub feature: VisionFeature,
    /// The patch embedding as a convolution, `[D, C, p, p]`.
    patch_weight: Weight,
    patch_bias: Option<Weight>,
    /// Stands in front of the patches; D values.
    class: Option<Weight>,
    /// P·D values.
    positions: Weight,
    norm_before: Option<LayerNorm>,
    layers: Vec<TowerLayer>,
    /// Part of `last_hidden_state`; CLIP has none there.
    norm_after: Option<LayerNorm>,
    /// How a picture becomes pixel values of the config's size.
    processor: fn(&TowerConfig) -> ImageProcessorConfig,
}

impl Clone for Tower {
    fn clone(&self) -> Self {
        Self {
            config: self.config.again(),
            feature: self.feature,
            patch_weight: self.patch_weight.clone(),
            patch_bias: self.patch_bias.clone(),
            class: self.class.clone(),
            positions: self.positions.clone(),
            norm_before: self.norm_before.clone(),
            layers: self.layers.clone(),
            norm_after: self.norm_after.clone(),
            processor: self.processor,
        }
    }
}

/// Sizes of a tower, read from the `vision_config` of a `config.json` or from the file itself.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerConfig {
    /// `clip_vision_model`, `siglip_vision_model` or `dinov2`.
    pub model_type: String,
    /// D.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// L.
    pub num_hidden_layers: usize,
    /// Heads per layer.
    pub num_attention_heads: usize,
    /// Side of the square picture, in pixels.
    pub image_size: usize,
    /// Side of a square patch, in pixels.
    pub patch_size: usize,
    /// Channels of the picture.
    pub num_channels: usize,
    /// Added to the variance in LayerNorm.
    pub layer_norm_eps: f64,
    /// Activation of the MLP.
    pub activation: Activation,
}

/// The activations that towers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `gelu`: exact.
    Gelu,
    /// `gelu_pytorch_tanh`: approximated by tanh.
    GeluTanh,
    /// `quick_gelu`: `x · σ(1.702 x)`.
    QuickGelu,
}

/// `config.json` as it is; what is absent has the default of its architecture.
#[derive(Deserialize)]
struct RawConfig {
    model_type: String,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    mlp_ratio: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
    num_channels: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    #[serde(default)]
    use_swiglu_ffn: bool,
}

impl TowerConfig {
    /// Reads and checks the text of a `config.json`; `file` appears in messages.
    ///
    /// # Errors
    /// When it is not JSON, of another architecture, or contradicts itself.
    pub fn from_json(text: &str, file: &Path) -> Result<TowerConfig> {
        let json = |source| Error::Json {
            path: file.into(),
            source,
        };
        let mut value: Value = serde_json::from_str(text).map_err(json)?;
        if let Some(vision) = value.get_mut("vision_config") {
            let mut vision = vision.take();
            // the inner config of older files names no type
            if let (Some(inner), Some(outer)) =
                (vision.as_object_mut(), value["model_type"].as_str())
            {
                inner
                    .entry("model_type")
                    .or_insert_with(|| format!("{outer}_vision_model").into());
            }
            value = vision;
        }
        let raw: RawConfig = serde_json::from_value(value).map_err(json)?;
        let config = raw.read();
        config
            .and_then(TowerConfig::checked)
            .map_err(|complaint| Error::Config(format!("{}: {complaint}", file.display())))
    }

    /// Patches along a side of the picture.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    fn checked(self) -> std::result::Result<TowerConfig, String> {
        const MOST: usize = 1 << 20; // far above any tower, far below overflow
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.num_channels),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=MOST).contains(size)) {
            return Err(format!("{name} is {size}: it must be 1 to {MOST}"));
        }
        if self.num_hidden_layers > 1000 {
            return Err(format!(
                "num_hidden_layers is {}: it must be at most 1000",
                self.num_hidden_layers
            ));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (heads, d) = (self.num_attention_heads, self.hidden_size);
            return Err(format!(
                "num_attention_heads {heads} does not divide hidden_size {d}"
            ));
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Err(format!(
                "patch_size {} does not divide image_size {}",
                self.patch_size, self.image_size
            ));
        }
        Ok(self)
    }
}

impl RawConfig {
    fn read(self) -> std::result::Result<TowerConfig, String> {
        let (patch, eps, act) = match self.model_type.as_str() {
            "clip_vision_model" => (32, 1e-5, "quick_gelu"),
            "siglip_vision_model" => (16, 1e-6, "gelu_pytorch_tanh"),
            "dinov2" => (14, 1e-6, "gelu"),
            other => {
                return Err(format!(
                    "model_type {other:?} is none of CLIP, SigLIP and DINOv2"
                ));
            }
        };
        if self.use_swiglu_ffn {
            return Err(
                "use_swiglu_ffn (DINOv2 giant) is not supported: use small, base or large".into(),
            );
        }
        let activation = match self.hidden_act.as_deref().unwrap_or(act) {
            "gelu" => Activation::Gelu,
            "gelu_pytorch_tanh" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            other => return Err(format!("hidden_act {other:?} is not supported")),
        };
        let hidden_size = self.hidden_size.unwrap_or(768);
        let ratio = self.mlp_ratio.unwrap_or(4);
        Ok(TowerConfig {
            intermediate_size: self
                .intermediate_size
                .unwrap_or(hidden_size.saturating_mul(ratio)),
            hidden_size,
            num_hidden_layers: self.num_hidden_layers.unwrap_or(12),
            num_attention_heads: self.num_attention_heads.unwrap_or(12),
            image_size: self.image_size.unwrap_or(224),
            patch_size: self.patch_size.unwrap_or(patch),
            num_channels: self.num_channels.unwrap_or(3),
            layer_norm_eps: self.layer_norm_eps.unwrap_or(eps),
            activation,
            model_type: self.model_type,
        })
    }
}

impl Tower {
    /// Reads a Hugging Face folder of a CLIP, SigLIP or DINOv2 model: `config.json` says which. A folder that also holds
    /// the text half is fine.
    ///
    /// # Errors
    /// A file missing, damaged or of another architecture, a tensor missing or of another shape.
    pub fn load(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Tower> {
        let dir = dir.as_ref();
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        Self::from_checkpoint(
            &TowerConfig::from_json(&text, &path)?,
            &Checkpoint::open(dir, dtype, device)?,
        )
    }

    /// A tower from named weights.
    ///
    /// # Errors
    /// A tensor missing or of another shape.
    pub fn from_checkpoint(config: &TowerConfig, weights: &Checkpoint) -> Result<Tower> {
        match config.model_type.as_str() {
            "clip_vision_model" => clip::read(config, weights),
            "siglip_vision_model" => siglip::read(config, weights),
            "dinov2" => dinov2::read(config, weights),
            other => Err(Error::Config(format!(
                "model_type {other:?} is none of CLIP, SigLIP and DINOv2"
            ))),
        }
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
        mut maps: Option<&mut Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let d = self.config.hidden_size;
        let bias = self.patch_bias.as_ref();
        let mut hidden = embed_patches(
            pixel_values,
            self.config.image_size,
            &self.patch_weight,
            bias,
        )?; // [B, P − s, D]
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
        let mut states = vec![hidden];
        for layer in &self.layers[..count] {
            let hidden = &states[states.len() - 1];
            states.push(layer.forward(hidden, &self.config, maps.as_deref_mut())?); // [B, P, D]
        }
        Ok(states)
    }

    /// What [`Tower::feature`] names, of hidden states that reach that far.
    fn select(&self, states: &[Tensor]) -> Result<Tensor> {
        let state = &states[self.depth()?]; // [B, P, D]
        match (self.feature, &self.norm_after) {
            (VisionFeature::LastHiddenState, Some(norm)) => norm.forward(state),
            _ => Ok(state.clone()),
        }
    }

    /// Layers that [`Modality::encode`] needs.
    fn depth(&self) -> Result<usize> {
        match self.feature {
            VisionFeature::HiddenState(index) => place(index, self.layers.len() + 1),
            VisionFeature::LastHiddenState => Ok(self.layers.len()),
        }
    }
}

impl Modality for Tower {
    /// `[B, C, H, W] → [B, P, D]`: the output that [`Tower::feature`] names, without the work behind it.
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        self.select(&self.run(input, self.depth()?, None)?)
    }

    fn dim(&self) -> usize {
        self.config.hidden_size
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
        render_pixels((self.processor)(&self.config), input)
    }

    fn kind(&self) -> String {
        self.config.model_type.clone()
    }

    fn image_processor(&self) -> Option<ImageProcessorConfig> {
        Some((self.processor)(&self.config))
    }

    fn feature(&self) -> Option<VisionFeature> {
        Some(self.feature)
    }

    fn set_feature(&mut self, feature: VisionFeature) -> Result<()> {
        if let VisionFeature::HiddenState(index) = feature {
            place(index, self.layers.len() + 1)?;
        }
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

impl Network for Tower {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        let weights = self
            .class
            .iter()
            .chain([&self.positions, &self.patch_weight])
            .chain(&self.patch_bias);
        weights.for_each(|weight| visitor(Part::Weight(weight)));
        if let Some(norm) = &self.norm_before {
            layer::visit_norm(norm, visitor);
        }
        self.layers.iter().for_each(|layer| layer.visit(visitor));
        if let Some(norm) = &self.norm_after {
            layer::visit_norm(norm, visitor);
        }
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        let weights = self
            .class
            .iter_mut()
            .chain([&mut self.positions, &mut self.patch_weight])
            .chain(&mut self.patch_bias);
        for weight in weights {
            visitor(PartMut::Weight(weight))?;
        }
        if let Some(norm) = &mut self.norm_before {
            layer::visit_norm_mut(norm, visitor)?;
        }
        for layer in &mut self.layers {
            layer.visit_mut(visitor)?;
        }
        if let Some(norm) = &mut self.norm_after {
            layer::visit_norm_mut(norm, visitor)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TowerConfig> {
        TowerConfig::from_json(text, Path::new("config.json"))
    }

    #[test]
    fn configs_of_whole_models_and_of_towers_are_read() -> Result<()> {
        let whole = read(
            r#"{"model_type": "clip", "vision_config": {"image_size": 224, "patch_size": 16}}"#,
        )?;
        let tower = read(r#"{"model_type": "clip_vision_model", "patch_size": 16}"#)?;
        assert_eq!(whole, tower);
        assert_eq!(
            (tower.activation, tower.grid()),
            (Activation::QuickGelu, 14)
        );
        let dino = read(
            r#"{"model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6, "image_size": 518}"#,
        )?;
        assert_eq!((dino.intermediate_size, dino.grid()), (1536, 37));
        Ok(())
    }

    #[test]
    fn bad_configs_say_why() {
        for (text, words) in [
            (r#"{"model_type": "vit"}"#, "none of CLIP"),
            (
                r#"{"model_type": "dinov2", "use_swiglu_ffn": true}"#,
                "use_swiglu_ffn",
            ),
            (
                r#"{"model_type": "dinov2", "image_size": 200}"#,
                "does not divide image_size",
            ),
            (
                r#"{"model_type": "siglip_vision_model", "hidden_act": "relu"}"#,
                "hidden_act",
            ),
            (
                r#"{"model_type": "siglip_vision_model", "patch_size": 0}"#,
                "patch_size is 0",
            ),
            ("{}", "not valid"),
            ("[1", "not valid"),
        ] {
            let message = read(text).map(|_| ()).expect_err(text).to_string();
            assert!(
                message.contains(words) && message.contains("config.json"),
                "{message}"
            );
        }
    }
}
