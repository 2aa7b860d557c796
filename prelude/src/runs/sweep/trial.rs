//! One choice of a sweep's values with a seed, and the scores that come of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::runs::hash::Hash;
use crate::{Error, Result};

/// Longest readable part of a trial's folder name.
const LONGEST: usize = 80;

/// One choice of a sweep's values, with a seed.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let trials = Sweep::grid("runs/sweep").over("rank", [2, 4])?.seeds(2).trials();
/// assert_eq!(trials.len(), 4);
/// let rank: usize = trials[1].get("rank")?;
/// assert_eq!((rank, trials[1].seed()), (4, 0)); // one seed of everything before the next
/// assert!(trials[1].get::<usize>("rnak").is_err());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Trial {
    values: Map<String, Value>,
    seed: u64,
    folder: PathBuf,
}

impl Trial {
    pub(super) fn new(values: Map<String, Value>, seed: u64, sweep: &Path) -> Trial {
        let mut words: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("{name}-{}", text(value)))
            .collect();
        words.push(format!("seed-{seed}"));
        let plain = |letter: char| match letter {
            letter if letter.is_ascii_alphanumeric() || "-_.".contains(letter) => letter,
            _ => '_',
        };
        let words: String = words.join("_").chars().map(plain).take(LONGEST).collect();
        let mut hash = Hash::default();
        hash.text(&Value::Object(values.clone()).to_string());
        hash.text(&seed.to_string());
        let folder = sweep.join(format!("{words}-{}", &hash.hex()[..8]));
        Trial {
            values,
            seed,
            folder,
        }
    }

    /// The value of an axis, as any type that JSON gives: a number, a text, a [`crate::projector::ProjectorKind`].
    ///
    /// # Errors
    /// `Input` when there is no such axis, or its value is of another type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let Some(value) = self.values.get(name) else {
            let names: Vec<&str> = self.values.keys().map(String::as_str).collect();
            return Err(Error::Input(format!(
                "the sweep has no axis {name:?}: it has {}",
                names.join(", ")
            )));
        };
        serde_json::from_value(value.clone()).map_err(|error| {
            Error::Input(format!(
                "the value {value} of the sweep's axis {name:?} is not what it is taken for: {error}"
            ))
        })
    }

    /// The seed, for model and trainer.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A folder of the trial's own, for `run` of the trainer's settings. It is emptied before the trial begins.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names with values as text.
    pub fn values(&self) -> impl Iterator<Item = (&str, String)> {
        let values = self.values.iter();
        values.map(|(name, value)| (name.as_str(), text(value)))
    }

    pub(super) fn map(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Removes what an earlier attempt left.
    pub(super) fn clear(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Io {
                path: self.folder.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// A value for people.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// Which of two figures is better.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::runs::Best;
///
/// let scores = Scores::new().higher("accuracy", 0.8).lower("loss", 0.31);
/// let loss = scores.iter().find(|(name, _, _)| *name == "loss");
/// assert_eq!(loss, Some(("loss", 0.31, Best::Lower)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Best {
    /// The higher, as of an accuracy.
    Higher,
    /// The lower, as of a loss.
    Lower,
}

/// Figures of a trial, by name.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let scores = Scores::new().higher("accuracy", 0.8).lower("loss", 0.31);
/// assert_eq!(scores.get("accuracy"), Some(0.8));
/// let names: Vec<&str> = scores.iter().map(|(name, _, _)| name).collect();
/// assert_eq!(names, ["accuracy", "loss"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scores {
    by_name: BTreeMap<String, (Figure, Best)>,
}

/// A figure; one that is not finite as text, which JSON has no number for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
struct Figure(f64);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl From<Figure> for Written {
    fn from(figure: Figure) -> Written {
        match figure.0.is_finite() {
            true => Written::Number(figure.0),
            false => Written::Text(figure.0.to_string()),
        }
    }
}

impl From<Written> for Figure {
    fn from(written: Written) -> Figure {
        match written {
            Written::Number(value) => Figure(value),
            Written::Text(text) => Figure(text.parse().unwrap_or(f64::NAN)),
        }
    }
}

impl Scores {
    /// None yet.
    pub fn new() -> Scores {
        Scores::default()
    }

    /// Adds a figure of which more is better.
    pub fn higher(self, name: impl Into<String>, value: f64) -> Scores {
        self.with(name.into(), value, Best::Higher)
    }

    /// Adds a figure of which less is better.
    pub fn lower(self, name: impl Into<String>, value: f64) -> Scores {
        self.with(name.into(), value, Best::Lower)
    }

    fn with(mut self, name: String, value: f64, best: Best) -> Scores {
        self.by_name.insert(name, (Figure(value), best));
        self
    }

    /// A figure by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.by_name.get(name).map(|(figure, _)| figure.0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Every figure with its name and which is better.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64, Best)> {
        let all = self.by_name.iter();
        all.map(|(name, (figure, best))| (name.as_str(), figure.0, *best))
    }
}
