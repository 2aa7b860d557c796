//! The thread that owns the session: takes jobs in the order of the shell socket and answers each.
//!
//! The session starts in a thread of its own, so that jobs can arrive, wait and be cancelled meanwhile; when the prelude
//! has to be built, the first waiting cell shows how far that is.
//! A job's answer is: `busy`, the outputs, the reply on shell, `idle`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use serde_json::{Map, Value, json};

use super::aids::{self, AidsSlot};
use super::causes::Causes;
use super::comm::{self, Comms};
use super::failure::{Failure, error_reply};
use super::history::History;
use super::iopub::Outbox;
use super::stdin::Stdin;
use super::wire::{Replies, Request};
use crate::figures::time;
use crate::session::{
    Aids, Asked, BackgroundSink, CellErrorKind, Comm, Display, Event, Interrupter, Session,
    SessionConfig, SessionError, StartEvent, asked,
};

/// What the shell and control sockets ask of the session.
pub enum Job {
    /// `execute_request`.
    Execute(Arc<Request>),
    /// `comm_open`, `comm_msg` or `comm_close` of a comm that is known, and what it says.
    Comm(Arc<Request>, Box<Comm>),
    /// `complete_request` or `inspect_request`, and who answers it with what the session knows now.
    Aid(Arc<Request>, Answerer),
    /// Cells that wait for the session to start shall not run.
    CancelWaiting,
    /// End the session and the thread.
    Stop,
}

/// Answers a question about code elsewhere, so that no cell waits for rust-analyzer.
pub type Answerer = Box<dyn FnOnce(Arc<Request>, Aids) + Send>;

/// The cell that runs now, as the control socket sees it.
pub struct Running {
    /// Its `execute_request`.
    pub cause: Arc<Request>,
    /// Stops it.
    pub interrupter: Interrupter,
    /// When it was first interrupted.
    pub interrupted: Option<Instant>,
}

/// The slot that tells whether a cell runs.
pub type RunningCell = Arc<Mutex<Option<Running>>>;

/// What the worker talks to.
pub struct Worker {
    /// Jobs, in order.
    pub inbox: Receiver<Job>,
    /// Outputs.
    pub outbox: Outbox,
    /// Replies to what came from shell.
    pub shell: Replies,
    /// Replies to what came from control.
    pub control: Replies,
    /// Questions of cells.
    pub stdin: Stdin,
    /// Filled while a cell runs.
    pub running: RunningCell,
    /// How many cells, and messages to controls, run or wait to.
    pub cells: Arc<AtomicUsize>,
    /// The comms that are open.
    pub comms: Comms,
    /// Filled while there is a session that can be asked beside its cells.
    pub aids: AidsSlot,
    /// Cells that were run.
    pub history: Arc<Mutex<History>>,
    /// Set when the kernel ends: what still waits is not begun.
    pub ending: Arc<AtomicBool>,
}

impl Worker {
    /// Works until [`Job::Stop`] comes or the senders are gone.
    pub fn run(self) {
        let mut queue = CellQueue {
            worker: self,
            waiting: VecDeque::new(),
            count: 0,
            opened: None,
            causes: Causes::default(),
        };
        let mut state = SessionState::start();
        loop {
            state = match state {
                SessionState::Starting(starting) => match queue.wait_for_start(starting) {
                    Some(state) => state,
                    None => return,
                },
                SessionState::Ready(mut session) => match queue.next_job() {
                    Some(job) => {
                        queue.work(&mut session, job);
                        SessionState::Ready(session)
                    }
                    None => return,
                },
                SessionState::Failed(error) => match queue.next_job() {
                    // The reason may be gone (rustc installed, disk freed): the next cell tries again.
                    Some(Job::Execute(cause)) => {
                        queue.waiting.push_front(Job::Execute(cause));
                        SessionState::start()
                    }
                    Some(job) => {
                        queue.refuse(&job, &error);
                        SessionState::Failed(error)
                    }
                    None => return,
                },
            }
        }
    }
}

/// The session, or how far it is.
enum SessionState {
    Starting(Starting),
    Ready(Box<Session>),
    Failed(Failure),
}

struct Starting {
    news: Receiver<News>,
    began: Instant,
    /// The latest step worth showing.
    step: Option<String>,
    /// The cell that shows it.
    shown_in: Option<Arc<Request>>,
}

enum News {
    Event(StartEvent),
    Done(Box<Result<Session, SessionError>>),
}

impl SessionState {
    fn start() -> SessionState {
        let (send, news) = unbounded();
        std::thread::spawn(move || start_session(&send));
        SessionState::Starting(Starting {
            news,
            began: Instant::now(),
            step: None,
            shown_in: None,
        })
    }
}

fn start_session(news: &Sender<News>) {
    let mut progress = |event| {
        let _ = news.send(News::Event(event));
    };
    let config = SessionConfig {
        comms: true,
        ..SessionConfig::from_environment()
    };
    let session = Session::start(config, &mut progress);
    // A closed channel means that the kernel is shutting down: the session ends as it is dropped.
    let _ = news.send(News::Done(Box::new(session)));
}

/// The worker with what it holds between jobs.
struct CellQueue {
    worker: Worker,
    /// Jobs taken from the inbox ahead of their turn.
    waiting: VecDeque<Job>,
    /// The number of the last cell that counted.
    count: usize,
    /// The cell whose `busy` and `execute_input` are already out.
    opened: Option<Arc<Request>>,
    /// Who began the session's cells.
    causes: Causes,
}

impl CellQueue {
    fn next_job(&mut self) -> Option<Job> {
        let job = self
            .waiting
            .pop_front()
            .or_else(|| self.worker.inbox.recv().ok())?;
        let ending = self.worker.ending.load(Ordering::Acquire);
        if ending || matches!(job, Job::Stop) {
            None
        } else {
            Some(job)
        }
    }

    /// Takes jobs and news until the session is there, cannot start, or the kernel ends (`None`).
    fn wait_for_start(&mut self, mut starting: Starting) -> Option<SessionState> {
        let inbox = self.worker.inbox.clone();
        loop {
            select! {
                recv(inbox) -> job => match job.ok()? {
                    Job::Stop => return None,
                    Job::CancelWaiting => self.cancel_waiting(),
                    job => {
                        self.waiting.push_back(job);
                        self.show_start(&mut starting, None);
                    }
                },
                recv(starting.news) -> news => match news.ok()? {
                    News::Event(event) => {
                        if event.takes_long() {
                            starting.step = Some(event.to_string());
                            self.show_start(&mut starting, None);
                        }
                    }
                    News::Done(result) => return Some(self.started(&mut starting, *result)),
                },
            }
        }
    }

    fn started(
        &mut self,
        starting: &mut Starting,
        result: Result<Session, SessionError>,
    ) -> SessionState {
        match result {
            Ok(mut session) => {
                if starting.shown_in.is_some() {
                    let took = starting.began.elapsed();
                    self.show_start(
                        starting,
                        Some(format!("prelude ready after {}", time(took))),
                    );
                }
                *self
                    .worker
                    .aids
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(session.aids());
                self.causes.clear();
                session.set_background(Some(self.background()));
                SessionState::Ready(Box::new(session))
            }
            Err(error) => {
                let failure = Failure::plain("SessionError", error.to_string());
                if starting.shown_in.is_some() {
                    self.show_start(
                        starting,
                        Some("the prelude could not be made ready".to_owned()),
                    );
                }
                // Every cell that waited gets the reason; the next one tries again.
                for job in std::mem::take(&mut self.waiting) {
                    self.refuse(&job, &failure);
                }
                SessionState::Failed(failure)
            }
        }
    }

    /// Shows the start's progress in the first waiting cell, or closes it with `last`.
    fn show_start(&mut self, starting: &mut Starting, last: Option<String>) {
        let Some(text) = last.clone().or_else(|| starting.step.clone()) else {
            return;
        };
        let first = self.waiting.iter().find_map(|job| match job {
            Job::Execute(cause) if !cause.flag("silent", false) => Some(cause.clone()),
            _ => None,
        });
        let kind = if starting.shown_in.is_some() {
            "update_display_data"
        } else {
            "display_data"
        };
        let Some(cause) = starting.shown_in.clone().or(first) else {
            return;
        };
        if starting.shown_in.is_none() {
            self.open(&cause);
            starting.shown_in = Some(cause.clone());
        }
        let id = "glassbox-start";
        let data = json!({ "text/plain": text });
        let content = json!({ "data": data, "metadata": {}, "transient": { "display_id": id } });
        self.worker.outbox.send(cause.broadcast(kind, content));
    }

    fn cancel_waiting(&mut self) {
        let failure = Failure::plain(
            "Interrupted",
            "the cell was interrupted before it began to run".to_owned(),
        );
        let (cells, others): (VecDeque<Job>, VecDeque<Job>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|job| matches!(job, Job::Execute(_)));
        self.waiting = others;
        for job in cells {
            self.refuse(&job, &failure);
        }
    }

    /// Answers a job that cannot be done.
    fn refuse(&mut self, job: &Job, failure: &Failure) {
        match job {
            Job::Execute(cause) => {
                let (count, _) = self.number(cause);
                self.open(cause);
                self.fail(cause, failure, count);
                self.close(cause);
                self.cell_done();
            }
            Job::Aid(cause, _) => self.answer(cause, error_reply(failure)),
            // Nobody is there whose control it could be.
            Job::Comm(cause, comm) => {
                self.status(cause, "busy");
                let closed = self
                    .worker
                    .comms
                    .lost(cause, std::slice::from_ref(&comm.id));
                closed
                    .into_iter()
                    .for_each(|message| self.worker.outbox.send(message));
                self.status(cause, "idle");
                self.cell_done();
            }
            Job::CancelWaiting | Job::Stop => {}
        }
    }

    fn work(&mut self, session: &mut Session, job: Job) {
        match job {
            Job::Execute(cause) => {
                self.execute(session, &cause);
                self.cell_done();
            }
            Job::Comm(cause, comm) => {
                self.deliver(session, &cause, &comm);
                self.cell_done();
            }
            Job::Aid(cause, answerer) => answerer(cause, session.aids()),
            Job::CancelWaiting | Job::Stop => {}
        }
    }

    /// Has a message to a control do its work, unless a later one that waits already makes it needless.
    fn deliver(&mut self, session: &mut Session, cause: &Arc<Request>, comm: &Comm) {
        self.status(cause, "busy");
        while let Ok(job) = self.worker.inbox.try_recv() {
            self.waiting.push_back(job);
        }
        // Only up to the next cell, which may look at the value.
        let next = self
            .waiting
            .iter()
            .take_while(|job| matches!(job, Job::Comm(..)));
        let needless = next.into_iter().any(|job| match job {
            Job::Comm(later, _) => comm::replaces(later, cause),
            _ => false,
        });
        if !needless {
            let (before, restarts) = (self.worker.comms.ids(), session.restarts());
            self.causes.note(session.number() + 1, cause);
            *self.running() = Some(Running {
                cause: cause.clone(),
                interrupter: session.interrupter(),
                interrupted: None,
            });
            let (outbox, comms) = (&self.worker.outbox, &self.worker.comms);
            let outcome = session.deliver(comm, &mut |event| {
                output(outbox, comms, cause, 0, event, &mut None);
            });
            *self.running() = None;
            if let Err(error) = outcome.status {
                let failure = Failure::from(error);
                self.worker
                    .outbox
                    .send(cause.broadcast("error", failure.content()));
            }
            self.close_lost(session, cause, &before, restarts);
        }
        self.status(cause, "idle");
    }

    /// Takes what threads say that cells began, and shows it under those cells.
    fn background(&self) -> BackgroundSink {
        let (outbox, comms) = (self.worker.outbox.clone(), self.worker.comms.clone());
        let causes = self.causes.clone();
        Box::new(move |number, event| {
            let Some(cause) = causes.of(number) else {
                return;
            };
            // A cell has its result once, when it ends.
            let event = match event {
                Event::Result(display) => Event::Display(display),
                event => event,
            };
            if !cause.flag("silent", false) {
                output(&outbox, &comms, &cause, 0, event, &mut None);
            }
        })
    }

    /// Closes the comms that were open before the process of the cells was started anew, if it was.
    fn close_lost(&self, session: &Session, cause: &Request, before: &[String], restarts: u64) {
        if session.restarts() != restarts {
            let closed = self.worker.comms.lost(cause, before);
            closed
                .into_iter()
                .for_each(|message| self.worker.outbox.send(message));
        }
    }

    fn execute(&mut self, session: &mut Session, cause: &Arc<Request>) {
        let (count, counted) = self.number(cause);
        self.open(cause);
        if let Some(why) = cause.flaw() {
            self.fail(cause, &Failure::unread(why), count);
            self.abort_queue();
            return self.close(cause);
        }
        if counted {
            self.count = count;
        }
        let code = cause.text("code");
        if let Some(Asked::Doc { name, .. }) = asked(code)
            && !name.is_empty()
        {
            return self.explain(session, cause, name, count);
        }
        let silent = cause.flag("silent", false);
        let running = Running {
            cause: cause.clone(),
            interrupter: session.interrupter(),
            interrupted: None,
        };
        *self.running() = Some(running);
        let mut shown = None;
        let (running, ending) = (self.worker.running.clone(), self.worker.ending.clone());
        let (outbox, comms) = (&self.worker.outbox, &self.worker.comms);
        let reader = self.worker.stdin.reader(cause, outbox, move || {
            let cell = running.lock().unwrap_or_else(PoisonError::into_inner);
            ending.load(Ordering::Acquire)
                || cell.as_ref().is_none_or(|cell| cell.interrupted.is_some())
        });
        session.set_input_reader(Some(reader));
        let (before, restarts) = (comms.ids(), session.restarts());
        self.causes.note(session.number() + 1, cause);
        let outcome = session.evaluate(code, &mut |event| {
            if !silent {
                output(outbox, comms, cause, count, event, &mut shown);
            }
        });
        session.set_input_reader(None);
        *self.running() = None;
        self.close_lost(session, cause, &before, restarts);

        if counted {
            let mut history = self
                .worker
                .history
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            history.add(count, code, shown.as_deref());
        }
        match outcome.status {
            Ok(()) => {
                let expressions = user_expressions(session, cause);
                self.reply(cause, json!({
                    "status": "ok", "execution_count": count, "payload": [], "user_expressions": expressions,
                }));
            }
            Err(error) => {
                let interrupted = error.kind == CellErrorKind::Interrupted;
                self.fail(cause, &error.into(), count);
                if interrupted || cause.flag("stop_on_error", true) {
                    self.abort_queue();
                }
            }
        }
        self.close(cause);
    }

    /// Answers `?name` and `:doc name` with a page of documentation.
    fn explain(&mut self, session: &mut Session, cause: &Arc<Request>, name: &str, count: usize) {
        match session.inspect(name, name.len()) {
            Ok(Some(found)) => {
                let page =
                    json!({ "source": "page", "data": aids::documentation(found), "start": 0 });
                self.reply(cause, json!({
                    "status": "ok", "execution_count": count, "payload": [page], "user_expressions": {},
                }));
            }
            Ok(None) => self.fail(
                cause,
                &Failure::plain("NotFound", format!("nothing is known of `{name}`")),
                count,
            ),
            Err(error) => self.fail(
                cause,
                &Failure::plain("InspectError", error.to_string()),
                count,
            ),
        }
        self.close(cause);
    }

    /// The number that the cell is shown with, and whether it counts.
    fn number(&self, cause: &Request) -> (usize, bool) {
        let counted = cause.flag("store_history", true) && !cause.flag("silent", false);
        (self.count + 1, counted)
    }

    /// `busy` and `execute_input`, once per cell.
    fn open(&mut self, cause: &Arc<Request>) {
        if self
            .opened
            .as_ref()
            .is_some_and(|opened| Arc::ptr_eq(opened, cause))
        {
            return;
        }
        self.status(cause, "busy");
        if !cause.flag("silent", false) {
            let (count, _) = self.number(cause);
            let content = json!({ "code": cause.text("code"), "execution_count": count });
            self.worker
                .outbox
                .send(cause.broadcast("execute_input", content));
        }
        self.opened = Some(cause.clone());
    }

    fn close(&mut self, cause: &Arc<Request>) {
        self.status(cause, "idle");
        self.opened = None;
    }

    /// The error on iopub and in the reply.
    fn fail(&self, cause: &Request, failure: &Failure, count: usize) {
        if !cause.flag("silent", false) {
            self.worker
                .outbox
                .send(cause.broadcast("error", failure.content()));
        }
        let mut content = error_reply(failure);
        content["execution_count"] = json!(count);
        content["payload"] = json!([]);
        content["user_expressions"] = json!({});
        self.reply(cause, content);
    }

    /// After an error the cells that were sent with it do not run.
    fn abort_queue(&mut self) {
        while let Ok(job) = self.worker.inbox.try_recv() {
            self.waiting.push_back(job);
        }
        let (cells, others): (VecDeque<Job>, VecDeque<Job>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|job| matches!(job, Job::Execute(_)));
        self.waiting = others;
        for job in cells {
            if let Job::Execute(cause) = job {
                self.answer(&cause, json!({ "status": "aborted" }));
                self.cell_done();
            }
        }
    }

    /// One cell less that a question about code would have to wait for.
    fn cell_done(&self) {
        self.worker.cells.fetch_sub(1, Ordering::AcqRel);
    }

    fn answer(&self, cause: &Request, content: Value) {
        self.status(cause, "busy");
        self.reply(cause, content);
        self.status(cause, "idle");
    }

    fn reply(&self, cause: &Request, content: Value) {
        let replies = match cause.socket {
            "control" => &self.worker.control,
            _ => &self.worker.shell,
        };
        replies.send(cause.reply(content));
    }

    fn status(&self, cause: &Request, state: &str) {
        self.worker
            .outbox
            .send(cause.broadcast("status", json!({ "execution_state": state })));
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.worker
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One event of the cell as a message; `shown` keeps the result's text for the history.
fn output(
    outbox: &Outbox,
    comms: &Comms,
    cause: &Arc<Request>,
    count: usize,
    event: Event,
    shown: &mut Option<String>,
) {
    match event {
        Event::Stream { name, text } => outbox.send_text(cause, name.as_str(), text),
        Event::Display(display) => outbox.send(cause.broadcast("display_data", bundle(display))),
        Event::Update(display) => {
            outbox.send(cause.broadcast("update_display_data", bundle(display)))
        }
        Event::ClearOutput { wait } => {
            outbox.send(cause.broadcast("clear_output", json!({ "wait": wait })))
        }
        Event::Result(display) => {
            *shown = display
                .data
                .get("text/plain")
                .and_then(Value::as_str)
                .map(str::to_owned);
            let mut content = bundle(display);
            content["execution_count"] = json!(count);
            outbox.send(cause.broadcast("execute_result", content));
        }
        Event::Comm(comm) => outbox.send(comms.sent(cause, comm)),
        // It has a way of its own, see `Desk::background`.
        Event::Background { .. } => {}
    }
}

fn bundle(display: Display) -> Value {
    let mut transient = Map::new();
    if let Some(id) = display.display_id {
        transient.insert("display_id".to_owned(), Value::String(id));
    }
    json!({ "data": display.data, "metadata": display.metadata, "transient": transient })
}

/// Each expression of the request, evaluated after the cell; a failing one does not fail the cell.
fn user_expressions(session: &mut Session, cause: &Request) -> Value {
    let Some(expressions) = cause
        .content
        .get("user_expressions")
        .and_then(Value::as_object)
    else {
        return json!({});
    };
    let mut answers = Map::new();
    for (name, code) in expressions {
        let mut value = json!({ "status": "ok", "data": {}, "metadata": {} });
        let outcome = session.evaluate_aside(code.as_str().unwrap_or(""), &mut |event| {
            if let Event::Result(display) = event {
                value =
                    json!({ "status": "ok", "data": display.data, "metadata": display.metadata });
            }
        });
        if let Err(error) = outcome.status {
            value = error_reply(&error.into());
        }
        answers.insert(name.clone(), value);
    }
    Value::Object(answers)
}
