//! A training run on disk: one folder with what trained, the optimizer's state, and how far the run had come.
//!
//! ```text
//! trainable.safetensors    projector, LoRA, vectors, new rows: what trains, by parameter name
//! optimizer.safetensors    its moments, by parameter name
//! trainer.json             settings, step, records, place in the data, dropout's random streams; size and checksum of the others
//! ```
//! Written beside its place and moved there in one rename when complete: whoever dies or finds the disk full in the middle leaves
//! what was there before. The first layout had no `version`, settings and checksums; it is still read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::log::StepRecord;
use super::settings::TrainerSettings;
use super::unreadable::Unreadable;
use super::validation::{CaptionRecord, Watch};
use crate::files::unfinished;
use crate::fnv;
use crate::nn::Parameter;
use crate::nn::checkpoint::save_safetensors;
use crate::nn::lora::DrawPlace;
use crate::vlm::fingerprint::Fingerprints;
use crate::{Error, Result};

/// The layout that is written.
pub(super) const VERSION: u32 = 2;

/// What a restored trainer must know beside tensors.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Absent in the first layout.
    #[serde(default = "first")]
    pub version: u32,
    pub seed: u64,
    pub batch_size: usize,
    pub step: usize,
    pub tokens: u64,
    pub seconds: f64,
    pub untrained: Option<f64>,
    pub records: Vec<Exact>,
    #[serde(default)]
    pub unreadable: Vec<Unreadable>,
    /// From here on: absent in the first layout.
    #[serde(default)]
    pub settings: Option<TrainerSettings>,
    /// Examples of the training set.
    #[serde(default)]
    pub examples: Option<usize>,
    #[serde(default)]
    pub base: Option<Fingerprints>,
    #[serde(default)]
    pub draws: Option<BTreeMap<String, DrawPlace>>,
    #[serde(default)]
    pub rate_factor: Option<f64>,
    #[serde(default)]
    pub cut: usize,
    #[serde(default)]
    pub waited: f64,
    #[serde(default)]
    pub watch: Watch,
    #[serde(default)]
    pub captions: Vec<CaptionRecord>,
    #[serde(default)]
    pub files: BTreeMap<String, Written>,
}

fn first() -> u32 {
    1
}

/// A record whose figures come back to the bit, a validation loss and metrics that are no finite numbers too: JSON has no words for
/// those.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Exact {
    #[serde(flatten)]
    record: StepRecord,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bits: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation_bits: Option<u64>,
}

impl From<&StepRecord> for Exact {
    fn from(record: &StepRecord) -> Self {
        let mut record = record.clone();
        let bits = figures(&mut record)
            .iter()
            .map(|figure| figure.to_bits())
            .collect();
        Self {
            validation_bits: record.validation_loss.map(f64::to_bits),
            record,
            bits,
        }
    }
}

impl From<Exact> for StepRecord {
    fn from(exact: Exact) -> Self {
        let mut record = exact.record;
        if let Some(bits) = exact.validation_bits {
            record.validation_loss = Some(f64::from_bits(bits));
        }
        let figures = figures(&mut record);
        if figures.len() == exact.bits.len() {
            for (figure, bits) in figures.into_iter().zip(exact.bits) {
                *figure = f64::from_bits(bits);
            }
        }
        record
    }
}

/// The figures of a record that are no whole numbers, the validation loss and the parts' norms aside.
fn figures(record: &mut StepRecord) -> Vec<&mut f64> {
    let StepRecord {
        loss,
        rate,
        norm,
        seconds,
        waited,
        metrics,
        ..
    } = record;
    [loss, rate, norm, seconds, waited]
        .into_iter()
        .chain(metrics.values_mut())
        .collect()
}

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    bytes: u64,
    checksum: String,
}

const TRAINABLE: &str = "trainable.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const PROGRESS: &str = "trainer.json";

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}

/// Writes a checkpoint in the place of one that may be there, whole or not at all.
pub(super) fn save(
    folder: &Path,
    parameters: &[Parameter],
    optimizer: BTreeMap<String, Tensor>,
    progress: Progress,
) -> Result<()> {
    if folder.exists() && !is_replaceable(folder) {
        return Err(Error::Input(format!(
            "{} is there and is no checkpoint of a trainer: give a folder that is not there, or one that a trainer wrote",
            folder.display()
        )));
    }
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed(parent))?;
    let fresh = unfinished(folder);
    let written = write(&fresh, parameters, optimizer, progress)
        .and_then(|()| put(&fresh, folder))
        .and_then(|()| {
            File::open(parent)
                .and_then(|file| file.sync_all())
                .map_err(failed(parent))
        });
    if written.is_err() {
        // Best effort: the error that matters is the one being returned.
        let _ = std::fs::remove_dir_all(&fresh);
    }
    written
}

/// Whether a folder may be replaced: it is empty, or a trainer wrote it.
fn is_replaceable(folder: &Path) -> bool {
    let empty = || std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    folder.join(PROGRESS).is_file() || empty()
}

fn write(
    fresh: &Path,
    parameters: &[Parameter],
    optimizer: BTreeMap<String, Tensor>,
    mut progress: Progress,
) -> Result<()> {
    std::fs::create_dir(fresh).map_err(failed(fresh))?;
    let trainable: Vec<(String, Tensor)> = parameters
        .iter()
        .map(|parameter| (parameter.name.clone(), parameter.tensor.clone()))
        .collect();
    let optimizer: Vec<(String, Tensor)> = optimizer.into_iter().collect();
    for (name, tensors) in [(TRAINABLE, trainable), (OPTIMIZER, optimizer)] {
        let path = fresh.join(name);
        save_safetensors(&path, &tensors)?;
        let file = File::open(&path).map_err(failed(&path))?;
        file.sync_all().map_err(failed(&path))?;
        progress.files.insert(name.into(), look(&path)?);
    }
    let path = fresh.join(PROGRESS);
    let text = serde_json::to_vec_pretty(&progress).map_err(|source| Error::Json {
        path: path.clone(),
        source,
    })?;
    std::fs::write(&path, text)
        .and_then(|()| File::open(&path)?.sync_all())
        .map_err(failed(&path))
}

/// Moves a whole folder to its place.
fn put(fresh: &Path, folder: &Path) -> Result<()> {
    if !folder.exists() {
        return std::fs::rename(fresh, folder).map_err(failed(folder));
    }
    // The two change places, so that one of them is always there; where the system can't, the old one steps aside for a moment.
    let old = match exchange(fresh, folder) {
        Ok(()) => fresh.to_path_buf(),
        Err(_) => {
            let old = unfinished(folder);
            std::fs::rename(folder, &old).map_err(failed(folder))?;
            if let Err(error) = std::fs::rename(fresh, folder) {
                _ = std::fs::rename(&old, folder);
                return Err(failed(folder)(error));
            }
            old
        }
    };
    std::fs::remove_dir_all(&old).map_err(failed(&old))
}

/// Two paths change places, in one step.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> std::io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (one, other) = (name(one)?, name(other)?);
    // SAFETY: both are strings that end in a zero and live through the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Size and checksum of a file.
fn look(path: &Path) -> Result<Written> {
    let mut file = crate::files::open(path).map_err(failed(path))?;
    let mut block = vec![0; 1 << 20];
    let (mut bytes, mut hash, mut filled) = (0_u64, fnv::START, 0);
    loop {
        let read = file.read(&mut block[filled..]).map_err(failed(path))?;
        filled += read;
        if read > 0 && filled < block.len() {
            continue;
        }
        hash = fnv::words(&block[..filled]).fold(hash, fnv::step);
        bytes += filled as u64;
        if read == 0 {
            break;
        }
        filled = 0;
    }
    Ok(Written {
        bytes,
        checksum: format!("{hash:016x}"),
    })
}

/// How far the saved run had come, of a checkpoint that is whole.
///
/// # Errors
/// `Checkpoint` for a folder that is none, one that is damaged, and one of a newer layout, each with the reason.
pub(super) fn read(folder: &Path) -> Result<Progress> {
    let refused = |message: String| Error::Checkpoint {
        path: folder.to_path_buf(),
        message,
    };
    let path = folder.join(PROGRESS);
    if folder.is_dir() && !path.exists() {
        return Err(refused(format!(
            "is no checkpoint of a trainer: it holds no {PROGRESS}"
        )));
    }
    let text = crate::files::bytes(&path).map_err(failed(&path))?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
        refused(format!(
            "is damaged: {PROGRESS} is no whole JSON file ({error})"
        ))
    })?;
    let version = value
        .get("version")
        .map_or(Some(1), serde_json::Value::as_u64);
    match version {
        Some(version) if version > u64::from(VERSION) => {
            return Err(refused(format!(
                "was written by a newer version of this program (layout {version}, this one reads up to {VERSION}): update, or train \
                 anew"
            )));
        }
        _ if value.get("step").is_none() || value.get("records").is_none() => {
            return Err(refused(format!(
                "is no checkpoint of this trainer: its {PROGRESS} has no \"step\" and \"records\""
            )));
        }
        _ => {}
    }
    let progress: Progress = serde_json::from_value(value)
        .map_err(|error| refused(format!("is damaged: {PROGRESS}: {error}")))?;
    for name in [TRAINABLE, OPTIMIZER] {
        let path = folder.join(name);
        if !path.is_file() {
            return Err(refused(format!("is incomplete: {name} is missing")));
        }
        let Some(written) = progress.files.get(name) else {
            continue; // the first layout
        };
        let found = look(&path)?;
        if found.bytes != written.bytes {
            return Err(refused(format!(
                "is damaged: {name} has {} bytes, {} were written",
                found.bytes, written.bytes
            )));
        }
        if found != *written {
            return Err(refused(format!(
                "is damaged: {name} has another checksum than what was written"
            )));
        }
    }
    Ok(progress)
}

/// The optimizer's state, by name.
pub(super) fn read_optimizer(folder: &Path) -> Result<BTreeMap<String, Tensor>> {
    Ok(tensors(folder, OPTIMIZER)?.into_iter().collect())
}

fn tensors(folder: &Path, name: &str) -> Result<std::collections::HashMap<String, Tensor>> {
    candle_core::safetensors::load(folder.join(name), &Device::Cpu).map_err(|error| {
        Error::Checkpoint {
            path: folder.to_path_buf(),
            message: format!("is damaged: {name} cannot be read: {error}"),
        }
    })
}

/// Saved values that fit the model's variables.
pub(super) struct Values(Vec<(candle_core::Var, Tensor)>);

/// The saved values of `parameters`, checked; nothing is changed yet.
///
/// # Errors
/// When the model has other trainable parts than the saved one, naming the first.
pub(super) fn read_parameters(folder: &Path, parameters: &[Parameter]) -> Result<Values> {
    let path = folder.join(TRAINABLE);
    let mut saved = tensors(folder, TRAINABLE)?;
    let mut values = Vec::new();
    for parameter in parameters {
        let Some(tensor) = saved.remove(&parameter.name) else {
            let hint = "; the checkpoint is of a model with other trainable parts".to_string();
            return Err(Error::MissingTensor {
                tensor: parameter.name.clone(),
                path,
                hint,
            });
        };
        if tensor.dims() != parameter.tensor.dims() {
            return Err(Error::Weights {
                tensor: parameter.name.clone(),
                expected: parameter.tensor.dims().to_vec(),
                found: tensor.dims().to_vec(),
                path,
            });
        }
        if let Some(var) = &parameter.var {
            let tensor = tensor.to_dtype(var.dtype())?.to_device(var.device())?;
            values.push((var.clone(), tensor));
        }
    }
    if let Some(name) = saved.keys().min() {
        return Err(Error::Checkpoint {
            path: folder.to_path_buf(),
            message: format!(
                "is of a model with other trainable parts: it holds {name} and {} more that do not train here; give the model the \
                 same LoRA and the same trainable parts",
                saved.len() - 1
            ),
        });
    }
    Ok(Values(values))
}

impl Values {
    /// Puts the values into the model.
    pub(super) fn set(self) -> Result<()> {
        for (var, tensor) in self.0 {
            var.set(&tensor)?;
        }
        Ok(())
    }
}
