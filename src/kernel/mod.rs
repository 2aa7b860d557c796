//! The Jupyter kernel: the messaging protocol in front of [`crate::session::Session`].
//!
//! # Layout
//! - [`run`] reads the connection file and serves until told to stop;
//! - `server` owns the sockets and answers what needs no session, `worker` owns the session and runs the cells,
//!   `iopub` carries the outputs to all listeners, `heartbeat` echoes, `wire` is the only place that knows messages and their parts,
//!   `signature` whether they are genuine and new, `content` what has to stand in them, `zmtp` what carries them, `unsigned` what to say where nothing is signed;
//! - `causes` knows which request began which cell, `aids` are completion and inspection, `stdin` carries the questions of cells to the client, `comm` what controls and their
//!   halves in the browser say, `history`, `cursor`, `failure` and `lifetime` are what their names say;
//! - [`install`](mod@install) writes and removes kernelspecs, [`stock`] runs plain evcxr_jupyter with the prelude preloaded.
//!
//! A request's way: `zmtp` → `wire` (checked) → `server` → `worker` → `Session::evaluate` → events → `iopub`,
//! and the reply back through the socket that it came from.

mod aids;
mod causes;
mod comm;
mod content;
mod cursor;
mod failure;
mod heartbeat;
mod history;
pub mod install;
mod iopub;
mod lifetime;
mod server;
mod signature;
mod stdin;
pub mod stock;
mod unsigned;
mod wire;
mod worker;
mod zmtp;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jupyter_protocol::ConnectionInfo;

pub use install::{InstallOptions, Place, install, uninstall};

/// Serves the kernel that `connection_file` describes, until a client shuts it down.
///
/// # Errors
/// The file cannot be read, is not a connection file, or its ports are taken.
pub fn run(connection_file: &Path) -> Result<()> {
    let name = connection_file.display();
    let text = std::fs::read_to_string(connection_file)
        .with_context(|| format!("the connection file {name} cannot be read"))?;
    let connection: ConnectionInfo = serde_json::from_str(&text)
        .with_context(|| format!("{name} is not a Jupyter connection file"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(server::serve(&connection));
    // A cell or a build that does not end must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}
