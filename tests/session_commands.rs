//! The commands that begin with a colon, in a real session.

mod session_support;

use std::path::Path;
use std::process::Command;

use glassbox::session::{CellErrorKind, Event, StreamName};
use session_support::exported::compile_exported;
use session_support::{Run, TestSession};

/// What a cell printed.
fn printed(run: &Run) -> String {
    run.events
        .iter()
        .filter_map(|event| match event {
            Event::Stream { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

fn refused(run: &Run) -> String {
    let error = run.outcome.status.as_ref().expect_err("it is refused");
    assert_eq!(error.kind, CellErrorKind::Command, "{run:#?}");
    error.evalue.clone()
}

#[test]
fn help_lists_our_commands_and_the_engine_s_and_they_complete() {
    let mut session = TestSession::start();
    let help = session.result_of(":help");
    for word in [
        ":help",
        ":vars",
        ":mem",
        ":time CODE",
        ":bench",
        ":load FILE",
        ":replay",
        ":export DIR",
        ":dep",
        ":opt",
        "?NAME",
    ] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    for word in [":sccache", ":linker"] {
        assert!(
            !help.contains(word),
            "{word} has no effect but is in\n{help}"
        );
    }
    let found = session.session.complete(":", 1).unwrap();
    let texts: Vec<&str> = found.items.iter().map(|item| item.text.as_str()).collect();
    for word in [":time", ":replay", ":dep"] {
        assert!(texts.contains(&word), "{word} is not in {texts:?}");
    }
    // Code after a command completes as it does without it.
    session.run("let words = vec![String::from(\"a\")];");
    let code = ":time words.first_ch";
    let found = session.session.complete(code, code.len()).unwrap();
    assert_eq!(&code[found.start..found.end], "first_ch");
    assert!(
        found
            .items
            .iter()
            .any(|item| item.text.starts_with("first_chunk")),
        "{found:?}"
    );
}

#[test]
fn commands_of_all_kinds_stand_above_code_and_nothing_is_left_out() {
    let mut session = TestSession::start();
    let run = session.run(":opt 1\n:vars\n// a comment\n:show_deps\nlet below = 5;\nbelow");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let shown: Vec<&str> = run
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Result(display) => display.plain(),
            _ => None,
        })
        .collect();
    // What the engine's commands answer comes when the code below them has run.
    let expected = ["Optimization: 1", "no variables yet", "5", ""];
    assert_eq!(shown, expected, "{run:#?}");
    // The code below a command of the session was dropped without a word.
    let run = session.run(":mem\nlet after = below + 1;");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(session.result_of("after"), "6");
    // Errors name the lines of the whole cell.
    let run = session.run(":vars\n\nlet wrong: u8 = \"text\";");
    let report = run.outcome.status.expect_err("it does not compile");
    let report = report.traceback.join("\n");
    assert!(report.contains("cell:3:17"), "{report}");
    // A command that is refused ends the cell before its code.
    assert!(refused(&session.run(":vars of what\nlet never = 1;")).contains("`of what`"));
    assert!(session.run("never").outcome.status.is_err());
    assert!(session.run(":timing off\n1").outcome.status.is_err());
}

#[test]
fn help_runs_no_cell_and_question_marks_are_commands_everywhere() {
    let mut session = TestSession::that_is_asked();
    let run = session.run(":help");
    assert!(
        run.outcome.status.is_ok() && run.outcome.phases.is_empty(),
        "{run:#?}"
    );
    for (usage, _) in glassbox::session::commands() {
        let help = session.result_of("?");
        assert!(help.contains(&usage), "{usage} is not in\n{help}");
    }
    session.run("/// Doubles a number.\nfn double(number: i32) -> i32 { 2 * number }");
    for cell in ["?double", "??double", " ? double\n", ":doc double"] {
        let shown = session.result_of(cell);
        assert!(shown.contains("Doubles a number."), "{cell}: {shown}");
    }
    let run = session.run("?double\ndouble(4)");
    let last = run.events.iter().rev().find_map(|event| match event {
        Event::Result(display) => display.plain(),
        _ => None,
    });
    assert_eq!(last, Some("8"), "{run:#?}");
    let found = session.session.complete("?doub", 5).unwrap();
    assert_eq!((found.start, found.end), (1, 5));
    assert!(
        found
            .items
            .iter()
            .any(|item| item.text.starts_with("double")),
        "{found:?}"
    );
    assert!(refused(&session.run(":quit")).contains("glassbox repl"));
    assert!(refused(&session.run("?nonsense")).contains("nonsense"));
}

#[test]
fn variables_are_shown_with_type_shape_size_and_value() {
    let mut session = TestSession::start();
    assert_eq!(session.result_of(":vars"), "no variables yet");
    session.run(
        "let pixels = Tensor::zeros((1, 3, 80, 80), DType::F32, &Device::Cpu)?;\n\
         let projector = Vlm::tiny(&Device::Cpu)?.projector;\n\
         let words = vec![String::from(\"a\"), String::from(\"b\")];\nlet answer = 42;\nlet nothing: Option<u8> = None;",
    );
    let table = session.result_of(":vars");
    let line = |name: &str| {
        table
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name))
            .unwrap_or_else(|| panic!("{name} is not in\n{table}"))
            .to_owned()
    };
    assert!(line("pixels").contains("[1, 3, 80, 80] f32"), "{table}");
    assert!(line("pixels").contains("76.8 kB"), "{table}");
    assert!(line("projector").contains("parameters"), "{table}");
    assert!(
        line("words").contains("Vec<String>") && line("words").contains("2 items"),
        "{table}"
    );
    assert!(line("answer").ends_with("42"), "{table}");
    assert!(line("nothing").contains("None"), "{table}");
    // Looking takes nothing away.
    assert_eq!(session.result_of("words.len() + answer as usize"), "44");
}

#[test]
fn time_tells_running_from_compiling() {
    let mut session = TestSession::start();
    let run = session
        .run(":time std::thread::sleep(std::time::Duration::from_millis(1500)); let kept = 1;");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let ran = run.outcome.ran.expect("it ran");
    assert!(
        // What the cell takes is seen from outside, some milliseconds late.
        ran.as_millis() >= 1400 && ran < run.outcome.duration,
        "{run:#?}"
    );
    assert!(
        printed(&run).starts_with("ran 1.") && printed(&run).contains("compiled"),
        "{run:#?}"
    );
    assert_eq!(session.result_of(":time kept + 1"), "2");
    let run = session.run(":time let x: i32 = \"é\";");
    let report = run
        .outcome
        .status
        .expect_err("it does not compile")
        .traceback
        .join("\n");
    assert!(
        report.contains("cell:1:20") || report.contains(":20"),
        "{report}"
    );
    assert!(refused(&session.run(":time")).contains(":time CODE"));
}

#[test]
fn bench_shows_median_and_spread() {
    let mut session = TestSession::start();
    session.run("let numbers: Vec<f64> = (0..1000).map(f64::from).collect();");
    let shown = session.result_of(":bench numbers.iter().sum::<f64>()");
    assert!(
        shown.contains("a run (median of") && shown.contains("slowest"),
        "{shown}"
    );
    let shown = session.result_of(":bench\nlet text = \"12\";\ntext.parse::<i32>()?");
    assert!(shown.contains("median"), "{shown}");
    assert!(
        session
            .run(":bench \"x\".parse::<i32>()?")
            .outcome
            .status
            .is_err()
    );
    assert!(refused(&session.run(":bench")).contains(":bench EXPRESSION"));
    assert_eq!(session.result_of("numbers.len()"), "1000");
}

#[test]
fn memory_is_told_without_running_anything() {
    let mut session = TestSession::start();
    let told = session.result_of(":mem");
    assert!(
        told.contains("cells, now") && told.contains("machine"),
        "{told}"
    );
}

#[test]
fn a_file_runs_as_if_it_stood_in_the_cell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cells of mine.rs");
    std::fs::write(
        &file,
        "#!/usr/bin/env glassbox\nfn three() -> i32 { 3 }\nlet loaded = three();\nloaded\n",
    )
    .unwrap();
    let mut session = TestSession::start();
    let load = format!(":load {}", file.display());
    assert_eq!(session.result_of(&load), "3");
    assert_eq!(session.result_of("loaded + three()"), "6");
    std::fs::write(&file, "let x = 1;\nlet y: u8 = \"text\";\n").unwrap();
    let run = session.run(&load);
    let report = run
        .outcome
        .status
        .expect_err("it does not compile")
        .traceback
        .join("\n");
    assert!(
        report.contains("cells of mine.rs") && report.contains("2:"),
        "{report}"
    );
    assert!(refused(&session.run(":load /nowhere.rs")).contains("/nowhere.rs"));
    assert!(
        refused(&session.run(&format!(":load {}", folder.path().display()))).contains("folder")
    );
}

#[test]
fn an_exported_session_builds_and_gives_the_same_output() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("My notebook");
    let mut session = TestSession::start();
    let mut expected = String::new();
    for cell in [
        "use std::collections::BTreeMap;\nlet device = Device::Cpu;\nlet x = Tensor::arange(0f32, 6., &device)?.reshape((2, 3))?;",
        "fn total(t: &Tensor) -> Result<f32> { Ok(t.sum_all()?.to_scalar()?) }\nprintln!(\"total {}\", total(&x)?);",
        "let broken: u8 = \"not in the program\";",
        "let mut counts = BTreeMap::new();\nfor word in \"a b a\".split(' ') { *counts.entry(word.to_owned()).or_insert(0) += 1; }\ncounts",
        ":time let y = (&x * 2.0)?;",
        "total(&y)? // the value",
        "Table::new([\"name\", \"value\"]).row([\"é\".into(), 1.5_f64.into()])",
        "y.t()?",
        // Types, and variables that later cells change.
        "#[derive(Debug, Clone, PartialEq)] struct Run { steps: usize, loss: f64 }\nimpl Run { fn step(&mut self) -> &mut Run { self.steps += 1; self.loss /= 2.0; self } }\nlet mut run = Run { steps: 0, loss: 8.0 };",
        "impl std::fmt::Display for Run { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, \"{} steps, loss {}\", self.steps, self.loss) } }",
        "run.step().step();\nprintln!(\"{run}\");",
        "let history = { let mut all = vec![run.clone()]; all.push(run.step().clone()); all };\nhistory.len()",
        "let run = Run { loss: 1.5, ..run };\nrun",
        // What ends with its cell: a closure, a guard of a lock, a borrow.
        "let shared = std::sync::Arc::new(std::sync::Mutex::new(vec![1, 2]));\nlet longer = |v: &[i32]| v.len() + 1; let length = longer(&shared.lock()?);\nlength",
        "let mut guard = shared.lock()?;\nguard.push(3); // still held\nlet last = guard.last().copied();",
        "let first = &history[0];\nprintln!(\"{first} {}\", shared.lock()?.len());\nlast",
        // A function defined anew, a macro, an error type of one's own.
        "fn describe(run: &Run) -> String { format!(\"<{run}>\") }\nmacro_rules! twice { ($e:expr) => { ($e, $e) } }",
        "#[derive(Debug)] struct TooLong(usize);\nimpl std::fmt::Display for TooLong { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, \"{} is too long\", self.0) } }\nimpl std::error::Error for TooLong {}\nfn check(n: usize) -> std::result::Result<usize, TooLong> { if n > 100 { Err(TooLong(n)) } else { Ok(n) } }",
        "let checked = check(describe(&run).len())?;\ntwice!(checked)",
        "check(1000)?",
        "display(&MimeBundle::text(\"shown\"));\nfor (i, step) in history.iter().enumerate() { print!(\"{i}: {step}; \"); }\nprintln!();",
        "let vlm = Vlm::tiny(&device)?;\nlet ids = vlm.caption_ids(\"two red circles\")?;\nids",
        "vlm.named_parameters().len()",
    ] {
        for event in session.run(cell).events {
            match event {
                Event::Stream {
                    name: StreamName::Stdout,
                    text,
                } if !text.starts_with("ran ") => expected += &text,
                Event::Display(display) | Event::Result(display) => {
                    expected += display.plain().unwrap_or_default();
                    expected.push('\n');
                }
                _ => {}
            }
        }
    }
    let told = session.result_of(&format!(":export {}", dir.display()));
    assert!(
        told.contains("21 cells") && !told.contains("note:"),
        "{told}"
    );
    let again = session.run(&format!(":export {}", folder.path().display()));
    assert!(refused(&again).contains("something else"), "{again:#?}");
    assert_eq!(compile_and_run(&dir, session.session.folder()), expected);
    if std::env::var_os("GLASSBOX_TEST_CARGO").is_some() {
        assert_eq!(build_and_run(&dir), expected);
    }
}

/// Compiles the project's source, and runs it.
fn compile_and_run(dir: &Path, session: &Path) -> String {
    let program = compile_exported(dir, session);
    let resolved = Command::new("cargo")
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--manifest-path",
        ])
        .arg(dir.join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(
        resolved.status.success(),
        "{}",
        String::from_utf8_lossy(&resolved.stderr)
    );
    let output = Command::new(&program)
        // cargo puts its own folder first, where another build of the library may be.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("the program runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the output is text")
}

/// The same with cargo, which builds the prelude and everything below it: many minutes the first time.
fn build_and_run(dir: &Path) -> String {
    let target = Path::new(env!("CARGO_BIN_EXE_glassbox"))
        .ancestors()
        .nth(2)
        .expect("the binary lies in target/PROFILE");
    let output = Command::new("cargo")
        .args([
            "run",
            "--release",
            "--quiet",
            "--offline",
            "--manifest-path",
        ])
        .arg(dir.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).expect("the output is text")
}
