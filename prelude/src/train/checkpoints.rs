//! The checkpoints of a run: `folder/step-00000100` and so on, of which the last few and the best are kept.

use std::path::{Path, PathBuf};

use super::checkpoint::{self, Progress};
use super::settings::CheckpointSettings;
use crate::{Error, Result, files};

const PREFIX: &str = "step-";

/// A checkpoint of a run, by its step.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("run-checkpoint-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let checkpoints = Some(CheckpointSettings { every: 1, ..CheckpointSettings::new(folder) });
/// let settings = TrainerSettings { steps: 1, batch_size: 1, checkpoints, ..TrainerSettings::tour() };
/// Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// let kept = run_checkpoints(folder)?;
/// assert_eq!(kept[0].step, 1);
/// Trainer::load_weights(&kept[0].folder, &vlm)?; // the model as it was after that step
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunCheckpoint {
    /// Steps that the run had done.
    pub step: usize,
    /// Where it lies.
    pub folder: PathBuf,
}

/// The checkpoints in a run's folder, the oldest first; none where there is no such folder. They may be damaged:
/// [`Trainer::resume`](super::Trainer::resume) looks at them.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("run-checkpoints-{}", std::process::id()));
/// # for step in ["step-00000100", "step-00000200"] {
/// #     std::fs::create_dir_all(folder.join(step)).ok();
/// # }
/// let kept = run_checkpoints(&folder)?; // such as "runs/a/checkpoints"
/// let steps: Vec<usize> = kept.iter().map(|checkpoint| checkpoint.step).collect();
/// assert_eq!(steps, [100, 200]);
/// assert!(run_checkpoints(folder.join("elsewhere"))?.is_empty());
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// When the folder can't be read.
pub fn run_checkpoints(folder: impl AsRef<Path>) -> Result<Vec<RunCheckpoint>> {
    let folder = folder.as_ref();
    let failed = |source| Error::Io {
        path: folder.to_path_buf(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let step = name.strip_prefix(PREFIX).and_then(|step| step.parse().ok());
        if let (Some(step), true) = (step, path.is_dir()) {
            found.push(RunCheckpoint { step, folder: path });
        }
    }
    found.sort();
    Ok(found)
}

/// Where the checkpoint of a step lies.
pub(super) fn at(folder: &Path, step: usize) -> PathBuf {
    folder.join(format!("{PREFIX}{step:08}"))
}

/// The newest checkpoint of a run, which must be whole.
///
/// # Errors
/// `Checkpoint` when there is none, or the newest is damaged: then the newest that is whole is named.
pub(super) fn newest(folder: &Path) -> Result<(PathBuf, Progress)> {
    let mut all = run_checkpoints(folder)?;
    let refused = |message: String| Error::Checkpoint {
        path: folder.to_path_buf(),
        message,
    };
    let Some(newest) = all.pop() else {
        return Err(refused(
            "holds no checkpoint of a run (folders named step-…): begin the run anew, or give the folder that the settings' \
             checkpoints.folder named"
                .into(),
        ));
    };
    let error = match checkpoint::read(&newest.folder) {
        Ok(progress) => return Ok((newest.folder, progress)),
        Err(error) => error,
    };
    Err(refused(match newest_whole(&all) {
        Some(one) => format!(
            "its newest checkpoint can't be used ({error}); the one before it that is whole is {}: go on from that with \
             `trainer.load({:?}, &vlm)?`, or move the damaged one away",
            one.folder.display(),
            one.folder.display().to_string()
        ),
        None => format!(
            "its newest checkpoint can't be used ({error}), and no older one is whole: begin the run anew"
        ),
    }))
}

/// The best checkpoint of a run with its figure, as the newest one says.
///
/// # Errors
/// `Checkpoint` when nothing was measured yet, or the best was not kept; and as [`newest`].
pub(crate) fn best_run_checkpoint(folder: &Path) -> Result<(RunCheckpoint, f64)> {
    let (_, progress) = newest(folder)?;
    let Some((step, figure)) = progress.watch.best else {
        return Err(Error::Checkpoint {
            path: folder.to_path_buf(),
            message: "says of no checkpoint that it is the best: nothing was measured before the newest was written".into(),
        });
    };
    let all = run_checkpoints(folder)?;
    match all.iter().find(|one| one.step == step) {
        Some(best) => Ok((best.clone(), figure)),
        None => Err(no_such_step(folder, step, &all)),
    }
}

/// What to say of a step without a checkpoint.
pub(crate) fn no_such_step(folder: &Path, step: usize, there: &[RunCheckpoint]) -> Error {
    let there: Vec<String> = there.iter().map(|one| one.step.to_string()).collect();
    Error::Checkpoint {
        path: folder.to_path_buf(),
        message: match there.is_empty() {
            true => "holds no checkpoint of a run".into(),
            false => format!(
                "keeps no checkpoint of step {step}, there are those of the steps {}: name one of them (how many are kept, and whether the \
                 best is, say keep_last and keep_best in the settings' checkpoints)",
                there.join(", ")
            ),
        },
    }
}

/// A checkpoint that is named by its own folder.
///
/// # Errors
/// As [`checkpoint::read`]; of one of a run that can't be used, the newest before it that is whole is named as well.
pub(super) fn named(folder: &Path) -> Result<Progress> {
    let (path, message) = match checkpoint::read(folder) {
        Err(Error::Checkpoint { path, message }) => (path, message),
        outcome => return outcome,
    };
    let siblings = folder.parent().map(run_checkpoints).transpose()?;
    let siblings = siblings.unwrap_or_default();
    let own = siblings.iter().position(|one| one.folder == folder);
    Err(Error::Checkpoint {
        path,
        message: match newest_whole(&siblings[..own.unwrap_or(0)]) {
            Some(one) => format!(
                "{message}; the one before it that is whole is {}",
                one.folder.display()
            ),
            None => message,
        },
    })
}

/// The last of these that is whole.
fn newest_whole(all: &[RunCheckpoint]) -> Option<&RunCheckpoint> {
    all.iter()
        .rev()
        .find(|one| checkpoint::read(&one.folder).is_ok())
}

/// A run that begins does not mix its checkpoints with those of an earlier one: of both the latest steps would be kept.
pub(super) fn none_of_another_run(folder: &Path) -> Result<()> {
    match run_checkpoints(folder)?.last() {
        None => Ok(()),
        Some(newest) => Err(Error::Input(format!(
            "{} holds checkpoints of another run, the newest of step {}: go on with it by `trainer.resume(…)`, give another folder, \
             or remove them",
            folder.display(),
            newest.step
        ))),
    }
}

/// Removes what is no longer kept: all but the last few and the one of step `best`; and what writers left that died.
pub(super) fn tidy(settings: &CheckpointSettings, best: Option<usize>) -> Result<()> {
    let all = run_checkpoints(&settings.folder)?;
    let old = all.len().saturating_sub(settings.keep_last);
    for one in &all[..old] {
        if settings.keep_best && best == Some(one.step) {
            continue;
        }
        // It is gone in one step: what is half removed must not look like a checkpoint.
        let aside = crate::files::unfinished(&one.folder);
        std::fs::rename(&one.folder, &aside)
            .and_then(|()| std::fs::remove_dir_all(&aside))
            .map_err(|source| Error::Io {
                path: one.folder.clone(),
                source,
            })?;
    }
    files::remove_leftovers(&settings.folder, PREFIX);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_and_the_best_stay_and_leftovers_go() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = |name: &str| folder.path().join(name);
        for name in [
            "step-00000010",
            "step-00000020",
            "step-00000030",
            "step-00000040",
            "notes",
            ".step-00000050.4294967295-0.part", // no process has this number
        ] {
            std::fs::create_dir(place(name)).expect("it is not there");
        }
        let own = crate::files::unfinished(&place("step-00000060"));
        std::fs::create_dir(&own).expect("it is not there");
        let settings = CheckpointSettings {
            keep_last: 2,
            ..CheckpointSettings::new(folder.path())
        };
        tidy(&settings, Some(10)).expect("all can be removed");
        let steps: Vec<usize> = run_checkpoints(folder.path())
            .expect("it can be read")
            .iter()
            .map(|one| one.step)
            .collect();
        assert_eq!(steps, [10, 30, 40]);
        assert!(place("notes").exists() && own.exists());
        assert!(!place(".step-00000050.4294967295-0.part").exists());
        assert_eq!(run_checkpoints(place("nowhere")).expect("none"), []);
    }
}
