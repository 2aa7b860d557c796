//! ViT's configuration, as in <https://huggingface.co/google/vit-base-patch16-224/blob/main/config.json>.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Sizes and settings of a ViT; the field names and defaults are Hugging Face's. Unknown fields are kept and written
/// back.
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
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
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
        config.validate().map_err(|error| match error {
            Error::Config(complaint) => Error::Config(format!("{}: {complaint}", file.display())),
            other => other,
        })?;
        Ok(config)
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// `Config`, naming the fields.
    pub fn validate(&self) -> Result<()> {
        const MOST: usize = 1 << 20; // far above any ViT, far below overflow
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.num_channels),
        ];
        let complaint = if self.model_type != "vit" {
            format!(
                "model_type is {:?}, not \"vit\": this is another architecture",
                self.model_type
            )
        } else if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=MOST).contains(size))
        {
            format!("{name} is {size}: it must be 1 to {MOST}")
        } else if self.num_hidden_layers > 1000 {
            format!(
                "num_hidden_layers is {}: it must be at most 1000",
                self.num_hidden_layers
            )
        } else if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            format!(
                "num_attention_heads {} does not divide hidden_size {}",
                self.num_attention_heads, self.hidden_size
            )
        } else if !self.image_size.is_multiple_of(self.patch_size) {
            format!(
                "patch_size {} does not divide image_size {}",
                self.patch_size, self.image_size
            )
        } else if self.hidden_act != "gelu" {
            format!(
                "hidden_act is {:?}: only \"gelu\" is supported",
                self.hidden_act
            )
        } else if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps < 1.0) {
            format!(
                "layer_norm_eps is {}: it must be 0 to 1",
                self.layer_norm_eps
            )
        } else {
            return Ok(());
        };
        Err(Error::Config(format!("ViT config: {complaint}")))
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
