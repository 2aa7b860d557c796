//! rust-analyzer, for completion and inspection.
//!
//! ```text
//! Questions ─ code, cursor, what the session knows ─▶ analyst ─ View ─▶ a thread that looks ─▶ the answer
//!   (any thread)                                       │ World
//! ```
//! The analyst is a thread of its own, which fills rust-analyzer's database when the session has been idle for a moment (JupyterLab
//! waits a second for proposals, and no longer) or is asked, and is told the session's items and variables with each question. So no
//! cell waits for it. rust-analyzer can panic, and think for long: then there is no answer, and its database is made anew.
//!
//! # Layout
//! - [`crates`], [`world`]: what rust-analyzer is shown, and its database
//! - [`page`]: the file that it is asked about; [`targets`]: what a cursor is on
//! - [`propose`], [`explain`]: completion and inspection; [`type_page`], [`catalogue`]: all of a type, and of the prelude; [`markdown`]: how documentation is shown

mod catalogue;
mod crates;
mod explain;
mod markdown;
mod page;
mod propose;
mod targets;
mod type_page;
mod world;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select, unbounded};

use crate::session::nesting::STACK;
use crate::session::prelude::toolchain::Toolchain;
use crate::session::{Completions, Inspection};
use crates::Crates;
use page::Page;
use world::{View, World};

pub(crate) use page::Known;

/// How long no cell must have run before rust-analyzer is made ready for questions to come. A person needs longer to type what
/// a question is about; cells that are run one after the other don't leave so much time.
const IDLE: Duration = Duration::from_millis(700);
/// How long an answer may take.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(180),
    later: Duration::from_secs(20),
};
/// How long a question waits in all, should rust-analyzer not notice that it is to stop.
const LONGEST: Duration = Duration::from_secs(240);
/// How often a wait looks whether the session ends.
const GLANCE: Duration = Duration::from_millis(100);
/// After how many answers the database is tidied.
const TIDY_EVERY: u32 = 64;
/// The name of threads in which rust-analyzer may panic.
const LOOKING: &str = "rust-analyzer";
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
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// The first one, for which rust-analyzer reads all crates.
    first: Duration,
    later: Duration,
}

/// What is to be found out; gets the reason instead if rust-analyzer cannot be had.
type Look = Box<dyn FnOnce(Result<&View, &str>) + Send>;

enum Ask {
    Busy(bool),
    Depend(BTreeMap<String, String>),
    /// The sender goes when nobody looks any more.
    Look(Box<Page>, Look, Sender<()>),
    End,
}

/// The thread that owns rust-analyzer.
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
    pub(crate) fn new(analysis: Analysis) -> Analyst {
        Analyst::with_patience(analysis, PATIENCE)
    }

    fn with_patience(analysis: Analysis, patience: Patience) -> Analyst {
        keep_quiet();
        let (asks, inbox) = unbounded();
        let ending = Arc::new(AtomicBool::new(false));
        let analyst = AnalystThread::new(analysis, patience, ending.clone());
        let thread = std::thread::Builder::new()
            .name("analysis".to_owned())
            // It drops trees of items, which may nest deep.
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
        self.send(Ask::Busy(false));
    }

    fn send(&self, ask: Ask) {
        // Without a thread the reply's sender is dropped, and the question answered by that.
        let _ = self.asks.send(ask);
    }

    /// `None` if nothing is found, also if rust-analyzer panics or takes too long.
    fn look<T: Send + 'static>(
        &self,
        code: &str,
        cursor: usize,
        look: impl FnOnce(&View) -> T + Send + 'static,
    ) -> Result<Option<T>, String> {
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(page) = Page::new(&known, code, cursor) else {
            return Ok(None);
        };
        let (reply, answer) = bounded(1);
        let look: Look = Box::new(move |view| {
            // Who asked may have lost patience.
            let _ = reply.send(view.map(look).map_err(str::to_owned));
        });
        let (looking, given_up) = bounded(0);
        self.send(Ask::Look(Box::new(page), look, looking));
        // Who looks for too long still holds the sender of the answer.
        let found = select! {
            recv(answer) -> found => found.ok(),
            recv(given_up) -> _ => answer.try_recv().ok(),
            default(LONGEST) => None,
        };
        found.transpose()
    }

    /// Proposals for the cursor in `code`, with offsets into it.
    pub(crate) fn complete(&self, code: &str, cursor: usize) -> Result<Completions, String> {
        let found = self.look(code, cursor, propose::complete)?;
        Ok(found.unwrap_or(Completions {
            start: cursor,
            end: cursor,
            items: Vec::new(),
        }))
    }

    /// What is known of what the cursor is on.
    pub(crate) fn inspect(&self, code: &str, cursor: usize) -> Result<Option<Inspection>, String> {
        Ok(self.look(code, cursor, explain::inspect)?.flatten())
    }

    /// The type of an expression.
    pub(crate) fn type_of(&self, code: &str) -> Result<Option<String>, String> {
        Ok(self.look(code, code.len(), explain::type_of)?.flatten())
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

/// Panics of rust-analyzer are answers like others, not for the terminal.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some(LOOKING) {
                before(panic);
            }
        }));
    });
}

/// How a look ended.
enum Ended {
    Well,
    Panicked,
}

struct AnalystThread {
    analysis: Analysis,
    patience: Patience,
    ending: Arc<AtomicBool>,
    world: Option<World>,
    dependencies: BTreeMap<String, String>,
    /// Which of them the world has.
    shown: BTreeMap<String, String>,
    /// Answers of this world, and since it was tidied.
    answers: u32,
    looker: Option<Looker>,
}

/// The thread that looks: what it is given, and how its looks end.
type Looker = (Sender<(View, Look)>, Receiver<Ended>);

impl AnalystThread {
    fn new(analysis: Analysis, patience: Patience, ending: Arc<AtomicBool>) -> AnalystThread {
        AnalystThread {
            analysis,
            patience,
            ending,
            world: None,
            dependencies: BTreeMap::new(),
            shown: BTreeMap::new(),
            answers: 0,
            looker: None,
        }
    }

    fn work(mut self, inbox: &Receiver<Ask>) {
        let mut busy = true;
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
                Ok(Ask::Depend(dependencies)) => self.dependencies = dependencies,
                Ok(Ask::Look(page, look, _looking)) => self.answer(*page, look),
                Err(RecvTimeoutError::Timeout) => {
                    tried = true;
                    self.idle();
                }
                Ok(Ask::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Gets ready for questions to come, or cleans up after those that came.
    fn idle(&mut self) {
        let ready = self.world.is_some() && self.shown == self.dependencies;
        if ready && self.answers >= TIDY_EVERY {
            self.answers = 1;
            if let Some(world) = &mut self.world {
                world.tidy();
            }
        } else if !ready && let Some(page) = Page::new(&Known::default(), WARM_UP, WARM_UP.len()) {
            // If it fails, the first question says why.
            self.answer(
                page,
                Box::new(|view| {
                    let _ = view.map(propose::complete);
                }),
            );
        }
    }

    fn answer(&mut self, page: Page, look: Look) {
        let view = match self.world() {
            Ok(world) => world.show(page),
            Err(reason) => return look(Err(&reason)),
        };
        let patience = match self.answers {
            0 => self.patience.first,
            _ => self.patience.later,
        };
        self.answers += 1;
        let looker = self.looker.get_or_insert_with(looker);
        // Without a thread the look is dropped, and the question answered by that.
        let _ = looker.0.send((view, look));
        let deadline = Instant::now() + patience;
        let ended = loop {
            match looker.1.recv_timeout(GLANCE) {
                Err(RecvTimeoutError::Timeout)
                    if Instant::now() < deadline && !self.ending.load(Ordering::Acquire) => {}
                ended => break ended,
            }
        };
        if matches!(ended, Ok(Ended::Well)) {
            return;
        }
        // A panic may have left the database half written; one that takes too long is left to itself.
        self.looker = None;
        if let Some(world) = self.world.take() {
            let giving_up = std::thread::Builder::new().stack_size(STACK);
            // Without a thread the world is given up here.
            let _ = giving_up.spawn(move || world.give_up());
        }
    }

    /// rust-analyzer, shown every crate.
    fn world(&mut self) -> Result<&mut World, String> {
        if self.shown != self.dependencies {
            self.world = None;
        }
        let world = match self.world.take() {
            Some(world) => world,
            None => {
                self.answers = 0;
                self.shown.clone_from(&self.dependencies);
                std::panic::catch_unwind(AssertUnwindSafe(|| self.load()))
                    .unwrap_or_else(|_| Err("rust-analyzer panicked".to_owned()))?
            }
        };
        Ok(self.world.insert(world))
    }

    fn load(&self) -> Result<World, String> {
        let analysis = &self.analysis;
        let find = |dependencies| {
            Crates::find(
                &analysis.folder,
                &analysis.shown,
                &analysis.toolchain,
                dependencies,
                &analysis.lock,
            )
        };
        // Crates that cargo refuses are missing from the answers and nothing else.
        let none = BTreeMap::new();
        let crates = find(&self.shown).or_else(|_| find(&none))?;
        World::load(&crates, &analysis.toolchain)
    }
}

/// Starts a thread that looks, one question after the other.
fn looker() -> Looker {
    let (work, jobs) = bounded::<(View, Look)>(1);
    let (end, ended) = bounded(1);
    let looking = move || {
        for (view, look) in jobs {
            let look = AssertUnwindSafe(|| look(Ok(&view)));
            let outcome = std::panic::catch_unwind(look);
            // The database waits for its snapshots to go before it changes.
            drop(view);
            let how = outcome.map_or(Ended::Panicked, |()| Ended::Well);
            if end.send(how).is_err() {
                return;
            }
        }
    };
    // If there is no thread, nothing is found out.
    let _ = std::thread::Builder::new()
        .name(LOOKING.to_owned())
        .stack_size(STACK)
        .spawn(looking);
    (work, ended)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::session::prelude::analysis;

    /// The real standard library and a prelude of one function.
    fn analyst(dir: &Path, patience: Patience) -> Analyst {
        let toolchain = Toolchain::find().unwrap();
        let shown = dir.join("shown");
        let package = analysis::prelude(&shown);
        std::fs::create_dir_all(package.join("src")).unwrap();
        let manifest = format!(
            "[package]\nname = \"{}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
            analysis::PRELUDE
        );
        std::fs::write(package.join("Cargo.toml"), manifest).unwrap();
        let source = "pub mod cell { pub struct Failed; }\n/// Greets.\npub fn greet(name: &str) -> String { name.to_owned() }\n";
        std::fs::write(package.join("src/lib.rs"), source).unwrap();
        analysis::link_library(&shown, &toolchain).unwrap();
        let analysis = Analysis {
            folder: dir.join("work"),
            shown,
            lock: dir.join("Cargo.lock"),
            toolchain,
        };
        Analyst::with_patience(analysis, patience)
    }

    fn greets(questions: &Questions) {
        let code = "glassbox_prelude::gr";
        let found = questions.complete(code, code.len()).unwrap().items;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].label, "greet(name: &str) -> String");
    }

    #[test]
    fn who_thinks_too_long_is_left_alone_and_the_next_question_has_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let patience = Patience {
            later: Duration::from_millis(200),
            ..PATIENCE
        };
        let analyst = analyst(dir.path(), patience);
        let questions = analyst.questions();
        greets(questions);
        let asked = Instant::now();
        let thought = Duration::from_secs(30);
        let found = questions.look("1", 1, move |_| std::thread::sleep(thought));
        assert_eq!(found, Ok(None));
        assert!(asked.elapsed() < thought);
        greets(questions);
    }

    #[test]
    fn a_panic_is_no_answer_and_the_next_question_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let analyst = analyst(dir.path(), PATIENCE);
        let questions = analyst.questions();
        greets(questions);
        for _ in 0..2 {
            let found = questions.look("1", 1, |_| -> u8 { panic!("as rust-analyzer may") });
            assert_eq!(found, Ok(None));
            greets(questions);
        }
        // What the session knows stands before the code.
        analyst.know(Known {
            items: "use glassbox_prelude::greet as hello;\n".to_owned(),
            parameters: "mut count: usize, ".to_owned(),
        });
        let ty = |code: &str| questions.type_of(code).unwrap();
        assert_eq!(ty("hello(\"a\").len() + count"), Some("usize".to_owned()));
        assert_eq!(ty("nonsense"), None);
        let found = questions.inspect("hello(", 6).unwrap();
        assert!(found.is_some_and(|found| found.plain.contains("Greets.")));
    }
}
