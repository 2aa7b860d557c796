//! The session's folder: whose it is, what others may put beside it, and what if it vanishes.

mod session_support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use glassbox::session::{Event, StreamName};
use session_support::{Run, TestSession};

fn warned(run: &Run) -> usize {
    let texts = run.events.iter().filter_map(|event| match event {
        Event::Stream {
            name: StreamName::Stderr,
            text,
        } => Some(text.as_str()),
        _ => None,
    });
    texts
        .filter(|text| text.contains("had been removed"))
        .count()
}

#[test]
fn a_folder_that_vanished_is_made_anew_and_nothing_is_lost() {
    let mut session = TestSession::start();
    session.run("let kept = vec![1, 2]; fn add(a: i32) -> i32 { a + 1 }");
    let folder = session.session.folder().to_owned();
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for command in [":restart", ":clear", "1 + 1"] {
        std::fs::remove_dir_all(&folder).unwrap();
        let run = session.run("println!(\"{}\", kept.len());");
        assert!(run.outcome.status.is_ok(), "{run:#?}");
        assert_eq!(warned(&run), 1, "{run:#?}");
        assert_eq!(warned(&session.run("kept.len()")), 0);
        std::fs::remove_dir_all(&folder).unwrap();
        let run = session.run(command);
        assert!(run.outcome.status.is_ok(), "{command}: {run:#?}");
        assert_eq!(session.result_of("2 + 3"), "5", "after {command}");
        let run = session.run("let kept = vec![1, 2]; panic!(\"still told\");");
        assert_eq!(run.outcome.status.unwrap_err().evalue, "still told");
        session.run("let kept = vec![1, 2];");
    }
    // The process can be started anew although what it is reached by is gone from the file system.
    std::fs::remove_dir_all(&folder).unwrap();
    let run = session.run("std::process::abort();");
    assert!(run.outcome.status.is_err());
    assert_eq!(session.result_of("2 + 3"), "5");
    // Only parts of it are gone, as after a cleaner of old files.
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        drop(std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path)));
    }
    assert_eq!(session.result_of("2 + 4"), "6");
    assert_eq!(session.result_of("2 + 5"), "7");
}

#[test]
fn a_session_of_another_container_with_the_same_folder_for_files_is_left_alone() {
    let shared = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .arg("repl")
        .env("TMPDIR", shared.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let folders = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(shared.path()).unwrap();
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        paths.filter(|path| path.join("lock").exists()).collect()
    };
    let begun = std::time::Instant::now();
    while folders().is_empty() {
        assert!(begun.elapsed().as_secs() < 60, "no session began");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let live = folders();
    // What others may have planted there, and what a session left that was killed.
    let planted = |name: &str| {
        let path = shared.path().join(format!("glassbox-session-{name}"));
        std::fs::create_dir(&path).unwrap();
        path
    };
    let pipe = |path: PathBuf| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let fifo = planted("fifo");
    pipe(fifo.join("lock"));
    pipe(fifo.join("owner"));
    let zero = planted("zero");
    symlink("/dev/zero", zero.join("lock")).unwrap();
    symlink("/dev/zero", zero.join("owner")).unwrap();
    let none = planted("none");
    std::fs::write(none.join("owner"), "999999999").unwrap();
    symlink(&none, shared.path().join("glassbox-session-link")).unwrap();
    let left = planted("left");
    std::fs::write(left.join("lock"), "").unwrap();
    // As a session in another container sees it, no process has the numbers that stand there; here none needs any.
    let output = Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .arg("repl")
        .env("TMPDIR", shared.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(live.iter().all(|folder| folder.exists()));
    assert!(fifo.exists() && zero.exists() && none.exists());
    assert!(!left.exists(), "nobody held it");
    // The live one still works.
    use std::io::Write;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"2 + 40\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("42"),
        "{output:?}"
    );
    assert!(
        live.iter().all(|folder| !folder.exists()),
        "it tidies up after itself"
    );
}
