//! The listeners of iopub: a queue and some patience for each, so that one who does not read loses outputs and nobody else does.
//!
//! ```text
//! publish ─▶ queue of A ─▶ its task ─▶ A          a full queue is waited for, which slows the cell down,
//!        └─▶ queue of B ─▶ its task ─▶ B          as long as the patience with this listener lasts
//! ```
//! Then what comes for that listener is skipped, but for the small messages that say how cells end. Where something is missing he
//! gets a line that says how much, once he reads again. A message is one piece of memory for all queues that hold it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jupyter_protocol::{Header, JupyterMessage};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::kernel::wire::{Wire, announce, caused_by, log};
use crate::kernel::zmtp::frames::{Received, encode, pong};
use crate::kernel::zmtp::listener::{Connection, Listener};
use crate::kernel::zmtp::{Fault, Peer, limits};

/// Bytes that wait for one listener before he is waited for.
const QUEUE: usize = 16 * 1024 * 1024;
/// Bytes that are kept for all listeners together who do not read.
const KEPT: usize = 32 * 1024 * 1024;
/// How long one listener may hold up the others, or the only one take nothing, until outputs for him are skipped.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever takes this many bytes a second is always waited for.
const FAST_ENOUGH: f64 = 1024.0 * 1024.0;
/// Bytes of small messages that are kept for a listener to whom others are skipped.
const ESSENTIAL: usize = 256 * 1024;
/// How long what was sent may take to be on the wire.
const FLUSH: Duration = Duration::from_secs(1);
/// Topics of one listener, and the bytes of one.
const TOPICS: usize = 128;
const TOPIC: usize = 4 * 1024;
/// What a listener is told when he subscribes.
const WELCOME: &str = "iopub_welcome";

/// The listeners. Clones are the same.
#[derive(Clone)]
pub struct Subscribers {
    shared: Arc<Shared>,
}

struct Shared {
    wire: Arc<Wire>,
    all: Mutex<Vec<Arc<Subscriber>>>,
    /// A queue became shorter, or a listener left.
    moved: Notify,
}

struct Subscriber {
    peer: Arc<Peer>,
    state: Mutex<State>,
    /// There is something to send.
    filled: Notify,
}

struct State {
    topics: Vec<Vec<u8>>,
    queue: VecDeque<Entry>,
    /// Of the messages in the queue, and of those among them that stand behind a gap.
    bytes: usize,
    essential: usize,
    /// A message has left the queue and is not on the wire yet.
    sending: bool,
    /// Outputs are skipped.
    behind: bool,
    /// How long he may still hold up others.
    credit: Duration,
    /// When he last took something.
    took: Instant,
    gone: bool,
}

enum Entry {
    Message(Arc<Published>),
    Gap(Gap),
}

/// What is missing at one place.
struct Gap {
    messages: usize,
    bytes: usize,
    /// The header of the request that caused the first of it.
    cause: Option<Header>,
}

struct Published {
    topic: Vec<u8>,
    bytes: Vec<u8>,
    /// It says how a cell goes, and is small.
    essential: bool,
    cause: Option<Header>,
}

impl Published {
    fn new(wire: &Wire, message: JupyterMessage) -> Published {
        let kind = message.header.msg_type.as_str();
        let essential = ["status", "error", "execute_input", WELCOME].contains(&kind);
        let cause = message.parent_header.clone();
        let frames = wire.seal(message);
        let bytes = encode(&frames);
        Published {
            topic: frames.into_iter().next().unwrap_or_default(),
            essential: essential && bytes.len() <= limits::SMALL,
            bytes,
            cause,
        }
    }
}

impl Subscribers {
    /// Serves the socket.
    pub fn start(listener: Listener, wire: Arc<Wire>) -> Subscribers {
        let subscribers = Subscribers {
            shared: Arc::new(Shared {
                wire,
                all: Mutex::default(),
                moved: Notify::new(),
            }),
        };
        let serving = subscribers.clone();
        listener.serve(limits::SMALL, move |connection| {
            serve(serving.clone(), connection)
        });
        subscribers
    }

    /// Puts a message into the queues of all who want it. Waits for those whose queue is full, within their patience.
    pub async fn publish(&self, message: JupyterMessage) {
        let published = Arc::new(Published::new(&self.shared.wire, message));
        let mut full = self.all().clone();
        full.retain(|listener| listener.lock().wants(&published.topic));
        let alone = full.len() == 1;
        full.retain(|listener| !listener.offer(&published));
        let began = Instant::now();
        while !full.is_empty() {
            let _ = timeout(Duration::from_millis(50), self.shared.moved.notified()).await;
            full.retain(|listener| {
                let waited = began.elapsed();
                if listener.offer(&published) {
                    if !alone {
                        listener.charge(waited);
                    }
                    return false;
                }
                let mut state = listener.lock();
                let lost = match alone {
                    true => state.took.max(began).elapsed() >= PATIENCE,
                    false => waited >= state.credit,
                };
                if lost {
                    state.behind = true;
                    state.credit = Duration::ZERO;
                    state.skip(&published);
                    drop(state);
                    self.say_behind(listener);
                }
                !lost
            });
        }
    }

    /// Waits until what was published is on the wire for all who read.
    pub async fn flush(&self) {
        let began = Instant::now();
        let waits = |listener: &Arc<Subscriber>| {
            let state = listener.lock();
            !state.behind && !state.gone && (state.sending || !state.queue.is_empty())
        };
        while began.elapsed() < FLUSH && self.all().iter().any(waits) {
            let _ = timeout(Duration::from_millis(50), self.shared.moved.notified()).await;
        }
    }

    /// Says that a listener is skipped from now on. Where too much is kept for such as him, his queue goes too.
    fn say_behind(&self, listener: &Subscriber) {
        log(&format!(
            "the listener at {} takes no outputs: they are skipped for it until it does",
            listener.peer.from
        ));
        let all = self.all().clone();
        let kept: usize = all
            .iter()
            .map(|listener| listener.lock())
            .filter(|state| state.behind)
            .map(|state| state.bytes)
            .sum();
        if kept > KEPT {
            listener.lock().let_go();
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Subscriber>>> {
        self.shared
            .all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the message into the queue, or skips it for one who is behind; `false` if the queue is full.
    fn offer(&self, message: &Arc<Published>) -> bool {
        let mut state = self.lock();
        if state.gone {
            return true;
        }
        if state.behind {
            state.skip(message);
        } else if state.bytes == 0 || state.bytes + message.bytes.len() <= QUEUE {
            state.push(message.clone());
        } else {
            return false;
        }
        drop(state);
        self.filled.notify_one();
        true
    }

    /// He held up others for so long.
    fn charge(&self, waited: Duration) {
        let mut state = self.lock();
        state.credit = state.credit.saturating_sub(waited);
    }

    /// The next piece to send; a gap becomes a message as its turn comes.
    async fn next(&self, wire: &Wire) -> Arc<Published> {
        loop {
            {
                let mut state = self.lock();
                if let Some(entry) = state.queue.pop_front() {
                    state.sending = true;
                    let message = match entry {
                        Entry::Message(message) => message,
                        Entry::Gap(gap) => {
                            let message = Arc::new(Published::new(wire, gap.message()));
                            // Counted until it is on the wire, as all that stood in the queue.
                            state.bytes += message.bytes.len();
                            message
                        }
                    };
                    return message;
                }
            }
            self.filled.notified().await;
        }
    }

    /// So many bytes of a message went out, which was all of it or not.
    fn took(&self, bytes: usize, message: &Published, all: bool) {
        let mut state = self.lock();
        state.took = Instant::now();
        let earned = Duration::from_secs_f64(bytes as f64 / FAST_ENOUGH);
        state.credit = (state.credit + earned).min(PATIENCE);
        if all {
            state.sending = false;
            state.bytes = state.bytes.saturating_sub(message.bytes.len());
            if state.behind && state.bytes <= QUEUE / 2 {
                state.behind = false;
                state.essential = 0;
                drop(state);
                log(&format!(
                    "the listener at {} takes outputs again",
                    self.peer.from
                ));
            }
        }
    }
}

impl State {
    fn wants(&self, topic: &[u8]) -> bool {
        self.topics.iter().any(|wanted| topic.starts_with(wanted))
    }

    fn push(&mut self, message: Arc<Published>) {
        self.bytes += message.bytes.len();
        self.queue.push_back(Entry::Message(message));
    }

    /// Leaves the message out, and says so where it would have stood; what is essential is kept while there is room for such.
    fn skip(&mut self, message: &Arc<Published>) {
        let length = message.bytes.len();
        if message.essential && self.essential + length <= ESSENTIAL {
            self.essential += length;
            return self.push(message.clone());
        }
        // Behind the last gap stand essential messages only, unless he caught up meanwhile.
        let behind = self.queue.iter_mut().rev();
        let gap = behind
            .take_while(|entry| match entry {
                Entry::Message(message) => message.essential,
                Entry::Gap(_) => true,
            })
            .find_map(|entry| match entry {
                Entry::Gap(gap) => Some(gap),
                Entry::Message(_) => None,
            });
        match gap {
            Some(gap) => {
                gap.messages += 1;
                gap.bytes += length;
            }
            None => self.queue.push_back(Entry::Gap(Gap {
                messages: 1,
                bytes: length,
                cause: message.cause.clone(),
            })),
        }
    }

    /// Makes a gap of all that waits, but for what is essential.
    fn let_go(&mut self) {
        let all = std::mem::take(&mut self.queue);
        let waiting: usize = all.iter().map(Entry::length).sum();
        let sent = self.bytes.saturating_sub(waiting);
        (self.bytes, self.essential) = (sent, 0);
        for entry in all {
            match entry {
                Entry::Message(message) => self.skip(&message),
                Entry::Gap(gap) => {
                    let found = self.queue.iter_mut().rev().find_map(|entry| match entry {
                        Entry::Gap(gap) => Some(gap),
                        Entry::Message(_) => None,
                    });
                    match found {
                        Some(before) => {
                            before.messages += gap.messages;
                            before.bytes += gap.bytes;
                        }
                        None => self.queue.push_back(Entry::Gap(gap)),
                    }
                }
            }
        }
    }
}

impl Entry {
    fn length(&self) -> usize {
        match self {
            Entry::Message(message) => message.bytes.len(),
            Entry::Gap(_) => 0,
        }
    }
}

impl Gap {
    fn message(self) -> JupyterMessage {
        let Gap {
            messages,
            bytes,
            cause,
        } = self;
        let text = format!(
            "glassbox: {messages} messages ({bytes} bytes) are missing here: this client did not read them in time.\n"
        );
        caused_by(cause, "stream", json!({ "name": "stderr", "text": text }))
    }
}

/// Takes a listener off the list when its connection ends, in whichever way.
struct Present(Subscribers, Arc<Subscriber>);

impl Drop for Present {
    fn drop(&mut self) {
        let Present(subscribers, listener) = self;
        listener.lock().gone = true;
        subscribers
            .all()
            .retain(|other| !Arc::ptr_eq(other, listener));
        subscribers.shared.moved.notify_one();
    }
}

async fn serve(subscribers: Subscribers, connection: Connection) -> Result<(), Fault> {
    let Connection {
        peer,
        mut reader,
        mut writer,
    } = connection;
    let listener = Arc::new(Subscriber {
        peer: peer.clone(),
        state: Mutex::new(State {
            topics: Vec::new(),
            queue: VecDeque::new(),
            bytes: 0,
            essential: 0,
            sending: false,
            behind: false,
            credit: PATIENCE,
            took: Instant::now(),
            gone: false,
        }),
        filled: Notify::new(),
    });
    subscribers.all().push(listener.clone());
    let present = Present(subscribers, listener);
    let Present(subscribers, listener) = &present;
    let shared = &subscribers.shared;

    let write = async {
        loop {
            let message = listener.next(&shared.wire).await;
            let mut rest = message.bytes.as_slice();
            while !rest.is_empty() {
                let written = writer.write(rest).await?;
                if written == 0 {
                    return Err(Fault::Gone(std::io::ErrorKind::WriteZero.into()));
                }
                rest = &rest[written..];
                listener.took(written, &message, rest.is_empty());
                shared.moved.notify_one();
            }
        }
    };
    let read = async {
        loop {
            match reader.next(&peer).await? {
                Received::Message(message) => {
                    // Subscriptions of ZMTP 3.0 are messages: one byte, and the topic.
                    match message.frames.first().and_then(|frame| frame.split_first()) {
                        Some((1, topic)) => subscribe(shared, listener, topic)?,
                        Some((0, topic)) => cancel(listener, topic),
                        _ => {}
                    }
                }
                Received::Subscribe(topic) => subscribe(shared, listener, &topic)?,
                Received::Cancel(topic) => cancel(listener, &topic),
                Received::Ping(context) => {
                    let answer = Published {
                        topic: Vec::new(),
                        bytes: pong(&context),
                        essential: false,
                        cause: None,
                    };
                    let mut state = listener.lock();
                    // Whoever asks without reading asks for nothing.
                    if state.bytes < limits::SMALL {
                        state.push(Arc::new(answer));
                        drop(state);
                        listener.filled.notify_one();
                    }
                }
            }
        }
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

/// From now on he gets what begins with the topic, first of all a welcome (JEP 65): whoever waits for it cannot miss an output.
fn subscribe(shared: &Shared, listener: &Subscriber, topic: &[u8]) -> Result<(), Fault> {
    let mut state = listener.lock();
    if state.topics.len() == TOPICS || topic.len() > TOPIC {
        return Err(Fault::TooManyTopics);
    }
    state.topics.push(topic.to_vec());
    let content = json!({ "subscription": String::from_utf8_lossy(topic) });
    let mut welcome = announce(WELCOME, content);
    if !state.wants(WELCOME.as_bytes()) {
        // By the topic that he asked for, or his socket would leave it out.
        welcome = welcome.with_zmq_identities(vec![topic.to_vec().into()]);
    }
    state.push(Arc::new(Published::new(&shared.wire, welcome)));
    drop(state);
    listener.filled.notify_one();
    Ok(())
}

fn cancel(listener: &Subscriber, topic: &[u8]) {
    let mut state = listener.lock();
    if let Some(at) = state.topics.iter().position(|wanted| wanted == topic) {
        state.topics.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::zmtp::listener::tests::peer;

    fn state() -> State {
        State {
            topics: vec![Vec::new()],
            queue: VecDeque::new(),
            bytes: 0,
            essential: 0,
            sending: false,
            behind: true,
            credit: PATIENCE,
            took: Instant::now(),
            gone: false,
        }
    }

    fn message(length: usize, essential: bool) -> Arc<Published> {
        Arc::new(Published {
            topic: Vec::new(),
            bytes: vec![0; length],
            essential,
            cause: None,
        })
    }

    fn shape(state: &State) -> String {
        let entries = state.queue.iter().map(|entry| match entry {
            Entry::Message(message) => message.bytes.len().to_string(),
            Entry::Gap(gap) => format!("-{}/{}", gap.messages, gap.bytes),
        });
        entries.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_gap_stands_where_outputs_are_missing() {
        let mut state = state();
        state.push(message(1000, false));
        for (length, essential) in [(500, false), (10, true), (700, false), (11, true)] {
            state.skip(&message(length, essential));
        }
        assert_eq!(shape(&state), "1000 -2/1200 10 11");
        // He caught up a little, and is behind again.
        state.push(message(2000, false));
        state.skip(&message(50, false));
        assert_eq!(shape(&state), "1000 -2/1200 10 11 2000 -1/50");
        assert_eq!(state.bytes, 3021);
        state.let_go();
        assert_eq!((shape(&state).as_str(), state.bytes), ("-5/4250 10 11", 21));
    }

    #[test]
    fn what_a_gap_says_is_counted_until_it_is_sent() {
        let listener = Subscriber {
            peer: peer(),
            state: Mutex::new(state()),
            filled: Notify::new(),
        };
        listener.lock().skip(&message(500, false));
        listener.lock().push(message(1000, false));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let gap = runtime.block_on(listener.next(&Wire::new("")));
        assert_eq!(listener.lock().bytes, 1000 + gap.bytes.len());
        listener.took(gap.bytes.len(), &gap, true);
        assert_eq!(listener.lock().bytes, 1000);
    }

    #[test]
    fn also_what_is_essential_has_an_end() {
        let mut state = state();
        for _ in 0..2000 {
            state.skip(&message(1000, true));
        }
        assert!(state.bytes <= ESSENTIAL, "{}", state.bytes);
    }
}
