//! The beginning of a connection: 64 bytes of greeting from both sides, then a READY that names the kind of socket.
//!
//! Our greeting leaves at once, as the other side may wait for it. The mechanism is NULL, as with every Jupyter kernel: who may ask
//! for something is told by the signature of each message.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Fault;
use super::frames::{Reader, encode_command};
use super::limits::HANDSHAKE;

/// The pattern that a socket of ours follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Router,
    Publisher,
    Echo,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Router => "ROUTER",
            Kind::Publisher => "XPUB",
            Kind::Echo => "REP",
        }
    }

    fn fits(self, other: &[u8]) -> bool {
        let fitting: &[&[u8]] = match self {
            Kind::Router => &[b"DEALER", b"REQ", b"ROUTER"],
            Kind::Publisher => &[b"SUB", b"XSUB"],
            Kind::Echo => &[b"REQ", b"DEALER"],
        };
        fitting.contains(&other)
    }
}

const GREETING: usize = 64;
/// The longest name that a client may give itself.
const IDENTITY: usize = 255;

/// Shakes hands; returns what the client calls itself.
pub async fn shake_hands<R, W>(
    reader: &mut Reader<R>,
    writer: &mut W,
    kind: Kind,
) -> Result<Vec<u8>, Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let all = async {
        writer.write_all(&greeting()).await?;
        check(&reader.exact::<GREETING>().await?)?;
        let mut ready = Vec::new();
        property("Socket-Type", kind.name().as_bytes(), &mut ready);
        property("Identity", b"", &mut ready);
        writer.write_all(&encode_command("READY", &ready)).await?;
        let (other, identity) = read_ready(&reader.command().await?).ok_or(Fault::BadReady)?;
        if !kind.fits(&other) {
            let other = String::from_utf8_lossy(&other).chars().take(32).collect();
            return Err(Fault::SocketKind(other));
        }
        Ok(identity)
    };
    timeout(HANDSHAKE, all)
        .await
        .map_err(|_| Fault::SlowHandshake(HANDSHAKE))?
}

fn greeting() -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

fn check(theirs: &[u8; GREETING]) -> Result<(), Fault> {
    if theirs[0] != 0xff || theirs[9] & 1 == 0 {
        return Err(Fault::NoGreeting);
    }
    if theirs[10] < 3 {
        return Err(Fault::OldVersion(theirs[10]));
    }
    let mechanism = &theirs[12..32];
    let end = mechanism.iter().position(|byte| *byte == 0);
    let mechanism = &mechanism[..end.unwrap_or(mechanism.len())];
    if mechanism != b"NULL" {
        let mechanism = String::from_utf8_lossy(mechanism).into_owned();
        return Err(Fault::Mechanism(mechanism));
    }
    Ok(())
}

fn property(name: &str, value: &[u8], data: &mut Vec<u8>) {
    data.push(name.len() as u8);
    data.extend_from_slice(name.as_bytes());
    data.extend_from_slice(&(value.len() as u32).to_be_bytes());
    data.extend_from_slice(value);
}

/// The kind of socket and the identity that a READY names.
fn read_ready(body: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut rest = body.strip_prefix(b"\x05READY")?;
    let (mut kind, mut identity) = (None, Vec::new());
    while let Some((length, after)) = rest.split_first() {
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (value, after) = after.split_at_checked(length)?;
        // The names are told apart without regard to case.
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            kind = Some(value.to_vec());
        } else if name.eq_ignore_ascii_case(b"Identity") {
            identity = value.to_vec();
        }
        rest = after;
    }
    (identity.len() <= IDENTITY).then_some((kind?, identity))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ready_names_the_socket_and_who_it_is() {
        let mut ready = b"\x05READY".to_vec();
        property("socket-type", b"DEALER", &mut ready);
        property("X-Other", &[1; 300], &mut ready);
        property("Identity", b"me", &mut ready);
        assert_eq!(
            read_ready(&ready),
            Some((b"DEALER".to_vec(), b"me".to_vec()))
        );
        for cut in 0..ready.len() {
            let cut = &ready[..cut];
            assert!(read_ready(cut).is_none_or(|(kind, _)| kind == b"DEALER"));
        }
    }

    proptest! {
        #[test]
        fn any_ready_and_greeting_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 64..200)) {
            let mut body = b"\x05READY".to_vec();
            body.extend_from_slice(&bytes);
            let _ = read_ready(&body);
            let _ = check(bytes.first_chunk().expect("64 bytes"));
        }
    }
}
