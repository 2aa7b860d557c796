//! Files that a user names: path → bytes, or an error that says which file and from where it was looked for.
//!
//! Only regular files are read: a pipe in a picture's place would wait for a writer for ever, a device has no end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// A larger file holds no settings, words or templates, in bytes.
const LARGEST: u64 = 1 << 30;

/// The bytes of a regular file of at most `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    bytes_up_to(path, most).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })
}

/// The bytes of a regular file of settings, words or templates.
pub(crate) fn bytes(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    bytes_up_to(path.as_ref(), LARGEST)
}

/// The same as text.
pub(crate) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text");
    String::from_utf8(bytes(path)?).map_err(invalid)
}

/// What a file of JSON holds that says by its field `format` which layout it has. The layout is looked at first: a newer one may have other fields.
///
/// # Errors
/// `Config` for a layout above `format`, with `what` (such as "the sweep was written") a newer version has done; `Json` for what is no JSON or
/// lacks a field.
pub(crate) fn of_format<T: serde::de::DeserializeOwned>(
    path: &Path,
    text: &str,
    format: u32,
    what: &str,
) -> Result<T> {
    let json = |source| Error::Json {
        path: path.to_path_buf(),
        source,
    };
    let value: serde_json::Value = serde_json::from_str(text).map_err(json)?;
    let written = value.get("format").and_then(serde_json::Value::as_u64);
    match written.filter(|written| *written > u64::from(format)) {
        Some(written) => Err(Error::Config(format!(
            "{}: {what} by a newer version (its layout is {written}, this version reads up to {format}): update glassbox",
            path.display()
        ))),
        None => serde_json::from_value(value).map_err(json),
    }
}

/// Opens a regular file, without waiting for who writes to a pipe in its place, and looks at what was opened.
pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    // A socket cannot be opened: what it is says more than the system's word.
    let file = options
        .open(path)
        .map_err(|error| match std::fs::metadata(path) {
            Ok(about) if !about.is_file() => not_a_file(about.file_type()),
            _ => error,
        })?;
    match file.metadata()? {
        about if about.is_file() => Ok(file),
        about => Err(not_a_file(about.file_type())),
    }
}

fn bytes_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let too_large = |length: u64| {
        let said = format!("it has {length} bytes, more than the {most} that are read");
        io::Error::new(io::ErrorKind::FileTooLarge, said)
    };
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // Somebody may write to it meanwhile.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        length if length > most => Err(too_large(length)),
        _ => Ok(bytes),
    }
}

fn not_a_file(what: std::fs::FileType) -> io::Error {
    let said = format!("it is {}, not a file", kind(what));
    io::Error::new(io::ErrorKind::InvalidInput, said)
}

/// Fills `bytes` from the file's place `start` on.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], start: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

/// Fills `bytes` from the file's place `start` on.
#[cfg(not(unix))]
pub(crate) fn read_exact_at(mut file: &File, bytes: &mut [u8], start: u64) -> io::Result<()> {
    use std::io::{Read, Seek};
    file.seek(io::SeekFrom::Start(start))?;
    file.read_exact(bytes)
}

/// What stands in a file's place, in words.
pub(crate) fn kind(what: std::fs::FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if what.is_fifo() {
            return "a named pipe";
        }
        if what.is_socket() {
            return "a socket";
        }
        if what.is_block_device() || what.is_char_device() {
            return "a device";
        }
    }
    if what.is_dir() {
        "a folder"
    } else if what.is_file() {
        "a file"
    } else {
        "something else"
    }
}

/// A hidden name beside `path` that no other writer has, be it another thread, for what is renamed to `path` once it is whole.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{writer}.part", std::process::id()))
}

/// Removes what [`unfinished`] writers of names that begin with `prefix` left in a folder and are no more. Best effort.
pub(crate) fn remove_leftovers(folder: &Path, prefix: &str) {
    let processes = Path::new("/proc");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let writer = name
            .strip_prefix('.')
            .filter(|name| name.starts_with(prefix))
            .and_then(|name| name.strip_suffix(".part"))
            .and_then(|name| name.rsplit('.').next())
            .and_then(|writer| writer.split('-').next())
            .and_then(|writer| writer.parse::<u32>().ok());
        let dead = |writer: u32| {
            processes.join("self").exists() && !processes.join(writer.to_string()).exists()
        };
        if writer.is_some_and(dead) {
            _ = match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
        }
    }
}

/// Writes bytes beside `path` and moves them in its place: whoever reads it meanwhile finds the old file or the new one, whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = unfinished(path);
    let written = std::fs::write(&fresh, bytes).and_then(|()| std::fs::rename(&fresh, path));
    written.map_err(|source| {
        // Best effort: the error that matters is the one being returned.
        _ = std::fs::remove_file(&fresh);
        Error::Io {
            path: path.to_path_buf(),
            source,
        }
    })
}

/// ` (looked for from /home/me)` after a relative path that is not there, nothing after another.
pub(crate) fn looked_for_from(path: &Path) -> String {
    if path.is_absolute() {
        return String::new();
    }
    match std::env::current_dir() {
        Ok(here) => format!(" (looked for from {})", here.display()),
        Err(_) => " (looked for from a folder that is gone)".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_that_is_not_there_says_from_where_it_was_looked_for() {
        let here = std::env::current_dir().expect("there is one");
        let message = read(Path::new("no/such.file"), 10).unwrap_err().to_string();
        assert!(
            message.starts_with("no/such.file: ")
                && message.ends_with(&format!("(looked for from {})", here.display())),
            "{message}"
        );
        let message = read(Path::new("/no/such.file"), 10)
            .unwrap_err()
            .to_string();
        assert!(!message.contains("looked for"), "{message}");
    }

    #[test]
    fn only_regular_files_are_read() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        std::fs::write(&path, "four")?;
        assert_eq!(read(&path, 4).expect("it is short enough"), b"four");
        let message = read(&path, 3).unwrap_err().to_string();
        assert!(message.contains("it has 4 bytes"), "{message}");
        let message = read(folder.path(), 3).unwrap_err().to_string();
        assert!(message.contains("it is a folder"), "{message}");
        #[cfg(unix)]
        {
            let pipe = folder.path().join("pipe");
            assert!(
                std::process::Command::new("mkfifo")
                    .arg(&pipe)
                    .status()?
                    .success()
            );
            let socket = folder.path().join("socket");
            let _listener = std::os::unix::net::UnixListener::bind(&socket)?;
            for (path, said) in [
                (pipe, "named pipe"),
                (socket, "socket"),
                ("/dev/zero".into(), "device"),
            ] {
                let message = bytes(&path).unwrap_err().to_string();
                assert!(message.contains(said), "{message}");
            }
        }
        Ok(())
    }
}
