//! What lies in a picture folder: its files were listed once, those of folders inside are asked for.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A picture folder.
pub(super) struct Folder {
    pub path: PathBuf,
    files: HashSet<OsString>,
}

impl Folder {
    pub(super) fn read(path: &Path) -> Result<Folder> {
        let listed = std::fs::read_dir(path).map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })?;
        // A link is what it leads to, which is asked for when the name comes up.
        let plain = listed
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        Ok(Folder {
            path: path.to_path_buf(),
            files: plain.map(|entry| entry.file_name()).collect(),
        })
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains(std::ffi::OsStr::new(name)) || self.path.join(name).is_file()
    }
}
