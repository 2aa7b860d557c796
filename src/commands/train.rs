//! `glassbox train`: the file of a run in, a trained model and its log out.
//!
//! The file is read, trained from and saved by the prelude (`headless`); here are only the stages and their exit codes.

use std::path::PathBuf;

use clap::Args;

use super::SessionArgs;
use super::failure::{Exit, Failure};
use super::staged::{self, Stage};

/// Train a model as a file says, without a notebook
///
/// The file names model, settings, data, trainer and output folder; a cell writes one with `RunConfig { … }.write("run.toml")?`.
/// Into the output folder go the file with every setting (run.toml), each step (log.jsonl, and events for TensorBoard), the curve, the
/// trainer's checkpoint and the model. ctrl-c, and SIGTERM as batch systems send it, end training after the last whole step and save; --resume
/// goes on with the numbers that the run would have had.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox train run.toml
  glassbox train run.toml --resume
  glassbox train run.toml > result.txt 2> log.txt     progress comes as lines, one in ten seconds
  glassbox evaluate runs/first

A small run.toml, which learns to describe drawn shapes in a minute:
  output = \"runs/first\"
  seed = 0

  [model]
  preset = \"tiny\"            # or image_encoder and llm: folders, or names on the hub; fine_tune: a folder to go on with

  [settings]                 # on top of the model's own; name = \"blog\" begins with another preset
  query_text = \"This image contains:\"
  projector = \"mlp2x_gelu\"
  llm_lora = { r = 8, lora_alpha = 16.0 }

  [data]
  kind = \"shapes\"            # or coco, karpathy, image_folder, parquet, text_files, conversations, with their folders
  train = 2000

  [trainer]                  # every field of TrainerSettings
  steps = 700
  learning_rate = 0.003
  schedule = { warmup_cosine = { warmup = 0.05, floor = 0.05 } }

  [evaluate]
  pictures = 200

Exit codes: 3 the file is wrong (a key that there is not is named with its line and the nearest one that there is), 5 the output folder
can't be written or holds another run, 1 training failed, 130 stopped and saved. `glassbox --help` lists all.")]
pub struct TrainArgs {
    /// The file of the run, TOML or (by its name) JSON
    #[arg(value_name = "CONFIG")]
    config: PathBuf,

    /// Go on with the run in the output folder
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    session: SessionArgs,
}

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<Exit, Failure> {
    let config = staged::literal(&args.config)?;
    let resume = match args.resume {
        true => "Resume::Yes",
        false => "Resume::No",
    };
    let stage = |code: String, exit| Stage { code, exit };
    let stages = [
        stage(
            format!("let run = RunConfig::read({config})?;"),
            Exit::BadNotebook,
        ),
        stage(format!("run.prepare({resume})?;"), Exit::NotWritten),
        stage(format!("run.train({resume})?"), Exit::CellFailed),
    ];
    staged::run(&stages, &args.session)
}
