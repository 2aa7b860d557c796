//! Text that means harm, given to what a user starts: cells that nest without end, notebooks whose text runs or loads something, control characters
//! for the terminal, output without end, pipes and devices in the place of files. The built binary, real sessions, real pages.

mod notebook_support;
mod session_support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use glassbox::session::{Completeness, Event, completeness};
use notebook_support::{execute, said};
use serde_json::{Value, json};
use session_support::{TestSession, ok};

fn write(path: &Path, cells: &[(&str, &str)]) {
    let cells: Vec<Value> = cells
        .iter()
        .map(|(kind, source)| match *kind {
            "code" => json!({"cell_type": kind, "metadata": {}, "source": source, "execution_count": null, "outputs": []}),
            kind => json!({"cell_type": kind, "metadata": {}, "source": source}),
        })
        .collect();
    let text =
        json!({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).to_string();
    std::fs::write(path, text).unwrap();
}

fn within<T>(what: &str, patience: Duration, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    assert!(
        begun.elapsed() < patience,
        "{what} took {:?}",
        begun.elapsed()
    );
    done
}

/// Variables are there after whatever a cell asks of the parser and of the compiler.
#[test]
fn deep_cells_end_neither_the_session_nor_its_variables() {
    let mut session = TestSession::that_is_asked();
    ok(&mut session, "let keep = 7;");
    let around = |begin: &str, middle: &str, end: &str, times: usize| {
        format!("{}{middle}{}", begin.repeat(times), end.repeat(times))
    };
    let deep = [
        around("(", "1", ")", 2500),
        around("(", "1", ")", 100_000),
        around("-", "1i64", "", 10_000),
        around("{", "1", "}", 50_000),
        around("[", "1", "]", 50_000),
        around("|| ", "1", "", 20_000),
        around("", "keep", ".clone()", 20_000),
        format!("let x: {} = todo!();", around("Vec<", "u8", ">", 20_000)),
        format!(
            "fn f() -> {} {{ todo!() }}",
            around("Option<", "u8", ">", 20_000)
        ),
        around("if keep == 1 {} else ", "{}", "", 20_000),
        around("vec![", "1", "]", 20_000),
        around("1 + ", "1", "", 20_000),
    ];
    for code in &deep {
        let name = &code[..40];
        within(name, Duration::from_secs(60), || {
            assert_ne!(completeness(code), Completeness::Invalid, "{name}");
            let run = session.run(code);
            if let Err(error) = &run.outcome.status {
                assert!(
                    error.evalue.contains("nest") && error.evalue.len() < 1000,
                    "{name}: {error}"
                );
            }
            assert!(session.session.complete(code, code.len()).is_ok(), "{name}");
            assert!(
                session.session.inspect(code, code.len() / 2).is_ok(),
                "{name}"
            );
        });
    }
    // What is long and not deep is run.
    let sum = format!("let sum = {}1;", "1 + ".repeat(1000));
    ok(&mut session, &sum);
    within("completion in a long sum", Duration::from_secs(30), || {
        session.session.complete(&sum, sum.len())
    })
    .unwrap();
    assert_eq!(session.result_of("sum + keep"), "1008");
}

/// Only what `evcxr_display` prints is shown; the same lines in a text are text.
#[test]
fn printed_lines_of_evcxr_are_text() {
    let mut session = TestSession::start();
    let block = "EVCXR_BEGIN_CONTENT text/html\n<script>1</script>\nEVCXR_END_CONTENT\n";
    ok(
        &mut session,
        &format!(
            "let block = {block:?};\nstruct Page;\nimpl Page {{ fn evcxr_display(&self) {{ print!(\"{{}}\", {block:?}); }} }}"
        ),
    );
    let shown = |events: &[Event]| {
        let html = events.iter().filter(|event| matches!(event, Event::Display(display) | Event::Result(display) if display.data.contains_key("text/html")));
        html.count()
    };
    let printed = |events: &[Event]| -> String {
        let texts = events.iter().filter_map(|event| match event {
            Event::Stream { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    };
    for (code, displays, text) in [
        ("print!(\"{block}\");", 0, true),
        ("print!(\"{block}\");\nPage", 1, true),
        ("Page.evcxr_display();\nprint!(\"{block}\");", 1, true),
        ("for _ in 0..2 { Page.evcxr_display(); }", 2, false),
        (
            "fn show() { Page::evcxr_display(&Page) }\nshow();",
            1,
            false,
        ),
    ] {
        let run = session.run(code);
        assert!(run.outcome.status.is_ok(), "{code}: {run:#?}");
        assert_eq!(shown(&run.events), displays, "{code}: {run:#?}");
        assert_eq!(
            printed(&run.events).contains(block),
            text,
            "{code}: {run:#?}"
        );
    }
}

#[test]
fn a_page_runs_and_loads_nothing_and_says_what_it_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    std::fs::create_dir(top.join("book")).unwrap();
    std::fs::write(top.join("secret.png"), "SECRET").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", top.join("book/passwd.png")).unwrap();
    let file = top.join("book/a.ipynb");
    let text = "# Title\n\n<script>alert(1)</script> <img src=x onerror=alert(1)> <svg onload=alert(1)>\n\n[a](JaVa&#115;cript:alert(1)) \
                <a href=\"data:text/html,x\">b</a>\n\n<iframe srcdoc=\"<script>\"></iframe><meta http-equiv=refresh content=\"0;url=http://e\">\
                <base href=\"http://e\"><form action=\"http://e\"></form><style>@import 'http://e';</style>\n\n![p](../secret.png) ![q](passwd.png) \
                ![r](..%2fsecret.png) <img src=\"../secret.png\"> ![s](http://e/t.png)";
    write(&file, &[("markdown", text)]);
    let out = top.join("out");
    std::fs::create_dir(&out).unwrap();
    let output = execute(&file, &out, &[], &[]);
    assert!(output.status.success(), "{}", said(&output));
    let page = std::fs::read_to_string(out.join("a.html")).unwrap();
    for mark in [
        "<script",
        "onerror",
        "onload",
        "javascript:",
        "srcdoc",
        "<iframe",
        "refresh",
        "<base",
        "<form",
        "@import",
        "http://e",
        "data:text",
        "SECRET",
        "root:",
    ] {
        assert!(
            !page.to_lowercase().contains(&mark.to_lowercase()),
            "{mark}: {page}"
        );
    }
    assert!(
        page.contains("default-src 'none'") && page.contains("Left out"),
        "{page}"
    );
    assert!(
        said(&output).contains("1 script") && said(&output).contains("left out of the page"),
        "{}",
        said(&output)
    );
}

/// A minute once: each heading was compared with all before it, each time that its number was counted up.
#[test]
fn ten_thousand_equal_headings_are_written_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.ipynb");
    write(&file, &[("markdown", &"# Same\n\n".repeat(10_000))]);
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let output = within("the page", Duration::from_secs(10), || {
        execute(&file, &out, &[], &[])
    });
    assert!(output.status.success(), "{}", said(&output));
    let page = std::fs::read_to_string(out.join("a.html")).unwrap();
    let mut ids: Vec<&str> = page
        .split("<h1 id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10_000, "each heading has an address of its own");
}

#[test]
fn a_terminal_is_told_nothing_by_a_cell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.ipynb");
    write(
        &file,
        &[(
            "code",
            "// \u{1b}]52;c;aGk=\u{7} \u{202e}\nlet name = \"\u{1b}]0;title\u{7}\";\npanic!(\"\u{1b}]52;c;aGk=\u{7}{name}\u{9b}2J\");",
        )],
    );
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let output = execute(&file, &out, &["--no-html"], &[("CLICOLOR_FORCE", "1")]);
    let said = said(&output);
    let bad =
        |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r' | '\u{1b}') || c == '\u{202e}';
    assert!(
        said.contains("panic") && !said.contains("\u{1b}]") && !said.contains(bad),
        "{said:?}"
    );
    let output = Command::new("sh")
        .args(["-c", "printf '%b' 'print!(\"\\\\u{1b}]52;c;aGk=\\\\u{7}\\\\u{1b}[31mred\\\\u{1b}[0m\");\\n' | \"$0\" repl 2>&1", env!("CARGO_BIN_EXE_glassbox")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("\u{1b}[31mred\u{1b}[0m") && !said.contains("\u{1b}]"),
        "{said:?}"
    );
}

#[test]
fn output_without_end_is_cut_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.ipynb");
    let line = "for i in 0..40_000 { println!(\"{i:0>1000}\"); }";
    let one = "for _ in 0..40 { print!(\"{}\", \"x\".repeat(1_000_000)); }";
    write(&file, &[("code", line), ("code", one)]);
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let output = execute(&file, &out, &[], &[]);
    assert!(output.status.success(), "{}", said(&output));
    let text = std::fs::read_to_string(out.join("a.ipynb")).unwrap();
    assert!(text.len() < 20 << 20, "{} bytes", text.len());
    assert_eq!(
        text.matches("of this cell's text are left out here")
            .count(),
        2
    );
    assert!(
        text.contains(&format!("{:0>1000}", 39_999)) && text.contains(&format!("{:0>1000}", 0))
    );
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.ipynb");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let output = within("run of a pipe", Duration::from_secs(10), || {
        execute(&pipe, folder.path(), &[], &[])
    });
    assert!(
        !output.status.success() && said(&output).contains("named pipe"),
        "{}",
        said(&output)
    );
    let mut session = TestSession::start();
    let run = within(":load of a pipe", Duration::from_secs(20), || {
        session.run(&format!(":load {}", pipe.display()))
    });
    let error = run.outcome.status.unwrap_err();
    assert!(error.evalue.contains("named pipe"), "{error}");
}
