//! evcxr and the rust-analyzer in it, for completion and inspection only.
//!
//! It runs in a thread of its own, is started when the session has been idle for a while or is asked, and is told the
//! session's items and variables with each question, before the code that is asked about. So no cell waits for it. The
//! process that it believes to run its cells answers and does nothing (see [`super::super::child::idle`]), and so does the
//! cargo that it builds with.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use evcxr::{CommandContext, Completions, EvalContext};

use super::super::stand_in::Settings;
use super::super::toolchain::{self, Toolchain};
use super::super::{analysis, child, syntax};

/// How long no cell must have run before rust-analyzer is started for questions to come.
const IDLE: Duration = Duration::from_secs(3);

/// What starting rust-analyzer takes.
#[derive(Clone, Debug)]
pub(crate) struct Analysis {
    /// Our own binary.
    pub program: PathBuf,
    /// Where evcxr may work.
    pub folder: PathBuf,
    /// What rust-analyzer is shown of the prelude, see [`analysis`].
    pub shown: PathBuf,
    pub toolchain: Toolchain,
    pub settings: Settings,
}

enum Ask {
    Busy(bool),
    Depend(BTreeMap<String, String>),
    Complete {
        code: String,
        cursor: usize,
        reply: Sender<Result<Completions, String>>,
    },
    Hover {
        code: String,
        cursor: usize,
        reply: Sender<Result<(String, String), String>>,
    },
    End,
}

/// The thread that owns evcxr.
pub(crate) struct Analyst {
    questions: Questions,
    thread: Option<JoinHandle<()>>,
}

/// The way to that thread, from any other. What the session knew when its last cell began stands before the code that is
/// asked about.
#[derive(Clone)]
pub(crate) struct Questions {
    asks: Sender<Ask>,
    known: Arc<Mutex<String>>,
}

impl Analyst {
    pub(crate) fn new(analysis: Analysis) -> Analyst {
        let (asks, inbox) = unbounded();
        let thread = std::thread::Builder::new()
            .name("analysis".to_owned())
            .spawn(move || Desk::new(analysis).work(&inbox));
        Analyst {
            questions: Questions {
                asks,
                known: Arc::default(),
            },
            thread: thread.ok(),
        }
    }

    /// For other threads.
    pub(crate) fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Says whether a cell runs.
    pub(crate) fn busy(&self, busy: bool) {
        self.questions.ask(Ask::Busy(busy));
    }

    /// Says which crates the session has added.
    pub(crate) fn depend(&self, dependencies: &BTreeMap<String, String>) {
        self.questions.ask(Ask::Depend(dependencies.clone()));
    }

    /// Says what the session knows: items and variables as code.
    pub(crate) fn know(&self, prefix: String) {
        *self
            .questions
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = prefix;
    }
}

impl Questions {
    fn ask(&self, ask: Ask) {
        // Without a thread the reply's sender is dropped, and the question answered by that.
        let _ = self.asks.send(ask);
    }

    fn prefixed(&self, code: &str, cursor: usize) -> Prefixed {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Prefixed::new(&known, code, cursor)
    }

    /// Proposals for the cursor in `code`, with offsets into it.
    pub(crate) fn complete(&self, code: &str, cursor: usize) -> Result<Completions, String> {
        let whole = self.prefixed(code, cursor);
        let (reply, answer) = bounded(1);
        self.ask(Ask::Complete {
            code: whole.code,
            cursor: whole.cursor,
            reply,
        });
        let mut found = answer.recv().map_err(|_| gone())??;
        found.start_offset = found.start_offset.saturating_sub(whole.shift);
        found.end_offset = found.end_offset.saturating_sub(whole.shift);
        Ok(found)
    }

    /// Text and HTML about the name that ends at the cursor.
    pub(crate) fn hover(&self, code: &str, cursor: usize) -> Result<(String, String), String> {
        let whole = self.prefixed(code, cursor);
        let (reply, answer) = bounded(1);
        self.ask(Ask::Hover {
            code: whole.code,
            cursor: whole.cursor,
            reply,
        });
        answer.recv().map_err(|_| gone())?
    }
}

impl Drop for Analyst {
    fn drop(&mut self) {
        // Others may still hold the way to the thread.
        self.questions.ask(Ask::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gone() -> String {
    "rust-analyzer is not running".to_owned()
}

/// A cell's code after what the session knows.
struct Prefixed {
    code: String,
    cursor: usize,
    /// How far the cursor's surroundings were moved.
    shift: usize,
}

impl Prefixed {
    /// Commands stay at the top, where evcxr looks for them.
    fn new(prefix: &str, code: &str, cursor: usize) -> Prefixed {
        let commands = code.len() - syntax::skip_commands(code).len();
        if cursor < commands {
            return Prefixed {
                code: code.to_owned(),
                cursor,
                shift: 0,
            };
        }
        Prefixed {
            code: format!("{}{prefix}{}", &code[..commands], &code[commands..]),
            cursor: cursor + prefix.len(),
            shift: prefix.len(),
        }
    }
}

struct Desk {
    analysis: Analysis,
    context: Option<CommandContext>,
    dependencies: BTreeMap<String, String>,
    /// Which of them evcxr was told.
    told: BTreeMap<String, String>,
}

impl Desk {
    fn new(analysis: Analysis) -> Desk {
        Desk {
            analysis,
            context: None,
            dependencies: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn work(mut self, inbox: &Receiver<Ask>) {
        let mut busy = true;
        loop {
            let ask = if busy || self.context.is_some() {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                inbox.recv_timeout(IDLE)
            };
            match ask {
                Ok(Ask::Busy(now)) => busy = now,
                Ok(Ask::Depend(dependencies)) => self.dependencies = dependencies,
                Ok(Ask::Complete {
                    code,
                    cursor,
                    reply,
                }) => {
                    let answer = self.asked(|context| context.completions(&code, cursor));
                    let _ = reply.send(answer);
                }
                Ok(Ask::Hover {
                    code,
                    cursor,
                    reply,
                }) => {
                    let answer = self.asked(|context| context.hover_at(&code, cursor));
                    let _ = reply.send(answer);
                }
                Err(RecvTimeoutError::Timeout) => {
                    // If it does not start now, the first question says why.
                    if self.ready().is_err() {
                        busy = true;
                    }
                }
                Ok(Ask::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn asked<T, E: std::fmt::Display>(
        &mut self,
        question: impl FnOnce(&mut CommandContext) -> Result<T, E>,
    ) -> Result<T, String> {
        let context = self.ready()?;
        guarded(|| question(context).map_err(|error| error.to_string()))
    }

    /// evcxr, started and told of every crate.
    fn ready(&mut self) -> Result<&mut CommandContext, String> {
        let mut context = match self.context.take() {
            Some(context) => context,
            None => start(&self.analysis)?,
        };
        if self.told != self.dependencies {
            let lines: Vec<String> = self
                .dependencies
                .iter()
                .filter(|(name, config)| self.told.get(*name) != Some(config))
                .map(|(name, config)| format!(":dep {name} = {config}"))
                .collect();
            self.told.clone_from(&self.dependencies);
            // Crates that it refuses are missing from its answers and nothing else.
            let _ = execute(&mut context, &lines.join("\n"));
        }
        Ok(self.context.insert(context))
    }
}

fn start(analysis: &Analysis) -> Result<CommandContext, String> {
    let text = |error: std::io::Error| error.to_string();
    let folder = &analysis.folder;
    std::fs::create_dir_all(folder).map_err(text)?;
    analysis.settings.save(folder).map_err(text)?;
    toolchain::install_stand_ins(folder, &analysis.toolchain, &analysis.program)
        .map_err(|error| error.to_string())?;
    let mut command = Command::new(&analysis.program);
    command.arg(child::IDLE_ROLE);
    let library = analysis::library(&analysis.shown);
    let started = toolchain::with_stand_ins_on_path(folder, &library, || {
        guarded(|| EvalContext::with_subprocess_command(command).map_err(|error| error.to_string()))
    });
    let (context, outputs) = started?;
    drop(outputs);
    let mut context = CommandContext::with_eval_context(context);
    let prelude = analysis::prelude(&analysis.shown);
    let path = serde_json::Value::from(prelude.to_string_lossy().into_owned());
    execute(
        &mut context,
        &format!(":dep {} = {{ path = {path} }}", analysis::PRELUDE),
    )?;
    Ok(context)
}

fn execute(context: &mut CommandContext, code: &str) -> Result<(), String> {
    // rust-analyzer looks for its tools again when the dependencies change.
    let _unchanged = toolchain::unchanged_environment();
    guarded(|| {
        context
            .execute(code)
            .map(|_| ())
            .map_err(|error| error.to_string())
    })
}

fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("rust-analyzer panicked".to_owned()))
}
