//! Frames: bytes → messages and commands, within limits; messages → bytes.
//!
//! A frame is a byte of flags, its length in one or eight bytes, its body. A message is frames up to the first without MORE.
//! The length is what the other end says: it is checked, and memory is taken for what has arrived.

use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio::time::timeout;

use super::limits::{self, Held};
use super::{Fault, Peer};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// So many bytes of a frame are asked for at a time.
const CHUNK: usize = 64 * 1024;

/// A message as it came; it counts against the limits for as long as it lives.
#[derive(Debug)]
pub struct Message {
    pub frames: Vec<Vec<u8>>,
    held: Held,
}

/// What a connection sends once hands are shaken.
#[derive(Debug)]
pub enum Received {
    Message(Message),
    /// Asks for a PONG with this context.
    Ping(Vec<u8>),
    Subscribe(Vec<u8>),
    Cancel(Vec<u8>),
}

/// The reading half of a connection.
pub struct Reader<R> {
    input: BufReader<R>,
    /// The longest message of this socket.
    longest: usize,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(input: R, longest: usize) -> Reader<R> {
        Reader {
            input: BufReader::new(input),
            longest,
        }
    }

    /// Exactly so many bytes, of which there are few.
    pub async fn exact<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// The body of a command, which has to come now.
    pub async fn command(&mut self) -> Result<Vec<u8>, Fault> {
        let flags = self.input.read_u8().await?;
        if flags & !LONG != COMMAND {
            return Err(Fault::BadReady);
        }
        self.body(flags, limits::COMMAND, &mut Held::new(false))
            .await
    }

    /// The next message, or command that means something here; waits for its first byte as long as it takes.
    pub async fn next(&mut self, peer: &Peer) -> Result<Received, Fault> {
        loop {
            let flags = self.input.read_u8().await?;
            let trusted = peer.is_trusted();
            let rest = self.rest(flags, trusted);
            let received = if trusted {
                rest.await?
            } else {
                timeout(limits::UNFINISHED, rest)
                    .await
                    .map_err(|_| Fault::SlowMessage(limits::UNFINISHED))??
            };
            if let Some(received) = received {
                return Ok(received);
            }
        }
    }

    /// What begins with these flags; nothing if it is a command without meaning here.
    async fn rest(&mut self, mut flags: u8, trusted: bool) -> Result<Option<Received>, Fault> {
        let mut message = Message {
            frames: Vec::new(),
            held: Held::new(trusted),
        };
        let mut left = self.longest.min(limits::message(trusted));
        loop {
            if flags & !(MORE | LONG | COMMAND) != 0 {
                return Err(Fault::Flags(flags));
            }
            if flags & COMMAND != 0 {
                let mut held = Held::new(trusted);
                let body = self.body(flags, limits::COMMAND, &mut held);
                return Ok(meaning(&body.await?));
            }
            if message.frames.len() == limits::FRAMES {
                return Err(Fault::TooManyFrames(limits::FRAMES));
            }
            let body = self.body(flags, left, &mut message.held).await?;
            left -= body.len();
            message.frames.push(body);
            if flags & MORE == 0 {
                return Ok(Some(Received::Message(message)));
            }
            flags = self.input.read_u8().await?;
        }
    }

    async fn body(&mut self, flags: u8, limit: usize, held: &mut Held) -> Result<Vec<u8>, Fault> {
        let announced = if flags & LONG != 0 {
            self.input.read_u64().await?
        } else {
            u64::from(self.input.read_u8().await?)
        };
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| *length <= limit)
            .ok_or(Fault::TooLong { announced, limit })?;
        let mut body = Vec::new();
        while body.len() < length {
            let wanted = (length - body.len()).min(CHUNK);
            if !held.grow(wanted) {
                return Err(Fault::NoRoom);
            }
            let mut part = (&mut self.input).take(wanted as u64);
            if part.read_to_end(&mut body).await? < wanted {
                return Err(Fault::Gone(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(body)
    }
}

/// What a command is for. Those that are not known are passed over, as the specification asks.
fn meaning(body: &[u8]) -> Option<Received> {
    let (length, rest) = body.split_first()?;
    let (name, data) = rest.split_at_checked(usize::from(*length))?;
    match name {
        // The first two bytes are how long the other end waits.
        b"PING" => Some(Received::Ping(
            data.get(2..)?.iter().copied().take(16).collect(),
        )),
        b"SUBSCRIBE" => Some(Received::Subscribe(data.to_vec())),
        b"CANCEL" => Some(Received::Cancel(data.to_vec())),
        _ => None,
    }
}

/// A message as bytes.
pub fn encode(frames: &[Vec<u8>]) -> Vec<u8> {
    let length = frames.iter().map(|frame| frame.len() + 9).sum();
    let mut bytes = Vec::with_capacity(length);
    for (at, frame) in frames.iter().enumerate() {
        let more = if at + 1 < frames.len() { MORE } else { 0 };
        put(more, frame, &mut bytes);
    }
    bytes
}

/// A command as bytes.
pub fn encode_command(name: &str, data: &[u8]) -> Vec<u8> {
    let mut body = vec![name.len() as u8];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    let mut bytes = Vec::new();
    put(COMMAND, &body, &mut bytes);
    bytes
}

/// The answer to a PING.
pub fn pong(context: &[u8]) -> Vec<u8> {
    encode_command("PONG", context)
}

fn put(flags: u8, body: &[u8], bytes: &mut Vec<u8>) {
    match u8::try_from(body.len()) {
        Ok(length) => bytes.extend_from_slice(&[flags, length]),
        Err(_) => {
            bytes.push(flags | LONG);
            bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::zmtp::listener::tests::peer;

    fn read(bytes: &[u8]) -> Vec<Result<Received, Fault>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut reader = Reader::new(bytes, usize::MAX);
            let peer = peer();
            let mut all = Vec::new();
            loop {
                let next = reader.next(&peer).await;
                let ends = next.is_err();
                all.push(next);
                if ends {
                    return all;
                }
            }
        })
    }

    #[test]
    fn a_length_alone_takes_no_memory() {
        for length in [1u64 << 36, 1 << 62, u64::MAX, u64::MAX - 9] {
            let mut bytes = vec![LONG];
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(b"and a few bytes");
            let last = read(&bytes).pop().expect("it ends");
            assert!(matches!(last, Err(Fault::TooLong { .. })), "{last:?}");
        }
        let many = [MORE, 0].repeat(limits::FRAMES + 1);
        assert!(matches!(
            read(&many).pop(),
            Some(Err(Fault::TooManyFrames(_)))
        ));
    }

    #[test]
    fn commands_are_understood_or_passed_over() {
        let mut bytes = encode_command("PING", b"\0\x09context");
        bytes.extend(encode_command("NOTHING", &[7; 600]));
        bytes.extend(encode_command("SUBSCRIBE", b"topic"));
        bytes.extend(encode(&[b"x".to_vec(), vec![1; 300]]));
        let all = read(&bytes);
        assert!(matches!(&all[0], Ok(Received::Ping(context)) if context == b"context"));
        assert!(matches!(&all[1], Ok(Received::Subscribe(topic)) if topic == b"topic"));
        assert!(matches!(&all[2], Ok(Received::Message(message)) if message.frames.len() == 2));
        assert_eq!(all.len(), 4);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes).last().is_some_and(Result::is_err));
        }

        #[test]
        fn what_is_written_is_read(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..6)) {
            let all = read(&encode(&frames));
            prop_assert!(matches!(&all[0], Ok(Received::Message(message)) if message.frames == frames));
        }
    }
}
