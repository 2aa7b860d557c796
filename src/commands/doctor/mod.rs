//! `glassbox doctor`: what is in place on this machine, what is missing, and what to do about it.
//!
//! checks (one function each, no network, nothing changed) → a list for people or JSON → exit code.

mod jupyter;
mod machine;
mod rust;

use std::path::Path;
use std::process::Stdio;

use clap::Args;
use console::style;
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::{SessionArgs, say};
use crate::session::called_rust;

/// Say what is in place on this machine, what is missing, and what to do about it
///
/// Looks at the Rust compiler, its library source, the linker, the prelude cache, what is kept of compiled cells, disk
/// space, the GPU, Jupyter, and the folder of downloaded weights. Changes nothing and uses no network. The exit code is 1
/// when something is missing without which no cell can run.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox doctor
  glassbox doctor --json | jq '.checks[] | select(.state != \"ok\")'
  glassbox doctor --features cuda")]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    session: SessionArgs,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// In place.
    Ok,
    /// Not there, and not needed to run cells.
    Absent,
    /// Works, but look at the advice.
    Warning,
    /// Missing or broken; no cell can run.
    Missing,
}

/// One finding.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check {
            name,
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn other(
        name: &'static str,
        state: State,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Check {
        Check {
            name,
            state,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }
}

#[derive(Serialize)]
struct Findings {
    glassbox: &'static str,
    ready: bool,
    checks: Vec<Check>,
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    let mut checks = rust::checks(&args.session.features);
    checks.extend(machine::checks(&args.session.features));
    checks.extend(jupyter::checks());
    let ready = checks.iter().all(|check| check.state != State::Missing);
    let findings = Findings {
        glassbox: env!("CARGO_PKG_VERSION"),
        ready,
        checks,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&findings)
            .map_err(|e| Failure::new(Exit::NotWritten, e))?;
        say(&text);
    } else {
        print(&findings);
    }
    Ok(if ready { Exit::Done } else { Exit::CellFailed })
}

fn print(findings: &Findings) {
    let width = findings
        .checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    for check in &findings.checks {
        let mark = match check.state {
            State::Ok => style("✓").green(),
            State::Absent => style("–").dim(),
            State::Warning => style("!").yellow(),
            State::Missing => style("✗").red(),
        };
        say(&format!(
            "{mark} {:<width$}  {}",
            style(check.name).bold(),
            check.found
        ));
        if let Some(advice) = &check.advice {
            say(&format!(
                "  {:<width$}  {}",
                "",
                style(format!("→ {advice}")).cyan()
            ));
        }
    }
    say(if findings.ready {
        "\nready to run cells"
    } else {
        "\nnot ready: see the lines marked ✗"
    });
}

/// Standard output of a program, if it is there and succeeds.
fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = called_rust(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The folder of a setting that must not be empty.
fn folder_from(variable: &str) -> Option<std::path::PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(Into::into)
}

/// Bytes of all files below a folder; links are not followed.
fn size_of_tree(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of_tree(&entry.path()),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        });
    sizes.sum()
}
