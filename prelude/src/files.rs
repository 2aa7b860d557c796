//! Files that a user names: path → bytes, or an error that says which file and from where it was looked for.
//!
//! Only regular files are read: a pipe in a picture's place would wait for a writer for ever, a device has no end.

use std::io;
use std::path::Path;

use crate::{Error, Result};

/// The bytes of a regular file of at most `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |source| Error::Io {
        path: path.to_path_buf(),
        source,
    };
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {}, not a file", kind(about.file_type())),
        )));
    }
    if about.len() > most {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "it has {} bytes, more than the {most} that are read",
                about.len()
            ),
        )));
    }
    std::fs::read(path).map_err(failed)
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
        Ok(())
    }
}
