//! One transformer layer of an image encoder, a ViT's or a tower's, and the reading of its parts.
//!
//! ```text
//! hidden ─ LayerNorm → attention → (scale) → + → LayerNorm → MLP → (scale) → + ─► hidden
//! ```

use candle_core::Tensor;

use crate::edits::{self, Axes, activation, activation_at};
use crate::nn::named_attention::named_attention;
use crate::nn::{
    Activation, Attention, Checkpoint, Init, LayerNorm, Linear, Weight, attention_probabilities,
    recompute, shared,
};
use crate::{Error, Result};

/// One transformer layer: LayerNorm before attention and before the MLP, with an optional scale on what each adds. The names
/// are those of a ViT; the weights in it have the names of the checkpoint that they came from.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vit = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let layer = &vit.layers[0];
/// let hidden = Tensor::randn(0f32, 1.0, (1, 17, 16), &Device::Cpu)?;
/// assert_eq!(layer.forward(&hidden)?.dims(), [1, 17, 16]); // as many vectors, as wide
/// assert_eq!((layer.query.input(), layer.intermediate.output()), (16, 32));
/// # Ok(()) }
/// ```
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
    /// On what attention adds, `[D]`: DINOv2.
    pub attention_scale: Option<Weight>,
    /// Before the MLP.
    pub layernorm_after: LayerNorm,
    /// `[D → I]`.
    pub intermediate: Linear,
    /// `[I → D]`.
    pub output: Linear,
    /// On what the MLP adds, `[D]`: DINOv2.
    pub output_scale: Option<Weight>,
    /// Heads of attention, D / heads values each.
    pub heads: usize,
    /// Activation of the MLP.
    pub activation: Activation,
}

/// What the parts of a layer are called below its own path.
pub(crate) struct LayerNames {
    pub norms: [&'static str; 2],
    /// Query, key, value, output.
    pub attention: [&'static str; 4],
    pub mlp: [&'static str; 2],
    pub scales: Option<[&'static str; 2]>,
}

/// What a layer's config says of it.
pub(crate) struct LayerShape {
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub eps: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    pub activation: Activation,
    /// Of freshly drawn weights.
    pub init: Init,
}

impl VitLayer {
    /// Reads a layer. `place` says of a part's name what the part is called here, and what it is called in the checkpoint.
    pub(crate) fn read(
        shape: &LayerShape,
        weights: &Checkpoint,
        names: &LayerNames,
        place: impl Fn(&str) -> (String, String),
    ) -> Result<Self> {
        let (d, wide) = (shape.hidden, shape.intermediate);
        let get = |(name, in_file): &(String, String), end: &str, dims: &[usize], init| {
            let tensor = weights.get(&format!("{in_file}{end}"), dims, init)?;
            Ok::<_, Error>(Weight::frozen(format!("{name}{end}"), tensor))
        };
        let linear = |part: &str, input: usize, output: usize, bias: bool| {
            let at = place(part);
            let weight = get(&at, ".weight", &[output, input], shape.init)?;
            let bias = bias.then(|| get(&at, ".bias", &[output], Init::Zeros));
            Ok::<_, Error>(Linear::new(&at.0, weight, bias.transpose()?))
        };
        let norm = |part: &str| {
            let at = place(part);
            Ok::<_, Error>(LayerNorm {
                weight: get(&at, ".weight", &[d], Init::Ones)?,
                bias: get(&at, ".bias", &[d], Init::Zeros)?,
                eps: shape.eps,
            })
        };
        let scale = |index: usize| {
            let part = names.scales.map(|scales| place(scales[index]));
            part.map(|at| get(&at, "", &[d], Init::Ones)).transpose()
        };
        let [query, key, value, out] = names.attention;
        Ok(Self {
            layernorm_before: norm(names.norms[0])?,
            query: linear(query, d, d, shape.qkv_bias)?,
            key: linear(key, d, d, shape.qkv_bias)?,
            value: linear(value, d, d, shape.qkv_bias)?,
            attention_output: linear(out, d, d, true)?,
            attention_scale: scale(0)?,
            layernorm_after: norm(names.norms[1])?,
            intermediate: linear(names.mlp[0], d, wide, true)?,
            output: linear(names.mlp[1], wide, d, true)?,
            output_scale: scale(1)?,
            heads: shape.heads,
            activation: shape.activation,
        })
    }

    /// `[B, P, D] → [B, P, D]`.
    ///
    /// # Errors
    /// When the hidden states have another width.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        self.run(hidden, None)
    }

    /// As [`VitLayer::forward`]; the attention probabilities, `[B, H, P, P]`, are added to `maps`, if there are any. With gradient
    /// checkpointing nothing is kept but `hidden`.
    pub(crate) fn run(&self, hidden: &Tensor, maps: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        match maps.is_none() && recompute::is_on() && !edits::are_on() {
            true => recompute::recomputed(shared(self), hidden, |layer, hidden| {
                layer.computed(hidden, None)
            }), // [B, P, D]
            false => self.computed(hidden, maps),
        }
    }

    fn computed(&self, hidden: &Tensor, maps: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        let form = Attention::bidirectional(self.heads, self.query.output() / self.heads.max(1));
        let normed = self.layernorm_before.forward(hidden)?; // [B, P, D]
        let axes = Axes::tokens(0);
        let by_head = axes.heads(form.head_dim);
        let query = activation_at("queries", self.query.forward(&normed)?, by_head)?; // [B, P, H·d]
        let key = activation_at("keys", self.key.forward(&normed)?, by_head)?; // [B, P, H·d]
        let value = activation_at("values", self.value.forward(&normed)?, by_head)?; // [B, P, H·d]
        let (mixed, weights) = named_attention(&form, &query, &key, &value, None, axes)?; // [B, P, H·d]
        if let Some(maps) = maps {
            maps.push(match weights {
                Some(changed) => changed, // [B, H, P, P]
                None => attention_probabilities(&form, &query, &key, None)?,
            });
        }
        let mixed = activation_at("heads", mixed, by_head)?; // [B, P, H·d]
        let update = self.attention_output.forward(&mixed)?; // [B, P, D]
        let update = activation("attention", scaled(update, &self.attention_scale)?)?; // [B, P, D]
        let hidden = activation("middle", (hidden + update)?)?; // [B, P, D]
        let normed = self.layernorm_after.forward(&hidden)?; // [B, P, D]
        let wide = self
            .activation
            .forward(&self.intermediate.forward(&normed)?)?; // [B, P, I]
        let wide = activation("neurons", wide)?; // [B, P, I]
        let update = self.output.forward(&wide)?; // [B, P, D]
        let update = activation("mlp", scaled(update, &self.output_scale)?)?; // [B, P, D]
        Ok((hidden + update)?) // [B, P, D]
    }
}

/// Runs layers one after the other: the input of the first, then the output of each, `[B, P, D]`. Attention maps are added to `maps`,
/// if there are any.
pub(super) fn run_layers(
    embeddings: Tensor,
    layers: &[VitLayer],
    mut maps: Option<&mut Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let name = |index: usize, hidden| {
        activation_at(
            format_args!("hidden_states[{index}]"),
            hidden,
            Axes::tokens(0),
        )
    };
    let mut states = vec![name(0, embeddings)?];
    for (index, layer) in layers.iter().enumerate() {
        let at = edits::within(|| format!("layers[{index}]"));
        let hidden = layer.run(&states[index], maps.as_deref_mut())?; // [B, P, D]
        drop(at);
        states.push(name(index + 1, hidden)?);
    }
    Ok(states)
}

crate::parts!(VitLayer {
    layernorm_before,
    query,
    key,
    value,
    attention_output,
    attention_scale,
    layernorm_after,
    intermediate,
    output,
    output_scale
});

fn scaled(update: Tensor, scale: &Option<Weight>) -> Result<Tensor> {
    match scale {
        Some(scale) => Ok(update.broadcast_mul(scale.tensor())?),
        None => Ok(update),
    }
}
