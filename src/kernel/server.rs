//! The five sockets and who answers what.
//!
//! Shell: kernel_info, is_complete, history and comm_info are answered here at once, complete and inspect by a task of their own;
//! execute and comm messages go to the [`worker`](super::worker) in order. Control: interrupt and shutdown, also while a cell runs.
//! Stdin carries the questions of cells; heartbeat echoes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::Sender;
use jupyter_protocol::{ConnectionInfo, JupyterMessage};
use jupyter_zmq_client::{
    RouterRecvConnection, RouterSendConnection, create_kernel_control_connection,
    create_kernel_heartbeat_connection, create_kernel_iopub_xpub_connection,
    create_kernel_shell_connection, create_kernel_stdin_connection,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::aids::{self, AidsSlot};
use super::comm::{self, Comms};
use super::failure::{Failure, error_reply};
use super::history::History;
use super::iopub::{self, Outbox};
use super::lifetime;
use super::stdin::Stdin;
use super::wire::{self, Dropped, PROTOCOL_VERSION, Request, announce, log};
use super::worker::{Job, Running, RunningCell, Worker};
use crate::patience;
use crate::session::{Aids, Completeness, completeness};

/// Serves the sockets of `connection` until a client, a signal or the parent's end stops the kernel.
pub async fn serve(connection: &ConnectionInfo) -> Result<()> {
    if connection.signature_scheme != "hmac-sha256" && !connection.key.is_empty() {
        bail!(
            "the connection file asks for signatures by {}: only hmac-sha256 is known",
            connection.signature_scheme
        );
    }
    let id = uuid::Uuid::new_v4().to_string();
    let at = || {
        format!(
            "the ports of the connection file at {} cannot be used",
            connection.ip
        )
    };
    let mut heartbeat = create_kernel_heartbeat_connection(connection)
        .await
        .with_context(at)?;
    let iopub = create_kernel_iopub_xpub_connection(connection, &id)
        .await
        .with_context(at)?;
    let (shell_out, shell_in) = create_kernel_shell_connection(connection, &id)
        .await
        .with_context(at)?
        .split();
    let (control_out, control_in) = create_kernel_control_connection(connection, &id)
        .await
        .with_context(at)?
        .split();
    let (stdin_out, stdin_in) = create_kernel_stdin_connection(connection, &id)
        .await
        .with_context(at)?
        .split();

    tokio::spawn(async move { while heartbeat.single_heartbeat().await.is_ok() {} });
    let outbox = iopub::start(iopub);
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
        shell: writer("shell", shell_out),
        control: writer("control", control_out),
        stdin: Stdin {
            questions: writer("stdin", stdin_out),
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
    tokio::spawn(listen(shell.clone(), shell_in, "shell", dropped.clone()));
    tokio::spawn(listen(
        control.clone(),
        control_in,
        "control",
        dropped.clone(),
    ));
    tokio::spawn(pass_on(stdin_in, typed, dropped.clone()));
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
    if dropped.signatures() + dropped.malformed() > 0 {
        let (signatures, malformed) = (dropped.signatures(), dropped.malformed());
        log(&format!(
            "dropped {signatures} messages with a wrong signature, {malformed} malformed"
        ));
    }
    log(&format!("ends: {why}"));
    // Replies are handed to the system's buffers by tasks that the runtime is about to end.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

/// A task that owns the sending half of a socket.
fn writer(
    name: &'static str,
    mut socket: RouterSendConnection,
) -> mpsc::UnboundedSender<JupyterMessage> {
    let (send, mut replies) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(reply) = replies.recv().await {
            // The client may be gone: its loss.
            if let Err(error) = socket.send(reply).await {
                log(&format!("a reply on {name} could not be sent: {error}"));
            }
        }
    });
    send
}

async fn listen(
    handler: RequestHandler,
    mut socket: RouterRecvConnection,
    name: &'static str,
    dropped: Arc<Dropped>,
) {
    while let Some(request) = wire::receive(&mut socket, name, &dropped).await {
        handler.handle(request).await;
    }
}

/// Passes on what is typed; who waits for it is the running cell.
async fn pass_on(mut stdin: RouterRecvConnection, typed: Sender<Request>, dropped: Arc<Dropped>) {
    while let Some(answer) = wire::receive(&mut stdin, "stdin", &dropped).await {
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
    replies: mpsc::UnboundedSender<JupyterMessage>,
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
        let _ = self.replies.send(request.reply(content));
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
            _ => cell.interrupter.interrupt(),
        };
        if cell.interrupted.is_none() {
            cell.interrupted = Some(Instant::now());
            tokio::spawn(warn_after_grace(
                self.outbox.clone(),
                self.running.clone(),
                cell.cause.clone(),
            ));
        }
    }
}

/// Says how to end a cell that can't be stopped.
async fn warn_after_grace(outbox: Outbox, running: RunningCell, cause: Arc<Request>) {
    tokio::time::sleep(patience::TELL).await;
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
