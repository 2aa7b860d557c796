//! Training: a [`crate::vlm::Vlm`] and captioned pictures (or other inputs) → the same model, better at captioning.
//!
//! # Layout
//! - [`trainer`]: [`Trainer`], the loop: steps, validation, live plot, interrupt; `step`: one step, from picks to moved parameters
//! - [`settings`]: [`TrainerSettings`], which files and checkpoints hold too; [`part`]: what may have a rate of its own
//! - [`gradients`]: the backward pass, gradients by parameter name, clipping; [`gradient_check`]: the first step's question
//!   whether everything that trains has one; `slope_check`: whether that of an encoder of one's own is the slope of the loss
//! - [`adamw`]: the optimizer, with torch's numbers; [`schedule_free`]: the blog's; [`optimizer`]: either
//! - [`schedule`]: the learning rate over a run
//! - [`set`]: what is learned from; `order`: which samples a step learns from, as a pure function of seed and step
//! - `inputs`: the examples themselves; `loader`: threads that read them ahead; [`features`]: what a frozen encoder makes of them,
//!   and [`pictures`]: as the image processor makes them, on disk (`kept`); [`unreadable`]: those that are left out
//! - [`validation`]: what is measured between steps, and which state is the best; [`callback`]: closures that see each step
//! - [`plan`]: what trains, and what memory and time it will take
//! - `begun`: which model a trainer belongs to
//! - [`log`]: the JSON-lines log
//! - `checkpoint`: a run on disk; [`checkpoints`]: those of a run, of which some are kept; `resume`: saving and going on
//! - `ranks`: what trainers of several processes tell each other ([`crate::parallel`])
//! - `recording`: the run's folder and the plot's small multiples; [`report`]: what is said after a run; `resident`: how much memory
//!   the process has
//! - the run's folder, and plots of runs: [`crate::runs`]
//!
//! A [`Trainer`] is a value that a cell keeps: an interrupted run goes on when `fit` is called again, with the numbers
//! it would have had.

pub mod adamw;
mod begun;
pub mod callback;
mod checkpoint;
pub mod checkpoints;
pub mod features;
pub mod gradient_check;
pub mod gradients;
mod inputs;
mod kept;
mod loader;
pub mod log;
mod moved_together;
pub mod optimizer;
mod order;
pub mod part;
pub mod pictures;
pub mod plan;
mod ranks;
mod recording;
pub mod report;
mod resident;
pub(crate) mod resume;
pub mod schedule;
pub mod schedule_free;
pub mod set;
pub mod settings;
mod show;
mod slope_check;
mod step;
pub mod trainer;
pub mod unreadable;
pub mod validation;

pub use adamw::{AdamW, AdamWConfig, Rates};
pub use callback::StepView;
pub use checkpoints::{RunCheckpoint, run_checkpoints};
pub use features::FeatureSettings;
pub use gradients::Gradients;
pub use log::{StepRecord, read_log};
pub use optimizer::OptimizerKind;
pub use part::{PartSettings, TrainedPart};
pub use pictures::{KeptPictures, PictureFile};
pub use plan::{PlannedPart, TrainPlan};
pub use report::TrainReport;
pub use schedule::Schedule;
pub use schedule_free::ScheduleFree;
pub use set::{Example, TrainingSet};
pub use settings::{
    BestBy, CheckpointSettings, EarlyStop, FailedSave, LossAverage, LossKind, NotFinite,
    SettingDifference, TooLong, TrainStage, TrainerConfig, TrainerSettings,
};
pub use trainer::Trainer;
pub use unreadable::Unreadable;
pub use validation::CaptionRecord;
