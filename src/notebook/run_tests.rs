//! The runner against a scripted evaluator: order, counts, tags, failures, stops.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::session::{Display, StateKept, StreamName};

/// Understands four cells: `print X`, `show X`, `fail X`, `wait`.
struct Scripted {
    seen: Vec<String>,
    watch: Watch,
}

impl Evaluate for Scripted {
    fn evaluate(&mut self, code: &str, sink: &mut (dyn FnMut(Event) + Send)) -> CellOutcome {
        self.seen.push(code.to_owned());
        let mut status = Ok(());
        match code.split_once(' ').unwrap_or((code, "")) {
            ("print", text) => sink(Event::Stream {
                name: StreamName::Stdout,
                text: text.into(),
            }),
            ("show", text) => sink(Event::Result(Display::text(text))),
            ("fail", name) => status = Err(error(name, CellErrorKind::Panic)),
            ("stop", _) => {
                self.watch.request();
                status = Err(error("Interrupted", CellErrorKind::Interrupted));
            }
            ("slow", _) => {
                std::thread::sleep(Duration::from_millis(200));
                status = Err(error("Interrupted", CellErrorKind::Interrupted));
            }
            _ => {}
        }
        CellOutcome {
            status,
            duration: Duration::from_millis(1500),
            phases: Vec::new(),
            ran: None,
        }
    }
}

fn error(name: &str, kind: CellErrorKind) -> CellError {
    CellError {
        kind,
        ename: name.into(),
        evalue: "because".into(),
        traceback: vec!["trace".into()],
        state: StateKept::default(),
    }
}

#[derive(Default)]
struct Log(Vec<String>);

impl Progress for Log {
    fn started(&mut self, label: &CellLabel) {
        self.0.push(format!(
            "{}/{} {}",
            label.number, label.total, label.headline
        ));
    }
    fn event(&mut self, _: &Event) {}
    fn finished(&mut self, report: &CellReport, _: &Notebook) {
        self.0.push(format!(
            "end {} {}",
            report.label.number,
            report.error.is_none()
        ));
    }
}

struct Nobody;

impl crate::notebook::watch::Interrupt for Nobody {
    fn interrupt(&self) -> Option<Duration> {
        None
    }
}

fn code(source: &str, tags: &[&str]) -> Value {
    json!({"cell_type": "code", "metadata": {"tags": tags}, "source": source, "execution_count": 7,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["old"]}]})
}

struct Done {
    notebook: Notebook,
    report: Report,
    seen: Vec<String>,
    log: Vec<String>,
}

fn execute(cells: Value, options: &RunOptions) -> Done {
    let text =
        json!({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).to_string();
    let mut notebook = Notebook::parse(&text).unwrap();
    let watch = Watch::start(Nobody);
    let mut evaluator = Scripted {
        seen: Vec::new(),
        watch: watch.clone(),
    };
    let mut log = Log::default();
    let report = run(&mut notebook, &mut evaluator, &watch, options, &mut log);
    watch.close();
    Done {
        notebook,
        report,
        seen: evaluator.seen,
        log: log.0,
    }
}

fn outputs(done: &Done, cell: usize) -> &[Value] {
    done.notebook.cells()[cell].outputs()
}

#[test]
fn cells_run_in_order_and_are_counted_from_one() {
    let done = execute(
        json!([code("print a", &[]), {"cell_type": "markdown", "metadata": {}, "source": "# t"}, code(" \n", &[]),
            code("// why\nshow 5", &[])]),
        &RunOptions::default(),
    );
    assert_eq!(done.seen, ["print a", "// why\nshow 5"]);
    assert_eq!(
        done.log,
        ["1/2 print a", "end 1 true", "2/2 // why", "end 2 true"]
    );
    assert_eq!(done.report.ending, Ending::Finished);
    let counts: Vec<_> = done
        .notebook
        .cells()
        .iter()
        .map(|cell| cell.execution_count())
        .collect();
    assert_eq!(counts, [Some(1), None, None, Some(2)]);
    assert_eq!(outputs(&done, 0)[0]["text"], json!(["a"]));
    let times = &done.notebook.cells()[0].fields["metadata"]["execution"];
    assert!(
        times["shell.execute_reply"]
            .as_str()
            .unwrap()
            .ends_with('Z'),
        "{times}"
    );
}

#[test]
fn a_failing_cell_ends_the_run_and_later_cells_lose_their_old_outputs() {
    let done = execute(
        json!([
            code("print a", &[]),
            code("fail Panic", &[]),
            code("print b", &[])
        ]),
        &RunOptions::default(),
    );
    assert_eq!(done.report.ending, Ending::Failed);
    assert_eq!(done.report.failed().unwrap().label.number, 2);
    assert_eq!(done.seen.len(), 2);
    assert_eq!(outputs(&done, 1)[0]["ename"], "Panic");
    assert_eq!(outputs(&done, 2), [] as [Value; 0]);
    assert_eq!(done.notebook.cells()[2].execution_count(), None);
}

#[test]
fn allowed_errors_are_recorded_and_the_run_goes_on() {
    let options = RunOptions {
        allow_errors: true,
        ..RunOptions::default()
    };
    let done = execute(
        json!([code("fail Panic", &[]), code("print b", &[])]),
        &options,
    );
    assert_eq!(done.report.ending, Ending::Finished);
    assert_eq!(outputs(&done, 0)[0]["output_type"], "error");
    assert_eq!(outputs(&done, 1)[0]["text"], json!(["b"]));
    assert!(done.report.cells[0].forgiven && done.report.cells[0].error.is_some());
}

#[test]
fn tags_skip_and_forgive() {
    let done = execute(
        json!([
            code("fail A", &["raises-exception"]),
            code("fail B", &["skip-execution"]),
            code("print c", &["x"])
        ]),
        &RunOptions::default(),
    );
    assert_eq!(done.report.ending, Ending::Finished);
    assert_eq!(done.seen, ["fail A", "print c"]);
    assert_eq!(
        outputs(&done, 1)[0]["text"],
        json!(["old"]),
        "a skipped cell keeps its outputs"
    );
    assert_eq!(done.notebook.cells()[1].execution_count(), Some(7));
    assert_eq!(done.notebook.cells()[2].execution_count(), Some(2));
}

#[test]
fn a_stop_by_the_user_ends_the_run_even_where_errors_are_allowed() {
    let options = RunOptions {
        allow_errors: true,
        ..RunOptions::default()
    };
    let done = execute(json!([code("stop", &[]), code("print b", &[])]), &options);
    assert_eq!(done.report.ending, Ending::Interrupted);
    assert_eq!(done.seen, ["stop"]);
    assert_eq!(outputs(&done, 0)[0]["ename"], "Interrupted");
}

#[test]
fn a_cell_over_its_time_limit_says_so() {
    let options = RunOptions {
        timeout: Some(Duration::from_millis(20)),
        ..RunOptions::default()
    };
    let done = execute(json!([code("slow", &[])]), &options);
    let error = done.report.failed().unwrap().error.clone().unwrap();
    assert_eq!(error.kind, CellErrorKind::Timeout);
    assert_eq!(
        error.evalue,
        "the cell was stopped at its time limit of 0.02 s (--timeout)"
    );
    assert_eq!(outputs(&done, 0)[0]["ename"], "Timeout");
    assert_eq!(
        outputs(&done, 0)[0]["traceback"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn times_are_utc_in_iso_8601() {
    let at = |seconds: u64, micros: u64| {
        timestamp(
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros),
        )
    };
    assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(at(951_827_696, 5), "2000-02-29T12:34:56.000005Z");
    assert_eq!(at(1_795_442_399, 999_999), "2026-11-23T13:59:59.999999Z");
}
