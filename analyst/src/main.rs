//! `glassbox-analyst`: rust-analyzer and evcxr, in a program that Glassbox starts when they are needed and can do without.
//!
//! ```text
//! --answer          orders on stdin ─▶ World ─ View ─▶ propose, explain ─▶ answers on stdout
//! --control_file F  the stock kernel: evcxr_jupyter serves a connection file
//! ```
//! It answers one question after the other on one thread. rust-analyzer can panic, and think for long: then this process ends, or is ended,
//! and Glassbox starts another one.
//!
//! # Layout
//! - [`world`]: rust-analyzer's database; [`answers`]: orders taken one by one
//! - [`propose`], [`explain`]: completion and inspection; [`type_page`], [`catalogue`]: all of a type, and of the prelude; [`markdown`]: how
//!   documentation is shown
//! - [`stock`]: evcxr's roles

mod answers;
mod catalogue;
mod explain;
mod markdown;
mod propose;
mod stock;
mod type_page;
mod world;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use glassbox_analyst_wire::{ANSWER, KEY, PREPARE_STOCK, SERVE_STOCK};

fn main() -> ExitCode {
    stock::hook();
    match role() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever reads it may be gone.
            let _ = writeln!(std::io::stderr(), "glassbox-analyst: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn role() -> Result<()> {
    let first = std::env::args().nth(1).unwrap_or_default();
    match first.as_str() {
        KEY => Ok(writeln!(
            std::io::stdout(),
            "{}",
            env!("GLASSBOX_ANALYST_KEY")
        )?),
        ANSWER => answers::run(),
        PREPARE_STOCK => stock::load_once(),
        SERVE_STOCK => stock::serve(),
        _ => bail!("`glassbox` starts this program, for completion and inspection in its sessions"),
    }
}
