//! The seal of a finished folder in the cache: what files it holds, with checksums, and whether they are still those.
//!
//! ```text
//! files ─ SHA-256 ─▶ Seal, in the folder's record
//! each use: what the system says of the files ─ as when they were last read whole ─▶ whole
//!                                             └ else: all are read ─▶ whole, and noted so, or damaged
//! ```
//! Reading a hundred megabytes takes longer than all the rest of a session's start. But whoever writes to a file changes the time of its last
//! change, which cannot be set back: while that, its place on the disk and its size are those that were noted, it need not be read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::source::hex;

/// Beside the sealed files: what the system said of them when they were last read whole.
const SEEN: &str = "seen.json";

/// The files of a folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub(crate) struct Seal {
    /// Their names below the folder, sizes and checksums.
    files: Vec<(String, u64, String)>,
}

/// What tells that a file was not written to: device, number, size, and the time of the last change of anything in it or about it.
type Look = (u64, u64, u64, i64, i64);

impl Seal {
    /// Seals the files of these names in `folder`.
    pub(crate) fn make(folder: &Path, names: &[String]) -> io::Result<Seal> {
        let sums = sums(folder, names)?;
        let files = names
            .iter()
            .zip(sums)
            .map(|(name, (size, sum))| (name.clone(), size, sum));
        Ok(Seal {
            files: files.collect(),
        })
    }

    /// Whether it covers a file.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.files.iter().any(|(sealed, _, _)| sealed == name)
    }

    /// Whether the files in `folder` are those that were sealed.
    pub(crate) fn holds(&self, folder: &Path) -> bool {
        let Some(looks) = self.look(folder) else {
            return false;
        };
        let seen = folder.join(SEEN);
        let noted: Option<Vec<Look>> = fs::read(&seen)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        if noted.as_ref() == Some(&looks) {
            return true;
        }
        let names: Vec<String> = self.files.iter().map(|(name, _, _)| name.clone()).collect();
        let sealed = self.files.iter().map(|(_, size, sum)| (*size, sum.clone()));
        let whole = sums(folder, &names).is_ok_and(|sums| sealed.eq(sums));
        if whole {
            // Where it can't be noted, the files are read each time.
            let _ = note(&seen, &looks);
        }
        whole
    }

    /// `None` if a file is not there, is no regular file, or has another size.
    fn look(&self, folder: &Path) -> Option<Vec<Look>> {
        let look = |(name, size, _): &(String, u64, String)| {
            let found = fs::symlink_metadata(folder.join(name)).ok()?;
            (found.is_file() && found.len() == *size).then(|| {
                (
                    found.dev(),
                    found.ino(),
                    *size,
                    found.ctime(),
                    found.ctime_nsec(),
                )
            })
        };
        self.files.iter().map(look).collect()
    }
}

fn note(seen: &Path, looks: &[Look]) -> io::Result<()> {
    let unfinished = tempfile::NamedTempFile::new_in(seen.parent().unwrap_or(seen))?;
    fs::write(unfinished.path(), serde_json::to_vec(looks)?)?;
    unfinished.persist(seen)?;
    Ok(())
}

/// Sizes and checksums of files, read on all processors.
fn sums(folder: &Path, names: &[String]) -> io::Result<Vec<(u64, String)>> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(8);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match paths.get(at) {
                Some(path) => done.push((at, sum(path)?)),
                None => return Ok(done),
            }
        }
    };
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(|thread| {
            let lost = || io::Error::other("a thread that read files failed");
            thread.join().map_err(|_| lost())?
        });
        results.collect::<io::Result<Vec<Vec<_>>>>()
    })?
    .concat();
    all.sort_unstable();
    Ok(all.into_iter().map(|(_, sum)| sum).collect())
}

fn sum(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex(&digest.finalize()))),
            count => {
                size += count as u64;
                digest.update(&buffer[..count]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_same_size_and_time_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a".to_owned(), "b".to_owned()];
        let file = folder.path().join("a");
        for name in &names {
            fs::write(folder.path().join(name), "content").unwrap();
        }
        let seal = Seal::make(folder.path(), &names).unwrap();
        assert!(seal.holds(folder.path()) && folder.path().join(SEEN).exists());
        assert!(seal.holds(folder.path()) && seal.covers("a") && !seal.covers("c"));
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        // The clock of a file system stands still for some milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&file, "conteNt").unwrap();
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(time)
            .unwrap();
        assert!(!seal.holds(folder.path()));
        fs::write(&file, "content").unwrap();
        assert!(seal.holds(folder.path()), "it is mended");
        fs::write(folder.path().join(SEEN), "[]").unwrap();
        assert!(seal.holds(folder.path()));
        fs::remove_file(&file).unwrap();
        assert!(!seal.holds(folder.path()));
        std::os::unix::fs::symlink(folder.path().join("b"), &file).unwrap();
        assert!(!seal.holds(folder.path()), "a link is none of the files");
    }
}
