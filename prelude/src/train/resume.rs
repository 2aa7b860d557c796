//! Saving a run and going on with it: [`Trainer`] ⇄ a checkpoint's folder.

use std::path::{Path, PathBuf};

use super::begun::Begun;
use super::checkpoint::{self, Exact, Progress};
use super::checkpoints;
use super::optimizer::{Optimizer, OptimizerKind};
use super::part::TrainedPart;
use super::settings::{FailedSave, SettingDifference, TrainerSettings};
use super::trainer::{Run, Trainer};
use crate::nn::Parameter;
use crate::notes;
use crate::session::stopping::writing;
use crate::session::stopping_takes;
use crate::vlm::Vlm;
use crate::vlm::fingerprint::Fingerprints;
use crate::{Error, Result};

impl Trainer {
    /// Writes the trained parameters, the optimizer's state, the settings and the progress into `folder`, replacing what a trainer
    /// wrote there before.
    ///
    /// # Errors
    /// When a file can't be written; what was there before is then still there. `Input` for a folder that holds something else.
    /// `Config` for another model than the run was begun with.
    pub fn save(&self, folder: impl AsRef<Path>, vlm: &Vlm) -> Result<()> {
        if let Some(begun) = &self.begun {
            begun.check(vlm)?;
        }
        let parameters = vlm.trainable_parameters();
        // A base that trains is no longer the one that it began as.
        let frozen = |part| !matches!(part, TrainedPart::Llm | TrainedPart::Encoder);
        let base = match parameters.iter().map(TrainedPart::of).all(frozen) {
            true => Some(Fingerprints::of(vlm)?),
            false => None,
        };
        let progress = Progress {
            version: checkpoint::VERSION,
            seed: self.config.seed,
            batch_size: self.config.batch_size,
            step: self.step,
            tokens: self.tokens,
            seconds: self.seconds,
            untrained: self.untrained,
            records: self.records.iter().map(Exact::from).collect(),
            unreadable: self.unreadable.clone(),
            settings: Some(self.config.clone()),
            examples: self.examples,
            base,
            draws: Some(vlm.draw_places()),
            rate_factor: Some(self.rate_factor),
            cut: self.cut,
            waited: self.waited,
            watch: self.watch,
            captions: self.captions.clone(),
            files: Default::default(),
        };
        let _saving = stopping_takes(
            writing(written(self.config.optimizer, &parameters)),
            "saving the training run",
        );
        checkpoint::save(
            folder.as_ref(),
            &parameters,
            self.optimizer.state()?,
            progress,
        )
    }

    /// Takes over what [`Trainer::save`] wrote, into this trainer and into the model. With the same settings as the
    /// saved trainer, training goes on as if it had never stopped: with the same numbers, dropout's included (that of an encoder of
    /// one's own begins anew).
    ///
    /// # Errors
    /// `Checkpoint` when it is damaged, of a newer layout, or none, with the reason; when the model has other trainable parts or
    /// another base than the saved one; `Config` when settings differ that have a say in the steps, listing them
    /// ([`Trainer::load_changed`] takes them). Nothing is changed then.
    pub fn load(&mut self, folder: impl AsRef<Path>, vlm: &Vlm) -> Result<()> {
        let folder = folder.as_ref();
        self.take_over(folder, vlm, checkpoints::named(folder)?, Changes::Refused)
    }

    /// As [`Trainer::load`], with other settings than those of the saved trainer: from here on these count, and which differ
    /// is said. `seed`, `batch_size`, `accumulate`, `bucket` and `optimizer`
    /// must be the same.
    ///
    /// # Errors
    /// As [`Trainer::load`].
    pub fn load_changed(&mut self, folder: impl AsRef<Path>, vlm: &Vlm) -> Result<()> {
        let folder = folder.as_ref();
        self.take_over(folder, vlm, checkpoints::named(folder)?, Changes::Taken)
    }

    /// Goes on from the newest checkpoint of a run, `folder` being the `checkpoints.folder` of its settings; says which step that is.
    ///
    /// # Errors
    /// `Checkpoint` when there is none, or when the newest can't be used, with the reason and the one before it that can; and as
    /// [`Trainer::load`].
    pub fn resume(&mut self, folder: impl AsRef<Path>, vlm: &Vlm) -> Result<usize> {
        let (folder, progress) = checkpoints::newest(folder.as_ref())?;
        self.take_over(&folder, vlm, progress, Changes::Refused)?;
        Ok(self.step)
    }

    /// The settings that a checkpoint was written with; `None` for one of the first layout, which had none.
    ///
    /// # Errors
    /// `Checkpoint` when it is damaged or none.
    pub fn saved_settings(folder: impl AsRef<Path>) -> Result<Option<TrainerSettings>> {
        Ok(checkpoint::read(folder.as_ref())?.settings)
    }

    /// Puts the weights of a checkpoint into the model, nothing else: for using the best one.
    ///
    /// # Errors
    /// As [`Trainer::load`].
    pub fn load_weights(folder: impl AsRef<Path>, vlm: &Vlm) -> Result<()> {
        let folder = folder.as_ref();
        check_base(&checkpoints::named(folder)?, folder, vlm)?;
        checkpoint::read_parameters(folder, &vlm.trainable_parameters())?.set()
    }

    /// Where the best checkpoint lies, if there is one.
    pub fn best_checkpoint(&self) -> Option<PathBuf> {
        let kept = self.config.checkpoints.as_ref()?;
        let folder = checkpoints::at(&kept.folder, self.watch.best?.0);
        folder.is_dir().then_some(folder)
    }

    fn take_over(
        &mut self,
        folder: &Path,
        vlm: &Vlm,
        saved: Progress,
        changes: Changes,
    ) -> Result<()> {
        let differences = self.differences(&saved)?;
        let fixed = |one: &&SettingDifference| match changes {
            Changes::Refused => one.changes_steps(),
            Changes::Taken => {
                // Without these the place in the data, or the optimizer's state, is another's.
                let fixed = ["seed", "batch_size", "accumulate", "optimizer", "bucket"];
                fixed.contains(&one.name.as_str())
            }
        };
        let refused: Vec<String> = differences
            .iter()
            .filter(fixed)
            .map(ToString::to_string)
            .collect();
        if !refused.is_empty() {
            let hint = match changes {
                Changes::Refused => {
                    "use the saved ones, or go on with these by `trainer.load_changed(folder, &vlm)?`"
                }
                Changes::Taken => "use the saved ones for these",
            };
            return Err(Error::Config(format!(
                "{} was trained with other settings: {}; {hint}",
                folder.display(),
                refused.join(", ")
            )));
        }
        check_base(&saved, folder, vlm)?;
        let parameters = vlm.trainable_parameters();
        let mut optimizer = Optimizer::new(&self.config)?;
        optimizer.load_state(&checkpoint::read_optimizer(folder)?, vlm.device())?;
        let values = checkpoint::read_parameters(folder, &parameters)?;
        if let Some(draws) = &saved.draws {
            vlm.set_draw_places(draws)?;
        }
        values.set()?;
        if !differences.is_empty() {
            let list: Vec<String> = differences.iter().map(ToString::to_string).collect();
            notes::say(&format!(
                "{} was trained with other settings: {}",
                folder.display(),
                list.join(", ")
            ));
        }
        self.optimizer = optimizer;
        self.step = saved.step;
        self.tokens = saved.tokens;
        self.seconds = saved.seconds;
        self.waited = saved.waited;
        self.cut = saved.cut;
        self.rate_factor = saved.rate_factor.unwrap_or(1.0);
        self.untrained = saved.untrained;
        self.records = saved.records.into_iter().map(Into::into).collect();
        self.unreadable = saved.unreadable;
        self.captions = saved.captions;
        self.watch = saved.watch;
        self.stopped = None;
        self.examples = saved.examples;
        self.loaded = true;
        self.begun = (self.step > 0).then(|| Begun::with(vlm));
        Ok(())
    }

    /// Where the saved settings differ from this trainer's. The first layout had seed and batch size.
    fn differences(&self, saved: &Progress) -> Result<Vec<SettingDifference>> {
        let old = match &saved.settings {
            Some(settings) => settings.clone(),
            None => TrainerSettings {
                seed: saved.seed,
                batch_size: saved.batch_size,
                ..self.config.clone()
            },
        };
        old.differences(&self.config)
    }

    /// Writes a checkpoint after a step if one is due.
    pub(super) fn save_if_due(&mut self, run: &Run<'_>, is_best: bool) -> Result<()> {
        let Some(kept) = self.config.checkpoints.as_ref().filter(|_| !self.follows) else {
            return Ok(());
        };
        let due = kept.every > 0 && self.step.is_multiple_of(kept.every);
        match due || (is_best && kept.keep_best) {
            true => self.save_step(run),
            false => Ok(()),
        }
    }

    /// Writes the last checkpoint of a sitting, also of one that was interrupted.
    pub(super) fn saved_at_end(&mut self, run: &Run<'_>, outcome: Result<()>) -> Result<()> {
        let ended = matches!(outcome, Ok(()) | Err(Error::Interrupted));
        let new = self
            .records
            .last()
            .is_some_and(|last| last.step == self.step);
        let Some(kept) = self
            .config
            .checkpoints
            .as_ref()
            .filter(|_| ended && new && !self.follows)
        else {
            return outcome;
        };
        if !checkpoints::at(&kept.folder, self.step).exists() {
            return both(outcome, self.save_step(run));
        }
        outcome
    }

    /// Writes the checkpoint of this step and removes old ones. A failure is an error or a warning, by the settings.
    fn save_step(&mut self, run: &Run<'_>) -> Result<()> {
        let Some(kept) = self.config.checkpoints.clone() else {
            return Ok(());
        };
        self.unreadable = run.left_out.list().to_vec();
        self.optimizer.rest(&run.parameters)?;
        let folder = checkpoints::at(&kept.folder, self.step);
        let best = self.watch.best.map(|(step, _)| step);
        let saved = self
            .save(&folder, run.vlm)
            .and_then(|()| checkpoints::tidy(&kept, best));
        match (saved, kept.on_failure) {
            (Err(error), FailedSave::Warn) => {
                notes::say(&format!(
                    "the checkpoint of step {} could not be written, older ones stay and training goes on: {error}",
                    self.step
                ));
                Ok(())
            }
            (saved, _) => saved,
        }
    }
}

/// How training ended, or that what it made could not be saved; where both failed the second is said, and the first ends the run.
pub(crate) fn both<T>(trained: Result<T>, saved: Result<()>) -> Result<T> {
    match (trained, saved) {
        (Err(error), Err(unsaved)) => {
            notes::say(&format!(
                "what was made could not be saved either: {unsaved}"
            ));
            Err(error)
        }
        (trained, saved) => saved.and(trained),
    }
}

/// Bytes of a checkpoint: the weights, and what the optimizer keeps of each.
fn written(optimizer: OptimizerKind, parameters: &[Parameter]) -> usize {
    let values = parameters.iter().map(|p| p.tensor.elem_count());
    (1 + optimizer.moments()) * size_of::<f32>() * values.sum::<usize>()
}

/// What becomes of settings that differ from the saved ones and have a say in the steps.
#[derive(Clone, Copy)]
enum Changes {
    Refused,
    Taken,
}

/// Refuses a checkpoint of another base model.
fn check_base(saved: &Progress, folder: &Path, vlm: &Vlm) -> Result<()> {
    let differs = match &saved.base {
        Some(base) => base.differs(vlm)?,
        None => None,
    };
    match differs {
        None => Ok(()),
        Some(what) => Err(Error::Checkpoint {
            path: folder.to_path_buf(),
            message: format!(
                "was trained on another {what} than this model has: load it onto the one that it was trained on"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    /// Another bucket deals the samples into other steps: the place in the data was another's.
    #[test]
    fn a_changed_bucket_is_refused_also_where_changes_are_taken() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let settings = TrainerSettings::default();
        Trainer::new(settings.clone())?.save(folder.path().join("one"), &vlm)?;
        let bucketed = TrainerSettings {
            bucket: 4,
            ..settings.clone()
        };
        let mut trainer = Trainer::new(bucketed)?;
        let error = trainer.load_changed(folder.path().join("one"), &vlm);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("bucket 1 (here 4)"), "{error}");
        let faster = TrainerSettings {
            learning_rate: 1e-2,
            ..settings
        };
        Trainer::new(faster)?.load_changed(folder.path().join("one"), &vlm)
    }

    /// A model that could not be saved hid why training had ended.
    #[test]
    fn a_failed_save_does_not_hide_the_error_that_ended_training() {
        let full = || {
            Err(Error::Io {
                path: "model".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            })
        };
        assert!(matches!(
            both::<()>(Err(Error::Interrupted), full()),
            Err(Error::Interrupted)
        ));
        assert!(matches!(both(Ok(1), full()), Err(Error::Io { .. })));
        assert!(matches!(both(Ok(1), Ok(())), Ok(1)));
    }

    /// The time that saving may take was that of two moments, and schedule-free AdamW keeps three.
    #[test]
    fn a_schedule_free_checkpoint_is_as_long_as_its_three_moments_make_it() -> Result<()> {
        use crate::nn::Weight;
        let tensor = Tensor::zeros((5, 3), DType::F32, &Device::Cpu)?;
        let parameters = [Weight::trainable("w", &tensor)?.parameter()];
        assert_eq!(written(OptimizerKind::Adamw, &parameters), 15 * 3 * 4);
        assert_eq!(
            written(OptimizerKind::ScheduleFree, &parameters),
            15 * 4 * 4
        );
        Ok(())
    }
}
