//! `glassbox runs`: a folder of runs in, their table out.

use std::path::PathBuf;

use clap::Args;

use super::SessionArgs;
use super::failure::{Exit, Failure};
use super::staged::{self, Stage};

/// List the runs of a folder: state, steps, losses, and the settings in which they differ
///
/// Of a sweep's folder all its runs are listed, those that wait too. Runs may go on meanwhile, here or on other machines.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox runs runs
  glassbox runs runs/first > table.txt
  watch -n 60 glassbox runs runs/first

Exit codes: 1 there is no run in the folder. `glassbox --help` lists all.")]
pub struct RunsArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    #[command(flatten)]
    session: SessionArgs,
}

/// Runs the command.
pub fn run(args: &RunsArgs) -> Result<Exit, Failure> {
    let folder = staged::literal(&args.folder)?;
    let code = match args.folder.join("sweep.json").exists() {
        true => format!("SweepFolder::open({folder})?"),
        false => format!("Runs::open({folder})?"),
    };
    let exit = Exit::CellFailed;
    staged::run(&[Stage { code, exit }], &args.session)
}
