//! A long session through the real kernel: memory, files and latency against the number of the cell.
//!
//! Cells of every kind (values, variables, functions, tensors, compile errors, panics, failed `?`, interrupts, displays of
//! 5 MB) are run one after the other, and every tenth is the same *probe*, so that cells of later numbers can be compared with
//! cells of earlier ones. Eighty of them are part of the tests; a thousand are run by
//!
//! ```sh
//! GLASSBOX_SOAK=target/soak cargo test --release -p glassbox --test soak -- --ignored --nocapture
//! ```
//! which also writes `soak.json` and `soak.svg` into the folder that the variable names. `GLASSBOX_SOAK_CELLS` is another number.

#[path = "../kernel_client/mod.rs"]
mod kernel_client;
mod plot;
mod process;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kernel_client::{Kernel, block_on};
use serde_json::json;

/// What is measured here is what it takes to compile: nothing is taken from what was compiled before.
const COMPILED_ANEW: (&str, &str) = ("GLASSBOX_CELL_CACHE", "off");

/// The cell that comes again and again.
const PROBE: &str = "probe";

/// What was measured when a cell had ended.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Sample {
    pub cell: usize,
    pub kind: &'static str,
    /// From the request to `idle`, in milliseconds.
    pub milliseconds: f64,
    /// The processor time of the compiler, the linker and the process that runs cells, in milliseconds (a multiple of ten).
    pub cpu: f64,
    /// Resident memory of the kernel and of the process that runs cells, in megabytes.
    pub kernel_mb: f64,
    pub cells_mb: f64,
    /// What of the latter are loaded libraries of cells. Measured at probes, as are the next two.
    pub libraries_mb: f64,
    pub mappings: usize,
    /// Open files of both processes.
    pub open_files: usize,
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
        0 => (PROBE, "1 + 1".to_owned(), None),
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

/// The processor time of everything but the kernel itself, whose rust-analyzer works beside the cells.
fn processor_time(kernel: u32, child: u32) -> Result<f64> {
    Ok(process::processor_time(kernel)?.1 + process::processor_time(child)?.0)
}

async fn soak(cells: usize) -> Result<Vec<Sample>> {
    let folder = tempfile::tempdir()?;
    let temporary = folder.path().to_string_lossy().into_owned();
    let mut kernel = Kernel::start_with(&[("TMPDIR", &temporary), COMPILED_ANEW]).await?;
    kernel.run("0").await?.ok()?;
    let id = kernel.process.id();
    let child = process::child_that_runs_cells(id).context("no process runs cells")?;
    let mut samples: Vec<Sample> = Vec::new();
    for number in 0..cells {
        let (kind, code, fails) = cell(number);
        let spent = processor_time(id, child)?;
        let begun = Instant::now();
        let request = kernel
            .send("execute_request", json!({ "code": code }))
            .await?;
        if kind == "interrupt" {
            kernel.wait_for_text(&request, "begun").await?;
            kernel.ask_control("interrupt_request", json!({})).await?;
        }
        let ran = kernel.finish(&request).await?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
        let ename = ran.reply["ename"].as_str();
        ensure!(
            ename == fails,
            "cell {number} ({kind}) ended with {ename:?}: {}",
            ran.reply
        );
        let cpu = processor_time(id, child).context("the process that runs cells is gone")? - spent;
        let (files, bytes) = process::folder_size(folder.path());
        let before = samples.last();
        let (memory, open_files) = match before {
            Some(before) if kind != PROBE => {
                let memory = process::Memory {
                    resident: process::resident(child)?,
                    libraries: before.libraries_mb,
                    mappings: before.mappings,
                };
                (memory, before.open_files)
            }
            _ => {
                let open = process::open_files(id)? + process::open_files(child)?;
                (process::memory(child)?, open)
            }
        };
        samples.push(Sample {
            cell: number,
            kind,
            milliseconds,
            cpu,
            kernel_mb: process::resident(id)?,
            cells_mb: memory.resident,
            libraries_mb: memory.libraries,
            mappings: memory.mappings,
            open_files,
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

/// The middle of the values of a stretch of samples.
fn median(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mean(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    samples.iter().map(value).sum::<f64>() / samples.len() as f64
}

/// The second quarter and the last. The first is for warming up.
fn early_and_late(samples: &[Sample]) -> (&[Sample], &[Sample]) {
    let quarter = samples.len() / 4;
    (
        &samples[quarter..2 * quarter],
        &samples[samples.len() - quarter..],
    )
}

/// Growth from the early quarter to the late one, by cell.
fn growth(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let (early, late) = early_and_late(samples);
    (median(late, &value) - median(early, &value)) / (samples.len() / 2) as f64
}

/// The samples of one kind of cell.
fn of_kind(samples: &[Sample], kind: &str) -> Vec<Sample> {
    let of = samples.iter().filter(|sample| sample.kind == kind);
    of.cloned().collect()
}

/// Memory of the process that runs cells that neither variables nor loaded libraries account for.
fn unexplained(sample: &Sample) -> f64 {
    sample.cells_mb - sample.libraries_mb
}

/// What must be true of a session of any length.
fn check(samples: &[Sample], slack_mb: f64) -> Result<()> {
    let probes = of_kind(samples, PROBE);
    let cells = samples.len() as f64;
    let last = probes.last().context("no probe ran")?;
    ensure!(
        last.files < 60 && last.files_mb < 20.0,
        "{} files of {:.1} MB lie in the session's folder",
        last.files,
        last.files_mb
    );
    let (early, late) = early_and_late(&probes);
    let most = |samples: &[Sample]| samples.iter().map(|s| s.open_files).max();
    ensure!(
        most(late) <= most(early),
        "open files went from {:?} to {:?}",
        most(early),
        most(late)
    );
    // One page of each is written to, which is 4 kB on the machines that this is for; the others are in the file.
    let library = growth(samples, |s| s.libraries_mb);
    ensure!(library < 0.01, "a cell's library takes {library:.3} MB");
    for (what, grown) in [
        ("kernel", growth(&probes, |s| s.kernel_mb)),
        (
            "process that runs cells, without libraries,",
            growth(&probes, unexplained),
        ),
    ] {
        // By probe, which is every tenth cell.
        let grown = grown / 10.0 * cells;
        ensure!(
            grown < slack_mb,
            "the {what} grew by {grown:.1} MB in {cells} cells"
        );
    }
    Ok(())
}

#[test]
fn eighty_cells_leave_no_files_and_little_memory() -> Result<()> {
    let samples = block_on(soak(80))?;
    // What the allocators of both processes still take while they warm up.
    check(&samples, 60.0)
}

#[test]
#[ignore = "takes minutes"]
#[allow(clippy::print_stdout)] // figures for people
fn a_thousand_cells() -> Result<()> {
    let cells = std::env::var("GLASSBOX_SOAK_CELLS").ok();
    let cells = cells.and_then(|text| text.parse().ok()).unwrap_or(1000);
    let samples = block_on(soak(cells))?;
    if let Some(folder) = std::env::var_os("GLASSBOX_SOAK") {
        let folder = std::path::PathBuf::from(folder);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(
            folder.join("soak.json"),
            serde_json::to_vec_pretty(&samples)?,
        )?;
        std::fs::write(folder.join("soak.svg"), plot::svg(&samples))?;
    }
    println!("growth by cell, from the second quarter to the last:");
    println!("  kernel {:.4} MB", growth(&samples, |s| s.kernel_mb));
    println!(
        "  process that runs cells {:.4} MB",
        growth(&samples, |s| s.cells_mb)
    );
    println!(
        "    of that libraries {:.4} MB",
        growth(&samples, |s| s.libraries_mb)
    );
    println!("  mappings {:.2}", growth(&samples, |s| s.mappings as f64));
    let mut kinds: Vec<&str> = samples.iter().map(|sample| sample.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    println!(
        "median milliseconds and mean processor milliseconds of a cell, second quarter and last:"
    );
    for kind in kinds {
        let samples = of_kind(&samples, kind);
        let (early, late) = early_and_late(&samples);
        println!(
            "  {kind:16} {:6.0} {:6.0}   cpu {:6.1} {:6.1}",
            median(early, |s| s.milliseconds),
            median(late, |s| s.milliseconds),
            mean(early, |s| s.cpu),
            mean(late, |s| s.cpu),
        );
    }
    let last = samples.last().context("nothing ran")?;
    println!(
        "at the end {} files of {:.1} MB, {} open files",
        last.files, last.files_mb, last.open_files
    );
    check(&samples, 25.0)?;
    // The probe's processor time, which other work on the machine disturbs less than its latency.
    let probes = of_kind(&samples, PROBE);
    let (early, late) = early_and_late(&probes);
    let (early, late) = (mean(early, |s| s.cpu), mean(late, |s| s.cpu));
    assert!(
        late < 1.25 * early,
        "the probe went from {early:.1} to {late:.1} ms of processor time"
    );
    Ok(())
}

/// What a session has defined costs a cell that does not need it next to nothing.
#[test]
fn a_cell_that_needs_no_function_does_not_compile_three_hundred_of_them() -> Result<()> {
    const PROBES: usize = 12;
    block_on(async {
        let mut kernel = Kernel::start_with(&[COMPILED_ANEW]).await?;
        kernel.run("0").await?.ok()?;
        let id = kernel.process.id();
        let child = process::child_that_runs_cells(id).context("no process runs cells")?;
        let mut spent = Vec::new();
        for functions in [0, 300] {
            let mut code = String::new();
            for n in 0..functions {
                let before = if n == 0 {
                    "x.len()".to_owned()
                } else {
                    format!("step_{}(x)", n - 1)
                };
                code += &format!(
                    "fn step_{n}(x: &[usize]) -> usize {{\n    let mut sorted: Vec<usize> = x.iter().map(|y| y * {n}).collect();\n    \
                     sorted.sort_unstable();\n    match sorted.first() {{\n        Some(&least) if least > {n} => least,\n        \
                     _ => {before},\n    }}\n}}\n"
                );
            }
            kernel.run(&code).await?.ok()?;
            let before = processor_time(id, child)?;
            for _ in 0..PROBES {
                kernel.run("1 + 1").await?.ok()?;
            }
            spent.push((processor_time(id, child)? - before) / PROBES as f64);
        }
        let ran = kernel.run("step_299(&[1])").await?.ok()?;
        ensure!(ran.first("execute_result")["data"]["text/plain"] == "1");
        ensure!(
            spent[0] > 0.0,
            "no processor time: the cells were not compiled"
        );
        ensure!(
            spent[1] < 1.4 * spent[0],
            "with 300 functions a cell takes {:.0} ms of processor time instead of {:.0}",
            spent[1],
            spent[0]
        );
        Ok(())
    })
}
