//! The session itself: the engine that runs cells, and what is around it: events, reports, interrupts, the log of cells.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError};
use glassbox_wire::{Passed, names};

use crate::private;
use crate::session::aids::{self, Aids};
use crate::session::cell_log::CellLog;
use crate::session::engine::namespaces::Spaces;
use crate::session::engine::{Done, EvalError, RustcEngine, Setting};
use crate::session::error::SessionError;
use crate::session::event::{Comm, Event, StreamName};
use crate::session::folder::{self, Folder};
use crate::session::interrupt::Interrupter;
use crate::session::outcome::{CellError, CellErrorKind, CellOutcome, StateKept};
use crate::session::pipes::background::{
    self, Background, BackgroundSink, Listener, Sources, stderr,
};
use crate::session::pipes::frames::{Incoming, PanicReport};
use crate::session::pipes::input::{Input, InputReader};
use crate::session::pipes::streams::{Message, Streams};
use crate::session::place;
use crate::session::prelude::cache::{self, CachedPrelude};
use crate::session::prelude::prelude_crates::PreludeCrate;
use crate::session::prelude::source::PreludeSource;
use crate::session::prelude::toolchain::Toolchain;
use crate::session::reports::last_words;
use crate::session::reports::last_words::LastWords;
use crate::session::reports::panics::{ABORTING, MAIN, Panics};
use crate::session::reports::{self, CellSource};
use crate::session::{
    Completions, Inspection, SessionConfig, StartEvent, Variable, child, commands, syntax,
};

/// The cell that brings the prelude's names into all later ones.
const USE_PRELUDE: &str = "use glassbox_prelude::prelude::*;";
/// A cell that has shown something last ends within this time.
const AT_ONCE: Duration = Duration::from_millis(50);
/// A thread's panic is told by itself if its cell does not fail of it within this time.
const TOLD_AFTER: Duration = Duration::from_millis(300);
/// A piece of text is not made longer than about this by joining.
const MAX_TEXT: usize = 256 * 1024;

/// A running session. Dropping it ends the child process and removes the session's files.
pub struct Session {
    // The order is the order of dropping: the child goes before its pipes, both before their folder.
    engine: RustcEngine,
    streams: Streams,
    /// Reads what threads say while no cell runs. It ends when its messages do.
    listener: Listener,
    background: Background,
    sources: Sources,
    /// How many cells the front end has begun.
    number: u64,
    input: Arc<Mutex<Input>>,
    interrupter: Interrupter,
    config: SessionConfig,
    /// The folder of the prelude's package.
    prelude_package: PathBuf,
    log: CellLog,
    folder: Folder,
}

/// What was learnt of a cell while its events were passed on.
#[derive(Debug, Default)]
struct Facts {
    panicked: bool,
    failed: bool,
    interrupted: bool,
    failed_at: Option<(usize, usize)>,
    panics: Panics,
    /// Those of threads of which nothing has been said yet, and when they came.
    threads: Vec<(Instant, PanicReport)>,
    error: Option<(String, Vec<String>)>,
    /// The places in functions that it passed, innermost first.
    trail: Vec<Passed>,
    /// When the cell's code began, and how long it ran.
    began: Option<Instant>,
    ran: Option<Duration>,
    /// The end of what was written to stderr.
    last_words: LastWords,
    /// The very last line on stderr, if it is one that the report of a death makes superfluous.
    withheld: Option<String>,
}

impl Session {
    /// Starts a session; the first one on a machine builds the prelude, which takes minutes and is told by `progress`.
    ///
    /// # Errors
    /// See [`SessionError`]: each variant says what is missing and what to do.
    pub fn start(
        config: SessionConfig,
        progress: &mut dyn FnMut(StartEvent),
    ) -> Result<Session, SessionError> {
        progress(StartEvent::Checking);
        if let Some(file) = Toolchain::passed_over() {
            progress(StartEvent::ToolchainPassedOver(file));
        }
        let toolchain = Toolchain::find()?.with_source(progress)?;
        let cache = cache::own_cache(config.cache_dir.as_deref())?;
        let source = PreludeSource::find(config.prelude_source.as_deref(), &cache)?;
        let prelude = cache::get(&source, &toolchain, &config.features, &cache, progress)?;
        progress(StartEvent::StartingChild);
        folder::remove_orphans(&place::all(&cache));
        let place = place::find(&cache)?;
        let folder = Folder::make(&place).map_err(|source| place::no_folder(&place, source))?;
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let streams = Streams::open(folder.path(), &nonce)
            .map_err(SessionError::io("open the pipes of the session"))?;
        let input = Input::open(folder.path())
            .map_err(SessionError::io("open the pipes of the session"))?;
        let program = match &config.program {
            Some(program) => program.clone(),
            None => {
                std::env::current_exe().map_err(SessionError::io("find the running program"))?
            }
        };
        let mut command =
            child_command(&program, folder.path().into(), &nonce, &toolchain, &prelude);
        let pipes = format!("{} {}", streams.pipes(), input.pipes());
        command.env(names::PIPES_VARIABLE, pipes);
        if config.comms {
            command.env(names::COMMS_VARIABLE, "1");
        }
        let (background, sources) = (Background::default(), Sources::default());
        let input = Arc::new(Mutex::new(input));
        let messages = streams.messages().cloned().ok_or_else(|| {
            SessionError::Engine("the pipes of the session are closed".to_owned())
        })?;
        let listener = Listener::start(
            messages,
            background.clone(),
            Arc::clone(&input),
            sources.clone(),
        )
        .map_err(SessionError::io("start a thread of the session"))?;
        let engine = RustcEngine::start(Setting {
            session: folder.path(),
            toolchain: &toolchain,
            prelude: &prelude,
            preludes: &cache,
            source: &source,
            program: &program,
            nonce: &nonce,
            command,
            sources: sources.clone(),
            tell: {
                let background = background.clone();
                Box::new(move |text| background.say(stderr(text)))
            },
        })
        .map_err(SessionError::io("start the process that runs cells"))?;
        let interrupter = Interrupter::new(folder.path().to_owned());
        interrupter.set_child(engine.handle());
        let mut session = Session {
            engine,
            streams,
            listener,
            background,
            sources,
            number: 0,
            input,
            interrupter,
            config,
            prelude_package: source.dir().to_owned(),
            log: CellLog::default(),
            folder,
        };
        progress(StartEvent::LoadingPrelude);
        session.first_cells()?;
        progress(StartEvent::Ready);
        Ok(session)
    }

    /// Runs what every session begins with.
    fn first_cells(&mut self) -> Result<(), SessionError> {
        if self.config.prelude {
            self.engine.import(USE_PRELUDE);
        }
        for cell in self.config.init.clone() {
            self.first_cell(&cell)?;
        }
        Ok(())
    }

    fn first_cell(&mut self, code: &str) -> Result<(), SessionError> {
        self.evaluate_aside(code, &mut |_| {})
            .status
            .map_err(|error| SessionError::Init(Box::new(error)))
    }

    /// Runs a cell of Rust and remembers it for `:replay` and `:export`.
    pub(crate) fn evaluate_logged(
        &mut self,
        code: &str,
        sink: &mut (dyn FnMut(Event) + Send),
    ) -> CellOutcome {
        let before = self.variable_types();
        let outcome = self.drive(code, sink, |engine| {
            engine.evaluate(code, commands::engine_part)
        });
        let after = self.variable_types();
        match &outcome.status {
            Ok(()) => self.log.ran(code, &after.keys().cloned().collect()),
            Err(error) => self.log.lost(&error.state.lost),
        }
        // What they take away is lost on purpose, and other cells of the session don't know.
        if commands::has(code, ":clear") {
            self.log.clear();
        } else if commands::has(code, ":restart") {
            let gone = before.into_keys().filter(|name| !after.contains_key(name));
            self.log.lost(&gone.collect::<Vec<_>>());
        }
        self.log.found(after.into_keys());
        outcome
    }

    /// Runs a remembered cell once more.
    pub(crate) fn evaluate_again(
        &mut self,
        code: &str,
        sink: &mut (dyn FnMut(Event) + Send),
    ) -> CellOutcome {
        let outcome = self.evaluate_aside(code, sink);
        if let Err(error) = &outcome.status {
            self.log.lost(&error.state.lost);
        }
        self.log.found(self.variable_types().into_keys());
        outcome
    }

    /// The statements of a cell that are calls of macros that make items, and the names that they make.
    pub(crate) fn item_calls(&mut self, code: &str) -> BTreeMap<usize, BTreeMap<String, Spaces>> {
        self.engine.item_calls(syntax::skip_commands(code))
    }

    /// The cells that ran.
    pub(crate) fn log(&self) -> &CellLog {
        &self.log
    }

    /// Runs code that is no cell of the user's: it is not remembered, and commands of the session are not looked for.
    pub fn evaluate_aside(
        &mut self,
        code: &str,
        sink: &mut (dyn FnMut(Event) + Send),
    ) -> CellOutcome {
        self.drive(code, sink, |engine| {
            engine.evaluate(code, commands::engine_part)
        })
    }

    /// Passes on a message from the browser's half of a control. What it runs prints, shows and fails as a cell does.
    pub fn deliver(&mut self, message: &Comm, sink: &mut (dyn FnMut(Event) + Send)) -> CellOutcome {
        self.number += 1;
        self.drive("", sink, |engine| engine.deliver(message))
    }

    /// The front end begins a cell.
    pub(crate) fn count_cell(&mut self) {
        self.number += 1;
    }

    /// The number of the last cell, or message to a control, that was begun by [`Session::evaluate`] or [`Session::deliver`], from 1: what its
    /// threads say later is said of this number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// From now on `sink` takes at once, from another thread, what threads say that cells began before the one that runs. Without one the
    /// next cell gets it, as [`Event::Background`].
    pub fn set_background(&mut self, sink: Option<BackgroundSink>) {
        self.background.set_sink(sink);
    }

    /// How often the process that runs cells was started anew: what its controls were is gone.
    pub fn restarts(&self) -> u64 {
        self.engine.restarts()
    }

    /// Has the engine do something that runs code, and passes on what that says. `code` is what reports of errors show.
    fn drive(
        &mut self,
        code: &str,
        sink: &mut (dyn FnMut(Event) + Send),
        act: impl FnOnce(&mut RustcEngine) -> Result<Done, EvalError>,
    ) -> CellOutcome {
        let begin = Instant::now();
        let before = self.variable_types();
        self.interrupter.begin_cell();
        if let Some(news) = self.heal() {
            sink(stderr(news));
        }
        self.listener.pause();
        for (cell, event) in self.background.take_kept() {
            let event = Box::new(event);
            sink(Event::Background { cell, event });
        }
        self.background.begin(self.number);
        let number = self.number;
        let engine = &mut self.engine;
        let streams = &self.streams;
        let (input, background, sources) = (&self.input, &self.background, &self.sources);
        let interrupter = &self.interrupter;
        let (result, facts) = std::thread::scope(|scope| {
            let pump = streams.messages().map(|messages| {
                let messages = messages.clone();
                let sink = &mut *sink;
                scope
                    .spawn(move || pump(&messages, sink, input, background, (sources, interrupter)))
            });
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
                engine.number(number);
                act(engine)
            }));
            let died = matches!(result, Ok(Err(EvalError::Died(_))));
            // If the request cannot be sent the reading thread has ended, and with it the pump.
            let _ = streams.request_drain(died);
            let facts = pump.and_then(|pump| pump.join().ok()).unwrap_or_default();
            (result, facts)
        });
        self.listener.resume();
        let (asked, killed) = self.interrupter.end_cell();
        let mut phases = Vec::new();
        let restarted = matches!(result, Ok(Err(EvalError::Died(_))));
        if let (false, Some(text)) = (restarted, &facts.withheld) {
            sink(stderr(text.clone()));
        }
        let error = match result {
            Ok(Ok(done)) => {
                phases = done.phases;
                for note in done.notes {
                    sink(stderr(format!("{}\n", note.text)));
                }
                let error = self.failure(code, &facts, asked);
                if error.is_none() {
                    done.shown
                        .into_iter()
                        .for_each(|display| sink(Event::Result(display)));
                    if let Some(timing) = done.timing {
                        sink(Event::Display(timing));
                    }
                }
                error
            }
            Ok(Err(trouble)) => Some(self.refusal(code, trouble, &facts, asked, killed)),
            Err(_) => Some(reports::plain(
                CellErrorKind::Internal,
                "InternalError",
                "the engine panicked; this is a fault of the tool, not of the cell",
            )),
        };
        // The report of a panic, and of an abort after one, tells of them itself.
        let told = facts.panicked
            || error.as_ref().is_some_and(|error| {
                let signal = libc::SIGABRT;
                error.kind == CellErrorKind::Aborted { signal }
            });
        if !told {
            for (_, panic) in &facts.threads {
                sink(self.sources.tell(panic));
            }
        }
        let status = match error {
            None => Ok(()),
            Some(mut error) => {
                error.state = self.state_kept(code, &before, &error.kind, restarted);
                if restarted && let Some(text) = statics_lost(&self.engine.lost_statics()) {
                    error.traceback.push(text);
                }
                error
                    .traceback
                    .push(format!("\u{1b}[2m{}\u{1b}[0m", error.state));
                Err(error)
            }
        };
        CellOutcome {
            status,
            duration: begin.elapsed(),
            phases,
            ran: facts.ran,
        }
    }

    /// Makes the session's folder anew if something removed it; what is to be said of that.
    fn heal(&mut self) -> Option<String> {
        let path = self.folder.path().display().to_string();
        let engine = &mut self.engine;
        match self.folder.heal() {
            Ok(false) => None,
            Ok(true) => Some(match engine.refill_folder() {
                Ok(()) => {
                    format!("the session's folder {path} had been removed; it was made anew\n")
                }
                Err(trouble) => format!(
                    "the session's folder {path} had been removed, and what was in it could not be made anew: {trouble:?}\n"
                ),
            }),
            Err(error) => Some(format!(
                "the session's folder {path} has been removed and cannot be made anew: {error}; restart the kernel, with TMPDIR set to a folder of your own that stays\n"
            )),
        }
    }

    /// Why a cell that ran to its end failed, if it did.
    fn failure(&self, code: &str, facts: &Facts, asked: bool) -> Option<CellError> {
        let source = || CellSource::new(code, &self.generated_source());
        if facts.panicked {
            let (message, _) = facts.error.clone().unwrap_or_default();
            let panics = &facts.panics;
            let report = panics.said(&message).cloned().unwrap_or_default();
            let threads = facts.threads.iter().map(|(_, panic)| panic);
            let others: Vec<PanicReport> =
                threads.filter(|panic| **panic != report).cloned().collect();
            let last = panics.of_a_thread();
            return Some(reports::panic_after_threads(
                &source(),
                &report,
                last,
                &others,
            ));
        }
        if facts.failed {
            let (message, chain) = facts.error.clone().unwrap_or_default();
            if facts.interrupted {
                // The error's name says the first word of the prelude's message already.
                let what = message.strip_prefix("interrupted: ").unwrap_or(&message);
                let mut error = reports::plain(CellErrorKind::Interrupted, "Interrupted", what);
                if !asked {
                    error
                        .traceback
                        .push("the code asked for the interrupt itself".to_owned());
                }
                return Some(error);
            }
            let generated = self.generated_source();
            let code_of = |library: &str| self.sources.code_of(library);
            return Some(reports::failed(
                &source(),
                &message,
                &chain,
                facts.failed_at,
                (&generated, &facts.trail, &code_of),
            ));
        }
        None
    }

    /// Why the engine did not run a cell to its end.
    fn refusal(
        &mut self,
        code: &str,
        trouble: EvalError,
        facts: &Facts,
        asked: bool,
        killed: bool,
    ) -> CellError {
        match trouble {
            EvalError::Died(message) => {
                let source = CellSource::new(code, &self.generated_source());
                let ended = last_words::ended(&message, &facts.last_words, &facts.panics, &source);
                // Code that replaced or never had the prelude's handler dies of the first request already.
                let by_request = asked
                    && ended.kind
                        == CellErrorKind::Aborted {
                            signal: libc::SIGINT,
                        };
                if killed || by_request {
                    return reports::plain(
                        CellErrorKind::Interrupted,
                        "Interrupted",
                        "the cell did not stop in time, so its process was ended",
                    );
                }
                ended
            }
            EvalError::Errors(errors) if !asked => {
                reports::compile_errors(&CellSource::new(code, &self.generated_source()), &errors)
            }
            EvalError::Refused(reason) if !asked => {
                reports::plain(CellErrorKind::Compile, "CompileError", &reason)
            }
            _ => reports::plain(
                CellErrorKind::Interrupted,
                "Interrupted",
                "stopped while compiling; nothing ran",
            ),
        }
    }

    fn state_kept(
        &self,
        code: &str,
        before: &BTreeMap<String, String>,
        kind: &CellErrorKind,
        restarted: bool,
    ) -> StateKept {
        let after = self.variable_types();
        let (kept, lost): (Vec<String>, Vec<String>) = before
            .keys()
            .cloned()
            .partition(|name| after.contains_key(name));
        let ran = *kind != CellErrorKind::Compile;
        let defined = if ran && !restarted {
            syntax::defined_names(code)
        } else {
            Vec::new()
        };
        let not_stored = defined
            .into_iter()
            .filter(|name| !after.contains_key(name) && !lost.contains(name))
            .collect();
        let present = after.into_keys().collect();
        StateKept {
            replayable: self.log.plan(&lost, &present).cells.len(),
            kept,
            lost,
            not_stored,
            restarted,
        }
    }

    /// The source of the last compilation, as the engine wrote it.
    fn generated_source(&self) -> String {
        self.engine.last_source().to_owned()
    }

    fn variable_types(&self) -> BTreeMap<String, String> {
        let variables = self.engine.variables();
        variables.map(|(name, ty)| (name.to_owned(), ty)).collect()
    }

    /// Proposals for the cursor, which is a byte offset into `code`.
    ///
    /// # Errors
    /// [`SessionError::Engine`] if rust-analyzer refuses.
    pub fn complete(
        &mut self,
        code: &str,
        cursor_byte: usize,
    ) -> Result<Completions, SessionError> {
        aids::completions(code, cursor_byte, |code, cursor| {
            self.engine.questions().complete(code, cursor)
        })
    }

    /// What is known of the name at the cursor, which is a byte offset into `code`, or of the function in whose arguments
    /// the cursor stands; `None` if nothing is.
    ///
    /// # Errors
    /// [`SessionError::Engine`] if rust-analyzer refuses.
    pub fn inspect(
        &mut self,
        code: &str,
        cursor_byte: usize,
    ) -> Result<Option<Inspection>, SessionError> {
        aids::inspection(code, cursor_byte, |code, cursor| {
            self.engine.questions().inspect(code, cursor)
        })
    }

    /// The same from other threads, also while a cell runs, with what the session knows now or at the beginning of a later
    /// cell. Who takes it is taken to have questions: rust-analyzer gets ready, also before the first cell.
    pub fn aids(&mut self) -> Aids {
        let questions = self.engine.questions().clone();
        questions.expected();
        Aids::new(questions)
    }

    /// The variables that later cells can use, sorted by name.
    pub fn variables(&mut self) -> Vec<Variable> {
        self.engine.learn();
        self.variable_types()
            .into_iter()
            .map(|(name, type_name)| Variable { name, type_name })
            .collect()
    }

    /// From now on `reader` answers what cells ask with `input`; without one they get an error.
    pub fn set_input_reader(&mut self, reader: Option<InputReader>) {
        background::lock(&self.input).set_reader(reader);
    }

    /// A handle with which another thread can stop the running cell.
    pub fn interrupter(&self) -> Interrupter {
        self.interrupter.clone()
    }

    /// Forgets all variables, functions and imports and starts a new child process with the prelude.
    ///
    /// # Errors
    /// [`SessionError`] if the process does not start or the first cells fail.
    pub fn restart(&mut self) -> Result<(), SessionError> {
        self.first_cell(":clear")?;
        self.log.clear();
        self.first_cells()
    }

    /// The folder of the prelude's package, for programs that use it.
    pub(crate) fn prelude_package(&self) -> PathBuf {
        self.prelude_package.clone()
    }

    /// The items of earlier cells that are set aside: the text of each, and what is said of it.
    pub(crate) fn set_aside(&self) -> Vec<(String, String)> {
        self.engine.set_aside()
    }

    /// The crates in the prelude.
    pub(crate) fn prelude_crates(&self) -> &[PreludeCrate] {
        self.engine.prelude_crates()
    }

    /// The features that the prelude was built with.
    pub(crate) fn features(&self) -> &[String] {
        &self.config.features
    }

    /// The session's private folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// So many statics are named that were lost with a process.
const STATICS_NAMED: usize = 8;

/// What is said of the statics that a process held which ended.
fn statics_lost(told: &[String]) -> Option<String> {
    let more = told.len().saturating_sub(STATICS_NAMED);
    let named = told[..told.len() - more].join(", ");
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let begin = if told.len() == 1 { "begins" } else { "begin" };
    (!told.is_empty())
        .then(|| format!("{named}{more} {begin} anew: the process that held the value is gone"))
}

/// Passes events on until everything the cell wrote has been; returns what it says about how the cell ended.
fn pump(
    messages: &Receiver<Message>,
    sink: &mut (dyn FnMut(Event) + Send),
    input: &Mutex<Input>,
    background: &Background,
    (sources, interrupter): (&Sources, &Interrupter),
) -> Facts {
    let mut facts = Facts::default();
    let mut next = None;
    loop {
        let message = match next.take() {
            Some(message) => Ok(message),
            None => facts.receive(messages, sink, sources),
        };
        match message {
            Ok(Message::Drained) | Err(_) => return facts,
            Ok(Message::Incoming(Incoming::Event(Event::Stream { name, mut text }))) => {
                // What came in many small writes and is already here goes out as one piece.
                while text.len() < MAX_TEXT {
                    match messages.try_recv() {
                        Ok(Message::Incoming(Incoming::Event(Event::Stream {
                            name: same,
                            text: more,
                        }))) if same == name => text.push_str(&more),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                if name == StreamName::Stderr {
                    facts.last_words.heard(&text);
                    // It was not the last line after all.
                    text.insert_str(0, &facts.withheld.take().unwrap_or_default());
                    if text.ends_with(ABORTING) {
                        facts.withheld = Some(text.split_off(text.len() - ABORTING.len()));
                    }
                }
                if !text.is_empty() {
                    sink(Event::Stream { name, text });
                }
            }
            Ok(Message::Incoming(Incoming::Of(cell, incoming))) => {
                let event = match *incoming {
                    Incoming::Event(event) => event,
                    Incoming::Panic(panic) => sources.tell(&panic),
                    // Whoever asks, there is somebody now who can answer.
                    other => {
                        next = Some(Message::Incoming(other));
                        continue;
                    }
                };
                if let Some(event) = background.pass(cell, event) {
                    let event = Box::new(event);
                    sink(Event::Background { cell, event });
                }
            }
            Ok(Message::Incoming(Incoming::Input { id, request })) => {
                background::lock(input).answer(id, &request);
            }
            Ok(Message::Incoming(Incoming::Content(display))) => {
                let following = messages.recv_timeout(AT_ONCE);
                let ended = matches!(following, Ok(Message::Incoming(Incoming::Ended { .. })));
                sink(match ended {
                    true => Event::Result(display),
                    false => Event::Display(display),
                });
                next = following.ok();
            }
            Ok(Message::Incoming(Incoming::Stdin { id, request })) => {
                let filled = background::lock(input).fill_stdin(id, request.as_ref());
                if let Err(why) = filled {
                    sink(stderr(format!("no one can be asked for input: {why}\n")));
                }
            }
            Ok(Message::Incoming(Incoming::Stopping { time, what })) => {
                if let Some(news) = interrupter.finishes(time, &what) {
                    sink(stderr(news));
                }
            }
            Ok(Message::Incoming(incoming)) => facts.take(incoming, sink),
        }
    }
}

impl Facts {
    /// The next message. Meanwhile it is told of threads that panicked without their cell's failing of it at once.
    fn receive(
        &mut self,
        messages: &Receiver<Message>,
        sink: &mut (dyn FnMut(Event) + Send),
        sources: &Sources,
    ) -> Result<Message, RecvError> {
        loop {
            let Some((since, panic)) = self.threads.first() else {
                return messages.recv();
            };
            let wait = TOLD_AFTER.saturating_sub(since.elapsed());
            if !wait.is_zero() {
                match messages.recv_timeout(wait) {
                    Ok(message) => return Ok(message),
                    Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
            sink(sources.tell(panic));
            self.threads.remove(0);
        }
    }

    fn take(&mut self, incoming: Incoming, sink: &mut (dyn FnMut(Event) + Send)) {
        match incoming {
            Incoming::Event(event) => sink(event),
            // The pump's matter.
            Incoming::Input { .. }
            | Incoming::Stdin { .. }
            | Incoming::Content(_)
            | Incoming::Stopping { .. }
            | Incoming::Of(..) => {}
            // A cell may run again, if a variable was not of the type that it was compiled for: only the last run counts.
            Incoming::Began => {
                *self = Facts {
                    began: Some(Instant::now()),
                    // stderr comes by another pipe: what the cell wrote there may have arrived before this.
                    last_words: std::mem::take(&mut self.last_words),
                    withheld: self.withheld.take(),
                    threads: std::mem::take(&mut self.threads),
                    ..Facts::default()
                }
            }
            Incoming::Panic(report) => {
                if report.thread != MAIN {
                    self.threads.push((Instant::now(), report.clone()));
                }
                self.panics.add(report);
            }
            Incoming::Error {
                message,
                chain,
                trail,
            } => {
                self.error = Some((message, chain));
                self.trail = trail;
            }
            Incoming::Ended {
                panicked,
                failed,
                interrupted,
                failed_at,
            } => {
                self.ran = self.began.map(|began| began.elapsed());
                self.panicked = panicked;
                self.failed = failed;
                self.interrupted = interrupted;
                self.failed_at = failed_at;
            }
        }
    }
}

fn child_command(
    program: &Path,
    folder: PathBuf,
    nonce: &str,
    toolchain: &Toolchain,
    prelude: &CachedPrelude,
) -> Command {
    let mut command = Command::new(program);
    let before = std::env::var_os("LD_LIBRARY_PATH");
    let own = [
        prelude
            .library
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default(),
        toolchain.libdir.clone(),
    ];
    // A folder without a name would be the one that the notebook lies in.
    let others = before.iter().flat_map(std::env::split_paths);
    let paths = own
        .into_iter()
        .chain(others.filter(|path| path.is_absolute()));
    let joined: OsString = std::env::join_paths(paths).unwrap_or_default();
    command
        .arg(child::ROLE)
        .env(names::FOLDER_VARIABLE, folder)
        .env(names::NONCE_VARIABLE, nonce)
        .env(names::PRELUDE_VARIABLE, &prelude.library)
        .env(child::UMASK_VARIABLE, format!("{:o}", private::umask()))
        .env("LD_LIBRARY_PATH", joined);
    match before {
        Some(before) => command.env(names::LIBRARY_PATH_BEFORE_VARIABLE, before),
        None => command.env_remove(names::LIBRARY_PATH_BEFORE_VARIABLE),
    };
    command
}
