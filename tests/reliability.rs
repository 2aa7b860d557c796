//! Sessions and kernels in bad surroundings: killed, side by side, without a home, on a full disk, with nobody listening.

mod kernel_client;
mod session_support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kernel_client::{Kernel, WARM};
use serde_json::json;

fn block_on(test: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(test)
}

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

#[test]
fn a_cell_s_library_is_removed_once_it_is_loaded() {
    let mut session = session_support::TestSession::start();
    for number in 0..12 {
        session.run(&format!("let x{number} = {number};"));
    }
    let mut found = Vec::new();
    let mut folders = vec![session.session.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
        {
            let path = entry.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("so") => found.push(path),
                _ => {}
            }
        }
    }
    assert!(found.len() <= 4, "{found:?}");
    assert_eq!(session.result_of("x0 + x11"), "11");
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

/// A small file system in memory, for as long as this value lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Result<SmallDisk> {
        let folder = tempfile::tempdir()?;
        let status = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=777"),
                "tmpfs",
            ])
            .arg(folder.path())
            .status()?;
        ensure!(
            status.success(),
            "a file system of {size} can't be mounted here"
        );
        Ok(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What can't be unmounted goes with the machine.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
#[ignore = "mounts a file system, which needs the superuser"]
fn a_full_disk_fails_the_cell_and_not_the_session() -> Result<()> {
    let disk = SmallDisk::mount("24m")?;
    let temporary = disk.0.path().to_string_lossy().into_owned();
    block_on(async {
        let mut kernel = Kernel::start_with(&[("TMPDIR", &temporary)]).await?;
        kernel.run("let kept = 1;").await?.ok()?;
        let filler = disk.0.path().join("filler");
        // Fills what is left to the last byte.
        let full = std::fs::File::create(&filler)
            .and_then(|mut file| std::io::copy(&mut std::io::repeat(0), &mut file));
        assert!(full.is_err());
        let failed = kernel.run("kept + 1").await?;
        assert_eq!(failed.reply["status"], "error", "{failed:?}");
        let report = failed.reply["traceback"].to_string();
        assert!(
            report.contains("No space left") || report.contains("full"),
            "{report}"
        );
        std::fs::remove_file(&filler)?;
        let ran = kernel.run("kept + 1").await?.ok()?;
        assert_eq!(ran.first("execute_result")["data"]["text/plain"], "2");
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
fn a_cell_that_prints_much_does_not_need_a_listener() -> Result<()> {
    block_on(async {
        let mut kernel = Kernel::start().await?;
        kernel.run("1").await?.ok()?;
        let before = resident(kernel.process.id())?;
        // The listener stays connected and reads nothing; then it goes away altogether.
        let code = "let line = \"x\".repeat(1023); for _ in 0..100_000 { println!(\"{line}\"); }";
        let id = kernel
            .send("execute_request", json!({ "code": code }))
            .await?;
        let reply = kernel.reply(&id, Duration::from_secs(240)).await?;
        assert_eq!(reply["status"], "ok", "{reply}");
        let grown = resident(kernel.process.id())? - before;
        ensure!(
            grown < 300.0,
            "the kernel grew by {grown:.0} MB for 100 MB that nobody reads"
        );
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
