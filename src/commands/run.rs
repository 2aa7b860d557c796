//! `glassbox run`: notebooks in, executed notebooks and pages out.
//!
//! Everything that can be refused is refused before a session starts: files, formats, kernels, parameters, and whether
//! the outputs can be written. Then, notebook by notebook: session, cells, outputs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::failure::{Exit, Failure};
use super::interrupts::Interrupts;
use super::terminal::{self, CellLines, Starting};
use super::{SessionArgs, say, staged};
use crate::figures::time;
use crate::notebook::Notebook;
use crate::notebook::html::{self, PageOptions};
use crate::notebook::parameters::{self, Parameter};
use crate::notebook::run::{self as runner, CellReport, Ending, Report, RunOptions};
use crate::notebook::save::{Access, check_place, save};
use crate::notebook::watch::Watch;
use crate::ranks;
use crate::session::{Session, SessionConfig};

/// Execute notebooks, each in a fresh session, and write them with their outputs
///
/// Without --in-place or --output, X.ipynb gives X.executed.ipynb and the self-contained page X.executed.html beside
/// it. Cells run in the notebook's folder. A cell that fails ends the run; the notebook so far is written all the same.
/// ctrl-c interrupts the running cell and ends the run, a second ctrl-c ends the cell for good. Under mpirun or srun each process runs
/// the cells, training in them is shared, and the first one writes the notebook.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox run notebooks/00_tour.ipynb
  glassbox run notebooks/00_tour.ipynb -p steps=50 -p seed=3 --output /tmp/short
  glassbox run notebooks/*.ipynb --in-place --no-html --timeout 600
  glassbox run faults.ipynb --allow-errors

Tags of cells: `parameters` (defaults for -p), `raises-exception` (may fail), `skip-execution` (left as it is).
`glassbox --help` lists the exit codes.")]
pub struct RunArgs {
    /// The notebooks
    #[arg(required = true, value_name = "NOTEBOOK")]
    notebooks: Vec<PathBuf>,

    /// Set a parameter declared in the cell tagged `parameters`; may be given several times
    #[arg(short = 'p', long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<Parameter>,

    /// Write the outputs into the notebook itself
    #[arg(long, conflicts_with = "output")]
    in_place: bool,

    /// Write the executed notebook, under its own name, into this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Write a self-contained HTML page as well (this is the default)
    #[arg(long, overrides_with = "no_html")]
    html: bool,

    /// Write no HTML page
    #[arg(long)]
    no_html: bool,

    /// Stop a cell after this many seconds
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Go on after a cell that fails
    #[arg(long)]
    allow_errors: bool,

    #[command(flatten)]
    session: SessionArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be more than 0 seconds".to_owned()),
    }
}

/// A notebook that is ready to run.
struct Job {
    /// As the user named it.
    name: String,
    notebook: Notebook,
    /// Absolute: cells run in this folder.
    folder: PathBuf,
    /// Where the user is; paths are told relative to it.
    here: PathBuf,
    place: PathBuf,
    page: Option<PathBuf>,
    /// Whether `place` is the user's own file, which is written only when the run has ended.
    in_place: bool,
    /// Who may read the notebook.
    access: Access,
}

/// Runs the command.
pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let jobs: Vec<Job> = args
        .notebooks
        .iter()
        .map(|path| prepare(path, args))
        .collect::<Result<_, _>>()?;
    for (index, job) in jobs.iter().enumerate() {
        if let Some(other) = jobs[..index].iter().find(|other| other.place == job.place) {
            let message = format!(
                "{} and {} would both be written to {}",
                other.name,
                job.name,
                job.place.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    if jobs.len() > 1 && ranks::own().is_some() {
        let message = "under mpirun or srun one notebook runs at a time: each has a process of its own, and MPI takes one";
        return Err(Failure::new(Exit::Usage, message));
    }
    let interrupts = Interrupts::listen()
        .map_err(|e| Failure::new(Exit::NoSession, format!("signals can't be handled: {e}")))?;
    let mut exit = Exit::Done;
    for job in jobs {
        match execute(job, args, &interrupts)? {
            Exit::Interrupted => return Ok(Exit::Interrupted),
            Exit::Done => {}
            failed => exit = failed,
        }
    }
    Ok(exit)
}

/// Reads and checks one notebook and the places of its outputs.
fn prepare(path: &Path, args: &RunArgs) -> Result<Job, Failure> {
    let name = path.display().to_string();
    let bad = |fault: String| {
        let named = if fault.starts_with(&name) {
            fault
        } else {
            format!("{name}: {fault}")
        };
        Failure::new(Exit::BadNotebook, named)
    };
    let mut notebook = Notebook::read(path).map_err(|e| bad(e.to_string()))?;
    let access = Access::of(path).map_err(|e| bad(format!("{name}: {e}")))?;
    notebook.check_kernel().map_err(|e| bad(e.to_string()))?;
    parameters::inject(&mut notebook, &args.parameters).map_err(|e| bad(e.to_string()))?;

    let here = std::env::current_dir().map_err(|e| bad(e.to_string()))?;
    let path = std::path::absolute(path).map_err(|e| bad(e.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let place = match (&args.output, args.in_place) {
        (Some(output), _) => {
            let output = std::path::absolute(output).map_err(|e| bad(e.to_string()))?;
            output.join(path.file_name().unwrap_or_default())
        }
        (None, true) => path.clone(),
        (None, false) => folder.join(format!("{stem}.executed.ipynb")),
    };
    let in_place = place == path;
    if in_place && !args.in_place {
        let message = format!(
            "{name}: --output names the notebook's own folder; use --in-place to write over it"
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let page = (!args.no_html).then(|| place.with_extension("html"));
    let written = [Some(&place), page.as_ref()].into_iter().flatten();
    for file in written.filter(|_| !ranks::follows()) {
        check_place(file).map_err(|e| Failure::new(Exit::NotWritten, e))?;
    }
    Ok(Job {
        name,
        notebook,
        folder,
        here,
        place,
        page,
        in_place,
        access,
    })
}

/// Runs one notebook and writes it.
fn execute(mut job: Job, args: &RunArgs, interrupts: &Interrupts) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let cells = runner::executable(&job.notebook).len();
    let ran = match cells {
        0 => Ran::nothing(),
        _ => run_cells(&mut job, args, interrupts)?,
    };
    let report = &ran.report;
    let note = summary(&job.name, report, begun.elapsed(), ran.start);
    let failed = report.failed();
    if ranks::follows() {
        return Ok(follower(&job, failed));
    }
    let written = write(&job, &note);
    if let Some(text) = failed.and_then(|cell| terminal::failed_cell(&job.name, cell)) {
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
    say(&note);
    say(&written?);
    Ok(match report.ending {
        Ending::Finished => Exit::Done,
        Ending::Failed => Exit::CellFailed,
        Ending::Interrupted => Exit::Interrupted,
    })
}

/// How a run ends on a process whose notebook another one writes: what that one can't report is said.
fn follower(job: &Job, failed: Option<&CellReport>) -> Exit {
    let Some((cell, error)) = failed.and_then(|cell| Some((cell, cell.error.as_ref()?))) else {
        return Exit::Done;
    };
    if ranks::is_told(&error.evalue) {
        return Exit::Done;
    }
    terminal::complain(&format!(
        "{}, cell {} of {}: {}: {}",
        job.name, cell.label.number, cell.label.total, error.ename, error.evalue
    ));
    Exit::CellFailed
}

/// What is left when the cells have run.
struct Ran {
    report: Report,
    /// How long the session took to start.
    start: Duration,
    /// Ending a session takes a moment; the outputs are written before that.
    _session: Option<Session>,
}

impl Ran {
    /// A notebook without code needs no session.
    fn nothing() -> Ran {
        let report = Report {
            cells: Vec::new(),
            total: 0,
            ending: Ending::Finished,
        };
        Ran {
            report,
            start: Duration::ZERO,
            _session: None,
        }
    }
}

fn run_cells(job: &mut Job, args: &RunArgs, interrupts: &Interrupts) -> Result<Ran, Failure> {
    let no_session =
        |e: &dyn std::fmt::Display| Failure::new(Exit::NoSession, format!("{}: {e}", job.name));
    // The session's process, and with it every path that a cell names, starts from the notebook's folder, as in Jupyter.
    std::env::set_current_dir(&job.folder).map_err(|e| no_session(&e))?;
    let mut starting = Starting::new();
    let config = SessionConfig {
        features: args.session.features.clone(),
        ..SessionConfig::default()
    };
    let session = Session::start(config, &mut |event| starting.step(&event));
    let start = starting.end();
    let mut session = session.map_err(|e| no_session(&e))?;
    terminal::line(&format!("{}: session ready in {}", job.name, time(start)));

    let watch = Watch::start(session.interrupter());
    interrupts.send_to(&watch);
    let options = RunOptions {
        allow_errors: args.allow_errors,
        timeout: args.timeout,
    };
    let (place, in_place, access) = (job.place.clone(), job.in_place, job.access);
    let mut progress = CellLines::new(|_, notebook| {
        interrupts.new_cell();
        if !in_place && !ranks::follows() {
            // So that even a power cut leaves what was done. If it fails, the last write will say so.
            drop(save(&place, &notebook.to_text(), Some(access)));
        }
    });
    let report = runner::run(
        &mut job.notebook,
        &mut session,
        &watch,
        &options,
        &mut progress,
    );
    interrupts.release();
    watch.close();
    if report.ending == Ending::Finished && ranks::own().is_some() {
        staged::leave(&mut session)?;
    }
    Ok(Ran {
        report,
        start,
        _session: Some(session),
    })
}

/// One line that says how the run went.
fn summary(name: &str, report: &Report, took: Duration, start: Duration) -> String {
    let done = report
        .cells
        .iter()
        .filter(|cell| cell.error.is_none())
        .count();
    let times = format!("in {} (session start {})", time(took), time(start));
    let cells = |n: usize| {
        if n == 1 {
            "1 cell".to_owned()
        } else {
            format!("{n} cells")
        }
    };
    match report.ending {
        Ending::Finished if done == report.total => {
            format!("{name}: {} executed {times}", cells(done))
        }
        Ending::Finished => {
            format!(
                "{name}: {} executed {times}, {} failed as allowed",
                cells(report.total),
                report.total - done
            )
        }
        Ending::Failed => {
            format!(
                "{name}: cell {} of {} failed {times}; the rest was not executed",
                report.cells.len(),
                report.total
            )
        }
        Ending::Interrupted => {
            format!(
                "{name}: interrupted in cell {} of {} {times}",
                report.cells.len(),
                report.total
            )
        }
    }
}

/// Writes the notebook and the page; says where.
fn write(job: &Job, note: &str) -> Result<String, Failure> {
    let fault = |e: crate::notebook::save::SaveError| Failure::new(Exit::NotWritten, e);
    save(&job.place, &job.notebook.to_text(), Some(job.access)).map_err(fault)?;
    let told = |path: &Path| {
        path.strip_prefix(&job.here)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let mut said = format!("wrote {}", told(&job.place));
    if let Some(path) = &job.page {
        let name = job.place.file_stem().unwrap_or_default().to_string_lossy();
        let foot = format!("{note} with glassbox {}", env!("CARGO_PKG_VERSION"));
        let options = PageOptions {
            name: &name,
            folder: Some(&job.folder),
            note: &foot,
        };
        let page = html::page(&job.notebook, &options);
        save(path, &page.html, Some(job.access)).map_err(fault)?;
        said.push_str(&format!(" and {}", told(path)));
        if let Some(left_out) = page.left_out.said() {
            terminal::line(&format!(
                "{}: left out of the page, so that it loads and runs nothing: {left_out}",
                job.name
            ));
        }
    }
    Ok(said)
}
