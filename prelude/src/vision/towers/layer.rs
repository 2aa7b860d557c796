//! One transformer layer of a tower, and the reading of its parts.

use candle_core::Tensor;

use super::{Activation, TowerConfig};
use crate::Result;
use crate::nn::{
    Attention, Checkpoint, Init, LayerNorm, Linear, Part, PartMut, Weight, attention,
    attention_probabilities, gelu,
};

/// LayerNorm before attention and before the MLP, with an optional scale on what each adds.
#[derive(Clone, Debug)]
pub(super) struct TowerLayer {
    pub norm1: LayerNorm,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub out: Linear,
    pub scale1: Option<Weight>,
    pub norm2: LayerNorm,
    pub fc1: Linear,
    pub fc2: Linear,
    pub scale2: Option<Weight>,
}

/// What the parts of a layer are called below its own path.
pub(super) struct LayerNames {
    pub norms: [&'static str; 2],
    /// Query, key, value, output.
    pub attention: [&'static str; 4],
    pub scales: Option<[&'static str; 2]>,
}

impl TowerLayer {
    /// Reads the layer at `path`.
    pub fn read(
        config: &TowerConfig,
        weights: &Checkpoint,
        path: &str,
        names: &LayerNames,
    ) -> Result<TowerLayer> {
        let (d, wide, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        let linear = |name: &str, input, output| {
            Linear::load(weights, &format!("{path}.{name}"), (input, output), true)
        };
        let norm = |name: &str| LayerNorm::load(weights, &format!("{path}.{name}"), d, eps);
        let scale = |index: usize| {
            let name = names
                .scales
                .map(|scales| format!("{path}.{}", scales[index]));
            name.map(|name| weights.weight(&name, &[d], Init::Ones))
                .transpose()
        };
        Ok(TowerLayer {
            norm1: norm(names.norms[0])?,
            query: linear(names.attention[0], d, d)?,
            key: linear(names.attention[1], d, d)?,
            value: linear(names.attention[2], d, d)?,
            out: linear(names.attention[3], d, d)?,
            scale1: scale(0)?,
            norm2: norm(names.norms[1])?,
            fc1: linear("mlp.fc1", d, wide)?,
            fc2: linear("mlp.fc2", wide, d)?,
            scale2: scale(1)?,
        })
    }

    /// `[B, P, D] → [B, P, D]`; the attention probabilities, `[B, H, P, P]`, are added to `maps`, if there are any.
    pub fn forward(
        &self,
        hidden: &Tensor,
        config: &TowerConfig,
        maps: Option<&mut Vec<Tensor>>,
    ) -> Result<Tensor> {
        let heads = config.num_attention_heads;
        let form = Attention::bidirectional(heads, config.hidden_size / heads);
        let normed = self.norm1.forward(hidden)?; // [B, P, D]
        let (query, key) = (self.query.forward(&normed)?, self.key.forward(&normed)?); // [B, P, H·d]
        if let Some(maps) = maps {
            maps.push(attention_probabilities(&form, &query, &key, None)?); // [B, H, P, P]
        }
        let mixed = attention(&form, &query, &key, &self.value.forward(&normed)?, None)?; // [B, P, H·d]
        let hidden = (hidden + scaled(self.out.forward(&mixed)?, &self.scale1)?)?; // [B, P, D]
        let normed = self.norm2.forward(&hidden)?; // [B, P, D]
        let wide = activate(&self.fc1.forward(&normed)?, config.activation)?; // [B, P, I]
        Ok((hidden + scaled(self.fc2.forward(&wide)?, &self.scale2)?)?) // [B, P, D]
    }

    pub fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        visit_norm(&self.norm1, visitor);
        [&self.query, &self.key, &self.value, &self.out]
            .into_iter()
            .for_each(|linear| visitor(Part::Linear(linear)));
        self.scale1
            .iter()
            .for_each(|scale| visitor(Part::Weight(scale)));
        visit_norm(&self.norm2, visitor);
        [&self.fc1, &self.fc2]
            .into_iter()
            .for_each(|linear| visitor(Part::Linear(linear)));
        self.scale2
            .iter()
            .for_each(|scale| visitor(Part::Weight(scale)));
    }

    pub fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        visit_norm_mut(&mut self.norm1, visitor)?;
        for linear in [
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.out,
        ] {
            visitor(PartMut::Linear(linear))?;
        }
        if let Some(scale) = &mut self.scale1 {
            visitor(PartMut::Weight(scale))?;
        }
        visit_norm_mut(&mut self.norm2, visitor)?;
        for linear in [&mut self.fc1, &mut self.fc2] {
            visitor(PartMut::Linear(linear))?;
        }
        if let Some(scale) = &mut self.scale2 {
            visitor(PartMut::Weight(scale))?;
        }
        Ok(())
    }
}

pub(super) fn visit_norm(norm: &LayerNorm, visitor: &mut dyn FnMut(Part<'_>)) {
    visitor(Part::Weight(&norm.weight));
    visitor(Part::Weight(&norm.bias));
}

pub(super) fn visit_norm_mut(
    norm: &mut LayerNorm,
    visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>,
) -> Result<()> {
    visitor(PartMut::Weight(&mut norm.weight))?;
    visitor(PartMut::Weight(&mut norm.bias))
}

fn scaled(update: Tensor, scale: &Option<Weight>) -> Result<Tensor> {
    match scale {
        Some(scale) => Ok(update.broadcast_mul(scale.tensor())?),
        None => Ok(update),
    }
}

fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => Ok(x.gelu()?),
        // x · σ(1.702 x) = x / (1 + exp(−1.702 x))
        Activation::QuickGelu => Ok((x / ((x * -1.702)?.exp()? + 1.0)?)?),
    }
}
