//! The prelude's shared library: built once, kept in a cache folder, used by every later session.
//!
//! ```text
//! source (checkout or embedded) ─ hash with compiler and flags ─▶ key
//! <cache>/<key>/libglassbox_prelude.so, deps/, manifest.json      a finished library, never changed
//! <cache>/build/                                                  cargo's target folder, kept to rebuild quickly
//! <cache>/lock                                                    held while building
//! ```
//! A library is published by renaming a finished folder, so a session sees a whole one or none. Each use compares all files with the seal
//! in the manifest (see [`super::seal`]); a folder that differs is built again. A session keeps a shared lock on the manifest of the
//! library that it uses, so that a later build does not remove it. What others may write to is not used at all: it would run as the user.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::prelude_crates::{self, PreludeCrate};
use super::seal::Seal;
use super::source::{PreludeSource, hex};
use super::toolchain::Toolchain;
use super::{analysis, metadata};
use crate::session::StartEvent;
use crate::session::error::SessionError;
use crate::{private, programs};

/// File name of the library.
pub(crate) const LIBRARY: &str = "libglassbox_prelude.so";
/// Folder, next to the library, with the metadata of the crates in it.
pub(crate) const DEPENDENCIES: &str = "deps";
/// Folder, next to the library, with what rust-analyzer reads.
const ANALYSIS: &str = "analysis";
const MANIFEST: &str = "manifest.json";
/// File name of the library's metadata, see [`metadata`].
const METADATA: &str = "libglassbox_prelude.rlib";
/// File that grows with what sessions learn; not in the manifest.
const LEARNT: &str = "learnt.json";
/// Raised when the layout of a cached library changes.
const LAYOUT: &str = "8";
/// Cargo's target folder.
const BUILD: &str = "build";
/// Beside the folder of libraries: cells that were compiled.
const CELLS: &str = "cells";
const RUSTFLAGS: &str = "-Cprefer-dynamic";
/// How often a session that waits for another's build looks again.
const LOCK_POLL: Duration = Duration::from_millis(200);
/// So many older libraries are kept for other versions of the source or compiler.
const KEPT: usize = 3;

/// A finished library.
#[derive(Clone, Debug)]
pub(crate) struct CachedPrelude {
    pub library: PathBuf,
    pub dependencies: PathBuf,
    /// The library's metadata by itself: rustc reads it several times faster than that inside the library.
    pub metadata: Option<PathBuf>,
    /// The crates in it that cells can name.
    pub crates: Arc<Vec<PreludeCrate>>,
    /// What sessions have learnt of the names of types.
    pub learnt: PathBuf,
    /// What rust-analyzer reads, see [`analysis`].
    pub analysis: PathBuf,
    /// The checksum of the manifest, which holds those of all files.
    pub sum: String,
    /// Where cells that were compiled are kept.
    pub cells: PathBuf,
    /// The manifest, locked: as long as it is open, nobody removes the library.
    _in_use: Arc<File>,
}

impl CachedPrelude {
    /// The folder that holds all of it.
    pub(crate) fn folder(&self) -> PathBuf {
        self.library.parent().map(PathBuf::from).unwrap_or_default()
    }
}

/// The files of a finished library.
#[derive(Serialize, Deserialize, PartialEq)]
struct Manifest {
    seal: Seal,
}

/// The folder in which libraries are kept, made if it is not there, by its true path.
///
/// # Errors
/// Others could put something in it, or its path can't be used; with what to do.
pub(crate) fn own_cache(named: Option<&Path>) -> Result<PathBuf, SessionError> {
    let cache = cache_dir(named)?;
    private::make_folders(&cache).map_err(SessionError::cache("create", &cache))?;
    let cache = match private::checked(&cache).map_err(SessionError::cache("use", &cache))? {
        Ok(cache) => cache,
        Err(exposed) => return Err(SessionError::Exposed { exposed }),
    };
    private::plain(&cache, &private::LIST_SIGNS).map_err(|reason| SessionError::OddPath {
        reason,
        variable: "GLASSBOX_CACHE_DIR",
    })?;
    Ok(cache)
}

/// Looks whether others may change something below a folder that is used next.
fn check_below(folder: &Path) -> Result<(), SessionError> {
    refuse(folder, private::exposed_below(folder))
}

/// What was found in a folder that others may change is refused; a folder that is not there holds nothing.
fn refuse(
    folder: &Path,
    found: std::io::Result<Option<private::Exposed>>,
) -> Result<(), SessionError> {
    match found {
        Ok(None) => Ok(()),
        Ok(Some(exposed)) => Err(SessionError::Exposed { exposed }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(SessionError::cache("read", folder)(error)),
    }
}

/// Where cells that were compiled are kept, for a folder in which libraries are.
pub(crate) fn cells(cache: &Path) -> PathBuf {
    cache.with_file_name(CELLS)
}

/// The folder in which libraries are kept.
pub(crate) fn cache_dir(named: Option<&Path>) -> Result<PathBuf, SessionError> {
    let from_environment = || std::env::var_os("GLASSBOX_CACHE_DIR").filter(|dir| !dir.is_empty());
    if let Some(dir) = named
        .map(|dir| dir.as_os_str().to_owned())
        .or_else(from_environment)
    {
        return std::path::absolute(PathBuf::from(&dir))
            .map(|dir| dir.join("prelude"))
            .map_err(SessionError::cache("use", dir));
    }
    dirs::cache_dir()
        .map(|dir| dir.join("glassbox").join("prelude"))
        .ok_or_else(|| SessionError::Cache {
            action: "find",
            path: "the user's cache folder".into(),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, "no home folder is set"),
        })
}

/// The library for this source and compiler: from the cache if it is there and whole, else built.
pub(crate) fn get(
    source: &PreludeSource,
    toolchain: &Toolchain,
    features: &[String],
    cache: &Path,
    progress: &mut dyn FnMut(StartEvent),
) -> Result<CachedPrelude, SessionError> {
    let finished = cache.join(key(source, toolchain, features)?);
    if let Some(prelude) = open(&finished)? {
        return Ok(prelude);
    }
    let _lock = lock(cache, progress)?;
    // Another session may have built it while we waited, and cargo may have written a lock file meanwhile.
    let finished = cache.join(key(source, toolchain, features)?);
    if let Some(prelude) = open(&finished)? {
        return Ok(prelude);
    }
    check_below(&cache.join(BUILD))?;
    let artifacts = build(cache, source, toolchain, features, progress)?;
    let finished = cache.join(key(source, toolchain, features)?);
    publish(&artifacts, cache, &finished, |dir| {
        let names = analysis::write(&dir.join(ANALYSIS), source, toolchain, features)?;
        let names = names.into_iter().map(|name| format!("{ANALYSIS}/{name}"));
        Ok(names.collect())
    })?;
    remove_old(cache, &finished);
    open(&finished)?.ok_or_else(|| SessionError::Cache {
        action: "read back",
        path: finished,
        source: std::io::Error::other("what was just written is not what is there"),
    })
}

/// The name of the folder that holds the library for this source and compiler.
pub(crate) fn key(
    source: &PreludeSource,
    toolchain: &Toolchain,
    features: &[String],
) -> Result<String, SessionError> {
    let (listed, gpu) = (features.join(","), compiled_for(features));
    let mut parts: Vec<&str> = vec![LAYOUT, RUSTFLAGS, &toolchain.version, &listed];
    parts.extend(gpu.as_deref());
    source.key(&parts)
}

/// The GPU that candle's kernels are compiled for, where they are and a variable says so: those for another one do not run on it.
fn compiled_for(features: &[String]) -> Option<String> {
    let cuda = features.iter().any(|feature| feature == "cuda");
    cuda.then(|| std::env::var("CUDA_COMPUTE_CAP").ok())
        .flatten()
}

/// The library in `dir` if every file is the one that was sealed.
///
/// # Errors
/// Others may change something in it.
pub(crate) fn open(dir: &Path) -> Result<Option<CachedPrelude>, SessionError> {
    for folder in ["", DEPENDENCIES, ANALYSIS] {
        let folder = dir.join(folder);
        if !folder.is_dir() {
            return Ok(None);
        }
        if let Err(exposed) =
            private::checked(&folder).map_err(SessionError::cache("use", &folder))?
        {
            return Err(SessionError::Exposed { exposed });
        }
    }
    refuse(dir, private::exposed_in(dir))?;
    check_below(&dir.join(DEPENDENCIES))?;
    check_below(&dir.join(ANALYSIS))?;
    Ok(open_own(dir))
}

fn open_own(dir: &Path) -> Option<CachedPrelude> {
    let file = File::open(dir.join(MANIFEST)).ok()?;
    if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
        // It is being removed. Where there are no locks, it can be used without one.
        return None;
    }
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes).ok()?;
    let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
    let whole = manifest.seal.covers(LIBRARY) && manifest.seal.holds(dir);
    whole.then(|| CachedPrelude {
        library: dir.join(LIBRARY),
        dependencies: dir.join(DEPENDENCIES),
        metadata: Some(dir.join(METADATA)).filter(|path| path.is_file()),
        crates: Arc::new(prelude_crates::read(dir)),
        learnt: dir.join(LEARNT),
        analysis: dir.join(ANALYSIS),
        sum: hex(&Sha256::digest(&bytes)),
        cells: cells(dir.parent().unwrap_or(dir)),
        _in_use: Arc::new(file),
    })
}

/// Waits for the right to build. The lock ends with the process that holds it, however that ends.
fn lock(cache: &Path, progress: &mut dyn FnMut(StartEvent)) -> Result<File, SessionError> {
    let path = cache.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(SessionError::cache("write", &path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(SessionError::cache("lock", &path)(error));
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            progress(StartEvent::WaitingForOtherBuild);
            told = true;
        }
        std::thread::sleep(LOCK_POLL);
    }
}

/// What cargo made.
struct Artifacts {
    library: PathBuf,
    /// The static library, for its metadata.
    archive: Option<PathBuf>,
    dependencies: Vec<PathBuf>,
    /// What was built for it, also for the compiler alone.
    crates: Vec<PreludeCrate>,
}

fn build(
    cache: &Path,
    source: &PreludeSource,
    toolchain: &Toolchain,
    features: &[String],
    progress: &mut dyn FnMut(StartEvent),
) -> Result<Artifacts, SessionError> {
    let target = cache.join(BUILD);
    fs::create_dir_all(&target).map_err(SessionError::cache("create", &target))?;
    forget_last_build(&target)?;
    let wanted = feature_arguments(features);
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let total = count_packages(toolchain, &source.manifest(), &wanted);
    progress(StartEvent::BuildingPrelude {
        done: 0,
        total,
        krate: String::new(),
    });
    let mut cargo = programs::cargo(&toolchain.cargo)
        .args([
            "build",
            "--release",
            "--lib",
            "--message-format=json",
            "--manifest-path",
        ])
        .arg(source.manifest())
        .args(wanted)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTFLAGS", RUSTFLAGS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| SessionError::BrokenRust {
            program: toolchain.cargo.clone(),
            reason: error.to_string(),
        })?;
    let errors = cargo.stderr.take().map(|stderr| {
        std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            // Cargo's own progress is told through the JSON messages; what is left explains failures.
            let kept: Vec<String> = lines
                .filter(|line| !line.trim_start().starts_with("Compiling "))
                .collect();
            kept.join("\n")
        })
    });
    let mut messages = Messages::default();
    if let Some(stdout) = cargo.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(krate) = messages.take(&line) {
                progress(StartEvent::BuildingPrelude {
                    done: messages.done,
                    total,
                    krate,
                });
            }
        }
    }
    let status = cargo.wait().map_err(SessionError::io("wait for cargo"))?;
    let errors = errors
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    match messages.library {
        Some(library) if status.success() => Ok(Artifacts {
            library,
            archive: messages.archive,
            dependencies: messages.dependencies,
            crates: messages.crates,
        }),
        _ if errors.contains("No space left on device") => Err(SessionError::Cache {
            action: "write to",
            path: target,
            source: std::io::Error::from(std::io::ErrorKind::StorageFull),
        }),
        _ => {
            let log = if messages.errors.is_empty() {
                errors
            } else {
                messages.errors
            };
            Err(SessionError::PreludeBuild {
                source_dir: source.dir().to_owned(),
                log,
            })
        }
    }
}

/// Has cargo build the prelude's own crates again. Cargo goes by the times of files, and takes what was built from another
/// checkout, whose sources differ but are not newer, for its own.
fn forget_last_build(target: &Path) -> Result<(), SessionError> {
    let fingerprints = target.join("release/.fingerprint");
    for entry in fs::read_dir(&fingerprints).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with("glassbox-");
        if ours {
            fs::remove_dir_all(entry.path())
                .map_err(SessionError::cache("remove", entry.path()))?;
        }
    }
    Ok(())
}

fn feature_arguments(features: &[String]) -> Vec<String> {
    if features.is_empty() {
        Vec::new()
    } else {
        vec!["--features".to_owned(), features.join(",")]
    }
}

/// How many crates a build from nothing compiles; only for the progress.
pub(crate) fn count_packages(
    toolchain: &Toolchain,
    manifest: &Path,
    wanted: &[&str],
) -> Option<usize> {
    let output = programs::cargo(&toolchain.cargo)
        .args([
            "tree",
            "--edges=normal,build",
            "--prefix=none",
            "--format={p}",
            "--manifest-path",
        ])
        .arg(manifest)
        .args(wanted)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut packages: Vec<&str> = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    packages.sort_unstable();
    packages.dedup();
    output.status.success().then_some(packages.len())
}

/// Reads the JSON lines of cargo.
#[derive(Default)]
struct Messages {
    done: usize,
    seen: std::collections::HashSet<String>,
    library: Option<PathBuf>,
    archive: Option<PathBuf>,
    dependencies: Vec<PathBuf>,
    crates: Vec<PreludeCrate>,
    errors: String,
}

impl Messages {
    /// Takes one line; returns the name of the crate that it says is finished.
    fn take(&mut self, line: &str) -> Option<String> {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        if message["reason"] == "compiler-message" && message["message"]["level"] == "error" {
            self.errors
                .push_str(message["message"]["rendered"].as_str().unwrap_or_default());
        }
        if message["reason"] != "compiler-artifact" {
            return None;
        }
        let files: Vec<PathBuf> = message["filenames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|file| file.as_str().map(PathBuf::from))
            .collect();
        let name = message["target"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if name == "glassbox_prelude" {
            let find = |wanted| {
                let mut files = files.iter();
                files.find(|file| file.extension().is_some_and(|end| end == wanted))
            };
            self.library = find("so").cloned();
            self.archive = find("rlib").cloned();
        } else {
            self.crates.extend(PreludeCrate::from_message(&message));
            let kinds = message["target"]["kind"].as_array();
            let is_macro = kinds.into_iter().flatten().any(|kind| kind == "proc-macro");
            // Metadata is enough for crates inside the library. A macro runs in the compiler, so it is needed whole.
            let wanted = if is_macro { "so" } else { "rmeta" };
            self.dependencies.extend(
                files
                    .into_iter()
                    .filter(|file| file.extension().is_some_and(|end| end == wanted)),
            );
        }
        let package = message["package_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if !self.seen.insert(package) {
            return None;
        }
        self.done += 1;
        Some(name)
    }
}

/// Copies what was made to a new folder and gives it its name when it is whole.
fn publish(
    artifacts: &Artifacts,
    cache: &Path,
    finished: &Path,
    add: impl FnOnce(&Path) -> Result<Vec<String>, SessionError>,
) -> Result<(), SessionError> {
    let staged = tempfile::Builder::new()
        .prefix("new-")
        .tempdir_in(cache)
        .map_err(SessionError::cache("write to", cache))?;
    let dir = staged.path();
    fs::create_dir(dir.join(DEPENDENCIES)).map_err(SessionError::cache("write to", dir))?;
    let mut files = Vec::new();
    let library = (LIBRARY.to_owned(), artifacts.library.clone());
    let dependencies = artifacts.dependencies.iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        Some((format!("{DEPENDENCIES}/{name}"), path.clone()))
    });
    for (name, from) in std::iter::once(library).chain(dependencies) {
        let to = dir.join(&name);
        fs::copy(&from, &to).map_err(SessionError::cache("write", &to))?;
        files.push(name);
    }
    if let Some(archive) = &artifacts.archive {
        let to = dir.join(METADATA);
        metadata::extract(archive, &to).map_err(SessionError::cache("write", &to))?;
        files.push(METADATA.to_owned());
        prelude_crates::write(dir, &to, &artifacts.crates)
            .map_err(SessionError::cache("write", dir))?;
        files.push(prelude_crates::FILE.to_owned());
    }
    files.extend(add(dir)?);
    let seal = Seal::make(dir, &files).map_err(SessionError::cache("read", dir))?;
    let manifest = serde_json::to_vec_pretty(&Manifest { seal })
        .map_err(|error| SessionError::cache("write", dir)(error.into()))?;
    fs::write(dir.join(MANIFEST), manifest).map_err(SessionError::cache("write", dir))?;
    if finished.exists() {
        // What is there was found broken. Sessions that use it keep their open files.
        fs::remove_dir_all(finished).map_err(SessionError::cache("replace", finished))?;
    }
    fs::rename(dir, finished).map_err(SessionError::cache("write", finished))
}

/// Removes all but the newest few libraries of other versions, and those that sessions use. Failing to is no reason not to start.
fn remove_old(cache: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    let mut old: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path != current && path.join(MANIFEST).exists())
        .filter_map(|path| {
            Some((
                fs::metadata(path.join(MANIFEST)).ok()?.modified().ok()?,
                path,
            ))
        })
        .collect();
    old.sort();
    let surplus = old.len().saturating_sub(KEPT);
    for (_, path) in old.into_iter().take(surplus) {
        if let Ok(manifest) = File::open(path.join(MANIFEST))
            && manifest.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(path);
        }
    }
}
