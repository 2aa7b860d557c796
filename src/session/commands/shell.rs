//! `!COMMAND`: runs a shell command and shows what it wrote.
//!
//! What it leaves running in the background is a process that a cell started, see [`crate::session::offspring`]: it is not waited
//! for, and ends with the session. An interrupt ends the command.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::show::say;
use crate::programs;
use crate::session::engine::{Done, EvalError, RustcEngine};
use crate::session::offspring;

/// How often is looked whether the command has ended or shall.
const GLANCE: Duration = Duration::from_millis(5);
/// How long its output is waited for when it has ended, and something that it began still may write more.
const REST: Duration = Duration::from_millis(100);
/// How long it may take to end once it is interrupted.
const INTERRUPT: Duration = Duration::from_secs(1);

pub(super) fn run(
    engine: &mut RustcEngine,
    command: &str,
    done: &mut Done,
) -> Result<(), EvalError> {
    let (status, said) = output(engine, command)
        .map_err(|error| EvalError::Refused(format!("cannot run the shell: {error}")))?
        .ok_or(EvalError::Interrupted)?;
    if status.success() {
        say(done, &said);
        Ok(())
    } else {
        Err(EvalError::Refused(format!(
            "the shell command failed ({status}): {}",
            said.trim_end()
        )))
    }
}

/// How the command ended and what it said; nothing if it was interrupted.
fn output(engine: &RustcEngine, command: &str) -> std::io::Result<Option<(ExitStatus, String)>> {
    let start = |group: Option<u32>| {
        let mut shell = Command::new("sh");
        programs::with_users_umask(&mut shell)
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(group) = group.and_then(|group| i32::try_from(group).ok()) {
            shell.process_group(group);
        }
        shell.spawn()
    };
    // A process that has just ended has no group any more.
    let mut shell = start(Some(engine.process_id())).or_else(|_| start(None))?;
    let said = [
        shell.stdout.take().map(Said::read),
        shell.stderr.take().map(Said::read),
    ];
    let mut asked: Option<Instant> = None;
    let status = loop {
        if let Some(status) = shell.try_wait()? {
            break status;
        }
        match asked {
            None if engine.is_interrupted() => {
                asked = Some(Instant::now());
                signal(shell.id(), libc::SIGINT);
            }
            Some(asked) if asked.elapsed() > INTERRUPT => signal(shell.id(), libc::SIGKILL),
            _ => {}
        }
        std::thread::sleep(GLANCE);
    };
    if asked.is_some() {
        return Ok(None);
    }
    let ended = Instant::now();
    let complete = || said.iter().flatten().all(Said::is_complete);
    while !complete() && ended.elapsed() < REST {
        std::thread::sleep(GLANCE);
    }
    let text: String = said.iter().flatten().map(Said::text).collect();
    Ok(Some((status, text)))
}

/// To the shell and all that it started.
fn signal(shell: u32, signal: i32) {
    let started = offspring::of(shell);
    if let Ok(pid) = i32::try_from(shell) {
        // SAFETY: no memory is involved. The shell has not been waited for, so its id is its own.
        unsafe { libc::kill(pid, signal) };
    }
    started.signal(signal);
}

/// What a stream of the command has said so far.
struct Said(Arc<Mutex<(Vec<u8>, bool)>>);

impl Said {
    fn read(mut from: impl Read + Send + 'static) -> Said {
        let said = Arc::new(Mutex::new((Vec::new(), false)));
        let to = Arc::downgrade(&said);
        // It ends when nobody can write to the stream any more: at the latest with the session.
        std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            loop {
                let count = from.read(&mut chunk).unwrap_or(0);
                // What comes when the command has ended is read, so that its writer goes on, and shown nowhere.
                if let Some(to) = to.upgrade() {
                    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
                    to.0.extend_from_slice(&chunk[..count]);
                    to.1 = count == 0;
                }
                if count == 0 {
                    return;
                }
            }
        });
        Said(said)
    }

    fn is_complete(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn text(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said.0).into_owned()
    }
}
