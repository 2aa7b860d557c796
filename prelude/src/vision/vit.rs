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
use serde_json::{Value, json};

use super::ImageProcessorConfig;
use super::feature::{VisionFeature, place};
use super::modality::{Modality, Positions, Stages, render_pixels};
use super::patches::embed_patches;
use super::vit_config::ViTConfig;
use super::vit_names::layer_name;
use crate::display::MimeBundle;
use crate::nn::checkpoint::save_safetensors;
use crate::nn::{
    Attention, Checkpoint, Init, LayerNorm, Linear, Network, Part, PartMut, Weight, attention,
    attention_probabilities, gelu,
};
use crate::{Error, ReadOnly, Result};

/// A Vision Transformer. A clone trains on its own: see [`Weight`].
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

/// One transformer layer.
#[derive(Clone)]
pub struct VitLayer {
    /// Before attention.
    pub layernorm_before: LayerNorm,
    /// `[D → D]`.
    pub query: Linear,
    /// `[D → D]`.
    pub key: Linear,
    /// `[D → D]`.
    pub value: Linear,
    /// After attention, `[D → D]`.
    pub attention_output: Linear,
    /// Before the MLP.
    pub layernorm_after: LayerNorm,
    /// `[D → I]`.
    pub intermediate: Linear,
    /// `[I → D]`.
    pub output: Linear,
}

/// What comes out of a forward pass.
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
        match feature {
            VisionFeature::LastHiddenState => Ok(self.last_hidden_state.clone()),
            VisionFeature::HiddenState(index) => {
                Ok(self.hidden_states[place(index, self.hidden_states.len())?].clone())
            }
        }
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
        let layers = (0..config.num_hidden_layers)
            .map(|i| VitLayer::read(config, weights, i))
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
        let tensors: Vec<(String, Tensor)> = self
            .named_parameters()
            .into_iter()
            .filter(|parameter| !parameter.name.contains(".lora_"))
            .map(|parameter| (file_name(parameter.name), parameter.tensor))
            .collect();
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
        let dtype = Value::from(
            self.dtype()
                .as_str()
                .replace("f32", "float32")
                .replace("bf16", "bfloat16"),
        );
        config.other.insert("torch_dtype".into(), dtype);
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
        embed_patches(
            pixel_values,
            side,
            &self.patch_weight,
            Some(&self.patch_bias),
        ) // [B, P − 1, D]
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
        let patch_embeddings = self.patch_embeddings(pixel_values)?; // [B, P − 1, D]
        let (hidden_states, attentions) = self.layers(
            self.embed(&patch_embeddings)?,
            self.layers.len(),
            attentions,
        )?;
        let last_hidden_state = self.layernorm.forward(&hidden_states[self.layers.len()])?; // [B, P, D]
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

    /// Runs the first `count` layers; gives the input and the output of each, and attention maps when asked for.
    fn layers(
        &self,
        embeddings: Tensor,
        count: usize,
        maps: bool,
    ) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let form =
            Attention::bidirectional(self.config.num_attention_heads, self.config.head_dim());
        let (mut hidden_states, mut attentions) = (vec![embeddings], Vec::new());
        for layer in &self.layers[..count] {
            let hidden = &hidden_states[hidden_states.len() - 1]; // [B, P, D]
            let normed = layer.layernorm_before.forward(hidden)?; // [B, P, D]
            let query = layer.query.forward(&normed)?; // [B, P, H·d]
            let key = layer.key.forward(&normed)?; // [B, P, H·d]
            let value = layer.value.forward(&normed)?; // [B, P, H·d]
            if maps {
                attentions.push(attention_probabilities(&form, &query, &key, None)?); // [B, H, P, P]
            }
            let mixed = attention(&form, &query, &key, &value, None)?; // [B, P, H·d]
            let hidden = (hidden + layer.attention_output.forward(&mixed)?)?; // [B, P, D]
            let normed = layer.layernorm_after.forward(&hidden)?; // [B, P, D]
            let wide = gelu(&layer.intermediate.forward(&normed)?)?; // [B, P, I]
            hidden_states.push((hidden + layer.output.forward(&wide)?)?); // [B, P, D]
        }
        Ok((hidden_states, attentions))
    }
}

impl VitLayer {
    fn read(config: &ViTConfig, weights: &Checkpoint, index: usize) -> Result<Self> {
        let (d, eps) = (config.hidden_size, config.layer_norm_eps);
        let read = |part: &str, input: usize, output: usize, bias: bool| -> Result<Linear> {
            let (name, in_file) = layer_name(weights, index, part);
            let get = |end: &str, shape: &[usize], init| -> Result<Weight> {
                let tensor = weights.get(&format!("{in_file}.{end}"), shape, init)?;
                Ok(Weight::frozen(format!("{name}.{end}"), tensor))
            };
            let weight = get(
                "weight",
                &[output, input],
                Init::Normal(config.initializer_range),
            )?;
            let bias = bias
                .then(|| get("bias", &[output], Init::Zeros))
                .transpose()?;
            Ok(Linear::new(&name, weight, bias))
        };
        let norm = |part: &str| -> Result<LayerNorm> {
            let (name, in_file) = layer_name(weights, index, part);
            let get = |end: &str, init| -> Result<Weight> {
                Ok(Weight::frozen(
                    format!("{name}.{end}"),
                    weights.get(&format!("{in_file}.{end}"), &[d], init)?,
                ))
            };
            Ok(LayerNorm {
                weight: get("weight", Init::Ones)?,
                bias: get("bias", Init::Zeros)?,
                eps,
            })
        };
        Ok(Self {
            layernorm_before: norm("layernorm_before")?,
            query: read("attention.attention.query", d, d, config.qkv_bias)?,
            key: read("attention.attention.key", d, d, config.qkv_bias)?,
            value: read("attention.attention.value", d, d, config.qkv_bias)?,
            attention_output: read("attention.output.dense", d, d, true)?,
            layernorm_after: norm("layernorm_after")?,
            intermediate: read("intermediate.dense", d, config.intermediate_size, true)?,
            output: read("output.dense", config.intermediate_size, d, true)?,
        })
    }
}

impl Network for Vit {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        for weight in [
            &self.cls_token,
            &self.position_embeddings,
            &self.patch_weight,
            &self.patch_bias,
        ] {
            visitor(Part::Weight(weight));
        }
        for layer in &self.layers {
            visit_norm(&layer.layernorm_before, visitor);
            for linear in [
                &layer.query,
                &layer.key,
                &layer.value,
                &layer.attention_output,
            ] {
                visitor(Part::Linear(linear));
            }
            visit_norm(&layer.layernorm_after, visitor);
            visitor(Part::Linear(&layer.intermediate));
            visitor(Part::Linear(&layer.output));
        }
        visit_norm(&self.layernorm, visitor);
        for linear in self.pooler.iter().chain(&self.classifier) {
            visitor(Part::Linear(linear));
        }
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        for weight in [
            &mut self.cls_token,
            &mut self.position_embeddings,
            &mut self.patch_weight,
            &mut self.patch_bias,
        ] {
            visitor(PartMut::Weight(weight))?;
        }
        for layer in &mut self.layers {
            visit_norm_mut(&mut layer.layernorm_before, visitor)?;
            for linear in [
                &mut layer.query,
                &mut layer.key,
                &mut layer.value,
                &mut layer.attention_output,
            ] {
                visitor(PartMut::Linear(linear))?;
            }
            visit_norm_mut(&mut layer.layernorm_after, visitor)?;
            visitor(PartMut::Linear(&mut layer.intermediate))?;
            visitor(PartMut::Linear(&mut layer.output))?;
        }
        visit_norm_mut(&mut self.layernorm, visitor)?;
        for linear in self.pooler.iter_mut().chain(&mut self.classifier) {
            visitor(PartMut::Linear(linear))?;
        }
        Ok(())
    }
}

fn visit_norm(norm: &LayerNorm, visitor: &mut dyn FnMut(Part<'_>)) {
    visitor(Part::Weight(&norm.weight));
    visitor(Part::Weight(&norm.bias));
}

fn visit_norm_mut(
    norm: &mut LayerNorm,
    visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>,
) -> Result<()> {
    visitor(PartMut::Weight(&mut norm.weight))?;
    visitor(PartMut::Weight(&mut norm.bias))
}

impl Modality for Vit {
    /// `[B, C, H, W] → [B, P, D]`: the output that [`Vit::feature`] names, without the work behind it.
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        let count = match self.feature {
            VisionFeature::HiddenState(index) => place(index, self.layers.len() + 1)?,
            VisionFeature::LastHiddenState => self.layers.len(),
        };
        let embeddings = self.embed(&self.patch_embeddings(input)?)?; // [B, P, D]
        let (mut hidden_states, _) = self.layers(embeddings, count, false)?;
        let hidden = hidden_states.swap_remove(count); // [B, P, D]
        match self.feature {
            VisionFeature::HiddenState(_) => Ok(hidden),
            VisionFeature::LastHiddenState => self.layernorm.forward(&hidden),
        }
    }

    fn dim(&self) -> usize {
        self.config.hidden_size
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
        if let VisionFeature::HiddenState(index) = feature {
            place(index, self.layers.len() + 1)?;
        }
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
