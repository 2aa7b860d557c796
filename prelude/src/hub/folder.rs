//! Is a model folder complete, whole, and of the right kind? Only headers are read, never the weights.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cache::is_relative;
use super::error::{HubError, HubResult};
use crate::error::{Error, Result};

/// The single-file weights of a model and of an adapter, in the order in which they are looked for.
const SINGLE_FILES: [&str; 2] = ["model.safetensors", "adapter_model.safetensors"];
/// Lists the files of weights in several files.
const INDEX: &str = "model.safetensors.index.json";
/// A safetensors header larger than this is refused, as the `safetensors` crate does.
const LARGEST_HEADER: u64 = 100_000_000;

/// The weights files at `path`, in the order of their names, each checked for truncation: `path` itself if it is a file,
/// else those of a model's folder.
///
/// Weights are `model.safetensors`, or `adapter_model.safetensors`, or the files that `model.safetensors.index.json` names.
///
/// # Errors
/// [`HubError::NoSuchFolder`], [`HubError::MissingFiles`] naming what is lacking, [`HubError::NoSafetensors`] if the weights are of another format,
/// [`HubError::Truncated`] and [`HubError::NotSafetensors`] for a damaged file.
pub fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        check_header(path)?;
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
    for path in &paths {
        check_header(path)?;
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
    let unusable = |what: String| HubError::NotSafetensors {
        path: index.to_path_buf(),
        what,
    };
    let text = std::fs::read(index).map_err(|error| unusable(error.to_string()))?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
    let map = value
        .get("weight_map")
        .and_then(Value::as_object)
        .filter(|map| !map.is_empty())
        .ok_or_else(|| unusable("it has no `weight_map` of tensors to files".to_owned()))?;
    map.values()
        .map(|file| match file.as_str() {
            Some(name) if is_relative(name) => Ok(name.to_owned()),
            _ => Err(unusable(format!(
                "`weight_map` names {file}, which is not a file beside it"
            ))),
        })
        .collect()
}

/// Weights that PyTorch, TensorFlow or Flax wrote.
fn files_of_other_formats(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_other_format(name))
        .collect();
    names.sort();
    names
}

/// Is this the name of a weights file that is not safetensors?
pub(super) fn is_other_format(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".h5", ".msgpack", ".ckpt"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// Checks that a safetensors file is as long as its header says. Reads the header only.
///
/// # Errors
/// [`HubError::Truncated`] with both lengths, [`HubError::NotSafetensors`] if it has no such header.
pub fn check_safetensors(path: &Path) -> Result<()> {
    Ok(check_header(path)?)
}

fn check_header(path: &Path) -> HubResult<()> {
    let not = |what: String| HubError::NotSafetensors {
        path: path.to_path_buf(),
        what,
    };
    let mut file = File::open(path).map_err(|error| not(error.to_string()))?;
    let found = file
        .metadata()
        .map_err(|error| not(error.to_string()))?
        .len();
    let truncated = |expected: u64| HubError::Truncated {
        path: path.to_path_buf(),
        expected,
        found,
    };
    let mut length = [0u8; 8];
    if found < 8 {
        return Err(truncated(8));
    }
    file.read_exact(&mut length)
        .map_err(|error| not(error.to_string()))?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER {
        let pointer = found < 1024 && starts_as_lfs_pointer(path);
        return Err(not(if pointer {
            "it is a git-lfs pointer; run `git lfs pull` in the repository it came from".to_owned()
        } else {
            format!("its first eight bytes give a header of {length} bytes")
        }));
    }
    if found < 8 + length {
        return Err(truncated(8 + length));
    }
    let mut header = vec![0u8; length as usize];
    file.read_exact(&mut header)
        .map_err(|error| not(error.to_string()))?;
    let header: Value = serde_json::from_slice(&header)
        .map_err(|error| not(format!("its header is not JSON: {error}")))?;
    let tensors = header
        .as_object()
        .ok_or_else(|| not("its header is not a JSON object".to_owned()))?;
    let end = tensors
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .filter_map(|(_, tensor)| tensor.get("data_offsets")?.get(1)?.as_u64())
        .max()
        .unwrap_or(0);
    let expected = end.saturating_add(8 + length);
    if expected > found {
        return Err(truncated(expected));
    }
    Ok(())
}

fn starts_as_lfs_pointer(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"version https://git-lfs"))
}

/// The kind of model that a folder holds: `model_type` of its `config.json`, empty if that names none.
///
/// # Errors
/// `Error::Io` or `Error::Json` if the config cannot be read.
pub fn model_type(folder: &Path) -> Result<String> {
    model_type_of(&folder.join("config.json"))
}

fn model_type_of(config: &Path) -> Result<String> {
    let path = config.to_path_buf();
    let text = match std::fs::read(config) {
        Ok(text) => text,
        Err(source) => return Err(Error::Io { path, source }),
    };
    let config: Value =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })?;
    let found = config.get("model_type").and_then(Value::as_str);
    Ok(found.unwrap_or_default().to_owned())
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
        assert!(message(weight_files(folder.path())).contains("only pytorch_model.bin"));
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
        assert_eq!(weight_files(folder.path()).unwrap_or_default().len(), 2);

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
