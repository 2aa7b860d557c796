//! ViT's configuration, as in <https://huggingface.co/google/vit-base-patch16-224/blob/main/config.json>.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{Complaint, Fields};
use crate::{Error, Result};

/// Sizes and settings of a ViT; the field names and defaults are Hugging Face's. Unknown fields are kept and written
/// back.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let config = ViTConfig::new(32, 8, 16, 32, 2, 2); // pictures, patches, width, MLP's width, layers, heads
/// assert_eq!((config.grid(), config.positions(), config.head_dim()), (4, 17, 8));
/// assert_eq!(ViTConfig::base_patch16_224().positions(), 197);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViTConfig {
    /// `vit`.
    pub model_type: String,
    /// D.
    #[serde(default = "default_hidden")]
    pub hidden_size: usize,
    /// Width of the MLP.
    #[serde(default = "default_intermediate")]
    pub intermediate_size: usize,
    /// L.
    #[serde(default = "default_layers")]
    pub num_hidden_layers: usize,
    /// Heads per layer; divides `hidden_size`.
    #[serde(default = "default_layers")]
    pub num_attention_heads: usize,
    /// Side of the square picture, in pixels.
    #[serde(default = "default_image")]
    pub image_size: usize,
    /// Side of a square patch, in pixels; divides `image_size`.
    #[serde(default = "default_patch")]
    pub patch_size: usize,
    /// Channels of the picture; the image processor gives 3.
    #[serde(default = "default_channels")]
    pub num_channels: usize,
    /// Added to the variance in LayerNorm.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
    /// Whether queries, keys and values have a bias.
    #[serde(default = "default_true")]
    pub qkv_bias: bool,
    /// Activation of the MLP; only `gelu` (exact) exists.
    #[serde(default = "default_act")]
    pub hidden_act: String,
    /// Width of the pooler; absent: D.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler_output_size: Option<usize>,
    /// Standard deviation of freshly drawn weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// Names of the classes, by number as text.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub id2label: Map<String, Value>,
    /// Whatever else the file holds.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn default_hidden() -> usize {
    768
}
fn default_intermediate() -> usize {
    3072
}
fn default_layers() -> usize {
    12
}
fn default_image() -> usize {
    224
}
fn default_patch() -> usize {
    16
}
fn default_channels() -> usize {
    3
}
fn default_eps() -> f64 {
    1e-12
}
fn default_true() -> bool {
    true
}
fn default_act() -> String {
    "gelu".into()
}
fn default_range() -> f64 {
    0.02
}

impl ViTConfig {
    /// google/vit-base-patch16-224, the blog's encoder: 86 million parameters, 197 positions of 768.
    pub fn base_patch16_224() -> ViTConfig {
        Self::new(224, 16, 768, 3072, 12, 12)
    }

    /// A ViT for pictures of `image_size` pixels a side in patches of `patch_size`.
    pub fn new(
        image_size: usize,
        patch_size: usize,
        hidden_size: usize,
        intermediate_size: usize,
        layers: usize,
        heads: usize,
    ) -> ViTConfig {
        ViTConfig {
            model_type: "vit".into(),
            hidden_size,
            intermediate_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            image_size,
            patch_size,
            num_channels: default_channels(),
            layer_norm_eps: default_eps(),
            qkv_bias: true,
            hidden_act: default_act(),
            pooler_output_size: None,
            initializer_range: default_range(),
            id2label: Map::new(),
            other: Map::new(),
        }
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not JSON, or is of another architecture or contradicts itself.
    pub fn from_file(path: impl AsRef<Path>) -> Result<ViTConfig> {
        let path = path.as_ref();
        let text = crate::files::text(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        Self::from_json(&text, path)
    }

    /// Reads and checks the text of a `config.json`; `file` appears in messages.
    ///
    /// # Errors
    /// As [`ViTConfig::from_file`].
    pub fn from_json(text: &str, file: &Path) -> Result<ViTConfig> {
        let config: ViTConfig = serde_json::from_str(text).map_err(|source| Error::Json {
            path: file.into(),
            source,
        })?;
        config.check_others().map_err(|complaint| {
            Error::Config(format!("{}: ViT config: {complaint}", file.display()))
        })?;
        config.validate().map_err(|error| match error {
            Error::Config(complaint) => Error::Config(format!("{}: {complaint}", file.display())),
            other => other,
        })?;
        Ok(config)
    }

    /// Of the fields that are kept: those that would change what a ViT computes if they were on.
    fn check_others(&self) -> Complaint<()> {
        let mut others = Fields::of(Value::Object(self.other.clone()))?;
        others.bookkeeping()?;
        let why = "a pooler here has tanh";
        others.only("pooler_act", &Value::from("tanh"), why)
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// `Config`, naming the fields.
    pub fn validate(&self) -> Result<()> {
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
        let checked = match self.model_type.as_str() {
            "vit" => sizes.check(),
            other => Err(format!(
                "model_type is {other:?}, not \"vit\": this is another architecture"
            )),
        };
        let checked = checked.and_then(|()| match self.hidden_act.as_str() {
            "gelu" => Ok(()),
            other => Err(format!(
                "hidden_act is {other:?}: only \"gelu\" is supported"
            )),
        });
        checked.map_err(|complaint| Error::Config(format!("ViT config: {complaint}")))
    }

    /// Patches along a side of the picture.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Positions: the class token and every patch.
    pub fn positions(&self) -> usize {
        1 + self.grid() * self.grid()
    }

    /// Values per head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

/// The sizes that the config of a ViT and that of a tower both have.
pub(super) struct Sizes {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub num_channels: usize,
    pub layer_norm_eps: f64,
}

impl Sizes {
    /// Checks each, and that they fit each other.
    ///
    /// # Errors
    /// Naming the fields.
    pub(super) fn check(&self) -> Complaint<()> {
        const MOST: usize = 1 << 20; // far above any encoder, far below overflow
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.num_channels),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=MOST).contains(size)) {
            return Err(format!("{name} is {size}: it must be 1 to {MOST}"));
        }
        if self.num_hidden_layers > 1000 {
            return Err(format!(
                "num_hidden_layers is {}: it must be at most 1000",
                self.num_hidden_layers
            ));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (heads, d) = (self.num_attention_heads, self.hidden_size);
            return Err(format!(
                "num_attention_heads {heads} does not divide hidden_size {d}"
            ));
        }
        if self.patch_size > self.image_size {
            return Err(format!(
                "patch_size {} is larger than image_size {}",
                self.patch_size, self.image_size
            ));
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Err(format!(
                "patch_size {} does not divide image_size {}",
                self.patch_size, self.image_size
            ));
        }
        if !(0.0..1.0).contains(&self.layer_norm_eps) {
            return Err(format!(
                "layer_norm_eps is {}: it must be 0 to 1",
                self.layer_norm_eps
            ));
        }
        Ok(())
    }
}
