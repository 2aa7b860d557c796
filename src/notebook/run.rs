//! Executes a notebook's code cells in order, as nbclient does.
//!
//! notebook + evaluator → for each code cell: evaluate, record outputs while it runs, note the time → a [`Report`].
//! Tags: `skip-execution` leaves a cell as it is, `raises-exception` lets it fail. A [`Watch`] on another thread ends a
//! cell at its time limit and passes on interrupts.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::document::{CellKind, Notebook};
use super::outputs::Recorder;
use super::watch::{Stop, Watch};
use crate::session::{CellError, CellErrorKind, CellOutcome, Event, Session};

/// What the runner asks of a session.
pub trait Evaluate {
    /// Runs one cell, with its events as they come.
    fn evaluate(&mut self, code: &str, sink: &mut (dyn FnMut(Event) + Send)) -> CellOutcome;
}

impl Evaluate for Session {
    fn evaluate(&mut self, code: &str, sink: &mut (dyn FnMut(Event) + Send)) -> CellOutcome {
        Session::evaluate(self, code, sink)
    }
}

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Go on after a cell that fails.
    pub allow_errors: bool,
    /// Longest time for one cell.
    pub timeout: Option<Duration>,
}

/// A code cell in the run, for people: "cell 3/12".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellLabel {
    /// Counted from 1 over the cells that are executed; also the number in `In [n]`.
    pub number: usize,
    /// How many cells the run has.
    pub total: usize,
    /// The first line that says something.
    pub headline: String,
}

/// How one cell went.
#[derive(Debug, Clone)]
pub struct CellReport {
    /// Which cell.
    pub label: CellLabel,
    /// How long it took.
    pub duration: Duration,
    /// What went wrong, if anything.
    pub error: Option<CellError>,
    /// Whether the run goes on in spite of the error (`--allow-errors`, `raises-exception`).
    pub forgiven: bool,
}

/// Why the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All cells were executed.
    Finished,
    /// A cell failed, the rest was not executed.
    Failed,
    /// The user stopped the run.
    Interrupted,
}

/// How a run went.
#[derive(Debug, Clone)]
pub struct Report {
    /// The executed cells, in order.
    pub cells: Vec<CellReport>,
    /// How many cells there were to execute.
    pub total: usize,
    /// Why it ended.
    pub ending: Ending,
}

impl Report {
    /// The cell that ended the run.
    pub fn failed(&self) -> Option<&CellReport> {
        self.cells
            .last()
            .filter(|_| self.ending != Ending::Finished)
    }
}

/// Told what happens while it happens.
pub trait Progress: Send {
    /// A cell starts.
    fn started(&mut self, label: &CellLabel);
    /// The running cell shows something.
    fn event(&mut self, event: &Event);
    /// The cell ended. The notebook so far may be saved here.
    fn finished(&mut self, report: &CellReport, notebook: &Notebook);
}

/// Indices of the cells that a run executes.
pub fn executable(notebook: &Notebook) -> Vec<usize> {
    let runs = |index: &usize| {
        let cell = &notebook.cells()[*index];
        cell.kind() == CellKind::Code
            && !cell.source().trim().is_empty()
            && !cell.has_tag("skip-execution")
    };
    (0..notebook.cells().len()).filter(runs).collect()
}

/// Runs the notebook's cells. Outputs of earlier runs are removed first, so that the notebook afterwards shows this run
/// only; cells tagged `skip-execution` keep theirs.
pub fn run(
    notebook: &mut Notebook,
    evaluator: &mut dyn Evaluate,
    watch: &Watch,
    options: &RunOptions,
    progress: &mut dyn Progress,
) -> Report {
    let indices = executable(notebook);
    notebook.mend_ids();
    for cell in notebook.cells_mut() {
        let skipped = cell.kind() != CellKind::Code || cell.has_tag("skip-execution");
        if !skipped {
            cell.set_outputs(Vec::new(), None);
            cell.set_execution_times(None);
        }
    }

    let mut report = Report {
        cells: Vec::new(),
        total: indices.len(),
        ending: Ending::Finished,
    };
    let mut recorder = Recorder::default();
    for (position, &index) in indices.iter().enumerate() {
        let source = notebook.cells()[index].source();
        let label = CellLabel {
            number: position + 1,
            total: indices.len(),
            headline: headline(&source),
        };
        progress.started(&label);
        recorder.begin(notebook, index, label.number as u64);

        let started = SystemTime::now();
        let guard = watch.cell(options.timeout);
        let outcome = evaluator.evaluate(&source, &mut |event| {
            progress.event(&event);
            recorder.event(notebook, &event);
        });
        let stop = guard.finish();

        let error = outcome
            .status
            .err()
            .map(|error| explain(error, stop, options.timeout));
        if let Some(error) = &error {
            recorder.error(notebook, error);
        }
        recorder.end(notebook);
        notebook.cells_mut()[index].set_execution_times(Some(times(started, outcome.duration)));

        let forgiven = options.allow_errors || notebook.cells()[index].has_tag("raises-exception");
        let failed = error.is_some();
        let cell = CellReport {
            label,
            duration: outcome.duration,
            error,
            forgiven,
        };
        progress.finished(&cell, notebook);
        report.cells.push(cell);
        if stop == Some(Stop::User) {
            report.ending = Ending::Interrupted;
            break;
        }
        if failed && !forgiven {
            report.ending = Ending::Failed;
            break;
        }
    }
    report
}

/// The first line that is code or a comment's text.
fn headline(source: &str) -> String {
    source
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}

/// An interrupt that came from the time limit is reported as that.
fn explain(error: CellError, stop: Option<Stop>, timeout: Option<Duration>) -> CellError {
    let (Some(Stop::TimeLimit), Some(limit)) = (stop, timeout) else {
        return error;
    };
    let evalue = format!(
        "the cell was stopped at its time limit of {} s (--timeout)",
        limit.as_secs_f64()
    );
    let mut traceback = vec![format!("\u{1b}[1;31mTimeout\u{1b}[0m: {evalue}")];
    traceback.extend(error.traceback);
    CellError {
        kind: CellErrorKind::Timeout,
        ename: "Timeout".into(),
        evalue,
        traceback,
        state: error.state,
    }
}

/// `metadata.execution` as nbclient and JupyterLab write it.
fn times(started: SystemTime, duration: Duration) -> serde_json::Value {
    let (start, end) = (timestamp(started), timestamp(started + duration));
    json!({
        "iopub.execute_input": start, "iopub.status.busy": start,
        "iopub.status.idle": end, "shell.execute_reply": end,
    })
}

/// UTC in ISO 8601 with microseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z",
        since.subsec_micros()
    )
}

/// The date so many days after 1970-01-01. Years are counted from March, so that the leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
