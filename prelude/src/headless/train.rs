//! `glassbox train`: a file → a trained model in the run's folder, step by step the same as in a cell.
//!
//! An interrupt ends training after the last whole step; what was made is saved, and `--resume` goes on with the numbers that the run
//! would have had.

use super::data::Sets;
use super::{CHECKPOINTS, FILE, MODEL, RunConfig};
use crate::display::{MimeBundle, display};
use crate::parallel::group::together;
use crate::runs::{Run, about::FILE as RUN, list::flat, restart};
use crate::train::resume::both;
use crate::train::{
    CheckpointSettings, SettingDifference, TrainReport, Trainer, TrainerSettings, run_checkpoints,
};
use crate::vlm::Vlm;
use crate::{Error, Result};

/// Whether a run that is there is gone on with.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("resume-{}", std::process::id()));
/// let run = RunConfig::new(&folder, ModelConfig::preset("tiny"), DataConfig::shapes())?;
/// assert!(run.prepare(Resume::Yes).is_err()); // there is no run to go on with
/// run.prepare(Resume::No)?; // `run.train(Resume::No)` begins so
/// run.prepare(Resume::Yes)?;
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// A run in the folder is in the way.
    #[default]
    No,
    /// The run in the folder goes on.
    Yes,
}

/// Sections without which a resumed run makes the same steps.
const MAY_DIFFER: [&str; 3] = ["evaluate.", "output", "model.device"];

impl RunConfig {
    /// Makes the run's folder ready: refuses one that holds a run, or with [`Resume::Yes`] one that holds another or none, and
    /// writes the file with every setting into it. Of several ranks the first one does.
    ///
    /// # Errors
    /// `Input` when the folder holds a run (or none to go on with); `Config` listing what differs from the run that is there; `Io`.
    pub fn prepare(&self, resume: Resume) -> Result<()> {
        together(|group| match group.leads() {
            true => self.prepare_here(resume),
            false => Ok(()),
        })
    }

    fn prepare_here(&self, resume: Resume) -> Result<()> {
        let file = self.output.join(FILE);
        match resume {
            Resume::No => {
                let run = self.run_there()?;
                if let Some(run) = run.filter(|run| !run.records().is_empty()) {
                    return Err(Error::Input(format!(
                        "{} holds a run already ({} of {} steps, {}): --resume goes on with it, another `output` begins another",
                        self.output.display(),
                        run.records().len(),
                        run.about.steps,
                        run.about.state.name()
                    )));
                }
            }
            Resume::Yes if !file.is_file() => {
                return Err(Error::Input(format!(
                    "{} holds no run to go on with: leave --resume out to begin one",
                    self.output.display()
                )));
            }
            Resume::Yes => self.check_same(&RunConfig::read(&file)?)?,
        }
        std::fs::create_dir_all(&self.output).map_err(|source| Error::Io {
            path: self.output.clone(),
            source,
        })?;
        self.write(file)
    }

    /// The run that the output folder holds.
    ///
    /// # Errors
    /// `Input` for one that can't be read: it is a run all the same.
    fn run_there(&self) -> Result<Option<Run>> {
        if !self.output.join(RUN).exists() {
            return Ok(None);
        }
        Run::open(&self.output).map(Some).map_err(|error| {
            Error::Input(format!(
                "{} holds a run that can't be read ({error}): give another `output`, or move the folder away",
                self.output.display()
            ))
        })
    }

    /// Refuses to go on with other settings.
    pub(super) fn check_same(&self, old: &RunConfig) -> Result<()> {
        let (old, new) = (flat(&old.value(false)?), flat(&self.value(false)?));
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        let none = "not set".to_owned();
        let differing = names.into_iter().filter(|name| {
            let free = |name: &str| {
                let difference = SettingDifference {
                    name: name.to_owned(),
                    first: String::new(),
                    second: String::new(),
                };
                !difference.changes_steps()
            };
            old.get(*name) != new.get(*name)
                && !MAY_DIFFER.iter().any(|may| name.starts_with(may))
                && !name.strip_prefix("trainer.").is_some_and(free)
        });
        let differing: Vec<String> = differing
            .map(|name| {
                let (old, new) = (old.get(name), new.get(name));
                format!(
                    "{name} was {} and is {}",
                    old.unwrap_or(&none),
                    new.unwrap_or(&none)
                )
            })
            .collect();
        match differing.is_empty() {
            true => Ok(()),
            false => Err(Error::Config(format!(
                "{} was begun with other settings, and would not go on as it would have: {}. Use the old ones, or another output",
                self.output.display(),
                differing.join("; ")
            ))),
        }
    }

    /// Trains to the last step, or until it is interrupted, and saves what was made. The folder is to be ready
    /// ([`RunConfig::prepare`]). Under `mpirun` or `srun` all ranks train together ([`Trainer::fit`]), and the first one shows and saves;
    /// each reads model, data and, to go on, checkpoints from its own disk, so give all the same folders.
    ///
    /// # Errors
    /// `Interrupted` after an interrupt, with everything saved; `Rank` with what another rank reported; whatever loading, reading and
    /// training report.
    pub fn train(&self, resume: Resume) -> Result<TrainReport> {
        together(|group| {
            let opened = self.opened(resume, group.leads());
            let (vlm, sets, mut trainer) = group.agree(opened)?;
            let outcome = trainer.fit(&vlm, &sets.train, &sets.validation);
            match group.leads() {
                true => self.kept(&vlm, &trainer, outcome),
                false => outcome,
            }
        })
    }

    /// Model, data and a trainer, which stands where the run in the folder has come to.
    fn opened(&self, resume: Resume, leads: bool) -> Result<(Vlm, Sets, Trainer)> {
        let vlm = self.model.load(&self.settings, self.seed)?;
        let sets = self.data.open(self.seed)?;
        let checkpoints = self.checkpoints();
        let folder = checkpoints.folder.clone();
        let settings = TrainerSettings {
            seed: self.seed,
            run: Some(self.output.clone()),
            checkpoints: Some(checkpoints),
            ..self.trainer.clone()
        };
        let mut trainer = Trainer::new(settings)?;
        for section in ["model", "data"] {
            if let Some(value) = self.value(false)?.get(section) {
                trainer.note(section, value.clone());
            }
        }
        if leads {
            trainer.watch_pictures(sets.validation.pictures(self.evaluate.watch)?);
        }
        if resume == Resume::Yes {
            match run_checkpoints(&folder)?.is_empty() {
                false => drop(trainer.resume(&folder, &vlm)?),
                true if leads => {
                    said(
                        "no checkpoint was written before the run was stopped: it begins again with the first step",
                    );
                    restart(&self.output)?;
                }
                true => {}
            }
        }
        Ok((vlm, sets, trainer))
    }

    /// Saves what was made, however training ended.
    fn kept(
        &self,
        vlm: &Vlm,
        trainer: &Trainer,
        outcome: Result<TrainReport>,
    ) -> Result<TrainReport> {
        // What was made is kept, whatever ended it: the state is that of the last whole step.
        let saved = match trainer.step() {
            0 => Ok(()),
            _ => vlm.save(self.output.join(MODEL)),
        };
        let whole = saved.is_ok();
        let outcome = both(outcome, saved);
        if let (Err(Error::Interrupted), true) = (&outcome, whole) {
            said(&format!(
                "stopped after step {} of {}, saved in {}: `--resume` goes on",
                trainer.step(),
                self.trainer.steps,
                self.output.display()
            ));
        }
        outcome
    }

    /// Those of the file, or the usual ones in the run's folder.
    pub(super) fn checkpoints(&self) -> CheckpointSettings {
        match &self.trainer.checkpoints {
            Some(checkpoints) => checkpoints.clone(),
            None => CheckpointSettings::new(self.output.join(CHECKPOINTS)),
        }
    }
}

fn said(text: &str) {
    display(&MimeBundle::text(text));
}
