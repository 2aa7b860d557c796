//! The five sockets and who answers what.
//!
//! Shell: kernel_info, is_complete, history and comm_info are answered here at once, complete and inspect by a task of their own;
//! execute and comm messages go to the [`worker`](super::worker) in order. Control: interrupt and shutdown, also while a cell runs.
//! Stdin carries the questions of cells; heartbeat echoes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::Sender;
use jupyter_protocol::{ConnectionInfo, JupyterMessage};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::aids::{self, AidsSlot};
use super::comm::{self, Comms};
use super::failure::{Failure, error_reply};
use super::heartbeat;
use super::history::History;
use super::iopub::{self, Outbox};
use super::lifetime;
use super::stdin::Stdin;
use super::unsigned;
use super::wire::{self, Dropped, PROTOCOL_VERSION, Replies, Request, Wire, announce, log};
use super::worker::{Job, Running, RunningCell, Worker};
use super::zmtp::handshake::Kind;
use super::zmtp::listener::Listener;
use super::zmtp::router::{Incoming, Router};
use crate::patience;
use crate::session::{Aids, Completeness, Interrupter, completeness};

/// Serves the sockets of `connection` until a client, a signal or the parent's end stops the kernel.
pub async fn serve(connection: &ConnectionInfo) -> Result<()> {
    if connection.signature_scheme != "hmac-sha256" && !connection.key.is_empty() {
        bail!(
            "the connection file asks for signatures by {}: only hmac-sha256 is known",
            connection.signature_scheme
        );
    }
    if let Some(warning) = unsigned::warning(connection) {
        log(&warning);
    }
    // All are bound before one is served: a client that reaches the last finds the others.
    let bind = async |name, port, kind| {
        let bound = Listener::bind(connection, port, name, kind).await;
        bound.with_context(|| {
            let ip = &connection.ip;
            format!("the ports of the connection file at {ip} cannot be used: {name}, {port}")
        })
    };
    let heartbeat = bind("heartbeat", connection.hb_port, Kind::Echo).await?;
    let iopub = bind("iopub", connection.iopub_port, Kind::Publisher).await?;
    let shell = bind("shell", connection.shell_port, Kind::Router).await?;
    let control = bind("control", connection.control_port, Kind::Router).await?;
    let stdin = bind("stdin", connection.stdin_port, Kind::Router).await?;
    let wire = Arc::new(Wire::new(&connection.key));
    let start = |listener| {
        let (router, incoming) = Router::start(listener);
        (Replies::new(wire.clone(), router), incoming)
    };
    heartbeat::start(heartbeat);
    let outbox = iopub::start(iopub, wire.clone());
    let (shell_out, shell_in) = start(shell);
    let (control_out, control_in) = start(control);
    let (stdin_out, stdin_in) = start(stdin);

    outbox
        .post(announce("status", json!({ "execution_state": "starting" })))
        .await;

    let (jobs, inbox) = crossbeam_channel::unbounded();
    let running = RunningCell::default();
    let ending = Arc::new(AtomicBool::new(false));
    let history = Arc::new(Mutex::new(History::open()));
    let dropped = Arc::new(Dropped::default());
    let (stop, mut stopped) = mpsc::unbounded_channel();
    let (worker_done, worker_gone) = oneshot::channel::<()>();
    let (cells, aids, comms) = (Arc::default(), AidsSlot::default(), Comms::default());
    let (past_the_worker, questions) = mpsc::unbounded_channel();
    tokio::spawn(answer_past_the_worker(questions));
    let (typed, answers) = crossbeam_channel::unbounded();

    let worker = Worker {
        inbox,
        outbox: outbox.clone(),
        shell: shell_out.clone(),
        control: control_out.clone(),
        stdin: Stdin {
            questions: stdin_out,
            answers,
        },
        running: running.clone(),
        cells: Arc::clone(&cells),
        comms: comms.clone(),
        aids: aids.clone(),
        history: history.clone(),
        ending: ending.clone(),
    };
    let shell = RequestHandler {
        replies: worker.shell.clone(),
        outbox: outbox.clone(),
        jobs: jobs.clone(),
        running: running.clone(),
        cells,
        comms,
        aids,
        past_the_worker,
        history,
        stop: stop.clone(),
    };
    let control = RequestHandler {
        replies: worker.control.clone(),
        ..shell.clone()
    };
    std::thread::Builder::new()
        .name("session".to_owned())
        .spawn(move || {
            worker.run();
            let _ = worker_done.send(());
        })?;
    let arrivals = |socket, incoming| Arrivals {
        incoming,
        wire: wire.clone(),
        socket,
        dropped: dropped.clone(),
    };
    tokio::spawn(listen(shell.clone(), arrivals("shell", shell_in)));
    tokio::spawn(listen(control.clone(), arrivals("control", control_in)));
    tokio::spawn(pass_on(arrivals("stdin", stdin_in), typed));
    tokio::spawn(lifetime::end_with_parent(stop.clone()));
    let interrupted = control.clone();
    tokio::spawn(lifetime::signals(stop, move || interrupted.interrupt()));

    // Someone asked for the end; `None` cannot happen while the tasks above hold the sender.
    let why = stopped.recv().await.unwrap_or("no one is left");
    ending.store(true, Ordering::Release);
    let _ = jobs.send(Job::Stop);
    if let Some(cell) = lock(&running).as_ref() {
        cell.interrupter.kill();
    }
    if tokio::time::timeout(patience::FAREWELL, worker_gone)
        .await
        .is_err()
    {
        log("the session did not end in time");
    }
    outbox.flush().await;
    let (signatures, malformed) = (dropped.signatures(), dropped.malformed());
    let replayed = dropped.replayed();
    if signatures + malformed + replayed > 0 {
        log(&format!(
            "dropped {signatures} messages with a wrong signature, {malformed} malformed, {replayed} that were sent again"
        ));
    }
    log(&format!("ends: {why}"));
    // Replies are handed to the system's buffers by tasks that the runtime is about to end.
    tokio::join!(shell_out.flush(), control_out.flush());
    Ok(())
}

/// What arrives at a socket.
struct Arrivals {
    incoming: mpsc::Receiver<Incoming>,
    wire: Arc<Wire>,
    socket: &'static str,
    dropped: Arc<Dropped>,
}

impl Arrivals {
    async fn next(&mut self) -> Option<Request> {
        wire::receive(&mut self.incoming, &self.wire, self.socket, &self.dropped).await
    }
}

async fn listen(handler: RequestHandler, mut arrivals: Arrivals) {
    while let Some(request) = arrivals.next().await {
        handler.handle(request).await;
    }
}

/// Passes on what is typed; who waits for it is the running cell.
async fn pass_on(mut arrivals: Arrivals, typed: Sender<Request>) {
    while let Some(answer) = arrivals.next().await {
        // The worker is gone only when the kernel is ending.
        let _ = typed.send(answer);
    }
}

fn lock(running: &RunningCell) -> std::sync::MutexGuard<'_, Option<Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question about code, who asked it and who knows.
type Question = (RequestHandler, Arc<Request>, Aids);

/// Answers questions one after the other, whatever the worker does.
async fn answer_past_the_worker(mut questions: mpsc::UnboundedReceiver<Question>) {
    while let Some((handler, request, aids)) = questions.recv().await {
        let asked = request.clone();
        let content = tokio::task::spawn_blocking(move || aids::reply(&aids, &asked)).await;
        let content = content.unwrap_or_else(|_| json!({ "status": "error" }));
        handler.answer(&request, content).await;
    }
}

/// What answers requests on one socket.
#[derive(Clone)]
struct RequestHandler {
    replies: Replies,
    outbox: Outbox,
    jobs: Sender<Job>,
    running: RunningCell,
    cells: Arc<AtomicUsize>,
    comms: Comms,
    aids: AidsSlot,
    past_the_worker: mpsc::UnboundedSender<Question>,
    history: Arc<Mutex<History>>,
    stop: mpsc::UnboundedSender<&'static str>,
}

impl RequestHandler {
    async fn handle(&self, request: Request) {
        let request = Arc::new(request);
        if let Some(why) = request.flaw()
            && request.kind() != "execute_request"
        {
            return self.refuse(&request, why).await;
        }
        match request.kind() {
            "execute_request" => {
                self.cells.fetch_add(1, Ordering::AcqRel);
                self.queue(Job::Execute(request));
            }
            "complete_request" | "inspect_request" => self.aid(request),
            "is_complete_request" => {
                let content = match completeness(request.text("code")) {
                    Completeness::Complete => json!({ "status": "complete" }),
                    Completeness::Incomplete { indent } => {
                        json!({ "status": "incomplete", "indent": indent })
                    }
                    Completeness::Invalid => json!({ "status": "invalid" }),
                };
                self.answer(&request, content).await;
            }
            "kernel_info_request" => self.answer(&request, kernel_info()).await,
            "history_request" => {
                let content = self
                    .history
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .answer(&request);
                self.answer(&request, content).await;
            }
            "comm_info_request" => {
                self.answer(&request, self.comms.info(request.text("target_name")))
                    .await
            }
            "interrupt_request" => {
                self.interrupt();
                self.answer(&request, json!({ "status": "ok" })).await;
            }
            "shutdown_request" => {
                let restart = request.flag("restart", false);
                self.answer(&request, json!({ "status": "ok", "restart": restart }))
                    .await;
                let _ = self.stop.send(if restart {
                    "a client restarts it"
                } else {
                    "a client asked for it"
                });
            }
            "comm_open" | "comm_msg" | "comm_close" => self.comm(request).await,
            kind => {
                let why = format!("{kind:?} is not known here");
                self.refuse(&request, &why).await;
            }
        }
    }

    /// Says that a message is not understood, and why: in the reply, and of messages that have none in the log.
    async fn refuse(&self, request: &Request, why: &str) {
        let kind = request.kind();
        log(&format!(
            "a message of type {kind:?} is not understood: {why}"
        ));
        if ["comm_open", "comm_msg", "comm_close", "input_reply"].contains(&kind) {
            return self.enclose(request, None).await;
        }
        self.answer(request, error_reply(&Failure::unread(why)))
            .await;
    }

    async fn comm(&self, request: Arc<Request>) {
        if let Some(answer) = self.comms.none_to_tell_of(&request) {
            return self.enclose(&request, Some(answer)).await;
        }
        match self.comms.received(&request) {
            Some(comm) => {
                self.cells.fetch_add(1, Ordering::AcqRel);
                self.queue(Job::Comm(request, Box::new(comm)));
            }
            // A target that is not known here: the protocol asks for a close.
            None if request.kind() == "comm_open" => {
                let closed = comm::close(&request, request.text("comm_id"));
                self.enclose(&request, Some(closed)).await;
            }
            None => self.enclose(&request, None).await,
        }
    }

    /// Has a question about code answered past the worker, which says what the session knows unless it has a cell to run.
    fn aid(&self, request: Arc<Request>) {
        let handler = self.clone();
        let answer = move |request, aids| {
            // The task ends only with the process.
            let _ = handler
                .past_the_worker
                .clone()
                .send((handler, request, aids));
        };
        let aids = self.aids.lock().unwrap_or_else(PoisonError::into_inner);
        match aids.clone() {
            Some(aids) if self.cells.load(Ordering::Acquire) > 0 => answer(request, aids),
            _ => self.queue(Job::Aid(request, Box::new(answer))),
        }
    }

    fn queue(&self, job: Job) {
        // The worker is gone only when the kernel is ending.
        let _ = self.jobs.send(job);
    }

    async fn answer(&self, request: &Request, content: Value) {
        self.outbox
            .post(request.broadcast("status", json!({ "execution_state": "busy" })))
            .await;
        self.replies.send(request.reply(content));
        self.close(request).await;
    }

    async fn enclose(&self, request: &Request, message: Option<JupyterMessage>) {
        self.outbox
            .post(request.broadcast("status", json!({ "execution_state": "busy" })))
            .await;
        if let Some(message) = message {
            self.outbox.post(message).await;
        }
        self.close(request).await;
    }

    /// `idle` for this request; if a cell runs, then `busy` for that one, as clients show the last status they saw.
    async fn close(&self, request: &Request) {
        self.outbox
            .post(request.broadcast("status", json!({ "execution_state": "idle" })))
            .await;
        let cell = lock(&self.running).as_ref().map(|cell| cell.cause.clone());
        if let Some(cell) = cell {
            self.outbox
                .post(cell.broadcast("status", json!({ "execution_state": "busy" })))
                .await;
        }
    }

    /// Stops the running cell: gently at first; once the user was told how, by ending the child (the session's interrupter knows).
    fn interrupt(&self) {
        let mut slot = lock(&self.running);
        let Some(cell) = slot.as_mut() else {
            drop(slot);
            return self.queue(Job::CancelWaiting);
        };
        match cell.interrupted {
            // Whoever presses the button again and again does not mean to lose all variables.
            Some(first) if first.elapsed() < patience::TELL => return,
            _ => {
                // What is finished first has been told of when it began.
                cell.interrupter.interrupt();
            }
        }
        if cell.interrupted.is_none() {
            cell.interrupted = Some(Instant::now());
            tokio::spawn(warn_after_grace(
                self.outbox.clone(),
                self.running.clone(),
                cell.cause.clone(),
                cell.interrupter.clone(),
            ));
        }
    }
}

/// Says how to end a cell that can't be stopped.
async fn warn_after_grace(
    outbox: Outbox,
    running: RunningCell,
    cause: Arc<Request>,
    interrupter: Interrupter,
) {
    tokio::time::sleep(patience::TELL).await;
    while let Some(left) = interrupter.finishing() {
        tokio::time::sleep(left.min(patience::TELL)).await;
    }
    let goes_on = lock(&running)
        .as_ref()
        .is_some_and(|cell| Arc::ptr_eq(&cell.cause, &cause));
    if goes_on {
        let text = "The cell has not stopped: it waits for a call to return. \
                    Interrupt again to end the child process; its variables will be lost.\n";
        outbox.post_text(&cause, "stderr", text.to_owned()).await;
    }
}

fn kernel_info() -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "status": "ok",
        "protocol_version": PROTOCOL_VERSION,
        "implementation": "glassbox",
        "implementation_version": version,
        "language_info": {
            "name": "rust",
            "version": "2024",
            "mimetype": "text/x-rust",
            "file_extension": ".rs",
            "pygments_lexer": "rust",
            "codemirror_mode": "rust",
        },
        "banner": format!("Glassbox {version}: Rust cells with the vision-language prelude loaded"),
        "debugger": false,
        "help_links": [
            { "text": "Rust standard library", "url": "https://doc.rust-lang.org/std/" },
            { "text": "candle", "url": "https://docs.rs/candle-core" },
        ],
    })
}
