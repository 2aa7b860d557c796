//! A long session through the real kernel: memory, files and latency against the number of the cell.
//!
//! Cells of every kind (values, variables, functions, tensors, compile errors, panics, failed `?`, interrupts, displays of
//! 5 MB) are run one after the other. Sixty of them are part of the tests; a thousand are run by
//!
//! ```sh
//! GLASSBOX_SOAK=target/soak cargo test --release -p glassbox --test soak -- --ignored --nocapture
//! ```
//! which also writes `soak.json` and `soak.svg` into the folder that the variable names.

#[path = "../kernel_client/mod.rs"]
mod kernel_client;
mod plot;
mod process;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kernel_client::Kernel;
use serde_json::json;

/// What was measured when a cell had ended.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Sample {
    pub cell: usize,
    pub kind: &'static str,
    /// From the request to `idle`, in milliseconds.
    pub milliseconds: f64,
    /// Resident memory of the kernel and of the process that runs cells, in megabytes.
    pub kernel_mb: f64,
    pub cells_mb: f64,
    /// What lies in the session's folder: files, and megabytes.
    pub files: usize,
    pub files_mb: f64,
}

/// A cell, what kind it is, and the error that it must end with.
fn cell(number: usize) -> (&'static str, String, Option<&'static str>) {
    let n = number;
    if n % 25 == 13 {
        let code = "println!(\"begun\"); loop { check_interrupt()?; std::thread::sleep(std::time::Duration::from_millis(1)); }";
        return ("interrupt", code.to_owned(), Some("Interrupted"));
    }
    if n % 50 == 29 {
        let code = "display(&MimeBundle::text(\"x\".repeat(5_000_000)));";
        return ("display of 5 MB", code.to_owned(), None);
    }
    // A dozen names that come again: what variables hold stays the same.
    let name = n % 12;
    match n % 10 {
        0 => ("expression", format!("{n} + 1"), None),
        1 => ("variable", format!("let number_{name} = {n};"), None),
        2 => ("print", format!("for i in 0..100 {{ println!(\"{n}: {{i}}\"); }}"), None),
        3 => ("function", format!("fn add_{name}(x: usize) -> usize {{ x + {n} }}"), None),
        4 => ("compile error", format!("let wrong: i32 = \"{n}\";"), Some("E0308")),
        5 => ("panic", format!("panic!(\"number {n}\");"), Some("Panic")),
        6 => ("failed ?", "\"x\".parse::<i32>()?;".to_owned(), Some("Error")),
        7 => (
            "tensor",
            format!("let tensor_{name} = Tensor::full({n}f32, (64, 64), &Device::Cpu)?;"),
            None,
        ),
        8 => ("text", format!("let text_{name} = \"{n}\".repeat(1000); text_{name}.len()"), None),
        _ => (
            "product",
            "{ let t = Tensor::ones((128, 128), DType::F32, &Device::Cpu)?; t.matmul(&t)?.sum_all()? }".to_owned(),
            None,
        ),
    }
}

async fn soak(cells: usize) -> Result<Vec<Sample>> {
    let folder = tempfile::tempdir()?;
    let temporary = folder.path().to_string_lossy().into_owned();
    let mut kernel = Kernel::start_with(&[("TMPDIR", &temporary)]).await?;
    kernel.run("0").await?.ok()?;
    let child =
        process::child_that_runs_cells(kernel.process.id()).context("no process runs cells")?;
    let mut samples = Vec::new();
    for number in 0..cells {
        let (kind, code, fails) = cell(number);
        let begun = Instant::now();
        let id = kernel
            .send("execute_request", json!({ "code": code }))
            .await?;
        if kind == "interrupt" {
            kernel.wait_for_text(&id, "begun").await?;
            kernel.ask_control("interrupt_request", json!({})).await?;
        }
        let ran = kernel.finish(&id).await?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
        let ename = ran.reply["ename"].as_str();
        ensure!(
            ename == fails,
            "cell {number} ({kind}) ended with {ename:?}: {}",
            ran.reply
        );
        let (files, bytes) = process::folder_size(folder.path());
        samples.push(Sample {
            cell: number,
            kind,
            milliseconds,
            kernel_mb: process::resident(kernel.process.id())?,
            cells_mb: process::resident(child).context("the process that runs cells is gone")?,
            files,
            files_mb: bytes as f64 / 1e6,
        });
    }
    kernel
        .ask_control("shutdown_request", json!({ "restart": false }))
        .await?;
    kernel.wait_for_exit(Duration::from_secs(20)).await?;
    let (files, _) = process::folder_size(folder.path());
    ensure!(
        files == 0,
        "{files} files were left in the temporary folder"
    );
    Ok(samples)
}

fn run(cells: usize) -> Result<Vec<Sample>> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(soak(cells))
}

/// The middle of the values of a stretch of samples.
fn median(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Growth from the second quarter to the last, by cell. The first quarter is for warming up.
fn growth(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let quarter = samples.len() / 4;
    let early = median(&samples[quarter..2 * quarter], &value);
    let late = median(&samples[3 * quarter..], &value);
    (late - early) / (2 * quarter) as f64
}

#[test]
fn sixty_cells_leave_no_files_and_little_memory() -> Result<()> {
    let samples = run(60)?;
    let last = samples.last().context("nothing ran")?;
    assert!(
        last.files < 60,
        "{} files lie in the session's folder",
        last.files
    );
    // A cell's library stays mapped, because values and threads may need its code: a fraction of a megabyte.
    let (kernel, cells) = (
        growth(&samples, |s| s.kernel_mb),
        growth(&samples, |s| s.cells_mb),
    );
    assert!(kernel < 1.5, "the kernel grew by {kernel:.2} MB a cell");
    assert!(
        cells < 1.0,
        "the process that runs cells grew by {cells:.2} MB a cell"
    );
    Ok(())
}

#[test]
#[ignore = "takes a quarter of an hour"]
#[allow(clippy::print_stdout)] // figures for people
fn a_thousand_cells() -> Result<()> {
    let samples = run(1000)?;
    if let Some(folder) = std::env::var_os("GLASSBOX_SOAK") {
        let folder = std::path::PathBuf::from(folder);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(
            folder.join("soak.json"),
            serde_json::to_vec_pretty(&samples)?,
        )?;
        std::fs::write(folder.join("soak.svg"), plot::svg(&samples))?;
    }
    let (kernel, cells) = (
        growth(&samples, |s| s.kernel_mb),
        growth(&samples, |s| s.cells_mb),
    );
    let latency = growth(&samples, |s| s.milliseconds);
    let middle = median(&samples, |s| s.milliseconds);
    let last = samples.last().context("nothing ran")?;
    println!(
        "a cell takes {middle:.0} ms; growth by cell: kernel {kernel:.3} MB, cells {cells:.3} MB, latency {latency:.3} ms; \
         at the end {} files of {:.1} MB",
        last.files, last.files_mb
    );
    assert!(
        last.files_mb < 50.0,
        "{:.1} MB lie in the session's folder",
        last.files_mb
    );
    assert!(
        kernel < 0.1 && cells < 0.2,
        "memory grew by {kernel:.3} and {cells:.3} MB a cell"
    );
    assert!(
        latency * 500.0 < middle,
        "cells became slower by {latency:.3} ms a cell"
    );
    Ok(())
}
