//! All runs of a folder: a table, their curves over each other, and what differs between the settings of two.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Run;
use super::about;
use crate::display::{Cell, LinePlot, Table, limits, number};
use crate::{Error, Result};

/// Settings that a table of runs shows: those that differ between them, at most so many.
const MOST_SETTINGS: usize = 6;

/// What is among the settings and changes no number: where things lie, and whether the run is shown.
const NO_SETTINGS: [&str; 6] = [
    "trainer.run",
    "trainer.log",
    "trainer.quiet",
    "trainer.checkpoints.folder",
    "trainer.features.folder",
    "trainer.pictures.folder",
];

/// The settings of a run by their paths, without what is none.
fn settings_of(run: &Run) -> BTreeMap<String, String> {
    let mut settings = flat(&run.config);
    settings.retain(|name, _| !NO_SETTINGS.contains(&name.as_str()));
    settings
}

/// The runs of a folder, by name. Shows itself as a table.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("runs-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// for seed in [0, 1] {
///     let run = Some(folder.join(format!("seed-{seed}")));
///     let settings = TrainerSettings { seed, steps: 1, batch_size: 1, run, ..TrainerSettings::tour() };
///     Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// }
/// let runs = Runs::open(folder)?; // shows itself as a table and curves
/// assert_eq!(runs.all().len(), 2);
/// assert_eq!(runs.get("seed-1")?.about.seed, 1);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Runs {
    folder: PathBuf,
    runs: Vec<Run>,
    /// Folders that look like runs and can't be read, with the reason.
    unreadable: Vec<String>,
}

impl Runs {
    /// Finds the runs in `folder`: its folders that have a `run.json`, and those in them, such as the runs of a sweep.
    ///
    /// # Errors
    /// `Io` when there is no such folder; `Input` when no run is in it.
    pub fn open(folder: impl AsRef<Path>) -> Result<Runs> {
        let folder = folder.as_ref();
        let mut found = Vec::new();
        find(folder, 3, &mut found)?;
        found.sort();
        let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
        for path in found {
            match Run::open(&path) {
                Ok(run) => runs.push(run),
                Err(error) => unreadable.push(error.to_string()),
            }
        }
        if runs.is_empty() && unreadable.is_empty() {
            return Err(Error::Input(format!(
                "{} holds no run: a trainer with `run: Some(\"{}/NAME\".into())` in its settings writes one",
                folder.display(),
                folder.display()
            )));
        }
        Ok(Runs {
            folder: folder.to_path_buf(),
            runs,
            unreadable,
        })
    }

    /// Every run.
    pub fn all(&self) -> &[Run] {
        &self.runs
    }

    /// A run by its name: the path below the folder.
    ///
    /// # Errors
    /// `Input` when there is none of that name; says which there are.
    pub fn get(&self, name: &str) -> Result<&Run> {
        let found = self.runs.iter().find(|run| self.name(run) == name);
        found.ok_or_else(|| {
            let names: Vec<String> = self.runs.iter().map(|run| self.name(run)).collect();
            Error::Input(format!(
                "there is no run {name:?} in {}: {}",
                self.folder.display(),
                names.join(", ")
            ))
        })
    }

    /// The path of a run below the folder.
    fn name(&self, run: &Run) -> String {
        let path = run.folder.strip_prefix(&self.folder);
        match path.map(|path| path.display().to_string()) {
            Ok(path) if !path.is_empty() => path,
            _ => run.name(),
        }
    }

    /// The losses of all runs over each other.
    pub fn curves(&self) -> LinePlot {
        let title = self.folder.display().to_string();
        let plot = self.runs.iter().fold(LinePlot::new(title), |plot, run| {
            plot.run(self.name(run), run)
        });
        plot.size(640, 360)
    }

    /// What differs between the settings, data and versions of two runs.
    ///
    /// # Errors
    /// As [`Runs::get`].
    pub fn difference(&self, one: &str, other: &str) -> Result<Difference> {
        Ok(Difference::new(self.get(one)?, self.get(other)?))
    }

    /// The runs as rows; of their settings those that are not the same in all.
    pub fn table(&self) -> Table {
        let settings: Vec<BTreeMap<String, String>> = self.runs.iter().map(settings_of).collect();
        let mut names: Vec<&String> = settings.iter().flat_map(BTreeMap::keys).collect();
        names.sort();
        names.dedup();
        let all = settings.len();
        let differs = |name: &&&String| {
            let first = settings.first().and_then(|settings| settings.get(**name));
            all > 1 && settings.iter().any(|other| other.get(**name) != first)
        };
        let differing: Vec<&&String> = names.iter().filter(differs).collect();
        let shown = &differing[..differing.len().min(MOST_SETTINGS)];
        let mut table = Table::new([
            "run",
            "state",
            "steps",
            "loss",
            "validation",
            "time",
            "begun",
        ])
        .headings(shown.iter().map(|name| name.to_string()))
        .title(format!(
            "{} in {}",
            crate::display::containers::plural(all, "run"),
            self.folder.display()
        ));
        let mut notes = Vec::new();
        if differing.len() > shown.len() {
            notes.push(format!(
                "{} more settings differ: `.difference(one, other)?` shows all",
                differing.len() - shown.len()
            ));
        }
        notes.extend(self.unreadable.iter().map(|why| format!("left out: {why}")));
        table = table.note(notes.join("; "));
        for (run, settings) in self.runs.iter().zip(&settings) {
            let figure =
                |value: Option<f64>| Cell::figure(value.map(number::float).unwrap_or_default());
            let mut cells = vec![
                Cell::text(self.name(run)),
                run.about.state.name().into(),
                Cell::figure(run.steps_made()),
                figure(run.recent_loss()),
                figure(run.validation_loss()),
                Cell::figure(number::time(run.seconds())),
                Cell::text(run.about.begun.clone()),
            ];
            cells.extend(shown.iter().map(|name| {
                let value = settings.get(name.as_str());
                Cell::code(
                    value
                        .map(|value| limits::shortened(value, 40))
                        .unwrap_or_default(),
                )
            }));
            table.push(cells);
        }
        table.whole()
    }
}

/// Folders with a `run.json`, `depth` levels down at most.
fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join(about::FILE).is_file() {
        found.push(folder.to_path_buf());
        return Ok(());
    }
    let failed = |source| Error::Io {
        path: folder.to_path_buf(),
        source,
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Links are not followed: one may lead back here.
        if depth > 0 && entry.file_type().map_err(failed)?.is_dir() {
            find(&entry.path(), depth - 1, found)?;
        }
    }
    Ok(())
}

/// A setting by its path, as `trainer.learning_rate`, and its value as text.
pub(crate) fn flat(config: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    let path = match path.is_empty() {
                        true => key.clone(),
                        false => format!("{path}.{key}"),
                    };
                    walk(&path, value, found);
                }
            }
            Value::String(text) => drop(found.insert(path.to_owned(), text.clone())),
            Value::Null => drop(found.insert(path.to_owned(), "none".to_owned())),
            other => drop(found.insert(path.to_owned(), other.to_string())),
        }
    }
    let mut found = BTreeMap::new();
    walk("", config, &mut found);
    found
}

/// What differs between two runs. Shows itself as a table.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("difference-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// for (name, rate) in [("slow", 0.001), ("fast", 0.01)] {
///     let run = Some(folder.join(name));
///     let settings = TrainerSettings { learning_rate: rate, steps: 1, batch_size: 1, run, ..TrainerSettings::tour() };
///     Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// }
/// let difference = Runs::open(folder)?.difference("slow", "fast")?;
/// assert!(difference.rows().iter().any(|(name, _, fast)| name.ends_with("learning_rate") && fast.as_deref() == Some("0.01")));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Difference {
    names: (String, String),
    /// Name, and its value in each; none where one lacks it.
    rows: Vec<(String, Option<String>, Option<String>)>,
    same: usize,
}

impl Difference {
    /// Compares settings, data and versions; where a run lies and whether it was shown is no setting.
    pub fn new(one: &Run, other: &Run) -> Difference {
        let all = |run: &Run| {
            let mut all = settings_of(run);
            for data in &run.about.data {
                let examples = data.examples.to_string();
                all.insert(format!("data.{}.examples", data.role), examples);
                let hash = data.hash.clone().unwrap_or_else(|| "unknown".into());
                all.insert(format!("data.{}.hash", data.role), hash);
            }
            for (name, version) in &run.about.versions {
                all.insert(format!("version.{name}"), version.clone());
            }
            all
        };
        let (left, right) = (all(one), all(other));
        let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
        names.sort();
        names.dedup();
        let all_rows = names.into_iter().map(|name| {
            let values = (left.get(name).cloned(), right.get(name).cloned());
            (name.clone(), values.0, values.1)
        });
        let (rows, same): (Vec<_>, Vec<_>) = all_rows.partition(|(_, one, other)| one != other);
        Difference {
            names: (one.name(), other.name()),
            rows,
            same: same.len(),
        }
    }

    /// Name, and its value in each run.
    pub fn rows(&self) -> &[(String, Option<String>, Option<String>)] {
        &self.rows
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(["setting"])
            .headings([self.names.0.clone(), self.names.1.clone()])
            .title(match self.rows.len() {
                0 => "no setting differs".to_owned(),
                rows => format!("{} of {} differ", rows, rows + self.same),
            })
            .fold_after(60);
        for (name, one, other) in &self.rows {
            let value = |value: &Option<String>| match value {
                Some(value) => Cell::code(limits::shortened(value, 80)),
                None => Cell::text("–"),
            };
            table.push(vec![Cell::code(name.as_str()), value(one), value(other)]);
        }
        table
    }
}
