//! The way to rust-analyzer, for completion and inspection.
//!
//! ```text
//! Questions ─ code, cursor, what the session knows ─▶ this thread ─ Talk: lines of JSON ─▶ glassbox-analyst: rust-analyzer
//!   (any thread)                                       │ Crates                          ◀─ Answer
//!                                                      └ no such program yet ─▶ built in the background, answered by `own`
//! ```
//! A thread of its own starts the program and has it read the crates when the session has been idle for a moment (JupyterLab waits a second
//! for proposals, and no longer) or is asked, and is told the session's items and variables with each question. So no cell waits for it.
//! rust-analyzer can panic, and think for long: then its process has ended, or is ended, there is no answer, and the next question starts another.
//!
//! # Layout
//! - [`page`]: the file that it is asked about; [`targets`]: what a cursor is on; [`crates`]: what rust-analyzer is shown
//! - [`talk`]: its process; [`build`]: the program's, where it is missing; [`own`]: what is known without it

mod build;
mod crates;
mod own;
mod page;
mod talk;
mod targets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use glassbox_analyst_wire::{Answer, Order, Page, Question};

use crate::session::analyst_program::AnalystProgram;
use crate::session::nesting::STACK;
use crate::session::prelude::toolchain::Toolchain;
use crate::session::{Completions, Inspection};
use build::Build;
use talk::Talk;

pub(crate) use page::Known;

/// How long no cell must have run before rust-analyzer is made ready for questions to come. A person needs longer to type what
/// a question is about; cells that are run one after the other don't leave so much time.
const IDLE: Duration = Duration::from_millis(700);
/// How long an answer may take.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(180),
    later: Duration::from_secs(20),
};
/// How long a question waits in all, should this thread be stuck.
const LONGEST: Duration = Duration::from_secs(240);
/// How often a wait looks whether the session ends.
const GLANCE: Duration = Duration::from_millis(100);
/// After how many answers the database is tidied.
const TIDY_EVERY: u32 = 64;
/// Code whose completion has rust-analyzer read what almost every question needs.
const WARM_UP: &str = "let text = String::new(); text.";

/// What showing rust-analyzer the session takes.
#[derive(Clone, Debug)]
pub(crate) struct Analysis {
    /// Where cargo is asked about crates.
    pub folder: PathBuf,
    /// What rust-analyzer is shown of the prelude, see [`crate::session::prelude::analysis`].
    pub shown: PathBuf,
    /// The lock file with which the crates of `:dep` are built.
    pub lock: PathBuf,
    pub toolchain: Toolchain,
    pub program: AnalystProgram,
}

/// Takes what is to be said of the program, between cells.
pub(crate) type Tell = Box<dyn Fn(String) + Send>;

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// The first one, for which rust-analyzer reads all crates.
    first: Duration,
    later: Duration,
}

enum Ask {
    /// A cell begins, or has ended.
    Busy(bool),
    /// Somebody types, and will ask.
    Expected,
    Depend(BTreeMap<String, String>),
    Look(Box<Look>),
    /// The program was built, or could not be.
    Built,
    End,
}

/// What is to be found out.
struct Look {
    page: Page,
    question: Question,
    known: Known,
    /// Goes when there is no answer.
    reply: Sender<Answer>,
}

/// The thread that asks rust-analyzer.
pub(crate) struct Analyst {
    questions: Questions,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The way to that thread, from any other. What the session knew when its last cell began stands before the code that is
/// asked about.
#[derive(Clone)]
pub(crate) struct Questions {
    asks: Sender<Ask>,
    known: Arc<Mutex<Known>>,
}

impl Analyst {
    pub(crate) fn new(analysis: Analysis, tell: Tell) -> Analyst {
        Analyst::with_patience(analysis, tell, PATIENCE)
    }

    fn with_patience(analysis: Analysis, tell: Tell, patience: Patience) -> Analyst {
        let (asks, inbox) = unbounded();
        let ending = Arc::new(AtomicBool::new(false));
        let analyst = AnalystThread {
            analysis,
            patience,
            ending: ending.clone(),
            asks: asks.clone(),
            talk: None,
            dependencies: BTreeMap::new(),
            shown: BTreeMap::new(),
            answers: 0,
            build: Build::new(tell),
        };
        let thread = std::thread::Builder::new()
            .name("analysis".to_owned())
            // It parses items, which may nest deep.
            .stack_size(STACK)
            .spawn(move || analyst.work(&inbox));
        Analyst {
            questions: Questions {
                asks,
                known: Arc::default(),
            },
            ending,
            thread: thread.ok(),
        }
    }

    /// For other threads.
    pub(crate) fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Says whether a cell runs.
    pub(crate) fn busy(&self, busy: bool) {
        self.questions.send(Ask::Busy(busy));
    }

    /// Says which crates the session has added.
    pub(crate) fn depend(&self, dependencies: &BTreeMap<String, String>) {
        self.questions.send(Ask::Depend(dependencies.clone()));
    }

    /// Says what the session knows.
    pub(crate) fn know(&self, known: Known) {
        *self
            .questions
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl Questions {
    /// Says that there will be questions, while no cell runs.
    pub(crate) fn expected(&self) {
        self.send(Ask::Expected);
    }

    fn send(&self, ask: Ask) {
        // Without a thread the reply's sender is dropped, and the question answered by that.
        let _ = self.asks.send(ask);
    }

    /// `None` if nothing is found, also if rust-analyzer panics or takes too long.
    fn look(
        &self,
        code: &str,
        cursor: usize,
        question: impl FnOnce(&Page) -> Option<Question>,
    ) -> Result<Option<Answer>, String> {
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(page) = known.page(code, cursor) else {
            return Ok(None);
        };
        let Some(question) = question(&page) else {
            return Ok(None);
        };
        let (reply, answer) = bounded(1);
        self.send(Ask::Look(Box::new(Look {
            page,
            question,
            known,
            reply,
        })));
        match answer.recv_timeout(LONGEST) {
            Ok(Answer::Refused(reason)) => Err(reason),
            found => Ok(found.ok()),
        }
    }

    /// Proposals for the cursor in `code`, with offsets into it.
    pub(crate) fn complete(&self, code: &str, cursor: usize) -> Result<Completions, String> {
        let question = |page: &Page| {
            (!targets::in_comment(&page.code, page.cursor)).then_some(Question::Complete)
        };
        Ok(match self.look(code, cursor, question)? {
            Some(Answer::Completions(found)) => found,
            _ => Completions {
                start: cursor,
                end: cursor,
                items: Vec::new(),
            },
        })
    }

    /// What is known of what the cursor is on.
    pub(crate) fn inspect(&self, code: &str, cursor: usize) -> Result<Option<Inspection>, String> {
        let question = |page: &Page| {
            let subject = targets::subject(&page.code, page.cursor);
            Some(Question::Inspect(subject))
        };
        Ok(match self.look(code, cursor, question)? {
            Some(Answer::Inspection(found)) => found,
            _ => None,
        })
    }

    /// The type of an expression.
    pub(crate) fn type_of(&self, code: &str) -> Result<Option<String>, String> {
        let question = |_: &Page| Some(Question::TypeOf);
        Ok(match self.look(code, code.len(), question)? {
            Some(Answer::Type(found)) => found,
            _ => None,
        })
    }
}

impl Drop for Analyst {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // Others may still hold the way to the thread.
        self.questions.send(Ask::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct AnalystThread {
    analysis: Analysis,
    patience: Patience,
    ending: Arc<AtomicBool>,
    /// The way to itself, for the thread that builds the program.
    asks: Sender<Ask>,
    talk: Option<Talk>,
    dependencies: BTreeMap<String, String>,
    /// Which of them rust-analyzer was shown.
    shown: BTreeMap<String, String>,
    /// Answers since it read the crates, and since it was tidied.
    answers: u32,
    build: Build,
}

impl AnalystThread {
    fn work(mut self, inbox: &Receiver<Ask>) {
        let (mut busy, mut expected) = (true, false);
        // What was tried while the session was idle is not tried again before a cell ran.
        let mut tried = false;
        loop {
            let ask = if busy || tried {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                inbox.recv_timeout(IDLE)
            };
            match ask {
                Ok(Ask::Busy(now)) => {
                    busy = now;
                    tried = false;
                }
                Ok(Ask::Expected) => {
                    expected = true;
                    busy = false;
                    tried = false;
                }
                Ok(Ask::Built) => {
                    self.build.ended();
                    tried = false;
                }
                Ok(Ask::Depend(dependencies)) => self.dependencies = dependencies,
                Ok(Ask::Look(look)) => self.answer(*look),
                Err(RecvTimeoutError::Timeout) => {
                    tried = true;
                    self.idle(expected);
                }
                Ok(Ask::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Gets ready for questions to come, or cleans up after those that came. The program is built for who types, not for a notebook that
    /// is run.
    fn idle(&mut self, expected: bool) {
        let ready = self.is_ready();
        if ready && self.answers >= TIDY_EVERY {
            self.answers = 1;
            if let Some(talk) = &self.talk {
                talk.send(Order::Tidy);
            }
        } else if !ready && let Some(page) = Known::default().page(WARM_UP, WARM_UP.len()) {
            // If it fails, the first question says why.
            if self.build.program(&self.analysis.program).is_some() {
                drop(self.ask(page, Question::Complete));
            } else if expected {
                self.build.begin(&self.analysis, &self.asks);
            }
        }
    }

    fn answer(&mut self, look: Look) {
        let Look {
            page,
            question,
            known,
            reply,
        } = look;
        let answer = if self.build.program(&self.analysis.program).is_some() {
            self.ask(page, question)
                .unwrap_or_else(|reason| Some(Answer::Refused(reason)))
        } else {
            self.build.begin(&self.analysis, &self.asks);
            let news = self.build.news(question == Question::Complete);
            Some(own::answer(&known, &page, &question, &news))
        };
        if let Some(answer) = answer {
            // Who asked may have lost patience.
            let _ = reply.send(answer);
        }
    }

    /// Asks rust-analyzer, and waits as long as there is patience.
    fn ask(&mut self, page: Page, question: Question) -> Result<Option<Answer>, String> {
        let warm = self.is_ready() && self.answers > 0;
        let patience = match warm {
            true => self.patience.later,
            false => self.patience.first,
        };
        let deadline = Instant::now() + patience;
        let ending = Arc::clone(&self.ending);
        let talk = self.ready()?;
        talk.send(Order::Ask(page, question));
        let answer = loop {
            match talk.answer(GLANCE) {
                Err(RecvTimeoutError::Timeout)
                    if Instant::now() < deadline && !ending.load(Ordering::Acquire) => {}
                answer => break answer,
            }
        };
        self.answers += 1;
        if answer.is_err() {
            // Who panicked is not there any more; who takes too long is ended.
            self.talk = None;
        }
        Ok(answer.ok())
    }

    /// Whether there is a process that runs, and was shown every crate.
    fn is_ready(&mut self) -> bool {
        self.talk.as_mut().is_some_and(Talk::runs) && self.shown == self.dependencies
    }

    /// Such a process.
    fn ready(&mut self) -> Result<&mut Talk, String> {
        if !self.is_ready() {
            let program = self.build.program(&self.analysis.program);
            let program = program
                .ok_or("the program with rust-analyzer is gone")?
                .to_owned();
            let crates = self.crates()?;
            if !self.talk.as_mut().is_some_and(Talk::runs) {
                let talk = Talk::start(&program)
                    .map_err(|error| format!("{} does not run: {error}", program.display()))?;
                self.talk = Some(talk);
            }
            if let Some(talk) = &self.talk {
                talk.send(Order::Read(crates));
            }
            self.answers = 0;
            self.shown.clone_from(&self.dependencies);
        }
        self.talk
            .as_mut()
            .ok_or_else(|| "rust-analyzer does not run".to_owned())
    }

    /// What rust-analyzer is shown. Crates that cargo refuses are missing from the answers and nothing else.
    fn crates(&self) -> Result<glassbox_analyst_wire::Crates, String> {
        crates::find(&self.analysis, &self.dependencies)
            .or_else(|_| crates::find(&self.analysis, &BTreeMap::new()))
    }
}
