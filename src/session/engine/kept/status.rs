//! What of earlier cells is kept, for `glassbox doctor`: where, how much, and why nothing is, if so.

use std::path::PathBuf;

use super::store::{self, MEGABYTE, MEGABYTES, VARIABLE};
use crate::private;
use crate::session::error::SessionError;
use crate::session::prelude::cache::{cells, own_cache};

/// What is kept of cells that were compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCells {
    /// Where.
    pub folder: PathBuf,
    /// How many files.
    pub files: usize,
    /// How many bytes.
    pub bytes: u64,
    /// How many bytes there may be; `None` if nothing is kept.
    pub limit: Option<u64>,
    /// What is wrong with the folder, or with the variable that sets the limit.
    pub fault: Option<String>,
}

/// Looks at what is kept, and changes nothing.
///
/// # Errors
/// There is no cache folder that can be used.
pub fn kept_cells() -> Result<KeptCells, SessionError> {
    let folder = cells(&own_cache(None)?);
    let said = std::env::var(VARIABLE).ok();
    let (limit, mut fault) = match store::limit(said.as_deref()) {
        Ok(limit) => (limit, None),
        Err(words) => (Some(MEGABYTES * MEGABYTE), Some(words)),
    };
    if folder.exists() {
        match private::checked(&folder) {
            Ok(Ok(_)) => {}
            Ok(Err(exposed)) => fault = Some(exposed.to_string()),
            Err(error) => fault = Some(format!("{}: {error}", folder.display())),
        }
    }
    let files = store::files(&folder);
    Ok(KeptCells {
        files: files.len(),
        bytes: files.iter().map(|(_, size, _)| size).sum(),
        folder,
        limit,
        fault,
    })
}
