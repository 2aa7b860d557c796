//! What cells print and show, how they end, and what is true of the variables afterwards: real compiler, real prelude.

mod session_support;

use std::time::{Duration, Instant};

use glassbox::session::{CellErrorKind, Completeness, Event, Interrupted, StreamName};
use session_support::{Run, TestSession};

/// The events in short: streams by their text, everything else by its kind and plain text.
fn short(run: &Run) -> Vec<String> {
    let plain = |display: &glassbox::session::Display| display.plain().unwrap_or("?").to_owned();
    let mut all: Vec<String> = Vec::new();
    for event in &run.events {
        let text = match event {
            Event::Stream {
                name: StreamName::Stdout,
                text,
            } => format!("out:{text}"),
            Event::Stream {
                name: StreamName::Stderr,
                text,
            } => format!("err:{text}"),
            Event::Display(display) => format!("display:{}", plain(display)),
            Event::Update(display) => format!("update:{}", plain(display)),
            Event::Result(display) => format!("result:{}", plain(display)),
            Event::ClearOutput { wait } => format!("clear:{wait}"),
            Event::Comm(comm) => format!("{:?}:{}", comm.kind, comm.id),
            Event::Background { cell, event } => format!("of {cell}:{event:?}"),
        };
        // How text is cut into pieces is up to the system.
        match (all.last_mut(), text.strip_prefix("out:")) {
            (Some(last), Some(more)) if last.starts_with("out:") => last.push_str(more),
            _ => all.push(text),
        }
    }
    all
}

fn error(run: &Run) -> &glassbox::session::CellError {
    run.outcome.status.as_ref().expect_err("the cell fails")
}

fn traceback(run: &Run) -> String {
    strip_colours(&error(run).traceback.join("\n"))
}

fn strip_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain + rest
}

#[test]
fn text_and_displays_arrive_in_order() {
    let mut session = TestSession::start();
    let run = session.run(
        "println!(\"one\"); display(&MimeBundle::text(\"picture\")); print!(\"10%\\r20%\"); \
         display(&MimeBundle::text(\"second\")); print!(\"end\");",
    );
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(
        short(&run),
        [
            "out:one\n",
            "display:picture",
            "out:10%\r20%",
            "display:second",
            "out:end"
        ]
    );

    let run = session.run(
        "let mut live = display_live(&MimeBundle::text(\"first\")); live.update(&MimeBundle::text(\"last\")); \
         clear_output(true);",
    );
    let events = short(&run);
    assert_eq!(
        events.first().map(String::as_str),
        Some("display:first"),
        "{run:#?}"
    );
    assert!(events.contains(&"clear:true".to_owned()), "{run:#?}");

    let run = session.run("use std::io::Write; print!(\"abc\"); std::io::stdout().flush()?;");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(short(&run), ["out:abc"]);

    let run = session.run("eprintln!(\"to stderr\")");
    assert_eq!(short(&run), ["err:to stderr\n"]);
}

#[test]
fn text_without_a_newline_just_before_an_abort_arrives() {
    let mut session = TestSession::start();
    for (end, ename) in [
        ("std::process::abort();", "Aborted"),
        (
            "unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };",
            "SegmentationFault",
        ),
        ("std::process::exit(3);", "Exited"),
        // Nothing can be done when the process is killed; what was printed a while ago is out.
        (
            "std::thread::sleep(std::time::Duration::from_millis(800)); \
             std::process::Command::new(\"kill\").args([\"-9\", &std::process::id().to_string()]).status();",
            "Killed",
        ),
    ] {
        let run = session.run(&format!("print!(\"last words\"); {end}"));
        assert_eq!(error(&run).ename, ename, "{run:#?}");
        assert_eq!(short(&run), ["out:last words"], "{ename}");
    }
}

#[test]
fn text_without_a_newline_arrives_while_the_cell_runs() {
    let mut session = TestSession::start();
    let begin = Instant::now();
    let mut first = None;
    let code = "print!(\"...\"); std::thread::sleep(std::time::Duration::from_secs(3));";
    let outcome = session.session.evaluate(code, &mut |_| {
        first.get_or_insert_with(|| begin.elapsed());
    });
    let before_the_end = outcome.duration - first.expect("the text arrives");
    assert!(
        before_the_end > Duration::from_secs(2),
        "{before_the_end:?} before the end"
    );
}

#[test]
fn a_cell_asks_for_a_line_of_text() {
    let mut session = TestSession::start();
    let run = session.run("let name = input(\"who? \")?;");
    assert!(
        error(&run).evalue.contains("no one can be asked"),
        "{run:#?}"
    );
    session
        .session
        .set_input_reader(Some(Box::new(|question| match question.password {
            true => Err("no passwords here".to_owned()),
            false => Ok(format!("{}, said \"é\n\"", question.prompt)),
        })));
    assert_eq!(
        session.result_of("input(\"who? \")?"),
        format!("{:?}", "who? , said \"é\n\"")
    );
    let run = session.run("let secret = input_password(\"password: \")?;");
    assert!(error(&run).evalue.contains("no passwords here"), "{run:#?}");
}

#[test]
fn events_arrive_while_the_cell_runs() {
    let mut session = TestSession::start();
    let begin = Instant::now();
    let mut first = None;
    let code = "println!(\"now\"); std::thread::sleep(std::time::Duration::from_secs(3));";
    let outcome = session.session.evaluate(code, &mut |_| {
        first.get_or_insert_with(|| begin.elapsed());
    });
    assert!(outcome.status.is_ok());
    let before_the_end = outcome.duration - first.expect("the text arrives");
    assert!(
        before_the_end > Duration::from_secs(2),
        "{before_the_end:?} before the end"
    );
}

#[test]
fn values_show_themselves() {
    let mut session = TestSession::start();
    assert_eq!(session.result_of("1 + 1"), "2");
    assert_eq!(
        session.result_of("MimeBundle::text(\"own way\")"),
        "own way"
    );
    assert_eq!(
        session.result_of("let text = String::from(\"é\");\ntext"),
        "\"é\""
    );
    assert_eq!(session.result_of("text"), "\"é\"");
    let run = session.run("for _ in 0..2 {}");
    assert!(
        run.outcome.status.is_ok() && run.events.is_empty(),
        "{run:#?}"
    );
}

#[test]
fn minuses_at_the_top_of_a_cell_are_a_value_s_signs() {
    let mut session = TestSession::start();
    assert_eq!(session.result_of("---5"), "-5");
    assert_eq!(session.result_of("---\n5\n---\n3"), "-8");
    let run = session.run("---\n-é");
    assert!(error(&run).to_string().contains('é'), "{}", error(&run));
    assert_eq!(session.result_of("1 + 1"), "2");
}

#[test]
fn user_text_that_looks_like_control_changes_nothing() {
    let mut session = TestSession::start();
    let forged =
        "EVCXR_EXECUTION_COMPLETE\\nEVCXR_PANIC_NOTIFICATION\\nEVCXR_VARIABLE_CHANGED_TYPE:kept\\n";
    session.run("let kept = 1;");
    let run = session.run(&format!("print!(\"{forged}\");"));
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(
        short(&run),
        [format!("out:{}", forged.replace("\\n", "\n"))]
    );
    let frame =
        "\\x1b_GBX00000000000000000000000000000000;26;{{\\\"event\\\":\\\"clear\\\"}}\\x1b\\\\";
    let run = session.run(&format!("print!(\"{frame}\");"));
    assert!(
        matches!(run.events.as_slice(), [Event::Stream { .. }]),
        "{run:#?}"
    );
    // Reading stdin finds nothing, and takes no command away.
    let run = session.run("let mut line = String::new(); std::io::stdin().read_line(&mut line)?;");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(session.result_of("kept"), "1");
}

#[test]
fn compile_errors_stand_on_the_cells_own_lines() {
    let mut session = TestSession::start();
    session.run("let kept = 1;");
    let run = session.run("let grüße = \"日本\";\nlet number: i32 = \"é\";");
    let failure = error(&run);
    assert_eq!(failure.kind, CellErrorKind::Compile);
    assert_eq!(
        (failure.ename.as_str(), failure.evalue.as_str()),
        ("E0308", "mismatched types")
    );
    let report = traceback(&run);
    assert!(report.contains("cell:2:19"), "{report}");
    assert!(report.contains("2 | let number: i32 = \"é\";"), "{report}");
    assert!(report.contains("expected `i32`, found `&str`"), "{report}");
    assert!(!report.contains("lib.rs"), "{report}");
    assert_eq!(report.matches("mismatched types").count(), 1, "{report}");
    assert_eq!(failure.state.lost, Vec::<String>::new());
    assert_eq!(failure.state.kept, ["kept"]);

    let run = session.run("let v = vec![1, 2];\nv.pussh(3);");
    let report = traceback(&run);
    assert!(report.contains("no method named `pussh`"), "{report}");
    assert!(report.contains("push"), "{report}");
    let run = session.run("let unfinished = 1;\nunfinished.");
    assert_eq!(error(&run).ename, "SyntaxError");
    assert!(traceback(&run).contains("cell:2:11"), "{}", traceback(&run));
    assert!(session.run("fn broken( {").outcome.status.is_err());
    assert_eq!(session.result_of("kept"), "1");
}

#[test]
fn panics_and_failed_question_marks_are_errors_and_say_what_was_lost() {
    let mut session = TestSession::start();
    session.run("let kept = 1; let taken = String::from(\"t\");");
    let run = session.run("let new = 2;\nstd::mem::drop(taken);\nlet none: Option<u8> = None;\nnone.expect(\"nothing there\");");
    let failure = error(&run);
    assert_eq!(failure.kind, CellErrorKind::Panic);
    assert_eq!(
        (failure.ename.as_str(), failure.evalue.as_str()),
        ("Panic", "nothing there")
    );
    let report = traceback(&run);
    assert!(report.contains("cell:4"), "{report}");
    assert_eq!(failure.state.kept, ["kept"]);
    assert_eq!(failure.state.lost, ["taken"]);
    assert_eq!(failure.state.not_stored, ["new", "none"]);

    let run = session.run("let ok = 1;\nlet n: i32 = \"twelve\".parse()?;");
    let failure = error(&run);
    assert_eq!(failure.kind, CellErrorKind::Error);
    assert_eq!(failure.evalue, "invalid digit found in string");
    assert!(traceback(&run).contains("cell:2"), "{}", traceback(&run));
    assert_eq!(failure.state.kept, ["kept"]);

    let run = session.run("std::fs::read_to_string(\"/nowhere\").map_err(|source| Error::Io { path: \"/nowhere\".into(), source })?;");
    let failure = error(&run);
    assert!(failure.evalue.contains("/nowhere"), "{failure:?}");
    // A panic that the cell catches, or one in another thread, is not the cell's.
    let run = session.run("std::thread::spawn(|| panic!(\"elsewhere\")).join().is_err()");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(session.result_of("kept"), "1");
}

#[test]
fn after_the_process_died_the_next_cell_runs() {
    let mut session = TestSession::start();
    session.run("fn add(a: i32) -> i32 { a + 1 }\nlet lost = 1;");
    let run = session.run("println!(\"before\"); std::process::abort();");
    assert_eq!(short(&run), ["out:before\n"]);
    let failure = error(&run);
    assert_eq!(failure.kind, CellErrorKind::Aborted { signal: 6 });
    assert_eq!(failure.state.lost, ["lost"]);
    assert!(failure.state.restarted && failure.state.to_string().contains("`lost`"));
    assert_eq!(failure.state.replayable, 1);
    assert!(traceback(&run).contains("`:replay`"), "{}", traceback(&run));
    assert_eq!(session.result_of("add(1)"), "2");

    let run =
        session.run("unsafe { std::ptr::null_mut::<u8>().wrapping_add(8).write_volatile(1) }");
    assert_eq!(error(&run).ename, "SegmentationFault");
    let run = session.run("std::process::exit(3)");
    assert_eq!(error(&run).kind, CellErrorKind::Exited { code: 3 });
    let run = session.run(
        "fn deep(n: u64) -> u64 { let block = [n; 1000]; if n == u64::MAX { 0 } else { deep(n + 1) + block[7] } }\ndeep(0)",
    );
    assert_eq!(error(&run).ename, "StackOverflow", "{run:#?}");
    assert_eq!(error(&run).kind, CellErrorKind::Aborted { signal: 6 });
    // More than any address space holds, past the check for it in `Vec`.
    let run = session.run(
        "unsafe { let layout = std::alloc::Layout::from_size_align(1 << 62, 8)?; \
         if std::alloc::alloc(layout).is_null() { std::alloc::handle_alloc_error(layout) } }",
    );
    assert_eq!(error(&run).ename, "OutOfMemory", "{run:#?}");
    assert!(error(&run).evalue.contains("4611"), "{run:#?}");
    // The prelude is loaded in the new process: its names and its displays work.
    assert_eq!(session.result_of("MimeBundle::text(\"back\")"), "back");
}

/// How often a text stands in another.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn the_panic_in_a_destructor_hid_the_one_that_unwound() {
    let mut session = TestSession::start();
    let run = session.run(
        "struct Bomb;\nimpl Drop for Bomb { fn drop(&mut self) { panic!(\"second\") } }\n\
         assert!(std::panic::catch_unwind(|| panic!(\"caught\")).is_err());\n\
         let _bomb = Bomb;\npanic!(\"first\");",
    );
    let failure = error(&run);
    assert_eq!(failure.kind, CellErrorKind::Aborted { signal: 6 });
    assert_eq!(failure.ename, "Aborted", "{run:#?}");
    let told = &failure.evalue;
    assert!(
        told.contains("destructor")
            && told.contains("first \"first\"")
            && told.contains("\"second\""),
        "{told}"
    );
    let report = traceback(&run);
    assert!(
        report.contains("cell:5:1") && report.contains("cell:2:"),
        "{report}"
    );
    assert!(report.find("cell:5:1") < report.find("cell:2:"), "{report}");
    assert!(
        !report.contains("caught") && !report.contains("cleanup"),
        "{report}"
    );
    assert_eq!(short(&run), [""; 0], "{run:#?}");
}

#[test]
fn a_panic_that_met_an_extern_function_was_told_in_rusts_words_and_without_its_line() {
    let mut session = TestSession::start();
    let run = session
        .run("eprintln!(\"before\");\nextern \"C\" fn callback() { panic!(\"met\") }\ncallback();");
    let failure = error(&run);
    assert!(
        failure.evalue.contains("extern") && failure.evalue.ends_with("met"),
        "{failure:?}"
    );
    let report = traceback(&run);
    assert!(
        report.contains("cell:2:") && !report.contains("cannot unwind"),
        "{report}"
    );
    // What the cell itself wrote there is shown, and nothing else.
    assert_eq!(short(&run), ["err:before\n"]);
}

#[test]
fn an_abort_after_a_thread_s_panic_was_told_as_a_panic_that_cannot_be_caught() {
    let mut session = TestSession::start();
    let run = session.run(
        "let worker = std::thread::Builder::new().name(\"worker\".into()).spawn(|| panic!(\"in the thread\"))?;\n\
         if worker.join().is_err() { std::process::abort() }",
    );
    let failure = error(&run);
    assert!(
        failure.evalue.starts_with("the cell aborted its process")
            && failure.evalue.contains("worker")
            && failure.evalue.ends_with("in the thread"),
        "{failure:?}"
    );
    let report = traceback(&run);
    assert!(
        report.contains("cell:1:") && !report.contains("destructor"),
        "{report}"
    );
    assert_eq!(count(&report, "panic: in the thread"), 1, "{report}");
    // A thread that panics in a destructor of its own while it unwinds.
    let run = session.run(
        "struct Bomb;\nimpl Drop for Bomb { fn drop(&mut self) { panic!(\"second\") } }\n\
         let worker = std::thread::spawn(|| { let _bomb = Bomb; panic!(\"first\") });\nworker.join().is_err()",
    );
    let told = &error(&run).evalue;
    assert!(
        told.contains("first \"first\"") && told.contains("\"second\""),
        "{told}"
    );
    assert!(traceback(&run).contains("cell:3:"), "{}", traceback(&run));
}

#[test]
fn a_panic_while_a_panic_s_message_is_made_was_an_abort_without_a_reason() {
    let mut session = TestSession::start();
    let run = session.run(
        "struct Bad;\nimpl std::fmt::Display for Bad {\n    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { panic!(\"inner\") }\n}\n\
         panic!(\"{}\", Bad);",
    );
    let failure = error(&run);
    assert!(
        failure.evalue.contains("message of a panic") && failure.evalue.ends_with("inner"),
        "{failure:?}"
    );
    assert!(traceback(&run).contains("cell:3:"), "{}", traceback(&run));
}

#[test]
fn text_that_looks_like_rusts_last_words_is_the_cells_own() {
    let mut session = TestSession::start();
    let run = session.run("eprintln!(\"thread caused non-unwinding panic. aborting.\");");
    assert_eq!(
        short(&run),
        ["err:thread caused non-unwinding panic. aborting.\n"]
    );
    let run = session
        .run("eprintln!(\"thread caused non-unwinding panic. aborting.\");\neprintln!(\"more\");");
    assert_eq!(
        short(&run).concat().replace("err:", ""),
        "thread caused non-unwinding panic. aborting.\nmore\n"
    );
}

#[test]
fn replay_runs_the_cells_again_that_defined_what_was_lost() {
    let mut session = TestSession::start();
    for cell in [
        "fn half(x: f32) -> f32 { x / 2.0 }",
        "let unrelated = { println!(\"not again\"); 1 };",
        "let base = 8.0_f32;",
        "let mut values = vec![half(base)];",
        "values.push(1.5);\nprintln!(\"pushed to {}\", values.len());",
        "let shared = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));",
        "shared.store(7, std::sync::atomic::Ordering::Relaxed);",
        "let broken: i32 = \"x\";",
    ] {
        session.run(cell);
    }
    assert_eq!(error(&session.run(":replay")).ename, "CommandError");
    let run = session.run("std::process::abort();");
    assert_eq!(
        error(&run).state.lost,
        ["base", "shared", "unrelated", "values"]
    );
    assert_eq!(error(&run).state.replayable, 5);

    let listed = session.result_of(":replay values list");
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(
        listed.contains("let base") && listed.contains("values.push"),
        "{listed}"
    );
    let run = session.run(":replay values");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let told = short(&run).join("\n");
    assert!(told.contains("replay 1 of 3: let base"), "{told}");
    assert!(
        told.contains("pushed to 2") && !told.contains("not again"),
        "{told}"
    );
    assert_eq!(session.result_of("values"), "[4.0, 1.5]");

    let run = session.run(":replay");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let told = short(&run).join("\n");
    assert!(
        told.contains("not again") && told.contains("`:replay all shared unrelated`"),
        "{told}"
    );
    let number = "shared.load(std::sync::atomic::Ordering::Relaxed)";
    assert_eq!(session.result_of(number), "1");
    session.run(":replay all shared");
    assert_eq!(session.result_of(number), "7");
    assert_eq!(error(&session.run(":replay nowhere")).ename, "CommandError");
}

#[test]
fn what_a_cell_consumed_before_the_process_died_is_made_again_when_it_is_needed() {
    let mut session = TestSession::start();
    session.run("let parts = vec![1, 2, 3];");
    session.run("let total: i32 = parts.into_iter().sum();");
    let run = session.run("std::process::exit(1)");
    assert_eq!(error(&run).state.lost, ["total"]);
    assert_eq!(error(&run).state.replayable, 2);
    session.run(":replay");
    assert_eq!(session.result_of("total"), "6");
}

#[test]
fn an_interrupt_stops_a_loop_that_asks_and_keeps_the_variables() {
    let mut session = TestSession::start();
    session.run("let mut steps = 0u64;");
    let code = "println!(\"begun\"); loop { check_interrupt()?; steps += 1; std::thread::sleep(std::time::Duration::from_millis(1)); }";
    let (run, answers) = session.run_interrupted(code, 1);
    assert_eq!(answers, [Interrupted::Asked]);
    let failure = error(&run);
    assert_eq!(
        (&failure.kind, failure.ename.as_str()),
        (&CellErrorKind::Interrupted, "Interrupted")
    );
    assert_eq!(failure.state.kept, ["steps"]);
    assert_eq!(session.result_of("steps > 0"), "true");
}

#[test]
fn a_second_interrupt_ends_a_call_that_does_not_return() {
    let mut session = TestSession::start();
    session.run("let lost = 0u64;");
    let code = "println!(\"begun\"); std::thread::sleep(std::time::Duration::from_secs(600));";
    let (run, answers) = session.run_interrupted(code, 2);
    assert_eq!(answers, [Interrupted::Asked, Interrupted::Killed]);
    let failure = error(&run);
    assert_eq!(failure.kind, CellErrorKind::Interrupted);
    assert_eq!(failure.state.lost, ["lost"]);
    assert!(failure.state.restarted);
    assert_eq!(session.result_of("1 + 1"), "2");
    assert_eq!(
        session.session.interrupter().interrupt(),
        Interrupted::NothingRuns
    );
}

#[test]
fn statics_of_the_prelude_are_single() {
    let mut session = TestSession::start();
    // The prelude's own flag: set through one cell's code, seen through another's.
    session.run("fn ask() { glassbox_prelude::session::request_interrupt() }");
    assert_eq!(
        session.result_of(
            "fn seen() -> bool { glassbox_prelude::session::interrupted() }\nask();\nseen()"
        ),
        "true"
    );
    let address = "fn place() -> usize { glassbox_prelude::session::surroundings() as *const _ as usize }\nplace()";
    let first = session.result_of(address);
    assert_eq!(
        session.result_of("glassbox_prelude::session::surroundings() as *const _ as usize"),
        first
    );
}

#[test]
fn completion_inspection_and_variables_know_the_session() {
    let mut session = TestSession::start();
    session.run("let words = vec![String::from(\"a\")];\n/// Doubles a number.\nfn double(number: i32) -> i32 { number * 2 }");
    let variables = session.session.variables();
    assert_eq!(variables.len(), 1);
    assert_eq!(
        (variables[0].name.as_str(), variables[0].type_name.as_str()),
        ("words", "Vec<String>")
    );

    let code = "let é = 1; words.first_ch";
    let found = session.session.complete(code, code.len()).unwrap();
    assert_eq!(&code[found.start..found.end], "first_ch");
    assert!(
        found
            .items
            .iter()
            .any(|item| item.text.starts_with("first_chunk")),
        "{found:?}"
    );
    let found = session.session.complete("dou", 3).unwrap();
    assert!(
        found
            .items
            .iter()
            .any(|item| item.text.starts_with("double")),
        "{found:?}"
    );

    let inspected = session
        .session
        .inspect("double(1)", 3)
        .unwrap()
        .expect("it is known");
    assert!(
        inspected.plain.contains("fn double(number: i32) -> i32"),
        "{inspected:?}"
    );
    assert!(
        inspected.plain.contains("Doubles a number"),
        "{inspected:?}"
    );
    assert_eq!(session.session.inspect("nonsense_name", 13).unwrap(), None);

    assert_eq!(
        glassbox::session::completeness("words.len()"),
        Completeness::Complete
    );
    session.session.restart().unwrap();
    assert!(session.session.variables().is_empty());
    assert_eq!(
        session.result_of("let bundle = MimeBundle::text(\"new\");\nbundle"),
        "new"
    );
    assert_eq!(session.session.variables()[0].type_name, "MimeBundle");
}

#[test]
#[allow(clippy::print_stdout)] // figures for people, seen with --nocapture
fn latency_of_simple_cells() {
    let mut session = TestSession::start();
    for code in [
        "1 + 1",
        "let x = 1;",
        "println!(\"{x}\");",
        "fn f(a: i32) -> i32 { a }",
        "let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;",
        "t.matmul(&t.t()?)?",
    ] {
        for _ in 0..2 {
            let run = session.run(code);
            assert!(run.outcome.status.is_ok(), "{code}: {run:#?}");
        }
    }
    // With the new process that the session starts when one has died.
    for _ in 0..2 {
        session.run("std::process::abort();");
        session.run("1 + 1");
    }
    println!("{}", session.latency());
}
