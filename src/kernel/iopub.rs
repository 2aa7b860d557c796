//! Outputs to every listener: one task owns the iopub socket, everyone else holds an [`Outbox`].
//!
//! Text is gathered for a few milliseconds, so that a loop of `println!` makes messages of some size while a lone line
//! still appears at once; any other message sends the text before it, so order is kept.
//! The queue is bounded: a cell that prints faster than the clients read is slowed down, memory does not grow.

use std::sync::Arc;
use std::time::Duration;

use jupyter_protocol::JupyterMessage;
use jupyter_zmq_client::{KernelIoPubXPubConnection, SubscriptionEvent};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::wire::{Request, announce, log};

/// How long the first piece of text waits for more.
const GATHER: Duration = Duration::from_millis(10);
/// Text is sent when it is this long, in bytes.
const ENOUGH: usize = 64 * 1024;
/// A listener that takes nothing for this long loses the message.
const PATIENCE: Duration = Duration::from_secs(10);
/// The messages after it are lost this soon, until one is taken again: a listener that hangs holds up a cell only once.
const NO_PATIENCE: Duration = Duration::from_millis(1);
/// Messages waiting to be sent before writers have to wait: few, because each may be a display of many megabytes.
const QUEUE: usize = 16;

enum Item {
    Message(Box<JupyterMessage>),
    Text {
        cause: Arc<Request>,
        stream: &'static str,
        text: String,
    },
    Flush(oneshot::Sender<()>),
}

/// The way to iopub for everyone; cheap to clone.
#[derive(Clone)]
pub struct Outbox(mpsc::Sender<Item>);

impl Outbox {
    /// Sends from a plain thread, waiting while the queue is full.
    pub fn send(&self, message: JupyterMessage) {
        // The task ends only with the process: there is no one left to tell.
        let _ = self.0.blocking_send(Item::Message(Box::new(message)));
    }

    /// Sends text of a cell from a plain thread; `stream` is `stdout` or `stderr`.
    pub fn send_text(&self, cause: &Arc<Request>, stream: &'static str, text: String) {
        let _ = self.0.blocking_send(Item::Text {
            cause: cause.clone(),
            stream,
            text,
        });
    }

    /// Sends from a task.
    pub async fn post(&self, message: JupyterMessage) {
        let _ = self.0.send(Item::Message(Box::new(message))).await;
    }

    /// Sends text of a cell from a task.
    pub async fn post_text(&self, cause: &Arc<Request>, stream: &'static str, text: String) {
        let _ = self
            .0
            .send(Item::Text {
                cause: cause.clone(),
                stream,
                text,
            })
            .await;
    }

    /// Returns when all that was sent before is on the wire; for plain threads.
    pub fn flush_from_thread(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.blocking_send(Item::Flush(done)).is_ok() {
            // The task ends only with the process.
            let _ = wait.blocking_recv();
        }
    }

    /// Returns when all that was sent before is on the wire.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.send(Item::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// Starts the task that owns the socket.
pub fn start(socket: KernelIoPubXPubConnection) -> Outbox {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(run(socket, receiver));
    Outbox(sender)
}

/// Text that waits for more of its kind.
struct Pending {
    cause: Arc<Request>,
    stream: &'static str,
    text: String,
    due: Instant,
}

/// The socket, and whether its listeners take what is sent.
struct Listeners {
    socket: KernelIoPubXPubConnection,
    skipped: usize,
}

async fn run(socket: KernelIoPubXPubConnection, mut queue: mpsc::Receiver<Item>) {
    let mut socket = Listeners { socket, skipped: 0 };
    let mut pending: Option<Pending> = None;
    loop {
        let due = pending.as_ref().map_or_else(Instant::now, |p| p.due);
        tokio::select! {
            biased;
            () = sleep_until(due), if pending.is_some() => send_pending(&mut socket, &mut pending).await,
            item = queue.recv() => match item {
                None => return,
                Some(Item::Message(message)) => {
                    send_pending(&mut socket, &mut pending).await;
                    send(&mut socket, *message).await;
                }
                Some(Item::Text { cause, stream, text }) => {
                    gather(&mut socket, &mut pending, cause, stream, text).await;
                }
                Some(Item::Flush(done)) => {
                    send_pending(&mut socket, &mut pending).await;
                    let _ = done.send(());
                }
            },
            event = socket.socket.recv_subscription() => match event {
                // JEP 65: a client that waits for this cannot miss the first outputs.
                Ok(SubscriptionEvent::Subscribe(topic)) => {
                    send(&mut socket, announce("iopub_welcome", json!({ "subscription": topic }))).await;
                }
                Ok(SubscriptionEvent::Unsubscribe(_)) => {}
                // A listener that left: the socket has already forgotten it.
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            },
        }
    }
}

async fn gather(
    socket: &mut Listeners,
    pending: &mut Option<Pending>,
    cause: Arc<Request>,
    stream: &'static str,
    text: String,
) {
    match pending {
        Some(waiting) if waiting.stream == stream && Arc::ptr_eq(&waiting.cause, &cause) => {
            waiting.text.push_str(&text);
        }
        _ => {
            send_pending(socket, pending).await;
            *pending = Some(Pending {
                cause,
                stream,
                text,
                due: Instant::now() + GATHER,
            });
        }
    }
    if pending.as_ref().is_some_and(|p| p.text.len() >= ENOUGH) {
        send_pending(socket, pending).await;
    }
}

async fn send_pending(socket: &mut Listeners, pending: &mut Option<Pending>) {
    if let Some(Pending {
        cause,
        stream,
        text,
        ..
    }) = pending.take()
    {
        send(
            socket,
            cause.broadcast("stream", json!({ "name": stream, "text": text })),
        )
        .await;
    }
}

async fn send(listeners: &mut Listeners, message: JupyterMessage) {
    let patience = match listeners.skipped {
        0 => PATIENCE,
        _ => NO_PATIENCE,
    };
    match timeout(patience, listeners.socket.send(message)).await {
        Ok(sent) => {
            if let Err(error) = sent {
                log(&format!("an output could not be sent: {error}"));
            }
            let skipped = std::mem::take(&mut listeners.skipped);
            if skipped > 0 {
                log(&format!(
                    "a listener takes outputs again: {skipped} were skipped"
                ));
            }
        }
        Err(_) => {
            if listeners.skipped == 0 {
                log("a listener takes no outputs: they are skipped until it does");
            }
            listeners.skipped += 1;
        }
    }
}
