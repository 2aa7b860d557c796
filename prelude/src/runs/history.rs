//! The steps of a run as lines of a plot, wherever they are kept: a trainer, a run's folder, a list of records.

use crate::display::{LinePlot, LineStyle, live_plot};
use crate::train::{StepRecord, Trainer};

use super::Run;

/// Something that has the steps of a run.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let mut trainer = Trainer::new(TrainerSettings { steps: 2, batch_size: 1, ..TrainerSettings::tour() })?;
/// trainer.fit(&vlm, &set, &set)?;
/// assert_eq!(trainer.steps().len(), 2); // a trainer has steps, and so has a `Run`
/// assert!(trainer.untrained_loss().is_some());
/// let plot = LinePlot::new("loss").run("tiny", &trainer); // takes either
/// assert!(plot.render().plain().contains("tiny"));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub trait History {
    /// Every step.
    fn steps(&self) -> &[StepRecord];

    /// The validation loss before the first step.
    fn untrained_loss(&self) -> Option<f64> {
        None
    }
}

impl History for [StepRecord] {
    fn steps(&self) -> &[StepRecord] {
        self
    }
}

impl History for Vec<StepRecord> {
    fn steps(&self) -> &[StepRecord] {
        self
    }
}

impl History for Trainer {
    fn steps(&self) -> &[StepRecord] {
        self.records()
    }

    fn untrained_loss(&self) -> Option<f64> {
        self.untrained()
    }
}

impl History for Run {
    fn steps(&self) -> &[StepRecord] {
        self.records()
    }

    fn untrained_loss(&self) -> Option<f64> {
        self.about.untrained
    }
}

/// The validation losses of a run with the steps before which they were measured.
pub(crate) fn validation(history: &(impl History + ?Sized)) -> Vec<(f64, f64)> {
    let first = history.untrained_loss().map(|loss| (0.0, loss));
    let measured = history.steps().iter();
    let measured = measured.filter_map(|step| Some((step.step as f64, step.validation_loss?)));
    first.into_iter().chain(measured).collect()
}

impl LinePlot {
    /// Adds a run: its training loss, smoothed, and with marks in the same colour its validation loss.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut plot = LinePlot::new("two rates");
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let set = vec![Example::new(&image, "a red square")];
    /// for rate in [0.001, 0.003] {
    ///     let vlm = Vlm::tiny(&Device::Cpu)?;
    ///     let settings = TrainerSettings { learning_rate: rate, steps: 2, batch_size: 1, ..TrainerSettings::tour() };
    ///     let mut trainer = Trainer::new(settings)?;
    ///     trainer.fit(&vlm, &set, &set)?;
    ///     plot = plot.run(format!("lr {rate}"), &trainer);
    /// }
    /// assert!(plot.render().plain().contains("lr 0.003"));
    /// # Ok(()) }
    /// ```
    pub fn run(self, label: impl Into<String>, history: &(impl History + ?Sized)) -> Self {
        let label = label.into();
        let losses: Vec<(f64, f64)> = history
            .steps()
            .iter()
            .map(|step| (step.step as f64, step.loss))
            .collect();
        let span = live_plot::span(losses.len() as u64);
        let plot = match self.has_axes() {
            true => self,
            false => self.axes("step", "loss (marks: validation)"),
        };
        let smooth = live_plot::smoothed(&losses, span);
        let plot = plot.styled_line(label.clone(), smooth, LineStyle::Solid);
        match validation(history) {
            measured if measured.is_empty() => plot,
            measured => plot.styled_line(label, measured, LineStyle::Marked),
        }
    }
}
