//! A training run on disk: what trained, the optimizer's state, and how far the run had come.
//!
//! A folder with `trainable.safetensors` (by parameter name), `optimizer.safetensors` and `trainer.json`. Written
//! beside the old one and moved in its place when complete, so that a full disk leaves the old one as it was.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::log::StepRecord;
use super::unreadable::Unreadable;
use crate::nn::Parameter;
use crate::{Error, Result};

/// What a restored trainer must know beside tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub seed: u64,
    pub batch_size: usize,
    pub step: usize,
    pub tokens: u64,
    pub seconds: f64,
    pub untrained: Option<f64>,
    pub records: Vec<StepRecord>,
    #[serde(default)]
    pub unreadable: Vec<Unreadable>,
}

const TRAINABLE: &str = "trainable.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const PROGRESS: &str = "trainer.json";

/// Writes the three files.
pub(super) fn save(
    folder: &Path,
    parameters: &[Parameter],
    optimizer: &BTreeMap<String, Tensor>,
    progress: &Progress,
) -> Result<()> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    };
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed(parent))?;
    let fresh = beside(folder, "writing");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(failed(&fresh))?;
    }
    std::fs::create_dir(&fresh).map_err(failed(&fresh))?;
    let trainable: HashMap<String, Tensor> = parameters
        .iter()
        .map(|parameter| (parameter.name.clone(), parameter.tensor.clone()))
        .collect();
    candle_core::safetensors::save(&trainable, fresh.join(TRAINABLE))?;
    let optimizer: HashMap<String, Tensor> = optimizer
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    candle_core::safetensors::save(&optimizer, fresh.join(OPTIMIZER))?;
    let path = fresh.join(PROGRESS);
    let text = serde_json::to_vec_pretty(progress).map_err(|source| Error::Json {
        path: path.clone(),
        source,
    })?;
    std::fs::write(&path, text).map_err(failed(&path))?;
    if folder.exists() {
        let old = beside(folder, "old");
        std::fs::rename(folder, &old).map_err(failed(folder))?;
        std::fs::rename(&fresh, folder).map_err(failed(&fresh))?;
        std::fs::remove_dir_all(&old).map_err(failed(&old))
    } else {
        std::fs::rename(&fresh, folder).map_err(failed(&fresh))
    }
}

/// How far the saved run had come.
pub(super) fn read_progress(folder: &Path) -> Result<Progress> {
    let path = folder.join(PROGRESS);
    let text = std::fs::read(&path).map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })
}

/// The optimizer's state, by name.
pub(super) fn read_optimizer(folder: &Path) -> Result<BTreeMap<String, Tensor>> {
    Ok(
        candle_core::safetensors::load(folder.join(OPTIMIZER), &Device::Cpu)?
            .into_iter()
            .collect(),
    )
}

/// Puts the saved values into the variables of `parameters`; all are checked before any is changed.
pub(super) fn load_parameters(folder: &Path, parameters: &[Parameter]) -> Result<()> {
    let path = folder.join(TRAINABLE);
    let saved = candle_core::safetensors::load(&path, &Device::Cpu)?;
    for parameter in parameters {
        match saved.get(&parameter.name) {
            None => {
                let hint = "; the checkpoint is of a model with other trainable parts".to_string();
                return Err(Error::MissingTensor {
                    tensor: parameter.name.clone(),
                    path,
                    hint,
                });
            }
            Some(values) if values.dims() != parameter.tensor.dims() => {
                return Err(Error::Weights {
                    tensor: parameter.name.clone(),
                    expected: parameter.tensor.dims().to_vec(),
                    found: values.dims().to_vec(),
                    path,
                });
            }
            Some(_) => {}
        }
    }
    for parameter in parameters {
        if let (Some(var), Some(values)) = (&parameter.var, saved.get(&parameter.name)) {
            var.set(&values.to_dtype(var.dtype())?.to_device(var.device())?)?;
        }
    }
    Ok(())
}

/// A folder beside `folder`, hidden, for the moment of a change.
fn beside(folder: &Path, what: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.{what}.{}", std::process::id()))
}
