//! Flamingo's perceiver resampler: any number of image tokens → a fixed, small number of latents that asked about them.
//!
//! ```text
//! latents ─ L × ( + attention(queries: latents, keys and values: [image tokens; latents])  →  + feed-forward ) ─► LayerNorm
//! ```
//! Each branch begins with a LayerNorm, image tokens and latents with one of their own. Form and weight names are those of
//! <https://github.com/mlfoundations/open_flamingo/blob/main/open_flamingo/src/helpers.py>.

use crate::display::Facts;
use crate::display::facts::{shown_by_facts, shown_by_fields};
use crate::nn::show;
use crate::nn::{
    Attention, Checkpoint, Init, LayerNorm, Linear, Network, Part, PartMut, Weight, attention, gelu,
};
use crate::{Error, Result};
use candle_core::Tensor;

/// The feed-forward layer is this many times as wide as the latents.
const WIDENING: usize = 4;
/// torch's default.
const EPS: f64 = 1e-5;

/// Sizes of a resampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerceiverConfig {
    /// D, the width of image tokens and latents.
    pub dim: usize,
    /// N, how many latents there are.
    pub latents: usize,
    /// How often they ask.
    pub layers: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// d, values per head.
    pub head_dim: usize,
}

/// The resampler. A clone trains on its own.
#[derive(Clone)]
pub struct Perceiver {
    /// Sizes.
    pub config: PerceiverConfig,
    /// The learned queries, `[N, D]`.
    pub latents: Weight,
    /// In the order of the forward pass.
    pub layers: Vec<PerceiverLayer>,
    /// Behind the last layer.
    pub norm: LayerNorm,
}

/// One round of questions.
#[derive(Clone)]
pub struct PerceiverLayer {
    /// On the image tokens.
    pub norm_media: LayerNorm,
    /// On the latents.
    pub norm_latents: LayerNorm,
    /// `[D → H·d]`.
    pub to_q: Linear,
    /// Keys and values side by side, `[D → 2·H·d]`.
    pub to_kv: Linear,
    /// `[H·d → D]`.
    pub to_out: Linear,
    /// Before the feed-forward layer.
    pub norm_feed_forward: LayerNorm,
    /// `[D → 4·D]`.
    pub up: Linear,
    /// `[4·D → D]`.
    pub down: Linear,
}

shown_by_facts!(Perceiver, PerceiverLayer);
shown_by_fields!(PerceiverConfig);

impl PerceiverLayer {
    fn facts(&self) -> Facts {
        Facts::new("PerceiverLayer")
            .fact("to_q", format!("{:?}", self.to_q))
            .fact("to_kv", format!("{:?}", self.to_kv))
            .fact("to_out", format!("{:?}", self.to_out))
            .fact("up", format!("{:?}", self.up))
            .fact("down", format!("{:?}", self.down))
    }
}

impl Perceiver {
    fn facts(&self) -> Facts {
        let mut all = Vec::new();
        self.visit(&mut |part| match part {
            Part::Linear(linear) => all.extend(linear.parameters()),
            Part::Weight(weight) => all.push(weight.parameter()),
        });
        Facts::fields(&self.config)
            .titled("Perceiver resampler")
            .fact("parameters", show::parameters(&all))
    }

    /// A resampler from named weights, `perceiver.latents`, `perceiver.layers.…` and `perceiver.norm`. A random checkpoint draws them as torch does.
    ///
    /// # Errors
    /// When a size is 0, or a tensor is missing or of another shape.
    pub fn from_checkpoint(config: PerceiverConfig, weights: &Checkpoint) -> Result<Self> {
        let PerceiverConfig {
            dim,
            latents,
            layers,
            heads,
            head_dim,
        } = config;
        for (name, size) in [
            ("latents", latents),
            ("layers", layers),
            ("heads", heads),
            ("head_dim", head_dim),
        ] {
            if size == 0 {
                return Err(Error::Config(format!(
                    "the perceiver resampler's {name} must be at least 1"
                )));
            }
        }
        let norm = |name: String| LayerNorm::load(weights, &name, dim, EPS);
        let linear = |name: String, input: usize, output: usize| {
            let init = Init::Uniform(1.0 / (input as f64).sqrt());
            Linear::load_with(weights, &name, (input, output), false, init)
        };
        let inner = heads * head_dim;
        let layer = |index: usize| -> Result<PerceiverLayer> {
            // 0 is attention, 1 the feed-forward layer: LayerNorm, linear, GELU, linear.
            let at = |part: &str| format!("perceiver.layers.{index}.{part}");
            Ok(PerceiverLayer {
                norm_media: norm(at("0.norm_media"))?,
                norm_latents: norm(at("0.norm_latents"))?,
                to_q: linear(at("0.to_q"), dim, inner)?,
                to_kv: linear(at("0.to_kv"), dim, 2 * inner)?,
                to_out: linear(at("0.to_out"), inner, dim)?,
                norm_feed_forward: norm(at("1.0"))?,
                up: linear(at("1.1"), dim, WIDENING * dim)?,
                down: linear(at("1.3"), WIDENING * dim, dim)?,
            })
        };
        Ok(Self {
            config,
            latents: weights.weight("perceiver.latents", &[latents, dim], Init::Normal(1.0))?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            norm: norm("perceiver.norm".into())?,
        })
    }

    /// `[B, P, D] → [B, N, D]`.
    ///
    /// # Errors
    /// When the image tokens have another width.
    pub fn forward(&self, image_tokens: &Tensor) -> Result<Tensor> {
        let (batch, _, _) = image_tokens.dims3()?;
        let PerceiverConfig { dim, latents, .. } = self.config;
        let mut hidden = self
            .latents
            .tensor()
            .unsqueeze(0)?
            .broadcast_as((batch, latents, dim))?
            .contiguous()?; // [B, N, D]
        for layer in &self.layers {
            hidden = (&hidden + layer.ask(&self.config, image_tokens, &hidden)?)?; // [B, N, D]
            let normed = layer.norm_feed_forward.forward(&hidden)?; // [B, N, D]
            let wide = gelu(&layer.up.forward(&normed)?)?; // [B, N, 4·D]
            hidden = (hidden + layer.down.forward(&wide)?)?; // [B, N, D]
        }
        self.norm.forward(&hidden)
    }
}

impl PerceiverLayer {
    /// What the latents find in the image tokens and in each other: `[B, P, D], [B, N, D] → [B, N, D]`.
    fn ask(
        &self,
        config: &PerceiverConfig,
        image_tokens: &Tensor,
        latents: &Tensor,
    ) -> Result<Tensor> {
        let inner = config.heads * config.head_dim;
        let media = self.norm_media.forward(image_tokens)?; // [B, P, D]
        let latents = self.norm_latents.forward(latents)?; // [B, N, D]
        let queries = self.to_q.forward(&latents)?; // [B, N, H·d]
        let all = Tensor::cat(&[&media, &latents], 1)?; // [B, P + N, D]
        let keys_values = self.to_kv.forward(&all)?; // [B, P + N, 2·H·d]
        let keys = keys_values.narrow(2, 0, inner)?; // [B, P + N, H·d]
        let values = keys_values.narrow(2, inner, inner)?; // [B, P + N, H·d]
        let form = Attention::bidirectional(config.heads, config.head_dim);
        let found = attention(&form, &queries, &keys, &values, None)?; // [B, N, H·d]
        self.to_out.forward(&found)
    }

    fn norms(&self) -> [&LayerNorm; 3] {
        [
            &self.norm_media,
            &self.norm_latents,
            &self.norm_feed_forward,
        ]
    }

    fn linears(&self) -> [&Linear; 5] {
        [&self.to_q, &self.to_kv, &self.to_out, &self.up, &self.down]
    }
}

impl Network for Perceiver {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part::Weight(&self.latents));
        for layer in &self.layers {
            for norm in layer.norms() {
                visitor(Part::Weight(&norm.weight));
                visitor(Part::Weight(&norm.bias));
            }
            for linear in layer.linears() {
                visitor(Part::Linear(linear));
            }
        }
        visitor(Part::Weight(&self.norm.weight));
        visitor(Part::Weight(&self.norm.bias));
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        visitor(PartMut::Weight(&mut self.latents))?;
        for layer in &mut self.layers {
            for norm in [
                &mut layer.norm_media,
                &mut layer.norm_latents,
                &mut layer.norm_feed_forward,
            ] {
                visitor(PartMut::Weight(&mut norm.weight))?;
                visitor(PartMut::Weight(&mut norm.bias))?;
            }
            for linear in [
                &mut layer.to_q,
                &mut layer.to_kv,
                &mut layer.to_out,
                &mut layer.up,
                &mut layer.down,
            ] {
                visitor(PartMut::Linear(linear))?;
            }
        }
        visitor(PartMut::Weight(&mut self.norm.weight))?;
        visitor(PartMut::Weight(&mut self.norm.bias))
    }
}
