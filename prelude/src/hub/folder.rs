//! Is a model folder complete, whole, and of the right kind? Only headers are read, never the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cache::is_relative;
use super::error::{HubError, HubResult};
use super::header::{Header, some};
use crate::error::{Error, Result};

/// The single-file weights of a model and of an adapter, in the order in which they are looked for.
const SINGLE_FILES: [&str; 2] = ["model.safetensors", "adapter_model.safetensors"];
/// Lists the files of weights in several files.
const INDEX: &str = "model.safetensors.index.json";

/// The weights files at `path`, in the order of their names, each checked for truncation: `path` itself if it is a file,
/// else those of a model's folder.
///
/// Weights are `model.safetensors`, or `adapter_model.safetensors`, or the files that `model.safetensors.index.json` names.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::weight_files;
///
/// # fn main() -> Result<()> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published/llava_clip_llama");
/// let files = weight_files(folder.as_ref())?; // of a folder, or of one file
/// assert!(files.iter().all(|file| file.extension().is_some_and(|ending| ending == "safetensors")));
/// assert!(!files.is_empty());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`HubError::NoSuchFolder`], [`HubError::MissingFiles`] naming what is lacking, [`HubError::NoSafetensors`] if the weights are of another format,
/// [`HubError::Truncated`] and [`HubError::NotSafetensors`] for a damaged file.
pub fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        Header::of_file(path)?;
        return Ok(vec![path.to_path_buf()]);
    }
    if !path.is_dir() {
        let path = path.to_path_buf();
        return Err(HubError::NoSuchFolder { path }.into());
    }
    Ok(complete_weights(path)?)
}

/// Has the folder every file of `required`, and weights that are all there?
pub(super) fn check_complete(folder: &Path, required: &[String]) -> HubResult<()> {
    let mut lacking: Vec<String> = required
        .iter()
        .filter(|name| !folder.join(name).is_file())
        .cloned()
        .collect();
    match complete_weights(folder) {
        Ok(_) => {}
        Err(HubError::MissingFiles { files, .. }) => lacking.extend(files),
        Err(other) => return Err(other),
    }
    if lacking.is_empty() {
        return Ok(());
    }
    Err(HubError::MissingFiles {
        folder: folder.to_path_buf(),
        files: lacking,
    })
}

fn complete_weights(folder: &Path) -> HubResult<Vec<PathBuf>> {
    let names = weight_names(folder)?;
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !folder.join(name).is_file())
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(HubError::MissingFiles {
            folder: folder.to_path_buf(),
            files: missing,
        });
    }
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let mut headers = BTreeMap::new();
    for (name, path) in names.into_iter().zip(&paths) {
        headers.insert(name, Header::of_file(path)?);
    }
    let index = folder.join(INDEX);
    let single = SINGLE_FILES.iter().any(|name| headers.contains_key(*name));
    if index.is_file() && !single {
        check_index(&index, &headers)?;
    }
    Ok(paths)
}

/// The names of the weights files, whether they are there or not.
fn weight_names(folder: &Path) -> HubResult<BTreeSet<String>> {
    for name in SINGLE_FILES {
        if folder.join(name).is_file() {
            return Ok(BTreeSet::from([name.to_owned()]));
        }
    }
    let index = folder.join(INDEX);
    if index.is_file() {
        return names_in_index(&index);
    }
    let others = files_of_other_formats(folder);
    if others.is_empty() {
        Ok(BTreeSet::from([SINGLE_FILES[0].to_owned()]))
    } else {
        Err(HubError::NoSafetensors {
            folder: folder.to_path_buf(),
            found: others,
        })
    }
}

fn names_in_index(index: &Path) -> HubResult<BTreeSet<String>> {
    Ok(weight_map(index)?.into_values().collect())
}

/// Which file an index says each tensor is in.
pub(crate) fn weight_map(index: &Path) -> HubResult<BTreeMap<String, String>> {
    let unusable = |what: String| HubError::NotSafetensors {
        path: index.to_path_buf(),
        what,
    };
    let text = crate::files::bytes(index).map_err(|error| unusable(error.to_string()))?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
    let map = value
        .get("weight_map")
        .and_then(Value::as_object)
        .filter(|map| !map.is_empty())
        .ok_or_else(|| unusable("it has no `weight_map` of tensors to files".to_owned()))?;
    map.iter()
        .map(|(tensor, file)| match file.as_str() {
            Some(name) if is_relative(name) => Ok((tensor.clone(), name.to_owned())),
            _ => Err(unusable(format!(
                "`weight_map` names {file} for {tensor}, which is not a file beside it"
            ))),
        })
        .collect()
}

/// Every tensor must be where the index says.
fn check_index(index: &Path, headers: &BTreeMap<String, Header>) -> HubResult<()> {
    let there: BTreeSet<(&str, &str)> = headers
        .iter()
        .flat_map(|(file, header)| {
            let tensors = header.tensors.iter();
            tensors.map(move |tensor| (tensor.name.as_str(), file.as_str()))
        })
        .collect();
    let map = weight_map(index)?;
    let missing: Vec<String> = map
        .iter()
        .filter(|(tensor, file)| !there.contains(&(tensor.as_str(), file.as_str())))
        .map(|(tensor, file)| format!("{tensor} in {file}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    Err(HubError::NotSafetensors {
        path: index.to_path_buf(),
        what: format!(
            "`weight_map` names {} tensors that are not where it says: {}; the files are of another model or version than the index",
            missing.len(),
            some(&missing)
        ),
    })
}

/// Weights that are no safetensors, or safetensors under a name that nobody looks for.
fn files_of_other_formats(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_other_format(name) || name.ends_with(".safetensors"))
        .collect();
    // Optimizers and arguments of a training, which hold no model.
    let beside = [
        "training_args.bin",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "scaler.pt",
    ];
    names.retain(|name| !beside.contains(&name.as_str()));
    names.sort();
    names
}

/// Is this the name of a weights file that is not safetensors?
pub(super) fn is_other_format(name: &str) -> bool {
    [
        ".bin", ".pt", ".pth", ".h5", ".msgpack", ".ckpt", ".gguf", ".ggml", ".onnx", ".tflite",
        ".mlmodel", ".engine",
    ]
    .iter()
    .any(|ending| name.ends_with(ending))
}

/// Checks that a safetensors file is as long as its header says. Reads the header only.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::{check_safetensors, weight_files};
///
/// # fn main() -> Result<()> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published/llava_clip_llama");
/// for file in weight_files(folder.as_ref())? {
///     check_safetensors(&file)?; // neither cut off nor damaged in its list of tensors
/// }
/// assert!(check_safetensors("no-such-file.safetensors".as_ref()).is_err());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`HubError::Truncated`] with both lengths, [`HubError::NotSafetensors`] if it has no such header.
pub fn check_safetensors(path: &Path) -> Result<()> {
    Header::of_file(path)?;
    Ok(())
}

/// The kind of model that a folder holds: `model_type` of its `config.json`, empty if that names none.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::model_type;
///
/// # fn main() -> Result<()> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published/llava_clip_llama");
/// assert_eq!(model_type(folder.as_ref())?, "llava"); // what its config.json says
/// # Ok(()) }
/// ```
///
/// # Errors
/// `Error::Io` or `Error::Json` if the config cannot be read.
pub fn model_type(folder: &Path) -> Result<String> {
    model_type_of(&folder.join("config.json"))
}

fn model_type_of(config: &Path) -> Result<String> {
    let path = config.to_path_buf();
    let text = match crate::files::bytes(config) {
        Ok(text) => text,
        Err(source) => return Err(Error::Io { path, source }),
    };
    let config: Value =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })?;
    Ok(kind_of(&config).to_owned())
}

/// The `model_type` of a config; nanoVLM's own names none, and is known by its fields.
pub(crate) fn kind_of(config: &Value) -> &str {
    let named = config.get("model_type").and_then(Value::as_str);
    let has = |field: &str| config.get(field).is_some();
    match named {
        None if has("lm_hidden_dim") && has("vit_hidden_dim") => "nanovlm",
        named => named.unwrap_or_default(),
    }
}

/// Checks that `config.json` in `folder` names one of the kinds of model that the caller can read; an empty list
/// stands for any.
///
/// # Errors
/// [`HubError::WrongArchitecture`] naming both; `Error::Io` or `Error::Json` if the config cannot be read.
pub(super) fn check_kind(folder: &Path, expected: &[String]) -> Result<()> {
    check_config(&folder.join("config.json"), expected)
}

/// As [`check_kind`], for the config itself.
pub(super) fn check_config(config: &Path, expected: &[String]) -> Result<()> {
    if expected.is_empty() {
        return Ok(());
    }
    let found = model_type_of(config)?;
    if expected.contains(&found) {
        return Ok(());
    }
    Err(HubError::WrongArchitecture {
        path: config.to_path_buf(),
        found,
        expected: expected.to_vec(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A safetensors file with one tensor of `bytes` bytes.
    fn safetensors(bytes: usize) -> Vec<u8> {
        let header =
            format!(r#"{{"w":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.resize(file.len() + bytes, 7);
        file
    }

    fn folder_with(files: &[(&str, &[u8])]) -> std::io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes)?;
        }
        Ok(folder)
    }

    fn message(result: Result<Vec<PathBuf>>) -> String {
        result.map_or_else(|error| error.to_string(), |files| format!("{files:?}"))
    }

    #[test]
    fn truncated_and_foreign_files_are_named() -> std::io::Result<()> {
        let whole = safetensors(100);
        let folder = folder_with(&[("model.safetensors", &whole)])?;
        assert_eq!(weight_files(folder.path()).unwrap_or_default().len(), 1);

        for cut in [0, 4, 20, whole.len() - 1] {
            let folder = folder_with(&[("model.safetensors", &whole[..cut])])?;
            let text = message(weight_files(folder.path()));
            assert!(text.contains("truncated"), "{cut}: {text}");
        }
        let folder = folder_with(&[(
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid",
        )])?;
        assert!(message(weight_files(folder.path())).contains("git lfs pull"));
        let folder = folder_with(&[("pytorch_model.bin", b"x")])?;
        let text = message(weight_files(folder.path()));
        assert!(
            text.contains("only pytorch_model.bin") && text.contains("save_pretrained"),
            "{text}"
        );
        for (name, advice) in [
            ("model-q4.gguf", "llama.cpp"),
            ("model.onnx", "ONNX"),
            ("tf_model.h5", "TensorFlow"),
            ("flax_model.msgpack", "Flax"),
            ("consolidated.safetensors", "rename"),
        ] {
            let folder = folder_with(&[(name, b"x"), ("training_args.bin", b"x")])?;
            let text = message(weight_files(folder.path()));
            assert!(
                text.contains(&format!("only {name}; ")) && text.contains(advice),
                "{text}"
            );
        }
        let folder = folder_with(&[])?;
        assert!(message(weight_files(folder.path())).contains("lacks model.safetensors"));
        Ok(())
    }

    #[test]
    fn every_file_of_an_index_must_be_there_and_beside_it() -> std::io::Result<()> {
        let index = br#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
        let whole = safetensors(3);
        let folder = folder_with(&[(INDEX, index), ("model-00001-of-00002.safetensors", &whole)])?;
        assert!(
            message(weight_files(folder.path()))
                .ends_with("lacks model-00002-of-00002.safetensors")
        );
        std::fs::write(
            folder.path().join("model-00002-of-00002.safetensors"),
            &whole,
        )?;
        let text = message(weight_files(folder.path()));
        assert!(
            text.contains("names 2 tensors that are not where it says: a in model-00001"),
            "{text}"
        );
        let index = String::from_utf8_lossy(index)
            .replace("\"a\"", "\"w\"")
            .replace("\"b\":", "\"w\":");
        let index = index.replacen("\"w\":\"model-00001-of-00002.safetensors\",", "", 1);
        std::fs::write(folder.path().join(INDEX), index)?;
        assert_eq!(weight_files(folder.path()).unwrap_or_default().len(), 1);

        let folder = folder_with(&[(INDEX, br#"{"weight_map":{"a":"../secret.safetensors"}}"#)])?;
        assert!(message(weight_files(folder.path())).contains("not a file beside it"));
        Ok(())
    }

    #[test]
    fn the_kind_of_model_is_checked() -> std::io::Result<()> {
        let folder = folder_with(&[("config.json", br#"{"model_type":"llama"}"#)])?;
        let kinds = |kinds: &[&str]| kinds.iter().map(ToString::to_string).collect::<Vec<_>>();
        let error = check_kind(folder.path(), &kinds(&["phi3"])).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            text.contains("\"llama\"") && text.contains("phi3"),
            "{text}"
        );
        assert!(check_kind(folder.path(), &kinds(&["phi3", "llama"])).is_ok());
        assert!(check_kind(folder.path(), &[]).is_ok());
        Ok(())
    }
}
