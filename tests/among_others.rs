//! Safe among others: what lies in the notebook's folder or in shared folders neither runs nor is read, and what a session writes is its user's.
//!
//! ```text
//! traps in the notebook's folder, its parents, the temporary folder, the cache ─▶ the built program ─▶ no trap has sprung
//! ```

mod kernel_client;
mod session_support;

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kernel_client::Kernel;
use session_support::place::Place;

/// Programs that say by a file that they ran.
struct Traps {
    folder: tempfile::TempDir,
}

impl Traps {
    fn new() -> Traps {
        let traps = Traps {
            folder: tempfile::tempdir().unwrap(),
        };
        // Anyone may say that it sprang.
        mode(traps.folder.path(), 0o777);
        traps.set(traps.folder.path(), "trap");
        traps
    }

    fn marker(&self) -> PathBuf {
        self.folder.path().join("sprung")
    }

    fn trap(&self) -> PathBuf {
        self.folder.path().join("trap")
    }

    /// A trap of this name.
    fn set(&self, folder: &Path, name: &str) {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        let script = format!(
            "#!/bin/sh\necho \"$0 $*\" >> '{}'\nexit 1\n",
            self.marker().display()
        );
        fs::write(&path, script).unwrap();
        mode(&path, 0o755);
    }

    /// All that cargo, rustc, rustup, git, Python and the loader might run of a folder that they are called in.
    fn fill(&self, folder: &Path) {
        for name in [
            "rustup",
            "cargo",
            "rustc",
            "ld",
            "cc",
            "sh",
            "git",
            "python3",
            "jupyter",
            "nvidia-smi",
        ] {
            self.set(folder, name);
        }
        self.set(&folder.join("toolchain/bin"), "rustc");
        self.set(&folder.join("toolchain/bin"), "cargo");
        self.set(&folder.join(".git/hooks"), "post-checkout");
        let config = format!(
            "[build]\nrustc = {trap}\nrustc-wrapper = {trap}\nrustc-workspace-wrapper = {trap}\n\
             [target.x86_64-unknown-linux-gnu]\nlinker = {trap}\nrunner = {trap}\n\
             [credential-alias]\nx = [{trap}]\n",
            trap = serde_json::Value::from(self.trap().to_str().unwrap())
        );
        fs::create_dir_all(folder.join(".cargo")).unwrap();
        fs::write(folder.join(".cargo/config.toml"), &config).unwrap();
        fs::write(folder.join(".cargo/config"), config).unwrap();
        let toolchain = format!(
            "[toolchain]\npath = {}\n",
            serde_json::Value::from(folder.join("toolchain").to_str().unwrap())
        );
        fs::write(folder.join("rust-toolchain.toml"), toolchain).unwrap();
        fs::write(
            folder.join("Cargo.toml"),
            "[package]\nname = \"trap\"\nversion = \"0.0.0\"\nbuild = \"build.rs\"\n\n[workspace]\nmembers = [\"*\"]\n",
        )
        .unwrap();
        let say = format!(
            "std::fs::write({:?}, \"build.rs\").unwrap();",
            self.marker()
        );
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::write(folder.join("src/lib.rs"), "").unwrap();
        fs::write(folder.join("build.rs"), format!("fn main() {{ {say} }}")).unwrap();
        for module in ["sys.py", "site.py", "encodings.py", "sitecustomize.py"] {
            let code = format!("open({:?}, 'a').write('{module}')\n", self.marker());
            fs::write(folder.join(module), code).unwrap();
        }
    }

    fn assert_unsprung(&self, after: &str) {
        let sprung = fs::read_to_string(self.marker()).unwrap_or_default();
        assert!(sprung.is_empty(), "after {after}: {sprung}");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Runs cells in the REPL, as from a pipe.
fn repl(mut command: Command, cells: &str) -> Output {
    let mut process = command
        .arg("repl")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // Each line is a cell. A program that does not start reads none.
    let _ = stdin.write_all(cells.replace('\n', "\n\n").as_bytes());
    drop(stdin);
    process.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// A start of the program that must succeed and run a cell.
fn assert_works(output: &Output, why: &str) {
    assert!(
        output.status.success() && said(output).contains("42"),
        "{why}: {output:#?}"
    );
}

/// A start that must be refused, with these words.
fn assert_refused(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(4), "{words:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

/// PATH, LD_LIBRARY_PATH and the like, with the present folder in them by its several names.
fn careless(command: &mut Command) {
    let path = std::env::var("PATH").unwrap();
    command
        .env("PATH", format!(".:{path}:"))
        .env("LD_LIBRARY_PATH", "");
}

#[test]
fn nothing_of_a_strangers_folder_runs_before_a_cell() {
    let (place, traps) = (Place::new(), Traps::new());
    let parent = place.folder.path().join("downloads");
    let notebooks = parent.join("notebooks");
    traps.fill(&parent);
    traps.fill(&notebooks);
    let notebook = serde_json::json!({
        "nbformat": 4, "nbformat_minor": 5, "metadata": {},
        "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "execution_count": null, "outputs": [], "source": "6 * 7"}],
    });
    fs::write(notebooks.join("a.ipynb"), notebook.to_string()).unwrap();
    let called = |arguments: &[&str]| {
        let mut command = place.program();
        careless(&mut command);
        command
            .args(arguments)
            .current_dir(&notebooks)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    // The first start builds the prelude, a later one does not.
    for start in ["cold", "warm"] {
        let mut command = place.program();
        careless(&mut command);
        command.current_dir(&notebooks);
        let output = repl(command, "6 * 7\n");
        traps.assert_unsprung(&format!("a {start} start"));
        assert_works(&output, start);
        let file = notebooks.join("rust-toolchain.toml");
        assert!(
            said(&output).contains(&format!("{} is not obeyed", file.display())),
            "{output:#?}"
        );
    }
    let ran = called(&["run", "a.ipynb"]);
    traps.assert_unsprung("run");
    assert!(ran.status.success(), "{ran:#?}");
    called(&["doctor"]);
    traps.assert_unsprung("doctor");
    let prefix = place.folder.path().join("prefix");
    let mut command = place.program();
    careless(&mut command);
    command
        .args(["install", "--sys-prefix"])
        .env_remove("VIRTUAL_ENV")
        .env_remove("CONDA_PREFIX")
        .env("PYTHONNOUSERSITE", "1")
        .current_dir(&notebooks);
    // It may write to Python's own folder, so only the question is asked: the place is in the way.
    fs::write(&prefix, "").unwrap();
    command.args(["--name", "no such name!"]);
    command.output().unwrap();
    traps.assert_unsprung("install --sys-prefix");
    // What finds names reads manifests of the session's own.
    tokio_block(async {
        let environment: Vec<(&str, String)> = place
            .environment()
            .into_iter()
            .map(|(name, path)| (name, path.to_str().unwrap().to_owned()))
            .collect();
        let mut variables: Vec<(&str, &str)> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let path = format!(".:{}", std::env::var("PATH").unwrap());
        variables.push(("PATH", &path));
        let mut kernel = Kernel::start_in(&notebooks, &variables).await.unwrap();
        let asked = serde_json::json!({ "code": "Vec::with_cap", "cursor_pos": 13 });
        let answer = kernel.ask("complete_request", asked).await.unwrap();
        assert!(answer.to_string().contains("with_capacity"), "{answer}");
        traps.assert_unsprung("completion");
        let ran = kernel.run("std::env::current_dir().unwrap().ends_with(\"notebooks\")");
        let shown = ran.await.unwrap().ok().unwrap();
        assert_eq!(
            shown.first("execute_result")["data"]["text/plain"],
            "true",
            "cells run in the notebook's folder"
        );
    });
}

fn tokio_block(test: impl Future<Output = ()>) {
    let test = async {
        test.await;
        Ok(())
    };
    kernel_client::block_on(test).unwrap();
}

/// The number of a user made for a test, who goes with it.
struct Stranger {
    name: String,
    number: u32,
    group: u32,
}

impl Stranger {
    fn new() -> Option<Stranger> {
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let name = format!("gbx{}", std::process::id());
        let made = root
            && Command::new("useradd")
                .args(["--system", "--no-create-home", "--user-group", &name])
                .status()
                .is_ok_and(|status| status.success());
        if !made {
            let message = "NOT TESTED: a second user; only root can make one (CI does)";
            // Past the harness, which hides the prints of tests that pass.
            let bar = "!".repeat(80);
            let _ = std::io::stderr().write_all(format!("\n{bar}\n{message}\n{bar}\n").as_bytes());
            return None;
        }
        let number = |flag: &str| -> u32 {
            let output = Command::new("id").args([flag, &name]).output().unwrap();
            said(&output).trim().parse().unwrap()
        };
        Some(Stranger {
            number: number("-u"),
            group: number("-g"),
            name,
        })
    }

    /// Runs a script of the stranger's.
    fn runs(&self, script: &str) -> Output {
        use std::os::unix::process::CommandExt as _;
        Command::new("sh")
            .args(["-c", script])
            .uid(self.number)
            .gid(self.group)
            .current_dir("/")
            .output()
            .unwrap()
    }

    fn does(&self, script: &str) {
        let output = self.runs(script);
        assert!(output.status.success(), "{script}: {output:#?}");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let removed = Command::new("userdel").arg(&self.name).status();
        assert!(removed.is_ok_and(|status| status.success()));
    }
}

/// All files and folders below, links not followed.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| entry.path()));
        }
    }
    found
}

#[test]
fn a_second_user_neither_plants_nor_reads_nor_changes_anything() {
    let Some(stranger) = Stranger::new() else {
        return;
    };
    let (place, traps) = (Place::new(), Traps::new());
    // Strangers may pass; where the cache and the notebook lie they could look.
    mode(place.folder.path(), 0o755);
    mode(traps.folder.path(), 0o777);
    // A folder for everybody's temporary files, as `/tmp`.
    let shared = tempfile::tempdir().unwrap();
    mode(shared.path(), 0o1777);
    let planted = tempfile::tempdir().unwrap();
    mode(planted.path(), 0o755);
    traps.fill(planted.path());
    let all = planted.path().display();
    let temp = shared.path().display().to_string();
    stranger.does(&format!(
        "cp -r {all}/. {temp}/ && cd {temp} && umask 000 && \
         mkdir glassbox-session-fifo glassbox-session-zero glassbox glassbox/prelude && \
         mkfifo glassbox-session-fifo/lock glassbox-session-fifo/owner && \
         ln -s /dev/zero glassbox-session-zero/lock && ln -s /dev/zero glassbox-session-zero/owner"
    ));
    // The notebook's folder is the user's own, below what everybody writes to.
    let notebooks = shared.path().join("mine");
    fs::create_dir(&notebooks).unwrap();
    let environment: Vec<(&str, String)> = place
        .environment()
        .into_iter()
        .map(|(name, path)| (name, path.to_str().unwrap().to_owned()))
        .chain([("TMPDIR", temp.clone()), ("XDG_RUNTIME_DIR", temp.clone())])
        .collect();
    let variables: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    tokio_block(async {
        let mut kernel = Kernel::start_in(&notebooks, &variables).await.unwrap();
        let shown = kernel.run("let secret = 40; secret + 2").await.unwrap();
        let shown = shown.ok().unwrap();
        assert_eq!(shown.first("execute_result")["data"]["text/plain"], "42");
        let asked = serde_json::json!({ "code": "Vec::with_cap", "cursor_pos": 13 });
        let answer = kernel.ask("complete_request", asked).await.unwrap();
        assert!(answer.to_string().contains("with_capacity"), "{answer}");
        traps.assert_unsprung("a session beside a stranger's files");
        // What is there of the session, and what the stranger can do with it.
        let process = kernel.process.id();
        let sessions = place.cache().join("sessions");
        let own: Vec<PathBuf> = all_below(&place.cache())
            .into_iter()
            .chain(all_below(&place.folder.path().join("history.jsonl")))
            .collect();
        let folder = own
            .iter()
            .find(|path| path.parent() == Some(&sessions) && path.join("lock").exists())
            .expect("the session's folder lies beside the preludes");
        assert!(folder.join("cells").is_dir());
        let list = planted.path().join("list");
        let lines = own.iter().filter(|path| !path.is_symlink());
        let lines: Vec<String> = lines.map(|path| path.display().to_string()).collect();
        assert!(lines.len() > 20, "{lines:?}");
        fs::write(&list, lines.join("\n")).unwrap();
        let tried = stranger.runs(&format!(
            "while read -r path; do \
               [ -w \"$path\" ] && echo \"can write $path\"; \
               [ -f \"$path\" ] && cat \"$path\" >/dev/null 2>&1 && echo \"can read $path\"; \
               rm -rf \"$path\" 2>/dev/null; ls \"$path\" >/dev/null 2>&1 && echo \"can see $path\"; \
             done < {list}; \
             for file in environ mem fd/0 cwd maps; do cat /proc/{process}/$file >/dev/null 2>&1 && echo \"can read $file\"; done; \
             kill -0 {process} 2>/dev/null && echo 'can signal'; true",
            list = list.display()
        ));
        let can: Vec<String> = said(&tried).lines().map(str::to_owned).collect();
        // The cache's own folder was there before; that its name is seen is the parent's affair.
        let allowed = format!("can see {}", place.cache().display());
        let can: Vec<&String> = can.iter().filter(|line| **line != allowed).collect();
        assert!(can.is_empty(), "the stranger {can:#?}");
        let shown = kernel.run("secret + 2").await.unwrap().ok().unwrap();
        assert_eq!(shown.first("execute_result")["data"]["text/plain"], "42");
    });
    for left in ["glassbox-session-fifo/lock", "glassbox-session-zero/lock"] {
        let path = shared.path().join(left);
        assert!(path.symlink_metadata().is_ok(), "{left} was left alone");
    }
    // A cache of the stranger's, however it looks from outside.
    let theirs = shared.path().join("theirs");
    stranger.does(&format!(
        "mkdir -m 755 {0} && mkdir {0}/prelude",
        theirs.display()
    ));
    let start = |cache: &Path| {
        let mut command = place.program();
        command.env("GLASSBOX_CACHE_DIR", cache);
        repl(command, "6 * 7\n")
    };
    let refused = start(&theirs);
    assert_refused(
        &refused,
        &["belongs to another user", "theirs", "GLASSBOX_CACHE_DIR"],
    );
    // One that the stranger can write to somewhere: everything in it may be theirs.
    for (folder, loose) in [
        (place.cache(), 0o777),
        (place.cache().join("prelude"), 0o707),
        (place.library().parent().unwrap().to_owned(), 0o757),
        (place.library().with_file_name("deps"), 0o777),
        (place.library().with_file_name("analysis"), 0o722),
    ] {
        let before = mode_of(&folder);
        mode(&folder, loose);
        let refused = start(&place.cache());
        let name = folder.display().to_string();
        assert_refused(&refused, &["others may write to", &name, "chmod go-w"]);
        mode(&folder, before);
    }
    assert_works(&start(&place.cache()), "with its modes as before");
    // A file of the stranger's among the library's own.
    let library = place.library();
    let copy = library.with_extension("copy");
    fs::copy(&library, &copy).unwrap();
    std::os::unix::fs::chown(&copy, Some(stranger.number), None).unwrap();
    fs::rename(&copy, library.with_file_name("deps").join("theirs.so")).unwrap();
    assert_refused(
        &start(&place.cache()),
        &["belongs to another user", "theirs.so"],
    );
    traps.assert_unsprung("all that");
}

#[test]
fn a_cache_that_others_may_write_to_is_refused_by_name() {
    let place = Place::new();
    assert_works(&repl(place.program(), "6 * 7\n"), "the first start");
    assert_eq!(
        mode_of(&place.cache()) & 0o077,
        0,
        "made for the user alone"
    );
    // A parent counts as the folder itself.
    let parent = place.folder.path();
    for loose in [0o777, 0o707, 0o702] {
        mode(parent, loose);
        let refused = repl(place.program(), "6 * 7\n");
        assert_refused(
            &refused,
            &["others may write to", &parent.display().to_string()],
        );
    }
    mode(parent, 0o1777);
    let shared = repl(place.program(), "6 * 7\n");
    assert_works(&shared, "everybody removes their own files only");
    mode(parent, 0o755);
    // The library and what seals it may be changed together.
    let library = place.library();
    let was = mode_of(&library);
    mode(&library, 0o666);
    let name = library.file_name().unwrap().to_str().unwrap().to_owned();
    assert_refused(
        &repl(place.program(), "6 * 7\n"),
        &["others may write to", &name],
    );
    mode(&library, was);
    // What cargo built is as good as the library that is made of it.
    let inside = place.cache().join("prelude/build/release");
    mode(&inside, 0o777);
    fs::write(place.library().with_file_name("manifest.json"), "{").unwrap();
    let refused = repl(place.program(), "6 * 7\n");
    assert_refused(&refused, &["others may write to", "prelude/build/release"]);
    mode(&inside, 0o700);
    assert_works(&repl(place.program(), "6 * 7\n"), "mended");
    // The source that it is built from, too.
    mode(&place.source(), 0o777);
    assert_refused(
        &repl(place.program(), "6 * 7\n"),
        &["others may write to", "source"],
    );
}

#[test]
fn odd_paths_work_or_are_named() {
    let place = Place::new();
    let top = place.folder.path().canonicalize().unwrap();
    let long = format!("{}/{}", "l".repeat(200), "m".repeat(200));
    let start = |variable: &str, value: &std::ffi::OsStr| {
        let mut command = place.program();
        command.env(variable, value).current_dir(&top);
        repl(command, "6 * 7\n")
    };
    symlink(&top, top.join("link")).unwrap();
    for odd in ["a b'c\"d", "ä/,=", &long, "relative/", "link/below//"] {
        let relative = odd.starts_with("relative");
        let value = if relative {
            PathBuf::from(odd)
        } else {
            top.join(odd)
        };
        // The cache is made, a folder for temporary files has to be there.
        fs::create_dir_all(top.join(odd).join("temporary")).unwrap();
        mode(&top.join(odd), 0o700);
        assert_works(
            &start("GLASSBOX_CACHE_DIR", value.join("cache").as_os_str()),
            odd,
        );
        assert_works(&start("TMPDIR", value.join("temporary").as_os_str()), odd);
        let left = fs::read_dir(top.join(odd).join("temporary"))
            .unwrap()
            .count();
        assert_eq!(left, 0, "{odd}");
    }
    for odd in [
        &b"a\nb"[..],
        b"a\xffb",
        b"a:b",
        b"a;b",
        b"$ORIGIN",
        b"a\x1bb",
    ] {
        let value = top.join(std::ffi::OsStr::from_bytes(odd));
        fs::create_dir(&value).unwrap();
        let named = format!("{value:?}");
        let refused = start("GLASSBOX_CACHE_DIR", value.as_os_str());
        let inside = named.trim_matches('"');
        assert_refused(&refused, &[inside, "GLASSBOX_CACHE_DIR"]);
        let temporary = start("TMPDIR", value.as_os_str());
        // What only a list of folders can't hold is no matter for a session.
        if std::str::from_utf8(odd).is_ok_and(|text| text.contains([':', ';'])) {
            assert_works(&temporary, inside);
        } else {
            assert_refused(&temporary, &[inside, "TMPDIR"]);
        }
    }
    fs::write(top.join("file"), "").unwrap();
    for nowhere in [
        "/proc/self/nowhere",
        "/proc/self/status",
        &format!("{}/file", top.display()),
    ] {
        let value = std::ffi::OsStr::new(nowhere);
        assert_refused(
            &start("GLASSBOX_CACHE_DIR", value),
            &[nowhere, "GLASSBOX_CACHE_DIR"],
        );
        if nowhere != "/proc/self/status" {
            assert_refused(&start("TMPDIR", value), &[nowhere, "TMPDIR"]);
        }
    }
    // A folder of everybody's, and none at all, are no reason to stop.
    fs::create_dir(top.join("shared")).unwrap();
    mode(&top.join("shared"), 0o1777);
    for value in [top.join("shared"), PathBuf::new()] {
        assert_works(&start("TMPDIR", value.as_os_str()), "TMPDIR");
        assert_works(
            &start("XDG_RUNTIME_DIR", value.as_os_str()),
            "XDG_RUNTIME_DIR",
        );
    }
    assert_eq!(fs::read_dir(top.join("shared")).unwrap().count(), 0);
}

/// Says in which folder the session is.
const WHERE: &str = "std::fs::read_link(\"/proc/self/fd/1\").unwrap()\n\n6 * 7\n";

#[test]
fn a_session_lies_where_only_its_user_writes_and_libraries_can_be_loaded() {
    let place = Place::new();
    let top = place.folder.path().canonicalize().unwrap();
    let runtime = top.join("runtime");
    fs::create_dir(&runtime).unwrap();
    let start = |runtime: &Path, temporary: Option<&Path>| {
        let mut command = place.program();
        command.env("XDG_RUNTIME_DIR", runtime);
        if let Some(temporary) = temporary {
            command.env("TMPDIR", temporary);
        }
        let output = repl(command, &WHERE.replace("\n\n", "\n"));
        assert_works(&output, "a session");
        said(&output)
    };
    let lies = |said: &str, place: &Path| {
        let place = place.join("glassbox-session-").display().to_string();
        assert!(said.contains(&place), "not in {place}: {said}");
    };
    let sessions = place
        .cache()
        .canonicalize()
        .unwrap_or(place.cache())
        .join("sessions");
    mode(&runtime, 0o700);
    lies(&start(&runtime, None), &runtime);
    // Not quite the user's own, a link, or a file.
    for loose in [0o755, 0o750, 0o701] {
        mode(&runtime, loose);
        lies(&start(&runtime, None), &sessions);
    }
    mode(&runtime, 0o700);
    symlink(&runtime, top.join("link")).unwrap();
    lies(&start(&top.join("link"), None), &sessions);
    lies(&start(Path::new("/proc/self/status"), None), &sessions);
    // What the user names, if it is theirs.
    let temporary = top.join("temporary");
    fs::create_dir(&temporary).unwrap();
    mode(&temporary, 0o755);
    lies(&start(&runtime, Some(&temporary)), &temporary);
    for loose in [0o777, 0o1777, 0o757] {
        mode(&temporary, loose);
        lies(&start(&runtime, Some(&temporary)), &runtime);
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    // A disk from which nothing can be loaded, and one that is nearly full, in a namespace of their own.
    for (options, what) in [("noexec,size=200m", "noexec"), ("size=20m", "small")] {
        let script = format!(
            "mount -t tmpfs -o mode=700,{options} tmpfs '{0}' && exec \"$0\" repl",
            runtime.display()
        );
        let mut command = place.program();
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command = Command::new("unshare");
        command
            .args(["--mount", "--", "sh", "-c", &script])
            .arg(env!("CARGO_BIN_EXE_glassbox"))
            .envs(environment)
            .env_remove("TMPDIR")
            .env("XDG_RUNTIME_DIR", &runtime)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        process
            .stdin
            .take()
            .unwrap()
            .write_all(WHERE.as_bytes())
            .unwrap();
        let output = process.wait_with_output().unwrap();
        if said(&output).contains("not permitted") || said(&output).contains("ermission denied") {
            writeln!(
                std::io::stderr(),
                "NOT TESTED: {what}; nothing can be mounted here"
            )
            .unwrap();
            continue;
        }
        assert_works(&output, what);
        lies(&said(&output), &sessions);
    }
}

#[test]
fn outputs_are_as_open_as_the_notebook_and_the_users_umask_let_them_be() {
    let place = Place::new();
    let folder = place.folder.path();
    let text = serde_json::json!({
        "nbformat": 4, "nbformat_minor": 5, "metadata": {},
        "cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "words"}],
    });
    let notebook = folder.join("a.ipynb");
    fs::write(&notebook, text.to_string()).unwrap();
    let run = |umask: &str, arguments: &[&str]| {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("umask {umask}; exec \"$0\" run \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_glassbox"))
            .args(arguments)
            .current_dir(folder);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:#?}");
    };
    for (of_notebook, umask, expected) in [
        (0o600, "022", 0o600),
        (0o600, "000", 0o600),
        (0o640, "022", 0o640),
        (0o644, "022", 0o644),
        (0o666, "022", 0o644),
        (0o664, "002", 0o664),
        (0o644, "077", 0o600),
        (0o444, "022", 0o644),
    ] {
        mode(&notebook, of_notebook);
        let out = folder.join(format!("out-{of_notebook:o}-{umask}"));
        run(umask, &["a.ipynb", "--output", out.to_str().unwrap()]);
        for name in ["a.ipynb", "a.html"] {
            let found = mode_of(&out.join(name));
            assert_eq!(
                found, expected,
                "{name} of {of_notebook:o} under {umask}: {found:o}"
            );
        }
        let umask = u32::from_str_radix(umask, 8).unwrap();
        assert_eq!(mode_of(&out), 0o777 & !umask);
        // What is there keeps its mode.
        mode(&out.join("a.html"), 0o604);
        run("022", &["a.ipynb", "--output", out.to_str().unwrap()]);
        assert_eq!(mode_of(&out.join("a.html")), 0o604);
    }
    mode(&notebook, 0o640);
    run("000", &["a.ipynb", "--in-place"]);
    assert_eq!(
        (mode_of(&notebook), mode_of(&folder.join("a.html"))),
        (0o640, 0o640)
    );
    // A kernelspec is for whoever may read its folder.
    for (umask, file, spec) in [("022", 0o644, 0o755), ("077", 0o600, 0o755)] {
        let prefix = folder.join(format!("prefix-{umask}"));
        let status = Command::new("sh")
            .args([
                "-c",
                &format!("umask {umask}; exec \"$0\" install --prefix \"$1\""),
            ])
            .arg(env!("CARGO_BIN_EXE_glassbox"))
            .arg(&prefix)
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:#?}");
        let kernel = prefix.join("share/jupyter/kernels/glassbox");
        assert_eq!(mode_of(&kernel), spec);
        assert_eq!(mode_of(&kernel.join("kernel.json")), file);
    }
}

/// The table of SECURITY.md: a place, what it holds, the mode of its files and of its folders.
fn written() -> Vec<(String, u32, u32)> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/SECURITY.md")).unwrap();
    let start = page
        .find("## What is written where")
        .expect("the section is there");
    let rows = page[start..].lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, place, _, modes, _] = cells[..] else {
            return None;
        };
        let place = place.strip_prefix('`')?.strip_suffix('`')?;
        let (files, folders) = modes.split_once(" / ")?;
        let octal = |text: &str| u32::from_str_radix(text.trim_matches('`'), 8).unwrap_or(0);
        Some((place.to_owned(), octal(files), octal(folders)))
    });
    rows.collect()
}

/// Walks all that a user's first kernel and REPL wrote, under the most careless umask.
#[test]
fn what_is_written_where_is_what_security_md_says() {
    let place = Place::new();
    let home = place.folder.path().join("home");
    for folder in ["notebooks", "run"] {
        fs::create_dir_all(home.join(folder)).unwrap();
        mode(&home.join(folder), 0o700);
    }
    let rows = written();
    assert!(rows.len() >= 6, "the table is read wrongly: {rows:?}");
    let look = |named: Option<&str>| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "umask 000; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_glassbox"))
            .arg("repl")
            .current_dir(home.join("notebooks"))
            .env("HOME", &home)
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .env("XDG_DATA_HOME", home.join(".local/share"))
            .env("GLASSBOX_PRELUDE_SRC", place.source())
            .env("CARGO_HOME", cargo_home())
            .env("RUSTUP_HOME", rustup_home())
            .env_remove("GLASSBOX_CACHE_DIR")
            .env_remove("GLASSBOX_HISTORY")
            .env_remove("TMPDIR")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(variable) = named {
            command.env(variable, home.join("run"));
        }
        let mut process = command.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin
            .write_all(b"fn twice(x: u32) -> u32 { 2 * x }\n\nlet it = vec![1].into_iter();\n\ntwice(21)\n\nstd::fs::write(\"by_a_cell\", \"\").unwrap();\n\n!touch by_the_shell\n\n:export exported\n\nstd::fs::write(\"ready\", \"\").unwrap();\n\n")
            .unwrap();
        let begun = std::time::Instant::now();
        while !home.join("notebooks/ready").exists() {
            assert!(begun.elapsed().as_secs() < 120, "{:?}", process.try_wait());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let found: Vec<(PathBuf, u32, bool)> = all_below(&home)
            .into_iter()
            .filter_map(|path| {
                let found = path.symlink_metadata().ok()?;
                (!found.is_symlink()).then(|| {
                    let below = path.strip_prefix(&home).unwrap().to_owned();
                    (below, found.mode() & 0o777, found.is_dir())
                })
            })
            .collect();
        drop(stdin);
        let output = process.wait_with_output().unwrap();
        assert!(said(&output).contains("42"), "{output:#?}");
        fs::remove_file(home.join("notebooks/ready")).unwrap();
        found
    };
    let mut used = vec![false; rows.len()];
    for named in [None, Some("XDG_RUNTIME_DIR"), Some("TMPDIR")] {
        for (path, mode, folder) in look(named) {
            let place = format!("${}/", named.unwrap_or_default());
            let text = format!("~/{}", path.display()).replacen("~/run/", &place, 1);
            // What cells do is the user's own.
            if text.starts_with("~/notebooks/") || ["~/", "~/run", "~/notebooks"].contains(&&*text)
            {
                if !folder && !text.contains("exported") && !text.ends_with("ready") {
                    assert_eq!(mode, 0o666, "{text}: as the user's umask has it");
                }
                continue;
            }
            let row = rows
                .iter()
                .position(|(pattern, _, _)| covers(pattern, &text));
            let Some(row) = row else {
                // The folders on the way to a place are made for the user alone.
                assert!(
                    folder && mode == 0o700,
                    "{text} ({mode:o}) is not in the table"
                );
                continue;
            };
            used[row] = true;
            let (pattern, files, folders) = &rows[row];
            let allowed = if folder { folders } else { files };
            assert_eq!(
                mode & !allowed,
                0,
                "{text} is {mode:o}, `{pattern}` says {allowed:o}"
            );
        }
    }
    let rows: Vec<_> = rows.iter().zip(used).filter(|(_, used)| !used).collect();
    // What only a terminal, a kernel, a `:dep` or the stock kernel writes has tests of its own.
    for ((pattern, _, _), _) in rows {
        let elsewhere = [
            "history", "analyst", "stock", "kernels", "executed", "source",
        ];
        assert!(
            elsewhere.iter().any(|word| pattern.contains(word)),
            "nothing is in `{pattern}`"
        );
    }
}

/// Whether a place of the table, in which `*` stands for a name, covers a path.
fn covers(pattern: &str, path: &str) -> bool {
    let (mut names, mut path) = (pattern.trim_end_matches('/').split('/'), path.split('/'));
    names.all(|name| {
        path.next().is_some_and(|found| match name.split_once('*') {
            Some((start, end)) => found.starts_with(start) && found.ends_with(end),
            None => name == found,
        })
    })
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(|| own_home().join(".cargo"), PathBuf::from)
}

fn rustup_home() -> PathBuf {
    std::env::var_os("RUSTUP_HOME").map_or_else(|| own_home().join(".rustup"), PathBuf::from)
}

fn own_home() -> PathBuf {
    std::env::var_os("HOME").expect("a home folder").into()
}

/// A line of `learnt.json` that is wrong made cells fail in this and every later session.
#[test]
fn what_was_learnt_wrongly_is_learnt_anew() {
    let place = Place::new();
    let cells = |cells: &str| repl(place.program(), cells);
    let learnt = || place.library().with_file_name("learnt.json");
    let read = || -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(learnt()).unwrap()).unwrap()
    };
    // What is right, from a session that learns it.
    let make = "let e = std::io::Error::other(\"forty-two\");\nlet v = vec![std::io::Error::other(\"42\")];\n";
    let output = cells(&format!("{make}e.to_string()\nv.len()\n"));
    assert!(said(&output).contains("forty-two"), "{output:#?}");
    let defined = "std::io::error::Error";
    let right = read();
    assert_eq!(right[defined], "std::io::Error", "{right}");
    for wrong in [
        // Nothing is called so.
        "std::nowhere::Error",
        "glassbox_prelude::io::Error",
        // Something else is, which fits no value, but the text of some cells.
        "std::fmt::Error",
        // A trait, a macro, a type with parameters.
        "std::error::Error",
        // No path at all.
        "std::io::Error; panic!()",
        "",
    ] {
        for cell in [
            "e.to_string()",
            "e.kind();\ne.to_string()",
            "drop(v);\ne.to_string()",
            "let e = e;\ne.to_string()",
        ] {
            let mut poisoned = right.clone();
            poisoned[defined] = wrong.into();
            fs::write(learnt(), poisoned.to_string()).unwrap();
            let output = cells(&format!("{make}{cell}\n"));
            let said = said(&output);
            assert!(
                output.status.success() && said.contains("forty-two") && !said.contains("error"),
                "{wrong}, {cell}: {said}"
            );
            assert_eq!(read()[defined], "std::io::Error", "{wrong}, {cell}");
        }
    }
    // A file that is none.
    for text in ["[]", "{", "\u{0}"] {
        fs::write(learnt(), text).unwrap();
        assert!(said(&cells(&format!("{make}e.to_string()\n"))).contains("forty-two"));
        assert_eq!(read()[defined], "std::io::Error");
    }
}
