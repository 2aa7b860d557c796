//! `glassbox evaluate`: a run, or the file of one, in, scores beside baselines out.

use std::path::PathBuf;

use clap::Args;

use super::SessionArgs;
use super::failure::{Exit, Failure};
use super::staged::{self, Stage};

/// Score the model of a run on held-out pictures, beside baselines
///
/// The metrics are those of the file's section [evaluate], or all that fit its data. Beside the model stand the same model with a black
/// picture and with another one's, and the most frequent caption; in brackets 95% intervals. The table goes to standard output and into the run's
/// folder as scores.txt (of another checkpoint than the last: scores-best.txt, scores-step-00000100.txt); its title says what was scored.
/// Under mpirun or srun each process answers its part of the pictures, and the first one writes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox evaluate runs/first
  glassbox evaluate run.toml > scores.txt
  glassbox evaluate runs/first --checkpoint best

Exit codes: 3 the file is wrong, 1 there is no model yet or evaluating failed, 130 stopped. `glassbox --help` lists all.")]
pub struct EvaluateArgs {
    /// The folder of a run, or its file
    #[arg(value_name = "CONFIG-OR-RUN")]
    run: PathBuf,

    /// Which state of the model: last, best (by the trainer's best_by) or step-N, if that checkpoint is kept
    #[arg(long, value_name = "last|best|step-N", default_value = "last", value_parser = scored)]
    checkpoint: String,

    #[command(flatten)]
    session: SessionArgs,
}

/// What `--checkpoint` says, in Rust.
fn scored(text: &str) -> Result<String, String> {
    let step = text.strip_prefix("step-").map(str::parse::<usize>);
    match (text, step) {
        ("last", _) => Ok("Scored::Last".to_owned()),
        ("best", _) => Ok("Scored::Best".to_owned()),
        (_, Some(Ok(step))) => Ok(format!("Scored::Step({step})")),
        _ => Err(
            "it is last, best, or step-N with the number of a step, such as step-100".to_owned(),
        ),
    }
}

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> Result<Exit, Failure> {
    let run = staged::literal(&args.run)?;
    let stage = |code: String, exit| Stage { code, exit };
    let stages = [
        stage(
            format!("let run = RunConfig::of_run({run})?;"),
            Exit::BadNotebook,
        ),
        stage(
            format!("run.evaluate_at({})?", args.checkpoint),
            Exit::CellFailed,
        ),
    ];
    staged::run(&stages, &args.session)
}
