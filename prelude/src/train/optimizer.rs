//! The trainer's optimizer: plain or schedule-free AdamW, by the settings.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::adamw::{AdamW, AdamWConfig, Rates};
use super::gradients::Gradients;
use super::schedule_free::ScheduleFree;
use super::settings::TrainerSettings;
use crate::Result;
use crate::nn::Parameter;

/// Which optimizer trains.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let optimizer = OptimizerKind::ScheduleFree;
/// let falling = TrainerSettings { optimizer, ..TrainerSettings::tour() };
/// assert!(falling.validate().is_err()); // it averages in place of a falling rate
/// TrainerSettings { schedule: Schedule::Warmup { warmup: 0.05 }, ..falling }.validate()?;
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// AdamW, whose rate a schedule lowers.
    #[default]
    Adamw,
    /// Schedule-free AdamW, as the blog has it: goes with a rate that is constant after a warm-up.
    ScheduleFree,
}

/// One of them, with its state.
pub(super) enum Optimizer {
    Adamw(AdamW),
    ScheduleFree(ScheduleFree),
}

impl OptimizerKind {
    /// What it keeps of each value that trains, in values.
    pub(super) fn moments(self) -> usize {
        match self {
            Self::Adamw => 2,
            Self::ScheduleFree => 3,
        }
    }
}

impl Optimizer {
    /// One that has seen nothing yet.
    ///
    /// # Errors
    /// `Config` when a setting is out of its range.
    pub(super) fn new(settings: &TrainerSettings) -> Result<Self> {
        let config = AdamWConfig {
            learning_rate: settings.learning_rate,
            weight_decay: settings.weight_decay,
            beta1: settings.beta1,
            beta2: settings.beta2,
            eps: settings.eps,
        };
        Ok(match settings.optimizer {
            OptimizerKind::Adamw => Self::Adamw(AdamW::new(config)?),
            OptimizerKind::ScheduleFree => Self::ScheduleFree(ScheduleFree::new(config)?),
        })
    }

    pub(super) fn step_by(
        &mut self,
        parameters: &[Parameter],
        gradients: &Gradients,
        rates: &dyn Fn(&Parameter) -> Rates,
    ) -> Result<()> {
        match self {
            Self::Adamw(adamw) => adamw.step_by(parameters, gradients, rates),
            Self::ScheduleFree(free) => free.step_by(parameters, gradients, rates),
        }
    }

    /// Before steps: has the model hold what gradients are taken at.
    pub(super) fn train(&mut self, parameters: &[Parameter]) -> Result<()> {
        match self {
            Self::Adamw(_) => Ok(()),
            Self::ScheduleFree(free) => free.train(parameters),
        }
    }

    /// After steps: has the model hold what is measured and saved.
    pub(super) fn rest(&mut self, parameters: &[Parameter]) -> Result<()> {
        match self {
            Self::Adamw(_) => Ok(()),
            Self::ScheduleFree(free) => free.rest(parameters),
        }
    }

    /// The state of one that rests.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::Adamw(adamw) => adamw.state(),
            Self::ScheduleFree(free) => free.state(),
        }
    }

    pub(super) fn load_state(
        &mut self,
        state: &BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<()> {
        match self {
            Self::Adamw(adamw) => adamw.load_state(state, device),
            Self::ScheduleFree(free) => free.load_state(state, device),
        }
    }
}
