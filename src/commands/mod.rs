//! The command line: `glassbox run`, `train`, `sweep`, `runs`, `evaluate`, `repl`, `kernel`, `install`, `uninstall`, `doctor`.
//!
//! arguments → one file per command → exit code. Results go to standard output, progress and complaints to standard
//! error, so that a script can read the one and a person the other.

mod doctor;
mod evaluate;
mod failure;
mod interrupts;
mod kernel;
mod repl;
mod run;
mod runs;
mod staged;
mod sweep;
mod terminal;
mod train;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::private;

pub use failure::Exit;

use crate::terminal_text::tame;

/// What the exit codes mean; shown by `glassbox --help`.
const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a cell, training or evaluating failed, or something that is needed is missing (doctor)
  2    the command line is wrong
  3    the notebook, a parameter or the file of a run is wrong
  4    the session can't start
  5    an output can't be written
  130  interrupted with ctrl-c

First steps:
  glassbox doctor                            see whether everything is in place
  glassbox run notebooks/00_tour.ipynb       execute a notebook
  glassbox train run.toml                    train without a notebook
  glassbox repl                              try things line by line
  glassbox install && jupyter lab            use it from Jupyter";

#[derive(Parser)]
#[command(name = "glassbox", version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Train(train::TrainArgs),
    Sweep(sweep::SweepArgs),
    Runs(runs::RunsArgs),
    Evaluate(evaluate::EvaluateArgs),
    Repl(repl::ReplArgs),
    Kernel(kernel::KernelArgs),
    Install(kernel::InstallArgs),
    Uninstall(kernel::UninstallArgs),
    Doctor(doctor::DoctorArgs),
}

/// Options of every command that starts a session.
#[derive(Args, Debug, Clone, Default)]
struct SessionArgs {
    /// Build the prelude with these features: `cuda` for an NVIDIA GPU, `candle-transformers` for candle's own models
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        env = "GLASSBOX_FEATURES"
    )]
    features: Vec<String>,
}

/// Reads the command line, does what it says, reports what went wrong.
pub fn main() -> ExitCode {
    private::keep_to_oneself();
    hand_back_large_blocks();
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Repl(args) => repl::run(&args),
        Command::Kernel(args) => kernel::serve(&args),
        Command::Install(args) => kernel::install(&args),
        Command::Uninstall(args) => kernel::uninstall(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            terminal::complain(&failure.to_string());
            failure.exit.into()
        }
    }
}

/// From how many bytes on a block of memory goes back to the system at once when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: libc::c_int = 256 << 10;

/// Has the allocator give large blocks back: a display of some megabytes passes through several on its way to the front end, and by
/// default the allocator learns from the first ones to keep all later ones.
fn hand_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets a number of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
    }
}

/// Writes a line of results. A reader that has gone away (`| head`) is no error. Of several processes the first one writes.
fn say(line: &str) {
    if !crate::ranks::follows() {
        drop(writeln!(std::io::stdout(), "{}", tame(line)));
    }
}
