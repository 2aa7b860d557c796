//! `glassbox repl`: starts a session and hands it to [`crate::repl`].

use std::io::IsTerminal as _;

use clap::Args;

use super::failure::{Exit, Failure};
use super::interrupts::Interrupts;
use super::terminal::Starting;
use super::{SessionArgs, say};
use crate::figures::time;
use crate::notebook::watch::Watch;
use crate::repl::{self, Left, Running};
use crate::session::{Session, SessionConfig};

/// Type Rust cell by cell, with the prelude loaded
///
/// ctrl-c interrupts a running cell and keeps the variables; a second ctrl-c ends it. When standard input is not a
/// terminal, cells are read from it, separated by blank lines, and the first cell that fails ends the program; cells that
/// ask for input get an error then.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox repl
  echo 'Tensor::arange(0f32, 4., &Device::Cpu)?.sum_all()?' | glassbox repl
  glassbox repl --features cuda < cells.rs

In the REPL, `:help` lists keys and commands. Cells are remembered in glassbox/history.txt below
$XDG_DATA_HOME (~/.local/share). Pictures are drawn by the protocol of kitty, WezTerm, Ghostty or
iTerm2, elsewhere in coloured half blocks; NO_COLOR=1 leaves colours and pictures out.")]
pub struct ReplArgs {
    #[command(flatten)]
    session: SessionArgs,
}

impl Running for Interrupts {
    fn cell_starts(&self, watch: &Watch) {
        self.send_to(watch);
    }

    fn cell_ended(&self) {
        self.release();
    }
}

/// Runs the command.
pub fn run(args: &ReplArgs) -> Result<Exit, Failure> {
    let no_session = |e: &dyn std::fmt::Display| Failure::new(Exit::NoSession, e);
    let interrupts =
        Interrupts::listen().map_err(|e| no_session(&format!("signals can't be handled: {e}")))?;
    let mut starting = Starting::new();
    let config = SessionConfig {
        features: args.session.features.clone(),
        ..SessionConfig::default()
    };
    let session = Session::start(config, &mut |event| starting.step(&event));
    let took = starting.end();
    let session = session.map_err(|e| no_session(&e))?;
    if std::io::stdin().is_terminal() {
        interrupts.typed();
        let version = env!("CARGO_PKG_VERSION");
        say(&format!(
            "glassbox {version}, ready in {}; :help for help, ctrl-d to leave",
            time(took)
        ));
    }
    match repl::run(session, &interrupts).map_err(|e| no_session(&e))? {
        Left::Ended => Ok(Exit::Done),
        Left::CellFailed => Ok(Exit::CellFailed),
        Left::Interrupted => Ok(Exit::Interrupted),
    }
}
