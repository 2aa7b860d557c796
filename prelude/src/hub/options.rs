//! Settings of [`resolve`](super::resolve), and the environment variables of the Hugging Face tools behind them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the hub is when `HF_ENDPOINT` does not say otherwise.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How far a download has come.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::{DownloadProgress, HubOptions};
///
/// let options = HubOptions::from_env().allow_download(true).on_progress(|now: &DownloadProgress| {
///     println!("{}: {} of {} bytes", now.file, now.bytes, now.total_bytes);
/// });
/// assert!(options.allow_download); // for `Preset::hub` or `hub::resolve`
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadProgress {
    /// The repository's name.
    pub model: String,
    /// The file that is being fetched.
    pub file: String,
    /// Its number among the files to fetch, from 1.
    pub file_number: usize,
    /// How many files are fetched.
    pub file_count: usize,
    /// Bytes on disk, of all files to fetch.
    pub bytes: u64,
    /// Bytes of all files to fetch.
    pub total_bytes: u64,
}

/// Is told how far a download has come.
pub(super) type ProgressSink = Arc<dyn Fn(&DownloadProgress) + Send + Sync>;

/// A secret that opens gated and private models. Its value is never shown.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::Token;
///
/// let token = Token::new("hf_secret");
/// assert!(!format!("{token:?}").contains("secret")); // never shown
/// assert!(Token::new("").is_none());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from its text; `None` if that is blank.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    #[cfg(feature = "download")]
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(hidden)")
    }
}

/// Where to look for a model, and what may be done to get it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::HubOptions;
///
/// let options = HubOptions::from_env().allow_download(true).revision("v1.0"); // a branch, tag or commit
/// assert_eq!(options.revision, "v1.0");
/// let preset = Preset::pair("google/vit-base-patch16-224", "microsoft/Phi-3-mini-4k-instruct").hub(options);
/// assert!(preset.hub.allow_download);
/// ```
#[derive(Clone)]
pub struct HubOptions {
    /// May files be fetched over the network? `false` unless asked for.
    pub allow_download: bool,
    /// `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`): no network, whatever `allow_download` says.
    pub offline: bool,
    /// Branch, tag or commit; `main` unless asked for.
    pub revision: String,
    /// The cache: `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `hub` in `HF_HOME`, else
    /// `~/.cache/huggingface/hub`.
    pub cache_dir: PathBuf,
    /// The server: `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// `HF_TOKEN`, else what is in the file named by `HF_TOKEN_PATH` or in `token` in `HF_HOME`.
    pub token: Option<Token>,
    /// Files that must be in the folder besides complete weights; `config.json` unless asked for.
    pub required: Vec<String>,
    /// Kinds of model (`model_type` of `config.json`) that will do; empty: any. A download looks at the config before
    /// it fetches anything large.
    pub model_types: Vec<String>,
    /// Which files of a repository to fetch, `*` standing for any characters but `/`.
    pub files: Vec<String>,
    pub(super) progress: Option<ProgressSink>,
}

/// The folder of models where the environment names none and nobody has a home. A browser has no folders, and asking for one there panics.
fn last_resort() -> PathBuf {
    match cfg!(target_family = "wasm") {
        true => PathBuf::from("."),
        false => std::env::temp_dir(),
    }
}

impl HubOptions {
    /// What the environment says, and no download.
    pub fn from_env() -> Self {
        Self::from_lookup(
            &|name| std::env::var(name).ok(),
            std::env::home_dir().as_deref(),
        )
    }

    fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Self {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let yes = |name: &str| {
            get(name).is_some_and(|value| {
                ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
            })
        };
        let hf_home = get("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            get("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| home.map(|home| home.join(".cache")))
                .unwrap_or_else(last_resort)
                .join("huggingface")
        });
        let cache_dir = get("HF_HUB_CACHE")
            .or_else(|| get("HUGGINGFACE_HUB_CACHE"))
            .map_or_else(|| hf_home.join("hub"), PathBuf::from);
        let token_file = get("HF_TOKEN_PATH").map_or_else(|| hf_home.join("token"), PathBuf::from);
        let token = get("HF_TOKEN")
            .or_else(|| get("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| crate::files::text(token_file).ok())
            .filter(|_| !yes("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
            .and_then(|text| Token::new(&text));
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Self {
            allow_download: false,
            offline: yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
            revision: "main".to_owned(),
            cache_dir,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            required: vec!["config.json".to_owned()],
            model_types: Vec::new(),
            files: [
                "*.json",
                "*.jinja",
                "model.safetensors",
                "model-*-of-*.safetensors",
                "adapter_model.safetensors",
            ]
            .map(str::to_owned)
            .to_vec(),
            progress: None,
        }
    }

    /// Allows the network for this one model.
    pub fn allow_download(mut self, allow: bool) -> Self {
        self.allow_download = allow;
        self
    }

    /// Asks for a branch, tag or commit.
    pub fn revision(mut self, revision: &str) -> Self {
        self.revision = revision.to_owned();
        self
    }

    /// Uses another cache folder.
    pub fn cache_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache_dir = folder.into();
        self
    }

    /// Uses another server.
    pub fn endpoint(mut self, endpoint: &str) -> Self {
        self.endpoint = endpoint.trim_end_matches('/').to_owned();
        self
    }

    /// Uses this token, or none.
    pub fn token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    /// Says which files the folder must have besides complete weights.
    pub fn required(mut self, files: &[&str]) -> Self {
        self.required = files.iter().map(|&file| file.to_owned()).collect();
        self
    }

    /// Says which kinds of model will do, such as `["phi3"]`.
    pub fn model_types(mut self, kinds: &[&str]) -> Self {
        self.model_types = kinds.iter().map(|&kind| kind.to_owned()).collect();
        self
    }

    /// Is told how far a download has come, in place of the progress display.
    pub fn on_progress(mut self, sink: impl Fn(&DownloadProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(sink));
        self
    }
}

impl Default for HubOptions {
    fn default() -> Self {
        Self::from_env()
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubOptions")
            .field("allow_download", &self.allow_download)
            .field("offline", &self.offline)
            .field("revision", &self.revision)
            .field("cache_dir", &self.cache_dir)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token)
            .field("required", &self.required)
            .field("model_types", &self.model_types)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> HubOptions {
        let lookup = |name: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        HubOptions::from_lookup(&lookup, Some(Path::new("/home/ada")))
    }

    #[test]
    fn the_cache_is_where_the_python_tools_look() {
        let cache = |pairs: &[(&str, &str)]| from(pairs).cache_dir;
        assert_eq!(cache(&[]), Path::new("/home/ada/.cache/huggingface/hub"));
        assert_eq!(
            cache(&[("XDG_CACHE_HOME", "/x")]),
            Path::new("/x/huggingface/hub")
        );
        assert_eq!(
            cache(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
            Path::new("/h/hub")
        );
        assert_eq!(
            cache(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")]),
            Path::new("/old")
        );
        assert_eq!(
            cache(&[("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/old")]),
            Path::new("/c")
        );
        assert_eq!(
            cache(&[("HF_HOME", "")]),
            Path::new("/home/ada/.cache/huggingface/hub")
        );
    }

    #[test]
    fn offline_and_endpoint_come_from_the_environment() {
        assert!(!from(&[]).offline);
        assert!(!from(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(from(&[("HF_HUB_OFFLINE", "1")]).offline);
        assert!(from(&[("HF_HUB_OFFLINE", "true")]).offline);
        assert!(from(&[("TRANSFORMERS_OFFLINE", "yes")]).offline);
        assert_eq!(from(&[]).endpoint, "https://huggingface.co");
        assert_eq!(
            from(&[("HF_ENDPOINT", "http://127.0.0.1:9/")]).endpoint,
            "http://127.0.0.1:9"
        );
        assert!(!from(&[]).allow_download);
    }

    #[test]
    fn the_token_is_found_and_never_shown() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("token"), "hf_from_file\n")?;
        let home = folder.path().to_string_lossy();
        let by_file = from(&[("HF_HOME", &home)]);
        assert_eq!(by_file.token, Token::new("hf_from_file"));
        assert_eq!(
            from(&[("HF_HOME", &home), ("HF_TOKEN", "hf_env")]).token,
            Token::new("hf_env")
        );
        assert_eq!(
            from(&[("HF_HOME", &home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token,
            None
        );
        assert!(!format!("{by_file:?}").contains("hf_from_file"));
        Ok(())
    }
}
