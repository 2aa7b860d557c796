//! A file that is still growing on disk, together with the checksum of what it holds so far.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::HubError;
use super::listing::{Checksum, RemoteFile};
use crate::error::{Error, Result};
use crate::session::check_interrupt;

/// Bytes read at a time when an earlier run's part is taken up.
const BLOCK: usize = 1 << 20;

/// What is there of a file.
pub(super) struct PartialFile {
    path: PathBuf,
    sink: File,
    have: u64,
    hash: Hash,
}

impl PartialFile {
    /// Takes up what an earlier run left at `path`, reading it once for the checksum, or begins anew.
    pub(super) fn open(path: &Path, file: &RemoteFile) -> Result<Self> {
        let sink = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| Error::Io {
                path: path.to_path_buf(),
                source,
            })?;
        let mut partial = Self {
            path: path.to_path_buf(),
            sink,
            have: 0,
            hash: Hash::new(file),
        };
        let length = partial
            .sink
            .metadata()
            .map_err(|source| partial.failed(source))?
            .len();
        if length > file.size {
            partial.restart(file)?;
        } else {
            partial.take_up()?;
        }
        Ok(partial)
    }

    /// Bytes that are there.
    pub(super) fn have(&self) -> u64 {
        self.have
    }

    /// Adds bytes at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink
            .write_all(bytes)
            .map_err(|source| self.failed(source))?;
        self.hash.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is there.
    pub(super) fn restart(&mut self, file: &RemoteFile) -> Result<()> {
        self.sink.set_len(0).map_err(|source| self.failed(source))?;
        self.sink
            .seek(SeekFrom::Start(0))
            .map_err(|source| self.failed(source))?;
        self.have = 0;
        self.hash = Hash::new(file);
        Ok(())
    }

    /// Compares the checksum and moves the whole file to `place` in one step.
    ///
    /// # Errors
    /// [`HubError::Checksum`]; the bytes are then removed, since continuing them could only fail again.
    pub(super) fn finish(self, file: &RemoteFile, place: &Path) -> Result<()> {
        let io = |source| Error::Io {
            path: self.path.clone(),
            source,
        };
        let found = self.hash.finish();
        if found != file.checksum.hex() {
            std::fs::remove_file(&self.path).map_err(io)?;
            return Err(HubError::Checksum {
                file: file.name.clone(),
                expected: file.checksum.hex().to_owned(),
                found,
            }
            .into());
        }
        self.sink.sync_all().map_err(io)?;
        std::fs::rename(&self.path, place).map_err(io)
    }

    fn take_up(&mut self) -> Result<()> {
        let mut buffer = vec![0; BLOCK];
        loop {
            check_interrupt()?;
            match self
                .sink
                .read(&mut buffer)
                .map_err(|source| self.failed(source))?
            {
                0 => return Ok(()),
                count => {
                    self.hash.update(&buffer[..count]);
                    self.have += count as u64;
                }
            }
        }
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            source,
        }
    }
}

enum Hash {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Hash {
    fn new(file: &RemoteFile) -> Self {
        match file.checksum {
            Checksum::Sha256(_) => Hash::Sha256(Sha256::new()),
            Checksum::GitSha1(_) => {
                Hash::GitSha1(Sha1::new().chain_update(format!("blob {}\0", file.size)))
            }
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hash::Sha256(hash) => hash.update(bytes),
            Hash::GitSha1(hash) => hash.update(bytes),
        }
    }

    fn finish(&self) -> String {
        match self {
            Hash::Sha256(hash) => hex(&hash.clone().finalize()),
            Hash::GitSha1(hash) => hex(&hash.clone().finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
