//! The recipe of the tiny default model: pretrains an image encoder and a language model from nothing, on generated
//! data, and writes them in Hugging Face layout.
//!
//! ```text
//! cargo run --release -p glassbox-prelude --example pretrain_tiny -- --out prelude/assets/tiny
//! ```
//!
//! Options: `--only vit` or `--only llm`, `--seed N`, `--part F` (a part of all steps, to try the recipe out), `--sheets no` (a language
//! model that never saw a sheet: the control that shows what sheets are worth).
//! The same seed gives the same weights on the same machine. The projector between the two is not made here: it stays
//! untrained, so that a notebook can train it.
//!
//! # Layout
//! - `tokenizer`: the language model's tokenizer
//! - `sheet`: what is where in a scene, in words; the meeting point of both halves
//! - `vit`: pictures → what each patch shows
//! - `documents`, `llm`: text about scenes → captions
//! - `card`: the model card

#![allow(clippy::print_stdout)] // a program that reports to a terminal

mod card;
mod documents;
mod llm;
mod sheet;
mod tokenizer;
mod vit;

use std::io::Write;
use std::path::{Path, PathBuf};

use glassbox_prelude::language::LlmProcessor;
use glassbox_prelude::serde_json::{self, Value};
use glassbox_prelude::train::Schedule;
use glassbox_prelude::{Error, Result};

/// How long and how fast one half trains.
pub struct Plan {
    pub seed: u64,
    pub steps: usize,
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f64,
}

impl Plan {
    /// The learning rate of a step.
    pub fn rate_at(&self, step: usize, schedule: Schedule) -> f64 {
        self.rate * schedule.factor(step as f64 / self.steps as f64)
    }
}

/// What came out of one half.
pub struct Outcome {
    pub seconds: f64,
    /// Names and running means of the losses at the end.
    pub losses: Vec<(String, f64)>,
    /// A name and the part of held-out scenes that are right.
    pub score: (String, f64),
}

struct Options {
    out: PathBuf,
    seed: u64,
    part: f64,
    only: Option<String>,
    sheets: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> std::result::Result<Options, String> {
        let mut options = Options {
            out: PathBuf::new(),
            seed: 1,
            part: 1.0,
            only: None,
            sheets: true,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            let wrong = |_| format!("{name} {value}: not a number");
            match name.as_str() {
                "--out" => options.out = value.into(),
                "--seed" => options.seed = value.parse().map_err(wrong)?,
                "--part" => {
                    options.part = value
                        .parse()
                        .map_err(|_| format!("{name} {value}: not a number"))?
                }
                "--only" if value == "vit" || value == "llm" => options.only = Some(value),
                "--sheets" if value == "yes" || value == "no" => options.sheets = value == "yes",
                "--sheets" => return Err(format!("--sheets {value}: choose yes or no")),
                "--only" => return Err(format!("--only {value}: choose vit or llm")),
                _ => {
                    return Err(format!(
                        "{name}: not an option; there are --out, --seed, --part, --only and --sheets"
                    ));
                }
            }
        }
        if options.out.as_os_str().is_empty() {
            return Err("say where to write the model: --out FOLDER".into());
        }
        Ok(options)
    }

    fn plan(&self, steps: usize, batch: usize, rate: f64) -> Plan {
        let steps = ((steps as f64 * self.part) as usize).max(1);
        Plan {
            seed: self.seed,
            steps,
            batch,
            rate,
        }
    }

    fn wants(&self, half: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == half)
    }
}

fn main() -> std::process::ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(complaint) => {
            say(&complaint);
            return std::process::ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.wants("vit") {
        let folder = made(&options.out.join("vit"))?;
        let first = options.plan(4000, 16, 2e-3);
        let (vit, middle) = vit::pretrain(vit::fresh(options.seed)?, &first, 0)?;
        // Twice again with fresh heads and a lower rate: shapes are learned late.
        let second = options.plan(2500, 16, 1e-3);
        let (vit, later) = vit::pretrain(vit, &second, first.steps)?;
        let third = options.plan(5000, 16, 1e-3);
        let (vit, end) = vit::pretrain(vit, &third, first.steps)?;
        vit.save(&folder)?;
        write_json(
            &folder.join("preprocessor_config.json"),
            &vit::image_processor().to_json(),
        )?;
        card::write(
            &options.out,
            "vit",
            &[(first, middle), (second, later), (third, end)],
        )?;
    }
    if options.wants("llm") {
        let folder = made(&options.out.join("llm"))?;
        tokenizer::write(&folder, &documents::words())?;
        let processor = LlmProcessor::from_dir(&folder)?;
        let plan = options.plan(6000, 8, 1.5e-3);
        let config = llm::config(&processor);
        let (llm, outcome) = llm::pretrain(
            &config,
            &documents::Words::new(processor)?,
            &plan,
            options.sheets,
        )?;
        llm.save(&folder)?;
        card::write(&options.out, "llm", &[(plan, outcome)])?;
    }
    Ok(())
}

/// The folder, made if needed.
fn made(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Io {
        path: folder.into(),
        source,
    })?;
    Ok(folder.into())
}

/// Writes a JSON file as Hugging Face does, indented.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|source| Error::Json {
        path: path.into(),
        source,
    })?;
    std::fs::write(path, text + "\n").map_err(|source| Error::Io {
        path: path.into(),
        source,
    })
}

/// One line on the terminal, at once.
pub fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().ok();
}
