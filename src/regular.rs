//! Files that others name or put somewhere: path → bytes of a regular file of a stated size, at most.
//!
//! A named pipe in a file's place waits for its writer for ever, a device has no end, and either may take the place of a file between a look and
//! the reading of it: so the file is opened without waiting, then looked at, then read up to the limit.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Opens a regular file of at most `most` bytes.
pub(crate) fn open(path: &Path, most: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    // A socket cannot be opened: what it is says more than the system's word.
    let file = file.map_err(|error| match std::fs::metadata(path) {
        Ok(about) if !about.is_file() => not_a_file(about.file_type()),
        _ => error,
    })?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(not_a_file(about.file_type()));
    }
    if about.len() > most {
        return Err(too_large(most));
    }
    Ok(file)
}

/// The bytes of a regular file of at most `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Somebody may write to it meanwhile.
    open(path, most)?
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large(most));
    }
    Ok(bytes)
}

/// The same for text.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no UTF-8 text"))
}

fn too_large(most: u64) -> io::Error {
    io::Error::new(
        ErrorKind::FileTooLarge,
        format!("it has more than the {most} bytes that are read"),
    )
}

fn not_a_file(what: FileType) -> io::Error {
    let kind = match what {
        what if what.is_dir() => return io::Error::from(ErrorKind::IsADirectory),
        what if what.is_fifo() => "a named pipe",
        what if what.is_socket() => "a socket",
        what if what.is_block_device() || what.is_char_device() => "a device",
        _ => "something else",
    };
    io::Error::new(ErrorKind::InvalidInput, format!("it is {kind}, not a file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "four")?;
        std::os::unix::fs::symlink("/dev/zero", path("zero"))?;
        let _socket = std::os::unix::net::UnixListener::bind(path("socket"))?;
        assert!(
            std::process::Command::new("mkfifo")
                .arg(path("pipe"))
                .status()?
                .success()
        );
        assert_eq!(read(&path("file"), 4)?, b"four");
        for (name, said) in [
            ("file", "more than the 3 bytes"),
            ("zero", "it is a device"),
            ("socket", "it is a socket"),
            ("pipe", "it is a named pipe"),
            (".", "directory"),
            ("none", "No such file"),
        ] {
            let message = read(&path(name), 3).unwrap_err().to_string();
            assert!(message.contains(said), "{name}: {message}");
        }
        Ok(())
    }
}
