//! What is said after a run: what came out.

use std::time::Duration;

use super::log::StepRecord;
use super::unreadable::{self, Unreadable};
use crate::display::{Cell, MimeBundle, Render, Table, number};

/// The outcome of a finished run. Renders as a small table.
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
    /// Examples that were left out because they can't be read, all sittings together.
    pub unreadable: Vec<Unreadable>,
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
        }
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
        format!("{what} {loss} after {steps} steps{left_out}")
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
            "captions seen".into(),
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
            unreadable: 0,
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
    }
}
