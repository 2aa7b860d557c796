//! The bytes of weights: in memory, or in a file that is read stretch by stretch.
//!
//! A file is not mapped into memory: if another process cut it short, the system would end this one (SIGBUS) with all its variables.
//! Reading it as values are made of it takes no longer, and what becomes of the file is an error that names it.

use crate::hub::header::Header;
use crate::{Error, Result};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[derive(Debug)]
pub(super) enum Bytes {
    File(WeightsFile),
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

/// An open file, and how it was when it was opened.
#[derive(Debug)]
pub(super) struct WeightsFile {
    path: PathBuf,
    file: File,
    state: State,
}

/// Length, and time of the last change where the system knows it.
type State = (u64, Option<SystemTime>);

impl WeightsFile {
    fn state(file: &File) -> std::io::Result<State> {
        let metadata = file.metadata()?;
        Ok((metadata.len(), metadata.modified().ok()))
    }

    /// What has become of the file since it was opened, if anything.
    fn changed(&self) -> Option<String> {
        let name = self.path.display();
        match Self::state(&self.file) {
            Ok(state) if state == self.state => None,
            Ok((length, ..)) if length < self.state.0 => Some(format!(
                "{name} was cut short by another process while it was open: {length} of {} bytes are left; fetch or copy it again",
                self.state.0
            )),
            Ok(_) => Some(format!(
                "{name} was written to by another process while it was open; read the weights anew"
            )),
            Err(error) => Some(format!("{name}: {error}")),
        }
    }
}

impl Bytes {
    /// Opens a file and reads its head.
    pub fn open(path: &Path) -> Result<(Self, Header)> {
        let io = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        let file = crate::files::open(path).map_err(io)?;
        let state = WeightsFile::state(&file).map_err(io)?;
        let header = Header::of_file(path)?;
        let path = path.to_path_buf();
        Ok((Self::File(WeightsFile { path, file, state }), header))
    }

    /// A stretch; one of a file is read into `buffer`. The message says what is wrong.
    pub fn get<'a>(
        &'a self,
        range: Range<usize>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], String> {
        let file = match self {
            Self::File(file) => file,
            Self::Owned(bytes) => return Ok(&bytes[range]),
            Self::Static(bytes) => return Ok(&bytes[range]),
        };
        buffer.resize(range.len(), 0);
        let read = crate::files::read_exact_at(&file.file, buffer, range.start as u64);
        match read {
            Ok(()) => Ok(buffer),
            Err(error) => Err(file
                .changed()
                .unwrap_or_else(|| format!("{}: {error}", file.path.display()))),
        }
    }

    /// Fails if the file has changed since it was opened: what was read may be a mixture.
    pub fn check_unchanged(&self) -> Result<(), String> {
        match self {
            Self::File(file) => file.changed().map_or(Ok(()), Err),
            Self::Owned(_) | Self::Static(_) => Ok(()),
        }
    }
}
