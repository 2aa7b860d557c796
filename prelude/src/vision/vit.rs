//! The Vision Transformer, the blog's `image_encoder`: pixel values → one vector for each patch.
//!
//! ```text
//! pixel_values ─ patches ─ linear ─ class token in front ─ + positions
//!     ─► L × (LayerNorm → attention → + → LayerNorm → GELU MLP → +) ─► hidden_states[-1] ─► LayerNorm ─► last_hidden_state
//! ```
//! Weight names are those of <https://huggingface.co/google/vit-base-patch16-224>, without the `vit.` prefix. Everything
//! on the way has a gradient, so that the encoder can train from scratch or through LoRA.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::ImageProcessorConfig;
use super::feature::VisionFeature;
use super::layer::{LayerNames, LayerShape, VitLayer, run_layers};
use super::modality::{Modality, Positions, Stages, render_pixels};
use super::patches::embed_patches;
use super::vit_config::ViTConfig;
use super::vit_names::layer_name;
use crate::display::MimeBundle;
use crate::edits::{activation, within_encoder};
use crate::nn::checkpoint::save_safetensors;
use crate::nn::{Activation, Checkpoint, Init, LayerNorm, Linear, Network, Weight};
use crate::{Error, ReadOnly, Result};

/// A Vision Transformer. A clone trains on its own: see [`Weight`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let pixel_values = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(vit.patch_embeddings(&pixel_values)?.dims(), [1, 16, 16]);
/// assert_eq!(vit.encode(&pixel_values)?.dims(), [1, 17, 16]); // the class token in front
/// # Ok(()) }
/// ```
pub struct Vit {
    /// Sizes and settings.
    pub config: ReadOnly<ViTConfig>,
    /// What [`Modality::encode`] gives.
    pub feature: VisionFeature,
    /// Stands in front of the patches, `[1, 1, D]`.
    pub cls_token: Weight,
    /// Added to class token and patches, `[1, P, D]`.
    pub position_embeddings: Weight,
    /// The patch embedding as a convolution, `[D, C, p, p]`.
    pub patch_weight: Weight,
    /// `[D]`.
    pub patch_bias: Weight,
    /// The transformer layers.
    pub layers: Vec<VitLayer>,
    /// After the last layer.
    pub layernorm: LayerNorm,
    /// On the class token, where the checkpoint has one.
    pub pooler: Option<Linear>,
    /// From the class token to classes, where the checkpoint has one.
    pub classifier: Option<Linear>,
}

impl Clone for Vit {
    fn clone(&self) -> Self {
        Self {
            config: self.config.again(),
            feature: self.feature,
            cls_token: self.cls_token.clone(),
            position_embeddings: self.position_embeddings.clone(),
            patch_weight: self.patch_weight.clone(),
            patch_bias: self.patch_bias.clone(),
            layers: self.layers.clone(),
            layernorm: self.layernorm.clone(),
            pooler: self.pooler.clone(),
            classifier: self.classifier.clone(),
        }
    }
}

/// What comes out of a forward pass.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let pixel_values = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let output = vit.forward_with_attentions(&pixel_values)?;
/// assert_eq!(output.hidden_states.len(), 3); // what enters, then each layer's output
/// assert_eq!(output.last_hidden_state.dims(), [1, 17, 16]);
/// assert_eq!(output.attentions[1].dims(), [1, 2, 17, 17]); // of the second layer: heads, from, to
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct VitOutput {
    /// Patches through the patch embedding, `[B, P − 1, D]`.
    pub patch_embeddings: Tensor,
    /// The embeddings (class token and positions added), then the output of each layer: L + 1 times `[B, P, D]`.
    pub hidden_states: Vec<Tensor>,
    /// The last of them after the final LayerNorm, `[B, P, D]`.
    pub last_hidden_state: Tensor,
    /// `tanh` of the pooler on the class token, `[B, D]`, when the checkpoint has a pooler.
    pub pooler_output: Option<Tensor>,
    /// `[B, classes]`, when the checkpoint has a classifier.
    pub classifier_logits: Option<Tensor>,
    /// When asked for: per layer `[B, H, P, P]`, f32, rows sum to 1. Without gradient.
    pub attentions: Vec<Tensor>,
}

impl VitOutput {
    /// The embeddings that enter the first layer, `[B, P, D]`.
    pub fn embeddings(&self) -> &Tensor {
        &self.hidden_states[0]
    }

    /// The output that a setting names, `[B, P, D]`.
    ///
    /// # Errors
    /// `Config` when there is no such hidden state.
    pub fn feature(&self, feature: VisionFeature) -> Result<Tensor> {
        let last = |_: &Tensor| Ok(self.last_hidden_state.clone());
        let layers = self.hidden_states.len().saturating_sub(1);
        feature.of(&self.hidden_states, layers, last)
    }
}

impl Vit {
    /// Reads a Hugging Face folder: `config.json` and `model.safetensors` (or shards with an index), with or without the
    /// `vit.` prefix, pooler and classifier. The weights are frozen.
    ///
    /// # Errors
    /// A file missing, damaged or of another architecture, a tensor missing or of another shape.
    pub fn load(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let config = ViTConfig::from_file(dir.join("config.json"))?;
        let weights = Checkpoint::open(dir, dtype, device)?;
        let vit = Self::from_checkpoint(&config, &weights)?;
        // Heads, which see what this model gives.
        weights.note_unread(dir, |name| {
            name.starts_with("classifier.") || name.contains("pooler.")
        });
        Ok(vit)
    }

    /// A model with freshly drawn weights, in f32, frozen, without pooler and classifier: call
    /// [`Network::set_trainable`] to pretrain it.
    ///
    /// # Errors
    /// When the config contradicts itself.
    pub fn new_random(config: &ViTConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::from_checkpoint(config, &Checkpoint::random(seed, DType::F32, device))
    }

    /// A model from named weights. Pooler and classifier are read where they are.
    ///
    /// # Errors
    /// When the config contradicts itself, or a tensor is missing or of another shape.
    pub fn from_checkpoint(config: &ViTConfig, weights: &Checkpoint) -> Result<Self> {
        config.validate()?;
        let heads = weights;
        let prefixed = !weights.is_random() && weights.contains("vit.embeddings.cls_token");
        let weights = &if prefixed {
            weights.below("vit.")
        } else {
            weights.clone()
        };
        let (d, eps) = (config.hidden_size, config.layer_norm_eps);
        let init = Init::Normal(config.initializer_range);
        let linear = |name: &str, sizes, bias| Linear::load_with(weights, name, sizes, bias, init);
        let shape = LayerShape {
            hidden: d,
            intermediate: config.intermediate_size,
            heads: config.num_attention_heads,
            eps,
            qkv_bias: config.qkv_bias,
            activation: Activation::Gelu,
            init,
        };
        let layer = |index| {
            VitLayer::read(&shape, weights, &LAYER, |part| {
                layer_name(weights, index, part)
            })
        };
        let layers = (0..config.num_hidden_layers)
            .map(layer)
            .collect::<Result<Vec<_>>>()?;
        let there = |checkpoint: &Checkpoint, name: &str| {
            !checkpoint.is_random() && checkpoint.contains(name)
        };
        let pooler = there(weights, "pooler.dense.weight")
            .then(|| {
                linear(
                    "pooler.dense",
                    (d, config.pooler_output_size.unwrap_or(d)),
                    true,
                )
            })
            .transpose()?;
        let classifier = there(heads, "classifier.weight")
            .then(|| {
                let classes = heads
                    .shape("classifier.weight")
                    .and_then(|shape| shape.first().copied());
                Linear::load(heads, "classifier", (d, classes.unwrap_or_default()), true)
            })
            .transpose()?;
        let (patch, channels) = (config.patch_size, config.num_channels);
        let projection = "embeddings.patch_embeddings.projection";
        Ok(Self {
            feature: VisionFeature::default(),
            cls_token: weights.weight("embeddings.cls_token", &[1, 1, d], init)?,
            position_embeddings: weights.weight(
                "embeddings.position_embeddings",
                &[1, config.positions(), d],
                init,
            )?,
            patch_weight: weights.weight(
                &format!("{projection}.weight"),
                &[d, channels, patch, patch],
                init,
            )?,
            patch_bias: weights.weight(&format!("{projection}.bias"), &[d], Init::Zeros)?,
            layers,
            layernorm: LayerNorm::load(weights, "layernorm", d, eps)?,
            pooler,
            classifier,
            config: ReadOnly::new(config.clone()),
        })
    }

    /// The same model with another output for [`Modality::encode`].
    ///
    /// # Errors
    /// `Config` when the model has no such hidden state.
    pub fn with_feature(mut self, feature: VisionFeature) -> Result<Self> {
        self.set_feature(feature)?;
        Ok(self)
    }

    /// Writes `config.json` and `model.safetensors` as Hugging Face does: `ViTForImageClassification` when there is a
    /// classifier, else `ViTModel`. LoRA is not written (merge it first to have it in the weights).
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(|source| Error::Io {
            path: dir.into(),
            source,
        })?;
        let classifies = self.classifier.is_some();
        let file_name = |name: String| match classifies && !name.starts_with("classifier.") {
            true => format!("vit.{name}"),
            false => name,
        };
        let own = self.named_parameters().into_iter();
        let own = own.filter(|parameter| !parameter.role.is_lora());
        let tensors = own.map(|p| Ok((file_name(p.name.clone()), p.values()?)));
        let tensors = tensors.collect::<Result<Vec<(String, Tensor)>>>()?;
        save_safetensors(&dir.join("model.safetensors"), &tensors)?;
        let path = dir.join("config.json");
        let mut config = self.config.clone();
        let architecture = if classifies {
            "ViTForImageClassification"
        } else {
            "ViTModel"
        };
        config
            .other
            .insert("architectures".into(), json!([architecture]));
        let dtype = torch_dtype(self.dtype());
        config.other.insert("torch_dtype".into(), dtype.into());
        let text = serde_json::to_string_pretty(&config).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        std::fs::write(&path, text + "\n").map_err(|source| Error::Io { path, source })
    }

    /// Dtype of the weights.
    pub fn dtype(&self) -> DType {
        self.cls_token.tensor().dtype()
    }

    /// Device of the weights.
    pub fn device(&self) -> &Device {
        self.cls_token.tensor().device()
    }

    /// The forward pass: `[B, C, H, W]` → every stage. Pixel values move to the model's device and dtype.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// let output = vit.forward(&Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?)?;
    /// assert_eq!(output.last_hidden_state.dims(), [1, 17, 16]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` when the pixel values have another shape than the config says, or the batch is empty.
    pub fn forward(&self, pixel_values: &Tensor) -> Result<VitOutput> {
        self.run(pixel_values, false)
    }

    /// As [`Vit::forward`], with the attention probabilities of every layer.
    ///
    /// # Errors
    /// As [`Vit::forward`].
    pub fn forward_with_attentions(&self, pixel_values: &Tensor) -> Result<VitOutput> {
        self.run(pixel_values, true)
    }

    /// Patches through the patch embedding: `[B, C, H, W] → [B, P − 1, D]`.
    ///
    /// # Errors
    /// As [`Vit::forward`].
    pub fn patch_embeddings(&self, pixel_values: &Tensor) -> Result<Tensor> {
        let side = self.config.image_size;
        let bias = Some(&self.patch_bias);
        let patches = embed_patches(pixel_values, side, &self.patch_weight, bias)?; // [B, P − 1, D]
        activation("patch_embeddings", patches)
    }

    /// Class token in front, positions added: `[B, P − 1, D] → [B, P, D]`.
    ///
    /// # Errors
    /// When the shape does not fit the config.
    pub fn embed(&self, patch_embeddings: &Tensor) -> Result<Tensor> {
        let batch = patch_embeddings.dim(0)?;
        let class = self
            .cls_token
            .tensor()
            .broadcast_as((batch, 1, self.config.hidden_size))?; // [B, 1, D]
        let tokens = Tensor::cat(&[&class, patch_embeddings], 1)?; // [B, P, D]
        Ok(tokens.broadcast_add(self.position_embeddings.tensor())?)
    }

    fn run(&self, pixel_values: &Tensor, attentions: bool) -> Result<VitOutput> {
        let _at = within_encoder();
        let patch_embeddings = self.patch_embeddings(pixel_values)?; // [B, P − 1, D]
        let (hidden_states, attentions) = self.layers(
            self.embed(&patch_embeddings)?,
            self.layers.len(),
            attentions,
        )?;
        let last_hidden_state = self.last(&hidden_states[self.layers.len()])?; // [B, P, D]
        let class = last_hidden_state.narrow(1, 0, 1)?.squeeze(1)?; // [B, D]
        let pooled = self
            .pooler
            .as_ref()
            .map(|pooler| Ok::<_, Error>(pooler.forward(&class)?.tanh()?));
        let logits = self
            .classifier
            .as_ref()
            .map(|classifier| classifier.forward(&class));
        Ok(VitOutput {
            patch_embeddings,
            hidden_states,
            last_hidden_state,
            pooler_output: pooled.transpose()?,
            classifier_logits: logits.transpose()?,
            attentions,
        })
    }

    /// The final LayerNorm, `[B, P, D] → [B, P, D]`.
    fn last(&self, hidden: &Tensor) -> Result<Tensor> {
        activation("last_hidden_state", self.layernorm.forward(hidden)?)
    }

    /// Runs the first `count` layers; gives the input and the output of each, and attention maps when asked for.
    fn layers(
        &self,
        embeddings: Tensor,
        count: usize,
        maps: bool,
    ) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let mut attentions = Vec::new();
        let maps = maps.then_some(&mut attentions);
        let hidden_states = run_layers(embeddings, &self.layers[..count], maps)?; // [B, P, D] each
        Ok((hidden_states, attentions))
    }
}

/// A dtype as torch calls it, for the `torch_dtype` of a `config.json`.
pub(crate) fn torch_dtype(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        DType::F32 => "float32",
        DType::F64 => "float64",
        other => other.as_str(),
    }
}

/// What the parts of a layer are called below its own path, on the hub.
const LAYER: LayerNames = LayerNames {
    norms: ["layernorm_before", "layernorm_after"],
    attention: [
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
    ],
    mlp: ["intermediate.dense", "output.dense"],
    scales: None,
};

crate::parts!(Vit {
    cls_token,
    position_embeddings,
    patch_weight,
    patch_bias,
    layers,
    layernorm,
    pooler,
    classifier
});

impl Modality for Vit {
    /// `[B, C, H, W] → [B, P, D]`: the output that [`Vit::feature`] names, without the work behind it.
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        let _at = within_encoder();
        let count = self.feature.depth(self.layers.len())?;
        let embeddings = self.embed(&self.patch_embeddings(input)?)?; // [B, P, D]
        let (hidden_states, _) = self.layers(embeddings, count, false)?;
        let last = |state: &Tensor| self.last(state);
        self.feature.of(&hidden_states, self.layers.len(), last) // [B, P, D]
    }

    fn dim(&self) -> usize {
        self.config.hidden_size * self.feature.states()
    }

    fn positions(&self) -> Positions {
        Positions {
            special: 1,
            rows: self.config.grid(),
            columns: self.config.grid(),
        }
    }

    /// The picture as the encoder sees it: pixel values back through ViT's own normalisation.
    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        render_pixels(
            ImageProcessorConfig::vit(self.config.image_size as u32),
            input,
        )
    }

    fn kind(&self) -> String {
        self.config.model_type.clone()
    }

    fn image_processor(&self) -> Option<ImageProcessorConfig> {
        Some(ImageProcessorConfig::vit(self.config.image_size as u32))
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
        let seen = self.forward(input)?;
        let features = seen.feature(self.feature)?; // [B, P, D]
        let hidden = seen.hidden_states.into_iter().enumerate();
        let hidden = hidden.map(|(index, hidden)| (format!("hidden_states[{index}]"), hidden));
        let patches = ("patch_embeddings".to_string(), seen.patch_embeddings);
        Ok(Stages {
            named: std::iter::once(patches).chain(hidden).collect(),
            features,
        })
    }

    fn attentions(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        Ok(self.forward_with_attentions(input)?.attentions)
    }
}

#[cfg(test)]
#[path = "vit_tests.rs"]
mod tests;
