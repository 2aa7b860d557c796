//! The two pipes on which the child's stdout and stderr arrive, and the thread that reads them.
//!
//! They are named pipes in the session's private folder: they outlive the child, so text that it wrote just before it
//! died is still there to be read, and the next child writes to the same ones. The child's control lines travel
//! elsewhere (see [`crate::session::child`]).

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use glassbox_wire::names::{STDERR_PIPE, STDOUT_PIPE};

use super::frames::{Decoder, Incoming};
use super::{held, open_pipe};
use crate::session::event::StreamName;

/// So many messages wait for the front end before the child has to wait: few, because each may be a display of many megabytes.
const QUEUE: usize = 16;
const CHUNK: usize = 64 * 1024;
/// What is written to ask for a drain.
const ENDED: &[u8] = b"e";
const DIED: &[u8] = b"d";
/// A pipe holds no more than this many chunks, so what was in it at a request has been read after as many rounds, even
/// if a thread of the user's goes on printing for ever.
const DRAIN_ROUNDS: u32 = 16;

/// What the reading thread passes on.
pub(crate) enum Message {
    /// Read from the child.
    Incoming(Incoming),
    /// Everything that was in the pipes at the time of the request has been passed on.
    Drained,
}

/// Both pipes and their thread.
pub(crate) struct Streams {
    messages: Option<Receiver<Message>>,
    /// One byte asks the thread to drain; closing it ends the thread.
    requests: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    /// The pipes by name, and where a child finds them.
    pipes: String,
}

impl Streams {
    /// Makes the pipes in `folder` and starts to read.
    pub(crate) fn open(folder: &Path, nonce: &str) -> std::io::Result<Streams> {
        let stdout = open_pipe(&folder.join(STDOUT_PIPE))?;
        let stderr = open_pipe(&folder.join(STDERR_PIPE))?;
        let pipes = format!(
            "{} {}",
            held(STDOUT_PIPE, &stdout),
            held(STDERR_PIPE, &stderr)
        );
        let (requests, asked) = UnixStream::pair()?;
        asked.set_nonblocking(true)?;
        let (sender, messages) = bounded(QUEUE);
        let mut reader = Reader {
            // Errors first when both have something: a message about a picture stands before the picture.
            sources: [
                Source {
                    pipe: stderr,
                    decoder: Decoder::new(StreamName::Stderr, nonce),
                },
                Source {
                    pipe: stdout,
                    decoder: Decoder::new(StreamName::Stdout, nonce),
                },
            ],
            asked,
            sender,
        };
        let thread = std::thread::Builder::new()
            .name("cell output".to_owned())
            .spawn(move || reader.run())?;
        Ok(Streams {
            messages: Some(messages),
            requests: Some(requests),
            thread: Some(thread),
            pipes,
        })
    }

    /// Where a child finds the pipes, see [`held`].
    pub(crate) fn pipes(&self) -> &str {
        &self.pipes
    }

    /// What is read, in order.
    pub(crate) fn messages(&self) -> Option<&Receiver<Message>> {
        self.messages.as_ref()
    }

    /// Asks for a [`Message::Drained`] behind everything that is in the pipes now: `died` if the process has, else only its cell has ended.
    pub(crate) fn request_drain(&self, died: bool) -> std::io::Result<()> {
        use std::io::Write;
        match &self.requests {
            Some(requests) => (&*requests).write_all(if died { DIED } else { ENDED }),
            None => Ok(()),
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // Without a receiver the thread's sends fail, without the socket its poll returns: it ends either way.
        drop(self.messages.take());
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Source {
    pipe: File,
    decoder: Decoder,
}

struct Reader {
    sources: [Source; 2],
    asked: UnixStream,
    sender: Sender<Message>,
}

impl Reader {
    fn run(&mut self) {
        let mut chunk = vec![0; CHUNK];
        loop {
            let [first, second] = &self.sources;
            let mut polled =
                [&first.pipe as &dyn AsRawFd, &second.pipe, &self.asked].map(|file| libc::pollfd {
                    fd: file.as_raw_fd(),
                    events: libc::POLLIN,
                    revents: 0,
                });
            // SAFETY: the array is alive and of the given length.
            let ready =
                unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
            if ready < 0 {
                if std::io::Error::last_os_error().kind() == ErrorKind::Interrupted {
                    continue;
                }
                return;
            }
            // The request is taken before the pipes are read, so whatever was written before it is passed on before
            // the answer.
            let (asked, died) = match self.take_requests() {
                Some(asked) => asked,
                None => return,
            };
            let mut out = Vec::new();
            for round in 1.. {
                let mut empty = true;
                for source in &mut self.sources {
                    if let Ok(count @ 1..) = source.pipe.read(&mut chunk) {
                        source.decoder.feed(&chunk[..count], &mut out);
                        empty = false;
                    }
                }
                let drained = asked > 0 && (empty || round == DRAIN_ROUNDS);
                if drained {
                    for source in &mut self.sources {
                        match died {
                            true => source.decoder.finish(&mut out),
                            false => source.decoder.finish_cell(&mut out),
                        }
                    }
                }
                for incoming in out.drain(..) {
                    if self.sender.send(Message::Incoming(incoming)).is_err() {
                        return;
                    }
                }
                if drained {
                    for _ in 0..asked {
                        if self.sender.send(Message::Drained).is_err() {
                            return;
                        }
                    }
                }
                if empty || asked == 0 || drained {
                    break;
                }
            }
        }
    }

    /// How many drains were asked for, and whether the process has died; `None` when the session is over.
    fn take_requests(&mut self) -> Option<(usize, bool)> {
        let mut bytes = [0; 16];
        match self.asked.read(&mut bytes) {
            Ok(0) => None,
            Ok(count) => Some((count, bytes[..count].contains(&DIED[0]))),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Some((0, false))
            }
            Err(_) => None,
        }
    }
}
