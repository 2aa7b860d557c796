//! The Python wheel: built of the program under test, installed into a fresh environment, found by Jupyter there, a notebook run with it.
//!
//! Without Python it says so and passes; with `CI=true` that is a failure. maturin packs the program that cargo built for the tests.

#[path = "session_support/analyst.rs"]
mod analyst;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_wheel_puts_the_program_and_its_kernel_in_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let environment = folder.path().join("environment");
    let made = Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment)
        .output();
    if !made.as_ref().is_ok_and(|made| made.status.success()) {
        let message = format!("NOT TESTED: the wheel; python3 with venv is needed: {made:?}");
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        // Written past the harness, which hides the prints of tests that pass.
        writeln!(std::io::stderr(), "\n{message}\n")?;
        return Ok(());
    }
    analyst::beside();
    let wheel = built(&folder.path().join("wheels"))?;
    let python = environment.join("bin/python");
    let wanted = std::fs::read_to_string(checkout().join("tests/python/requirements.txt"))?;
    let clients = ["jupyter_client", "nbclient", "nbformat"];
    let clients = wanted
        .lines()
        .filter(|line| clients.iter().any(|name| line.starts_with(name)));
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .arg(&wheel)
            .args(clients),
    )?;

    let version = succeed(Command::new(environment.join("bin/glassbox")).arg("--version"))?;
    ensure!(
        version.trim() == concat!("glassbox ", env!("CARGO_PKG_VERSION")),
        "{version}"
    );

    // The program with rust-analyzer came along, and is the one that is used.
    let found = Command::new(environment.join("bin/glassbox"))
        .args(["doctor", "--json"])
        .env("GLASSBOX_CACHE_DIR", folder.path().join("cache"))
        .output()?;
    let report: Value = serde_json::from_slice(&found.stdout)?;
    let checks = report["checks"].as_array().context("it has checks")?;
    let check = checks.iter().find(|check| check["name"] == "completion");
    let program = environment.join("bin/glassbox-analyst").canonicalize()?;
    ensure!(
        check.is_some_and(|check| check["found"] == program.display().to_string()),
        "{check:?}"
    );

    // Jupyter finds the kernel in the environment, and a kernel of the user's own is not in its way.
    let own = folder.path().join("no-kernels-of-the-user");
    let listed = succeed(
        Command::new(&python)
            .args(["-m", "jupyter", "kernelspec", "list", "--json"])
            .env("JUPYTER_DATA_DIR", &own)
            .env_remove("JUPYTER_PATH"),
    )?;
    let listed: Value = serde_json::from_str(&listed)?;
    let found = listed["kernelspecs"]["glassbox"]["resource_dir"]
        .as_str()
        .unwrap_or_default();
    ensure!(Path::new(found).starts_with(&environment), "{listed}");
    same_but_for_the_program(&listed["kernelspecs"]["glassbox"]["spec"], folder.path())?;

    // The environment is not activated: the kernelspec says by itself where the program is.
    succeed(
        Command::new(&python)
            .arg(checkout().join("tests/python/run_notebook.py"))
            .env("KERNEL_NAME", "glassbox")
            .env("JUPYTER_DATA_DIR", &own)
            .env("GLASSBOX_HISTORY", folder.path().join("history.jsonl"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("JUPYTER_PATH"),
    )?;
    Ok(())
}

/// The kernelspec of the wheel is the one that `glassbox install` writes, except where the program is.
fn same_but_for_the_program(packed: &Value, folder: &Path) -> Result<()> {
    let prefix = folder.join("prefix");
    let glassbox = Path::new(env!("CARGO_BIN_EXE_glassbox"));
    succeed(
        Command::new(glassbox)
            .arg("install")
            .arg("--prefix")
            .arg(&prefix),
    )?;
    let file = prefix.join("share/jupyter/kernels/glassbox/kernel.json");
    let mut installed: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    installed["argv"][0] = packed["argv"][0].clone();
    let installed = installed.as_object().context("a kernelspec is an object")?;
    for (key, value) in installed {
        ensure!(packed[key] == *value, "{key}: {} and {value}", packed[key]);
    }
    Ok(())
}

/// The wheel of the program under test.
fn built(out: &Path) -> Result<PathBuf> {
    succeed(
        Command::new(checkout().join("scripts/build_wheel.sh"))
            .arg("--out")
            .arg(out)
            .args(["--binary", env!("CARGO_BIN_EXE_glassbox")]),
    )?;
    let wheels = std::fs::read_dir(out)?.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(wheels.len() == 1, "{wheels:?}");
    Ok(wheels[0].path())
}

fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let failed = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}):\n{said}\n{failed}", output.status);
    }
    Ok(said)
}
