//! The heartbeat: every message goes back as it came, to whoever sent it.
//!
//! Each connection has a task of its own, so one that sends nonsense, reads nothing or is gone ends nobody else's.

use tokio::io::AsyncWriteExt as _;

use super::zmtp::frames::{Received, encode, pong};
use super::zmtp::listener::{Connection, Listener};
use super::zmtp::{Fault, limits};

/// Echoes for as long as the process lives.
pub fn start(listener: Listener) {
    listener.serve(limits::SMALL, echo);
}

async fn echo(mut connection: Connection) -> Result<(), Fault> {
    loop {
        let answer = match connection.reader.next(&connection.peer).await? {
            Received::Message(message) => encode(&message.frames),
            Received::Ping(context) => pong(&context),
            Received::Subscribe(_) | Received::Cancel(_) => continue,
        };
        connection.writer.write_all(&answer).await?;
    }
}
