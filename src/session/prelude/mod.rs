//! The prelude as one shared library, and the Rust that builds it.
//!
//! # Layout
//! - [`analysis`]: what of it rust-analyzer is shown
//! - [`cache`]: built once, kept
//! - [`metadata`]: the library's metadata by itself
//! - [`prelude_crates`]: the crates inside the library
//! - [`seal`]: whether what was built is still what it was
//! - [`source`]: where the prelude's source is
//! - [`status`]: whether it is there
//! - [`toolchain`]: rustc and cargo

pub(crate) mod analysis;
pub(crate) mod cache;
pub(crate) mod metadata;
pub(crate) mod one_file;
pub(crate) mod prelude_crates;
pub(crate) mod seal;
pub(crate) mod source;
pub(crate) mod status;
pub(crate) mod toolchain;

use std::path::PathBuf;

use super::{SessionError, StartEvent};

/// The prelude as a shared library, for who runs cells in another way than a session does.
pub(crate) struct SharedPrelude {
    /// Glassbox's cache folder for preludes.
    pub cache: PathBuf,
    /// The library.
    pub library: PathBuf,
    /// Where the metadata of the crates in it is.
    pub dependencies: PathBuf,
    /// The package that shows rust-analyzer what is in it.
    pub shown: PathBuf,
    /// The standard library's sources that rust-analyzer needs to read.
    pub standard_library: PathBuf,
    /// The variable that tells rust-analyzer so.
    pub standard_library_variable: &'static str,
    /// The compiler.
    pub rustc: PathBuf,
    /// Folder of the shared standard library that it was linked to.
    pub libdir: PathBuf,
}

/// The prelude without extra features, built now if it has not been.
pub(crate) fn shared_prelude(
    progress: &mut dyn FnMut(StartEvent),
) -> Result<SharedPrelude, SessionError> {
    progress(StartEvent::Checking);
    let toolchain = toolchain::Toolchain::find()?;
    let cache = cache::own_cache(None)?;
    let source = source::PreludeSource::find(None, &cache)?;
    let prelude = cache::get(&source, &toolchain, &[], &cache, progress)?;
    Ok(SharedPrelude {
        shown: analysis::prelude(&prelude.analysis),
        standard_library: analysis::library(&prelude.analysis),
        standard_library_variable: analysis::LIBRARY_VARIABLE,
        cache,
        library: prelude.library,
        dependencies: prelude.dependencies,
        libdir: toolchain.libdir,
        rustc: toolchain.rustc,
    })
}
