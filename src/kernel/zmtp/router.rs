//! Many clients at one socket: each message comes with who sent it, and an answer goes to exactly him.
//!
//! A client is found by his connection. What he calls himself is no proof and may be said by others, so it is only used when that
//! connection is gone (he came back) or the answer leaves by another socket of his (stdin).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::frames::{Message, Received, encode, pong};
use super::listener::{Connection, Listener};
use super::{Fault, Peer, limits};
use crate::kernel::wire::log;

/// Where an answer goes.
#[derive(Clone, Debug, Default)]
pub struct Address {
    connection: u64,
    identity: Vec<u8>,
}

impl Address {
    /// Whether both name the same client, on whatever sockets. A client without a name is nobody's double.
    pub fn same_client(&self, other: &Address) -> bool {
        self.connection == other.connection
            || (!self.identity.is_empty() && self.identity == other.identity)
    }
}

/// A message and who sent it.
#[derive(Debug)]
pub struct Incoming {
    pub peer: Arc<Peer>,
    pub message: Message,
}

impl Incoming {
    pub fn from(&self) -> Address {
        Address {
            connection: self.peer.id,
            identity: self.peer.identity().to_vec(),
        }
    }
}

/// The sending side of a socket. Clones are the same.
#[derive(Clone)]
pub struct Router {
    name: &'static str,
    outlets: Arc<Mutex<BTreeMap<u64, Outlet>>>,
}

/// What waits to be sent to one connection.
#[derive(Clone)]
struct Outlet {
    peer: Arc<Peer>,
    queue: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

impl Outlet {
    fn send(&self, bytes: Vec<u8>) -> Result<(), Fault> {
        let limit = if self.peer.is_trusted() {
            limits::REPLIES
        } else {
            limits::REPLIES_BEFORE_TRUST
        };
        let length = bytes.len();
        let before = self.waiting.fetch_add(length, Ordering::AcqRel);
        if before > 0 && before + length > limit {
            return Err(Fault::DoesNotRead);
        }
        // Its connection has just ended: there is no one to answer.
        let _ = self.queue.send(bytes);
        Ok(())
    }
}

impl Router {
    /// Serves the socket; what comes waits in the returned queue.
    pub fn start(listener: Listener) -> (Router, mpsc::Receiver<Incoming>) {
        let (arrived, incoming) = mpsc::channel(limits::QUEUE);
        let router = Router {
            name: listener.name,
            outlets: Arc::default(),
        };
        let serving = router.clone();
        listener.serve(usize::MAX, move |connection| {
            serve(serving.clone(), connection, arrived.clone())
        });
        (router, incoming)
    }

    /// Sends to the connection of the address, or if it is gone to the one that now has its name.
    pub fn answer(&self, to: &Address, frames: &[Vec<u8>]) {
        let outlet = {
            let outlets = self.outlets();
            let returned = || outlets.values().rev().find(|outlet| is_named(outlet, to));
            outlets.get(&to.connection).or_else(returned).cloned()
        };
        match outlet {
            Some(outlet) => self.send(&outlet, encode(frames)),
            None => log(&format!(
                "a reply on {} could not be sent: its client is gone",
                self.name
            )),
        }
    }

    /// Sends to the client of an address that belongs to another socket. Returns whether he is here.
    pub fn ask(&self, client: &Address, frames: &[Vec<u8>]) -> bool {
        let mut named: Vec<Outlet> = {
            let outlets = self.outlets();
            let named = outlets.values().filter(|outlet| is_named(outlet, client));
            named.cloned().collect()
        };
        // Anybody can take a name: those who have shown the key go first. Else all are asked, of whom the right one can answer.
        if named.iter().any(|outlet| outlet.peer.is_trusted()) {
            named.retain(|outlet| outlet.peer.is_trusted());
        }
        let bytes = encode(frames);
        for outlet in &named {
            self.send(outlet, bytes.clone());
        }
        !named.is_empty()
    }

    /// Waits until what was sent is with the system, or `patience` has passed.
    pub async fn flush(&self, patience: Duration) {
        let all_sent = async {
            let waits = || {
                let mut outlets = self.outlets().clone().into_values();
                outlets.any(|outlet| outlet.waiting.load(Ordering::Acquire) > 0)
            };
            while waits() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(patience, all_sent).await.is_err() {
            log(&format!(
                "replies on {} are not read: they go with the kernel",
                self.name
            ));
        }
    }

    fn send(&self, outlet: &Outlet, bytes: Vec<u8>) {
        if let Err(fault) = outlet.send(bytes) {
            let (name, from) = (self.name, &outlet.peer.from);
            log(&format!(
                "closed a connection on {name} from {from}: {fault}"
            ));
            outlet.peer.close();
        }
    }

    fn outlets(&self) -> MutexGuard<'_, BTreeMap<u64, Outlet>> {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_named(outlet: &Outlet, to: &Address) -> bool {
    !to.identity.is_empty() && outlet.peer.identity() == to.identity
}

/// Takes the outlet away when the connection ends, in whichever way.
struct Present(Router, u64);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.outlets().remove(&self.1);
    }
}

async fn serve(
    router: Router,
    connection: Connection,
    arrived: mpsc::Sender<Incoming>,
) -> Result<(), Fault> {
    let Connection {
        peer,
        mut reader,
        mut writer,
    } = connection;
    let (queue, mut replies) = mpsc::unbounded_channel::<Vec<u8>>();
    let outlet = Outlet {
        peer: peer.clone(),
        queue,
        waiting: Arc::default(),
    };
    let waiting = outlet.waiting.clone();
    router.outlets().insert(peer.id, outlet.clone());
    let _present = Present(router, peer.id);
    let write = async {
        while let Some(bytes) = replies.recv().await {
            writer.write_all(&bytes).await?;
            waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
        }
        Ok(())
    };
    let read = async {
        loop {
            match reader.next(&peer).await? {
                Received::Message(message) => {
                    let peer = peer.clone();
                    if arrived.send(Incoming { peer, message }).await.is_err() {
                        return Ok(());
                    }
                }
                Received::Ping(context) => outlet.send(pong(&context))?,
                Received::Subscribe(_) | Received::Cancel(_) => {}
            }
        }
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}
