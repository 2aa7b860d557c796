//! A tower → a folder as transformers writes it: `config.json` and `model.safetensors` with the names of its kind.

use std::path::Path;

use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::{Tower, TowerConfig};
use crate::nn::Network;
use crate::nn::checkpoint::save_safetensors;
use crate::vision::vit::torch_dtype;
use crate::{Error, Result};

impl Tower {
    /// Writes `config.json` and `model.safetensors` as Hugging Face does for the tower alone (`CLIPVisionModel`,
    /// `SiglipVisionModel`, `Dinov2Model` …). LoRA is not written (merge it first to have it in the weights), nor what only
    /// other halves and heads have: see [`TowerConfig::kinds`].
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(|source| Error::Io {
            path: dir.into(),
            source,
        })?;
        let prefix = self.family.saved_below;
        let own = self.named_parameters().into_iter();
        let own = own
            .filter(|parameter| !parameter.role.is_lora())
            .map(|parameter| Ok((parameter.name.clone(), parameter.values()?)));
        let carried = self.carried.iter().cloned().map(Ok);
        let tensors = own
            .chain(carried)
            .map(|saved| saved.map(|(name, tensor)| (format!("{prefix}{name}"), tensor)))
            .collect::<Result<Vec<(String, Tensor)>>>()?;
        save_safetensors(&dir.join("model.safetensors"), &tensors)?;
        let path = dir.join("config.json");
        let mut config = self.config.to_json();
        config.insert("architectures".into(), json!([self.family.architecture]));
        let dtype = torch_dtype(self.positions.tensor().dtype());
        config.insert("torch_dtype".into(), dtype.into());
        (self.family.own_saved)(&self.config, &mut config);
        let text = serde_json::to_string_pretty(&config).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        std::fs::write(&path, text + "\n").map_err(|source| Error::Io { path, source })
    }
}

impl TowerConfig {
    /// The fields that every kind has, by transformers' names.
    fn to_json(&self) -> Map<String, Value> {
        let fields = [
            ("model_type", json!(self.model_type)),
            ("hidden_size", json!(self.hidden_size)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("num_hidden_layers", json!(self.num_hidden_layers)),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("image_size", json!(self.image_size)),
            ("patch_size", json!(self.patch_size)),
            ("num_channels", json!(self.num_channels)),
            ("layer_norm_eps", json!(self.layer_norm_eps)),
            ("hidden_act", json!(self.activation.name())),
        ];
        fields
            .map(|(name, value)| (name.to_string(), value))
            .into_iter()
            .collect()
    }
}
