//! Where sessions keep their folders: a place of the user's own, from which libraries can be loaded.
//!
//! ```text
//! TMPDIR, if it is set and the user's own ─▶ XDG_RUNTIME_DIR, the same and with room ─▶ `sessions` beside the preludes in the cache
//! ```
//! Never a folder that others may write to, as `/tmp`: cells are compiled there, and their libraries loaded.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::private;
use crate::session::error::SessionError;

/// Less is not enough for a session in memory, where the system keeps `XDG_RUNTIME_DIR`.
const ROOM: u64 = 64 << 20;
/// The dynamic linker takes `$ORIGIN` and its like in a path for something else.
const EXPANDED: [char; 1] = ['$'];
/// Beside the preludes in the cache.
const SESSIONS: &str = "sessions";

/// Why a session has no folder.
pub(super) fn no_folder(place: &Path, source: io::Error) -> SessionError {
    SessionError::io(format!(
        "create a folder in {} (set TMPDIR to a folder of your own, on a disk with space and without `noexec`)",
        place.display()
    ))(source)
}

/// The place where a session's folder goes. `cache` is the folder of preludes.
///
/// # Errors
/// TMPDIR names none, or there is none at all; with what to do.
pub(super) fn find(cache: &Path) -> Result<PathBuf, SessionError> {
    if let Some(named) = named() {
        let named = named.map_err(|source| no_folder(&std::env::temp_dir(), source))?;
        if !fs::metadata(&named)
            .map_err(|source| no_folder(&named, source))?
            .is_dir()
        {
            return Err(no_folder(&named, io::ErrorKind::NotADirectory.into()));
        }
        let own = private::checked(&named).map_err(|source| no_folder(&named, source))?;
        if let Ok(own) = own {
            private::plain(&own, &EXPANDED)
                .map_err(|reason| no_folder(&own, io::Error::other(reason)))?;
            if runs_programs(&own) {
                return Ok(own);
            }
        }
    }
    if let Some(runtime) = runtime() {
        return Ok(runtime);
    }
    below_cache(cache)
}

/// Where the next session keeps its folder.
///
/// # Errors
/// No place will do; with what to do.
pub fn sessions_place() -> Result<PathBuf, SessionError> {
    find(&crate::session::prelude::cache::own_cache(None)?)
}

/// All places where sessions of this user may have left folders.
pub(super) fn all(cache: &Path) -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let cache = cache.with_file_name(SESSIONS);
    let temporary = named().and_then(Result::ok);
    let mut places = vec![temporary.unwrap_or_else(std::env::temp_dir), cache];
    places.extend(runtime);
    places.retain(|place| place.is_absolute());
    places
}

/// What TMPDIR says, whole.
fn named() -> Option<io::Result<PathBuf>> {
    let named = std::env::var_os("TMPDIR").filter(|named| !named.is_empty())?;
    Some(std::path::absolute(named))
}

/// The folder that the system gives a user who has logged in.
fn runtime() -> Option<PathBuf> {
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    let found = fs::symlink_metadata(&runtime).ok()?;
    let own = runtime.is_absolute()
        && found.is_dir()
        && found.uid() == private::user()
        && found.permissions().mode() & 0o777 == private::FOLDER;
    if !own {
        return None;
    }
    let runtime = private::checked(&runtime).ok()?.ok()?;
    let usable = private::plain(&runtime, &EXPANDED).is_ok()
        && runs_programs(&runtime)
        && free_bytes(&runtime).is_ok_and(|free| free >= ROOM);
    usable.then_some(runtime)
}

fn below_cache(cache: &Path) -> Result<PathBuf, SessionError> {
    let place = cache.with_file_name(SESSIONS);
    private::make_folders(&place).map_err(|source| no_folder(&place, source))?;
    match private::checked(&place).map_err(|source| no_folder(&place, source))? {
        Ok(place) if runs_programs(&place) => Ok(place),
        Ok(place) => Err(no_folder(
            &place,
            io::Error::other("nothing can be loaded from its disk, which is mounted `noexec`"),
        )),
        Err(exposed) => Err(no_folder(&place, io::Error::other(exposed))),
    }
}

/// Whether libraries can be loaded from the disk of a folder.
fn runs_programs(folder: &Path) -> bool {
    !statvfs(folder).is_ok_and(|disk| disk.f_flag & libc::ST_NOEXEC != 0)
}

fn statvfs(folder: &Path) -> io::Result<libc::statvfs> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: zero is valid for every field of this plain structure.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string, and both live during the call.
    match unsafe { libc::statvfs(path.as_ptr(), &raw mut found) } {
        0 => Ok(found),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What this user may still write to the disk that a folder is on.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    // The fields' widths differ between systems.
    #[allow(clippy::unnecessary_cast)]
    Ok(disk.f_bavail as u64 * disk.f_frsize as u64)
}
