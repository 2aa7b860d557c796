//! Our own evaluation loop: one call of rustc and one of the linker a cell.
//!
//! ```text
//! cell ─ commands ─ source ─▶ crate ─ compiler ─▶ library ─ process ─▶ control lines
//!            │        ▲                  │ errors in generated lines          │
//!            ▼        └── what they mean ◀┘                                   ▼
//!          items                                     types ◀── what is stored, by type_name
//! ```
//! What the types of new variables are the program itself says after it ran (see [`types`]). rust-analyzer, a program of its own, is left to completion and inspection (see [`analyst`]).
//!
//! # Layout
//! - [`crates`]: adding crates of `:dep`
//! - [`operations`]: what commands ask of it
//! - [`items`], [`calls`], [`needs`], [`source`]: from a cell to a crate
//! - [`aside`]: items of earlier cells that no longer fit
//! - [`statics`], [`sites`], [`hidden`]: statics exist once a session; [`trail`]: where errors pass is noted
//! - [`by_hand`]: calls that show something in the way of crates made for evcxr
//! - [`compiler`], [`linkage`], [`process`]: from a crate to a library that runs; [`repair`]: and again where the compiler objects to generated lines
//! - [`kept`]: what was compiled before
//! - [`error_types`]: which types of the cells are errors
//! - [`types`], [`spelling`], [`symbols`]: how the types of variables are written, and [`proof`] that it is so; [`notes`]: what is said of variables that are not kept
//! - [`clock`]: where the time goes; [`dependencies`]: crates of `:dep`
//! - [`analyst`]: the way to rust-analyzer, for completion and inspection

mod analyst;
mod aside;
mod by_hand;
mod calls;
mod clock;
mod compiler;
mod crates;
pub(crate) mod dependencies;
mod error_types;
mod hidden;
mod items;
pub(crate) mod kept;
mod linkage;
pub(crate) mod namespaces;
mod needs;
mod notes;
mod operations;
mod process;
mod proof;
mod repair;
mod sites;
mod source;
mod spelling;
mod statics;
mod symbols;
pub(crate) mod trail;
mod types;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glassbox_wire::names::INTERRUPT_FILE;
use glassbox_wire::{Comm, Control};

use analyst::{Analysis, Analyst, Known, Tell};
use calls::{Calls, Found};
use clock::Clock;
use compiler::{Compiler, TypeListing};
use items::Items;
use notes::{Note, consumed, function, not_kept, plain, redefined, stopped, unseen, unwritable};
use process::Process;
use source::{Plan, Source, Stored, Use};
use spelling::{Spelling, hides_binders};
use statics::Statics;
use symbols::Put;
use types::{Names, Type};

use self::dependencies::{Added, Workshop};
use self::namespaces::Spaces;
use crate::session::analyst_program::AnalystProgram;
use crate::session::event::Display;
use crate::session::pipes::background::Sources;
use crate::session::prelude::cache::CachedPrelude;
use crate::session::prelude::prelude_crates::{self, PreludeCrate};
use crate::session::prelude::source::PreludeSource;
use crate::session::prelude::toolchain::Toolchain;
use crate::session::reports::Diagnostic;
use crate::session::{nesting, syntax};

pub(crate) use analyst::Questions;
pub(crate) use sites::without_additions;

/// The method by which a value shows itself, as code names it that makes one of its own.
const SHOWS_ITSELF: &str = "evcxr_display";
/// In a session's folder: where cargo is asked about crates, for rust-analyzer.
const ANALYST: &str = "analyst";

/// Runs the cells of one session.
pub(crate) struct RustcEngine {
    process: Process,
    compiler: Compiler,
    analyst: Analyst,
    names: Names,
    calls: Calls,
    state: State,
    /// The imports that every session begins with.
    base: Items,
    /// Variables in the store that no cell can use any more.
    stale: Vec<String>,
    /// What is said to a cell that misses a variable which was there once.
    reminders: BTreeMap<String, String>,
    /// Types that are being learnt from the cell before.
    listing_types: Option<TypeListing>,
    /// What is still to be said of variables that turned out not to be kept.
    unsaid: Vec<Note>,
    session: PathBuf,
    workshop: Workshop,
    /// The secret of the event frames.
    nonce: String,
    /// The crates that are wanted after the commands of a cell so far, before they are built.
    waiting: Option<BTreeMap<String, String>>,
    cells: u64,
    last_source: String,
    /// What the lines of cells are, for panics of their threads.
    sources: Sources,
    /// The cell that is evaluated.
    code: String,
    last_errors: Vec<Diagnostic>,
    timing: bool,
}

/// What a cell that ran leaves to later ones, and what a cell that did not compile leaves as it was.
#[derive(Clone, Debug, Default)]
struct State {
    items: Items,
    statics: Statics,
    variables: BTreeMap<String, Variable>,
    crates: Added,
}

#[derive(Clone, Debug)]
struct Variable {
    /// What `type_name` says of its type.
    type_name: String,
    /// The same, or where that leaves something open, what the symbol of the function says that put it away.
    text: String,
    mutable: bool,
    /// How its type is written, if that is known.
    written: Option<Spelling>,
    /// The source that made it, if how its type is written stands in the file of what was learnt only.
    origin: Option<Arc<str>>,
}

impl Variable {
    /// Its type as people write it.
    fn shown_type(&self) -> String {
        match &self.written {
            Some(written) => written.shown.clone(),
            None => types::shortened(&self.type_name),
        }
    }
}

/// What a cell that ran has to say besides its events.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub phases: Vec<(String, Duration)>,
    /// What commands answered.
    pub shown: Vec<Display>,
    /// What is to be said of variables, on stderr.
    pub notes: Vec<Note>,
    /// What `:timing` asked for.
    pub timing: Option<Display>,
}

/// Why a cell did not run to its end.
#[derive(Debug)]
pub(crate) enum EvalError {
    /// It does not compile.
    Errors(Vec<Diagnostic>),
    /// It, or a command in it, cannot be run: why.
    Refused(String),
    /// Its process ended: how, in the system's words.
    Died(String),
    /// It was to stop before it began.
    Interrupted,
}

/// What a session tells its engine.
pub(crate) struct Setting<'a> {
    pub session: &'a Path,
    pub toolchain: &'a Toolchain,
    pub prelude: &'a CachedPrelude,
    /// The folder of preludes.
    pub preludes: &'a Path,
    pub source: &'a PreludeSource,
    /// The binary that plays the other roles.
    pub program: &'a Path,
    pub nonce: &'a str,
    /// The process that runs cells.
    pub command: std::process::Command,
    pub sources: Sources,
    /// Takes what is to be said between cells.
    pub tell: Tell,
}

impl RustcEngine {
    pub(crate) fn start(setting: Setting<'_>) -> std::io::Result<RustcEngine> {
        let compiler = Compiler::new(setting.toolchain, setting.prelude, setting.session)?;
        let analysis = Analysis {
            folder: setting.session.join(ANALYST),
            shown: setting.prelude.analysis.clone(),
            lock: setting.session.join(crates::LOCK),
            toolchain: setting.toolchain.clone(),
            program: AnalystProgram::new(setting.program, setting.preludes),
        };
        let analyst = Analyst::new(analysis, setting.tell);
        Ok(RustcEngine {
            process: Process::start(setting.command)?,
            compiler,
            analyst,
            names: Names::open(setting.prelude.learnt.clone()),
            calls: Calls::default(),
            state: State::default(),
            base: Items::default(),
            stale: Vec::new(),
            reminders: BTreeMap::new(),
            listing_types: None,
            unsaid: Vec::new(),
            session: setting.session.to_owned(),
            workshop: Workshop::new(
                setting.toolchain,
                setting.prelude,
                setting.source,
                setting.program,
                setting.session,
            ),
            nonce: setting.nonce.to_owned(),
            waiting: None,
            cells: 0,
            last_source: String::new(),
            sources: setting.sources,
            code: String::new(),
            last_errors: Vec::new(),
            timing: false,
        })
    }

    /// For the interrupt.
    pub(crate) fn handle(&self) -> Arc<Mutex<Child>> {
        self.process.handle()
    }

    /// The crates in the prelude.
    pub(crate) fn prelude_crates(&self) -> &[PreludeCrate] {
        self.compiler.prelude_crates()
    }

    /// The generated source that was compiled last.
    pub(crate) fn last_source(&self) -> &str {
        &self.last_source
    }

    /// The variables that later cells can use, with their types as people write them.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, String)> {
        let variables = self.state.variables.iter();
        variables.map(|(name, variable)| (name.as_str(), variable.shown_type()))
    }

    /// Brings an import into all later cells without compiling it now.
    pub(crate) fn import(&mut self, rust: &str) {
        Plan::take(rust, &mut self.state.items, &Found::default());
        Plan::take(rust, &mut self.base, &Found::default());
    }

    /// Runs a cell. `commands` does what stands above its Rust, of which it returns the rest of the cell.
    pub(crate) fn evaluate<'a>(
        &mut self,
        cell: &'a str,
        commands: impl FnOnce(&mut RustcEngine, &'a str, &mut Done) -> Result<&'a str, EvalError>,
    ) -> Result<Done, EvalError> {
        self.analyst.busy(true);
        cell.clone_into(&mut self.code);
        let result = self.evaluate_cell(cell, commands);
        self.analyst.busy(false);
        let mut result = self.revive(result);
        if let Err(EvalError::Errors(errors)) = result {
            result = Err(EvalError::Errors(self.with_reminders(errors, cell)));
        }
        match &result {
            Ok(done) => {
                for note in done.notes.iter().filter(|note| !note.name.is_empty()) {
                    self.remind(note.clone());
                }
            }
            Err(EvalError::Errors(errors)) => self.last_errors.clone_from(errors),
            _ => {}
        }
        result
    }

    /// Passes on a message to a control.
    pub(crate) fn deliver(&mut self, message: &Comm) -> Result<Done, EvalError> {
        let lines = self.process.deliver(message);
        let result = lines.map(|_| Done::default());
        self.revive(result.map_err(|died| EvalError::Died(died.status)))
    }

    /// The next cell has this number.
    pub(crate) fn number(&mut self, number: u64) {
        self.process.number(number);
    }

    /// Makes what was in the session's folder anew, which is empty. Crates of `:dep` lie elsewhere.
    pub(crate) fn refill_folder(&mut self) -> Result<(), EvalError> {
        let made = self.compiler.make_folder();
        made.map_err(|error| {
            EvalError::Refused(format!("its folder for cells cannot be made: {error}"))
        })
    }

    /// The process that runs cells.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Whether the cell was asked to stop.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.session.join(INTERRUPT_FILE).exists()
    }

    /// How many processes there were before the one that runs cells now.
    pub(crate) fn restarts(&self) -> u64 {
        self.process.restarts()
    }

    /// Starts the process anew if it ended.
    fn revive(&mut self, mut result: Result<Done, EvalError>) -> Result<Done, EvalError> {
        // A second interrupt ends the process also while the compiler runs.
        if let Err(EvalError::Interrupted) = result
            && let Some(died) = self.process.ended()
        {
            result = Err(EvalError::Died(died.status));
        }
        if let Err(EvalError::Died(_)) = result {
            self.state.variables.clear();
            if let Err(error) = self.process.restart() {
                return Err(EvalError::Refused(format!(
                    "the process that runs cells ended and cannot be started again: {error}"
                )));
            }
        }
        result
    }

    fn evaluate_cell<'a>(
        &mut self,
        cell: &'a str,
        commands: impl FnOnce(&mut RustcEngine, &'a str, &mut Done) -> Result<&'a str, EvalError>,
    ) -> Result<Done, EvalError> {
        let mut clock = Clock::start();
        let mut done = Done::default();
        if let Some(reason) = nesting::too_deep(syntax::skip_commands(cell)) {
            return Err(EvalError::Refused(reason));
        }
        if let Some(name) = syntax::lone_name(cell)
            && self.show(name, &mut clock)?
        {
            return Ok(self.finished(done, clock));
        }
        self.learn();
        self.waiting = None;
        self.compiler.begin();
        let rust = commands(self, cell, &mut done)?;
        self.add_waiting(&mut done)?;
        if syntax::has_code(rust) {
            clock.lap("parse");
            self.analyst.know(self.known());
            clock.lap("types");
            if syntax::lone_attribute(rust).is_some() {
                // It would be taken for one of what is generated behind it.
                return Err(EvalError::Errors(Vec::new()));
            }
            let calls = self.calls_in(rust, true, &mut clock)?;
            let said = done.notes.len();
            let mut result = self.run_rust(rust, &calls, &mut clock, &mut done);
            if let Err(EvalError::Errors(_)) = result {
                // What was taken for a value may be none.
                let all = self.calls_in(rust, false, &mut clock)?;
                if all.taken() > calls.taken() {
                    done.notes.truncate(said);
                    result = self.run_rust(rust, &all, &mut clock, &mut done);
                }
            }
            result?;
            done.notes.splice(0..0, self.unsaid.drain(..));
            done.notes.extend(self.compiler.untold().map(plain));
        }
        Ok(self.finished(done, clock))
    }

    fn finished(&self, mut done: Done, clock: Clock) -> Done {
        if self.timing && !clock.laps.is_empty() {
            done.timing = Some(clock.display());
        }
        done.phases = clock.laps;
        done
    }

    /// Shows what a cell names that does nothing else, if it is a variable of a type that the prelude shows without a compiler.
    fn show(&mut self, name: &str, clock: &mut Clock) -> Result<bool, EvalError> {
        // What a cell defines may change what the name means, or how its value shows itself.
        if !self.state.variables.contains_key(name)
            || self.state.items.defines(name)
            || self.state.items.code().contains(SHOWS_ITSELF)
        {
            return Ok(false);
        }
        clock.lap("parse");
        let shown = self.process.show(name);
        let Some(lines) = shown.map_err(|died| EvalError::Died(died.status))? else {
            return Ok(false);
        };
        for line in lines {
            if let Control::RunTime(time) = line {
                clock.add("run", time);
            }
        }
        Ok(true)
    }

    /// The statements of a cell that are calls of macros that make items, and the names that they make.
    pub(crate) fn item_calls(&mut self, rust: &str) -> BTreeMap<usize, BTreeMap<String, Spaces>> {
        let found = self.calls_in(rust, false, &mut Clock::start());
        found.map(|found| found.items()).unwrap_or_default()
    }

    /// What the calls of macros make that stand where items may stand. `guess` leaves out those that most likely are values.
    fn calls_in(&mut self, rust: &str, guess: bool, clock: &mut Clock) -> Result<Found, EvalError> {
        if !Calls::any(rust, &self.state.items) {
            return Ok(Found::default());
        }
        let mut items = self.state.items.clone();
        items.settle();
        Plan::take(rust, &mut items, &Found::default());
        let calls = Calls::candidates(rust, &items, guess);
        let mut expanded = None;
        if let Some(source) = self.calls.question(&calls, &items) {
            clock.lap("parse");
            let text = self.compiler.expand(&source).map_err(EvalError::Refused)?;
            clock.lap(self.compiler_phase());
            if self.session.join(INTERRUPT_FILE).exists() {
                return Err(EvalError::Interrupted);
            }
            expanded = Some(text);
        }
        Ok(self.calls.answer(calls, &items, expanded.as_deref()))
    }

    fn run_rust(
        &mut self,
        rust: &str,
        calls: &Found,
        clock: &mut Clock,
        done: &mut Done,
    ) -> Result<(), EvalError> {
        // What the cell changes of the items counts only if it compiles.
        let mut state = self.state.clone();
        state.items.settle();
        let taken = Plan::take(rust, &mut state.items, calls);
        state.items.take_back();
        let mut plan = taken.plan;
        done.notes.extend(taken.notes);
        for krate in taken.crates {
            let known = [
                "alloc",
                "core",
                "std",
                "proc_macro",
                "test",
                "glassbox_prelude",
            ];
            if !known.contains(&krate.as_str())
                && !state.crates.externs.contains_key(&krate)
                && prelude_crates::named(self.compiler.prelude_crates(), &krate).is_none()
            {
                let mut wanted = state.crates.wanted.clone();
                wanted.insert(krate, "\"*\"".to_owned());
                self.add_crates(&wanted, &mut done.notes)?;
                self.share_crates(&mut state);
            }
        }
        let renewed = state.statics.follow(
            &self.state.items,
            &state.items,
            &taken.changed,
            self.process.restarts(),
        );
        let mut lost = self.redefined(&mut state, taken.changed);
        plan.stale.clone_from(&self.stale);
        clock.lap("parse");
        let (source, library, lines) = loop {
            let compiled = self.compile(&mut state, &mut plan, clock, done)?;
            let Some((library, function)) = compiled.1.zip(compiled.0.function.clone()) else {
                // Nothing to run: what was lost is lost without it.
                self.forget(&lost, done);
                done.notes
                    .extend(state.items.changes_aside(&self.state.items));
                done.notes.extend(renewed);
                self.state = state;
                return Ok(());
            };
            if self.session.join(INTERRUPT_FILE).exists() {
                return Err(EvalError::Interrupted);
            }
            self.sources.note(&library, &self.code, &compiled.0.text);
            let lines = self
                .process
                .run(&library, &function)
                .map_err(|died| EvalError::Died(died.status))?;
            let changed: Vec<String> = lines
                .iter()
                .filter_map(|line| match line {
                    Control::Changed { name } => Some(name.clone()),
                    _ => None,
                })
                .collect();
            if changed.is_empty() {
                break (compiled.0, library, lines);
            }
            // Nothing of the cell ran.
            if self.prove(&mut state, &changed) {
                continue;
            }
            for name in changed {
                state.variables.remove(&name);
                plan.uses.remove(&name);
                lost.push(name);
            }
        };
        self.stale.clear();
        self.forget(&lost, done);
        done.notes
            .extend(state.items.changes_aside(&self.state.items));
        done.notes.extend(renewed);
        let written = self.written(&state);
        state
            .statics
            .made(&source.makes, plan.words(&written), &state.items);
        self.account(state, &plan, (&source, &library), &lines, clock, done)
    }

    /// The variables whose types can be written, as generated code needs them.
    fn written(&self, state: &State) -> BTreeMap<String, Stored> {
        state
            .variables
            .iter()
            .filter_map(|(name, variable)| {
                let stored = Stored {
                    ty: variable.written.as_ref()?.code.clone(),
                    mutable: variable.mutable,
                };
                Some((name.clone(), stored))
            })
            .collect()
    }

    /// The variables whose types were made of types that the cell defines anew.
    fn redefined(&self, state: &mut State, changed: Vec<String>) -> Vec<String> {
        if changed.is_empty() {
            return Vec::new();
        }
        let changed = state.items.users_of(changed);
        let lost: Vec<String> = state
            .variables
            .iter()
            .filter(|(_, variable)| {
                let written = variable.written.as_ref();
                let code = written.map_or("", |written| &written.code);
                types::own_types(code).any(|ty| changed.contains(ty))
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in &lost {
            state.variables.remove(name);
        }
        lost
    }

    fn remind(&mut self, note: Note) {
        self.reminders.insert(note.name, note.reminder);
    }

    /// Adds to the errors of a cell that misses a variable what became of it, or why it is not seen there.
    fn with_reminders(&self, mut errors: Vec<Diagnostic>, cell: &str) -> Vec<Diagnostic> {
        let defined = syntax::defined_names(cell);
        let generated = self.last_source.lines();
        let body = generated
            .take_while(|line| !line.contains(source::FUNCTION))
            .count();
        for error in &mut errors {
            let Some(name) = error.missed_name() else {
                continue;
            };
            if let Some(reminder) = self.reminders.get(&name) {
                error.notes.push(reminder.clone());
                continue;
            }
            // Statements see the variables; what stands before them, or inside one as a function, does not.
            let line = error.primary_line().unwrap_or_default();
            let in_item = error.code() == Some("E0434") || line < body;
            let variable = self.state.variables.get(&name);
            if in_item && (variable.is_some() || defined.contains(&name)) {
                let ty = variable.map(Variable::shown_type);
                error.notes = vec![unseen(&name, ty.as_deref())];
                // rustc knows of no variable, and proposes names that look alike.
                error.without_help = true;
            }
        }
        errors
    }

    fn forget(&mut self, lost: &[String], done: &mut Done) {
        for name in lost {
            self.state.variables.remove(name);
            self.stale.push(name.clone());
            done.notes.push(redefined(name));
        }
    }

    /// Takes stock after a cell ran: which variables are there, and of what types.
    fn account(
        &mut self,
        mut state: State,
        plan: &Plan,
        (source, library): (&Source, &Path),
        lines: &[Control],
        clock: &mut Clock,
        done: &mut Done,
    ) -> Result<(), EvalError> {
        for line in lines {
            match line {
                Control::NotLoaded { reason } => {
                    return Err(EvalError::Refused(format!(
                        "the cell cannot be loaded: {reason}"
                    )));
                }
                Control::LoadTime(time) => clock.add("load", *time),
                Control::RunTime(time) => clock.add("run", *time),
                _ => {}
            }
        }
        for (name, how) in &plan.uses {
            state.variables.remove(name);
            self.remind(match how {
                Use::Borrowed => stopped(name),
                Use::Renewed | Use::Consumed => consumed(name),
            });
        }
        let mut unknown = false;
        let origin: Arc<str> = Arc::from(source.text.as_str());
        for line in lines {
            let Control::Stored { name, type_name } = line else {
                continue;
            };
            let before = self.state.variables.get(name);
            let mutable = plan
                .mutability(name)
                .unwrap_or_else(|| before.is_some_and(|variable| variable.mutable));
            let (text, written, known_from) = match before {
                Some(variable) if variable.type_name == *type_name && !hides_binders(type_name) => {
                    (
                        variable.text.clone(),
                        variable.written.clone(),
                        variable.origin.clone(),
                    )
                }
                _ => (type_name.to_owned(), None, None),
            };
            let lost = match (written, put_at(lines, name, library)) {
                (Some(written), _) => Ok((text, Type::Named(written))),
                (None, Some(Put::Function)) => Err(function(name)),
                (None, Some(Put::Type(text))) => Ok((text.clone(), self.names.resolve(&text))),
                (None, None) if hides_binders(type_name) => Ok((text, Type::Unwritable)),
                (None, None) => Ok((text, self.names.resolve(type_name))),
            };
            let known = lost.and_then(|(text, ty)| match ty {
                Type::Named(written) => Ok((text, Some(written))),
                Type::Unknown => Ok((text, None)),
                Type::Unwritable => Err(unwritable(name, type_name)),
                Type::Nameless => Err(not_kept(name, type_name, plan.made(name))),
            });
            let (text, written) = match known {
                Ok(known) => known,
                Err(note) => {
                    done.notes.push(note);
                    state.variables.remove(name);
                    self.stale.push(name.to_owned());
                    continue;
                }
            };
            unknown |= written.is_none();
            let origin = known_from.or_else(|| {
                let unproven = self.names.is_unproven(&text);
                unproven.then(|| Arc::clone(&origin))
            });
            self.reminders.remove(name);
            state.variables.insert(
                name.clone(),
                Variable {
                    type_name: type_name.clone(),
                    text,
                    mutable,
                    written,
                    origin,
                },
            );
        }
        if unknown {
            self.listing_types = self.teach(&source.text);
        }
        self.state = state;
        Ok(())
    }

    /// Has rustc list the types of the cell while the user reads its outputs.
    fn teach(&mut self, source: &str) -> Option<TypeListing> {
        let name = format!("cell_{}", self.cells);
        self.compiler.listing(source, &name).ok()
    }

    /// What the time was spent on that the compiler's last answer took.
    fn compiler_phase(&self) -> &'static str {
        match self.compiler.was_kept {
            true => "kept",
            false => "rustc",
        }
    }

    /// Learns the types of the cell before, if they were not known. Variables whose types stay unknown are not kept, which the next
    /// cell says.
    pub(crate) fn learn(&mut self) {
        let Some(listing) = self.listing_types.take() else {
            return;
        };
        // A compiler that fails leaves no listing, and the variables without a type.
        let listed = self.compiler.listed(listing);
        for (name, variable) in &mut self.state.variables {
            if variable.written.is_some() {
                continue;
            }
            if let Some(listed) = listed.get(name) {
                self.names.learn(&variable.type_name, listed);
            }
            if let Type::Named(written) = self.names.resolve(&variable.text) {
                variable.written = Some(written);
            }
        }
        self.names.save();
        let (kept, unknown): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.state.variables)
                .into_iter()
                .partition(|(_, variable)| variable.written.is_some());
        self.state.variables = kept;
        for (name, variable) in unknown {
            let note = unwritable(&name, &variable.type_name);
            self.remind(note.clone());
            self.unsaid.push(note);
            self.stale.push(name);
        }
    }

    /// The session as rust-analyzer needs it around the code that it is asked about.
    fn known(&self) -> Known {
        let mut parameters = String::new();
        for (name, variable) in &self.state.variables {
            if let Some(written) = &variable.written {
                let mutable = if variable.mutable { "mut " } else { "" };
                parameters += &format!("{mutable}{name}: {}, ", written.code);
            }
        }
        Known {
            items: self.state.items.code(),
            parameters,
        }
    }

    /// The way to rust-analyzer, told of all cells so far.
    pub(crate) fn questions(&mut self) -> &Questions {
        self.learn();
        self.analyst.know(self.known());
        self.analyst.questions()
    }
}

/// What the symbol of the function says that put a variable away, if the prelude said where that function is.
fn put_at(lines: &[Control], name: &str, library: &Path) -> Option<Put> {
    let offset = lines.iter().rev().find_map(|line| match line {
        Control::PutAt { name: of, offset } if of == name => Some(*offset),
        _ => None,
    })?;
    symbols::put_at(library, offset as u64)
}

impl Drop for RustcEngine {
    fn drop(&mut self) {
        if let Some(listing) = &mut self.listing_types {
            listing.end();
        }
    }
}
