//! Outputs to every listener: one task orders them, everyone else holds an [`Outbox`].
//!
//! Text is gathered for a few milliseconds, so that a loop of `println!` makes messages of some size while a lone line
//! still appears at once; any other message sends the text before it, so order is kept.
//! The queue is bounded: a cell that prints faster than the clients read is slowed down, memory does not grow. What becomes of a
//! client that reads too slowly, or not at all: [`subscribers`].

mod subscribers;

use std::sync::Arc;
use std::time::Duration;

use jupyter_protocol::JupyterMessage;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::wire::{Request, Wire};
use super::zmtp::listener::Listener;
use subscribers::Subscribers;

/// How long the first piece of text waits for more.
const GATHER: Duration = Duration::from_millis(10);
/// Text is sent when it is this long, in bytes.
const ENOUGH: usize = 64 * 1024;
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

/// Serves the socket and starts the task that orders what is sent.
pub fn start(listener: Listener, wire: Arc<Wire>) -> Outbox {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(run(Subscribers::start(listener, wire), receiver));
    Outbox(sender)
}

/// Text that waits for more of its kind.
struct Pending {
    cause: Arc<Request>,
    stream: &'static str,
    text: String,
    due: Instant,
}

async fn run(subscribers: Subscribers, mut queue: mpsc::Receiver<Item>) {
    let mut pending: Option<Pending> = None;
    loop {
        let due = pending.as_ref().map_or_else(Instant::now, |p| p.due);
        tokio::select! {
            biased;
            () = sleep_until(due), if pending.is_some() => send_pending(&subscribers, &mut pending).await,
            item = queue.recv() => match item {
                None => return,
                Some(Item::Message(message)) => {
                    send_pending(&subscribers, &mut pending).await;
                    subscribers.publish(*message).await;
                }
                Some(Item::Text { cause, stream, text }) => {
                    gather(&subscribers, &mut pending, cause, stream, text).await;
                }
                Some(Item::Flush(done)) => {
                    send_pending(&subscribers, &mut pending).await;
                    subscribers.flush().await;
                    let _ = done.send(());
                }
            },
        }
    }
}

async fn gather(
    subscribers: &Subscribers,
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
            send_pending(subscribers, pending).await;
            *pending = Some(Pending {
                cause,
                stream,
                text,
                due: Instant::now() + GATHER,
            });
        }
    }
    if pending.as_ref().is_some_and(|p| p.text.len() >= ENOUGH) {
        send_pending(subscribers, pending).await;
    }
}

async fn send_pending(subscribers: &Subscribers, pending: &mut Option<Pending>) {
    if let Some(Pending {
        cause,
        stream,
        text,
        ..
    }) = pending.take()
    {
        let content = json!({ "name": stream, "text": text });
        subscribers
            .publish(cause.broadcast("stream", content))
            .await;
    }
}
