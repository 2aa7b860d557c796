//! The frames as a reader meets them: real bytes on real descriptors of a child process.

use std::io::{Read, Write as _};
use std::process::{Command, Stdio};

use glassbox_wire::names::CONTROL_VARIABLE;
use glassbox_wire::{Control, frame};
use serde_json::{Value, json};

use super::process::trim_backtrace;
use super::*;
use crate::display::{self, DisplayHandle};

const NONCE: &str = "00112233445566778899aabbccddeeff";

/// What stands in a stream: text of the user, and events.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Event(Value),
}

/// Takes a stream apart the way a host does.
fn read_pieces(bytes: &[u8], nonce: &str) -> Vec<Piece> {
    let mark = [b"\x1b_GBX", nonce.as_bytes(), b";"].concat();
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(&mark) {
            if !text.is_empty() {
                pieces.push(Piece::Text(
                    String::from_utf8(std::mem::take(&mut text)).unwrap(),
                ));
            }
            let rest = &bytes[at + mark.len()..];
            let digits = rest.iter().position(|byte| *byte == b';').unwrap();
            let length: usize = std::str::from_utf8(&rest[..digits])
                .unwrap()
                .parse()
                .unwrap();
            let payload = &rest[digits + 1..digits + 1 + length];
            assert_eq!(&rest[digits + 1 + length..digits + 3 + length], b"\x1b\\");
            pieces.push(Piece::Event(serde_json::from_slice(payload).unwrap()));
            at += mark.len() + digits + 3 + length;
        } else {
            text.push(bytes[at]);
            at += 1;
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(String::from_utf8(text).unwrap()));
    }
    pieces
}

fn json(event: &Event) -> Value {
    serde_json::from_str(&event.to_json()).unwrap()
}

#[test]
fn every_event_comes_back_from_its_frame() {
    let bundle = MimeBundle::text("é\u{1b}\\ \"quoted\"\n")
        .with_html("<b>1</b>")
        .with_png(&[0, 159, 146]);
    let events = [
        Event::Display {
            bundle: bundle.clone().into(),
            display_id: None,
        },
        Event::Display {
            bundle: bundle.clone().into(),
            display_id: Some("a".into()),
        },
        Event::Update {
            bundle: bundle.clone().into(),
            display_id: "a".into(),
        },
        Event::Result {
            bundle: bundle.into(),
        },
        Event::Showing { begins: true },
        Event::ByHand { begins: false },
        Event::Clear { wait: true },
        Event::Panic(PanicReport {
            message: "no".into(),
            line: 3,
            column: 5,
            ..PanicReport::default()
        }),
        Event::Error {
            message: "bad".into(),
            chain: vec!["worse".into()],
            trail: Vec::new(),
        },
        Event::Input {
            id: 5,
            prompt: "name? ".into(),
            password: true,
        },
        Event::CellEnd { seq: 7 },
    ];
    let stream: Vec<u8> = events
        .iter()
        .flat_map(|event| frame::write(event, NONCE))
        .collect();
    let expected: Vec<Piece> = events
        .iter()
        .map(|event| Piece::Event(json(event)))
        .collect();
    assert_eq!(read_pieces(&stream, NONCE), expected);
    assert_eq!(json(&events[1])["display_id"], "a");
    assert_eq!(json(&events[3])["data"]["image/png"], "AJ+S");
}

#[test]
fn a_frame_of_another_session_is_text() {
    let stream = frame::write(
        &Event::Clear { wait: false },
        "ffffffffffffffffffffffffffffffff",
    );
    assert!(matches!(
        read_pieces(&stream, NONCE).as_slice(),
        [Piece::Text(_)]
    ));
}

/// What a cell of each test does; run in a child process whose descriptors the test reads.
#[allow(clippy::print_stdout, clippy::print_stderr)]
fn play(scene: &str) {
    match scene {
        "order" => {
            print!("before ");
            display::show(MimeBundle::text("picture"));
            print!("\rpartial");
            let live = DisplayHandle::show(MimeBundle::text("drawing\n0%"));
            live.replace(MimeBundle::text("drawing\n50%"));
            live.replace(MimeBundle::text("drawing\n100%"));
            eprint!("trouble");
            send_result("42");
            glassbox_cell_end(9);
        }
        "panic" => {
            glassbox_session_start(-1);
            let _ = std::panic::catch_unwind(|| panic!("fell over {}", 1 + 1));
            cell_error_with_chain("question mark", Vec::new());
        }
        "sigint" => {
            glassbox_session_start(-1);
            // SAFETY: raising a signal for which a handler is installed.
            unsafe { libc::raise(libc::SIGINT) };
            println!("{} {}", interrupted(), check_interrupt().is_err());
            println!("{}", check_interrupt().is_ok());
            // SAFETY: as above.
            unsafe { libc::raise(libc::SIGINT) };
            glassbox_cell_begin(std::ptr::null(), 0);
            println!("{}", check_interrupt().is_ok());
        }
        "template" => {
            let processor = crate::vlm::Vlm::tiny(&candle_core::Device::Cpu)
                .unwrap()
                .llm_processor;
            // Far from its limits when the user loses patience.
            let template = "{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}{{ 'x' * 9 }}\
                            {% endfor %}{% endfor %}{% endfor %}";
            let messages = [crate::language::ChatMessage::user("hello")];
            std::thread::spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(100));
                // SAFETY: sending a signal for which a handler is installed to this process itself.
                unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
            });
            glassbox_session_start(-1);
            let begun = std::time::Instant::now();
            let error = processor.render_chat_with(template, &messages, true);
            let soon = begun.elapsed() < std::time::Duration::from_secs(2);
            println!("{:?} {soon}", error.map(|_| "a text"));
            // The next one is as ever.
            let next = processor.render_chat_with("{{ messages[0].content }}", &messages, true);
            println!("{:?}", next.ok());
        }
        "progress" => {
            let mut seen = Vec::new();
            for item in display::progress("count", 0..1000) {
                match item {
                    Ok(3) => {
                        seen.push("3".to_owned());
                        request_interrupt();
                    }
                    Ok(number) => seen.push(number.to_string()),
                    Err(error) => seen.push(format!("{error:?}")),
                }
            }
            println!("{}", seen.join(" "));
            // A bar that is dropped half-way shows its last state although the throttle held it back.
            let bar = display::Progress::new("half", 10);
            for _ in 0..5 {
                let _ = bar.step();
            }
        }
        "control" => {
            glassbox_session_start(libc::STDERR_FILENO);
            control(&Control::Panicked);
        }
        "abort" => {
            glassbox_session_start(-1);
            print!("last words");
            std::process::abort();
        }
        "fault" => {
            glassbox_session_start(-1);
            print!("last words");
            // SAFETY: it is not; that is what is tested.
            unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
        }
        "cut" => {
            glassbox_session_start(-1);
            print!("last words");
            let file = std::env::temp_dir().join(format!("glassbox cut {}", std::process::id()));
            std::fs::write(&file, vec![1_u8; 8192]).unwrap();
            let open = std::fs::File::options()
                .read(true)
                .write(true)
                .open(&file)
                .unwrap();
            // SAFETY: reading what was mapped and then cut off is what is tested.
            unsafe {
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(&open);
                let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
                let map = libc::mmap(std::ptr::null_mut(), 8192, read, shared, descriptor, 0);
                open.set_len(0).unwrap();
                std::fs::remove_file(&file).unwrap();
                map.cast::<u8>().add(5000).read_volatile();
            }
        }
        "fault in print" => {
            glassbox_session_start(-1);
            let _stdout = std::io::stdout().lock();
            print!("lost words");
            std::process::abort();
        }
        "partial" => {
            glassbox_session_start(-1);
            glassbox_cell_begin(std::ptr::null(), 0);
            print!("partial line");
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        other => panic!("no scene {other}"),
    }
}

/// Plays its part only when another test starts it as a child.
#[test]
fn child() {
    if let Ok(scene) = std::env::var("GLASSBOX_TEST_SCENE") {
        play(&scene);
        let _ = std::io::stdout().flush();
        // Leave before the test harness writes its own summary.
        std::process::exit(0);
    }
}

/// A child that plays `scene`.
fn start(scene: &str, variables: &[(&str, &str)]) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "session::tests::child",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
        .env_remove(NONCE_VARIABLE)
        .env_remove(RUNTIME_VARIABLE)
        .env_remove(CONTROL_VARIABLE);
    command
        .env("GLASSBOX_TEST_SCENE", scene)
        .envs(variables.iter().copied());
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Stdout and stderr of a child that plays `scene`, without the harness's own first lines.
fn output_of(scene: &str, variables: &[(&str, &str)]) -> (Vec<u8>, Vec<u8>) {
    let mut child = start(scene, variables);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut stdout)
        .unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_end(&mut stderr)
        .unwrap();
    assert!(
        child.wait().unwrap().success(),
        "{}",
        String::from_utf8_lossy(&stderr)
    );
    let harness = b"\nrunning 1 test\n";
    assert!(
        stdout.starts_with(harness),
        "{}",
        String::from_utf8_lossy(&stdout)
    );
    (stdout.split_off(harness.len()), stderr)
}

fn text(piece: &Piece) -> &str {
    match piece {
        Piece::Text(text) => text,
        Piece::Event(event) => panic!("an event where text should be: {event}"),
    }
}

fn event(piece: &Piece) -> &Value {
    match piece {
        Piece::Event(event) => event,
        Piece::Text(text) => panic!("text where an event should be: {text:?}"),
    }
}

#[test]
fn text_and_pictures_keep_their_order() {
    let (stdout, stderr) = output_of("order", &[(NONCE_VARIABLE, NONCE)]);
    let pieces = read_pieces(&stdout, NONCE);
    // With one test thread the harness prints the test's name before it runs.
    assert!(text(&pieces[0]).ends_with("before "), "{pieces:?}");
    assert_eq!(event(&pieces[1])["data"]["text/plain"], "picture");
    assert_eq!(text(&pieces[2]), "\rpartial");
    let id = &event(&pieces[3])["display_id"];
    assert!(id.as_str().is_some_and(|id| id.starts_with("glassbox-")));
    assert_eq!(event(&pieces[4])["event"], "update");
    assert_eq!(&event(&pieces[5])["display_id"], id);
    assert_eq!(event(&pieces[5])["data"]["text/plain"], "drawing\n100%");
    assert_eq!(event(&pieces[6])["event"], "result");
    assert_eq!(event(&pieces[7]), &json!({"event": "cell_end", "seq": 9}));
    assert_eq!(pieces.len(), 8);
    let errors = read_pieces(&stderr, NONCE);
    assert_eq!(text(&errors[0]), "trouble");
    assert_eq!(event(&errors[1])["event"], "cell_end");
}

#[test]
fn stock_kernel_gets_content_blocks_and_the_last_state() {
    let (stdout, _) = output_of("order", &[(RUNTIME_VARIABLE, "1")]);
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(!stdout.contains('\u{1b}'), "no frames: {stdout}");
    assert!(
        stdout.contains("EVCXR_BEGIN_CONTENT text/plain\npicture\nEVCXR_END_CONTENT"),
        "{stdout}"
    );
    assert!(
        stdout.contains("\n0%\n") || stdout.contains("partial0%\n"),
        "first state by its last line: {stdout}"
    );
    assert!(!stdout.contains("50%"), "throttled: {stdout}");
    assert!(
        stdout.contains("drawing\n100%"),
        "last state in full: {stdout}"
    );
}

#[test]
fn a_program_prints_text() {
    let (stdout, _) = output_of("order", &[]);
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(
        !stdout.contains("EVCXR") && !stdout.contains('\u{1b}'),
        "{stdout}"
    );
    assert!(
        stdout.contains("picture\n")
            && stdout.contains("drawing\n100%\n")
            && stdout.contains("42\n"),
        "{stdout}"
    );
}

#[test]
fn a_panic_is_reported_where_it_happened() {
    let (stdout, stderr) = output_of("panic", &[(NONCE_VARIABLE, NONCE)]);
    let pieces = read_pieces(&stdout, NONCE);
    let events: Vec<&Value> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Event(event) => Some(event),
            Piece::Text(_) => None,
        })
        .collect();
    assert_eq!(events[0]["event"], "panic");
    assert_eq!(events[0]["message"], "fell over 2");
    assert!(
        events[0]["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("session/tests.rs"))
    );
    assert!(events[0]["line"].as_u64().is_some_and(|line| line > 0));
    let backtrace = events[0]["backtrace"].as_str().unwrap();
    assert!(!backtrace.contains("panicking"), "trimmed: {backtrace}");
    assert_eq!(
        events[1],
        &json!({"event": "error", "message": "question mark", "chain": []})
    );
    assert!(
        !String::from_utf8_lossy(&stderr).contains("fell over"),
        "the default hook is gone"
    );
}

#[test]
fn an_interrupt_ends_a_chat_template_that_loops() {
    let (stdout, _) = output_of("template", &[(NONCE_VARIABLE, NONCE)]);
    let said = String::from_utf8_lossy(&stdout);
    assert!(
        said.contains("Err(Interrupted) true\nSome(\"hello\")"),
        "{said}"
    );
}

#[test]
fn an_interrupt_is_seen_once_and_forgotten_when_a_cell_begins() {
    let (stdout, _) = output_of("sigint", &[(NONCE_VARIABLE, NONCE)]);
    assert!(String::from_utf8_lossy(&stdout).ends_with("true true\ntrue\ntrue\n"));
}

#[test]
fn an_interrupt_ends_a_loop_at_its_next_step_and_the_last_state_is_sent() {
    let (stdout, _) = output_of("progress", &[(NONCE_VARIABLE, NONCE)]);
    let pieces = read_pieces(&stdout, NONCE);
    let said: Vec<String> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.trim().to_owned(),
            Piece::Event(event) => event["data"]["text/plain"].to_string(),
        })
        .collect();
    assert!(
        said.iter()
            .any(|text| text.ends_with("0 1 2 3 Interrupted")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|text| text.contains("count: 4/1,000") && text.contains("stopped after")),
        "{said:?}"
    );
    let last = said.last().map(String::as_str).unwrap_or_default();
    assert!(
        last.contains("half: 5/10") && last.contains("stopped after"),
        "{said:?}"
    );
    // First and last state of each bar, and nothing in between: a thousand steps are no thousand updates.
    let events = pieces
        .iter()
        .filter(|piece| matches!(piece, Piece::Event(_)));
    assert!(events.count() <= 6, "{said:?}");
}

#[test]
fn text_without_a_newline_survives_the_process() {
    use std::os::unix::process::ExitStatusExt as _;
    for (scene, signal) in [("abort", libc::SIGABRT), ("fault", libc::SIGSEGV)] {
        let output = start(scene, &[(NONCE_VARIABLE, NONCE)])
            .wait_with_output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.ends_with("last words"), "{scene}: {stdout}");
        assert_eq!(output.status.signal(), Some(signal), "{scene}");
    }
}

#[test]
fn a_mapped_file_that_was_cut_short_is_named() {
    use std::os::unix::process::ExitStatusExt as _;
    let child = start("cut", &[(NONCE_VARIABLE, NONCE)]);
    let name = format!("glassbox cut {}", child.id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGBUS));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&name) && stderr.contains("cut it short"),
        "{stderr}"
    );
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.ends_with("last words"), "{stdout}");
}

#[test]
fn a_process_that_dies_with_stdout_locked_still_dies() {
    use std::os::unix::process::ExitStatusExt as _;
    let output = start("fault in print", &[(NONCE_VARIABLE, NONCE)])
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}

#[test]
fn text_without_a_newline_arrives_while_the_cell_runs() {
    let mut child = start("partial", &[(NONCE_VARIABLE, NONCE)]);
    let mut stdout = child.stdout.take().unwrap();
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    // The scene sleeps for a minute afterwards; without the text this reads until its end.
    while !text.ends_with(b"partial line") {
        match stdout.read(&mut chunk).unwrap() {
            0 => panic!("only {:?} came", String::from_utf8_lossy(&text)),
            count => text.extend_from_slice(&chunk[..count]),
        }
    }
    assert_eq!(child.try_wait().unwrap(), None, "the cell runs");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn control_lines_go_past_the_users_text() {
    let (stdout, stderr) = output_of("control", &[(NONCE_VARIABLE, NONCE)]);
    assert!(!String::from_utf8_lossy(&stdout).contains("EVCXR"));
    assert_eq!(
        String::from_utf8_lossy(&stderr),
        "EVCXR_PANIC_NOTIFICATION\n"
    );
}

#[test]
fn a_backtrace_keeps_the_cell_and_drops_the_machinery() {
    let full = "   0: glassbox_prelude::session::hook\n   1: std::panicking::rust_panic_with_hook\n   2: core::panicking::panic_fmt\n             at /rustc/abc/library/core/src/panicking.rs:80:14\n   3: ctx::helper\n             at src/lib.rs:3:5\n   4: run_user_code_4\n   5: std::panicking::try\n   6: main\n";
    assert_eq!(
        trim_backtrace(full),
        "ctx::helper at src/lib.rs:3:5\nrun_user_code_4"
    );
}
