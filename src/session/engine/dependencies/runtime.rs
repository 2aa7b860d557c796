//! The runtime on which cells with `.await` run: one for the session, so that what one cell spawns goes on and is there for later ones.

use std::future::Future;
use std::io::Result;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static MAKING: Mutex<()> = Mutex::new(());

/// Runs a future to its end on the session's runtime.
///
/// # Errors
/// If the system has no thread for it.
pub fn block_on<F: Future>(future: F) -> Result<F::Output> {
    let runtime = runtime()?;
    // A cell that was stopped by force in the middle of this left the thread marked as one that runs futures.
    Ok(tokio::task::block_in_place(|| runtime.block_on(future)))
}

fn runtime() -> Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if RUNTIME.get().is_none() {
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let _ = RUNTIME.set(runtime);
    }
    RUNTIME
        .get()
        .ok_or_else(|| std::io::Error::other("there is no runtime"))
}
