//! The process in which cells run, as the session sees it: [`crate::session::child`] is the other side.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use glassbox_wire::{self as wire, Comm, Control};

use crate::session::child::UNUSABLE;
use crate::session::offspring;

/// How often is looked whether a process that says nothing is still there. Its end shows at once, unless a copy of it that a cell made
/// holds its pipes open.
const GLANCE: libc::c_int = 200;

/// The running process and the pipes to it.
#[derive(Debug)]
pub(crate) struct Process {
    command: Command,
    child: Arc<Mutex<Child>>,
    stdin: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    restarts: u64,
}

/// The process ended while a cell ran.
#[derive(Debug)]
pub(crate) struct Died {
    /// How, in the system's words: `signal: 6 (SIGABRT)`, `exit status: 3`.
    pub status: String,
}

impl Process {
    /// Starts the process. It loads the prelude while the session goes on.
    pub(crate) fn start(mut command: Command) -> std::io::Result<Process> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own: what its cells start is found by it.
            .process_group(0)
            .env("RUST_BACKTRACE", "1");
        let mut child = command.spawn()?;
        let (stdin, replies) = pipes(&mut child)?;
        Ok(Process {
            command,
            child: Arc::new(Mutex::new(child)),
            stdin: Some(stdin),
            replies,
            restarts: 0,
        })
    }

    /// For the interrupt; stays valid when the process is started anew.
    pub(crate) fn handle(&self) -> Arc<Mutex<Child>> {
        self.child.clone()
    }

    /// Has the process load a library and call the function; returns the control lines of the cell.
    pub(crate) fn run(&mut self, library: &Path, function: &str) -> Result<Vec<Control>, Died> {
        self.request(&wire::Command::Run {
            library: library.to_owned(),
            function: function.to_owned(),
        })
    }

    /// Has the process show a variable as a cell does that names it alone; `None` if only a compiled cell can show its type.
    pub(crate) fn show(&mut self, name: &str) -> Result<Option<Vec<Control>>, Died> {
        let name = name.to_owned();
        let lines = self.request(&wire::Command::Show { name })?;
        Ok((!lines.contains(&Control::NotShown)).then_some(lines))
    }

    /// Has the process pass on a message to a control.
    pub(crate) fn deliver(&mut self, message: &Comm) -> Result<Vec<Control>, Died> {
        self.request(&wire::Command::Comm(message.clone()))
    }

    /// Tells the process which number the next cell has.
    pub(crate) fn number(&mut self, number: u64) {
        // A process that is gone is noticed by the cell.
        if let Some(stdin) = &mut self.stdin {
            let command = wire::Command::Cell(number);
            let _ = stdin.write_all(format!("{command}\n").as_bytes());
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .id()
    }

    /// How many processes there were before this one.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Sends a command and waits until it is done.
    fn request(&mut self, command: &wire::Command) -> Result<Vec<Control>, Died> {
        let sent = match &mut self.stdin {
            Some(stdin) => stdin.write_all(format!("{command}\n").as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        if sent.is_err() {
            return Err(self.died());
        }
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if !self.replies_or_ends() {
                return Err(self.died());
            }
            match self.replies.read_line(&mut line) {
                Ok(1..) if line.ends_with('\n') => {
                    match Control::parse(line.trim_end_matches('\n')) {
                        Some(Control::Complete) => return Ok(lines),
                        Some(control) => lines.push(control),
                        // The child passes on no others.
                        None => {}
                    }
                }
                _ => return Err(self.died()),
            }
        }
    }

    /// Waits for something to read from the process; `false` if it has ended and left nothing.
    fn replies_or_ends(&mut self) -> bool {
        let mut ended = false;
        while self.replies.buffer().is_empty() {
            let mut polled = libc::pollfd {
                fd: self.replies.get_ref().as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: the structure is alive.
            if unsafe { libc::poll(&raw mut polled, 1, if ended { 0 } else { GLANCE }) } != 0 {
                // Also an error: reading says which.
                return true;
            }
            if ended {
                return false;
            }
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            // What it wrote before its end is there now: one more look.
            ended = !matches!(child.try_wait(), Ok(None));
        }
        true
    }

    /// How the process ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<Died> {
        let status = {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            child.try_wait()
        };
        match status {
            Ok(Some(_)) => Some(self.died()),
            _ => None,
        }
    }

    fn died(&mut self) -> Died {
        self.stdin = None;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = child.wait();
        offspring::end(child.id());
        let status = match waited {
            // The exit code by which the process says that it could not begin.
            Ok(status) if status.code() == Some(UNUSABLE) => {
                format!("{status}: the process that runs cells could not begin")
            }
            Ok(status) if status.signal().is_some() || status.code().is_some() => {
                status.to_string()
            }
            Ok(status) => format!("{status}"),
            Err(error) => format!("the process that runs cells is gone: {error}"),
        };
        Died { status }
    }

    /// Sets a variable in the environment of processes started from now on.
    pub(crate) fn set_env(&mut self, key: &str, value: &str) {
        self.command.env(key, value);
    }

    /// Ends the process if it still runs and starts a new one.
    pub(crate) fn restart(&mut self) -> std::io::Result<()> {
        self.stdin = None;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(None) = child.try_wait() {
            // Found first, for they are nobody's children after it.
            let started = offspring::of(child.id());
            child.kill()?;
            started.signal(libc::SIGKILL);
        }
        // Whether it was waited for before does not matter.
        let _ = child.wait();
        offspring::end(child.id());
        let mut fresh = self.command.spawn()?;
        let (stdin, replies) = pipes(&mut fresh)?;
        *child = fresh;
        drop(child);
        self.stdin = Some(stdin);
        self.replies = replies;
        self.restarts += 1;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends when its commands do; what runs in it is ended by its own watch, and what its cells started by both of us.
        self.stdin = None;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.wait();
        offspring::end(child.id());
    }
}

fn pipes(child: &mut Child) -> std::io::Result<(ChildStdin, BufReader<ChildStdout>)> {
    match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => Ok((stdin, BufReader::new(stdout))),
        _ => Err(std::io::Error::other("the process has no pipes")),
    }
}
