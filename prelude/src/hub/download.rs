//! From a listing to a complete snapshot in the cache: which files are wanted, which are there, the rest fetched.
//!
//! Nothing half-done is ever visible: bytes become a blob by a rename after their checksum, a snapshot's link appears
//! after its blob, and the branch's reference is written when every file is there.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::{HubError, HubResult};
use super::folder::{check_config, is_other_format};
use super::listing::{Listing, RemoteFile, Server};
use super::options::ProgressSink;
use super::transfer::{pause, transfer};
use super::{CachedModel, DownloadProgress, HubOptions};
use crate::display::Progress;
use crate::error::{Error, Result};

/// Says what kind of model it is.
const CONFIG: &str = "config.json";
/// How long to wait before asking again for a lock that another process holds.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Fetches what the cache lacks and returns the snapshot's folder.
pub(super) fn download(cached: &CachedModel, options: &HubOptions) -> Result<PathBuf> {
    let server = Server::new(cached.model(), options)?;
    let listing = server.listing()?;
    let mut wanted = wanted(&listing, options, cached.model())?;
    // The config comes first: it tells whether the rest, gigabytes perhaps, is of any use.
    wanted.sort_by_key(|file| file.name != CONFIG);
    let missing: Vec<&RemoteFile> = wanted
        .iter()
        .copied()
        .filter(|file| !is_whole(&cached.blob(file.checksum.hex()), file))
        .collect();
    check_space(cached, &missing, &options.cache_dir)?;
    let total_bytes = missing.iter().map(|file| file.size).sum();
    let report = match &options.progress {
        Some(sink) => sink.clone(),
        None if missing.is_empty() => Arc::new(|_: &DownloadProgress| {}) as ProgressSink,
        None => on_a_bar(cached.model(), total_bytes),
    };
    if let Some(config) = wanted.first().filter(|file| file.name == CONFIG)
        && !missing.iter().any(|file| file.name == CONFIG)
    {
        check_config(&cached.blob(config.checksum.hex()), &options.model_types)?;
    }
    let mut done = 0;
    for (index, file) in missing.iter().enumerate() {
        let mut moved = |bytes: u64| {
            report(&DownloadProgress {
                model: cached.model().to_owned(),
                file: file.name.clone(),
                file_number: index + 1,
                file_count: missing.len(),
                bytes: done + bytes,
                total_bytes,
            });
        };
        fetch(cached, &server, &listing.commit, file, &mut moved)?;
        done += file.size;
        if file.name == CONFIG {
            check_config(&cached.blob(file.checksum.hex()), &options.model_types)?;
        }
    }
    let snapshot = cached.snapshot_of(&listing.commit);
    for file in wanted {
        link(&snapshot, &file.name, &cached.blob(file.checksum.hex()))?;
    }
    if options.revision != listing.commit {
        write_reference(&cached.reference(), &listing.commit)?;
    }
    Ok(snapshot)
}

/// Shows the download as one bar that updates, in megabytes.
fn on_a_bar(model: &str, total_bytes: u64) -> ProgressSink {
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000) as usize;
    let bar = Progress::new(format!("{model}, MB"), megabytes(total_bytes));
    Arc::new(move |now| {
        bar.message(format!(
            "{} ({} of {})",
            now.file, now.file_number, now.file_count
        ));
        bar.set(megabytes(now.bytes));
    })
}

/// The files to have: those that match the options' patterns.
fn wanted<'a>(
    listing: &'a Listing,
    options: &HubOptions,
    model: &str,
) -> HubResult<Vec<&'a RemoteFile>> {
    let files: Vec<&RemoteFile> = listing
        .files
        .iter()
        .filter(|file| {
            options
                .files
                .iter()
                .any(|pattern| matches(pattern, &file.name))
                || options.required.contains(&file.name)
        })
        .collect();
    let lacking: Vec<String> = options
        .required
        .iter()
        .filter(|name| !files.iter().any(|file| file.name == **name))
        .cloned()
        .collect();
    if !lacking.is_empty() {
        return Err(HubError::MissingFiles {
            folder: model.into(),
            files: lacking,
        });
    }
    if !files.iter().any(|file| file.name.ends_with(".safetensors")) {
        let others: Vec<String> = listing
            .files
            .iter()
            .map(|file| file.name.clone())
            .filter(|name| is_other_format(name))
            .collect();
        if !others.is_empty() {
            return Err(HubError::NoSafetensors {
                folder: model.into(),
                found: others,
            });
        }
    }
    Ok(files)
}

/// Does `name` match `pattern`, in which `*` stands for any characters but `/`?
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let reach = rest.find('/').unwrap_or(rest.len());
            (0..=reach).any(|skip| rest.is_char_boundary(skip) && matches(after, &rest[skip..]))
        }),
    }
}

fn is_whole(blob: &Path, file: &RemoteFile) -> bool {
    blob.metadata()
        .is_ok_and(|found| found.is_file() && found.len() == file.size)
}

/// Brings one blob into the cache, unless another process does so meanwhile.
fn fetch(
    cached: &CachedModel,
    server: &Server,
    commit: &str,
    file: &RemoteFile,
    moved: &mut dyn FnMut(u64),
) -> Result<()> {
    let blob = cached.blob(file.checksum.hex());
    make_parent(&blob)?;
    let _lock = hold(&cached.lock(file.checksum.hex()))?;
    if is_whole(&blob, file) {
        moved(file.size);
        return Ok(());
    }
    transfer(server, commit, file, &partial_of(&blob), &blob, moved)
}

/// Where a blob's bytes gather; the same name that `huggingface_hub` continues from.
fn partial_of(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".incomplete");
    name.into()
}

/// Waits until no other process fetches the same bytes. The lock ends with the returned file.
fn hold(path: &Path) -> Result<File> {
    make_parent(path)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|source| io(path, source))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => pause(LOCK_PAUSE)?,
            // Some network disks have no locks: two downloads at once then waste time but still end in a rename.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(TryLockError::Error(source)) => return Err(io(path, source)),
        }
    }
}

/// Is there room for what is still to come?
fn check_space(cached: &CachedModel, missing: &[&RemoteFile], cache: &Path) -> Result<()> {
    let needed: u64 = missing
        .iter()
        .map(|file| {
            let partial = partial_of(&cached.blob(file.checksum.hex()));
            let have = partial.metadata().map_or(0, |found| found.len());
            file.size.saturating_sub(have)
        })
        .sum();
    std::fs::create_dir_all(cache).map_err(|source| io(cache, source))?;
    match free_space(cache) {
        Some(free) if free < needed => Err(HubError::DiskFull {
            path: cache.to_path_buf(),
            needed,
            free,
        }
        .into()),
        _ => Ok(()),
    }
}

/// Bytes that this user may still write, `None` where the system does not say.
fn free_space(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let folder = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a NUL and `answer` has room for the result, which is read only after success.
    let answer = unsafe {
        if libc::statvfs(folder.as_ptr(), answer.as_mut_ptr()) != 0 {
            return None;
        }
        answer.assume_init()
    };
    #[allow(clippy::unnecessary_cast)] // the fields' types differ between systems
    Some(answer.f_bavail as u64 * answer.f_frsize as u64)
}

/// Makes the snapshot's link to a blob, relative so that the cache can be moved.
fn link(snapshot: &Path, name: &str, blob: &Path) -> Result<()> {
    let path = snapshot.join(name);
    make_parent(&path)?;
    let depth = name.matches('/').count();
    let hash = blob.file_name().unwrap_or_default();
    let target = PathBuf::from("../".repeat(depth + 2))
        .join("blobs")
        .join(hash);
    if std::fs::read_link(&path).is_ok_and(|found| found == target) {
        return Ok(());
    }
    let fresh = crate::files::unfinished(&path);
    std::os::unix::fs::symlink(target, &fresh).map_err(|source| io(&fresh, source))?;
    std::fs::rename(&fresh, &path).map_err(|source| io(&path, source))
}

/// Notes which commit the branch stood at.
fn write_reference(path: &Path, commit: &str) -> Result<()> {
    make_parent(path)?;
    let fresh = crate::files::unfinished(path);
    std::fs::write(&fresh, commit).map_err(|source| io(&fresh, source))?;
    std::fs::rename(&fresh, path).map_err(|source| io(path, source))
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(|source| io(parent, source))
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_the_files_of_a_model() {
        let options = HubOptions::from_env();
        let chosen = |name: &str| options.files.iter().any(|pattern| matches(pattern, name));
        for name in [
            "config.json",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
        ] {
            assert!(chosen(name), "{name}");
        }
        for name in [
            "README.md",
            "pytorch_model.bin",
            "onnx/config.json",
            "model.fp16.safetensors",
            "consolidated.safetensors",
        ] {
            assert!(!chosen(name), "{name}");
        }
        assert!(
            matches("a*c*", "abcc")
                && !matches("a*", "b")
                && matches("*", "ü")
                && !matches("*", "a/b")
        );
    }
}
