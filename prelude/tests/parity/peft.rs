//! Our adapters as PEFT reads them: `scripts/peer/check_adapter_with_peft.py` on folders that `Vlm::save` wrote.
//!
//! It needs Python with torch, transformers and PEFT, which take 5.4 GB: they are looked for in `GLASSBOX_PEER_VENV`, else
//! in `target/peer-venv`, which `scripts/compare_with_torch.sh` uses too. With `CI=true` a missing environment is made
//! (and failing to is a failure); elsewhere the group says that it was not run, and how to run it.

use crate::compare::{Fixtures, Group, Outcome};
use crate::lora::{after_ten_steps, at_the_start};
use glassbox_prelude::serde_json::{self, Value};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of every factor and every output: PEFT computes in f32, and after ten steps rounding has moved single values by 8e-5.
const TOLERANCE: f64 = 1e-4;

pub fn adapters(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let Some(python) = environment()? else {
        group.not_run(
            "needs PyTorch and PEFT (5.4 GB); with CI=true they are installed into target/peer-venv",
        );
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let (initial, trained) = (folder.path().join("initial"), folder.path().join("trained"));
    at_the_start(fixtures)?.save(&initial)?;
    after_ten_steps(fixtures)?.save(&trained)?;

    let script = peer_folder().join("check_adapter_with_peft.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .arg(fixtures.root())
        .arg("llm")
        .arg(initial.join("llm_adapter"))
        .args(["--tol", &TOLERANCE.to_string()]);
    for (which, saved, expect) in [
        ("vit", &initial, "initial_trainables"),
        ("llm", &trained, "after_10_steps"),
        ("vit", &trained, "after_10_steps"),
    ] {
        let adapter = saved.join(format!("{which}_adapter"));
        command.args(["--also", which]).arg(adapter).arg(expect);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let reports: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if reports.len() != 4 {
        let failed = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{command:?} ended with {}:\n{said}\n{failed}",
            output.status
        )
        .into());
    }
    for report in &reports {
        record(group, report);
    }
    group.holds("the script is content", output.status.success());
    Ok(())
}

/// The lines of one adapter: what the script reported.
fn record(group: &mut Group, report: &Value) {
    let text = |key: &str| report[key].as_str().unwrap_or("?").to_owned();
    let label = format!("{} {}", text("adapter"), text("expect"));
    let no_keys = Value::Array(Vec::new());
    group.equal(
        &format!("{label}: keys missing or unexpected"),
        &report["key_errors"],
        &no_keys,
    );
    group.holds(
        &format!("{label}: finite"),
        report["finite"] == Value::Bool(true),
    );
    let differences = report.as_object().into_iter().flatten();
    for (what, value) in differences.filter(|(key, _)| key.starts_with("max_abs")) {
        let gap = value.as_f64().unwrap_or(f64::INFINITY);
        group.within(&format!("{label}: {what}"), gap, TOLERANCE);
    }
}

fn peer_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/peer")
}

/// The Python with the packages of `scripts/peer/requirements.txt`, made when this is CI; `None` where there is none.
fn environment() -> Result<Option<PathBuf>, Box<dyn std::error::Error>> {
    let ci = std::env::var("CI").as_deref() == Ok("true");
    let folder = match std::env::var_os("GLASSBOX_PEER_VENV") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peer-venv"),
    };
    let python = folder.join("bin/python");
    let ready = Command::new(&python)
        .args([
            "-c",
            "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('torch', 'transformers', 'peft'))))",
        ])
        .status()
        .is_ok_and(|status| status.success());
    if ready || !ci {
        return Ok(ready.then_some(python));
    }
    succeed(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    // Without byte code: compiling all of torch's Python takes longer than importing what is used.
    succeed(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-compile",
                "--requirement",
            ])
            .arg(peer_folder().join("requirements.txt")),
    )?;
    Ok(Some(python))
}

fn succeed(command: &mut Command) -> Outcome {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let failed = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}:\n{failed}", output.status).into())
}
