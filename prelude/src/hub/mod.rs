//! Where weights come from: a folder, the Hugging Face cache, or a download that a cell asked for by name.
//!
//! ```text
//! "path/to/folder"   ──▶ that folder
//! "owner/name"       ──▶ cache (models--owner--name/snapshots/COMMIT) ──▶ that folder
//!                           │ not there, and the options allow it
//!                           ▼
//!                        listing ▶ missing files ▶ size and checksum ▶ cache ──▶ that folder
//! ```
//!
//! [`resolve`] is the whole of it: a name in, a folder with `config.json` and complete weights out. Nothing is sent over
//! the network unless [`HubOptions::allow_download`] was called. The cache has the layout of Python's `huggingface_hub`,
//! so that what one of the two has fetched the other finds.
//!
//! # Layout
//! - `options`: settings and the environment variables they come from
//! - `cache`: the folder layout of the Hugging Face cache
//! - `folder`: is a model folder complete, and is it the right kind of model; `header`: which tensors a safetensors file holds
//! - `listing`, `download`, `transfer`, `partial`: what a repository holds, which of its files are wanted, the bytes of
//!   one over the network, and on disk with their checksum
//! - `error`: what can go wrong

mod cache;
#[cfg(feature = "download")]
mod download;
mod error;
mod folder;
pub(crate) mod header;
#[cfg(feature = "download")]
mod listing;
mod options;
#[cfg(feature = "download")]
mod partial;
#[cfg(feature = "download")]
mod transfer;

use std::path::{Path, PathBuf};

pub use cache::CachedModel;
pub use error::HubError;
pub(crate) use folder::kind_of;
pub use folder::{check_safetensors, model_type, weight_files};
pub use options::{DownloadProgress, HubOptions, Token};

use crate::error::Result;

/// Finds the folder that holds a model: `config.json` and all of its weights.
///
/// `model` is a folder's path, or a repository's name such as `"microsoft/Phi-3-mini-4k-instruct"`, with `@revision` behind
/// it for another branch, tag or commit than the options name. A folder that exists wins over a repository of the same
/// name. Weights are checked for truncation by their headers, which reads a few kilobytes of each file.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::{HubError, HubOptions, resolve};
///
/// # fn main() -> Result<()> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published/llava_clip_llama");
/// # let cache = std::env::temp_dir().join("no-models-here");
/// let options = HubOptions::from_env().cache_dir(cache); // with `.allow_download(true)` what is lacking is fetched
/// assert!(resolve(folder, &options)?.join("config.json").is_file());
/// let error = resolve("google/vit-base-patch16-224", &options).unwrap_err();
/// assert!(matches!(error, Error::Hub(HubError::NotCached { .. })));
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::Hub`](crate::Error::Hub) with what was looked for, where, and what to do; `Error::Interrupted` when the user
/// interrupts a download (run it again to go on from there); `Error::Io` when the disk fails.
pub fn resolve(model: &str, options: &HubOptions) -> Result<PathBuf> {
    let folder = find(model, options)?;
    folder::check_kind(&folder, &options.model_types)?;
    Ok(folder)
}

/// The folder that `model` names, if it is there; a leading `~/` is the home folder.
pub(crate) fn local_folder(model: &str) -> Option<PathBuf> {
    Some(expand_home(model)).filter(|folder| folder.is_dir())
}

/// The folder with a model's tokenizer, as [`resolve`] finds it, but for the weights, which need not be there and are not fetched.
pub(crate) fn resolve_tokenizer(model: &str, options: &HubOptions) -> Result<PathBuf> {
    let has = |folder: &PathBuf| folder.join(TOKENIZER).is_file();
    if let Some(local) = local_folder(model).filter(has) {
        return Ok(local);
    }
    if looks_like_path(model) {
        let path = expand_home(model);
        return Err(HubError::NoSuchFolder { path }.into());
    }
    let (model, revision) = model
        .split_once('@')
        .unwrap_or((model, options.revision.as_str()));
    let cached = CachedModel::new(&options.cache_dir, model, revision)?;
    if let Some(snapshot) = cached.snapshot().filter(has) {
        return Ok(snapshot);
    }
    if !options.allow_download || options.offline {
        let lacking = vec![TOKENIZER.to_owned()];
        return Err(not_cached(model, revision, options, lacking).into());
    }
    let mut options = options.clone().revision(revision).required(&[TOKENIZER]);
    options.files = ["*.json", "*.jinja"].map(str::to_owned).to_vec();
    options.model_types.clear();
    only_fetch(&cached, &options)
}

const TOKENIZER: &str = "tokenizer.json";

fn find(model: &str, options: &HubOptions) -> Result<PathBuf> {
    if let Some(local) = local_folder(model) {
        folder::check_complete(&local, &options.required)?;
        return Ok(local);
    }
    let local = expand_home(model);
    if local.is_file() {
        return Err(HubError::NotAFolder { path: local }.into());
    }
    if looks_like_path(model) {
        return Err(HubError::NoSuchFolder { path: local }.into());
    }
    let (model, revision) = model
        .split_once('@')
        .unwrap_or((model, options.revision.as_str()));
    let cached = CachedModel::new(&options.cache_dir, model, revision)?;
    let lacking = match cached.snapshot() {
        Some(snapshot) => match folder::check_complete(&snapshot, &options.required) {
            Ok(()) => return Ok(snapshot),
            // A download can put these right; anything else (a truncated file) is for the user to decide.
            Err(HubError::MissingFiles { files, .. }) => files,
            Err(other) => return Err(other.into()),
        },
        None => Vec::new(),
    };
    if !options.allow_download || options.offline {
        return Err(not_cached(model, revision, options, lacking).into());
    }
    fetch(&cached, &options.clone().revision(revision))
}

fn not_cached(model: &str, revision: &str, options: &HubOptions, lacking: Vec<String>) -> HubError {
    HubError::NotCached {
        model: model.to_owned(),
        revision: revision.to_owned(),
        cache: options.cache_dir.clone(),
        lacking,
        offline: options.offline && options.allow_download,
    }
}

fn fetch(cached: &CachedModel, options: &HubOptions) -> Result<PathBuf> {
    let snapshot = only_fetch(cached, options)?;
    folder::check_complete(&snapshot, &options.required)?;
    Ok(snapshot)
}

#[cfg(feature = "download")]
fn only_fetch(cached: &CachedModel, options: &HubOptions) -> Result<PathBuf> {
    download::download(cached, options)
}

#[cfg(not(feature = "download"))]
fn only_fetch(cached: &CachedModel, _options: &HubOptions) -> Result<PathBuf> {
    Err(HubError::NoDownloadSupport {
        model: cached.model().to_owned(),
    }
    .into())
}

/// Is this meant as a path, though nothing is there? Repository names are `name` or `owner/name`.
fn looks_like_path(model: &str) -> bool {
    model.starts_with(['.', '/', '~', '\\'])
        || model.ends_with('/')
        || model.matches(['/', '\\']).count() > 1
        || model.contains('\\')
}

/// Replaces a leading `~/` by the home folder.
fn expand_home(model: &str) -> PathBuf {
    match (model.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => Path::new(model).to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_repository_names() {
        for path in ["./a", "/a/b", "~/a", "a/b/c", "a/", "..", "a\\b"] {
            assert!(looks_like_path(path), "{path}");
        }
        for name in ["gpt2", "google/vit-base-patch16-224", "a/b.c"] {
            assert!(!looks_like_path(name), "{name}");
        }
    }
}
