//! Jupyter messages on sockets: multipart frames in, checked and parsed; JSON contents out, signed.
//!
//! The only module that knows frames and headers. Everything else sees a [`Request`] (who asked, what) and builds
//! answers from plain JSON with [`Request::reply`] and [`Request::broadcast`].
//! Contents are read leniently, key by key: clients leave out fields that the protocol calls required.

use std::sync::atomic::{AtomicU64, Ordering};

use jupyter_protocol::{Header, JupyterMessage, UnknownMessage};
use jupyter_zmq_client::{Connection, RawMessage, RuntimeError};
use serde_json::Value;

/// The version of the messaging protocol that the kernel speaks.
pub const PROTOCOL_VERSION: &str = "5.4";

/// A checked message from a client: the place to send the answer, and its JSON content.
#[derive(Debug, Clone)]
pub struct Request {
    /// The message without its content, in the shape that the wire crate wants as a parent.
    parent: JupyterMessage,
    /// The content as sent.
    pub content: Value,
}

impl Request {
    /// `execute_request`, `kernel_info_request`, …
    pub fn kind(&self) -> &str {
        &self.parent.header.msg_type
    }

    /// A string field of the content, or "".
    pub fn text(&self, field: &str) -> &str {
        self.content
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// A boolean field of the content, or `default`.
    pub fn flag(&self, field: &str, default: bool) -> bool {
        self.content
            .get(field)
            .and_then(Value::as_bool)
            .unwrap_or(default)
    }

    /// A whole number of the content.
    pub fn integer(&self, field: &str) -> Option<i64> {
        self.content.get(field).and_then(Value::as_i64)
    }

    /// The answer on the socket that the request came from: `x_request` is answered by `x_reply`.
    pub fn reply(&self, content: Value) -> JupyterMessage {
        let kind = self.kind();
        let answer = format!("{}_reply", kind.strip_suffix("_request").unwrap_or(kind));
        message(&answer, content, Some(&self.parent))
    }

    /// A message to every listener of iopub, caused by this request.
    pub fn broadcast(&self, kind: &str, content: Value) -> JupyterMessage {
        topic(message(kind, content, Some(&self.parent)))
    }
}

/// A message to every listener of iopub that no request caused.
pub fn announce(kind: &str, content: Value) -> JupyterMessage {
    topic(message(kind, content, None))
}

/// Counts what was thrown away, and why; the sockets share one.
#[derive(Debug, Default)]
pub struct Dropped {
    signatures: AtomicU64,
    malformed: AtomicU64,
}

impl Dropped {
    /// Messages whose signature did not match the connection file's key.
    pub fn signatures(&self) -> u64 {
        self.signatures.load(Ordering::Relaxed)
    }

    /// Messages that were not Jupyter messages.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    fn note(&self, socket: &str, error: &RuntimeError) {
        let (what, counter) = match error {
            RuntimeError::VerifyError(_)
            | RuntimeError::DecodeError(_)
            | RuntimeError::MissingHmac => ("with a wrong signature", &self.signatures),
            _ => ("that is malformed", &self.malformed),
        };
        let seen = counter.fetch_add(1, Ordering::Relaxed) + 1;
        // A broken client can send thousands: the log says each power of two.
        if seen.is_power_of_two() {
            log(&format!(
                "dropped a message {what} on {socket} ({seen} so far): {error}"
            ));
        }
    }
}

/// Reads until a message passes the checks; `None` once the socket is closed.
pub async fn receive<S>(
    connection: &mut Connection<S>,
    socket: &str,
    dropped: &Dropped,
) -> Option<Request>
where
    S: zeromq::SocketRecv,
{
    loop {
        let frames = match connection.socket.recv().await {
            Ok(frames) => frames,
            Err(zeromq::ZmqError::NoMessage) => return None,
            Err(error) => {
                dropped.note(socket, &error.into());
                // An error of one peer must not become a busy loop.
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                continue;
            }
        };
        match RawMessage::from_multipart(frames, &connection.mac).and_then(parse) {
            Ok(request) => return Some(request),
            Err(error) => dropped.note(socket, &error),
        }
    }
}

fn parse(raw: RawMessage) -> Result<Request, RuntimeError> {
    let [header, _parent, _metadata, content, ..] = raw.jparts.as_slice() else {
        return Err(RuntimeError::InsufficientMessageParts(raw.jparts.len()));
    };
    let header: Header = serde_json::from_slice(header)?;
    let content: Value = serde_json::from_slice(content)?;
    let mut parent = JupyterMessage::new(UnknownMessage::default(), None)
        .with_zmq_identities(raw.zmq_identities);
    parent.header = header;
    Ok(Request { parent, content })
}

fn message(kind: &str, content: Value, parent: Option<&JupyterMessage>) -> JupyterMessage {
    let content = UnknownMessage {
        msg_type: kind.to_owned(),
        content,
    };
    let mut message = JupyterMessage::new(content, parent);
    message.header.version = PROTOCOL_VERSION.to_owned();
    message.header.username = "glassbox".to_owned();
    message
}

/// Subscribers filter by the first frame, which on iopub is the topic, not an address.
fn topic(message: JupyterMessage) -> JupyterMessage {
    let name = message.header.msg_type.clone().into_bytes();
    message.with_zmq_identities(vec![name.into()])
}

/// A line in the log that Jupyter keeps of its kernels' stderr.
pub fn log(line: &str) {
    use std::io::Write as _;
    // Jupyter may have closed the pipe: nothing is lost that anyone could read.
    let _ = writeln!(std::io::stderr().lock(), "glassbox kernel: {line}");
}
