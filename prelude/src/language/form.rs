//! How a family builds its layers: what a family's file says, and the decoder is made by.
//!
//! [`Form::new`] is the form that most families share (Llama's); a family names what differs.

use super::config::DecoderConfig;
use super::families::Family;
use super::rope::Rope;
use crate::nn::{Activation, Attention};
use crate::{Error, Result};

/// The form of a decoder's layers. Names are those of weights, below `model.layers.N`.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// Queries, keys and values: one matrix, or three.
    pub qkv: &'static [&'static str],
    pub qkv_bias: bool,
    /// Norms on each head of queries and keys.
    pub qk_norm: Option<[&'static str; 2]>,
    pub o_proj: &'static str,
    pub o_bias: bool,
    /// What the MLP begins with: gate and up in one matrix or two, or a single layer.
    pub mlp_in: &'static [&'static str],
    /// Whether the MLP's inner values are gated.
    pub gated: bool,
    pub mlp_out: &'static str,
    pub mlp_bias: bool,
    pub norm: NormKind,
    pub norms: Norms,
    /// The norm before the head, below nothing.
    pub final_norm: &'static str,
    pub head_bias: bool,
    /// Factor on the embeddings of tokens.
    pub embedding_scale: Option<f64>,
    /// What queries are scaled by besides `1/√d`.
    pub query_scale: f64,
    /// The kinds of rotary positions, and which of them each layer uses.
    pub ropes: Vec<Rope>,
    pub layers: Vec<LayerForm>,
    /// Whether `partial_rotary_factor` may differ from 1.
    pub partial_rotary: bool,
    /// The activations that the MLP may have, by their names at Hugging Face.
    pub activations: &'static [&'static str],
}

/// What differs between the layers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerForm {
    pub window: Option<usize>,
    /// Index into [`Form::ropes`].
    pub rope: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    Rms,
    /// RMSNorm whose factor is 1 + weight.
    RmsPlusOne,
    Layer,
}

/// Which norms a layer has, by the names of their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norms {
    /// Attention, then the MLP, each behind its norm.
    Serial,
    /// Both read the same normed vectors.
    Parallel,
    /// A norm before and behind each.
    Sandwich,
}

/// Three matrices, and gate and up apart: as in Llama.
const SPLIT_QKV: &[&str] = &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const GATE_UP: &[&str] = &["mlp.gate_proj", "mlp.up_proj"];

impl Form {
    /// Llama's: the form that others are told by.
    pub fn new(config: &DecoderConfig) -> Result<Self> {
        let every = LayerForm {
            window: config.sliding_window,
            rope: 0,
        };
        Ok(Self {
            qkv: SPLIT_QKV,
            qkv_bias: false,
            qk_norm: None,
            o_proj: "self_attn.o_proj",
            o_bias: false,
            mlp_in: GATE_UP,
            gated: true,
            mlp_out: "mlp.down_proj",
            mlp_bias: false,
            norm: NormKind::Rms,
            norms: Norms::Serial,
            final_norm: "model.norm",
            head_bias: false,
            embedding_scale: None,
            query_scale: 1.0,
            ropes: vec![config.rope()?],
            layers: vec![every; config.num_hidden_layers.min(MOST_LAYERS + 1)],
            partial_rotary: false,
            activations: &["silu", "swish"],
        })
    }

    /// Windows by `layer_types`, or by what the family says where that is absent: whether layer i slides.
    pub fn windows(
        mut self,
        config: &DecoderConfig,
        slides: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let types: Option<Vec<String>> = config.own("layer_types")?;
        if let Some(types) = &types
            && types.len() != config.num_hidden_layers
        {
            return Err(Error::Config(format!(
                "layer_types has {} entries, num_hidden_layers is {}",
                types.len(),
                config.num_hidden_layers
            )));
        }
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let slides = match types.as_ref().map(|types| types[i].as_str()) {
                None => slides(i),
                Some("sliding_attention") => true,
                Some("full_attention") => false,
                Some(other) => {
                    return Err(Error::Config(format!(
                        "layer_types names {other}; there are full_attention and sliding_attention"
                    )));
                }
            };
            layer.window = config.sliding_window.filter(|_| slides);
            if slides && layer.window.is_none() {
                return Err(Error::Config(format!(
                    "layer {i} is one with a window, but sliding_window is null or switched off"
                )));
            }
        }
        Ok(self)
    }

    /// What every family must satisfy.
    pub fn check(&self, config: &DecoderConfig, family: &Family) -> Result<()> {
        if !self.activations.contains(&config.hidden_act.as_str()) {
            return Err(Error::Config(format!(
                "hidden_act is {}, {} has {}",
                config.hidden_act,
                family.name,
                self.activations.join(" or ")
            )));
        }
        if !self.partial_rotary && config.partial_rotary_factor != 1.0 {
            return Err(Error::Config(format!(
                "partial_rotary_factor is {}, {} turns whole heads",
                config.partial_rotary_factor, family.name
            )));
        }
        if config.num_hidden_layers > MOST_LAYERS {
            return Err(Error::Config(format!(
                "num_hidden_layers is {}, which no model has: is the file damaged?",
                config.num_hidden_layers
            )));
        }
        Ok(())
    }

    /// The MLP's activation.
    pub fn activation(&self, config: &DecoderConfig) -> Activation {
        // Which names there are, the family says when the config is read.
        Activation::named(&config.hidden_act).unwrap_or(Activation::Silu)
    }

    /// The attention of one layer.
    pub fn attention(&self, config: &DecoderConfig, layer: usize) -> Attention {
        Attention {
            sliding_window: self.layers.get(layer).and_then(|layer| layer.window),
            ..Attention::causal(
                config.num_attention_heads,
                config.kv_heads(),
                config.head_dim(),
            )
        }
    }
}

/// More layers than any model has: what a file announces is not allocated.
const MOST_LAYERS: usize = 10_000;
