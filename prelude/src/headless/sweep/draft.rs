//! A sweep before it is written: the file of a run × what it is over → a run of each combination, every one checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::axis::{Axis, text};
use super::{SweepFolder, folder_of};
use crate::display::containers::plural;
use crate::headless::document::{Document, fields_of};
use crate::headless::{CHECKPOINTS, FILE, Resume, RunConfig};
use crate::parallel::group::together;
use crate::train::TrainerSettings;
use crate::vlm::VlmSettings;
use crate::{Error, Result, files};

/// More runs than a job array of Slurm may have as it is set up (`MaxArraySize`).
const MOST: usize = 1000;

/// The runs of a sweep, checked and not written yet.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// # let folder = std::env::temp_dir().join(format!("sweep-draft-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).ok();
/// # let file = folder.join("run.toml");
/// let base = RunConfig::new(folder.join("runs"), ModelConfig::preset("tiny"), DataConfig::shapes())?;
/// base.write(&file)?;
/// let draft = SweepDraft::new(&file, ["trainer.learning_rate=1e-3,3e-3", "seed=1,2,3"], None)?;
/// assert_eq!(draft.write(Resume::No)?.count(), 6);
/// // What is no setting is refused before anything is written.
/// assert!(SweepDraft::new(&file, ["trainer.lerning_rate=1,2"], None).is_err());
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SweepDraft {
    pub(super) folder: PathBuf,
    pub(super) axes: Vec<Axis>,
    pub(super) configs: Vec<RunConfig>,
}

impl SweepDraft {
    /// Every combination of the values of `over`, such as `"trainer.learning_rate=1e-4,3e-4"`, on top of the file of a run. The last
    /// changes fastest. The sweep's folder is the file's `output` unless another is given; each run has a folder in it, named by its number.
    ///
    /// # Errors
    /// `Config` for what is no setting, a value that a setting can't have (in any of the combinations), two runs that are the same,
    /// more than 1,000 runs, a file with which all runs would write into one place; `Io` when the file can't be read.
    pub fn new<S: AsRef<str>>(
        file: impl AsRef<Path>,
        over: impl IntoIterator<Item = S>,
        output: Option<&Path>,
    ) -> Result<SweepDraft> {
        let file = file.as_ref();
        let mut base = Document::read(file)?;
        let axes = over.into_iter().map(|text| Axis::parse(text.as_ref()));
        let axes: Vec<Axis> = axes.collect::<Result<_>>()?;
        check_axes(&base, &axes)?;
        let folder = match (output, base.value.get("output")) {
            (Some(folder), _) => folder.to_path_buf(),
            (None, Some(Value::String(folder))) => PathBuf::from(folder),
            // What is missing or of another kind is said as it is for a run.
            (None, _) => RunConfig::of(base.clone())?.output,
        };
        one_place(&mut base)?;
        let mut draft = SweepDraft {
            folder,
            axes,
            configs: Vec::new(),
        };
        let count = draft.axes.iter().map(|axis| axis.values.len());
        let count = count.fold(1usize, usize::saturating_mul);
        if count > MOST {
            let sizes = draft.axes.iter().map(|axis| axis.values.len().to_string());
            return Err(Error::Config(format!(
                "the sweep has {} = {count} runs, and may have {MOST}: leave values out, or make several sweeps of it",
                sizes.collect::<Vec<_>>().join(" × ")
            )));
        }
        let mut same = BTreeMap::new();
        for number in 0..count {
            let values = values_of(&draft.axes, number);
            let words = words(&draft.axes, &values);
            let mut document = base.clone();
            document.rename(format!("{} with {words}", file.display()));
            for (axis, value) in draft.axes.iter().zip(&values) {
                document.set(&axis.key, (*value).clone())?;
            }
            document.set("output", "".into())?;
            let mut config = RunConfig::of(document)?;
            let twin = same.insert(config.to_toml()?, words.clone());
            if let Some(twin) = twin {
                return Err(Error::Config(format!(
                    "two runs of the sweep are the same: {twin}, and {words}"
                )));
            }
            let output = folder_of(&draft.folder, number);
            if let Some(checkpoints) = &mut config.trainer.checkpoints {
                checkpoints.folder = output.join(CHECKPOINTS);
            }
            config.output = output;
            draft.configs.push(config);
        }
        Ok(draft)
    }

    /// Writes the sweep's folder: a folder with its `run.toml` for each run, and `sweep.json`. With [`Resume::Yes`] the folder is to
    /// hold the same sweep already, which is gone on with. Of several ranks the first one writes.
    ///
    /// # Errors
    /// `Input` for a folder that is there and not empty (or, with `Resume::Yes`, holds no sweep); `Config` listing what differs from
    /// the sweep that is there; `Io`.
    pub fn write(&self, resume: Resume) -> Result<SweepFolder> {
        together(|group| match group.leads() {
            true => self.write_here(resume),
            false => Ok(self.written()),
        })
    }

    /// The sweep as it is once it is written.
    fn written(&self) -> SweepFolder {
        SweepFolder {
            folder: self.folder.clone(),
            axes: self.axes.clone(),
        }
    }

    fn write_here(&self, resume: Resume) -> Result<SweepFolder> {
        let folder = &self.folder;
        if resume == Resume::Yes {
            return self.same_as(SweepFolder::open(folder)?);
        }
        if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
            || folder.is_file()
        {
            let what = match SweepFolder::is_at(folder) {
                true => {
                    "holds a sweep already: --resume goes on with it, another folder (--output) begins another"
                }
                false => {
                    "is there already and not empty: give another folder (--output), or move it away"
                }
            };
            return Err(Error::Input(format!("{} {what}", folder.display())));
        }
        let failed = |source| Error::Io {
            path: folder.clone(),
            source,
        };
        // Beside it and moved in its place: a folder that was half written is none.
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = folder.with_file_name(name);
        let sweep = self.written();
        let written = || -> Result<()> {
            for (number, config) in self.configs.iter().enumerate() {
                let own = folder_of(&part, number);
                std::fs::create_dir_all(&own).map_err(failed)?;
                config.write(own.join(FILE))?;
            }
            files::write_whole(&part.join(super::FILE), sweep.json()?.as_bytes())?;
            std::fs::rename(&part, folder).map_err(failed)
        };
        written().inspect_err(|_| drop(std::fs::remove_dir_all(&part)))?;
        Ok(sweep)
    }

    /// `a sweep of 6 runs for runs/first, not written yet`
    pub(in crate::headless) fn sentence(&self) -> String {
        format!(
            "a sweep of {} for {}, not written yet",
            plural(self.configs.len(), "run"),
            self.folder.display()
        )
    }

    /// The sweep that is there, if it is this one.
    fn same_as(&self, there: SweepFolder) -> Result<SweepFolder> {
        if there.axes != self.axes {
            let all = |axes: &[Axis]| {
                let all = axes.iter().map(|axis| {
                    let values: Vec<String> = axis.values.iter().map(text).collect();
                    format!("{}={}", axis.key, values.join(","))
                });
                all.collect::<Vec<_>>().join(" ")
            };
            return Err(Error::Config(format!(
                "the sweep in {} is over {}, and this one over {}: give another folder (--output)",
                self.folder.display(),
                all(&there.axes),
                all(&self.axes)
            )));
        }
        for (number, config) in self.configs.iter().enumerate() {
            config.check_same(&there.config(number)?)?;
        }
        Ok(there)
    }
}

/// What the axes name is a setting, once, and none that the sweep sets itself.
fn check_axes(base: &Document, axes: &[Axis]) -> Result<()> {
    if axes.is_empty() {
        return Err(Error::Config(
            "a sweep is over something: --over trainer.learning_rate=1e-4,3e-4".into(),
        ));
    }
    for (at, axis) in axes.iter().enumerate() {
        let key = axis.key.as_str();
        let wrong = |what: &str| {
            Err(Error::Config(format!(
                "the sweep can't be over {key}: {what}"
            )))
        };
        if axes[..at].iter().any(|other| other.key == key) {
            return wrong("it is there twice; give all its values in one list");
        }
        let sets = [
            "output",
            "trainer.run",
            "trainer.log",
            "trainer.checkpoints.folder",
        ];
        if sets.contains(&key) {
            return wrong("each run has a folder of its own in the sweep's, which --output names");
        }
        // What stands in a section, named without it.
        let sections = [
            ("trainer", fields_of::<TrainerSettings>()),
            ("settings", fields_of::<VlmSettings>()),
        ];
        let first = key.split('.').next().unwrap_or_default();
        let section = sections.iter().find(|(_, fields)| fields.contains(&first));
        if let (Some((section, _)), false) =
            (section, base.value.contains_key(first) || first == "seed")
        {
            return wrong(&format!(
                "there is no such setting; did you mean {section}.{key}?"
            ));
        }
    }
    Ok(())
}

/// Refuses a file by which all runs would write into one place, and forgets a place that was its `output`'s.
fn one_place(base: &mut Document) -> Result<()> {
    let own = match base.value.get("output") {
        Some(Value::String(output)) => Path::new(output).join(CHECKPOINTS),
        _ => PathBuf::new(),
    };
    let name = |key: &str, base: &Document| {
        base.wrong(
            key,
            "is one place, and every run of a sweep needs its own: leave it out",
        )
    };
    let trainer = base.value.get_mut("trainer").and_then(Value::as_object_mut);
    let Some(trainer) = trainer else {
        return Ok(());
    };
    let checkpoints = trainer
        .get_mut("checkpoints")
        .and_then(Value::as_object_mut);
    let folder = checkpoints.and_then(|checkpoints| checkpoints.remove("folder"));
    let logged = trainer.get("log").is_some_and(|log| log != "none");
    if folder.is_some_and(|folder| folder.as_str().map(Path::new) != Some(&own)) {
        return Err(name("trainer.checkpoints.folder", base));
    }
    match logged {
        true => Err(name("trainer.log", base)),
        false => Ok(()),
    }
}

/// The values of the run of this number: the last axis changes fastest.
pub(super) fn values_of(axes: &[Axis], mut number: usize) -> Vec<&Value> {
    let mut values = Vec::new();
    for axis in axes.iter().rev() {
        let count = axis.values.len().max(1);
        values.extend(axis.values.get(number % count));
        number /= count;
    }
    values.reverse();
    values
}

/// `trainer.learning_rate=0.001, seed=2`
pub(super) fn words(axes: &[Axis], values: &[&Value]) -> String {
    let each = axes.iter().zip(values);
    let each = each.map(|(axis, value)| format!("{}={}", axis.key, text(value)));
    each.collect::<Vec<_>>().join(", ")
}
