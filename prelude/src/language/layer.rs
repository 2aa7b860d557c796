//! One layer of a language model: attention and an MLP, each added to what it was given.
//!
//! ```text
//! serial    x ─► x + attention(norm x) ─► x + mlp(norm x)          Gemma: a further norm behind attention and MLP
//! parallel  x ─► x + attention(norm x) + mlp(norm x)
//! ```

use super::cache::State;
use super::config::DecoderConfig;
use super::form::{Form, Norms};
use super::norm::Norm;
use crate::edits::{self, Asked, Axes, activation_at};
use crate::nn::named_attention::{ATTENTION_WEIGHTS, named_attention, read_weights};
use crate::nn::{
    Activation, Attention, Checkpoint, Init, Linear, Rotary, Visibility, attention_probabilities,
    recompute, rotary_attention, shared,
};
use crate::{Error, Result};
use candle_core::{D, DType, Tensor};

/// One transformer layer.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let layer: &DecoderLayer = &llm.layers[0];
/// let x = Tensor::randn(0f32, 1.0, (1, 3, 16), &Device::Cpu)?;
/// let normed = layer.before_attention.forward(&x)?;
/// assert_eq!(layer.self_attn.project(&normed)?.dims(), [1, 3, 48]); // queries, keys and values
/// assert_eq!(layer.mlp.forward(&x)?.dims(), [1, 3, 16]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct DecoderLayer {
    /// Before attention.
    pub before_attention: Norm,
    /// Attention to the tokens before.
    pub self_attn: SelfAttention,
    /// Behind attention, before it is added: Gemma's.
    pub after_attention: Norm,
    /// Before the MLP; absent in parallel layers, whose MLP reads what attention reads.
    pub before_mlp: Norm,
    /// The MLP.
    pub mlp: Mlp,
    /// Behind the MLP, before it is added: Gemma's.
    pub after_mlp: Norm,
    parallel: bool,
}

/// Attention with the layers around it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let attention = &llm.layers[0].self_attn;
/// assert_eq!((attention.form().heads, attention.form().head_dim), (2, 8));
/// assert_eq!((attention.o_proj.input(), attention.o_proj.output()), (16, 16));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SelfAttention {
    /// Queries, keys and values side by side, `[D → (H + 2K)·d]`.
    pub qkv_proj: SideBySide,
    /// On each head of the queries.
    pub q_norm: Norm,
    /// On each head of the keys.
    pub k_norm: Norm,
    /// `[H·d → D]`.
    pub o_proj: Linear,
    form: Attention,
    query_scale: f64,
    /// Which of the model's kinds of rotary positions.
    rope: usize,
}

/// The MLP of a layer.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let mlp = &llm.layers[0].mlp;
/// let x = Tensor::randn(0f32, 1.0, (1, 3, 16), &Device::Cpu)?;
/// assert_eq!(mlp.forward(&x)?.dims(), [1, 3, 16]);
/// assert_eq!(mlp.down_proj.input(), 32); // wider inside
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Mlp {
    /// Gate and up side by side, `[D → 2·I]`; without a gate `[D → I]`.
    pub gate_up_proj: SideBySide,
    /// `[I → D]`.
    pub down_proj: Linear,
    /// Between the two.
    pub activation: Activation,
    pub(super) gated: bool,
}

/// Linear layers that read the same vectors, their outputs side by side: one matrix in the checkpoint of some families, several in others.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let qkv = &llm.layers[0].self_attn.qkv_proj; // Phi-3 has one layer for all three, Llama three
/// assert_eq!(qkv.linears().len(), 1);
/// let x = Tensor::randn(0f32, 1.0, (1, 3, 16), &Device::Cpu)?;
/// assert_eq!(qkv.forward(&x)?.dims(), [1, 3, 3 * 16]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SideBySide(Vec<Linear>);

/// What all layers of one forward pass share.
pub(super) struct Pass<'a> {
    /// By kind of rotary positions.
    pub rotary: &'a [Rotary],
    pub mask: Option<&'a Tensor>,
    /// Who sees whom, where that is more or less than everything before it.
    pub visibility: Option<&'a Visibility>,
    pub state: Option<&'a State>,
    pub attentions: bool,
}

/// Queries and keys as positions have turned them: what the weights of attention are made of.
const TURNED: [&str; 2] = ["rotated_queries", "rotated_keys"];

/// Turned queries `[B, T, H·d]`, turned keys and values `[B, T, K·d]`.
type Turned = (Tensor, Tensor, Tensor);

impl Pass<'_> {
    /// What the axes of an activation are, `[B, T, ..]`.
    fn axes(&self) -> Axes {
        Axes::tokens(self.state.map_or(0, |state| state.length))
    }
}

impl DecoderLayer {
    pub(super) fn load(
        config: &DecoderConfig,
        form: &Form,
        weights: &Checkpoint,
        index: usize,
    ) -> Result<Self> {
        let at = format!("model.layers.{index}");
        let (d, inner, head) = (
            config.hidden_size,
            config.intermediate_size,
            config.head_dim(),
        );
        let (query, key) = (config.num_attention_heads * head, config.kv_heads() * head);
        let init = Init::Normal(config.initializer_range);
        let linear = |name: &str, sizes, bias| {
            Linear::load_with(weights, &format!("{at}.{name}"), sizes, bias, init)
        };
        let norm = |name: &str, width| {
            let name = format!("{at}.{name}");
            Norm::load(form.norm, weights, &name, width, config.norm_eps)
        };
        let widths: &[usize] = match form.qkv.len() {
            1 => &[query + 2 * key],
            _ => &[query, key, key],
        };
        let qkv = form.qkv.iter().zip(widths);
        let qkv = qkv.map(|(name, &width)| linear(name, (d, width), form.qkv_bias));
        let packed = if form.gated && form.mlp_in.len() == 1 {
            2
        } else {
            1
        };
        let mlp_in = form.mlp_in.iter();
        let mlp_in = mlp_in.map(|name| linear(name, (d, packed * inner), form.mlp_bias));
        let [q_norm, k_norm] = match form.qk_norm {
            None => [Norm::Absent, Norm::Absent],
            Some([q, k]) => [norm(q, head)?, norm(k, head)?],
        };
        let before_attention = norm("input_layernorm", d)?;
        let [after_attention, before_mlp, after_mlp] = match form.norms {
            Norms::Parallel => [Norm::Absent, Norm::Absent, Norm::Absent],
            Norms::Serial => [
                Norm::Absent,
                norm("post_attention_layernorm", d)?,
                Norm::Absent,
            ],
            Norms::Sandwich => [
                norm("post_attention_layernorm", d)?,
                norm("pre_feedforward_layernorm", d)?,
                norm("post_feedforward_layernorm", d)?,
            ],
        };
        Ok(Self {
            before_attention,
            self_attn: SelfAttention {
                qkv_proj: SideBySide(qkv.collect::<Result<_>>()?),
                q_norm,
                k_norm,
                o_proj: linear(form.o_proj, (query, d), form.o_bias)?,
                form: form.attention(config, index),
                query_scale: form.query_scale,
                rope: form.layers.get(index).map_or(0, |layer| layer.rope),
            },
            after_attention,
            before_mlp,
            mlp: Mlp {
                gate_up_proj: SideBySide(mlp_in.collect::<Result<_>>()?),
                down_proj: linear(form.mlp_out, (inner, d), form.mlp_bias)?,
                activation: form.activation(config),
                gated: form.gated,
            },
            after_mlp,
            parallel: form.norms == Norms::Parallel,
        })
    }

    /// `[B, T, D] → [B, T, D]`, and the attention probabilities where the pass asks for them.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        index: usize,
        pass: &Pass,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let axes = pass.axes();
        let _at = edits::within(|| format!("layers[{index}]"));
        let normed = self.before_attention.forward(x)?; // [B, T, D]
        let (mixed, probabilities) = self.self_attn.forward(&normed, index, pass)?; // [B, T, D]
        let mixed = self.after_attention.forward(&mixed)?; // [B, T, D]
        let y = (x + activation_at("attention", mixed, axes)?)?; // [B, T, D]
        let y = activation_at("middle", y, axes)?; // [B, T, D]
        let read = if self.parallel {
            normed
        } else {
            self.before_mlp.forward(&y)? // [B, T, D]
        };
        let made = self.after_mlp.forward(&self.mlp.run(&read, axes)?)?; // [B, T, D]
        let made = activation_at("mlp", made, axes)?; // [B, T, D]
        Ok(((y + made)?, probabilities))
    }

    /// As [`DecoderLayer::forward`] without a cache, keeping nothing but `x`: the backward pass computes the layer again.
    pub(super) fn recomputed(&self, x: &Tensor, index: usize, pass: &Pass) -> Result<Tensor> {
        let (rotary, mask) = (pass.rotary.to_vec(), pass.mask.cloned());
        let visibility = pass.visibility.cloned();
        recompute::recomputed(shared(self), x, move |layer, x| {
            let pass = Pass {
                rotary: &rotary,
                mask: mask.as_ref(),
                visibility: visibility.as_ref(),
                state: None,
                attentions: false,
            };
            Ok(layer.forward(x, index, &pass)?.0)
        }) // [B, T, D]
    }

    /// What each head adds to the residual stream, of what the heads of one token have put together, `[1, H·d]`; a last row is what the
    /// output projection adds of its own: `[H + 1, D]`, f32. The scale of a norm behind attention is that of the sum.
    pub(crate) fn head_parts(&self, heads: &Tensor) -> Result<Tensor> {
        let form = self.self_attn.form();
        let (count, d) = (form.heads, form.head_dim);
        let (columns, zeros) = (heads.reshape((count, d))?, Tensor::zeros_like(heads)?);
        let alone = (0..count).map(|h| {
            Ok(zeros.slice_assign(&[0..1, h * d..(h + 1) * d], &columns.narrow(0, h, 1)?)?)
        });
        let mut rows = alone.collect::<Result<Vec<_>>>()?; // [1, H·d] each
        rows.extend([zeros, heads.clone()]);
        let made = self
            .self_attn
            .o_proj
            .forward(&Tensor::cat(&rows, 0)?)?
            .to_dtype(DType::F32)?; // [H + 2, D]
        let bias = made.narrow(0, count, 1)?; // [1, D]
        let parts = made.narrow(0, 0, count)?.broadcast_sub(&bias)?; // [H, D]
        let parts = Tensor::cat(&[&parts, &bias], 0)?; // [H + 1, D]
        let total = made.narrow(0, count + 1, 1)?; // [1, D]
        let normed = self.after_attention.frozen_at(&total, &parts)?; // [H + 1, D]
        match self.after_attention.bias()? {
            None => Ok(normed),
            Some(shift) => {
                let last = normed.narrow(0, count, 1)?.broadcast_add(&shift)?; // [1, D]
                Ok(Tensor::cat(&[&normed.narrow(0, 0, count)?, &last], 0)?)
            }
        }
    }

    /// Where the layer stands, such as `model.layers.3`.
    pub(super) fn name(&self) -> &str {
        let name = self.mlp.down_proj.name();
        name.split(".mlp.").next().unwrap_or(name)
    }
}

impl SelfAttention {
    /// Heads, their width, and the window.
    pub fn form(&self) -> &Attention {
        &self.form
    }

    /// Queries, keys and values of normed vectors, side by side, before rotary positions: `[B, T, D] → [B, T, (H + 2K)·d]`.
    ///
    /// # Errors
    /// When the last dimension is not D.
    pub fn project(&self, x: &Tensor) -> Result<Tensor> {
        let qkv = self.qkv_proj.forward(x)?; // [B, T, (H + 2K)·d]
        let normed = !matches!((&self.q_norm, &self.k_norm), (Norm::Absent, Norm::Absent));
        if !normed && self.query_scale == 1.0 {
            return Ok(qkv);
        }
        let (q, k, v) = self.parts(&qkv)?;
        let q = self.by_head(&q, &self.q_norm)?;
        let q = match self.query_scale {
            1.0 => q,
            scale => (q * scale)?,
        };
        Ok(Tensor::cat(
            &[q, self.by_head(&k, &self.k_norm)?, v],
            D::Minus1,
        )?)
    }

    /// A norm on each head: `[B, T, heads·d] → [B, T, heads·d]`.
    fn by_head(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let d = self.form.head_dim;
        let heads = x.reshape((batch, tokens, width / d, d))?; // [B, T, heads, d]
        Ok(norm.forward(&heads)?.reshape((batch, tokens, width))?)
    }

    /// `[B, T, (H + 2K)·d]` → `[B, T, H·d]` and twice `[B, T, K·d]`.
    fn parts(&self, qkv: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let d = self.form.head_dim;
        let (query, key) = (self.form.heads * d, self.form.kv_heads * d);
        Ok((
            qkv.narrow(2, 0, query)?,
            qkv.narrow(2, query, key)?,
            qkv.narrow(2, query + key, key)?,
        ))
    }

    /// Turned queries `[B, T, H·d]`, turned keys and values `[B, T, K·d]`.
    fn split(&self, qkv: &Tensor, rotary: &Rotary) -> Result<(Tensor, Tensor, Tensor)> {
        let d = self.form.head_dim;
        let (q, k, v) = self.parts(qkv)?;
        Ok((rotary.rotate(&q, d)?, rotary.rotate(&k, d)?, v))
    }

    fn forward(&self, x: &Tensor, index: usize, pass: &Pass) -> Result<(Tensor, Option<Tensor>)> {
        let rotary = pass.rotary.get(self.rope).ok_or_else(|| {
            Error::Config("the model's layers and its config are of different models".into())
        })?;
        let form = Attention {
            visibility: pass.visibility.cloned(),
            ..self.form.clone()
        };
        let by_head = pass.axes().heads(form.head_dim);
        let qkv = self.named_parts(self.project(x)?, by_head)?; // [B, T, (H + 2K)·d]
        let turned = TURNED.map(edits::asked);
        let asked = turned
            .into_iter()
            .fold(edits::asked(ATTENTION_WEIGHTS), Ord::max);
        let (mixed, probabilities) = match (asked, pass.state) {
            (Asked::No, None) => self.attended_fused(&form, &qkv, rotary, pass)?,
            (Asked::Read, None) => {
                let (q, k, _) = self.split(&qkv.detach(), rotary)?;
                activation_at(TURNED[0], q.clone(), by_head)?; // [B, T, H·d]
                activation_at(TURNED[1], k.clone(), by_head)?; // [B, T, K·d]
                if edits::asked(ATTENTION_WEIGHTS) == Asked::Read {
                    read_weights(&form, &q, &k, pass.mask, pass.axes())?;
                }
                self.attended_fused(&form, &qkv, rotary, pass)?
            }
            (Asked::Edited, _) | (_, Some(_)) => {
                let (q, k, v) = self.split(&qkv, rotary)?;
                let q = activation_at(TURNED[0], q, by_head)?; // [B, T, H·d]
                let k = activation_at(TURNED[1], k, by_head)?; // [B, T, K·d]
                self.attended(&form, (q, k, v), index, pass)?
            }
        }; // [B, T, H·d]
        let mixed = activation_at("heads", mixed, by_head)?; // [B, T, H·d]
        Ok((self.o_proj.forward(&mixed)?, probabilities)) // [B, T, D]
    }

    /// Queries, keys and values side by side, `[B, T, (H + 2K)·d]`, as edits of each leave them.
    fn named_parts(&self, qkv: Tensor, by_head: Axes) -> Result<Tensor> {
        if !edits::are_on() {
            return Ok(qkv);
        }
        let (q, k, v) = self.parts(&qkv)?;
        let named = [("queries", q), ("keys", k), ("values", v)];
        let mut changed = false;
        let mut parts = Vec::with_capacity(named.len());
        for (name, part) in named {
            changed |= edits::asked(name) == Asked::Edited;
            parts.push(activation_at(name, part, by_head)?);
        }
        match changed {
            true => Ok(Tensor::cat(&parts, D::Minus1)?),
            false => Ok(qkv),
        }
    }

    /// Attention of turned queries to turned keys, behind those in the cache: `[B, T, H·d]`, and its weights where the pass asks for them.
    fn attended(
        &self,
        form: &Attention,
        (q, k, v): Turned,
        index: usize,
        pass: &Pass,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (keys, values) = match pass.state {
            Some(state) => state.append(index, &k, &v)?, // [B, past + T, K·d]
            None => (k, v),
        };
        let (mixed, changed) = named_attention(form, &q, &keys, &values, pass.mask, pass.axes())?;
        let weights = match (pass.attentions, changed) {
            (false, _) => None,
            (true, Some(changed)) => Some(changed), // [B, H, T, past + T]
            (true, None) => Some(attention_probabilities(form, &q, &keys, pass.mask)?),
        };
        Ok((mixed, weights))
    }

    /// The same without a cache, fused: turned on the way in.
    fn attended_fused(
        &self,
        form: &Attention,
        qkv: &Tensor,
        rotary: &Rotary,
        pass: &Pass,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let weights = match pass.attentions {
            true => {
                let (q, k, _) = self.split(&qkv.detach(), rotary)?;
                Some(attention_probabilities(form, &q, &k, pass.mask)?) // [B, H, T, T]
            }
            false => None,
        };
        Ok((rotary_attention(form, qkv, rotary, pass.mask)?, weights)) // [B, T, H·d]
    }
}

impl Mlp {
    /// `[.., D] → [.., D]`.
    ///
    /// # Errors
    /// When the last dimension is not D.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, Axes::tokens(0))
    }

    fn run(&self, x: &Tensor, axes: Axes) -> Result<Tensor> {
        let inner = self.gate_up_proj.forward(x)?; // [.., 2·I], or [.., I]
        let inner = match self.gated {
            true => self.activation.gated(&inner)?, // [.., I]
            false => self.activation.forward(&inner)?,
        };
        let inner = activation_at("neurons", inner, axes)?; // [.., I]
        self.down_proj.forward(&inner)
    }
}

impl SideBySide {
    /// `[.., in]` → the outputs of all, one behind the other.
    ///
    /// # Errors
    /// When the last dimension is not the layers'.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.0.as_slice() {
            [only] => only.forward(x),
            several => {
                let outputs = several.iter().map(|linear| linear.forward(x));
                Ok(Tensor::cat(
                    &outputs.collect::<Result<Vec<_>>>()?,
                    D::Minus1,
                )?)
            }
        }
    }

    /// The layers, one or several.
    pub fn linears(&self) -> &[Linear] {
        &self.0
    }

    /// As [`SideBySide::linears`], for changing them.
    pub fn linears_mut(&mut self) -> &mut [Linear] {
        &mut self.0
    }
}

crate::parts!(DecoderLayer {
    before_attention,
    self_attn,
    after_attention,
    before_mlp,
    mlp,
    after_mlp
});

crate::parts!(SelfAttention {
    qkv_proj,
    q_norm,
    k_norm,
    o_proj
});

crate::parts!(Mlp {
    gate_up_proj,
    down_proj
});

crate::parts!(SideBySide { 0 });
