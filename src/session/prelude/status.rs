//! What is known of the built prelude without building or starting anything.

use std::path::PathBuf;

use super::cache::{key, open, own_cache};
use super::source::PreludeSource;
use super::toolchain::Toolchain;
use crate::session::error::SessionError;

/// Whether the next session finds a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreludeState {
    /// It is there and whole.
    Built,
    /// It is there and damaged; the next session builds it again.
    Broken,
    /// The next session builds it.
    NotBuilt,
}

/// The library that a session with the present compiler and source would use.
#[derive(Clone, Debug)]
pub struct PreludeStatus {
    /// The folder in which libraries are kept.
    pub cache: PathBuf,
    /// The library's folder in it.
    pub key: String,
    /// Whether it is there.
    pub state: PreludeState,
}

/// Looks for the library for these features.
///
/// # Errors
/// There is no usable compiler, no source of the prelude, or no cache folder.
pub fn prelude_status(features: &[String]) -> Result<PreludeStatus, SessionError> {
    let toolchain = Toolchain::find()?;
    let cache = own_cache(None)?;
    let source = PreludeSource::find(None, &cache)?;
    let key = key(&source, &toolchain, features)?;
    let folder = cache.join(&key);
    let state = match open(&folder)? {
        Some(_) => PreludeState::Built,
        None if folder.exists() => PreludeState::Broken,
        None => PreludeState::NotBuilt,
    };
    Ok(PreludeStatus { cache, key, state })
}
