//! What a run is known by, its `run.json`: seed, versions, data, when it began and how it ended.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, files};

/// The layout of a run's folder that is written here.
pub(super) const FORMAT: u32 = 1;

/// How far a run has come.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::runs::RunState;
///
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("run-state-{}", std::process::id()));
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let settings = TrainerSettings { steps: 1, batch_size: 1, run: Some(folder.join("a")), ..TrainerSettings::tour() };
/// Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// let run = Run::open(folder.join("a"))?;
/// assert_eq!(run.about.state, RunState::Finished); // `Interrupted` where it can go on
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It trains, or its process was killed.
    Running,
    /// All its steps are done.
    Finished,
    /// It was stopped, and can go on.
    Interrupted,
    /// An error ended it.
    Failed,
}

impl RunState {
    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Finished => "finished",
            RunState::Interrupted => "interrupted",
            RunState::Failed => "failed",
        }
    }
}

/// A set that a run learned from or was measured on.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::runs::DataFacts;
///
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("data-facts-{}", std::process::id()));
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let settings = TrainerSettings { steps: 1, batch_size: 1, run: Some(folder.join("a")), ..TrainerSettings::tour() };
/// Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// let about = Run::open(folder.join("a"))?.about;
/// let learned: &DataFacts = &about.data[0];
/// assert_eq!((learned.role.as_str(), learned.examples), ("train", 1));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFacts {
    /// `train` or `validation`.
    pub role: String,
    /// Number of examples.
    pub examples: usize,
    /// A hash of names and captions; none where only reading all of it would tell.
    pub hash: Option<String>,
}

/// A run's `run.json`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::runs::AboutRun;
///
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("about-run-{}", std::process::id()));
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let settings = TrainerSettings { steps: 1, batch_size: 1, run: Some(folder.join("a")), ..TrainerSettings::tour() };
/// Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// let about: AboutRun = Run::open(folder.join("a"))?.about;
/// assert_eq!((about.steps, about.data.len()), (1, 2)); // what it learned from, and what it was measured on
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AboutRun {
    /// The layout of the folder.
    pub format: u32,
    /// How far it has come.
    pub state: RunState,
    /// In words, what came out.
    #[serde(default)]
    pub result: String,
    /// Decides what each step sees.
    pub seed: u64,
    /// Steps that it is to have.
    pub steps: usize,
    /// The validation loss before the first step.
    #[serde(default)]
    pub untrained: Option<f64>,
    /// What it learns from.
    pub data: Vec<DataFacts>,
    /// Versions of this program and of what computes, by name.
    pub versions: BTreeMap<String, String>,
    /// When it began, in UTC.
    pub begun: String,
    /// When it last ended.
    #[serde(default)]
    pub ended: Option<String>,
}

/// The lock file that this library was built from.
const LOCK: &str = include_str!("../../../Cargo.lock");
/// Crates whose version may change a number.
const CRATES: [&str; 5] = ["candle-core", "gemm", "image", "rand_chacha", "tokenizers"];

/// Versions of this library and of the crates that compute.
pub(super) fn versions() -> BTreeMap<String, String> {
    let mut found = BTreeMap::from([
        ("glassbox".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        (
            "machine".to_owned(),
            format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        ),
    ]);
    for package in LOCK.split("[[package]]") {
        let field = |name: &str| {
            let mut lines = package.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            value.map(|value| value.trim_matches('"'))
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else {
            continue;
        };
        if CRATES.contains(&name) {
            found.insert(name.to_owned(), version.to_owned());
        }
    }
    found
}

impl AboutRun {
    /// Reads a run's `run.json`.
    ///
    /// # Errors
    /// `Io` when there is none; `Json` when it is damaged; `Config` for one of a newer layout.
    pub fn read(folder: &Path) -> Result<AboutRun> {
        let path = folder.join(FILE);
        let text = files::text(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        files::of_format(&path, &text, FORMAT, "the run was written")
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(FILE), self)
    }
}

/// The name of the file.
pub(crate) const FILE: &str = "run.json";

/// Writes a value as JSON beside `path` and moves it in its place.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })?;
    files::write_whole(path, &text)
}

/// A value as a line of JSON lines; `path` is where it is to stand, for the error.
pub(super) fn json_line<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let found = versions();
        for name in CRATES {
            let version = found.get(name).unwrap_or_else(|| panic!("{name}"));
            assert!(
                version.starts_with(|first: char| first.is_ascii_digit()),
                "{version}"
            );
        }
    }
}
