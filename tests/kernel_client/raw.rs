//! A client that sends bytes as it likes: connections to a kernel's ports below any library, for attacks.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

pub const MORE: u8 = 1;
pub const LONG: u8 = 2;
pub const COMMAND: u8 = 4;

/// A connection on which nothing is checked.
pub struct Raw(pub TcpStream);

impl Raw {
    pub fn connect(port: u16) -> Result<Raw> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        stream.set_nodelay(true)?;
        Ok(Raw(stream))
    }

    /// A connection that has shaken hands as a socket of this kind.
    pub fn shaken(port: u16, kind: &str, identity: &[u8]) -> Result<Raw> {
        let mut raw = Raw::connect(port)?;
        raw.0.write_all(&greeting())?;
        raw.0.write_all(&ready(kind, identity))?;
        let mut theirs = [0; 64];
        raw.0.read_exact(&mut theirs).context("no greeting")?;
        let (flags, body) = raw.frame().context("no READY")?;
        ensure!(
            flags == COMMAND && body.starts_with(b"\x05READY"),
            "{flags} {body:?}"
        );
        Ok(raw)
    }

    /// A listener of iopub who gets everything, once he reads.
    pub fn subscriber(port: u16) -> Result<Raw> {
        let mut raw = Raw::shaken(port, "SUB", b"")?;
        raw.send(&frame(0, b"\x01"))?;
        Ok(raw)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes)?)
    }

    /// Sends a message of these frames.
    pub fn message(&mut self, frames: &[&[u8]]) -> Result<()> {
        let mut bytes = Vec::new();
        for (at, body) in frames.iter().enumerate() {
            let more = if at + 1 < frames.len() { MORE } else { 0 };
            bytes.extend(frame(more, body));
        }
        self.send(&bytes)
    }

    /// The next frame: flags and body.
    pub fn frame(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut flags = [0; 1];
        self.0.read_exact(&mut flags)?;
        let length = if flags[0] & LONG != 0 {
            let mut length = [0; 8];
            self.0.read_exact(&mut length)?;
            u64::from_be_bytes(length) as usize
        } else {
            let mut length = [0; 1];
            self.0.read_exact(&mut length)?;
            usize::from(length[0])
        };
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((flags[0] & !LONG, body))
    }

    /// All frames of the next message.
    pub fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            let (flags, body) = self.frame()?;
            frames.push(body);
            if flags & MORE == 0 {
                return Ok(frames);
            }
        }
    }

    /// Waits until the other side has closed the connection.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        self.0.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut chunk = [0; 4096];
        while begun.elapsed() < patience {
            match self.0.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Ok(()),
            }
        }
        bail!("the connection is still open after {patience:?}")
    }

    /// Leaves with a RST, as a process that is killed with bytes unread.
    pub fn reset(self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // SAFETY: the structure is alive and of the given size.
        unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            );
        }
    }
}

pub fn greeting() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

pub fn ready(kind: &str, identity: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", kind.as_bytes()), ("Identity", identity)] {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value);
    }
    frame(COMMAND, &body)
}

pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(flags, body.len() as u64);
    bytes.extend_from_slice(body);
    bytes
}

/// The beginning of a frame that says it has so many bytes.
pub fn header(flags: u8, length: u64) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(length) => vec![flags, length],
        Err(_) => {
            let mut bytes = vec![flags | LONG];
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes
        }
    }
}
