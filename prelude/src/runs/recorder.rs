//! Writes a run's folder while training goes: each step as one JSON line and for TensorBoard, captions as they change, the curve at
//! the end.
//!
//! A run that goes on from a checkpoint drops what its log says of later steps: they are made again.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::about::{self, AboutRun, DataFacts, RunState};
use super::clock;
use super::events::Events;
use super::history::History;
use super::run::{CAPTIONS, CONFIG, CURVE, LOG, lines_of};
use crate::display::LinePlot;
use crate::train::StepRecord;
use crate::train::log::Log;
use crate::train::validation::CaptionRecord;
use crate::{Error, Result};

/// What is known of a run when it begins.
pub(crate) struct Beginning<'a> {
    /// Every setting that was in force.
    pub config: Value,
    pub seed: u64,
    /// Steps that it is to have.
    pub steps: usize,
    pub data: Vec<DataFacts>,
    /// The steps that were made before: none for a new run.
    pub earlier: &'a [StepRecord],
    pub untrained: Option<f64>,
}

/// An open run.
pub(crate) struct Recorder {
    folder: PathBuf,
    about: AboutRun,
    log: Log,
    events: Events,
}

impl Recorder {
    /// Begins a run in `folder`, or goes on with the one that is there.
    ///
    /// # Errors
    /// `Input` for a new run where another is; `Io` when the folder can't be written.
    pub(crate) fn begin(folder: &Path, beginning: &Beginning<'_>) -> Result<Recorder> {
        let there = folder.join(about::FILE).exists();
        if there && beginning.earlier.is_empty() {
            let old = AboutRun::read(folder)?;
            let made = lines_of::<StepRecord>(&folder.join(LOG))?.len();
            if made > 0 {
                return Err(Error::Input(format!(
                    "{} holds a run already ({made} of {} steps, {}): give another folder, go on with that run, or remove it",
                    folder.display(),
                    old.steps,
                    old.state.name()
                )));
            }
        }
        std::fs::create_dir_all(folder).map_err(|source| Error::Io {
            path: folder.to_path_buf(),
            source,
        })?;
        about::write_json(&folder.join(CONFIG), &beginning.config)?;
        let begun = match there {
            true => AboutRun::read(folder)?.begun,
            false => clock::now(),
        };
        let about = AboutRun {
            format: about::FORMAT,
            state: RunState::Running,
            result: String::new(),
            seed: beginning.seed,
            steps: beginning.steps,
            untrained: beginning.untrained,
            data: beginning.data.clone(),
            versions: about::versions(),
            begun,
            ended: None,
        };
        about.write(folder)?;
        let step = beginning.earlier.len();
        write_lines(&folder.join(LOG), beginning.earlier)?;
        let captions = lines_of::<CaptionRecord>(&folder.join(CAPTIONS))?;
        let kept: Vec<CaptionRecord> = captions
            .into_iter()
            .filter(|caption| caption.step <= step)
            .collect();
        if !kept.is_empty() || folder.join(CAPTIONS).exists() {
            write_lines(&folder.join(CAPTIONS), &kept)?;
        }
        Ok(Recorder {
            log: Log::append(&folder.join(LOG))?,
            // The validation loss before the first step is one of step 0.
            events: Events::begin(folder, if step == 0 { 0 } else { step + 1 })?,
            folder: folder.to_path_buf(),
            about,
        })
    }

    /// The validation loss before the first step.
    pub(crate) fn untrained(&mut self, loss: f64) -> Result<()> {
        self.about.untrained = Some(loss);
        self.about.write(&self.folder)?;
        self.events.scalars(0, [("loss/validation", loss)])
    }

    /// A step was made.
    pub(crate) fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.log.write(record)?;
        let own = [
            ("loss/training", Some(record.loss)),
            ("loss/validation", record.validation_loss),
            ("rate", Some(record.rate)),
            ("gradient/all", Some(record.norm)),
            ("tokens", Some(record.tokens as f64)),
        ];
        let own = own
            .into_iter()
            .filter_map(|(tag, value)| Some((tag, value?)));
        let own = own.map(|(tag, value)| (tag.to_owned(), value));
        let norms = record.norms.iter();
        let norms = norms.map(|(part, norm)| (format!("gradient/{part}"), *norm));
        let figures = record.metrics.iter();
        let figures = figures.map(|(name, value)| (format!("figures/{name}"), *value));
        let all: Vec<(String, f64)> = own.chain(norms).chain(figures).collect();
        let all = all.iter().map(|(tag, value)| (tag.as_str(), *value));
        self.events.scalars(record.step, all)
    }

    /// What the model says of fixed pictures after a step.
    pub(crate) fn captions(&mut self, said: &[CaptionRecord]) -> Result<()> {
        let path = self.folder.join(CAPTIONS);
        let mut lines = Vec::new();
        for record in said {
            lines.extend(about::json_line(&path, record)?);
            let tag = format!("captions/{}", record.picture);
            self.events.text(record.step, &tag, &record.caption)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(&lines));
        written.map_err(|source| Error::Io { path, source })
    }

    /// The run ended: how, in words, and its picture.
    pub(crate) fn end(
        &mut self,
        state: RunState,
        result: &str,
        history: &(impl History + ?Sized),
    ) -> Result<()> {
        let name = self.folder.file_name().unwrap_or_default();
        let plot = LinePlot::new(name.to_string_lossy()).run("training", history);
        crate::files::write_whole(&self.folder.join(CURVE), plot.figure()?.svg().as_bytes())?;
        self.about.state = state;
        self.about.result = result.to_owned();
        self.about.ended = Some(clock::now());
        self.about.write(&self.folder)
    }
}

/// Forgets the steps of a run that begins again.
pub(crate) fn restart(folder: &Path) -> Result<()> {
    for file in [LOG, CAPTIONS] {
        let path = folder.join(file);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes a file of JSON lines anew.
pub(super) fn write_lines<T: serde::Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let lines = values.iter().map(|value| about::json_line(path, value));
    let lines: Vec<Vec<u8>> = lines.collect::<Result<_>>()?;
    crate::files::write_whole(path, &lines.concat())
}
