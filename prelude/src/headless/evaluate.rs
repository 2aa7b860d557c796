//! `glassbox evaluate`: a run, or the file of one → the scores of its model on held-out pictures, beside baselines.

use std::path::Path;

use super::data::Sets;
use super::{FILE, MODEL, RunConfig};
use crate::evaluate::{Evaluation, Evaluator};
use crate::parallel::group::together;
use crate::train::checkpoints::{best_run_checkpoint, no_such_step};
use crate::train::{Trainer, run_checkpoints};
use crate::vlm::Vlm;
use crate::{Error, Result};

impl RunConfig {
    /// Reads the file of a run: the file itself, or the folder of a run.
    ///
    /// # Errors
    /// As [`RunConfig::read`]; `Input` for a folder that is none of a run.
    pub fn of_run(path: impl AsRef<Path>) -> Result<RunConfig> {
        let path = path.as_ref();
        if !path.is_dir() {
            return RunConfig::read(path);
        }
        let file = path.join(FILE);
        if !file.is_file() {
            return Err(Error::Input(format!(
                "{} has no {FILE}: it is not the folder of a run that `glassbox train` made",
                path.display()
            )));
        }
        Ok(RunConfig {
            output: path.to_path_buf(),
            ..RunConfig::read(file)?
        })
    }

    /// Scores the run's model as it is after the last step on held-out pictures, and writes the table into the run's folder as
    /// `scores.txt`. Under `mpirun` or `srun` each process answers its part of the pictures, and the first one writes.
    ///
    /// # Errors
    /// `Input` when the run has no model yet; whatever loading and evaluating report.
    pub fn evaluate(&self) -> Result<Evaluation> {
        self.evaluate_at(Scored::Last)
    }

    /// As [`RunConfig::evaluate`], for another state of the run: that of its best checkpoint, or of one by its step. The table goes into
    /// `scores-best.txt` or `scores-step-00000100.txt`.
    ///
    /// # Errors
    /// `Checkpoint` when that checkpoint is not there or damaged, naming those that are; and as [`RunConfig::evaluate`].
    pub fn evaluate_at(&self, scored: Scored) -> Result<Evaluation> {
        together(|group| {
            let opened = self.opened_at(scored);
            let (vlm, of, sets, evaluator) = group.agree(opened)?;
            let mut evaluation = evaluator.run_in(group, &vlm, &sets.validation)?;
            evaluation.of = Some(of);
            let kept = match group.leads() {
                true => self.keep_scores(scored, &evaluation),
                false => Ok(()),
            };
            group.agree(kept.map(|()| evaluation))
        })
    }

    /// A state of the run's model, which it is in words, and what it is asked.
    fn opened_at(&self, scored: Scored) -> Result<(Vlm, String, Sets, Evaluator)> {
        let (vlm, of) = self.state(scored)?;
        let sets = self.data.open(self.seed)?;
        let evaluator = self
            .evaluate
            .evaluator(&self.data, &sets.train, self.seed)?;
        Ok((vlm, of, sets, evaluator))
    }

    fn keep_scores(&self, scored: Scored, evaluation: &Evaluation) -> Result<()> {
        let text = crate::display::Render::render(evaluation);
        let file = match scored {
            Scored::Last => "scores.txt".to_owned(),
            Scored::Best => "scores-best.txt".to_owned(),
            Scored::Step(step) => format!("scores-step-{step:08}.txt"),
        };
        crate::files::write_whole(
            &self.output.join(file),
            format!("{}\n", text.plain()).as_bytes(),
        )
    }

    /// A state of the run's model, and which it is in words.
    pub(super) fn state(&self, scored: Scored) -> Result<(Vlm, String)> {
        let folder = self.checkpoints().folder;
        let (checkpoint, said) = match scored {
            Scored::Last => {
                let trained = self.output.join(MODEL);
                if !trained.is_dir() {
                    return Err(Error::Input(format!(
                        "{} holds no trained model: `glassbox train` makes one",
                        self.output.display()
                    )));
                }
                let vlm = self.model.load_trained(&self.settings, &trained)?;
                return Ok((vlm, "the model after the last step".to_owned()));
            }
            Scored::Best => {
                let (best, figure) = best_run_checkpoint(&folder)?;
                let by = &self.trainer.best_by.figure;
                (best, format!(", the best by {by} ({figure:.4})"))
            }
            Scored::Step(step) => {
                let all = run_checkpoints(&folder)?;
                let found = all.iter().find(|one| one.step == step);
                let one = found.ok_or_else(|| no_such_step(&folder, step, &all))?;
                (one.clone(), String::new())
            }
        };
        let vlm = self.model.load(&self.settings, self.seed)?;
        Trainer::load_weights(&checkpoint.folder, &vlm)?;
        Ok((
            vlm,
            format!("the model after step {}{said}", checkpoint.step),
        ))
    }
}

/// Which state of a run's model is scored.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("scored-{}", std::process::id()));
/// let run = RunConfig::new(&folder, ModelConfig::preset("tiny"), DataConfig::shapes())?;
/// // After `run.train(Resume::No)` this scores the state after step 100; here nothing was trained yet.
/// let error = run.evaluate_at(Scored::Step(100)).unwrap_err();
/// assert!(error.to_string().contains("holds no checkpoint"));
/// assert_eq!(Scored::default(), Scored::Last);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scored {
    /// As it is after the last step.
    #[default]
    Last,
    /// As it was when the figure of the trainer's `best_by` was at its best.
    Best,
    /// As it was after so many steps, if a checkpoint of them is kept.
    Step(usize),
}
