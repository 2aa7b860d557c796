//! What cells do to their own process and start beside it: forks, all descriptors taken, programs in the background.

mod session_support;

use std::time::{Duration, Instant};

use glassbox::session::{Event, StreamName};
use session_support::{Run, TestSession, ok};

/// What a cell printed.
fn stdout(run: &Run) -> String {
    let texts = run.events.iter().filter_map(|event| match event {
        Event::Stream {
            name: StreamName::Stdout,
            text,
        } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn good(session: &mut TestSession, code: &str) -> Run {
    let run = session.run(code);
    assert!(run.outcome.status.is_ok(), "{code}: {run:#?}");
    run
}

const FORK: &str = "unsafe extern \"C\" { fn fork() -> i32; fn waitpid(pid: i32, status: *mut i32, how: i32) -> i32; fn syscall(number: i64, ...) -> i64; }\n\
    fn wait_for(pid: i32) { let mut status = 0; unsafe { waitpid(pid, &mut status, 0); } }";

#[test]
fn a_fork_is_not_the_session() {
    let mut session = TestSession::start();
    ok(&mut session, FORK);
    let raw = if cfg!(target_arch = "x86_64") {
        "unsafe { syscall(57) as i32 }"
    } else {
        "unsafe { fork() }"
    };
    for fork in ["unsafe { fork() }", raw] {
        // Both run on in the cell; the copy's result, variables and end are nobody's.
        let run = good(
            &mut session,
            &format!(
                "let kept = 1; let pid = {fork}; if pid > 0 {{ wait_for(pid); println!(\"original\"); }} else {{ println!(\"copy\"); print!(\"unended\"); }} pid > 0"
            ),
        );
        let results: Vec<_> = run
            .events
            .iter()
            .filter(|event| matches!(event, Event::Result(_)))
            .collect();
        assert_eq!(results.len(), 1, "{run:#?}");
        let text = stdout(&run);
        assert!(
            text.contains("copy\n") && text.contains("unended") && text.contains("original\n"),
            "{text:?}"
        );
        assert_eq!(session.result_of("kept + 41"), "42");

        // One that panics, asks, and shows something, while the original waits.
        let run = good(
            &mut session,
            &format!(
                "let pid = {fork}; if pid == 0 {{ display(&MimeBundle::text(\"shown\")); println!(\"EVCXR_INPUT_REQUEST:who? \"); \
                 let mut line = String::new(); let _ = std::io::stdin().read_line(&mut line); panic!(\"in the copy\"); }} wait_for(pid);"
            ),
        );
        assert!(
            !run.events
                .iter()
                .any(|event| matches!(event, Event::Display(_))),
            "{run:#?}"
        );

        // One that comes to its end while a later cell runs.
        good(
            &mut session,
            &format!(
                "let late = {fork}; if late == 0 {{ std::thread::sleep(std::time::Duration::from_millis(700)); println!(\"late\"); }}"
            ),
        );
        let run = good(
            &mut session,
            "std::thread::sleep(std::time::Duration::from_millis(1500)); println!(\"own\");",
        );
        assert!(stdout(&run).contains("own\n"), "{run:#?}");
        assert_eq!(session.result_of("kept + 41"), "42");

        // The original's end is noticed, whatever a copy of it holds open.
        let begun = Instant::now();
        let run = session.run(&format!(
            "if {fork} == 0 {{ std::thread::sleep(std::time::Duration::from_secs(60)); }} else {{ std::process::abort(); }}"
        ));
        assert!(run.outcome.status.is_err(), "{run:#?}");
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(session.result_of("40 + 2"), "42");
    }
}

/// Opens files until there are no more descriptors.
const HOLD: &str = "let mut held = Vec::new(); while let Ok(file) = std::fs::File::open(\"/dev/null\") { held.push(file); } held.len() > 100";

#[test]
fn a_cell_that_holds_all_descriptors_leaves_the_session_some() {
    let mut session = TestSession::start();
    assert_eq!(session.result_of(HOLD), "true");
    // Also one whose library is loaded for later cells to link to, one that fails, and one that shows something.
    ok(
        &mut session,
        "static CALLS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(41);\n\
         CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);",
    );
    assert_eq!(
        session.result_of("CALLS.load(std::sync::atomic::Ordering::Relaxed)"),
        "42"
    );
    let run = session.run("std::fs::read_to_string(\"/proc/self/stat\")?;");
    let said = format!("{:?}", run.outcome.status);
    assert!(said.contains("Too many open files"), "{said}");
    let run = session.run("panic!(\"as well\");");
    assert!(
        format!("{:?}", run.outcome.status).contains("as well"),
        "{run:#?}"
    );
    ok(&mut session, "drop(held);");
    ok(
        &mut session,
        "std::fs::read_to_string(\"/proc/self/stat\")?;",
    );

    // Who lifts the limit and takes also those: a true error, and what to do.
    ok(
        &mut session,
        "unsafe extern \"C\" { fn getrlimit(what: i32, limit: *mut [u64; 2]) -> i32; fn setrlimit(what: i32, limit: *const [u64; 2]) -> i32; }\n\
         let mut limit = [0; 2]; unsafe { getrlimit(7, &mut limit); limit = [200, 200]; setrlimit(7, &limit); }",
    );
    session.run(HOLD);
    let run = session.run("40 + 2");
    let said = format!("{:?}", run.outcome.status);
    assert!(
        said.contains("descriptors") && said.contains(":restart"),
        "{said}"
    );
    ok(&mut session, ":restart");
    assert_eq!(session.result_of("40 + 2"), "42");
}

/// The ids of the processes that run with this as an argument.
fn sleepers(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.next() == Some(b"sleep") && words.next() == Some(mark.as_bytes())
        })
        .collect()
}

/// Starts programs that sleep for so many seconds, in all ways that leave the session's group or not.
fn start_sleepers(session: &mut TestSession, mark: &str) {
    ok(
        session,
        &format!(
            "use std::os::unix::process::CommandExt as _; use std::process::Command;\n\
             let child = Command::new(\"sleep\").arg(\"{mark}\").spawn()?;\n\
             let grouped = Command::new(\"sleep\").arg(\"{mark}\").process_group(0).spawn()?;\n\
             Command::new(\"sh\").args([\"-c\", \"nohup sleep {mark} >/dev/null 2>&1 &\"]).status()?;\n\
             Command::new(\"sh\").args([\"-c\", \"trap '' TERM HUP INT; (sleep {mark} &) \"]).status()?;"
        ),
    );
    let begun = Instant::now();
    ok(session, &format!("!sleep {mark} &"));
    ok(session, &format!("!nohup sleep {mark} & echo started"));
    assert!(begun.elapsed() < Duration::from_secs(5), "it is waited for");
    assert_eq!(sleepers(mark).len(), 6, "{mark}");
}

fn all_end(mark: &str) {
    let begun = Instant::now();
    while !sleepers(mark).is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{mark}: {:?} are left",
            sleepers(mark)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_cells_start_ends_with_the_session() {
    let mut session = TestSession::start();
    start_sleepers(&mut session, "98761");
    ok(&mut session, ":restart");
    all_end("98761");

    // A crash of their process.
    start_sleepers(&mut session, "98762");
    let run = session.run("std::process::abort();");
    assert!(run.outcome.status.is_err());
    // The one in a group of its own is nobody's child by then.
    let mut left = sleepers("98762");
    assert!(left.len() <= 1, "{left:?}");
    for pid in left.drain(..) {
        let pid = pid.parse().expect("an id");
        // SAFETY: no memory is involved: it is one of this test's own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }

    // A second interrupt, which ends it.
    start_sleepers(&mut session, "98763");
    let (run, _) = session.run_interrupted(
        "println!(\"begun\"); std::process::Command::new(\"sleep\").arg(\"98763\").status()?;",
        3,
    );
    assert!(run.outcome.status.is_err(), "{run:#?}");
    if session.session.restarts() > 1 {
        all_end("98763");
    }

    // The normal end; who left by `setsid` meant to stay.
    start_sleepers(&mut session, "98764");
    ok(&mut session, "!setsid sleep 98765 >/dev/null 2>&1 &");
    drop(session);
    all_end("98763");
    all_end("98764");
    let daemons = sleepers("98765");
    assert_eq!(daemons.len(), 1);
    for pid in daemons {
        let pid = pid.parse().expect("an id");
        // SAFETY: no memory is involved: it is one of this test's own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

#[test]
fn a_shell_command_can_be_interrupted() {
    let mut session = TestSession::start();
    let interrupter = session.session.interrupter();
    let begun = Instant::now();
    let asking = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        interrupter.interrupt()
    });
    let run = session.run("!sleep 98766; sleep 98766");
    let said = format!("{:?}", run.outcome.status);
    assert!(
        asking.join().is_ok() && said.contains("Interrupted"),
        "{said}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    all_end("98766");
    assert_eq!(session.result_of("40 + 2"), "42");
    let run = good(
        &mut session,
        "!echo one; echo two >&2; head -c 300000 /dev/zero | tr '\\0' x",
    );
    let shown = run.events.iter().find_map(|event| match event {
        Event::Display(display) | Event::Result(display) => display.plain(),
        _ => None,
    });
    assert!(shown.is_some_and(|text| text.contains("one") && text.len() > 300_000));
}
