//! Threads that cells began: what they say when another cell runs, or none, and how they panic.

mod session_support;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use glassbox::session::{Event, StreamName};
use session_support::{Run, TestSession};

/// A session, and what its threads say between cells.
fn listening() -> (TestSession, Receiver<(u64, Event)>) {
    let mut session = TestSession::start();
    let (send, said) = channel();
    session
        .session
        .set_background(Some(Box::new(move |cell, event| {
            let _ = send.send((cell, event));
        })));
    (session, said)
}

fn text_of(event: &Event) -> &str {
    match event {
        Event::Stream { text, .. } => text,
        Event::Display(display) | Event::Update(display) | Event::Result(display) => {
            display.plain().unwrap_or_default()
        }
        _ => "",
    }
}

/// The text of a cell's threads, up to `last`.
fn until(said: &Receiver<(u64, Event)>, cell: u64, last: &str) -> String {
    let begun = Instant::now();
    let mut text = String::new();
    while !text.contains(last) {
        let left = Duration::from_secs(20).saturating_sub(begun.elapsed());
        let (of, event) = said
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("{last:?} did not come: {text}"));
        assert_eq!(of, cell, "{event:?}");
        text += text_of(&event);
    }
    text
}

fn ok(session: &mut TestSession, code: &str) -> Run {
    let run = session.run(code);
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    run
}

fn printed(run: &Run) -> String {
    run.events.iter().map(text_of).collect()
}

const SLEEP: &str =
    "let sleep = |ms: u64| std::thread::sleep(std::time::Duration::from_millis(ms));";

#[test]
fn a_thread_that_prints_while_no_cell_runs_does_not_wait() {
    let (mut session, said) = listening();
    ok(
        &mut session,
        &format!(
            "std::thread::spawn(|| {{ {SLEEP} sleep(300);\n\
             for n in 0..2000 {{ println!(\"line {{n}} {{}}\", \".\".repeat(100)); }} eprintln!(\"done\"); }});"
        ),
    );
    let mut text = String::new();
    let begun = Instant::now();
    while text.matches("line ").count() < 2000 || !text.contains("done") {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{} lines",
            text.matches("line ").count()
        );
        if let Ok((cell, event)) = said.recv_timeout(Duration::from_secs(5)) {
            assert_eq!(cell, 1);
            text += text_of(&event);
        }
    }
    let lines = text.lines().filter(|line| line.starts_with("line "));
    for (number, line) in lines.enumerate() {
        assert!(
            line.starts_with(&format!("line {number} .")),
            "{number}: {line}"
        );
    }
    // Nothing is left for the next cell.
    assert_eq!(printed(&ok(&mut session, "println!(\"mine\");")), "mine\n");
}

#[test]
fn each_cell_s_threads_speak_for_it_while_others_run() {
    let (mut session, said) = listening();
    let speaker = |name: &str| {
        format!(
            "std::thread::spawn(|| {{ {SLEEP} std::thread::spawn(|| {{ {SLEEP} for n in 0..30 {{ println!(\"{name} {{n}} é\"); eprint!(\"{name}!\"); \
             sleep(40); }} println!(\"{name} ends\"); }}); }});"
        )
    };
    ok(&mut session, &speaker("one"));
    ok(&mut session, &speaker("two"));
    // Also what a pool prints is of the cell that has it work, whichever cell was first to do so.
    ok(
        &mut session,
        "Tensor::ones((200, 200), DType::F32, &Device::Cpu)?.matmul(&Tensor::ones((200, 200), DType::F32, &Device::Cpu)?)?;",
    );
    let run = ok(
        &mut session,
        "for n in 0..20 { println!(\"own {n}\"); std::thread::sleep(std::time::Duration::from_millis(40)); }",
    );
    let own: String = (0..20).map(|n| format!("own {n}\n")).collect();
    assert_eq!(printed(&run), own);
    let (mut one, mut two) = (String::new(), String::new());
    let begun = Instant::now();
    while !one.contains("one ends") || !two.contains("two ends") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{one} {two}");
        if let Ok((cell, event)) = said.recv_timeout(Duration::from_secs(5)) {
            match cell {
                1 => one += text_of(&event),
                2 => two += text_of(&event),
                _ => panic!("{cell}: {event:?}"),
            }
        }
    }
    for n in 10..30 {
        assert!(one.contains(&format!("one {n} é\n")) && two.contains(&format!("two {n} é\n")));
    }
    assert!(!one.contains("two") && !two.contains("one"));
}

#[test]
fn a_thread_s_displays_change_between_cells_and_a_line_without_its_end_comes_too() {
    let (mut session, said) = listening();
    let run = ok(
        &mut session,
        &format!(
            "let handle = std::thread::spawn(|| {{ {SLEEP} let mut live = display_live(&MimeBundle::text(\"step 0\"));\n\
             for n in 1..40 {{ sleep(25); live.update(&MimeBundle::text(format!(\"step {{n}}\"))); }}\n\
             sleep(200); print!(\"no end\"); sleep(5000); }});\nstd::thread::sleep(std::time::Duration::from_millis(200));"
        ),
    );
    assert!(printed(&run).contains("step 0"), "{run:#?}");
    let text = until(&said, 1, "no end");
    assert!(text.contains("step 39"), "{text}");
}

#[test]
fn without_a_front_end_that_listens_the_next_cell_is_told() {
    let mut session = TestSession::start();
    ok(
        &mut session,
        "std::thread::spawn(|| { std::thread::sleep(std::time::Duration::from_millis(200)); println!(\"late\"); });",
    );
    std::thread::sleep(Duration::from_millis(1000));
    let run = ok(&mut session, "println!(\"own\");");
    let late = run.events.iter().find_map(|event| match event {
        Event::Background { cell, event } => Some((*cell, text_of(event).to_owned())),
        _ => None,
    });
    assert_eq!(late, Some((1, "late\n".to_owned())), "{run:#?}");
    assert_eq!(printed(&run), "own\n");
}

/// What a cell says on stderr, or in its report if it fails.
fn told(run: &Run) -> String {
    let mut text: String = run
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Stream {
                name: StreamName::Stderr,
                text,
            } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    if let Err(error) = &run.outcome.status {
        text += &format!("{}\n{}", error.evalue, error.traceback.join("\n"));
    }
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain + rest
}

#[test]
fn a_panic_in_a_thread_speaks_with_the_cell_s_line() {
    let (mut session, said) = listening();
    let cases: [(&str, bool, &[&str]); 9] = [
        (
            "let a = 1;\nstd::thread::spawn(|| panic!(\"x {}\", 1)).join().unwrap();",
            false,
            &["x 1", "cell:2:23", "panicked"],
        ),
        (
            "let a = 1;\nlet _ = std::thread::spawn(|| panic!(\"x {}\", 2)).join();",
            true,
            &["x 2", "cell:2:31"],
        ),
        (
            "std::thread::scope(|s| {\n    s.spawn(|| panic!(\"scoped {}\", 3));\n});",
            false,
            &["a scoped thread panicked", "scoped 3", "cell:2:"],
        ),
        (
            "std::thread::Builder::new().name(\"worker\".into()).spawn(|| std::panic::panic_any(42)).unwrap().join().unwrap();",
            false,
            &["42", "`worker`", "cell:1:"],
        ),
        (
            "std::panic::panic_any(String::from(\"own words\"));",
            false,
            &["own words", "cell:1:"],
        ),
        ("std::panic::panic_any(7u8);", false, &["7", "cell:1:"]),
        (
            "struct Odd;\nstd::panic::panic_any(Odd);",
            false,
            &["a value that is not text", "cell:2:"],
        ),
        (
            "struct Bomb;\nimpl Drop for Bomb { fn drop(&mut self) { panic!(\"in drop\") } }\n\
             std::thread::spawn(|| { let _bomb = Bomb; }).join().unwrap();",
            false,
            &["in drop", "thread `unnamed` panicked"],
        ),
        (
            "std::thread::spawn(|| {\n    std::thread::spawn(|| panic!(\"inner {}\", 9)).join().unwrap()\n}).join().unwrap();",
            false,
            &["inner 9", "cell:2:"],
        ),
    ];
    for (code, well, words) in cases {
        let run = session.run(code);
        assert_eq!(run.outcome.status.is_ok(), well, "{code}: {run:#?}");
        let told = told(&run);
        for word in words {
            assert!(told.contains(word), "{code}: no {word:?} in\n{told}");
        }
        assert!(!told.contains("Any { .. }"), "{told}");
    }
    // One that nobody waits for, while no cell runs; then while another one does.
    let number = session.session.number() + 1;
    let cell = "std::thread::spawn(|| {\n    std::thread::sleep(std::time::Duration::from_millis(300));\n    panic!(\"late {}\", 4)\n});";
    ok(&mut session, cell);
    let text = until(&said, number, "late 4");
    assert!(text.contains("cell:3:5"), "{text}");
    ok(&mut session, cell);
    let run = ok(
        &mut session,
        "std::thread::sleep(std::time::Duration::from_millis(900));",
    );
    assert_eq!(told(&run), "");
    let text = until(&said, number + 1, "late 4");
    assert!(text.contains("cell:3:5"), "{text}");
    assert_eq!(session.result_of("1 + 1"), "2");
}

#[test]
fn a_panic_that_a_pool_hands_on_is_told_once() {
    let (mut session, _said) = listening();
    let run = session.run(
        "let caught = std::panic::catch_unwind(|| panic!(\"caught before\"));\n\
         let worker = std::thread::spawn(|| panic!(\"handed on\"));\n\
         if let Err(payload) = worker.join() { std::panic::resume_unwind(payload) }",
    );
    let told = told(&run);
    assert!(told.starts_with("handed on"), "{told}");
    assert!(
        told.contains("cell:2:") && !told.contains("thread `"),
        "{told}"
    );
}
