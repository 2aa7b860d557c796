//! The files of what was compiled before.
//!
//! ```text
//! <cache>/cells/<key>   "glassbox cell 1\n", SHA-256 of all that follows and of the key, kind, what was made
//! ```
//! A file is written under another name and renamed, so that a session sees a whole one or none, and two sessions may write the same one.
//! Each use compares it with its checksum; one that differs is removed, and the cell compiled. Files have the times of their last use, and the
//! oldest go when there are too many bytes. What belongs to another user, or what others may write to, is not used: it would run as the user.
//!
//! Where the user's cache can't be used or written to, the session's own folder takes what is made, for as long as it lasts.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::private;

/// Says how many megabytes are kept, or `off`.
pub(crate) const VARIABLE: &str = "GLASSBOX_CELL_CACHE";
/// In the session's folder, the same as `cells` in the cache.
const OWN: &str = "kept";
/// So many megabytes are kept unless the variable says otherwise.
pub(super) const MEGABYTES: u64 = 256;
pub(super) const MEGABYTE: u64 = 1_000_000;
/// In the session's folder, which may lie in memory, a part of that.
const OWN_PART: u64 = 8;
/// What is larger than this part of all that is kept is not kept.
const PART: u64 = 8;
/// So often at least is counted what is there: other sessions write too.
const RECOUNT: u32 = 16;
/// What is being written, and has been for so long, was left by a session that was killed.
const LEFT: Duration = Duration::from_secs(3600);
const UNFINISHED: &str = "new-";
const MAGIC: &[u8] = b"glassbox cell 1\n";
const SUM: usize = 32;
const HEAD: usize = MAGIC.len() + SUM + 1;

/// Where things are kept.
#[derive(Debug)]
pub(super) struct Store {
    /// Where what is kept may be, the user's own first.
    folders: Vec<PathBuf>,
    /// Where what is made goes.
    into: PathBuf,
    /// The session's folder for it.
    own: PathBuf,
    /// The most bytes that there may be in `into`.
    limit: u64,
    /// How many bytes there are there, as far as is known, and how many files were written since that was counted.
    held: Option<(u64, u32)>,
}

/// How many bytes are kept, by what the variable says.
///
/// # Errors
/// It says something else; what is to be told.
pub(super) fn limit(said: Option<&str>) -> Result<Option<u64>, String> {
    let said = said.map(str::trim).unwrap_or_default();
    match said {
        "" => Ok(Some(MEGABYTES * MEGABYTE)),
        "off" | "0" => Ok(None),
        number => match number.parse::<u64>() {
            Ok(number) => Ok(Some(number.saturating_mul(MEGABYTE))),
            Err(_) => Err(format!(
                "{VARIABLE} is {said:?}, which is neither a number of megabytes nor `off`: {MEGABYTES} MB of compiled cells are kept"
            )),
        },
    }
}

impl Store {
    /// What is kept in `shared`, the user's; `None` if nothing is to be kept. Besides, what is to be told.
    pub(super) fn open(shared: &Path, session: &Path) -> (Option<Store>, Option<String>) {
        let said = std::env::var(VARIABLE).ok();
        let (limit, mut untold) = match limit(said.as_deref()) {
            Ok(Some(limit)) => (limit, None),
            Ok(None) => return (None, None),
            Err(words) => (MEGABYTES * MEGABYTE, Some(words)),
        };
        let own = session.join(OWN);
        let mut store = Store {
            folders: vec![own.clone()],
            into: own.clone(),
            own,
            limit: limit / OWN_PART,
            held: None,
        };
        let _ = private::make_folders(shared);
        match private::checked(shared) {
            Ok(Ok(shared)) => {
                store.folders.insert(0, shared.clone());
                // A cache that others have made may be there to be read only.
                if tempfile::Builder::new()
                    .prefix(UNFINISHED)
                    .tempfile_in(&shared)
                    .is_ok()
                {
                    store.into = shared;
                    store.limit = limit;
                }
            }
            Ok(Err(exposed)) => {
                untold.get_or_insert(format!(
                    "compiled cells are not kept for later sessions: {exposed}; what others put there would run as you. Remove {}, which is made anew",
                    shared.display()
                ));
            }
            // As with crates that can't be kept in the cache: the session has its own folder.
            Err(_) => {}
        }
        (Some(store), untold)
    }

    /// What is kept under a key: its kind and bytes.
    pub(super) fn get(&self, key: &str) -> Option<(u8, Vec<u8>)> {
        let mut folders = self.folders.iter();
        folders.find_map(|folder| self.read(&folder.join(key), key))
    }

    fn read(&self, path: &Path, key: &str) -> Option<(u8, Vec<u8>)> {
        // A link is not followed, and a named pipe does not make us wait for who writes to it.
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .ok()?;
        let about = file.metadata().ok()?;
        let most = MEGABYTES * MEGABYTE;
        if !about.is_file() || about.len() > most || private::exposed_file(path, &about).is_some() {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(about.len()).ok()?);
        (&mut file).take(most).read_to_end(&mut bytes).ok()?;
        let Some(kind) = whole(key, &bytes) else {
            // It is compiled again, and written anew.
            let _ = fs::remove_file(path);
            return None;
        };
        // Where the time can't be set, it goes sooner than it should.
        let _ = file.set_modified(SystemTime::now());
        bytes.drain(..HEAD);
        Some((kind, bytes))
    }

    /// Keeps something under a key.
    ///
    /// # Errors
    /// It can't be written; what is to be told. From then on the session's folder takes what is made.
    pub(super) fn put(&mut self, key: &str, kind: u8, body: &[u8]) -> Result<(), String> {
        let size = (HEAD + body.len()) as u64;
        if size > self.limit / PART {
            return Ok(());
        }
        match self.write(key, kind, body) {
            Ok(()) => {
                self.count(size);
                Ok(())
            }
            // What the session's folder can't take is compiled again.
            Err(_) if self.into == self.own => Ok(()),
            Err(error) => {
                let folder = std::mem::replace(&mut self.into, self.own.clone());
                self.limit /= OWN_PART;
                self.held = None;
                Err(format!(
                    "compiled cells are not kept for later sessions: {} cannot be written to ({error})",
                    folder.display()
                ))
            }
        }
    }

    fn write(&self, key: &str, kind: u8, body: &[u8]) -> std::io::Result<()> {
        if self.into == self.own {
            private::make_folders(&self.own)?;
        }
        let mut unfinished = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.into)?;
        let file = unfinished.as_file_mut();
        file.write_all(MAGIC)?;
        file.write_all(&sum(key, kind, body))?;
        file.write_all(&[kind])?;
        file.write_all(body)?;
        unfinished.persist(self.into.join(key))?;
        Ok(())
    }

    /// Counts a file of so many bytes, and removes the oldest where there are too many.
    fn count(&mut self, size: u64) {
        if let Some((bytes, since)) = &mut self.held {
            *bytes += size;
            *since += 1;
            if *bytes <= self.limit && *since < RECOUNT {
                return;
            }
        }
        self.held = Some((prune(&self.into, self.limit), 0));
    }
}

/// What files there are: when they were used last, their bytes and paths.
pub(super) fn files(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect()
}

/// Removes the files that were used longest ago, until there are no more than `limit` bytes; returns how many there are. What another session removes meanwhile is gone as well.
fn prune(folder: &Path, limit: u64) -> u64 {
    let mut files = files(folder);
    files.sort();
    let now = SystemTime::now();
    let mut held: u64 = files.iter().map(|(_, size, _)| size).sum();
    for (used, size, path) in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let left = name.starts_with(UNFINISHED);
        let old = now.duration_since(used).is_ok_and(|age| age > LEFT);
        let goes = if left { old } else { held > limit };
        if goes && fs::remove_file(&path).is_ok() {
            held -= size;
        }
    }
    held
}

fn sum(key: &str, kind: u8, body: &[u8]) -> [u8; SUM] {
    let mut digest = Sha256::new();
    digest.update(key.as_bytes());
    digest.update([kind]);
    digest.update(body);
    digest.finalize().into()
}

/// The kind of what a file holds, if it is what was written under this key.
fn whole(key: &str, bytes: &[u8]) -> Option<u8> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (noted, rest) = rest.split_at_checked(SUM)?;
    let (kind, body) = rest.split_first()?;
    (noted == sum(key, *kind, body)).then_some(*kind)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn place(limit: u64) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("cells");
        private::make_folders(&shared).unwrap();
        let store = Store {
            folders: vec![shared.clone()],
            into: shared,
            own: folder.path().join("own"),
            limit,
            held: None,
        };
        (folder, store)
    }

    #[test]
    fn what_is_kept_is_found_and_what_is_damaged_is_not() {
        let (_folder, mut store) = place(1 << 20);
        let path = store.into.join("key");
        let body = b"a library".repeat(50);
        let keep = |store: &mut Store| store.put("key", b'l', &body).unwrap();
        assert_eq!(store.get("key"), None);
        keep(&mut store);
        assert_eq!(store.get("key"), Some((b'l', body.clone())));
        let whole = fs::read(&path).unwrap();
        let damages: [fn(&mut Vec<u8>); 6] = [
            |bytes| bytes.truncate(100),
            Vec::clear,
            |bytes| bytes[300] ^= 1,
            |bytes| bytes[20] ^= 1,
            |bytes| bytes[HEAD - 1] = b'o',
            |bytes| bytes.push(0),
        ];
        for damage in damages {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            assert_eq!(store.get("key"), None);
            assert!(!path.exists(), "it is removed");
            keep(&mut store);
            assert!(store.get("key").is_some());
        }
        // What is whole under another name is something else.
        fs::rename(&path, store.into.join("other")).unwrap();
        assert_eq!(store.get("other"), None);
    }

    #[test]
    fn what_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, mut store) = place(1 << 20);
        store.put("key", b'l', b"library").unwrap();
        let path = store.into.join("key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(store.get("key"), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(store.get("key").is_some());
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(store.get("key"), None, "a link is not followed");
        fs::remove_file(&path).unwrap();
        crate::session::pipes::open_pipe(&path).unwrap();
        assert_eq!(store.get("key"), None, "a pipe holds nobody up");
        let shared = folder.path().join("cells");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
        let (store, untold) = Store::open(&shared, &folder.path().join("session"));
        let store = store.unwrap();
        assert!(untold.unwrap().contains("others may write to"));
        assert_eq!(store.folders, std::slice::from_ref(&store.own));
    }

    #[test]
    fn the_oldest_go_when_there_is_too_much() {
        let (_folder, mut store) = place(100_000);
        let body = vec![7; 10_000];
        for number in 0..30 {
            store.put(&format!("{number}"), b'l', &body).unwrap();
            let file = File::options()
                .write(true)
                .open(store.into.join(format!("{number}")));
            let time = SystemTime::now() - Duration::from_secs(1000 - number);
            file.unwrap().set_modified(time).unwrap();
            // The first is used all the time.
            assert!(store.get("0").is_some(), "{number}");
        }
        let held: u64 = files(&store.into).iter().map(|(_, size, _)| size).sum();
        assert!(held <= 100_000, "{held}");
        assert!(store.get("1").is_none() && store.get("29").is_some());
        store.put("large", b'l', &vec![0; 20_000]).unwrap();
        assert!(store.get("large").is_none(), "it would push out others");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_once_and_the_session_goes_on() {
        let (folder, mut store) = place(1 << 20);
        fs::remove_dir(&store.into).unwrap();
        store.folders.push(store.own.clone());
        let told = store.put("one", b'l', b"library").unwrap_err();
        assert!(told.contains("cannot be written to"), "{told}");
        store.put("one", b'l', b"library").unwrap();
        assert!(store.get("one").is_some());
        assert!(folder.path().join("own/one").exists());
    }

    #[test]
    fn the_variable_says_how_much() {
        assert_eq!(limit(None), Ok(Some(MEGABYTES * MEGABYTE)));
        assert_eq!(limit(Some("")), limit(None));
        assert_eq!(limit(Some("off")), Ok(None));
        assert_eq!(limit(Some("0")), Ok(None));
        assert_eq!(limit(Some(" 3 ")), Ok(Some(3 * MEGABYTE)));
        assert!(limit(Some("much")).unwrap_err().contains(VARIABLE));
    }
}
