//! `glassbox run` from outside: the built binary, real sessions, small notebooks, and what they leave behind.
//!
//! Sessions share the user's prelude cache; the first one builds it if need be.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A folder with notebooks in it.
struct Context {
    folder: tempfile::TempDir,
}

/// How a run went.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    #[track_caller]
    fn ended(self, code: i32) -> Run {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    fn says(self, part: &str) -> Run {
        let both = format!("{}{}", self.stdout, self.stderr);
        assert!(both.contains(part), "{part:?} is not in\n{both}");
        self
    }
}

impl Context {
    fn new() -> Context {
        Context {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a notebook as Jupyter would.
    fn notebook(&self, name: &str, cells: &[Value]) -> PathBuf {
        let kernel = json!({"kernelspec": {"display_name": "Glassbox", "language": "rust", "name": "glassbox"}});
        self.notebook_with(name, cells, kernel)
    }

    fn notebook_with(&self, name: &str, cells: &[Value], metadata: Value) -> PathBuf {
        let value =
            json!({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5});
        let path = self.path(name);
        std::fs::write(&path, serde_json::to_string_pretty(&value).unwrap() + "\n").unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
        command
            .arg("run")
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        finish(
            self.command(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    fn read(&self, name: &str) -> Value {
        let text =
            std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        serde_json::from_str(&text).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn finish(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn code(id: &str, source: &str) -> Value {
    tagged(id, source, &[])
}

fn tagged(id: &str, source: &str, tags: &[&str]) -> Value {
    let metadata = if tags.is_empty() {
        json!({})
    } else {
        json!({ "tags": tags })
    };
    json!({"cell_type": "code", "execution_count": null, "id": id, "metadata": metadata, "outputs": [], "source": source})
}

fn text(id: &str, source: &str) -> Value {
    json!({"cell_type": "markdown", "id": id, "metadata": {}, "source": source})
}

/// Outputs of the cell with this id.
fn outputs(notebook: &Value, id: &str) -> Vec<Value> {
    let cell = notebook["cells"]
        .as_array()
        .unwrap()
        .iter()
        .find(|cell| cell["id"] == id);
    cell.unwrap_or_else(|| panic!("no cell {id}"))["outputs"]
        .as_array()
        .unwrap()
        .clone()
}

fn joined(value: &Value) -> String {
    match value {
        Value::Array(lines) => lines.iter().map(|line| line.as_str().unwrap()).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// The error output of the cell with this id.
#[track_caller]
fn error(notebook: &Value, id: &str) -> (String, String, String) {
    let outputs = outputs(notebook, id);
    let error = outputs
        .iter()
        .find(|o| o["output_type"] == "error")
        .unwrap_or_else(|| panic!("no error in {outputs:?}"));
    let trace: Vec<&str> = error["traceback"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l.as_str().unwrap())
        .collect();
    (
        joined(&error["ename"]),
        joined(&error["evalue"]),
        trace.join("\n"),
    )
}

#[test]
fn a_notebook_is_executed_and_written_with_a_page() {
    let context = Context::new();
    let original = context.notebook(
        "good.ipynb",
        &[
            text("t", "# A *good* one"),
            code(
                "a",
                "let x = 20;\nprintln!(\"x is {x}\");\neprintln!(\"careful\");",
            ),
            code("b", "x * 2 + 2"),
            code("c", "println!(\"{}\", std::env::current_dir()?.display());"),
            code("e", "  \n"),
        ],
    );
    let before = std::fs::read(&original).unwrap();
    context
        .run(&["good.ipynb"])
        .ended(0)
        .says("3 cells executed")
        .says("wrote good.executed.ipynb and good.executed.html");
    assert_eq!(
        context.names(),
        ["good.executed.html", "good.executed.ipynb", "good.ipynb"]
    );
    assert_eq!(
        std::fs::read(&original).unwrap(),
        before,
        "the original is untouched"
    );

    let done = context.read("good.executed.ipynb");
    let printed: Vec<(String, String)> = outputs(&done, "a")
        .iter()
        .map(|o| (joined(&o["name"]), joined(&o["text"])))
        .collect();
    assert!(
        printed.contains(&("stdout".into(), "x is 20\n".into())),
        "{printed:?}"
    );
    assert!(
        printed.contains(&("stderr".into(), "careful\n".into())),
        "{printed:?}"
    );
    let result = &outputs(&done, "b")[0];
    assert_eq!(result["output_type"], "execute_result");
    assert_eq!(result["execution_count"], 2);
    assert_eq!(joined(&result["data"]["text/plain"]), "42");
    let folder = context.folder.path().canonicalize().unwrap();
    assert_eq!(
        joined(&outputs(&done, "c")[0]["text"]).trim(),
        folder.display().to_string(),
        "cells run beside the notebook"
    );

    // Without outputs, counts and times it is the file that was read.
    let mut stripped = done.clone();
    for cell in stripped["cells"].as_array_mut().unwrap() {
        if cell["cell_type"] == "code" {
            cell["outputs"] = json!([]);
            cell["execution_count"] = Value::Null;
            cell["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("execution");
        }
    }
    assert_eq!(
        serde_json::to_string_pretty(&stripped).unwrap() + "\n",
        String::from_utf8(before).unwrap()
    );

    let page = std::fs::read_to_string(context.path("good.executed.html")).unwrap();
    assert!(
        page.contains("<title>A *good* one</title>")
            && page.contains(">42</pre>")
            && page.contains("x is 20")
    );
}

#[test]
fn a_cell_that_does_not_compile_ends_the_run_and_what_was_done_is_kept() {
    let context = Context::new();
    context.notebook(
        "compile.ipynb",
        &[
            code("a", "println!(\"before\");"),
            code("b", "let ok = 1;\nlet wrong: usize = \"text\";"),
            code("c", "println!(\"after\");"),
        ],
    );
    context
        .run(&["compile.ipynb", "--no-html"])
        .ended(1)
        .says("cell 2 of 3")
        .says("let wrong: usize = \"text\";")
        .says("the rest was not executed");
    assert_eq!(context.names(), ["compile.executed.ipynb", "compile.ipynb"]);
    let done = context.read("compile.executed.ipynb");
    assert_eq!(joined(&outputs(&done, "a")[0]["text"]), "before\n");
    let (ename, evalue, trace) = error(&done, "b");
    assert_eq!(ename, "E0308");
    assert!(evalue.contains("mismatched types"), "{evalue}");
    assert!(trace.contains("wrong"), "{trace}");
    assert!(outputs(&done, "c").is_empty());
}

#[test]
fn panics_question_marks_and_aborts_are_errors_of_their_own() {
    let context = Context::new();
    context.notebook(
        "faults.ipynb",
        &[
            code("keep", "let kept = 7;"),
            code(
                "panic",
                "let v: Vec<i32> = Vec::new();\nlet at = v.len() + 3;\nprintln!(\"{}\", v[at]);",
            ),
            code("question", "let n: i32 = \"x1\".parse::<i32>()?;"),
            code("still", "kept"),
            code("abort", "println!(\"last words\");\nstd::process::abort();"),
            code("after", "1 + 1"),
        ],
    );
    context
        .run(&["faults.ipynb", "--allow-errors", "--no-html"])
        .ended(0)
        .says("3 failed as allowed");
    let done = context.read("faults.executed.ipynb");
    let (panic, message, trace) = error(&done, "panic");
    assert!(message.contains("index out of bounds"), "{message}");
    assert!(
        trace.contains("v[at]") || trace.contains(":3"),
        "the traceback points into the cell: {trace}"
    );
    let (question, message, _) = error(&done, "question");
    assert!(message.contains("invalid digit"), "{message}");
    assert_eq!(
        joined(&outputs(&done, "still")[0]["data"]["text/plain"]),
        "7",
        "variables outlive a panic and a failed ?"
    );
    let (abort, _, _) = error(&done, "abort");
    assert!(
        panic != question && question != abort && abort != panic,
        "{panic} {question} {abort}"
    );
    let spoken = outputs(&done, "abort");
    assert!(
        spoken.iter().any(|o| joined(&o["text"]) == "last words\n"),
        "text before an abort arrives: {spoken:?}"
    );
    assert_eq!(
        joined(&outputs(&done, "after")[0]["data"]["text/plain"]),
        "2",
        "the session goes on"
    );
}

#[test]
fn parameters_are_injected_with_the_declared_types() {
    let context = Context::new();
    let defaults = "let steps: usize = 300;\nlet rate = 1e-3;\nlet name = \"tiny\".to_string();";
    context.notebook(
        "with.ipynb",
        &[
            tagged("p", defaults, &["parameters"]),
            code("use", "fn takes(_: usize, _: f64, _: String) {}\ntakes(steps, rate, name.clone());\nformat!(\"{steps} {rate} {name}\")"),
        ],
    );
    context
        .run(&[
            "with.ipynb",
            "-p",
            "steps=5",
            "-p",
            "rate=2",
            "-p",
            "name=big",
            "--output",
            "out",
        ])
        .ended(0);
    let done = context.read("out/with.ipynb");
    assert_eq!(done["cells"].as_array().unwrap().len(), 3);
    assert_eq!(
        done["cells"][1]["metadata"]["tags"],
        json!(["injected-parameters"])
    );
    assert_eq!(
        joined(&outputs(&done, "use")[0]["data"]["text/plain"]),
        "\"5 2 big\""
    );
    assert!(context.path("out/with.html").exists());
    assert_eq!(context.names(), ["out", "with.ipynb"]);

    context
        .run(&["with.ipynb", "-p", "stepz=5"])
        .ended(3)
        .says("no parameter `stepz`; it has: `steps`, `rate`, `name`");
    context
        .run(&["with.ipynb", "-p", "steps=many"])
        .ended(3)
        .says("`steps` is an integer (usize); `many` is not");
    context
        .run(&["with.ipynb", "-p", "steps"])
        .ended(2)
        .says("not name=value");
}

#[test]
fn tags_skip_cells_and_allow_failures() {
    let context = Context::new();
    let mut skipped = tagged("skip", "this is not Rust", &["skip-execution"]);
    skipped["outputs"] = json!([{"name": "stdout", "output_type": "stream", "text": ["old\n"]}]);
    context.notebook(
        "tags.ipynb",
        &[
            tagged("fails", "panic!(\"as it should\");", &["raises-exception"]),
            skipped,
            code("c", "3"),
        ],
    );
    context
        .run(&["tags.ipynb", "--in-place", "--no-html"])
        .ended(0);
    assert_eq!(context.names(), ["tags.ipynb"]);
    let done = context.read("tags.ipynb");
    assert!(error(&done, "fails").1.contains("as it should"));
    assert_eq!(joined(&outputs(&done, "skip")[0]["text"]), "old\n");
    assert_eq!(joined(&outputs(&done, "c")[0]["data"]["text/plain"]), "3");
    assert_eq!(done["cells"][2]["execution_count"], 2);
}

#[test]
fn a_cell_over_its_time_limit_is_stopped() {
    let context = Context::new();
    let patient = "loop { glassbox_prelude::session::check_interrupt()?; std::thread::sleep(std::time::Duration::from_millis(10)); }";
    context.notebook("slow.ipynb", &[code("a", "1"), code("b", patient)]);
    let begun = Instant::now();
    context
        .run(&["slow.ipynb", "--timeout", "20", "--no-html"])
        .ended(1)
        .says("time limit of 20 s");
    assert!(begun.elapsed() > Duration::from_secs(20));
    let done = context.read("slow.executed.ipynb");
    assert_eq!(error(&done, "b").0, "Timeout");
}

#[test]
fn what_a_thread_says_while_later_cells_run_is_in_its_own_cell() {
    let context = Context::new();
    let first = "std::thread::spawn(|| { let mut live = display_live(&MimeBundle::text(\"0\")); for n in 0..20 { println!(\"thread {n}\"); \
                 std::thread::sleep(std::time::Duration::from_millis(50)); } live.update(&MimeBundle::text(\"20\")); });";
    let wait = "println!(\"own\"); std::thread::sleep(std::time::Duration::from_millis(2500));";
    context.notebook(
        "threads.ipynb",
        &[code("a", first), code("b", wait), code("c", "1 + 1")],
    );
    context.run(&["threads.ipynb", "--no-html"]).ended(0);
    let done = context.read("threads.executed.ipynb");
    let texts = |id: &str| -> String {
        outputs(&done, id)
            .iter()
            .map(|output| joined(&output["text"]))
            .collect()
    };
    let all: String = (0..20).map(|n| format!("thread {n}\n")).collect();
    assert_eq!(texts("a"), all);
    let shown = outputs(&done, "a");
    let shown = shown
        .iter()
        .find(|output| output["output_type"] == "display_data");
    assert_eq!(
        shown
            .map(|shown| joined(&shown["data"]["text/plain"]))
            .as_deref(),
        Some("20")
    );
    assert_eq!(texts("b"), "own\n");
    assert_eq!(outputs(&done, "c").len(), 1);
}

#[test]
fn a_time_limit_gives_a_cell_that_is_busy_elsewhere_time_to_stop() {
    let context = Context::new();
    // The call returns eight seconds after the cell was told to stop; it is stopped then, and nothing is lost.
    let busy = "std::thread::sleep(std::time::Duration::from_secs(28));";
    context.notebook(
        "busy.ipynb",
        &[
            code("a", "let kept = 1;"),
            tagged("b", busy, &["raises-exception"]),
            code("c", "kept + 1"),
        ],
    );
    context
        .run(&["busy.ipynb", "--timeout", "20", "--no-html"])
        .ended(0);
    let done = context.read("busy.executed.ipynb");
    assert_eq!(error(&done, "b").0, "Timeout");
    assert_eq!(joined(&outputs(&done, "c")[0]["data"]["text/plain"]), "2");
}

/// Starts a run and waits until a cell has made the file `started`.
fn start_and_wait(context: &Context, arguments: &[&str]) -> Child {
    let mut child = context
        .command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !context.path("started").exists() {
        if let Some(status) = child.try_wait().unwrap() {
            let lines: Vec<_> = BufReader::new(child.stderr.take().unwrap())
                .lines()
                .map_while(Result::ok)
                .collect();
            panic!("the run ended early ({status}):\n{}", lines.join("\n"));
        }
        assert!(
            begun.elapsed() < Duration::from_secs(900),
            "the cell has not begun"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

fn interrupt(child: &Child) {
    // SAFETY: kill(2) on a process that this test started and has not waited for.
    let sent = unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(sent, 0);
}

#[test]
fn ctrl_c_stops_the_cell_within_a_step_and_saves_the_notebook() {
    let context = Context::new();
    let patient = "std::fs::write(\"started\", \"\")?;\nloop { glassbox_prelude::session::check_interrupt()?; \
                   std::thread::sleep(std::time::Duration::from_millis(10)); }";
    context.notebook(
        "patient.ipynb",
        &[
            code("a", "println!(\"first\");"),
            code("b", patient),
            code("c", "1"),
        ],
    );
    let child = start_and_wait(&context, &["patient.ipynb", "--allow-errors"]);
    let begun = Instant::now();
    interrupt(&child);
    finish(child).ended(130).says("interrupted in cell 2 of 3");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    let done = context.read("patient.executed.ipynb");
    assert_eq!(joined(&outputs(&done, "a")[0]["text"]), "first\n");
    assert_eq!(error(&done, "b").0, "Interrupted");
    assert!(outputs(&done, "c").is_empty());
    assert!(context.path("patient.executed.html").exists());
}

#[test]
fn a_second_ctrl_c_ends_a_cell_that_does_not_listen() {
    let context = Context::new();
    let deaf = "std::fs::write(\"started\", \"\")?;\nstd::thread::sleep(std::time::Duration::from_secs(600));";
    context.notebook("deaf.ipynb", &[code("a", deaf)]);
    let child = start_and_wait(&context, &["deaf.ipynb", "--no-html"]);
    interrupt(&child);
    std::thread::sleep(Duration::from_secs(1));
    interrupt(&child);
    finish(child).ended(130);
    let done = context.read("deaf.executed.ipynb");
    assert!(!error(&done, "a").2.is_empty());
}

#[test]
fn what_can_not_be_run_is_refused_before_a_session_starts() {
    let context = Context::new();
    context
        .run(&["gone.ipynb"])
        .ended(3)
        .says("gone.ipynb: no such notebook");
    std::fs::write(context.path("text.ipynb"), "# only text").unwrap();
    context
        .run(&["text.ipynb"])
        .ended(3)
        .says("text.ipynb: not a notebook: the file is not JSON");
    context.notebook_with(
        "py.ipynb",
        &[code("a", "1")],
        json!({"kernelspec": {"name": "python3", "language": "python"}}),
    );
    context
        .run(&["py.ipynb"])
        .ended(3)
        .says("py.ipynb: the notebook asks for the kernel `python3` (language python)");
    std::fs::write(
        context.path("old.ipynb"),
        r#"{"nbformat": 3, "worksheets": []}"#,
    )
    .unwrap();
    context.run(&["old.ipynb"]).ended(3).says("format 3");
    context.run(&[]).ended(2);
    assert_eq!(
        context.names(),
        ["old.ipynb", "py.ipynb", "text.ipynb"],
        "nothing was written"
    );
}

#[test]
fn an_output_folder_that_can_not_be_written_is_found_before_cells_run() {
    let context = Context::new();
    context.notebook("a.ipynb", &[code("a", "std::fs::write(\"ran\", \"\")?;")]);
    context
        .run(&["a.ipynb", "--output", "/proc/nowhere"])
        .ended(5)
        .says("cannot write /proc/nowhere/a.ipynb");
    assert_eq!(context.names(), ["a.ipynb"]);
    context
        .run(&["a.ipynb", "--output", "."])
        .ended(2)
        .says("--in-place");
    context
        .run(&["a.ipynb", "a.ipynb"])
        .ended(2)
        .says("would both be written to");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_user_s_file_as_it_was() {
    use std::os::unix::process::CommandExt as _;
    let context = Context::new();
    let long = "# ".to_owned() + &"long ".repeat(4000);
    // No code: the run needs no session, only to write (an id is missing, so there is something to write).
    let path = context.notebook(
        "a.ipynb",
        &[json!({"cell_type": "markdown", "metadata": {}, "source": long})],
    );
    let before = std::fs::read(&path).unwrap();
    let mut command = context.command(&["a.ipynb", "--in-place"]);
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 4096,
                rlim_max: 4096,
            };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            Ok(())
        });
    }
    finish(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    )
    .ended(5)
    .says("cannot write");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(context.names(), ["a.ipynb"], "nothing half-written is left");
}

#[test]
fn without_a_compiler_the_message_says_what_to_install() {
    let context = Context::new();
    context.notebook("a.ipynb", &[code("a", "1")]);
    let mut command = context.command(&["a.ipynb"]);
    let child = command
        .env("PATH", context.path("empty"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    finish(child).ended(4).says("https://rustup.rs");
    assert_eq!(context.names(), ["a.ipynb"]);
}

#[test]
fn a_toolchain_without_the_library_s_source_says_what_rustup_said() {
    let context = Context::new();
    context.notebook("a.ipynb", &[code("a", "1")]);
    let tools = context.path("tools");
    std::fs::create_dir(&tools).unwrap();
    let script = |name: &str, body: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = tools.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let sysroot = context.path("toolchains/minimal");
    script("cargo", "exit 0");
    script(
        "rustc",
        &format!("echo {0}; echo {0}/lib", sysroot.display()),
    );
    script(
        "rustup",
        "[ \"$1\" = component ] && echo \"$*: no route to the server\" >&2; exit 1",
    );
    let mut command = context.command(&["a.ipynb"]);
    let child = command
        .env("PATH", &tools)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    finish(child)
        .ended(4)
        .says("component add rust-src")
        .says("no route to the server")
        .says("toolchains/minimal");
}

#[test]
fn several_notebooks_run_one_after_the_other_each_in_its_own_session() {
    let context = Context::new();
    std::fs::create_dir(context.path("sub")).unwrap();
    context.notebook("one.ipynb", &[code("a", "let mine = 1;\nmine")]);
    context.notebook("sub/two.ipynb", &[code("a", "mine")]);
    context
        .run(&["one.ipynb", "sub/two.ipynb", "--no-html"])
        .ended(1)
        .says("one.ipynb: 1 cell executed")
        .says("sub/two.ipynb: cell 1 of 1 failed");
    assert!(Path::new(&context.path("sub/two.executed.ipynb")).exists());
}
