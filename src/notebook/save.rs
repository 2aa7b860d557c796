//! Puts a file in place whole or not at all: written beside its place, synced, then renamed over it. Nobody reads in it what they could not
//! read in the notebook that it comes from.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::private;

/// Why an output could not be written. The file that was there before is untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; the file that was there is untouched; choose another folder with --output DIR", path.display())]
pub struct SaveError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// Checks that a file can be made in the place of `path`, and makes its folder where it is missing.
///
/// # Errors
/// The folder can't be made or written to.
pub fn check_place(path: &Path) -> Result<(), SaveError> {
    let fault = |source| SaveError {
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        return Err(fault(std::io::Error::other(
            "a folder of that name is in the way",
        )));
    }
    let folder = folder_of(path);
    private::make_ordinary_folders(&folder).map_err(fault)?;
    temporary(&folder).map_err(fault)?;
    Ok(())
}

/// Who may read and write a file: its mode, and the group that this speaks of.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    mode: u32,
    group: u32,
}

impl Access {
    /// That of a file.
    ///
    /// # Errors
    /// The file is not there, or can't be looked at.
    pub fn of(file: &Path) -> std::io::Result<Access> {
        let found = std::fs::metadata(file)?;
        Ok(Access {
            mode: found.mode() & 0o777,
            group: found.gid(),
        })
    }

    /// That of a new file that the user makes, but for nobody who may not do the same with this one.
    fn for_new(self) -> Access {
        Access {
            mode: private::ordinary_file() & self.mode | private::FILE,
            group: self.group,
        }
    }

    fn give(self, file: &std::fs::File) -> std::io::Result<()> {
        let mut mode = self.mode;
        // A member of the group only can hand a file over to it. Else nobody is in the group that was meant.
        if file.metadata()?.gid() != self.group
            && std::os::unix::fs::fchown(file, None, Some(self.group)).is_err()
        {
            mode &= !0o070;
        }
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }
}

/// Writes `text` to `path`. A link is followed, the permissions of an existing file are kept; a new one is as open as `source` is,
/// from which it comes, and as the user's umask lets it be.
///
/// # Errors
/// The folder can't be written to or the disk is full; what was at `path` is then still there.
pub fn save(path: &Path, text: &str, source: Option<Access>) -> Result<(), SaveError> {
    let fault = |source| SaveError {
        path: path.to_owned(),
        source,
    };
    let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut file = temporary(&folder_of(&place)).map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    let access = Access::of(&place).ok().or(source.map(Access::for_new));
    match access {
        Some(access) => access.give(file.as_file()),
        None => {
            let ordinary = std::fs::Permissions::from_mode(private::ordinary_file());
            file.as_file().set_permissions(ordinary)
        }
    }
    .map_err(fault)?;
    file.as_file().sync_all().map_err(fault)?;
    file.persist(&place).map_err(|e| fault(e.error))?;
    Ok(())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".glassbox-")
        .suffix(".tmp")
        .tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/a.ipynb");
        check_place(&path).unwrap();
        save(&path, "one", None).unwrap();
        save(&path, "two", None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_permissions_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "one").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        save(&link, "two", None).unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_place_that_can_not_be_written_is_named() {
        let error = check_place(Path::new("/proc/nowhere/a.ipynb"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot write /proc/nowhere/a.ipynb: "),
            "{error}"
        );
        let folder = tempfile::tempdir().unwrap();
        assert!(
            check_place(folder.path())
                .unwrap_err()
                .to_string()
                .contains("a folder of that name")
        );
    }
}
