//! What is worth knowing and no error: a line on stderr, which a notebook shows under the cell and a terminal as it comes.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Lines that were said. A model's files are opened several times on the way to a model.
static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Says a line, once in the life of the process.
pub(crate) fn say(line: &str) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(line.to_owned()) {
        write(line);
    }
}

/// Writes a line to stderr in one piece: several processes of a job write to one terminal, and pieces of their lines would mix.
pub(crate) fn write(line: &str) {
    // Whoever closed stderr wants no lines.
    _ = std::io::stderr().write_all(format!("note: {line}\n").as_bytes());
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    /// Set in the process that writes.
    const WRITES: &str = "GLASSBOX_TEST_NOTE";

    #[test]
    fn a_line_is_written_in_one_piece() -> std::io::Result<()> {
        if std::env::var_os(WRITES).is_some() {
            write("rank 2 of 3 ends");
            return Ok(());
        }
        // Each write into such a socket is a message of its own.
        let (ours, theirs) = UnixDatagram::pair()?;
        let name = "notes::tests::a_line_is_written_in_one_piece";
        let status = Command::new(std::env::current_exe()?)
            .args(["--exact", name, "--nocapture"])
            .env(WRITES, "1")
            .stdout(Stdio::null())
            .stderr(OwnedFd::from(theirs))
            .status()?;
        assert!(status.success());
        ours.set_nonblocking(true)?;
        let mut message = [0; 100];
        let length = ours.recv(&mut message)?;
        let said = String::from_utf8_lossy(&message[..length]);
        assert_eq!(said, "note: rank 2 of 3 ends\n");
        Ok(())
    }
}
