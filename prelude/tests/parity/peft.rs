//! Our adapters as PEFT reads them: `scripts/peer/check_adapter_with_peft.py` on folders that `Vlm::save` wrote.
//!
//! It needs Python with torch, transformers and PEFT (see `python`); where there is none, the group says that it was not run.

use crate::compare::{Fixtures, Group, Outcome};
use crate::lora::{after_ten_steps, at_the_start};
use crate::python::{MISSING, environment, peer_folder};
use glassbox_prelude::serde_json::{self, Value};
use std::process::Command;

/// Of every factor and every output: PEFT computes in f32, and after ten steps rounding has moved single values by 8e-5.
const TOLERANCE: f64 = 1e-4;

pub fn adapters(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let Some(python) = environment()? else {
        group.not_run(MISSING);
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
