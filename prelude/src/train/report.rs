//! What is said after a run: what came out.

use std::time::Duration;

use super::log::StepRecord;
use super::unreadable::{self, Unreadable};
use crate::display::{Cell, MimeBundle, Render, Table, number};

/// The outcome of a finished run. Renders as a small table.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let settings = TrainerSettings { steps: 2, batch_size: 1, ..TrainerSettings::tour() };
/// let report = Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// assert_eq!((report.steps, report.samples), (2, 2));
/// let (before, after) = report.validation.unwrap(); // nats a token
/// assert!(after < before);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct TrainReport {
    /// Optimizer steps, all sittings together.
    pub steps: usize,
    /// Those of this call; 0 when the run was at its end already.
    pub new_steps: usize,
    /// Captions learned from, repeats counted.
    pub samples: usize,
    /// Seconds of training and validation, pauses left out.
    pub seconds: f64,
    /// Tokens that the language model read, image tokens included.
    pub tokens: u64,
    /// Mean training loss of the last tenth of the run, in nats a token.
    pub loss: f64,
    /// The validation loss before the first step and the last one measured.
    pub validation: Option<(f64, f64)>,
    /// Examples that were left out because they can't be read or used, all sittings together.
    pub unreadable: Vec<Unreadable>,
    /// Samples whose end was cut off because they are too long, all sittings together.
    pub cut: usize,
    /// Bytes that the run was thought to need before its first step, and those that its second step took; where that was measured.
    pub memory: Option<(usize, usize)>,
    /// Why the run ended before its last step, if it did: a callback, or no better figure for long.
    pub stopped: Option<String>,
    /// Of several ranks: the seconds of the last call in which each waited for the others. The slowest waits least.
    pub waited_for_ranks: Vec<f64>,
}

impl TrainReport {
    /// The report on all of `records`, of which the last `new_steps` were made in this call.
    pub(super) fn new(
        records: &[StepRecord],
        new_steps: usize,
        batch_size: usize,
        untrained: Option<f64>,
        unreadable: &[Unreadable],
    ) -> Self {
        let last = records.last();
        let tail = &records[records.len() - records.len().div_ceil(10)..];
        let measured = records
            .iter()
            .rev()
            .find_map(|record| record.validation_loss);
        TrainReport {
            steps: records.len(),
            new_steps,
            samples: records.len() * batch_size,
            seconds: last.map_or(0.0, |record| record.seconds),
            tokens: last.map_or(0, |record| record.tokens),
            loss: tail.iter().map(|record| record.loss).sum::<f64>() / tail.len().max(1) as f64,
            validation: untrained.zip(measured),
            unreadable: unreadable.to_vec(),
            cut: last.map_or(0, |record| record.cut),
            memory: None,
            stopped: None,
            waited_for_ranks: last.map_or_else(Vec::new, |record| record.waited_for_ranks.clone()),
        }
    }

    /// How long ranks waited for each other, and which one is a drag on the others.
    fn waits(&self) -> Option<String> {
        let waits = &self.waited_for_ranks;
        let by_wait = |(_, a): &(usize, &f64), (_, b): &(usize, &f64)| a.total_cmp(b);
        let (slowest, least) = waits.iter().enumerate().min_by(by_wait)?;
        let (_, most) = waits.iter().enumerate().max_by(by_wait)?;
        let each: Vec<String> = waits.iter().map(|wait| format!("{wait:.1} s")).collect();
        let waits = format!("ranks waited {} for the others", each.join(", "));
        // Less than that is the even play of waiting for each other.
        Some(match most - least > 0.1 * self.seconds {
            true => format!("{waits}: rank {slowest} is the slowest"),
            false => waits,
        })
    }

    /// One line for the plot's end.
    pub(super) fn summary(&self) -> String {
        let (what, loss) = match self.validation {
            Some((_, last)) => ("validation loss", last),
            None => ("loss", self.loss),
        };
        let left_out = match self.unreadable.len() {
            0 => String::new(),
            count => format!(", {}", unreadable::words(count)),
        };
        let (loss, steps) = (number::float(loss), self.steps);
        let stopped = self.stopped.as_ref();
        let stopped = stopped.map_or(String::new(), |why| format!(", stopped: {why}"));
        let waits = self.waits();
        let waits = waits.map_or(String::new(), |waits| format!(", {waits}"));
        format!("{what} {loss} after {steps} steps{left_out}{stopped}{waits}")
    }
}

impl Render for TrainReport {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["training run", ""]);
        let pace = self.tokens as f64 / self.seconds.max(1e-9);
        table.push(vec![
            "steps".into(),
            Cell::figure(number::count(self.steps as u64)),
        ]);
        if self.new_steps < self.steps {
            table.push(vec![
                "of them in this call".into(),
                Cell::figure(number::count(self.new_steps as u64)),
            ]);
        }
        table.push(vec![
            "samples seen".into(),
            Cell::figure(number::count(self.samples as u64)),
        ]);
        let time = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        let time = number::duration(time);
        table.push(vec!["time".into(), Cell::figure(time)]);
        table.push(vec![
            "tokens a second".into(),
            Cell::figure(number::count(pace as u64)),
        ]);
        table.push(vec![
            "training loss, last tenth".into(),
            Cell::figure(number::float(self.loss)),
        ]);
        if let Some((first, last)) = self.validation {
            table.push(vec![
                "validation loss before".into(),
                Cell::figure(number::float(first)),
            ]);
            table.push(vec![
                "validation loss after".into(),
                Cell::figure(number::float(last)),
            ]);
        }
        if let Some((estimated, measured)) = self.memory {
            table.push(vec![
                "memory, estimated and measured".into(),
                Cell::figure(format!(
                    "{}, {}",
                    number::bytes(estimated as u64),
                    number::bytes(measured as u64)
                )),
            ]);
        }
        if let Some(why) = &self.stopped {
            table.push(vec![
                "stopped before its end".into(),
                Cell::figure(why.clone()),
            ]);
        }
        if let Some(waits) = self.waits() {
            table.push(vec!["several ranks".into(), Cell::figure(waits)]);
        }
        if self.cut > 0 {
            table.push(vec![
                "samples cut to the longest length".into(),
                Cell::figure(number::count(self.cut as u64)),
            ]);
        }
        if !self.unreadable.is_empty() {
            table.push(vec![
                "unreadable examples left out".into(),
                Cell::figure(number::count(self.unreadable.len() as u64)),
            ]);
        }
        table.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_sums_a_run_up() {
        let record = |step: usize, loss: f64, validation_loss: Option<f64>| StepRecord {
            step,
            loss,
            rate: 1e-3,
            norm: 1.0,
            tokens: 100 * step as u64,
            seconds: step as f64,
            validation_loss,
            ..StepRecord::default()
        };
        let records: Vec<StepRecord> = (1..=20)
            .map(|step| {
                record(
                    step,
                    21.0 - step as f64,
                    (step % 5 == 0).then_some(step as f64),
                )
            })
            .collect();
        let report = TrainReport::new(&records, 20, 8, Some(25.0), &[]);
        assert_eq!(
            (report.steps, report.samples, report.tokens),
            (20, 160, 2000)
        );
        assert_eq!(report.loss, 1.5, "mean of the last two");
        assert_eq!(report.validation, Some((25.0, 20.0)));
        assert!(report.render().plain().contains("160"));
        assert!(!report.summary().contains("ranks"));
        let waiting = |waits: [f64; 3]| TrainReport {
            waited_for_ranks: waits.to_vec(),
            ..report.clone()
        };
        let even = waiting([1.0, 0.9, 1.2]).summary();
        assert!(
            even.ends_with("ranks waited 1.0 s, 0.9 s, 1.2 s for the others"),
            "{even}"
        );
        let drag = waiting([9.0, 0.5, 8.5]);
        assert!(drag.summary().ends_with("others: rank 1 is the slowest"));
        assert!(drag.render().plain().contains("rank 1 is the slowest"));
    }
}
