//! Puts a file in place whole or not at all: written beside its place, synced, then renamed over it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

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
    std::fs::create_dir_all(&folder).map_err(fault)?;
    temporary(&folder).map_err(fault)?;
    Ok(())
}

/// Writes `text` to `path`. A link is followed, the permissions of an existing file are kept.
///
/// # Errors
/// The folder can't be written to or the disk is full; what was at `path` is then still there.
pub fn save(path: &Path, text: &str) -> Result<(), SaveError> {
    let fault = |source| SaveError {
        path: path.to_owned(),
        source,
    };
    let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut file = temporary(&folder_of(&place)).map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    let permissions = std::fs::metadata(&place).map(|m| m.permissions());
    if let Ok(permissions) = permissions.or_else(|_| ordinary_permissions()) {
        file.as_file().set_permissions(permissions).map_err(fault)?;
    }
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

/// What a new file gets; a temporary file is readable by its owner only.
fn ordinary_permissions() -> std::io::Result<std::fs::Permissions> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        Ok(std::fs::Permissions::from_mode(0o644))
    }
    #[cfg(not(unix))]
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/a.ipynb");
        check_place(&path).unwrap();
        save(&path, "one").unwrap();
        save(&path, "two").unwrap();
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
        save(&link, "two").unwrap();
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
