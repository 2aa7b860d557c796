//! What can go wrong between a model's name and its folder, each with what to do.

use std::path::PathBuf;

/// A result inside this module, before it joins the prelude's one error type.
pub(super) type HubResult<T> = std::result::Result<T, HubError>;

/// What to do about weights in another format, by their names.
fn advice(found: &[String]) -> &'static str {
    let has = |endings: &[&str]| {
        let ends = |name: &String| endings.iter().any(|ending| name.ends_with(ending));
        found.iter().any(ends)
    };
    if found.iter().any(|name| name.starts_with("adapter_model.")) {
        "those are pickles of PyTorch, which run code when they are read: in Python, PeftModel.from_pretrained(BASE, FOLDER).save_pretrained(FOLDER) \
         writes adapter_model.safetensors beside them"
    } else if has(&[".bin", ".pt", ".pth", ".ckpt"]) {
        "those are pickles of PyTorch, which run code when they are read: in Python, AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER) \
         writes model.safetensors beside them"
    } else if has(&[".h5", ".msgpack"]) {
        "those are weights of TensorFlow or Flax: in Python, AutoModel.from_pretrained(FOLDER, from_tf=True or from_flax=True)\
         .save_pretrained(FOLDER) writes model.safetensors beside them"
    } else if has(&[".gguf", ".ggml"]) {
        "those are llama.cpp's, most often quantized, and are not read here: take the repository that they were made from, or in Python \
         AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=NAME).save_pretrained(OTHER)"
    } else if has(&[".onnx"]) {
        "ONNX holds a program besides weights, and is not read here: take the repository that it was exported from"
    } else if has(&[".tflite", ".mlmodel", ".mlpackage", ".engine"]) {
        "those are for one kind of device only: take the repository that they were made from"
    } else {
        "rename the file to model.safetensors, or give its path"
    }
}

/// Why a model could not be found, fetched or trusted.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::{HubError, HubOptions, resolve};
///
/// let error = resolve("./no/such/folder", &HubOptions::from_env()).unwrap_err();
/// assert!(matches!(error, Error::Hub(HubError::NoSuchFolder { .. })));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name is neither a path nor a repository's name.
    #[error(
        "{name:?} is not a model name: expected a folder, `name` or `owner/name` (letters, digits, `-`, `_` and `.`)"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// The path does not exist.
    #[error("{}: no such file or folder{} (a model on the Hugging Face hub is named like `owner/name`)", path.display(), crate::files::looked_for_from(path))]
    NoSuchFolder {
        /// The path.
        path: PathBuf,
    },
    /// The path is a file.
    #[error("{}: is a file; give the folder that holds config.json and the weights", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder lacks files that the model needs.
    #[error("{}: lacks {}", folder.display(), files.join(", "))]
    MissingFiles {
        /// The model's folder.
        folder: PathBuf,
        /// What is not there.
        files: Vec<String>,
    },
    /// Only weights in other formats.
    #[error("{}: no safetensors weights, only {}; {}", folder.display(), found.join(", "), advice(found))]
    NoSafetensors {
        /// The model's folder, or the repository.
        folder: PathBuf,
        /// What is there.
        found: Vec<String>,
    },
    /// The model is not in the cache, or not all of it, and no download was asked for.
    #[error("{model} (revision {revision}) is not{} in the Hugging Face cache {}{}; {}",
        if lacking.is_empty() { "" } else { " complete" },
        cache.display(),
        if lacking.is_empty() { String::new() } else { format!(" (lacks {})", lacking.join(", ")) },
        if *offline { "HF_HUB_OFFLINE forbids the download: unset it, or give the path of a folder with the files" }
        else { "allow the download with `.allow_download(true)`, or give the path of a folder with the files" })]
    NotCached {
        /// The repository's name.
        model: String,
        /// Branch, tag or commit.
        revision: String,
        /// The cache that was searched.
        cache: PathBuf,
        /// Files that a snapshot in the cache lacks; empty if there is no snapshot.
        lacking: Vec<String>,
        /// A download was asked for, but the environment forbids it.
        offline: bool,
    },
    /// This build has no download code.
    #[error(
        "{model} is not in the Hugging Face cache, and this build cannot download: build glassbox-prelude with the feature `download`, or fetch the files with another tool"
    )]
    NoDownloadSupport {
        /// The repository's name.
        model: String,
    },
    /// The server wants to know who asks, or has not granted access.
    #[error("{model} is gated or private (HTTP {status}): {}",
        if *had_token { "the token was not accepted; request access on the model's page with the account of this token" }
        else { "accept its terms on the model's page, then set HF_TOKEN to a token of that account" })]
    NoAccess {
        /// The repository's name.
        model: String,
        /// 401 or 403.
        status: u16,
        /// Was a token sent?
        had_token: bool,
    },
    /// The server knows no such repository, revision or file.
    #[error("{what} was not found on {endpoint} (HTTP {status}): check the spelling{}",
        if *status == 401 { ", or set HF_TOKEN if it is private" } else { "" })]
    NotFound {
        /// Repository, revision or file.
        what: String,
        /// The server.
        endpoint: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server could not be reached, or answered with a failure.
    #[error("{url}: {what}; check the connection and run it again")]
    Network {
        /// What was asked for.
        url: String,
        /// What happened.
        what: String,
    },
    /// The server's answer makes no sense.
    #[error("{url}: the server's answer is not usable: {what}")]
    BadAnswer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// The connection ended early, several times over.
    #[error(
        "{file}: the connection was cut after {have} of {size} bytes; run it again to go on from there"
    )]
    Cut {
        /// The file's name in the repository.
        file: String,
        /// Bytes that are safe on disk.
        have: u64,
        /// Bytes of the whole file.
        size: u64,
    },
    /// The bytes are not those that the repository lists.
    #[error(
        "{file}: wrong checksum: {found} instead of {expected}; the bytes were thrown away, run it again to fetch them anew"
    )]
    Checksum {
        /// The file's name in the repository.
        file: String,
        /// From the repository's listing.
        expected: String,
        /// Of the bytes that came.
        found: String,
    },
    /// The disk has no room for the download.
    #[error("{}: {needed} bytes are needed, {free} are free; free some space, or set HF_HOME to a larger disk", path.display())]
    DiskFull {
        /// The cache.
        path: PathBuf,
        /// Bytes still to fetch.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A weights file ends before its header says.
    #[error("{}: truncated: {}: was the download or copy cut off? delete it and fetch it again", path.display(),
        if *found == 0 { "it is empty".to_string() }
        else { format!("its header promises {expected} bytes, the file has {found}") })]
    Truncated {
        /// The weights file.
        path: PathBuf,
        /// Bytes by the header.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// Not a safetensors file at all.
    #[error("{}: not a safetensors file: {what}", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// The model is of another kind than the code that reads it.
    #[error("{}: model_type is {found:?}, but this loads {}: was another model meant?", path.display(), expected.join(" or "))]
    WrongArchitecture {
        /// The config file.
        path: PathBuf,
        /// The kind in the config, empty if it names none.
        found: String,
        /// Kinds that would do.
        expected: Vec<String>,
    },
}
