//! `glassbox sweep`: the file of a run and what is varied in, a run for each combination out, here or as a job array of Slurm.
//!
//! The runs are planned, trained and listed by the prelude (`headless::sweep`); here are only the stages and their exit codes.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::{Exit, Failure};
use super::staged::{self, Stage};
use super::{SessionArgs, say};

/// Train every combination of some settings, here one after another or on a cluster
///
/// Each combination becomes a folder with a run.toml in the sweep's folder: 000, 001 and so on, the last --over changing fastest. With --slurm
/// nothing is trained: a script is written whose job array has one run in each task; a task that is put back into the queue goes on from
/// its last checkpoint. CONFIG may be the folder of a sweep that is there: then its runs that are not finished go on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox sweep run.toml --over trainer.learning_rate=1e-3,3e-3 --over seed=1,2,3
  glassbox sweep runs/first                              go on with what is not finished
  glassbox sweep runs/first --task 4                     this run alone
  glassbox runs runs/first                               the table

  glassbox sweep run.toml --over settings.llm_lora.r=2,8,32 --slurm sweep.sbatch --time 2:00:00 --array-limit 4
  sbatch sweep.sbatch
  glassbox sweep runs/first --slurm again.sbatch         a script for the runs that are not finished
  glassbox sweep runs/first --slurm ranks.sbatch --ntasks 4 --cpus 8     each run shared by 4 ranks (MPI)

What is varied is named by its path in the file: trainer.steps is `steps` below [trainer], seed stands at the top. Values are written as in
TOML, words without quotes: --over 'settings.llm_lora=none,{ r = 8, lora_alpha = 16.0 }'. All nodes are to see the folder in which the
command is given, and this program. Tasks are told to stop shortly before their time limit, save, and queue again.

Exit codes: 3 the file or what is varied is wrong, 5 the sweep's folder or the script is there already or can't be written, 1 a run failed
or is not finished, 130 stopped and saved. `glassbox --help` lists all.")]
pub struct SweepArgs {
    /// The file of a run, or the folder of a sweep that is there
    #[arg(value_name = "CONFIG-OR-SWEEP")]
    config: PathBuf,

    /// A setting and its values; given several times: every combination
    #[arg(long, value_name = "SETTING=VALUE,VALUE")]
    over: Vec<String>,

    /// The sweep's folder, in place of the file's `output`
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Go on with the sweep in the folder, if it is the same one
    #[arg(long)]
    resume: bool,

    /// Train this run alone, by its number from 0
    #[arg(long, value_name = "K", conflicts_with_all = ["slurm", "over"])]
    task: Option<usize>,

    /// Train nothing and write a script for `sbatch`, one run a task
    #[arg(long, value_name = "FILE", help_heading = "Slurm")]
    slurm: Option<PathBuf>,

    /// So many tasks at once, at most
    #[arg(long, value_name = "N", requires = "slurm", help_heading = "Slurm")]
    array_limit: Option<usize>,

    /// The time limit of a task: 30 (minutes), 2:00:00, 1-12 (days-hours)
    #[arg(long, value_name = "TIME", requires = "slurm", help_heading = "Slurm")]
    time: Option<String>,

    /// The partition
    #[arg(long, value_name = "NAME", requires = "slurm", help_heading = "Slurm")]
    partition: Option<String>,

    /// Ranks that share each run, under --launcher [default: 1]
    #[arg(long, value_name = "N", requires = "slurm", help_heading = "Slurm")]
    ntasks: Option<usize>,

    /// What starts several ranks: "srun --mpi=pmix", "srun --mpi=pmi2" (MPICH) or "mpirun --bind-to none" [default: srun --mpi=pmix]
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "ntasks",
        help_heading = "Slurm"
    )]
    launcher: Option<String>,

    /// Processors of a rank [default: 1]
    #[arg(long, value_name = "N", requires = "slurm", help_heading = "Slurm")]
    cpus: Option<usize>,

    /// Memory of a task, such as 8G
    #[arg(long, value_name = "SIZE", requires = "slurm", help_heading = "Slurm")]
    memory: Option<String>,

    /// More options of sbatch, one each time: --sbatch=--gres=gpu:1
    #[arg(
        long,
        value_name = "OPTION",
        requires = "slurm",
        allow_hyphen_values = true,
        help_heading = "Slurm"
    )]
    sbatch: Vec<String>,

    #[command(flatten)]
    session: SessionArgs,
}

/// Runs the command.
pub fn run(args: &SweepArgs) -> Result<Exit, Failure> {
    let mut stages = beginning(args)?;
    let stage = |code: &str, exit| Stage {
        code: code.to_owned(),
        exit,
    };
    if let Some(script) = &args.slurm {
        let job = job(args)?;
        let code = format!("let job = {job};\njob.check()?;");
        // What is wrong with it is said before a folder is written.
        stages.insert(0, stage(&code, Exit::Usage));
        let code = format!("sweep.slurm(&job, {})?;", staged::literal(script)?);
        stages.push(stage(&code, Exit::NotWritten));
        let exit = staged::run(&stages, &args.session)?;
        if exit == Exit::Done {
            let script = script.display();
            say(&format!(
                "{script} is written: `sbatch {script}` submits it, `glassbox runs` with the sweep's folder shows the table"
            ));
        }
        return Ok(exit);
    }
    match args.task {
        Some(task) => stages.push(stage(&format!("sweep.train({task})?"), Exit::CellFailed)),
        None => {
            stages.push(stage("sweep.train_all()?;", Exit::CellFailed));
            stages.push(stage("sweep.clone()", Exit::CellFailed));
            stages.push(stage("sweep.all_finished()?;", Exit::CellFailed));
        }
    }
    staged::run(&stages, &args.session)
}

/// The stages that read or write the sweep.
fn beginning(args: &SweepArgs) -> Result<Vec<Stage>, Failure> {
    let config = staged::literal(&args.config)?;
    let usage = |what: String| Err(Failure::new(Exit::Usage, what));
    if args.config.is_dir() {
        if !args.over.is_empty() || args.output.is_some() {
            return usage(format!(
                "{} is the folder of a sweep, which knows what it is over and where it lies: leave --over and --output out, or give the file of a run",
                args.config.display()
            ));
        }
        return Ok(vec![Stage {
            code: format!("let sweep = SweepFolder::open({config})?;"),
            exit: Exit::BadNotebook,
        }]);
    }
    if args.task.is_some() {
        return usage(format!(
            "--task is of a sweep that is written, and {} is no folder: give the sweep's",
            args.config.display()
        ));
    }
    let output = match &args.output {
        Some(output) => format!("Some(std::path::Path::new({}))", staged::literal(output)?),
        None => "None".to_owned(),
    };
    let resume = match args.resume {
        true => "Resume::Yes",
        false => "Resume::No",
    };
    Ok(vec![
        Stage {
            code: format!(
                "let over: Vec<&str> = vec!{:?};\nlet draft = SweepDraft::new({config}, over, {output})?;",
                args.over
            ),
            exit: Exit::BadNotebook,
        },
        Stage {
            code: format!("let sweep = draft.write({resume})?;"),
            exit: Exit::NotWritten,
        },
    ])
}

/// What is asked of Slurm, in Rust.
fn job(args: &SweepArgs) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(
            Exit::NotWritten,
            format!("where this program lies can't be seen: {error}"),
        )
    })?;
    let text = |value: &Option<String>| match value {
        Some(value) => format!("Some({value:?}.to_owned())"),
        None => "None".to_owned(),
    };
    let more: Vec<String> = (args.sbatch.iter())
        .map(|option| format!("{option:?}.to_owned()"))
        .collect();
    let launcher = match &args.launcher {
        Some(launcher) => format!("{launcher:?}.to_owned()"),
        None => "SlurmJob::default().launcher".to_owned(),
    };
    Ok(format!(
        "SlurmJob {{ program: {}.into(), at_once: {:?}, time: {}, partition: {}, ntasks: {}, launcher: {launcher}, cpus: {}, memory: {}, more: vec![{}] }}",
        staged::literal(Path::new(&program))?,
        args.array_limit,
        text(&args.time),
        text(&args.partition),
        args.ntasks.unwrap_or(1),
        args.cpus.unwrap_or(1),
        text(&args.memory),
        more.join(", ")
    ))
}
