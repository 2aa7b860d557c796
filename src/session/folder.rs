//! The session's folder: who it belongs to, what becomes of it when its session is killed, and what if it vanishes.
//!
//! A session holds a lock on a file in its folder for as long as it lives. Who can take that lock has found a folder that nobody uses
//! any more, whatever the numbers of processes say: they mean nothing to a session in another container with the same `TMPDIR`.
//! Where a folder goes, [`super::place`] says. Folders of earlier versions lie where others may put what they like, so nothing beside ours is
//! followed, waited for or trusted: only a regular file of our own in a folder of our own counts.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::private::{self, user};

/// Sessions' folders begin so.
const PREFIX: &str = "glassbox-session-";
/// In a session's folder: the file that it holds locked.
const LOCK: &str = "lock";
/// The same file while it is not locked yet.
const UNLOCKED: &str = "lock.new";

/// A session's folder. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Folder {
    place: TempDir,
    lock: File,
}

impl Folder {
    /// Makes a folder in this place.
    pub(super) fn make(place: &Path) -> io::Result<Folder> {
        let place = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(private::FOLDER))
            .tempdir_in(place)?;
        let lock = hold(place.path())?;
        Ok(Folder { place, lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Makes the folder anew if something has removed it or what shows that it is in use; whether that was so.
    ///
    /// # Errors
    /// Something else lies in its place, or it can't be made.
    pub(super) fn heal(&mut self) -> io::Result<bool> {
        let path = self.place.path();
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() && found.uid() == user() => {
                if found.permissions().mode() & 0o077 != 0 {
                    fs::set_permissions(path, fs::Permissions::from_mode(private::FOLDER))?;
                }
                let held = self.lock.metadata()?;
                let same = fs::symlink_metadata(path.join(LOCK))
                    .is_ok_and(|lock| (lock.dev(), lock.ino()) == (held.dev(), held.ino()));
                if same {
                    return Ok(false);
                }
            }
            Ok(_) => return Err(io::Error::other("something else lies in its place")),
            Err(_) => {
                if let Some(parent) = path.parent() {
                    private::make_folders(parent)?;
                }
                DirBuilder::new().mode(private::FOLDER).create(path)?;
            }
        }
        self.lock = hold(path)?;
        Ok(true)
    }
}

/// Makes the file that is held locked. It has its name only once it is: nobody finds it free meanwhile.
fn hold(folder: &Path) -> io::Result<File> {
    let unlocked = folder.join(UNLOCKED);
    let _ = fs::remove_file(&unlocked);
    let lock = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(private::FILE)
        .open(&unlocked)?;
    lock.try_lock()?;
    fs::rename(unlocked, folder.join(LOCK))?;
    Ok(lock)
}

/// Removes the folders of sessions whose process was killed before it could, in these places.
pub(super) fn remove_orphans(places: &[PathBuf]) {
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok());
    for entry in entries.flatten().filter_map(Result::ok) {
        let named = entry.file_name();
        let ours = named.to_str().is_some_and(|name| name.starts_with(PREFIX));
        if ours && let Some(_lock) = orphaned(&entry.path()) {
            // It does not follow links. What can't be removed is tried again by the next session.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The lock of a folder of ours that no session holds.
fn orphaned(folder: &Path) -> Option<File> {
    let found = fs::symlink_metadata(folder).ok()?;
    if !found.is_dir() || found.uid() != user() {
        return None;
    }
    // A link is not followed, and a named pipe does not make us wait for who writes to it.
    let lock = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(folder.join(LOCK))
        .ok()?;
    let file = lock.metadata().ok()?;
    if !file.is_file() || file.uid() != user() || file.nlink() != 1 {
        return None;
    }
    lock.try_lock().ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_nobody_s_and_one_that_was_left_is() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::make(top.path()).unwrap();
        assert!(orphaned(folder.path()).is_none());
        let mode = fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, private::FOLDER);
        // As if its process had been killed.
        let left = tempfile::tempdir().unwrap();
        drop(hold(left.path()).unwrap());
        assert!(orphaned(left.path()).is_some());
    }

    #[test]
    fn what_others_put_there_is_left_alone_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join(LOCK);
        assert!(orphaned(folder.path()).is_none());
        crate::session::pipes::open_pipe(&lock).unwrap();
        assert!(orphaned(folder.path()).is_none());
        fs::remove_file(&lock).unwrap();
        fs::write(folder.path().join("target"), "").unwrap();
        std::os::unix::fs::symlink("target", &lock).unwrap();
        assert!(orphaned(folder.path()).is_none());
        fs::remove_file(&lock).unwrap();
        fs::hard_link(folder.path().join("target"), &lock).unwrap();
        assert!(orphaned(folder.path()).is_none());
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
        assert!(orphaned(folder.path()).is_none());
        assert!(orphaned(&folder.path().join("target")).is_none());
    }

    #[test]
    fn a_folder_that_vanished_is_made_anew() {
        let top = tempfile::tempdir().unwrap();
        let mut folder = Folder::make(top.path()).unwrap();
        assert!(!folder.heal().unwrap());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!folder.heal().unwrap());
        let mode = fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, private::FOLDER);
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(folder.heal().unwrap());
        assert!(!folder.heal().unwrap());
        assert!(orphaned(folder.path()).is_none());
        fs::remove_file(folder.path().join(LOCK)).unwrap();
        assert!(folder.heal().unwrap());
        fs::remove_dir_all(folder.path()).unwrap();
        std::os::unix::fs::symlink("/", folder.path()).unwrap();
        assert!(folder.heal().is_err());
        fs::remove_file(folder.path()).unwrap();
    }
}
