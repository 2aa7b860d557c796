//! The built kernels, ours and the stock one, under Python's own clients: jupyter_client with jupyter_kernel_test,
//! nbclient, nbconvert, papermill and jupyter console.
//!
//! The test makes a virtual environment in the target folder, installs the pinned clients there and the kernelspec with
//! them. Without Python it says so and passes; with `CI=true` that is a failure.

#[path = "session_support/analyst.rs"]
mod analyst;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

#[test]
fn python_clients_are_content() -> Result<()> {
    let Some(python) = environment()? else {
        return Ok(());
    };
    analyst::beside();
    let bin = python.parent().context("python has no folder")?;
    let prefix = bin.parent().context("the environment has no folder")?;
    let glassbox = Path::new(env!("CARGO_BIN_EXE_glassbox"));
    succeed(
        Command::new(glassbox)
            .args(["install", "--name", "glassbox-under-test", "--prefix"])
            .arg(prefix),
    )?;

    succeed(
        Command::new(glassbox)
            .args([
                "install",
                "--stock",
                "--name",
                "stock-under-test",
                "--prefix",
            ])
            .arg(prefix),
    )?;

    let scripts = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join("python");
    let tour = Path::new(env!("CARGO_MANIFEST_DIR")).join("notebooks/00_tour.ipynb");
    let history = tempfile::tempdir()?;
    for script in [
        "run_notebook.py",
        "clients.py",
        "stock_kernel.py",
        "kernel_conformance.py",
    ] {
        succeed(
            Command::new(&python)
                .arg(scripts.join(script))
                .env("TOUR", &tour)
                .env("KERNEL_NAME", "glassbox-under-test")
                .env("STOCK_KERNEL_NAME", "stock-under-test")
                .env("GLASSBOX_HISTORY", history.path().join("history.jsonl"))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env_remove("JUPYTER_PATH"),
        )?;
    }
    Ok(())
}

/// What papermill needs to write parameters in Rust.
const TRANSLATOR: [&str; 2] = ["pyproject.toml", "papermill_glassbox.py"];

/// The Python of an environment with the clients, made on first use; `None` where there is no Python.
fn environment() -> Result<Option<PathBuf>> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/requirements.txt");
    let mut wanted = std::fs::read_to_string(&requirements)?;
    for file in TRANSLATOR {
        let papermill = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/papermill");
        wanted += &std::fs::read_to_string(papermill.join(file))?;
    }
    let folder = target_folder()?.join("python-clients");
    let python = folder.join("bin").join("python");
    let made_for = folder.join("made-for.txt");
    if python.exists() && std::fs::read_to_string(&made_for).is_ok_and(|made| made == wanted) {
        return Ok(Some(python));
    }
    let venv = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder)
        .output();
    match venv {
        Ok(output) if output.status.success() => {}
        failed => {
            let why = failed.map_or_else(
                |e| e.to_string(),
                |o| String::from_utf8_lossy(&o.stderr).into_owned(),
            );
            let message =
                format!("NOT TESTED: the Python clients; python3 with venv is needed: {why}");
            ensure!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
            // Written past the harness, which hides the prints of tests that pass.
            writeln!(std::io::stderr(), "\n{0}\n{message}\n{0}\n", "!".repeat(80))?;
            return Ok(None);
        }
    }
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements),
    )?;
    // pip builds in the folder that it is given: not in the checkout.
    let translator = folder.join("papermill-glassbox");
    std::fs::create_dir_all(&translator)?;
    for file in TRANSLATOR {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("clients/papermill")
            .join(file);
        std::fs::copy(from, translator.join(file))?;
    }
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .arg(&translator),
    )?;
    std::fs::write(made_for, wanted)?;
    Ok(Some(python))
}

/// Where cargo builds: the binary lies in `TARGET/PROFILE/glassbox`.
fn target_folder() -> Result<PathBuf> {
    let binary = Path::new(env!("CARGO_BIN_EXE_glassbox"));
    binary
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .context("the binary is not in a target folder")
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let (said, failed) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!("{command:?} failed ({}):\n{said}\n{failed}", output.status);
    }
    Ok(())
}
