//! How time and memory grow: with the length of captions, the pictures of a prompt, the batch, LoRA's rank, the layers, the tokens
//! generated, and the rows of a data set.
//!
//! ```text
//! axis, sizes ─▶ one process a size (points) ─▶ processor seconds, MB above what was held before ─▶ exponent (fit) ─▶ the table
//! ```
//! ```sh
//! cargo run --release -p glassbox-prelude --example growth [AXIS…]
//! ```
//! The exponent e of size^e is fitted to the three largest sizes, where fixed costs weigh least. Beside it stands the one that the algorithm
//! itself has; an exponent above that by more than 0.2 is marked, and the program then ends with 1.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program's output

#[allow(dead_code)]
#[path = "../coco_size.rs"]
mod coco_size;
#[allow(dead_code)]
#[path = "../bench/config.rs"]
mod config;
mod fit;
#[allow(dead_code)]
#[path = "../bench/measure.rs"]
mod measure;
#[allow(dead_code)]
#[path = "../bench/model.rs"]
mod model;
mod points;

use std::process::{Command, ExitCode};

use points::{AXES, Axis, Point};

/// Whatever went wrong; the program only reports it.
pub type Failure = Box<dyn std::error::Error>;

/// Begins the line on which a size's process hands over what it measured.
const MARK: &str = "@@";
/// How much an exponent may lie above the algorithm's own: what noise makes of it.
const SLACK: f64 = 0.2;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("growth: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing grows faster than its algorithm.
fn run() -> Result<bool, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [point, axis, size] = words.as_slice()
        && point == "--point"
    {
        let measured = points::measure(axis_named(axis)?, size.parse()?)?;
        println!("{MARK}{} {}", measured.seconds, measured.megabytes);
        return Ok(true);
    }
    let axes: Vec<&Axis> = match words.is_empty() {
        true => AXES.iter().collect(),
        false => words
            .iter()
            .map(|w| axis_named(w))
            .collect::<Result<_, _>>()?,
    };
    println!(
        "| with | sizes | processor seconds | exponent | its own | MB above | exponent | its own |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut within = true;
    for axis in axes {
        let mut found = Vec::new();
        for &size in axis.sizes {
            let point = in_a_process(axis, size)?;
            eprintln!(
                "{} {size}: {:.3} s, {:.1} MB",
                axis.name, point.seconds, point.megabytes
            );
            found.push(point);
        }
        let exponent = |value: fn(&Point) -> f64| {
            let values: Vec<f64> = found.iter().map(value).collect();
            fit::exponent(axis.sizes, &values)
        };
        let list = |value: fn(&Point) -> f64, places: usize| {
            let values = found
                .iter()
                .map(|point| format!("{:.places$}", value(point)));
            values.collect::<Vec<_>>().join(", ")
        };
        let mut column = |exponent: Option<f64>, own: f64| {
            let over = exponent.is_some_and(|exponent| exponent > own + SLACK);
            within &= !over;
            match exponent {
                Some(exponent) if over => format!("**{exponent:.2}**"),
                Some(exponent) => format!("{exponent:.2}"),
                None => "too little to fit".to_owned(),
            }
        };
        let sizes: Vec<String> = axis.sizes.iter().map(usize::to_string).collect();
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            axis.what,
            sizes.join(", "),
            list(|point| point.seconds, 2),
            column(exponent(|point| point.seconds), axis.own_time),
            axis.own_time,
            list(|point| point.megabytes, 0),
            column(exponent(|point| point.megabytes), axis.own_memory),
            axis.own_memory,
        );
    }
    Ok(within)
}

fn axis_named(name: &str) -> Result<&'static Axis, Failure> {
    let axis = AXES.iter().find(|axis| axis.name == name);
    let names: Vec<&str> = AXES.iter().map(|axis| axis.name).collect();
    axis.ok_or_else(|| format!("{name:?}: expected {}", names.join(", ")).into())
}

/// One size, measured in a process of its own: memory that an allocator keeps would hide what the next size needs.
fn in_a_process(axis: &Axis, size: usize) -> Result<Point, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--point", axis.name, &size.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(MARK));
    let numbers: Vec<f64> = line
        .ok_or_else(|| {
            format!(
                "{} {size}: {}",
                axis.name,
                String::from_utf8_lossy(&output.stderr)
            )
        })?
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    match numbers.as_slice() {
        &[seconds, megabytes] => Ok(Point { seconds, megabytes }),
        _ => Err(format!("{} {size}: {text}", axis.name).into()),
    }
}
