//! Jupyter messages on sockets: multipart frames in, checked and parsed; JSON contents out, signed.
//!
//! The only module that knows frames and headers. Everything else sees a [`Request`] (who asked, what) and builds
//! answers from plain JSON with [`Request::reply`] and [`Request::broadcast`].
//! What a content has to hold: [`super::content`]. A request whose content can't be understood is a [`Request`] too, with its
//! [`Request::flaw`]: with a good signature it gets an answer.

use std::sync::atomic::{AtomicU64, Ordering};

use jupyter_protocol::{JupyterMessage, UnknownMessage};
use jupyter_zmq_client::{Connection, RawMessage, RuntimeError};
use serde_json::{Value, json};

use super::content;

/// The version of the messaging protocol that the kernel speaks.
pub const PROTOCOL_VERSION: &str = "5.4";

/// A checked message from a client: the place to send the answer, and its JSON content.
#[derive(Debug, Clone)]
pub struct Request {
    /// The message without its content, in the shape that the wire crate wants as a parent.
    parent: JupyterMessage,
    /// The content as sent; nothing if it can't be understood.
    pub content: Value,
    flaw: Option<String>,
    /// The socket that it came from, on which the answer leaves.
    pub socket: &'static str,
}

impl Request {
    /// `execute_request`, `kernel_info_request`, …
    pub fn kind(&self) -> &str {
        &self.parent.header.msg_type
    }

    /// The same without what may be large: enough to say that it caused something.
    pub fn header_only(&self) -> Request {
        let silent = self.flag("silent", false);
        Request {
            parent: self.parent.clone(),
            content: json!({ "silent": silent }),
            flaw: None,
            socket: self.socket,
        }
    }

    /// Why its content can't be understood, if it can't be.
    pub fn flaw(&self) -> Option<&str> {
        self.flaw.as_deref()
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
        let answer = match self.kind() {
            "" => "error".to_owned(),
            kind => format!("{}_reply", kind.strip_suffix("_request").unwrap_or(kind)),
        };
        message(&answer, content, Some(&self.parent))
    }

    /// A message of our own to the client that sent the request, on another of its sockets.
    pub fn ask(&self, kind: &str, content: Value) -> JupyterMessage {
        message(kind, content, Some(&self.parent))
    }

    /// A message to every listener of iopub, caused by this request.
    pub fn broadcast(&self, kind: &str, content: Value) -> JupyterMessage {
        topic(message(kind, content, Some(&self.parent)))
    }

    /// The same with metadata.
    pub fn broadcast_with(&self, kind: &str, content: Value, metadata: Value) -> JupyterMessage {
        self.broadcast(kind, content).with_metadata(metadata)
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
    socket: &'static str,
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
            Ok(request) => return Some(Request { socket, ..request }),
            Err(error) => dropped.note(socket, &error),
        }
    }
}

fn parse(raw: RawMessage) -> Result<Request, RuntimeError> {
    let [header, _parent, _metadata, content, ..] = raw.jparts.as_slice() else {
        return Err(RuntimeError::InsufficientMessageParts(raw.jparts.len()));
    };
    let header = content::header(header);
    let (content, flaw) = match content::content(&header.msg_type, content) {
        Ok(content) => (content, None),
        Err(why) => (json!({}), Some(why)),
    };
    let mut parent = JupyterMessage::new(UnknownMessage::default(), None)
        .with_zmq_identities(raw.zmq_identities);
    parent.header = header;
    Ok(Request {
        parent,
        content,
        flaw,
        socket: "",
    })
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};
    use zeromq::Socket as _;

    use super::*;

    const KEY: &[u8] = b"a key of the test";
    const HEADER: &[u8] = br#"{"msg_id":"1","session":"s","username":"u","date":"2024-01-01T00:00:00Z","msg_type":"execute_request","version":"5.4"}"#;
    const CONTENT: &[u8] = br#"{"code":"1 + 1"}"#;

    /// What a kernel with [`KEY`] makes of the frames.
    fn decode(frames: Vec<Vec<u8>>) -> Result<Request, RuntimeError> {
        static KERNEL: LazyLock<Connection<zeromq::RouterSocket>> = LazyLock::new(|| {
            let key = std::str::from_utf8(KEY).unwrap_or_default();
            Connection::new(zeromq::RouterSocket::new(), key, "test")
        });
        let mut frames = frames.into_iter();
        let mut message = zeromq::ZmqMessage::from(frames.next().unwrap_or_default());
        for frame in frames {
            message.push_back(frame.into());
        }
        RawMessage::from_multipart(message, &KERNEL.mac).and_then(parse)
    }

    /// HMAC-SHA256, written out so that it is not the code under test.
    fn signature(parts: &[Vec<u8>]) -> Vec<u8> {
        let block = |pad: u8| -> Vec<u8> {
            (0..64)
                .map(|at| KEY.get(at).copied().unwrap_or(0) ^ pad)
                .collect()
        };
        let inner = Sha256::digest([block(0x36), parts.concat()].concat());
        let outer = Sha256::digest([block(0x5c), inner.to_vec()].concat());
        let text: String = outer.iter().map(|byte| format!("{byte:02x}")).collect();
        text.into_bytes()
    }

    fn signed(parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut frames = vec![b"client".to_vec(), b"<IDS|MSG>".to_vec(), signature(&parts)];
        frames.extend(parts);
        frames
    }

    fn genuine() -> Vec<Vec<u8>> {
        signed(vec![
            HEADER.to_vec(),
            b"{}".to_vec(),
            b"{}".to_vec(),
            CONTENT.to_vec(),
        ])
    }

    #[test]
    fn a_genuine_message_is_read() {
        let request = decode(genuine()).expect("it is genuine");
        assert_eq!(
            (request.kind(), request.text("code")),
            ("execute_request", "1 + 1")
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_request_that_gets_an_answer() {
        let no_json = signed(vec![HEADER.to_vec(), vec![], vec![], b"{".to_vec()]);
        let request = decode(no_json).expect("its signature is good");
        assert!(request.flaw().is_some() && request.kind() == "execute_request");
        let no_header = signed(vec![b"[".to_vec(), vec![], vec![], b"{}".to_vec()]);
        let request = decode(no_header).expect("its signature is good");
        assert!(request.flaw().is_some());
        assert_eq!(request.reply(Value::Null).header.msg_type, "error");
    }

    #[test]
    fn what_is_dropped_is_counted_by_kind() {
        let dropped = Dropped::default();
        let mut forged = genuine();
        forged[6] = br#"{"code":"2 + 2"}"#.to_vec();
        dropped.note("shell", &decode(forged).expect_err("it was changed"));
        dropped.note(
            "shell",
            &decode(vec![b"x".to_vec()]).expect_err("it is nothing"),
        );
        assert_eq!((dropped.signatures(), dropped.malformed()), (1, 1));
    }

    proptest! {
        #[test]
        fn any_frames_are_read_or_refused(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..9)) {
            prop_assert!(decode(frames).is_err(), "nobody knows the key");
        }

        /// Behind a correct signature anything can stand too: a client may be broken.
        #[test]
        fn any_signed_parts_are_read_or_refused(parts in prop::collection::vec("[\\[{\"a-z0-9:,}\\]]{0,30}|\\PC{0,20}", 0..7)) {
            let parts: Vec<Vec<u8>> = parts.into_iter().map(String::into_bytes).collect();
            let _ = decode(signed(parts));
        }

        #[test]
        fn any_content_can_be_asked_for_anything(content in json()) {
            let text = content.to_string().into_bytes();
            let parts = vec![HEADER.to_vec(), b"{}".to_vec(), b"{}".to_vec(), text];
            let request = decode(signed(parts)).expect("it is JSON");
            let _ = (request.text("code"), request.flag("silent", false), request.integer("cursor_pos"));
            let reply = request.reply(Value::Null);
            prop_assert_eq!(reply.header.msg_type, "execute_reply");
        }

        /// One flipped bit anywhere but in the address, and the message is dropped.
        #[test]
        fn a_changed_message_is_never_read(frame in 1usize..7, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut frames = genuine();
            let byte = at.index(frames[frame].len());
            frames[frame][byte] ^= 1 << bit;
            prop_assert!(decode(frames).is_err());
        }

        #[test]
        fn a_shortened_message_is_never_read(frame in 1usize..7, at in any::<prop::sample::Index>()) {
            let mut frames = genuine();
            let length = at.index(frames[frame].len());
            frames[frame].truncate(length);
            prop_assert!(decode(frames).is_err());
        }
    }

    /// Any JSON, three levels deep.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        let names = prop_oneof![
            Just("code".to_owned()),
            Just("silent".to_owned()),
            Just("cursor_pos".to_owned()),
            "\\PC{0,4}"
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((names.clone(), inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }
}
