//! A session for tests and what a cell did in it, in a form that is easy to compare.

// Each test program uses a part of this.
#![allow(dead_code)]

pub mod analyst;
pub mod exported;
pub mod place;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use glassbox::session::{CellOutcome, Event, Interrupted, Session, SessionConfig, StreamName};

/// A session whose cells are timed.
pub struct TestSession {
    pub session: Session,
    pub started_in: Duration,
    times: Vec<(String, Duration)>,
}

/// What one cell did.
#[derive(Debug)]
pub struct Run {
    pub events: Vec<Event>,
    pub outcome: CellOutcome,
}

/// What a cell said on stderr.
pub fn stderr(run: &Run) -> String {
    stream(run, StreamName::Stderr)
}

/// What it printed.
pub fn stdout(run: &Run) -> String {
    stream(run, StreamName::Stdout)
}

fn stream(run: &Run, wanted: StreamName) -> String {
    let texts = run.events.iter().filter_map(|event| match event {
        Event::Stream { name, text } if *name == wanted => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Runs a cell that must end well; returns what it said on stderr.
pub fn ok(session: &mut TestSession, code: &str) -> String {
    let run = session.run(code);
    assert!(run.outcome.status.is_ok(), "{code}: {run:#?}");
    stderr(&run)
}

impl TestSession {
    pub fn start() -> TestSession {
        TestSession::with(SessionConfig::default())
    }

    /// One that completion and inspection are asked of: rust-analyzer is there.
    pub fn that_is_asked() -> TestSession {
        analyst::beside();
        TestSession::start()
    }

    pub fn with(config: SessionConfig) -> TestSession {
        match TestSession::try_with(config) {
            Ok((session, _)) => session,
            Err(error) => panic!("the session did not start: {error}"),
        }
    }

    /// The session and what happened while it started, or why it did not.
    pub fn try_with(config: SessionConfig) -> Result<(TestSession, String), String> {
        let config = SessionConfig {
            program: config
                .program
                .or_else(|| Some(PathBuf::from(env!("CARGO_BIN_EXE_glassbox")))),
            ..config
        };
        let begin = Instant::now();
        let mut report = String::new();
        let session = Session::start(config, &mut |event| report += &format!("{event:?}\n"))
            .map_err(|error| error.to_string())?;
        Ok((
            TestSession {
                session,
                started_in: begin.elapsed(),
                times: Vec::new(),
            },
            report,
        ))
    }

    pub fn run(&mut self, code: &str) -> Run {
        let mut events = Vec::new();
        let outcome = self.session.evaluate(code, &mut |event| events.push(event));
        self.times.push((code.to_owned(), outcome.duration));
        Run { events, outcome }
    }

    /// Runs a cell and interrupts it `times` times, half a second apart, from when its first output arrives.
    pub fn run_interrupted(&mut self, code: &str, times: usize) -> (Run, Vec<Interrupted>) {
        let interrupter = self.session.interrupter();
        let (begun, wait) = std::sync::mpsc::channel();
        let asking = std::thread::spawn(move || {
            let mut answers = Vec::new();
            if wait.recv().is_ok() {
                for _ in 0..times {
                    std::thread::sleep(Duration::from_millis(500));
                    answers.push(interrupter.interrupt());
                }
            }
            answers
        });
        let mut events = Vec::new();
        let outcome = self.session.evaluate(code, &mut |event| {
            // After the first the other end may be gone.
            let _ = begun.send(());
            events.push(event);
        });
        drop(begun);
        (Run { events, outcome }, asking.join().unwrap())
    }

    /// The plain text of the value of the cell's last expression.
    pub fn result_of(&mut self, code: &str) -> String {
        let run = self.run(code);
        let results = run.events.iter().filter_map(|event| match event {
            Event::Result(display) => display.plain().map(str::to_owned),
            _ => None,
        });
        let results: Vec<String> = results.collect();
        assert_eq!(results.len(), 1, "{code}: {run:#?}");
        results.concat()
    }

    pub fn latency(&self) -> String {
        let mut text = format!("start {:?}\n", self.started_in);
        for (code, time) in &self.times {
            text += &format!("{:7.1} ms  {code}\n", time.as_secs_f64() * 1e3);
        }
        text
    }
}
