//! Crates that cells add with `:dep`, built as one shared library for all cells, as the prelude is: statics, thread-locals and the
//! runtime of `tokio` exist once a session.
//!
//! ```text
//! names and configurations ─ package ─▶ cargo metadata: which crates, which are local
//!                                └────▶ cargo rustc, each crate by the wrapper ─▶ libglassbox_crates_….so
//!                                                                                   └─ library: published in the cache
//! ```
//! The library holds what neither the prelude nor an earlier library of the session holds: crates that are there already are linked
//! from there, so a later `:dep` loses nothing, unless it has a crate built anew (with other features, or because its files changed).
//!
//! # Layout
//! - [`package`]: what cargo is asked to build, and what it says of it
//! - [`cargo`]: running it, so that it can be stopped
//! - [`wrapper`]: which crates are taken from the prelude
//! - [`library`]: the finished libraries, in `crates` beside the prelude's library; all sessions share them and cargo's target folder

mod cargo;
mod library;
mod package;
pub(crate) mod wrapper;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::private;
use crate::session::prelude::cache::CachedPrelude;
use crate::session::prelude::source::{PreludeSource, hex};
use crate::session::prelude::toolchain::Toolchain;
use cargo::Stopped;
use package::{Built, Package, Resolved};

pub(crate) use library::Library;
pub(crate) use package::{PACKAGE, RUNTIME};

/// Beside the prelude's library, else in the session's folder.
const FOLDER: &str = "crates";
/// How often a session that waits for another's build looks again.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// By these words the compiler says that crates of earlier libraries don't fit any more.
const CONFLICTS: [&str; 5] = [
    "E0460",
    "E0519",
    "StableCrateId",
    "only shows up once",
    "possibly newer version",
];

/// The crates that a session has added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Added {
    /// Names and configurations, as in a manifest.
    pub wanted: BTreeMap<String, String>,
    /// Where rustc finds those that cells can name.
    pub externs: BTreeMap<String, PathBuf>,
    /// What holds their code, in the order in which it needs each other.
    pub libraries: Vec<Arc<Library>>,
    /// The lock file with which they were built.
    pub lock: Option<PathBuf>,
    /// Crates that lie on this machine, and what their files looked like.
    locals: BTreeMap<PathBuf, String>,
}

/// What adding crates did.
#[derive(Debug)]
pub(crate) struct Change {
    pub added: Added,
    /// Names of crates that were there and had to be built anew: values of their types and their statics stay with what was.
    pub rebuilt: BTreeSet<String>,
    /// What is to be said of crates that the prelude has too.
    pub notes: Vec<String>,
}

/// Why there are no crates.
#[derive(Debug)]
pub(crate) enum Failure {
    Interrupted,
    /// In cargo's words, or the system's.
    Refused(String),
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Failure {
        match stopped {
            Stopped::Interrupted => Failure::Interrupted,
            Stopped::Failed(words) => Failure::Refused(format!(
                "cargo cannot add the crates, and nothing has changed:\n{words}"
            )),
        }
    }
}

fn refused(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::Refused(format!("the crates cannot be added: {path}: {error}"))
}

/// Builds the crates of a session.
#[derive(Debug)]
pub(crate) struct Workshop {
    toolchain: Toolchain,
    prelude: CachedPrelude,
    /// The prelude's lock file, so that what both need has the same version.
    lock: PathBuf,
    /// The binary that plays the wrapper.
    program: PathBuf,
    folder: PathBuf,
    /// Exists when the session is to stop what it does.
    interrupt: PathBuf,
}

impl Workshop {
    pub(crate) fn new(
        toolchain: &Toolchain,
        prelude: &CachedPrelude,
        source: &PreludeSource,
        program: &Path,
        session: &Path,
    ) -> Workshop {
        let shared = prelude.folder().join(FOLDER);
        // A cache that others have made may be there to be read only. What others may write to is not used.
        let usable = private::make_folders(&shared).is_ok()
            && matches!(private::checked(&shared), Ok(Ok(_)))
            && File::create(shared.join("lock")).is_ok_and(|file| file.set_len(0).is_ok());
        Workshop {
            toolchain: toolchain.clone(),
            prelude: prelude.clone(),
            lock: source.lock_file(),
            program: program.to_owned(),
            folder: if usable { shared } else { session.join(FOLDER) },
            interrupt: session.join(glassbox_wire::names::INTERRUPT_FILE),
        }
    }

    /// The crates `wanted`, of which a session has `before`. `tell` is told in a few words what is being done.
    pub(crate) fn add(
        &self,
        before: &Added,
        wanted: &BTreeMap<String, String>,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Change, Failure> {
        if wanted == &before.wanted && before.locals.is_empty() {
            return Ok(before.unchanged());
        }
        let lines: String = wanted
            .iter()
            .map(|(name, config)| format!("{name} = {config}\n"))
            .collect();
        // What depends on nothing that changes is built once for all sessions.
        if before.locals.is_empty()
            && let Some(library) = self.finished(&lines, &before.libraries, "")
        {
            return Ok(self.change(before, wanted, before.libraries.clone(), library));
        }
        private::make_folders(&self.folder).map_err(refused(&self.folder))?;
        let _lock = self.wait(tell)?;
        // Cargo takes what it finds there for its own.
        if let Some(exposed) =
            private::exposed_below(&self.folder).map_err(refused(&self.folder))?
        {
            return Err(Failure::Refused(format!(
                "the crates cannot be added: {exposed}; remove {}, which is built anew",
                self.folder.display()
            )));
        }
        let package = Package::new(self.folder.join("packages").join(digest(&[&lines])));
        let lock = before.lock.as_deref().unwrap_or(&self.lock);
        package.write(&lines, lock).map_err(refused(&package.dir))?;
        tell("looking for crates");
        let mut resolved = package.resolve(&self.toolchain, &|| self.interrupted(), tell)?;
        if resolved.wants_runtime() {
            package
                .write_with_runtime(&lines, &self.folder)
                .map_err(refused(&package.dir))?;
            resolved = package.resolve(&self.toolchain, &|| self.interrupted(), tell)?;
        }
        if wanted == &before.wanted && resolved.locals == before.locals {
            return Ok(before.unchanged());
        }
        // Two states of the same files can't stand side by side.
        let edited = before
            .locals
            .iter()
            .any(|(folder, state)| resolved.locals.get(folder).is_some_and(|now| now != state));
        let chain = match edited {
            true => Vec::new(),
            false => before.libraries.clone(),
        };
        let (chain, library) =
            match self.library(&package, (wanted, &lines), chain, &resolved, tell) {
                Err(Failure::Refused(words))
                    if !before.libraries.is_empty()
                        && CONFLICTS.iter().any(|conflict| words.contains(conflict)) =>
                {
                    self.library(&package, (wanted, &lines), Vec::new(), &resolved, tell)?
                }
                made => made?,
            };
        let mut change = self.change(before, wanted, chain, library);
        change.added.locals = resolved.locals;
        Ok(change)
    }

    /// The library that holds what is resolved and not in `chain`, built now if it has not been.
    fn library(
        &self,
        package: &Package,
        (wanted, lines): (&BTreeMap<String, String>, &str),
        chain: Vec<Arc<Library>>,
        resolved: &Resolved,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(Vec<Arc<Library>>, Library), Failure> {
        let state: String = resolved
            .locals
            .iter()
            .map(|(folder, state)| format!("{}={state}\n", folder.display()))
            .collect();
        if let Some(library) = self.finished(lines, &chain, &state) {
            return Ok((chain, library));
        }
        let name = name(lines, &chain, &state);
        if Library::is_there(&self.folder, &name) {
            // It can't be used as it is (damaged, or others may change it), and its files are those of cargo's target folder under other names.
            let target = self.folder.join("target");
            if target.exists() {
                std::fs::remove_dir_all(&target).map_err(refused(&target))?;
            }
        }
        package
            .name(&name, resolved, &chain)
            .map_err(refused(&package.dir))?;
        let built = self.build(package, &name, resolved, wanted, &chain, tell)?;
        let library = Library::publish(&self.folder, &name, &built, &package.lock_file())
            .map_err(refused(&self.folder))?;
        Ok((chain, library))
    }

    fn build(
        &self,
        package: &Package,
        name: &str,
        resolved: &Resolved,
        wanted: &BTreeMap<String, String>,
        chain: &[Arc<Library>],
        tell: &mut dyn FnMut(&str),
    ) -> Result<Built, Failure> {
        let mut cargo = package.build(&self.toolchain, &self.folder.join("target"));
        let flags = [
            "-Cprefer-dynamic".to_owned(),
            format!("-Ldependency={}", self.prelude.dependencies.display()),
        ];
        cargo
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env("RUSTC_WRAPPER", &self.program)
            .env(wrapper::VARIABLE, self.prelude.folder())
            .arg("--extern")
            .arg(assigned("glassbox_prelude", &self.prelude.library));
        for library in chain {
            cargo
                .arg("--extern")
                .arg(assigned(&library.name, &library.file()))
                .arg("-L")
                .arg(assigned("dependency", &library.dependencies()));
        }
        let mut built = Built::new(name, self.toolchain.host());
        cargo::run(&mut cargo, &|| self.interrupted(), &mut |said| match said {
            cargo::Said::Json(line) => built.take(line),
            cargo::Said::Words(words) => {
                let words = words.trim();
                let (done, total) = (built.done(), resolved.packages);
                match words.strip_prefix("Compiling ") {
                    Some(krate) if done < total => {
                        tell(&format!("building crates, {done} of {total}: {krate}"));
                    }
                    Some(krate) => tell(&format!("building crates: {krate}")),
                    None => tell(words),
                }
            }
            cargo::Said::Nothing => tell(""),
        })?;
        built
            .finish(resolved, wanted, &self.prelude)
            .map_err(Failure::Refused)?;
        Ok(built)
    }

    fn finished(&self, lines: &str, chain: &[Arc<Library>], state: &str) -> Option<Library> {
        Library::open(&self.folder, &name(lines, chain, state))
    }

    fn change(
        &self,
        before: &Added,
        wanted: &BTreeMap<String, String>,
        chain: Vec<Arc<Library>>,
        library: Library,
    ) -> Change {
        let now: BTreeSet<&str> = library.crates().map(|(file, _)| file).collect();
        let restarted = chain.is_empty();
        let rebuilt = before
            .libraries
            .iter()
            .flat_map(|earlier| earlier.crates())
            .filter(|(file, _)| restarted || !now.contains(file))
            .map(|(_, name)| name.to_owned())
            .collect();
        let notes = library.notes();
        let externs = library.externs(&self.prelude.dependencies);
        let lock = Some(library.lock_file());
        let mut libraries = chain;
        libraries.push(Arc::new(library));
        Change {
            added: Added {
                wanted: wanted.clone(),
                externs,
                libraries,
                lock,
                locals: BTreeMap::new(),
            },
            rebuilt,
            notes,
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.exists()
    }

    /// Waits for the right to build. It ends with the process that holds it, however that ends.
    fn wait(&self, tell: &mut dyn FnMut(&str)) -> Result<File, Failure> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(refused(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(refused(&path)(error)),
                Err(TryLockError::WouldBlock) if self.interrupted() => {
                    return Err(Failure::Interrupted);
                }
                Err(TryLockError::WouldBlock) => tell("another session builds crates: waiting"),
            }
            std::thread::sleep(LOCK_POLL);
        }
    }
}

impl Added {
    fn unchanged(&self) -> Change {
        Change {
            added: self.clone(),
            rebuilt: BTreeSet::new(),
            notes: Vec::new(),
        }
    }
}

/// The name of the library with these contents.
fn name(lines: &str, chain: &[Arc<Library>], state: &str) -> String {
    let mut parts = vec![lines, state];
    parts.extend(chain.iter().map(|library| library.name.as_str()));
    format!("glassbox_crates_{}", digest(&parts))
}

fn digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize()[..8])
}

/// `name=path`, as rustc wants it.
pub(crate) fn assigned(name: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(name);
    text.push("=");
    text.push(path);
    text
}

/// The crates that code names by paths: `a` of `a::b::C<d::E>` and `d`.
pub(crate) fn crates_in(path: &str) -> BTreeSet<&str> {
    let bytes = path.as_bytes();
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < bytes.len() {
        if !part(bytes[at]) {
            at += 1;
            continue;
        }
        let end = at + bytes[at..].iter().take_while(|byte| part(**byte)).count();
        if path[end..].starts_with("::") && !path[..at].ends_with("::") {
            found.insert(&path[at..end]);
        }
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_of_a_type_are_the_heads_of_its_paths() {
        let heads = |path: &'static str| crates_in(path).into_iter().collect::<Vec<_>>();
        assert_eq!(
            heads("alloc::vec::Vec<tokio::sync::Mutex<(u8, é_1::A)>>"),
            ["alloc", "tokio", "é_1"]
        );
        assert_eq!(heads("&dyn Fn(u8) -> u8"), [""; 0]);
    }
}
