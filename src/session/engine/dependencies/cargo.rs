//! Runs cargo so that it can be stopped at any time, with all that it started.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};

/// How often is looked whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// A line that cargo wrote.
pub(crate) enum Said<'a> {
    /// On stdout.
    Json(&'a str),
    /// On stderr: what it does.
    Words(&'a str),
    /// Nothing for a while: it still does what it said last.
    Nothing,
}

/// Why cargo did not end well.
#[derive(Debug)]
pub(crate) enum Stopped {
    Interrupted,
    /// In its own words.
    Failed(String),
}

/// Runs `command` to its end; `hear` is given each line.
pub(crate) fn run(
    command: &mut Command,
    interrupted: &dyn Fn() -> bool,
    hear: &mut dyn FnMut(Said<'_>),
) -> Result<(), Stopped> {
    let failed = |error: std::io::Error| Stopped::Failed(format!("cargo does not run: {error}"));
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: the compilers that it starts are stopped with it.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let (sender, lines) = unbounded();
    let readers = [
        process
            .stdout
            .take()
            .map(|stdout| read(stdout, true, sender.clone())),
        process
            .stderr
            .take()
            .map(|stderr| read(stderr, false, sender.clone())),
    ];
    drop(sender);
    let mut words = String::new();
    let stopped = loop {
        if interrupted() {
            break true;
        }
        match lines.recv_timeout(GLANCE) {
            Ok((true, line)) => hear(Said::Json(&line)),
            Ok((false, line)) => {
                if is_progress(&line) {
                    hear(Said::Words(&line));
                } else {
                    words.push_str(&line);
                    words.push('\n');
                }
            }
            Err(RecvTimeoutError::Timeout) => hear(Said::Nothing),
            Err(RecvTimeoutError::Disconnected) => break false,
        }
    };
    if stopped && let Ok(group) = i32::try_from(process.id()) {
        // SAFETY: no memory is involved. The process has not been waited for, so the group is its own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    let status = process.wait().map_err(failed)?;
    for reader in readers.into_iter().flatten().flatten() {
        // A panic in it would only have lost lines.
        let _ = reader.join();
    }
    match status.success() {
        _ if stopped => Err(Stopped::Interrupted),
        true => Ok(()),
        false if words.trim().is_empty() => Err(Stopped::Failed(format!("cargo failed: {status}"))),
        false => Err(Stopped::Failed(words.trim_end().to_owned())),
    }
}

fn read(
    from: impl Read + Send + 'static,
    json: bool,
    to: Sender<(bool, String)>,
) -> Option<std::thread::JoinHandle<()>> {
    let reading = move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            let text = String::from_utf8_lossy(&line);
            if to.send((json, text.trim_end().to_owned())).is_err() {
                return;
            }
            line.clear();
        }
    };
    std::thread::Builder::new()
        .name("cargo".to_owned())
        .spawn(reading)
        .ok()
}

/// Whether a line says what cargo does, and not why it can't: a verb, right-aligned in twelve columns.
fn is_progress(line: &str) -> bool {
    let Some((verb, _)) = line.trim_start().split_once(' ') else {
        return false;
    };
    let column = line.len() - line.trim_start().len() + verb.len();
    column == 12 && verb.starts_with(|c: char| c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_it_says_is_heard_and_a_failure_is_told_in_its_words() {
        let mut heard = Vec::new();
        let script = "echo '{}'; echo '   Compiling a v1' >&2; echo 'error: no b' >&2; echo '  why' >&2; exit 1";
        let result = run(&mut sh(script), &|| false, &mut |said| match said {
            Said::Json(line) => heard.push(format!("json {line}")),
            Said::Words(line) => heard.push(line.to_owned()),
            Said::Nothing => {}
        });
        heard.sort();
        assert_eq!(heard, ["   Compiling a v1", "json {}"]);
        let Err(Stopped::Failed(words)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(words, "error: no b\n  why");
    }

    #[test]
    fn it_stops_with_all_that_it_started() {
        let begin = std::time::Instant::now();
        let result = run(
            &mut sh("sleep 60 & sleep 60"),
            &|| begin.elapsed() > Duration::from_millis(200),
            &mut |_| {},
        );
        assert!(matches!(result, Err(Stopped::Interrupted)), "{result:?}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
