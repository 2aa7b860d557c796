//! The benchmark against PyTorch: the same work, the same settings file and the same JSON keys as
//! `scripts/peer/bench_torch.py`. `scripts/compare_with_torch.sh` runs both and prints the ratios.
//!
//! ```text
//! cargo run --release -p glassbox-prelude --example bench -- [--config FILE] [--sections vit,train,generate,phi3full,limits]
//! ```
//! `GLASSBOX_DEVICE=cuda` measures on a GPU, where the library is built with the feature `cuda`.
//! One JSON object on stdout, one line a case on stderr. Each case runs in a process of its own, so that its peak
//! memory is its own. `phi3full` writes 7.2 GB of random weights into the folder that the settings name and removes them
//! afterwards unless `keep` is set or they were there before.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program's output

mod config;
mod full_size;
mod generate;
mod limits;
mod measure;
mod model;
mod train;
mod vit;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use serde_json::{Map, Value, json};

use config::Config;
use measure::Figures;

/// Whatever went wrong; a benchmark only reports it.
pub type Failure = Box<dyn std::error::Error>;

/// Begins the line on which a case's process hands over its figures.
const MARK: &str = "@@";

struct Arguments {
    config: Option<PathBuf>,
    sections: String,
    /// Run this case here and hand over its figures.
    case: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments = arguments()?;
    let (config, config_json) = Config::read(arguments.config.as_deref())?;
    if let Some(case) = &arguments.case {
        let (section, argument): (String, Value) = serde_json::from_str(case)?;
        let figures = measured(&config, &section, &argument)?;
        println!("{MARK}{}", Value::Object(figures));
        return Ok(());
    }
    let load_at_start = measure::load_average();
    let mut results = Map::new();
    for (section, argument) in cases(&config, &arguments.sections)? {
        let mut figures = in_a_process(&config, &arguments, &section, &argument)?;
        figures.insert("load_avg".to_owned(), measure::load_average());
        eprintln!("{section} {argument} {}", Value::Object(figures.clone()));
        results.insert(case_name(&section, &argument), Value::Object(figures));
    }
    let report = json!({
        "config": config_json,
        "cpu": processor(),
        "load_avg_start": load_at_start,
        "results": results,
    });
    println!("{report}");
    Ok(())
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments {
        config: None,
        sections: "vit,train,generate".to_owned(),
        case: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--config" => arguments.config = Some(value()?.into()),
            "--sections" => arguments.sections = value()?,
            "--case" => arguments.case = Some(value()?),
            _ => {
                return Err(format!(
                    "{word:?}: expected --config FILE or --sections vit,train,generate,phi3full,limits"
                )
                .into());
            }
        }
    }
    Ok(arguments)
}

/// The cases of the wanted sections, in order.
fn cases(config: &Config, sections: &str) -> Result<Vec<(String, Value)>, Failure> {
    let mut cases = Vec::new();
    for section in sections.split(',') {
        let arguments: Vec<Value> = match section {
            "vit" => config
                .vit_batches
                .iter()
                .map(|batch| json!(batch))
                .collect(),
            "train" => config
                .train_batches
                .iter()
                .flat_map(|batch| {
                    ["random_prefix", "full_sequence"].map(|loss| json!([batch, loss]))
                })
                .collect(),
            "generate" => ["hf_generate_kv", "kv_manual", "blog_full_reforward"]
                .map(|way| json!(way))
                .to_vec(),
            "phi3full" | "limits" => vec![json!("run")],
            _ => {
                return Err(format!(
                    "section {section:?}: expected vit, train, generate, phi3full or limits"
                )
                .into());
            }
        };
        cases.extend(
            arguments
                .into_iter()
                .map(|argument| (section.to_owned(), argument)),
        );
    }
    Ok(cases)
}

/// A case's figures with the memory that it took.
fn measured(config: &Config, section: &str, argument: &Value) -> Result<Figures, Failure> {
    // As in a session.
    glassbox_prelude::session::keep_freed_memory();
    let at_start = measure::peak_rss_mb();
    let mut figures = match section {
        "vit" => vit::run(config, serde_json::from_value(argument.clone())?)?,
        "train" => {
            let (batch, loss): (usize, String) = serde_json::from_value(argument.clone())?;
            train::run(config, batch, &loss)?
        }
        "generate" => generate::run(config, argument.as_str().unwrap_or_default())?,
        "phi3full" => full_size::run(&config.phi3full)?,
        "limits" => limits::run()?,
        _ => return Err(format!("no section {section:?}").into()),
    };
    figures.insert("peak_rss_mb".to_owned(), measure::peak_rss_mb());
    figures.insert("rss_after_import_mb".to_owned(), at_start);
    figures.insert(
        "versions".to_owned(),
        json!({"glassbox": env!("CARGO_PKG_VERSION")}),
    );
    Ok(figures)
}

/// Runs a case in a process of its own; if that fails, the figures say how.
fn in_a_process(
    config: &Config,
    arguments: &Arguments,
    section: &str,
    argument: &Value,
) -> Result<Figures, Failure> {
    let wrote = section == "phi3full" && full_size::write(&config.phi3full)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--case")
        .arg(json!([section, argument]).to_string())
        .env("RAYON_NUM_THREADS", config.threads.to_string());
    if let Some(file) = &arguments.config {
        command.arg("--config").arg(file);
    }
    let output = command.output()?;
    if wrote && !config.phi3full.keep {
        std::fs::remove_dir_all(&config.phi3full.dir)?;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().rev().find_map(|line| line.strip_prefix(MARK)) {
        return Ok(serde_json::from_str(line)?);
    }
    let mut figures = Figures::new();
    let said = String::from_utf8_lossy(&output.stderr);
    figures.insert("error".to_owned(), json!(said.trim()));
    figures.insert("rc".to_owned(), json!(output.status.code()));
    Ok(figures)
}

/// `train:[1, "random_prefix"]`, spaced as Python's JSON is.
fn case_name(section: &str, argument: &Value) -> String {
    let text = match argument {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    };
    format!("{section}:{text}")
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(
            || std::env::consts::ARCH.to_owned(),
            |(_, name)| name.trim().to_owned(),
        )
}
