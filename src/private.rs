//! What belongs to the user alone: folders that nobody else can change, and files that nobody else can read.
//!
//! ```text
//! path ─▶ it and its parents up to the root: owner, mode ─▶ the true path, or who else could put their own there
//! ```
//! The rule is that of ssh for its keys: everything on the way belongs to the user or to the system, and others may not write to it. A parent
//! in which everybody may make files but remove only their own, as `/tmp`, does no harm: what lies in it is looked at by itself.

use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder for the user alone.
pub(crate) const FOLDER: u32 = 0o700;
/// A file for the user alone.
pub(crate) const FILE: u32 = 0o600;
/// Group and others may write.
const LOOSE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// The umask with which the program was started.
static UMASK: OnceLock<u32> = OnceLock::new();

/// Somebody else could put their own in this place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Exposed {
    /// It is theirs.
    #[error("{} belongs to another user (number {owner})", path.display())]
    Owner {
        /// The file or folder, which may be a parent of what was asked about.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// They may write to it.
    #[error("others may write to {} (mode {mode:o}); `chmod go-w` it if you trust what is in it", path.display())]
    Mode {
        /// As above.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No folder.
    #[error("{} is no folder", path.display())]
    Kind {
        /// As above.
        path: PathBuf,
    },
}

/// The user's number.
pub(crate) fn user() -> u32 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::geteuid() }
}

/// From now on, what this program makes is for its user alone, unless it says otherwise. To be called before there are threads.
pub(crate) fn keep_to_oneself() {
    // SAFETY: the call touches no memory.
    let before = unsafe { libc::umask(0o077) };
    let _ = UMASK.set(before);
}

/// The user's own umask, for what is made for them.
pub(crate) fn umask() -> u32 {
    *UMASK.get_or_init(|| {
        // Unlike the call it changes nothing.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok())
            .unwrap_or(0o022)
    })
}

/// The mode of a file that the user makes.
pub(crate) fn ordinary_file() -> u32 {
    0o666 & !umask()
}

/// Gives a file or folder the mode that one of the user's own would have.
pub(crate) fn make_ordinary(path: &Path) -> io::Result<()> {
    let whole = if path.is_dir() { 0o777 } else { 0o666 };
    fs::set_permissions(path, Permissions::from_mode(whole & !umask()))
}

/// Makes a folder and its missing parents as the user would.
pub(crate) fn make_ordinary_folders(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(path)?;
    missing
        .into_iter()
        .filter(|dir| dir.is_dir())
        .try_for_each(make_ordinary)
}

/// Opens a file to write at its end that only its owner reads; one that others could read is closed to them.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(FILE)
        // A pipe that lies there holds nobody up.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if found.uid() == user() && found.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(file)
}

/// Makes a folder and its missing parents for the user alone.
pub(crate) fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)
}

/// The true path of a folder in which nobody else can put or change anything, nor put another in its place.
///
/// # Errors
/// It can't be looked at; inside, who else could.
pub(crate) fn checked(folder: &Path) -> io::Result<Result<PathBuf, Exposed>> {
    let folder = folder.canonicalize()?;
    for (above, path) in folder.ancestors().enumerate() {
        let found = fs::symlink_metadata(path)?;
        if !found.is_dir() {
            let path = path.to_owned();
            return Ok(Err(Exposed::Kind { path }));
        }
        let shared = above > 0 && found.mode() & STICKY != 0;
        if let Some(exposed) = exposed(path, &found, shared) {
            return Ok(Err(exposed));
        }
    }
    Ok(Ok(folder))
}

/// Who else may change a file, by what the system says of it.
pub(crate) fn exposed_file(path: &Path, found: &fs::Metadata) -> Option<Exposed> {
    exposed(path, found, false)
}

/// The first file or folder below `folder` that others may change. Links are not followed: where they lead is looked at by who uses it.
pub(crate) fn exposed_below(folder: &Path) -> io::Result<Option<Exposed>> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if let Some(exposed) = look(&folder, &mut folders)? {
            return Ok(Some(exposed));
        }
    }
    Ok(None)
}

/// As [`exposed_below`], of what lies in the folder itself.
pub(crate) fn exposed_in(folder: &Path) -> io::Result<Option<Exposed>> {
    look(folder, &mut Vec::new())
}

/// The first entry of a folder that others may change; the folders in it go to `folders`.
fn look(folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<Option<Exposed>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Another session may remove what is no longer needed.
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if let Some(exposed) = exposed(&path, &found, found.is_symlink()) {
            return Ok(Some(exposed));
        }
        if found.is_dir() {
            folders.push(path);
        }
    }
    Ok(None)
}

/// `shared`: its mode says nothing.
fn exposed(path: &Path, found: &fs::Metadata, shared: bool) -> Option<Exposed> {
    if !is_trusted(found.uid()) {
        return Some(Exposed::Owner {
            path: path.to_owned(),
            owner: found.uid(),
        });
    }
    let mut loose = found.mode() & LOOSE;
    if loose & 0o020 != 0 && is_own_group(found.gid()) {
        loose &= !0o020;
    }
    (loose != 0 && !shared).then(|| Exposed::Mode {
        path: path.to_owned(),
        mode: found.mode() & 0o7777,
    })
}

/// The user, the system, and whoever owns the root of the file system, which is the system seen from inside a container.
fn is_trusted(owner: u32) -> bool {
    owner == user() || owner == 0 || fs::symlink_metadata("/").is_ok_and(|root| root.uid() == owner)
}

/// Whether nobody but the user is in a group: where each user has one, and in containers, folders are made writable for it.
fn is_own_group(group: u32) -> bool {
    // SAFETY: the call has no preconditions.
    if group != unsafe { libc::getegid() } {
        return false;
    }
    let Some(user_name) = name_of_user() else {
        // A number without a name, as containers give: only who has the group's number counts.
        return accounts_are_local() && only_account_of(group);
    };
    let mut buffer = vec![0; 64 << 10];
    // SAFETY: zero is valid for every field of this plain structure.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are alive, and the length is the buffer's.
    let asked = unsafe {
        libc::getgrgid_r(
            group,
            &raw mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    if asked != 0 || found.is_null() {
        return false;
    }
    // SAFETY: the call succeeded: the name is a string, and the members a list of strings that a null pointer ends.
    let group_name = unsafe {
        let mut member = entry.gr_mem;
        while !(*member).is_null() {
            if CStr::from_ptr(*member) != user_name.as_c_str() {
                return false;
            }
            member = member.add(1);
        }
        CStr::from_ptr(entry.gr_name)
    };
    // By custom a group of a user's name is theirs. Of others it has to be known who else begins in them.
    group_name == user_name.as_c_str() || accounts_are_local() && only_account_of(group)
}

fn name_of_user() -> Option<CString> {
    let mut buffer = vec![0; 64 << 10];
    // SAFETY: zero is valid for every field of this plain structure.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are alive, and the length is the buffer's.
    let asked = unsafe {
        libc::getpwuid_r(
            user(),
            &raw mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    // SAFETY: if the call succeeded, the name is a string in the buffer.
    (asked == 0 && !found.is_null()).then(|| unsafe { CStr::from_ptr(entry.pw_name) }.to_owned())
}

/// Whether `/etc/passwd` names all accounts.
fn accounts_are_local() -> bool {
    let sources = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let lines = sources.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(what, _)| ["passwd", "group"].contains(&what.trim()))
        .flat_map(|(_, sources)| sources.split_whitespace())
        .all(|source| ["files", "compat", "systemd"].contains(&source))
}

/// Whether no account of `/etc/passwd` but the user's and root's begins in a group.
fn only_account_of(group: u32) -> bool {
    let Ok(accounts) = fs::read_to_string("/etc/passwd") else {
        return false;
    };
    accounts.lines().all(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok());
        number(3) != Some(group) || number(2).is_some_and(|owner| owner == 0 || owner == user())
    })
}

/// Signs that mean something in the list of folders in which the loader looks for libraries.
pub(crate) const LIST_SIGNS: [char; 3] = [':', ';', '$'];

/// Whether a path is text that a line can hold, without these signs.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn plain(path: &Path, signs: &[char]) -> Result<(), String> {
    let shown = format!("{path:?}");
    let Some(text) = path.to_str() else {
        return Err(format!("{shown} is not UTF-8"));
    };
    match text.chars().find(|c| c.is_control() || signs.contains(c)) {
        Some(sign) => Err(format!("{shown} holds {sign:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_is_the_user_s_own_only_with_all_its_parents() {
        let top = tempfile::tempdir().unwrap();
        let (middle, own) = (top.path().join("middle"), top.path().join("middle/own"));
        make_folders(&own).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, FOLDER);
        let truly = own.canonicalize().unwrap();
        assert_eq!(checked(&own).unwrap(), Ok(truly.clone()));
        for mode in [0o777, 0o702, 0o757] {
            set(&own, mode);
            let found = checked(&own).unwrap().unwrap_err();
            assert!(
                matches!(&found, Exposed::Mode { path, .. } if *path == truly),
                "{found}"
            );
            set(&own, FOLDER);
            set(&middle, mode);
            let found = checked(&own).unwrap().unwrap_err();
            assert!(found.to_string().contains("middle (mode"), "{found}");
            // Where everybody may make files, but remove their own only, ours stays ours.
            set(&middle, mode | STICKY);
            assert!(checked(&own).unwrap().is_ok());
            assert!(checked(&middle).unwrap().is_err());
            set(&middle, FOLDER);
        }
        // A link leads to where it leads.
        let link = top.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert_eq!(checked(&link).unwrap(), Ok(truly));
        fs::write(own.join("file"), "").unwrap();
        assert!(exposed_below(&middle).unwrap().is_none());
        set(&own.join("file"), 0o666);
        assert!(exposed_below(&middle).unwrap().is_some());
        assert!(checked(&own.join("file")).unwrap().is_err());
        assert!(checked(&own.join("nowhere")).is_err());
    }

    #[test]
    fn what_is_appended_to_is_closed_to_others() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        fs::write(&file, "one").unwrap();
        set(&file, 0o644);
        drop(append(&file).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, FILE);
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        assert!(append(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn a_path_that_lists_or_lines_would_cut_is_named() {
        use std::os::unix::ffi::OsStrExt;
        for fine in ["/a b/c'd\"e", "/ä/,=", "/a/"] {
            assert_eq!(plain(Path::new(fine), &LIST_SIGNS), Ok(()));
        }
        for odd in [
            &b"/a\nb"[..],
            b"/a:b",
            b"/a;b",
            b"/$ORIGIN",
            b"/a\xff",
            b"/a\x1f",
        ] {
            let path = Path::new(std::ffi::OsStr::from_bytes(odd));
            assert!(plain(path, &LIST_SIGNS).is_err());
            let of_lists = path.to_str().is_some_and(|text| text.contains(LIST_SIGNS));
            assert_eq!(plain(path, &[]).is_ok(), of_lists);
        }
    }
}
