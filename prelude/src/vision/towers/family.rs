//! What a tower's own file says of it, and how any tower is read by that: names → weights → [`Tower`].

use serde_json::{Map, Value};

use super::config::TowerConfig;
use super::{Activation, Tower};
use crate::nn::{Checkpoint, Init, LayerNorm};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::layer::{LayerNames, LayerShape, VitLayer};
use crate::vision::{ImageProcessorConfig, VisionFeature};
use crate::{ReadOnly, Result};

/// A kind of tower.
pub(super) struct Family {
    /// As people say it.
    pub name: &'static str,
    /// `model_type` of the tower's own config; the first is how it is called here.
    pub model_types: &'static [&'static str],
    /// `model_type` of whole models that have such a tower in their `vision_config`.
    pub wholes: &'static [&'static str],
    /// `model_type` of kin that are not read, each with what to use in its place.
    pub refused: &'static [(&'static str, &'static str)],
    /// What an absent field of the config stands for.
    pub defaults: Defaults,
    /// Reads the fields that only this kind has.
    pub own_fields: fn(&mut Fields, &mut TowerConfig) -> Complaint<()>,
    /// What may stand before the names in a checkpoint.
    pub prefixes: &'static [&'static str],
    /// Names of the weights.
    pub names: Names,
    /// Parts of the names of tensors that a whole model has beside the tower, or that see what the tower gives.
    pub unread: &'static [&'static str],
    /// Tensors of size D that no output here needs, kept for saving.
    pub carried: &'static [&'static str],
    /// Its class in transformers, what stands before its names there, and its own fields, for saving.
    pub architecture: &'static str,
    pub saved_below: &'static str,
    pub own_saved: fn(&TowerConfig, &mut Map<String, Value>),
    /// What [`Modality::encode`](crate::vision::Modality::encode) gives at first.
    pub feature: VisionFeature,
    /// How a picture becomes pixel values of the config's size.
    pub processor: fn(&TowerConfig) -> ImageProcessorConfig,
}

/// Fields that a config may leave out.
pub(super) struct Defaults {
    pub hidden_size: usize,
    /// `None`: four times the hidden size.
    pub intermediate_size: Option<usize>,
    pub num_attention_heads: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub layer_norm_eps: f64,
    pub activation: Activation,
}

/// Names of a tower's weights in a checkpoint, behind the prefix.
pub(super) struct Names {
    /// The token in front of the patches.
    pub class: Option<&'static str>,
    /// The patch embedding, without `.weight`.
    pub patch: &'static str,
    pub patch_bias: bool,
    /// With `.weight`, if it has that.
    pub positions: &'static str,
    /// Whether class token and positions are stored with a batch axis, `[1, …]`.
    pub batched: bool,
    pub norm_before: Option<&'static str>,
    /// The layers' path, without their number.
    pub layers: &'static str,
    pub layer: LayerNames,
    pub norm_after: Option<&'static str>,
}

impl Family {
    /// The checkpoint below the prefix that it has, if any.
    fn below_prefix(&self, weights: &Checkpoint) -> Checkpoint {
        let patch = format!("{}.weight", self.names.patch);
        let there = |prefix: &&&str| weights.contains(&format!("{prefix}{patch}"));
        match self.prefixes.iter().find(there) {
            Some(prefix) if !weights.is_random() => weights.below(prefix),
            _ => weights.clone(),
        }
    }

    pub fn read(&'static self, config: &TowerConfig, weights: &Checkpoint) -> Result<Tower> {
        let (weights, names) = (&self.below_prefix(weights), &self.names);
        let (d, eps, patch) = (config.hidden_size, config.layer_norm_eps, config.patch_size);
        let count = usize::from(names.class.is_some()) + config.grid() * config.grid();
        let init = Init::Normal(0.02);
        let shape = LayerShape {
            hidden: d,
            intermediate: config.intermediate_size,
            heads: config.num_attention_heads,
            eps,
            qkv_bias: config.qkv_bias,
            activation: config.activation,
            init,
        };
        let layer = |index: usize| {
            let place = |part: &str| {
                let name = format!("{}.{index}.{part}", names.layers);
                (name.clone(), name)
            };
            VitLayer::read(&shape, weights, &names.layer, place)
        };
        let norm = |name: Option<&str>| {
            name.map(|name| LayerNorm::load(weights, name, d, eps))
                .transpose()
        };
        let (class_shape, positions_shape): (&[usize], &[usize]) = match names.batched {
            true => (&[1, 1, d], &[1, count, d]),
            false => (&[d], &[count, d]),
        };
        // nanoVLM stores SigLIP's with a batch axis.
        let with_axis = [1, count, d];
        let positions_shape = match weights.shape(names.positions) {
            Some(stored) if stored == with_axis => &with_axis,
            _ => positions_shape,
        };
        let patch_name = |end: &str| format!("{}.{end}", names.patch);
        let class = names
            .class
            .map(|name| weights.weight(name, class_shape, init));
        let patch_bias = names
            .patch_bias
            .then(|| weights.weight(&patch_name("bias"), &[d], Init::Zeros));
        let carried = self.carried.iter();
        let carried = carried
            .filter(|name| !weights.is_random() && weights.contains(name))
            .map(|name| Ok((name.to_string(), weights.get(name, &[d], Init::Zeros)?)));
        let patch_shape = [d, config.num_channels, patch, patch];
        Ok(Tower {
            family: self,
            feature: self.feature,
            patch_weight: weights.weight(&patch_name("weight"), &patch_shape, init)?,
            patch_bias: patch_bias.transpose()?,
            class: class.transpose()?,
            positions: weights.weight(names.positions, positions_shape, init)?,
            norm_before: norm(names.norm_before)?,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_>>()?,
            norm_after: norm(names.norm_after)?,
            carried: carried.collect::<Result<_>>()?,
            config: ReadOnly::new(config.clone()),
        })
    }
}
