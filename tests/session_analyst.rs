//! The program with rust-analyzer: sessions without it, how it comes to be there, and what becomes of questions when it crashes or hangs.

mod session_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use glassbox::session::{Event, SessionConfig};
use session_support::place::Place;
use session_support::{Run, TestSession, analyst, ok};

/// A place with a copy of `glassbox` that no analyst stands beside.
struct Alone {
    place: Place,
    program: PathBuf,
}

impl Alone {
    fn new() -> Alone {
        let place = Place::new();
        let program = place.folder.path().join("bin/glassbox");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_glassbox"), &program).unwrap();
        Alone { place, program }
    }

    fn start(&self) -> TestSession {
        TestSession::with(SessionConfig {
            prelude_source: Some(self.place.source()),
            cache_dir: Some(self.place.cache()),
            program: Some(self.program.clone()),
            ..SessionConfig::default()
        })
    }

    /// The folder of the analyst's in the cache.
    fn cache(&self) -> PathBuf {
        self.place.cache().join("analyst")
    }

    /// What `glassbox doctor` says of it.
    fn doctor(&self) -> (String, String) {
        let told = Command::new(&self.program)
            .args(["doctor", "--json"])
            .envs(self.place.environment())
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == "completion");
        let check = check.expect("it is looked at");
        let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
        (text("state"), text("found"))
    }
}

fn proposed(session: &mut TestSession, code: &str) -> Vec<String> {
    let found = session.session.complete(code, code.len()).unwrap();
    found.items.into_iter().map(|item| item.text).collect()
}

fn knows(session: &mut TestSession) -> bool {
    proposed(session, "Vec::with_cap").contains(&"with_capacity".to_owned())
}

/// Processes of this one whose command line has this word.
fn processes_with(word: &str, of: Option<u32>) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let parent = parent.and_then(|id| id.trim().parse().ok());
        of.is_none_or(|of| parent == Some(of))
            && String::from_utf8_lossy(&line)
                .split('\0')
                .any(|part| part.contains(word))
    })
    .collect()
}

/// The one process with rust-analyzer in it that this session has.
fn analyst_of(folder: &Path) -> i32 {
    let own = processes_with("--answer", Some(std::process::id()));
    let own: Vec<u32> = own
        .into_iter()
        .filter(|id| {
            fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.starts_with(folder))
        })
        .collect();
    assert_eq!(own.len(), 1, "{own:?}");
    own[0].try_into().unwrap()
}

/// Whether a child of this process, with all its threads, has ended, which nobody has asked it about yet.
fn has_ended(process: i32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    state.contains(") Z ") && threads.is_ok_and(|threads| threads.count() == 1)
}

/// How many of a cell's events say that the program is being built.
fn told_of_it(run: &Run) -> usize {
    let said = |event: &&Event| format!("{event:?}").contains("is being built");
    run.events.iter().filter(said).count()
}

fn signal(process: i32, signal: i32) {
    // SAFETY: no memory is involved. The process is one that this test's session started.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

/// Without the program cells run, completion and inspection know the session's names and say what is going on, and cargo is at work. The
/// session's end ends that.
#[test]
fn without_the_program_cells_run_and_it_is_being_built() {
    let alone = Alone::new();
    assert_eq!(alone.doctor().0, "absent");
    let mut session = alone.start();
    ok(&mut session, "let count = 3u8; fn counted() {}");
    assert_eq!(session.result_of("count + 1"), "4");
    let build = alone.cache().join("build");
    assert!(!build.exists(), "nobody has asked yet");

    assert_eq!(proposed(&mut session, "let a = cou"), ["count", "counted"]);
    let found = session.session.inspect("count", 2).unwrap().unwrap();
    assert!(found.plain.starts_with("count: u8\n\n"), "{found:?}");
    assert!(found.plain.contains("is being built"), "{found:?}");
    // Who completes is told once.
    let run = session.run(":type count");
    assert_eq!(told_of_it(&run), 1, "{run:#?}");
    proposed(&mut session, "let a = cou");
    let refused = session.run(":type count + 1").outcome.status.unwrap_err();
    assert!(refused.evalue.contains("is being built"), "{refused:?}");

    // It says how far it is; crates are compiled.
    let begin = Instant::now();
    loop {
        let found = session.session.inspect("x", 1).unwrap().unwrap();
        let done = found.plain.split(" crates done").next().unwrap_or_default();
        if found.plain.contains(" crates done") && !done.ends_with("(0 of") && !done.contains("(0 ")
        {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(300), "{found:?}");
        assert!(found.plain.contains("is being built"), "{found:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (state, found) = alone.doctor();
    assert_eq!(
        (state.as_str(), found.as_str()),
        ("absent", "its program is being built now")
    );
    // Cells go on meanwhile.
    let run = session.run("count + 2");
    assert_eq!(told_of_it(&run), 0, "{run:#?}");

    let word = build.to_str().unwrap().to_owned();
    drop(session);
    let begin = Instant::now();
    while !processes_with(&word, None).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(5), "compilers go on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(alone.doctor().0, "absent");
}

/// cargo builds it into the cache; the session that waited for it then knows everything, and so do later ones.
#[test]
fn what_cargo_has_built_is_used_from_the_cache() {
    let beside = analyst::beside();
    let alone = Alone::new();
    // The tests' own target folder in the place of an empty one: cargo finds all crates compiled.
    fs::create_dir_all(alone.cache()).unwrap();
    let target = beside.ancestors().nth(2).unwrap();
    std::os::unix::fs::symlink(target, alone.cache().join("build")).unwrap();
    let mut session = alone.start();
    let begin = Instant::now();
    while !knows(&mut session) {
        assert!(
            begin.elapsed() < Duration::from_secs(600),
            "{:?}",
            session.session.inspect("x", 1)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let (state, found) = alone.doctor();
    assert_eq!(state, "ok", "{found}");
    assert!(Path::new(&found).starts_with(alone.cache()), "{found}");
    assert!(target.join("release").is_dir() || target.join("debug").is_dir());
    assert!(
        !alone.cache().join("build").exists(),
        "cargo's folder has gone"
    );
    drop(session);
    assert!(knows(&mut alone.start()));
}

/// A build that fails says why, to who asks and to the doctor. A program of another version beside `glassbox` is passed over.
#[test]
fn what_cannot_be_built_is_said() {
    use std::os::unix::fs::PermissionsExt as _;

    let alone = Alone::new();
    let other = alone.program.with_file_name("glassbox-analyst");
    fs::write(&other, "#!/bin/sh\necho 0123456789abcdef\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    // cargo's folder is a file.
    fs::create_dir_all(alone.cache()).unwrap();
    fs::write(alone.cache().join("build"), "").unwrap();
    let mut session = alone.start();
    let begin = Instant::now();
    let said = loop {
        let found = session.session.inspect("x", 1).unwrap().unwrap();
        if found.plain.contains("could not be built") {
            break found.plain;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{found:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(said.contains("build"), "{said}");
    let (state, found) = alone.doctor();
    assert_eq!(state, "warning", "{found}");
    assert!(found.contains("could not be built"), "{found}");
    ok(&mut session, "let a = 1;");
}

#[test]
fn who_crashes_or_hangs_costs_one_answer() {
    let beside = analyst::beside().parent().unwrap();
    let place = Place::new();
    let (mut session, _) = place.start().unwrap();
    ok(&mut session, "let words = vec![1u8];");
    assert!(knows(&mut session));

    // It has gone between two questions: nobody notices.
    let first = analyst_of(beside);
    signal(first, libc::SIGKILL);
    while !has_ended(first) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(knows(&mut session));
    let second = analyst_of(beside);
    assert_ne!(first, second);

    // It goes while it is asked: that answer is empty, and comes at once.
    signal(second, libc::SIGSTOP);
    let kill = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        signal(second, libc::SIGKILL);
    });
    let begin = Instant::now();
    assert!(!knows(&mut session));
    assert!(begin.elapsed() < Duration::from_secs(5));
    kill.join().unwrap();
    assert!(knows(&mut session));

    // It hangs: the question is given up after 20 seconds, and it is ended.
    let third = analyst_of(beside);
    signal(third, libc::SIGSTOP);
    let begin = Instant::now();
    assert!(!knows(&mut session));
    let waited = begin.elapsed();
    assert!(
        (Duration::from_secs(19)..Duration::from_secs(40)).contains(&waited),
        "{waited:?}"
    );
    assert!(knows(&mut session));
    assert_ne!(analyst_of(beside), third);
    assert_eq!(session.result_of("words.len()"), "1");

    // It ends with the session, also when it does not read that.
    let last = analyst_of(beside);
    signal(last, libc::SIGSTOP);
    drop(session);
    assert!(!Path::new(&format!("/proc/{last}")).exists());
}
