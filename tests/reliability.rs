//! Sessions and kernels in bad surroundings: killed, side by side, without a home, on a full disk, with nobody listening.

mod kernel_client;
mod session_support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kernel_client::{Kernel, WARM, block_on};
use serde_json::json;

/// The names in a folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// The processes whose command line names the role of running cells and whose environment names `folder`.
fn children_of(folder: &Path) -> Vec<u32> {
    let mark = format!("GLASSBOX_SESSION_DIR={}", folder.display());
    let processes = std::fs::read_dir("/proc").into_iter().flatten();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable.starts_with(mark.as_bytes()))
    })
    .collect()
}

fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !condition() {
        ensure!(begun.elapsed() < patience, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn nothing_is_left_after_a_shutdown_nor_after_a_crash() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let temporary = folder.path().to_string_lossy().into_owned();
    block_on(async {
        let mut kernel = Kernel::start_with(&[("TMPDIR", &temporary)]).await?;
        kernel.run("let x = 1;").await?.ok()?;
        assert_eq!(names(folder.path())?.len(), 1);
        kernel
            .ask_control("shutdown_request", json!({ "restart": false }))
            .await?;
        kernel.wait_for_exit(WARM).await?;
        assert_eq!(names(folder.path())?, [""; 0]);

        // A killed kernel cannot tidy up: its child ends by itself, its folder goes when the next session starts.
        let mut kernel = Kernel::start_with(&[("TMPDIR", &temporary)]).await?;
        let id = kernel
            .send(
                "execute_request",
                json!({ "code": "println!(\"begun\"); loop {}" }),
            )
            .await?;
        kernel.wait_for_text(&id, "begun").await?;
        assert_eq!(children_of(folder.path()).len(), 1);
        let left = names(folder.path())?;
        kernel.process.kill()?;
        kernel.process.wait()?;
        wait_until("the child ends", Duration::from_secs(20), || {
            children_of(folder.path()).is_empty()
        })?;
        let mut kernel = Kernel::start_with(&[("TMPDIR", &temporary)]).await?;
        kernel.run("1").await?.ok()?;
        let now = names(folder.path())?;
        assert_eq!(now.len(), 1, "{now:?}");
        assert_ne!(now, left);
        Ok(())
    })
}

/// The libraries of cells that lie in the session's folder.
fn libraries(session: &session_support::TestSession) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![session.session.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("so") => found.push(path),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn a_cell_s_library_is_removed_once_it_is_loaded() {
    let mut session = session_support::TestSession::start();
    for number in 0..12 {
        session.run(&format!("let x{number} = {number};"));
    }
    assert!(libraries(&session).len() <= 1, "{:?}", libraries(&session));
    assert_eq!(session.result_of("x0 + x11"), "11");
    // Nor is anything left of a process that was killed in the middle of a cell, or of a cell that cannot be loaded.
    for code in [
        "std::process::Command::new(\"kill\").args([\"-9\", &std::process::id().to_string()]).status();",
        "unsafe extern \"C\" { fn nowhere_to_be_found(); }\nunsafe { nowhere_to_be_found() }",
        "std::process::abort();",
    ] {
        assert!(session.run(code).outcome.status.is_err(), "{code}");
    }
    assert_eq!(session.result_of("1"), "1");
    assert!(libraries(&session).len() <= 1, "{:?}", libraries(&session));
}

/// The libraries of cells that a process has loaded, and how much of their code and constants it has in memory.
fn resident_code(process: u32) -> Result<Vec<String>> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let (mut library, mut found) = (None, Vec::new());
    for line in maps.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            let library = library.take();
            found.extend(library.map(|name: &str| format!("{name}: {}", size.trim())));
        } else if line
            .split(' ')
            .next()
            .is_some_and(|range| range.contains('-'))
        {
            let name = line
                .split('/')
                .next_back()
                .filter(|name| name.starts_with("cell_"));
            // A trace reads the files by mappings of its own, of which few are kept.
            library = name.filter(|_| line.contains(" r-xp "));
        }
    }
    Ok(found)
}

/// Libraries are never unloaded: each cell held five pages for good.
#[test]
fn cells_that_have_run_hold_no_code_in_memory() -> Result<()> {
    let mut session = session_support::TestSession::start();
    let process: u32 = session.result_of("std::process::id()").parse()?;
    session.run("let twice: fn(i32) -> i32 = |x| 2 * x;");
    for code in ["1 + 1", "panic!(\"a trace looks at all libraries\")"] {
        session.run(code);
        let given_back = wait_until("no code in memory", Duration::from_secs(5), || {
            let held = resident_code(process).unwrap_or_default();
            held.len() > 2 && held.iter().all(|library| library.ends_with(": 0 kB"))
        });
        given_back.with_context(|| format!("after {code}: {:?}", resident_code(process)))?;
    }
    assert_eq!(session.result_of("twice(4)"), "8");
    Ok(())
}

#[test]
fn two_kernels_do_not_know_of_each_other() -> Result<()> {
    block_on(async {
        let (one, two) = tokio::join!(Kernel::start(), Kernel::start());
        let (mut one, mut two) = (one?, two?);
        one.run("let mine = 1;").await?.ok()?;
        let failed = two.run("mine").await?;
        assert_eq!(failed.reply["ename"], "E0425");
        // An interrupt of one leaves the other's cell alone.
        let endless = "println!(\"begun\"); loop { check_interrupt()?; }";
        let stopped = one
            .send("execute_request", json!({ "code": endless }))
            .await?;
        one.wait_for_text(&stopped, "begun").await?;
        let slow = "println!(\"begun\"); for _ in 0..150 { check_interrupt()?; std::thread::sleep(std::time::Duration::from_millis(10)); } 7";
        let goes_on = two.send("execute_request", json!({ "code": slow })).await?;
        two.wait_for_text(&goes_on, "begun").await?;
        one.ask_control("interrupt_request", json!({})).await?;
        assert_eq!(one.finish(&stopped).await?.reply["ename"], "Interrupted");
        let ran = two.finish(&goes_on).await?.ok()?;
        assert_eq!(ran.first("execute_result")["data"]["text/plain"], "7");
        one.run("mine").await?.ok()?;
        Ok(())
    })
}

#[test]
fn a_home_that_cannot_be_written_is_no_obstacle() -> Result<()> {
    let real = |name: &str, folder: &str| -> Result<String> {
        let named = std::env::var_os(name).map(std::path::PathBuf::from);
        let path = named
            .or_else(|| Some(dirs_home()?.join(folder)))
            .context("no home folder")?;
        Ok(path.to_string_lossy().into_owned())
    };
    let cache = match std::env::var("GLASSBOX_CACHE_DIR") {
        Ok(cache) => cache,
        Err(_) => real("XDG_CACHE_HOME", ".cache")? + "/glassbox",
    };
    let (cargo, rustup) = (
        real("CARGO_HOME", ".cargo")?,
        real("RUSTUP_HOME", ".rustup")?,
    );
    block_on(async {
        // Nobody can write there, not even the superuser.
        let mut kernel = Kernel::start_with(&[
            ("HOME", "/proc/self"),
            ("GLASSBOX_HISTORY", "/proc/self/history/file"),
            ("CARGO_HOME", &cargo),
            ("RUSTUP_HOME", &rustup),
            ("GLASSBOX_CACHE_DIR", &cache),
        ])
        .await?;
        let ran = kernel.run("let x = 40; x + 2").await?.ok()?;
        assert_eq!(ran.first("execute_result")["data"]["text/plain"], "42");
        let asked = json!({ "hist_access_type": "tail", "n": 1, "output": false, "raw": true });
        let history = kernel.ask("history_request", asked).await?;
        assert_eq!(history["status"], "ok", "{history}");
        Ok(())
    })
}

fn dirs_home() -> Option<std::path::PathBuf> {
    std::env::var_os("HOME").map(Into::into)
}

/// In the environment of a test that runs in a mount namespace of its own: the folder of a small disk.
const SMALL_DISK: &str = "GLASSBOX_TEST_SMALL_DISK";

/// Runs `test` on a disk of `size` that nobody else sees: the test program calls itself in a mount namespace of its own, which
/// needs no privilege where users may have namespaces. Where they may not, the test is left out, loudly.
fn on_a_small_disk(name: &str, size: &str, test: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return test(Path::new(&disk));
    }
    let disk = tempfile::tempdir()?;
    let mount = format!("mount -t tmpfs -o size={size},mode=700 tmpfs \"${SMALL_DISK}\"");
    let unshared = |arguments: &[&str], then: &str| {
        let mut command = Command::new("unshare");
        command
            .args(arguments)
            .args(["--", "sh", "-c", &format!("{mount} && {then}")])
            .env(SMALL_DISK, disk.path())
            .stdin(Stdio::null());
        command
    };
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let works = |way: &&&[&str]| {
        let tried = unshared(way, "true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let Some(way) = ways.iter().find(works) else {
        let message = format!(
            "NOT TESTED: {name}; no file system can be mounted here, not even in a namespace of one's own"
        );
        // Not a fault of CI either: no package could be installed that allows it.
        // Written past the harness, which hides the prints of tests that pass.
        writeln!(std::io::stderr(), "\n{0}\n{message}\n{0}\n", "!".repeat(80))?;
        return Ok(());
    };
    // The prelude is built where there is room.
    drop(session_support::TestSession::start());
    let this = std::env::current_exe()?;
    let output = unshared(way, "exec \"$0\" \"$@\"")
        .arg(this)
        .args([name, "--exact", "--nocapture"])
        .output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    ensure!(output.status.success(), "{stdout}\n{stderr}");
    ensure!(
        stdout.contains("1 passed"),
        "no test is called {name}: {stdout}"
    );
    Ok(())
}

/// The file that takes all that is left on a disk.
const FILLER: &str = "filler";

/// Takes all that is left on a disk, to the last byte.
fn fill(disk: &Path) -> Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(disk.join(FILLER))?;
    let full = std::io::copy(&mut std::io::repeat(0), &mut file);
    ensure!(full.is_err(), "the disk is not full");
    Ok(())
}

#[test]
fn a_full_disk_fails_the_cell_and_not_the_session() -> Result<()> {
    const NAME: &str = "a_full_disk_fails_the_cell_and_not_the_session";
    on_a_small_disk(NAME, "24m", |disk| {
        let temporary = disk.to_string_lossy().into_owned();
        // The history on the same disk, in a folder of its own.
        let history = disk.join("history").join("cells.jsonl");
        let history_name = history.to_string_lossy().into_owned();
        block_on(async {
            let mut kernel =
                Kernel::start_with(&[("TMPDIR", &temporary), ("GLASSBOX_HISTORY", &history_name)])
                    .await?;
            kernel.run("let kept = 1;").await?.ok()?;
            kernel
                .run("fn twice(x: i32) -> i32 { 2 * x }")
                .await?
                .ok()?;
            // A cell of items alone needs room for its source.
            let thrice = format!(
                "fn thrice(x: i32) -> i32 {{ let _text = \"{}\"; 3 * x }}",
                "x".repeat(20_000)
            );
            for code in ["kept + 1", "let text = \"t\".repeat(3);", &thrice] {
                // What a compiler that fails removes is room for the next.
                fill(disk)?;
                let failed = kernel.run(code).await?;
                says_that_the_disk_is_full(&failed.reply, disk).with_context(|| code.to_owned())?;
            }
            // What needs no file is answered.
            ensure!(kernel.ask("kernel_info_request", json!({})).await?["status"] == "ok");
            let asked = json!({ "hist_access_type": "tail", "n": 3, "output": false, "raw": true });
            let tail = kernel.ask("history_request", asked).await?;
            ensure!(tail["history"][2][2] == *thrice, "{tail}");
            std::fs::remove_file(disk.join(FILLER))?;
            for (code, shown) in [
                ("kept + 1", "2"),
                ("twice(kept)", "2"),
                ("let text = \"t\".repeat(3); text", "\"ttt\""),
            ] {
                let ran = kernel.run(code).await?.ok()?;
                assert_eq!(ran.first("execute_result")["data"]["text/plain"], shown);
            }
            // Nothing of the history is missing on the disk.
            let written = std::fs::read_to_string(&history)?;
            for line in ["let kept = 1;", "fn thrice", "let text"] {
                ensure!(
                    written
                        .lines()
                        .any(|entry| entry.contains(line) && entry.ends_with('}')),
                    "{line}: {written}"
                );
            }
            Ok(())
        })
    })
}

/// One message, which names the folder and what to do, and says that nothing is lost.
fn says_that_the_disk_is_full(reply: &serde_json::Value, disk: &Path) -> Result<()> {
    let message = reply["evalue"].as_str().unwrap_or_default();
    ensure!(
        reply["status"] == "error"
            && message.contains("no space left")
            && message.contains(&*disk.to_string_lossy())
            && message.contains("again"),
        "{reply:#}"
    );
    let report = reply["traceback"].to_string();
    ensure!(
        report.contains("`kept`") && !report.contains("os error"),
        "{report}"
    );
    Ok(())
}

#[test]
fn a_session_on_a_full_disk_does_not_start_and_says_what_to_do() -> Result<()> {
    const NAME: &str = "a_session_on_a_full_disk_does_not_start_and_says_what_to_do";
    on_a_small_disk(NAME, "1m", |disk| {
        fill(disk)?;
        let output = Command::new(env!("CARGO_BIN_EXE_glassbox"))
            .arg("repl")
            .env("TMPDIR", disk)
            .stdin(Stdio::null())
            .output()?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(4), "{complaint}");
        ensure!(
            complaint.contains("No space left") && complaint.contains("TMPDIR"),
            "{complaint}"
        );
        Ok(())
    })
}

#[test]
fn a_session_that_finds_no_room_says_what_to_do() {
    // A folder that does not exist stands for every reason for which nothing can be created there.
    let output = Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .arg("repl")
        .env("TMPDIR", "/proc/self/nowhere")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{complaint}");
    assert!(
        complaint.contains("/proc/self/nowhere") && complaint.contains("TMPDIR"),
        "{complaint}"
    );
}

#[test]
fn a_cell_that_prints_and_shows_much_does_not_need_a_listener() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        kernel.run("1").await?.ok()?;
        // The listener stays connected and reads nothing.
        for (what, code) in [
            (
                "300 MB of text",
                "let line = \"x\".repeat(1023); for _ in 0..300_000 { println!(\"{line}\"); }",
            ),
            (
                "80 displays of 5 MB",
                "let shown = MimeBundle::text(\"x\".repeat(5_000_000)); for _ in 0..80 { display(&shown); }",
            ),
        ] {
            let before = resident(kernel.process.id())?;
            let id = kernel
                .send("execute_request", json!({ "code": code }))
                .await?;
            let reply = kernel.reply(&id, Duration::from_secs(240)).await?;
            assert_eq!(reply["status"], "ok", "{reply}");
            let grown = resident(kernel.process.id())? - before;
            ensure!(
                grown < 220.0,
                "the kernel grew by {grown:.0} MB for {what} that nobody reads"
            );
        }
        // It goes away altogether, and another comes: that one misses nothing of what is run from now on.
        kernel.listen_anew().await?;
        let ran = kernel.run("println!(\"heard\"); 6 * 7").await?.ok()?;
        assert_eq!(ran.text("stdout"), "heard\n");
        assert_eq!(ran.first("execute_result")["data"]["text/plain"], "42");
        Ok(())
    })
}

/// Resident memory in megabytes.
fn resident(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .context("no figure")?;
    Ok(kilobytes / 1000.0)
}
