//! The command line's surface: help with examples everywhere, exit codes, the doctor's report, the REPL on a pipe.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn glassbox(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_command_has_help_with_examples() {
    let top = stdout(&glassbox(&["--help"]));
    assert!(top.contains("Exit codes:"), "{top}");
    for command in [
        "run",
        "train",
        "sweep",
        "runs",
        "evaluate",
        "repl",
        "kernel",
        "install",
        "uninstall",
        "doctor",
    ] {
        assert!(
            top.lines()
                .any(|line| line.trim_start().starts_with(command)),
            "{command} is not in\n{top}"
        );
        let output = glassbox(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let help = stdout(&output);
        assert!(
            help.contains("Examples:\n  ") && help.contains(&format!("glassbox {command}")),
            "{command}:\n{help}"
        );
    }
}

#[test]
fn the_help_of_run_names_every_option() {
    let help = stdout(&glassbox(&["run", "--help"]));
    for option in [
        "-p, --parameter <NAME=VALUE>",
        "--in-place",
        "--output <DIR>",
        "--html",
        "--no-html",
        "--timeout <SECS>",
        "--allow-errors",
        "--features <LIST>",
    ] {
        assert!(help.contains(option), "{option} is not in\n{help}");
    }
}

/// `-p preset=blog` in the help named a parameter that no notebook has: exit code 3.
#[test]
fn the_examples_of_run_name_notebooks_and_parameters_that_are_there() {
    let help = stdout(&glassbox(&["run", "--help"]));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut parameters = 0;
    for example in help
        .lines()
        .filter(|line| line.contains("glassbox run notebooks/"))
    {
        let words: Vec<&str> = example.split_whitespace().collect();
        let named = words.iter().find(|word| word.ends_with(".ipynb"));
        let notebook = root.join(named.expect("it names a notebook"));
        if notebook.to_string_lossy().contains('*') {
            continue;
        }
        let text = std::fs::read_to_string(&notebook).expect("the notebook is there");
        let json: serde_json::Value = serde_json::from_str(&text).expect("it is a notebook");
        let tagged = json["cells"]
            .as_array()
            .expect("it has cells")
            .iter()
            .find(|cell| {
                let tags = cell["metadata"]["tags"].as_array();
                tags.is_some_and(|tags| tags.iter().any(|tag| tag == "parameters"))
            });
        for pair in words.windows(2).filter(|pair| pair[0] == "-p") {
            let name = pair[1].split('=').next().unwrap_or_default();
            let source = tagged.expect("a cell is tagged")["source"].to_string();
            assert!(
                source.contains(&format!("let {name} =")),
                "{name} is not in {source}"
            );
            parameters += 1;
        }
    }
    assert!(parameters >= 2, "the help shows how to set parameters");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for arguments in [
        &["run"] as &[&str],
        &["nonsense"],
        &["run", "a.ipynb", "--in-place", "--output", "x"],
        &["run", "a.ipynb", "--timeout", "0"],
        &["run", "a.ipynb", "--timeout", "soon"],
        &["kernel"],
        &["install", "--user", "--sys-prefix"],
    ] {
        let output = glassbox(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_doctor_reports_for_people_and_as_json() {
    let people = stdout(&glassbox(&["doctor"]));
    let output = glassbox(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    for name in [
        "rustc",
        "cargo",
        "rust-src",
        "linker",
        "prelude",
        "completion",
        "disk: cache",
        "GPU",
        "jupyter",
        "kernels",
        "weights",
    ] {
        let check = checks
            .iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("{name}"));
        assert!(!check["found"].as_str().unwrap().is_empty());
        assert!(
            check["state"] == "ok" || !check["advice"].as_str().unwrap().is_empty(),
            "{check}"
        );
        assert!(people.contains(name), "{name} is not in\n{people}");
    }
    let ready = checks.iter().all(|check| check["state"] != "missing");
    assert_eq!(report["ready"], ready);
    assert_eq!(output.status.code(), Some(if ready { 0 } else { 1 }));
}

#[test]
fn the_doctor_says_when_there_is_no_compiler() {
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .arg("doctor")
        .env("PATH", empty.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(
        text.contains("https://rustup.rs") && text.contains("not ready"),
        "{text}"
    );
}

/// What `glassbox repl` makes of cells from a pipe: exit code, standard output, standard error.
fn repl(cells: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .arg("repl")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(cells.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        stdout(&output),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn the_repl_reads_cells_from_a_pipe() {
    let (code, out, err) = repl(
        "let x = 40;\n\nfn two() -> i32 {\n\n    2\n}\n\nx + two()\n\nprint!(\"no newline\");\n\n:vars\n",
    );
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("42\nno newline\n"), "{out:?}");
    let row = out.lines().find(|line| line.starts_with("x "));
    let row: Vec<&str> = row.expect("x is listed").split_whitespace().collect();
    assert_eq!(row, ["x", "i32", "4", "B", "40"], "{out:?}");
}

#[test]
fn the_repl_stops_at_a_cell_from_a_pipe_that_fails() {
    let (code, out, err) =
        repl("println!(\"one\");\n\nlet x: usize = \"two\";\n\nprintln!(\"three\");\n");
    assert_eq!(code, Some(1));
    assert_eq!(out, "one\n");
    assert!(err.contains("mismatched types"), "{err}");
    assert!(!err.contains('\u{1b}'), "no colours in a pipe: {err:?}");
}
