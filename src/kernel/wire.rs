//! Jupyter messages on sockets: multipart frames in, checked and parsed; JSON contents out, signed.
//!
//! The only module that knows frames and headers. Everything else sees a [`Request`] (who asked, what) and builds
//! answers from plain JSON with [`Request::reply`] and [`Request::broadcast`].
//! What a content has to hold: [`super::content`]. A request whose content can't be understood is a [`Request`] too, with its
//! [`Request::flaw`]: with a good signature it gets an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jupyter_protocol::{Header, JupyterMessage, UnknownMessage};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::content;
use super::signature::{Refused, Signer};
use super::zmtp::router::{Address, Incoming, Router};

/// The version of the messaging protocol that the kernel speaks.
pub const PROTOCOL_VERSION: &str = "5.4";

/// What stands before the signature.
const DELIMITER: &[u8] = b"<IDS|MSG>";

/// A checked message from a client: the place to send the answer, and its JSON content.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who sent it.
    pub from: Address,
    /// What stood before the delimiter, and stands there in the answer too.
    envelope: Vec<Vec<u8>>,
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
            from: self.from.clone(),
            envelope: self.envelope.clone(),
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
    pub fn reply(&self, content: Value) -> Reply {
        let answer = match self.kind() {
            "" => "error".to_owned(),
            kind => format!("{}_reply", kind.strip_suffix("_request").unwrap_or(kind)),
        };
        let message = message(&answer, content, Some(&self.parent));
        self.to_sender(message)
    }

    /// A message of our own to the client that sent the request, on another of its sockets.
    pub fn ask(&self, kind: &str, content: Value) -> Reply {
        self.to_sender(message(kind, content, Some(&self.parent)))
    }

    fn to_sender(&self, message: JupyterMessage) -> Reply {
        Reply {
            to: self.from.clone(),
            envelope: self.envelope.clone(),
            message,
        }
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

/// A message to one client.
#[derive(Debug)]
pub struct Reply {
    to: Address,
    envelope: Vec<Vec<u8>>,
    message: JupyterMessage,
}

/// A message to every listener of iopub that no request caused.
pub fn announce(kind: &str, content: Value) -> JupyterMessage {
    caused_by(None, kind, content)
}

/// A message to every listener of iopub, caused by the request with this header.
pub fn caused_by(cause: Option<Header>, kind: &str, content: Value) -> JupyterMessage {
    let mut message = message(kind, content, None);
    message.parent_header = cause;
    topic(message)
}

/// Counts what was thrown away, and why; the sockets share one.
#[derive(Debug, Default)]
pub struct Dropped {
    signatures: AtomicU64,
    malformed: AtomicU64,
    replayed: AtomicU64,
}

impl Dropped {
    /// Messages whose signature did not match the connection file's key.
    pub fn signatures(&self) -> u64 {
        self.signatures.load(Ordering::Relaxed)
    }

    /// Messages whose signature came before.
    pub fn replayed(&self) -> u64 {
        self.replayed.load(Ordering::Relaxed)
    }

    /// Messages that were not Jupyter messages.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    fn note(&self, incoming: &Incoming, socket: &str, why: Refused) {
        let counter = match why {
            Refused::Malformed => &self.malformed,
            Refused::Forged => &self.signatures,
            Refused::Replayed => &self.replayed,
        };
        let seen = counter.fetch_add(1, Ordering::Relaxed) + 1;
        // A broken client can send thousands: the log says each power of two.
        if seen.is_power_of_two() {
            let (what, from) = (name(why), &incoming.peer.from);
            log(&format!(
                "dropped a message {what} on {socket} from {from} ({seen} so far): {why}"
            ));
        }
    }
}

fn name(why: Refused) -> &'static str {
    match why {
        Refused::Malformed => "that is malformed",
        Refused::Forged => "with a wrong signature",
        Refused::Replayed => "that was sent again",
    }
}

/// What turns frames into requests and messages into frames; all sockets share one.
pub struct Wire {
    signer: Signer,
    /// The kernel's own session id.
    session: String,
}

impl Wire {
    pub fn new(key: &str) -> Wire {
        Wire {
            signer: Signer::new(key),
            session: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// A message as it stands on the wire, its addresses or topic first.
    pub fn seal(&self, message: JupyterMessage) -> Vec<Vec<u8>> {
        let message = message.with_session(&self.session);
        let envelope = message.zmq_identities.iter().map(|frame| frame.to_vec());
        let parts = self.parts(&message);
        envelope.chain(parts).collect()
    }

    fn parts(&self, message: &JupyterMessage) -> Vec<Vec<u8>> {
        let json = |value: serde_json::Result<Vec<u8>>| {
            // Nothing here is a map with keys that are no text, which alone has no JSON.
            value.unwrap_or_else(|_| b"{}".to_vec())
        };
        let parts = vec![
            json(serde_json::to_vec(&message.header)),
            match &message.parent_header {
                Some(parent) => json(serde_json::to_vec(parent)),
                None => b"{}".to_vec(),
            },
            json(serde_json::to_vec(&message.metadata)),
            json(serde_json::to_vec(&message.content)),
        ];
        let mut frames = vec![DELIMITER.to_vec(), self.signer.sign(&parts)];
        frames.extend(parts);
        frames.extend(message.buffers.iter().map(|buffer| buffer.to_vec()));
        frames
    }

    /// The request that came, if its signature is good and new.
    fn open(&self, frames: &[Vec<u8>], from: Address) -> Result<Request, Refused> {
        let delimiter = frames.iter().position(|frame| frame == DELIMITER);
        let (envelope, rest) = frames.split_at(delimiter.ok_or(Refused::Malformed)?);
        let [_, signature, parts @ ..] = rest else {
            return Err(Refused::Malformed);
        };
        let signed = parts.get(..4).ok_or(Refused::Malformed)?;
        self.signer.check(signed, signature)?;
        Ok(parse(signed, envelope, from))
    }
}

/// The sending side of a socket, as those see it who answer requests. Clones are the same.
#[derive(Clone)]
pub struct Replies {
    wire: Arc<Wire>,
    router: Router,
}

impl Replies {
    pub fn new(wire: Arc<Wire>, router: Router) -> Replies {
        Replies { wire, router }
    }

    /// Answers where the request came from.
    pub fn send(&self, reply: Reply) {
        let (to, frames) = self.frames(reply);
        self.router.answer(&to, &frames);
    }

    /// Sends to the same client on this other socket of his. Returns whether he is there.
    pub fn ask(&self, question: Reply) -> bool {
        let (to, frames) = self.frames(question);
        self.router.ask(&to, &frames)
    }

    /// Waits until what was sent is with the system.
    pub async fn flush(&self) {
        self.router
            .flush(std::time::Duration::from_millis(500))
            .await;
    }

    fn frames(&self, reply: Reply) -> (Address, Vec<Vec<u8>>) {
        let message = reply.message.with_session(&self.wire.session);
        let parts = self.wire.parts(&message);
        (reply.to, reply.envelope.into_iter().chain(parts).collect())
    }
}

/// Reads until a message passes the checks; `None` once the socket is closed.
pub async fn receive(
    incoming: &mut mpsc::Receiver<Incoming>,
    wire: &Wire,
    socket: &'static str,
    dropped: &Dropped,
) -> Option<Request> {
    loop {
        let arrived = incoming.recv().await?;
        match wire.open(&arrived.message.frames, arrived.from()) {
            Ok(request) => {
                arrived.peer.trust();
                return Some(Request { socket, ..request });
            }
            Err(why) => dropped.note(&arrived, socket, why),
        }
    }
}

fn parse(parts: &[Vec<u8>], envelope: &[Vec<u8>], from: Address) -> Request {
    let part = |at: usize| parts.get(at).map_or(&[][..], Vec::as_slice);
    let header = content::header(part(0));
    let (content, flaw) = match content::content(&header.msg_type, part(3)) {
        Ok(content) => (content, None),
        Err(why) => (json!({}), Some(why)),
    };
    let mut parent = JupyterMessage::new(UnknownMessage::default(), None);
    parent.header = header;
    Request {
        from,
        envelope: envelope.to_vec(),
        parent,
        content,
        flaw,
        socket: "",
    }
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
    let line = crate::terminal_text::tame(line);
    let _ = writeln!(std::io::stderr().lock(), "glassbox kernel: {line}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    const KEY: &str = "a key of the test";
    const HEADER: &[u8] = br#"{"msg_id":"1","session":"s","username":"u","date":"2024-01-01T00:00:00Z","msg_type":"execute_request","version":"5.4"}"#;
    const CONTENT: &[u8] = br#"{"code":"1 + 1"}"#;

    /// What a kernel with [`KEY`] makes of the frames.
    fn decode(frames: Vec<Vec<u8>>) -> Result<Request, Refused> {
        Wire::new(KEY).open(&frames, Address::default())
    }

    /// HMAC-SHA256, written out so that it is not the code under test.
    fn signature(parts: &[Vec<u8>]) -> Vec<u8> {
        let block = |pad: u8| -> Vec<u8> {
            (0..64)
                .map(|at| KEY.as_bytes().get(at).copied().unwrap_or(0) ^ pad)
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
        assert_eq!(request.reply(Value::Null).message.header.msg_type, "error");
    }

    #[test]
    fn what_is_wrong_with_a_message_has_a_kind() {
        let mut forged = genuine();
        forged[6] = br#"{"code":"2 + 2"}"#.to_vec();
        assert_eq!(decode(forged).err(), Some(Refused::Forged));
        assert_eq!(decode(vec![b"x".to_vec()]).err(), Some(Refused::Malformed));
        let wire = Wire::new(KEY);
        let open = |frames: Vec<Vec<u8>>| wire.open(&frames, Address::default()).err();
        assert_eq!(open(genuine()), None);
        // From elsewhere, with other buffers, or cut elsewhere: it is the same message.
        assert_eq!(open(genuine()), Some(Refused::Replayed));
        let mut elsewhere = genuine();
        elsewhere[0] = b"another client".to_vec();
        elsewhere.push(b"a buffer".to_vec());
        assert_eq!(open(elsewhere), Some(Refused::Replayed));
        let mut cut = genuine();
        let first = cut[3].remove(0);
        cut[2].push(first);
        assert_ne!(open(cut), None);
    }

    #[test]
    fn what_is_sealed_can_be_opened() {
        let sealed = Wire::new(KEY).seal(announce("status", json!({ "execution_state": "idle" })));
        assert_eq!(sealed[0], b"status");
        let read = decode(sealed).expect("we signed it");
        assert_eq!(
            (read.kind(), read.text("execution_state")),
            ("status", "idle")
        );
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
            prop_assert_eq!(reply.message.header.msg_type, "execute_reply");
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
