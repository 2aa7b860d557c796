//! The folder layout of the Hugging Face cache, shared with Python's `huggingface_hub`:
//!
//! ```text
//! CACHE/models--OWNER--NAME/
//!   refs/main                    the commit that the branch stood at
//!   snapshots/COMMIT/config.json a link to ../../blobs/CHECKSUM
//!   blobs/CHECKSUM               the bytes: sha256 of large files, git's object id of small ones
//!   blobs/CHECKSUM.incomplete    a download that can go on
//! CACHE/.locks/models--OWNER--NAME/CHECKSUM.lock
//! ```

use std::path::{Path, PathBuf};

use super::error::{HubError, HubResult};

/// A model's place in the cache, whether anything is there or not.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::hub::{CachedModel, HubOptions};
///
/// # fn main() -> Result<()> {
/// let cache = std::env::temp_dir().join("no-models-here");
/// let options = HubOptions::from_env().cache_dir(&cache);
/// let model = CachedModel::new(&options.cache_dir, "owner/name", "main")?;
/// assert!(model.snapshot().is_none()); // nothing of it was fetched yet
/// assert!(CachedModel::new(&cache, "../name", "main").is_err()); // no name of a repository
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct CachedModel {
    model: String,
    revision: String,
    folder: PathBuf,
    #[cfg_attr(not(feature = "download"), allow(dead_code))] // only who fetches locks
    locks: PathBuf,
}

impl CachedModel {
    /// The place of `model` at `revision` (branch, tag or commit) in the cache `cache`.
    ///
    /// # Errors
    /// [`HubError::BadName`] if the name or the revision cannot be a repository's: neither can lead out of the cache.
    pub fn new(cache: &Path, model: &str, revision: &str) -> HubResult<Self> {
        if !is_repository_name(model) {
            return Err(HubError::BadName {
                name: model.to_owned(),
            });
        }
        if !is_relative(revision) {
            return Err(HubError::BadName {
                name: format!("{model} at revision {revision}"),
            });
        }
        let name = format!("models--{}", model.replace('/', "--"));
        Ok(Self {
            model: model.to_owned(),
            revision: revision.to_owned(),
            folder: cache.join(&name),
            locks: cache.join(".locks").join(name),
        })
    }

    /// The repository's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The folder of the revision, if the cache has it (perhaps not with all files).
    pub fn snapshot(&self) -> Option<PathBuf> {
        let commit = if is_hex(&self.revision, 40) {
            self.revision.clone()
        } else {
            let text = crate::files::text(self.reference()).ok()?;
            text.trim().to_owned()
        };
        let folder = self.folder.join("snapshots").join(commit);
        folder.is_dir().then_some(folder)
    }

    /// The file that says which commit the revision stood at.
    pub(super) fn reference(&self) -> PathBuf {
        self.folder.join("refs").join(&self.revision)
    }
}

#[cfg(feature = "download")]
impl CachedModel {
    /// Where the links to one commit's files are.
    pub(super) fn snapshot_of(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where the bytes with this checksum are.
    pub(super) fn blob(&self, checksum: &str) -> PathBuf {
        self.folder.join("blobs").join(checksum)
    }

    /// What a process holds while it fetches the bytes with this checksum.
    pub(super) fn lock(&self, checksum: &str) -> PathBuf {
        self.locks.join(format!("{checksum}.lock"))
    }
}

/// `name` or `owner/name`, as the hub allows them.
fn is_repository_name(name: &str) -> bool {
    let part_ok = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
            && !part.contains("..")
            && !part.contains("--")
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    name.len() <= 96 && name.split('/').count() <= 2 && name.split('/').all(part_ok)
}

/// A path that stays below the folder it is joined to.
pub(super) fn is_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', '\0'])
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// `length` hexadecimal digits.
pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_the_cache() {
        for name in [
            "", "/", "a/", "a/b/c", "../x", "a/..", "a b", "a--b", ".hidden", "a/b?x",
        ] {
            assert!(
                CachedModel::new(Path::new("/c"), name, "main").is_err(),
                "{name}"
            );
        }
        for revision in ["", "../../x", "/etc", "a//b", "a\\b"] {
            assert!(
                CachedModel::new(Path::new("/c"), "a/b", revision).is_err(),
                "{revision}"
            );
        }
        assert!(
            CachedModel::new(
                Path::new("/c"),
                "microsoft/Phi-3-mini-4k-instruct",
                "refs/pr/5"
            )
            .is_ok()
        );
    }
}
