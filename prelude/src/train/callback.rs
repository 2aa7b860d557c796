//! Callbacks: closures of a cell that see each step, and may stop the run, log figures and change the rate.

use super::log::StepRecord;
use crate::Result;
use crate::vlm::Vlm;

/// A closure that sees each step.
pub(super) type Callback = Box<dyn FnMut(&mut StepView<'_>) -> Result<()> + Send>;

/// A step that was just made, as a callback sees it: see [`Trainer::on_step`](super::Trainer::on_step).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let mut trainer = Trainer::new(TrainerSettings { steps: 9, batch_size: 1, ..TrainerSettings::tour() })?;
/// trainer.on_step(|view: &mut StepView| {
///     view.log("perplexity", view.record().loss.exp());
///     view.scale_rate(0.5); // half the rate from here on
///     if view.record().step == 2 {
///         view.stop("two are enough");
///     }
///     Ok(())
/// });
/// assert_eq!(trainer.fit(&vlm, &set, &set)?.stopped.as_deref(), Some("two are enough"));
/// assert!(trainer.records()[1].metrics["perplexity"] > 1.0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub struct StepView<'a> {
    pub(super) record: &'a mut StepRecord,
    pub(super) vlm: &'a Vlm,
    pub(super) rate_factor: &'a mut f64,
    pub(super) stop: &'a mut Option<String>,
}

impl StepView<'_> {
    /// What is known of the step: loss, rate, gradient, and on some steps the validation loss and other figures.
    pub fn record(&self) -> &StepRecord {
        self.record
    }

    /// The model that trains.
    pub fn vlm(&self) -> &Vlm {
        self.vlm
    }

    /// Ends the run after this step; `why` is in its report. Calling `fit` again goes on.
    pub fn stop(&mut self, why: impl Into<String>) {
        self.stop.get_or_insert_with(|| why.into());
    }

    /// Writes a figure into the step's record, and so into the log.
    pub fn log(&mut self, name: impl Into<String>, value: f64) {
        self.record.metrics.insert(name.into(), value);
    }

    /// Multiplies the learning rate of all later steps. A factor that is negative or no number is refused when the next step is
    /// made.
    pub fn scale_rate(&mut self, factor: f64) {
        *self.rate_factor *= factor;
    }
}
