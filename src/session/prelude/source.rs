//! Where the prelude's source is: the folder named by `GLASSBOX_PRELUDE_SRC`, else the checkout that this binary was
//! built from, else the copy inside the binary. A checkout that others may write to is refused; one that is somebody else's, on a machine
//! that the binary was brought to, is none.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::private::{self, Exposed};
use crate::session::error::SessionError;

/// Folders of the package that do not enter the library.
const LEFT_OUT: [&str; 4] = ["target", "tests", "examples", "benches"];
/// Files of the workspace that do.
const WORKSPACE_FILES: [&str; 2] = ["Cargo.toml", "Cargo.lock"];

/// A copy of the source: paths relative to the workspace, and contents.
pub type EmbeddedSource = &'static [(&'static str, &'static [u8])];

static EMBEDDED: OnceLock<EmbeddedSource> = OnceLock::new();

/// Tells sessions of the copy of the prelude's source inside the binary, for machines without the checkout.
pub fn embed_prelude_source(files: EmbeddedSource) {
    // A second call would bring the same copy.
    let _ = EMBEDDED.set(files);
}

/// The prelude's package and the workspace around it.
#[derive(Clone, Debug)]
pub(crate) struct PreludeSource {
    package: PathBuf,
    workspace: PathBuf,
}

/// The checkout that this program was built from, if it is here and nobody else could put something in it.
pub(crate) fn own_checkout() -> Option<&'static Path> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    matches!(private::checked(checkout), Ok(Ok(_))).then_some(checkout)
}

impl PreludeSource {
    /// Finds the source: in `named` if given. `cache` is where the embedded copy is unpacked if it is needed.
    pub(crate) fn find(named: Option<&Path>, cache: &Path) -> Result<PreludeSource, SessionError> {
        let named = match named {
            Some(dir) => Some(dir.to_owned()),
            None => std::env::var_os("GLASSBOX_PRELUDE_SRC")
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from),
        };
        if let Some(dir) = named {
            if let Ok(Err(exposed)) = private::checked(&dir) {
                return Err(SessionError::PreludeSource {
                    reason: format!("{exposed}: what others put there would run as you"),
                });
            }
            return PreludeSource::at(&dir).ok_or_else(|| SessionError::PreludeSource {
                reason: format!(
                    "{} was named for it, but holds no Cargo.toml and src/lib.rs",
                    dir.display()
                ),
            });
        }
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("prelude");
        match private::checked(&checkout) {
            Ok(Ok(_)) => {
                if let Some(source) = PreludeSource::at(&checkout) {
                    return Ok(source);
                }
            }
            Ok(Err(exposed @ Exposed::Mode { .. })) => {
                return Err(SessionError::PreludeSource {
                    reason: format!(
                        "{exposed}: what others put into the checkout that this program was built from would run as you"
                    ),
                });
            }
            _ => {}
        }
        match EMBEDDED.get().filter(|files| !files.is_empty()) {
            Some(files) => unpack(files, cache),
            None => Err(SessionError::PreludeSource {
                reason: format!(
                    "the checkout {} is gone and this program carries no copy; set GLASSBOX_PRELUDE_SRC to the folder `prelude` of a checkout",
                    checkout.display()
                ),
            }),
        }
    }

    fn at(package: &Path) -> Option<PreludeSource> {
        let package = package.canonicalize().ok()?;
        if !package.join("Cargo.toml").is_file() || !package.join("src/lib.rs").is_file() {
            return None;
        }
        let workspace = match package.parent() {
            Some(parent)
                if !package.join("Cargo.lock").exists() && parent.join("Cargo.lock").exists() =>
            {
                parent.to_owned()
            }
            _ => package.clone(),
        };
        Some(PreludeSource { package, workspace })
    }

    /// The package's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.package
    }

    /// The package's `Cargo.toml`.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.package.join("Cargo.toml")
    }

    /// The versions of the crates that it is built with.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.workspace.join("Cargo.lock")
    }

    /// A name for everything that enters the library: the source, the workspace's settings, and `extra`.
    pub(crate) fn key(&self, extra: &[&str]) -> Result<String, SessionError> {
        let mut files = Vec::new();
        list(&self.package, true, &mut files)
            .map_err(SessionError::io(format!("read {}", self.package.display())))?;
        files.sort();
        if self.workspace != self.package {
            files.extend(
                WORKSPACE_FILES
                    .map(|name| self.workspace.join(name))
                    .into_iter()
                    .filter(|file| file.exists()),
            );
        }
        let mut digest = Sha256::new();
        for text in extra {
            add(&mut digest, text.as_bytes());
        }
        for file in files {
            let name = file.strip_prefix(&self.workspace).unwrap_or(&file);
            add(&mut digest, name.to_string_lossy().as_bytes());
            add(
                &mut digest,
                &fs::read(&file).map_err(SessionError::io(format!("read {}", file.display())))?,
            );
        }
        Ok(hex(&digest.finalize()[..12]))
    }
}

/// Adds a part so that two different lists of parts never look the same.
fn add(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_le_bytes());
    digest.update(part);
}

fn list(dir: &Path, top: bool, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let left_out = top && LEFT_OUT.iter().any(|left_out| name == *left_out);
        if left_out || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(&entry.path(), false, files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Writes the embedded copy to a folder named by its content, once.
fn unpack(files: EmbeddedSource, cache: &Path) -> Result<PreludeSource, SessionError> {
    let dir = written(files, &cache.join("source"))?;
    PreludeSource::at(&dir.join("prelude")).ok_or_else(|| SessionError::PreludeSource {
        reason: format!(
            "the copy that was unpacked to {} is not whole; remove that folder",
            dir.display()
        ),
    })
}

/// Writes files to a folder below `parent` that is named by their content, once, and returns that folder.
pub(crate) fn written(files: EmbeddedSource, parent: &Path) -> Result<PathBuf, SessionError> {
    let mut digest = Sha256::new();
    for (name, content) in files {
        add(&mut digest, name.as_bytes());
        add(&mut digest, content);
    }
    let dir = parent.join(hex(&digest.finalize()[..12]));
    // What stands there is what was carried, or it is written anew.
    let whole = files
        .iter()
        .all(|(name, content)| fs::read(dir.join(name)).is_ok_and(|read| read == *content));
    if dir.exists() && !whole {
        fs::remove_dir_all(&dir).map_err(SessionError::cache("replace", &dir))?;
    }
    if !dir.exists() {
        fs::create_dir_all(parent).map_err(SessionError::cache("create", parent))?;
        let staged =
            tempfile::tempdir_in(parent).map_err(SessionError::cache("write to", parent))?;
        for (name, content) in files {
            let file = staged.path().join(name);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).map_err(SessionError::cache("create", folder))?;
            }
            fs::write(&file, content).map_err(SessionError::cache("write", &file))?;
        }
        // Another session may have been faster; what it wrote is the same.
        if let Err(error) = fs::rename(staged.path(), &dir)
            && !dir.exists()
        {
            return Err(SessionError::cache("write", &dir)(error));
        }
    }
    Ok(dir)
}

/// Bytes as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(root: &Path) -> PreludeSource {
        fs::create_dir_all(root.join("prelude/src")).unwrap();
        fs::create_dir_all(root.join("prelude/tests")).unwrap();
        fs::write(root.join("Cargo.lock"), "# lock").unwrap();
        fs::write(root.join("prelude/Cargo.toml"), "[package]").unwrap();
        fs::write(root.join("prelude/src/lib.rs"), "// one").unwrap();
        PreludeSource::at(&root.join("prelude")).unwrap()
    }

    #[test]
    fn the_key_follows_everything_that_enters_the_library_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let source = package(root.path());
        let key = || source.key(&["rustc 1"]).unwrap();
        let first = key();
        assert_eq!(first, key());
        fs::write(root.path().join("prelude/tests/parity.rs"), "test").unwrap();
        assert_eq!(first, key());
        assert_ne!(first, source.key(&["rustc 2"]).unwrap());
        fs::write(root.path().join("prelude/src/lib.rs"), "// two").unwrap();
        let second = key();
        assert_ne!(first, second);
        fs::write(root.path().join("Cargo.lock"), "# other").unwrap();
        assert_ne!(second, key());
    }

    #[test]
    fn the_embedded_copy_is_unpacked_once() {
        let cache = tempfile::tempdir().unwrap();
        let files: EmbeddedSource = &[
            ("prelude/Cargo.toml", b"[package]"),
            ("prelude/src/lib.rs", b"//"),
            ("Cargo.lock", b"#"),
        ];
        let first = unpack(files, cache.path()).unwrap();
        let second = unpack(files, cache.path()).unwrap();
        assert_eq!(first.dir(), second.dir());
        assert_eq!(
            fs::read_dir(cache.path().join("source")).unwrap().count(),
            1
        );
    }
}
