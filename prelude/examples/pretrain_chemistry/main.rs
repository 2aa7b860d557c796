//! The recipe of a tiny language model of chemistry: text made by rule about names, formulas and functional groups → a Phi-3 of the size of
//! the tiny default's, in Hugging Face layout. It sees text alone, no molecule's graph.
//!
//! ```text
//! cargo run --release -p glassbox-prelude --example pretrain_chemistry -- --out prelude/assets/chemistry [--seed N] [--steps N]
//! ```
//! The same seed gives the same weights on the same machine. Those of seed 1 are part of the program (`Preset::chemistry`); `Decoder::load`
//! and `Preset::pair` open any other folder. Under an encoder of molecules it is compared with the general model that knows pictures' captions.
//!
//! # Layout
//! - `text`: what it reads
//! - `train`: how it learns, and what it is asked in the end
//! - `tokenizer`: that of the tiny default, with other words

#![allow(clippy::print_stdout)] // a program that reports to a terminal

mod text;
#[path = "../pretrain_tiny/tokenizer.rs"]
mod tokenizer;
mod train;

use std::path::{Path, PathBuf};

use glassbox_prelude::language::LlmProcessor;
use glassbox_prelude::serde_json::{self, Value, json};
use glassbox_prelude::{Error, Result};

struct Options {
    out: PathBuf,
    seed: u64,
    steps: usize,
}

fn options(mut arguments: impl Iterator<Item = String>) -> std::result::Result<Options, String> {
    let (mut out, mut seed, mut steps) = (None, 1, 2000);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|_| format!("{name} {value}: not a number"))
        };
        match name.as_str() {
            "--out" => out = Some(value.clone().into()),
            "--seed" => seed = number()?,
            "--steps" => steps = number()?,
            _ => {
                return Err(format!(
                    "{name}: not an option; there are --out, --seed and --steps"
                ));
            }
        }
    }
    match out {
        Some(out) if steps > 0 => Ok(Options {
            out,
            seed,
            steps: steps as usize,
        }),
        Some(_) => Err("--steps 0: at least one step is taken".into()),
        None => Err("say where to write the model: --out FOLDER".into()),
    }
}

fn main() -> std::process::ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(complaint) => {
            println!("{complaint}");
            return std::process::ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.out).map_err(|source| Error::Io {
        path: options.out.clone(),
        source,
    })?;
    let chemistry = text::Chemistry::new()?;
    tokenizer::write(&options.out, &chemistry.words())?;
    let processor = LlmProcessor::from_dir(&options.out)?;
    let (llm, learnt) = train::pretrain(&chemistry, &processor, options.seed, options.steps)?;
    llm.save(&options.out)?;
    write_json(
        &options.out.join("pretraining.json"),
        &json!({
            "recipe": "prelude/examples/pretrain_chemistry", "seed": options.seed, "steps": options.steps, "seconds": learnt.seconds.round(),
            "loss, nats a token": learnt.loss, "names right, of molecules that were read about": learnt.seen,
            "names right, of molecules that were held out": learnt.unseen,
        }),
    )
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
