//! Sizes of a tower: `config.json`, or the `vision_config` in one → checked sizes, with every field read or refused by name.

use std::path::Path;

use serde_json::Value;

use super::family::Family;
use super::{Activation, FAMILIES};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::vit_config::Sizes;
use crate::{Error, Result};

/// Sizes of a tower, read from the `vision_config` of a `config.json` or from the file itself.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::vision::TowerConfig;
///
/// # fn main() -> Result<()> {
/// let text = r#"{"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32,
///     "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}"#;
/// let config = TowerConfig::from_json(text, "config.json".as_ref())?;
/// assert_eq!((config.hidden_size, config.grid()), (16, 4)); // 4 × 4 patches
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TowerConfig {
    /// `clip_vision_model`, `siglip_vision_model`, `dinov2` and so on: see [`TowerConfig::kinds`].
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
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
}

impl TowerConfig {
    /// Reads and checks the text of a `config.json`; `file` appears in messages.
    ///
    /// # Errors
    /// When it is not JSON, of another architecture, contradicts itself, or has a field that is not understood.
    pub fn from_json(text: &str, file: &Path) -> Result<TowerConfig> {
        let value = serde_json::from_str(text).map_err(|source| Error::Json {
            path: file.into(),
            source,
        })?;
        Self::from_value(value, file)
    }

    /// As [`TowerConfig::from_json`], of JSON that is read already: a whole config, or what its `vision_config` holds.
    ///
    /// # Errors
    /// As [`TowerConfig::from_json`].
    pub fn from_value(value: Value, file: &Path) -> Result<TowerConfig> {
        read(value).map_err(|complaint| Error::Config(format!("{}: {complaint}", file.display())))
    }

    /// Kinds of model that hold a tower, as the `model_type` of their `config.json`.
    pub fn kinds() -> Vec<&'static str> {
        let families = FAMILIES.iter();
        families
            .flat_map(|family| family.wholes.iter().chain(&family.model_types[..1]))
            .copied()
            .collect()
    }

    /// Patches along a side of the picture.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Whether a weight of this name is one that a tower of this kind has and no output here needs.
    pub(crate) fn leaves_out(&self, name: &str) -> bool {
        let unread = self.family().map_or(&[][..], |family| family.unread);
        unread.iter().any(|part| name.contains(part))
    }

    /// The kind of tower that it is.
    pub(super) fn family(&self) -> Complaint<&'static Family> {
        family(&self.model_type)
    }

    pub(crate) fn checked(self) -> Complaint<TowerConfig> {
        let sizes = Sizes {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            image_size: self.image_size,
            patch_size: self.patch_size,
            num_channels: self.num_channels,
            layer_norm_eps: self.layer_norm_eps,
        };
        sizes.check()?;
        Ok(self)
    }
}

/// The kind of tower that has this `model_type`.
pub(super) fn family(model_type: &str) -> Complaint<&'static Family> {
    let known = FAMILIES
        .iter()
        .find(|family| family.model_types.contains(&model_type));
    if let Some(family) = known {
        return Ok(family);
    }
    if let Some(why) = refusal(model_type) {
        return Err(format!("model_type is {model_type:?}: {why}"));
    }
    let kinds = FAMILIES
        .iter()
        .map(|family| format!("{} ({})", family.name, family.model_types[0]));
    Err(format!(
        "model_type {model_type:?} is none of {}",
        kinds.collect::<Vec<_>>().join(", ")
    ))
}

/// Why a kind of model that is known is not read, and what to use in its place.
pub(crate) fn refusal(model_type: &str) -> Option<&'static str> {
    let refused = FAMILIES.iter().flat_map(|family| family.refused);
    refused
        .into_iter()
        .find(|(kind, _)| *kind == model_type)
        .map(|(_, why)| *why)
}

/// The tower's own part of a config, with its `model_type`: the inner configs of older files name none.
fn own_part(value: Value) -> Complaint<Fields> {
    let Value::Object(mut whole) = value else {
        return Err("not valid: it is no JSON object with fields".into());
    };
    let outer = whole.get("model_type").and_then(Value::as_str);
    let outer = outer.unwrap_or_default().to_string();
    let Some(vision) = whole.remove("vision_config") else {
        return Fields::of(Value::Object(whole));
    };
    let Value::Object(mut vision) = vision else {
        return Err("vision_config is not a JSON object with fields".into());
    };
    if !vision.contains_key("model_type") {
        let inner = format!("{outer}_vision_model");
        let known = family(&outer).map_or(inner, |family| family.model_types[0].to_string());
        vision.insert("model_type".into(), known.into());
    }
    Fields::of(Value::Object(vision))
}

fn read(value: Value) -> Complaint<TowerConfig> {
    let mut fields = own_part(value)?;
    let Some(model_type) = fields.take::<String>("model_type")? else {
        return Err(
            "not valid: model_type is missing, which says what kind of tower this is".into(),
        );
    };
    let family = family(&model_type)?;
    let defaults = &family.defaults;
    let hidden_size: usize = fields.take_or("hidden_size", defaults.hidden_size)?;
    let width = defaults.intermediate_size;
    let width = width.unwrap_or(hidden_size.saturating_mul(4));
    let act = fields.take::<String>("hidden_act")?;
    let activation = match &act {
        None => defaults.activation,
        Some(name) => Activation::named(name).ok_or_else(|| {
            format!(
                "hidden_act {name:?} is not supported: gelu, gelu_pytorch_tanh and quick_gelu are"
            )
        })?,
    };
    let mut config = TowerConfig {
        model_type: family.model_types[0].to_string(),
        hidden_size,
        intermediate_size: fields.take_or("intermediate_size", width)?,
        num_hidden_layers: fields.take_or("num_hidden_layers", 12)?,
        num_attention_heads: fields.take_or("num_attention_heads", defaults.num_attention_heads)?,
        image_size: fields.side("image_size", defaults.image_size)?,
        patch_size: fields.side("patch_size", defaults.patch_size)?,
        num_channels: fields.take_or("num_channels", 3)?,
        layer_norm_eps: fields.take_or("layer_norm_eps", defaults.layer_norm_eps)?,
        activation,
        qkv_bias: true,
    };
    (family.own_fields)(&mut fields, &mut config)?;
    fields.bookkeeping()?;
    fields.finish(&format!("a {} tower", family.name))?;
    config.checked()
}
