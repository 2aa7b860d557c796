//! A finished library of crates, in the cache: never changed, found by its name, shared by all sessions.
//!
//! ```text
//! crates/libraries/glassbox_crates_0123…/  libglassbox_crates_0123….so  deps/*.rmeta, macros  library.json  Cargo.lock
//! ```
//! It is published by renaming a finished folder, and used only while its files are those that were sealed in its record. A session keeps a shared lock on `library.json`, so that nobody removes what it uses.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Result};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::package::{Built, file_name};
use crate::private;
use crate::session::prelude::seal::Seal;
use crate::session::prelude::source::hex;

const LIBRARIES: &str = "libraries";
const DEPENDENCIES: &str = "deps";
const RECORD: &str = "library.json";
const LOCK: &str = "Cargo.lock";
/// So many are kept that no session uses.
const KEPT: usize = 16;

/// Where a crate that cells can name is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Extern {
    /// A file beside the library.
    Own(String),
    /// A file beside the prelude's library.
    Prelude(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    externs: BTreeMap<String, Extern>,
    /// File and name of each crate in it or in a library before it.
    crates: Vec<(String, String)>,
    notes: Vec<String>,
    seal: Seal,
}

/// One library.
#[derive(Debug)]
pub(crate) struct Library {
    pub name: String,
    dir: PathBuf,
    record: Record,
    /// The checksum of the record, which holds those of all files.
    pub sum: String,
    /// The record, locked.
    _in_use: File,
}

impl Library {
    /// The library with this name below `folder`, if it is there.
    pub(crate) fn open(folder: &Path, name: &str) -> Option<Library> {
        let dir = folder.join(LIBRARIES).join(name);
        let file = File::open(dir.join(RECORD)).ok()?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock_shared() {
            // It is being removed.
            return None;
        }
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let library = Library {
            name: name.to_owned(),
            dir,
            record,
            sum: hex(&Sha256::digest(&bytes)),
            _in_use: file,
        };
        let own = private::exposed_below(&library.dir).is_ok_and(|exposed| exposed.is_none());
        let sealed = &library.record.seal;
        (own && sealed.covers(&file_of(name)) && sealed.holds(&library.dir)).then_some(library)
    }

    /// Whether something of this name is there, whole or not.
    pub(crate) fn is_there(folder: &Path, name: &str) -> bool {
        folder.join(LIBRARIES).join(name).exists()
    }

    /// Copies what was built to its place.
    pub(crate) fn publish(
        folder: &Path,
        name: &str,
        built: &Built,
        lock: &Path,
    ) -> Result<Library> {
        let libraries = folder.join(LIBRARIES);
        fs::create_dir_all(&libraries)?;
        let staged = tempfile::Builder::new()
            .prefix("new-")
            .tempdir_in(&libraries)?;
        let dir = staged.path();
        fs::create_dir(dir.join(DEPENDENCIES))?;
        let own = built.crates.iter().filter(|krate| !krate.of_prelude);
        let macros = built.macros.iter().map(|(_, file)| file);
        let mut files = Vec::new();
        for from in own.clone().map(|krate| &krate.file).chain(macros) {
            if let Some(name) = from.file_name().and_then(|name| name.to_str()) {
                let name = format!("{DEPENDENCIES}/{name}");
                link(from, &dir.join(&name))?;
                files.push(name);
            }
        }
        if let Some(library) = &built.library {
            link(library, &dir.join(file_of(name)))?;
            files.push(file_of(name));
        }
        fs::copy(lock, dir.join(LOCK))?;
        files.push(LOCK.to_owned());
        let crates =
            own.filter_map(|krate| Some((file_name(&krate.file)?, krate.krate.name.clone())));
        let record = Record {
            externs: built.externs.clone(),
            crates: crates.collect(),
            notes: built.notes.clone(),
            seal: Seal::make(dir, &files)?,
        };
        fs::write(dir.join(RECORD), serde_json::to_vec(&record)?)?;
        let finished = libraries.join(name);
        if finished.exists() {
            // It is not whole, or it would have been used.
            fs::remove_dir_all(&finished)?;
        }
        fs::rename(dir, &finished)?;
        remove_old(&libraries, &finished);
        Library::open(folder, name)
            .ok_or_else(|| std::io::Error::other("what was just written is not what is there"))
    }

    /// The shared library.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join(file_of(&self.name))
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the metadata of its crates is.
    pub(crate) fn dependencies(&self) -> PathBuf {
        self.dir.join(DEPENDENCIES)
    }

    /// The versions that it was built with.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.dir.join(LOCK)
    }

    /// File and name of each crate in it or in a library before it.
    pub(crate) fn crates(&self) -> impl Iterator<Item = (&str, &str)> {
        let crates = self.record.crates.iter();
        crates.map(|(file, name)| (file.as_str(), name.as_str()))
    }

    /// What is to be said of crates that the prelude has too.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.record.notes.clone()
    }

    /// Where rustc finds the crates that cells can name; `prelude` holds those of the prelude.
    pub(crate) fn externs(&self, prelude: &Path) -> BTreeMap<String, PathBuf> {
        let place = |found: &Extern| match found {
            Extern::Own(file) => self.dependencies().join(file),
            Extern::Prelude(file) => prelude.join(file),
        };
        let externs = self.record.externs.iter();
        externs
            .map(|(name, found)| (name.clone(), place(found)))
            .collect()
    }
}

fn file_of(name: &str) -> String {
    format!("lib{name}.so")
}

/// Compilers replace files, they don't write into them: another name for the same file keeps what is there now.
fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() && !to.exists() {
        fs::copy(from, to)?;
    }
    Ok(())
}

/// Removes all but the newest few, and those that sessions use. Failing to is no reason to stop.
fn remove_old(libraries: &Path, current: &Path) {
    let entries = fs::read_dir(libraries).into_iter().flatten().flatten();
    let mut old: Vec<_> = entries
        .map(|entry| entry.path().join(RECORD))
        .filter(|record| !record.starts_with(current))
        .filter_map(|record| Some((fs::metadata(&record).ok()?.modified().ok()?, record)))
        .collect();
    old.sort();
    let surplus = old.len().saturating_sub(KEPT);
    for (_, record) in old.into_iter().take(surplus) {
        if let (Ok(file), Some(dir)) = (File::open(&record), record.parent())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(dir);
        }
    }
}
