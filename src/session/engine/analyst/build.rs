//! Has the program with rust-analyzer built in the background, and says how far that is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

use super::{Analysis, Ask, Tell};
use crate::session::analyst_program::{AnalystProgram, Progress};

/// What is known of the program, and the thread that builds it.
pub(super) struct Build {
    found: Option<PathBuf>,
    stop: Arc<AtomicBool>,
    step: Arc<Mutex<Step>>,
    thread: Option<JoinHandle<()>>,
    tell: Tell,
    /// Whoever completes has been told.
    told: bool,
}

#[derive(Clone, Debug, Default)]
enum Step {
    #[default]
    Begun,
    At(Progress),
    Failed(String),
}

impl Build {
    pub(super) fn new(tell: Tell) -> Build {
        Build {
            found: None,
            stop: Arc::default(),
            step: Arc::default(),
            thread: None,
            tell,
            told: false,
        }
    }

    /// The program, if it is there.
    pub(super) fn program(&mut self, program: &AnalystProgram) -> Option<&Path> {
        if !self.found.as_ref().is_some_and(|found| found.is_file()) {
            self.found = program.find();
        }
        self.found.as_deref()
    }

    /// Begins to build it, once in a session.
    pub(super) fn begin(&mut self, analysis: &Analysis, asks: &Sender<Ask>) {
        if self.thread.is_some() {
            return;
        }
        let (program, toolchain) = (analysis.program.clone(), analysis.toolchain.clone());
        let (stop, step, asks) = (self.stop.clone(), self.step.clone(), asks.clone());
        let work = move || {
            let built = program.build(&toolchain, &stop, &mut |at| set(&step, Step::At(at)));
            if let Err(reason) = built {
                set(&step, Step::Failed(reason));
            }
            // The session may have ended.
            let _ = asks.send(Ask::Built);
        };
        let thread = std::thread::Builder::new().name("analyst-build".to_owned());
        match thread.spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => set(&self.step, Step::Failed(error.to_string())),
        }
    }

    /// How far it is. Who completes code gets no such text, and is told once.
    pub(super) fn news(&mut self, completes: bool) -> String {
        let news = match &*self.step.lock().unwrap_or_else(PoisonError::into_inner) {
            Step::Failed(reason) => format!(
                "rust-analyzer, which knows types, members and documentation, could not be built; the next session tries again:\n{reason}"
            ),
            Step::Begun => building(""),
            Step::At(at) => building(&format!(" ({at})")),
        };
        if completes && !std::mem::replace(&mut self.told, true) {
            (self.tell)(format!("[{news}]\n"));
        }
        news
    }

    /// It was built, or could not be.
    pub(super) fn ended(&mut self) {
        let failed = match &*self.step.lock().unwrap_or_else(PoisonError::into_inner) {
            Step::Failed(reason) => Some(reason.clone()),
            _ => None,
        };
        if self.told {
            (self.tell)(match failed {
                Some(reason) => format!("[rust-analyzer could not be built: {reason}]\n"),
                None => "[rust-analyzer is there: completion and inspection know everything]\n"
                    .to_owned(),
            });
        }
    }
}

fn building(step: &str) -> String {
    format!(
        "rust-analyzer, which knows types, members and documentation, is being built in the background, some minutes, once{step}; until then only names of the session are known"
    )
}

fn set(step: &Mutex<Step>, to: Step) {
    *step.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

impl Drop for Build {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
