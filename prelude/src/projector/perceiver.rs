//! Flamingo's perceiver resampler: any number of image tokens → a fixed, small number of latents that asked about them.
//!
//! ```text
//! latents ─ L × ( + attention(queries: latents, keys and values: [image tokens; latents])  →  + feed-forward ) ─► LayerNorm
//! ```
//! Each branch begins with a LayerNorm, image tokens and latents with one of their own. Form and weight names are those of
//! <https://github.com/mlfoundations/open_flamingo/blob/main/open_flamingo/src/helpers.py>.

use super::{Projection, layer};
use crate::display::Facts;
use crate::display::facts::{shown_by_facts, shown_by_fields};
use crate::nn::{Attention, Checkpoint, Init, LayerNorm, Linear, Weight, attention, gelu};
use crate::nn::{Network, show};
use crate::{Error, Result};
use candle_core::Tensor;

/// A resampler, then one linear layer into the language model.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let kind = ProjectorKind::PerceiverResampler { latents: 4, layers: 1, heads: 2, head_dim: 8 };
/// let projector = Projector::new(ProjectorConfig { kind, input: 16, output: 32 }, 1, &device)?;
/// for patches in [9, 100] {
///     let hidden = Tensor::randn(0f32, 1.0, (1, patches, 16), &device)?;
///     assert_eq!(projector.forward(&hidden)?.dims(), [1, 4, 32]); // always 4 tokens
/// }
/// assert!(projector.get::<Resampler>().is_some());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Resampler {
    /// Any number of image tokens → a few.
    pub perceiver: Perceiver,
    /// `[D_image → D_text]`.
    pub fc1: Linear,
}

shown_by_facts!(Resampler);

impl Resampler {
    pub(super) fn load(
        weights: &Checkpoint,
        config: PerceiverConfig,
        output: usize,
    ) -> Result<Self> {
        Ok(Self {
            fc1: layer(weights, "fc1", config.dim, output)?,
            perceiver: Perceiver::from_checkpoint(config, weights)?,
        })
    }

    fn facts(&self) -> Facts {
        Facts::new("Resampler")
            .fact("perceiver", format!("{:?}", self.perceiver.config))
            .fact("fc1", format!("{:?}", self.fc1))
    }
}

impl Projection for Resampler {
    fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        self.fc1.forward(&self.perceiver.forward(hidden_states)?) // [B, N, D_text]
    }

    fn input(&self) -> usize {
        self.fc1.input()
    }

    fn output(&self) -> usize {
        self.fc1.output()
    }
}

crate::parts!(Resampler { perceiver, fc1 });

/// The feed-forward layer is this many times as wide as the latents.
const WIDENING: usize = 4;
/// torch's default.
const EPS: f64 = 1e-5;

/// Sizes of a resampler.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::projector::perceiver::{Perceiver, PerceiverConfig};
///
/// # fn main() -> Result<()> {
/// let config = PerceiverConfig { dim: 16, latents: 4, layers: 1, heads: 2, head_dim: 8 };
/// let perceiver = Perceiver::from_checkpoint(config, &Checkpoint::random(1, DType::F32, &Device::Cpu))?;
/// assert_eq!(perceiver.latents.tensor().dims(), [4, 16]);
/// # Ok(()) }
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let kind = ProjectorKind::PerceiverResampler { latents: 4, layers: 1, heads: 2, head_dim: 8 };
/// let projector = Projector::new(ProjectorConfig { kind, input: 16, output: 32 }, 1, &Device::Cpu)?;
/// let perceiver = projector.get::<Resampler>().map(|own| own.perceiver.clone());
/// let patches = Tensor::randn(0f32, 1.0, (1, 25, 16), &Device::Cpu)?;
/// let latents = perceiver.expect("it is a resampler").forward(&patches)?;
/// assert_eq!(latents.dims(), [1, 4, 16]);
/// # Ok(()) }
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::projector::perceiver::{Perceiver, PerceiverConfig};
///
/// # fn main() -> Result<()> {
/// let config = PerceiverConfig { dim: 16, latents: 4, layers: 2, heads: 2, head_dim: 8 };
/// let perceiver = Perceiver::from_checkpoint(config, &Checkpoint::random(1, DType::F32, &Device::Cpu))?;
/// let layer = &perceiver.layers[0];
/// assert_eq!((layer.to_q.output(), layer.to_kv.output()), (16, 2 * 16)); // heads × values, and twice that
/// # Ok(()) }
/// ```
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
        let all = self.named_parameters();
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
}

crate::parts!(PerceiverLayer {
    norm_media,
    norm_latents,
    norm_feed_forward,
    to_q,
    to_kv,
    to_out,
    up,
    down
});

crate::parts!(Perceiver {
    latents,
    layers,
    norm
});
