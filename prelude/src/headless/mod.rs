//! Training and evaluation by a file: what `glassbox train` and `glassbox evaluate` run, the same trainer as in a cell.
//!
//! # Layout
//! - [`config`]: [`RunConfig`], the file: model, settings, data, trainer, evaluation, output; read, checked, written
//! - `document`: TOML (or JSON) as a value whose keys know their lines; `nearest`: which known name a misspelled one is
//! - [`model`], [`data`], [`scoring`]: what its sections mean
//! - [`train`], [`evaluate`]: the two commands
//! - [`handover`]: a cell has `glassbox train` run the file, in the background or by Slurm
//! - [`sweep`]: many runs of one file, here one after another or as a job array of Slurm
//!
//! ```text
//! run.toml ─ RunConfig::read ─► model, data, trainer ─ train ─► OUTPUT/ run.toml · log.jsonl · … · checkpoints/ · model/
//!                                                   └ evaluate ◄── OUTPUT/model ─► scores beside baselines
//! ```

pub mod config;
pub mod data;
mod document;
pub mod evaluate;
pub mod handover;
pub mod model;
pub(crate) mod nearest;
pub mod scoring;
mod show;
pub mod sweep;
pub mod train;

pub use config::RunConfig;
pub use data::DataConfig;
pub use evaluate::Scored;
pub use handover::{HandedOver, JobState, JobStatus, Launch};
pub use model::ModelConfig;
pub use scoring::EvaluateConfig;
pub use sweep::{SlurmJob, SweepDraft, SweepFolder};
pub use train::Resume;

#[cfg(test)]
mod run_tests;

/// The resolved file in a run's folder.
const FILE: &str = "run.toml";
/// The trainer's checkpoints in a run's folder.
const CHECKPOINTS: &str = "checkpoints";
/// The fine-tune in a run's folder.
const MODEL: &str = "model";
