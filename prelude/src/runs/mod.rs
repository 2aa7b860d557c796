//! What is left of training: one folder a run, tables and curves of many runs, and sweeps over settings.
//!
//! # Layout
//! - `run`: [`Run`], a run's folder read back; `recorder`: what writes it while training goes; `about`: its `run.json`
//! - `list`: [`Runs`], all runs of a folder as a table, as curves over each other, and what differs between two
//! - `history`: the steps of a run as lines of a plot, wherever they are kept
//! - `events`: the same figures for TensorBoard
//! - `sweep`: a grid or list of settings, tried one by one
//! - `clock`: the time of day; `hash`: what a set of examples is known by
//!
//! ```text
//! Trainer ─ recorder ─► runs/NAME/ config.json · run.json · log.jsonl · events.out.tfevents.… · captions.jsonl · curve.svg
//!                           └─ Run, Runs ─► table, curves, difference
//! ```

pub(crate) mod about;
mod clock;
pub(crate) mod events;
pub(crate) mod hash;
mod history;
pub(crate) mod list;
mod recorder;
mod run;
mod show;
mod sweep;

#[cfg(test)]
mod tests;

pub use about::{AboutRun, DataFacts, RunState};
pub use history::History;
pub use list::{Difference, Runs};
pub(crate) use recorder::{Beginning, Recorder, restart};
pub use run::Run;
pub use sweep::{Best, Scores, Sweep, SweepReport, Trial, TrialRecord};
