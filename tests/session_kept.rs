//! Cells that were compiled before are not compiled again: counted at the compiler, whose every start leaves a line.

mod kernel_client;
mod session_support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use kernel_client::{Kernel, block_on};
use session_support::place::Place;

/// A place with a compiler that notes each of its starts.
struct Watched {
    place: Place,
    path: String,
    log: PathBuf,
}

impl Watched {
    fn new() -> Watched {
        let place = Place::new();
        let top = place.folder.path();
        let (bin, sysroot, log) = (top.join("bin"), top.join("sysroot"), top.join("log"));
        fs::create_dir(&bin).unwrap();
        fs::create_dir(&sysroot).unwrap();
        let true_sysroot = said_by("rustc", &["--print=sysroot"]);
        let tool = |name: &str| format!("{true_sysroot}/bin/{name}");
        std::os::unix::fs::symlink(format!("{true_sysroot}/lib"), sysroot.join("lib")).unwrap();
        std::os::unix::fs::symlink(tool("cargo"), bin.join("cargo")).unwrap();
        // A sysroot without programs: the session takes the compiler that it found.
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> '{log}'\n[ \"$1\" = --print=sysroot ] && {{ echo '{fake}'; shift; }}\nexec '{rustc}' \"$@\"\n",
            log = log.display(),
            fake = sysroot.display(),
            rustc = tool("rustc"),
        );
        let rustc = bin.join("rustc");
        fs::write(&rustc, script).unwrap();
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        Watched { place, path, log }
    }

    /// How often the compiler was given a cell so far.
    fn compiled(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let cells = log.lines().filter(|line| line.contains("--crate-name ctx"));
        cells.count()
    }

    fn cells(&self) -> PathBuf {
        self.place.cache().join("cells")
    }

    /// The files that are kept.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cells()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    async fn kernel(&self, more: &[(&str, &str)]) -> Result<Kernel> {
        let environment = self.place.environment();
        let texts: Vec<(&str, String)> = environment
            .iter()
            .map(|(name, value)| (*name, value.display().to_string()))
            .collect();
        let mut all: Vec<(&str, &str)> = texts
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        all.extend([("PATH", self.path.as_str()), ("GLASSBOX_CELL_CACHE", "")]);
        all.extend(more);
        Kernel::start_with(&all).await
    }

    /// Runs cells in a new session; returns what each showed or printed, and how often the compiler was called.
    async fn session(&self, cells: &[&str], more: &[(&str, &str)]) -> Result<(Vec<String>, usize)> {
        let mut kernel = self.kernel(more).await?;
        kernel.run("()").await?.ok()?;
        let before = self.compiled();
        let mut texts = Vec::new();
        for cell in cells {
            texts.push(text_of(&mut kernel, cell).await?);
        }
        Ok((texts, self.compiled() - before))
    }
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a cell that ends well shows, prints and says.
async fn text_of(kernel: &mut Kernel, cell: &str) -> Result<String> {
    let ran = kernel.run(cell).await?.ok()?;
    let shown = &ran.first("execute_result")["data"]["text/plain"];
    let shown = shown.as_str().unwrap_or_default();
    Ok(format!(
        "{shown}{}{}",
        ran.text("stdout"),
        ran.text("stderr")
    ))
}

/// Every kind of cell that the engine writes differently: values, variables made, used, changed, consumed and borrowed from, items, macros that make
/// items, statics of all kinds, types of the cells, a failed `?` in a function, and one that is compiled with all items first.
const NOTEBOOK: [&str; 14] = [
    "1 + 1",
    "let a = vec![1, 2, 3];\nlet b = a.len();\nb",
    "a.iter().sum::<i32>() + b as i32",
    "let mut c = String::from(\"x\");\nc.push('y');\nc.clone()",
    "c.push('z');\nprintln!(\"{c}\")",
    "fn double(x: i32) -> i32 { x * 2 }\ndouble(4)",
    "#[derive(Debug, Clone)]\nstruct P { x: i32 }\nlet p = P { x: double(3) };\np.clone()",
    "macro_rules! unit { ($n:ident) => { #[derive(Debug)] struct $n; } }\nunit!(Unit);",
    "format!(\"{:?} {:?}\", Unit, p)",
    "drop(a);",
    "let q = p;\nq.x",
    "use std::sync::atomic::{AtomicUsize, Ordering};\nstatic CALLS: AtomicUsize = AtomicUsize::new(0);\nfn next() -> usize { CALLS.fetch_add(1, Ordering::Relaxed) + 1 }\nthread_local! { static OWN: std::cell::Cell<u8> = const { std::cell::Cell::new(7) } }",
    "next() + next()",
    "OWN.with(|own| own.get())",
];

#[test]
fn a_notebook_that_runs_a_second_time_calls_no_compiler() {
    block_on(async {
        let watched = Watched::new();
        let (first, compiled) = watched.session(&NOTEBOOK, &[]).await?;
        assert!(compiled >= NOTEBOOK.len(), "{compiled}");
        assert_eq!(first[0], "2");
        assert_eq!(first[12], "3");
        let (second, compiled) = watched.session(&NOTEBOOK, &[]).await?;
        assert_eq!(
            second, first,
            "statics begin anew, and nothing else is said"
        );
        let log = fs::read_to_string(&watched.log)?;
        assert_eq!(compiled, 0, "{log}");
        // `off` keeps nothing and finds nothing.
        let (third, compiled) = watched
            .session(&NOTEBOOK, &[("GLASSBOX_CELL_CACHE", "off")])
            .await?;
        assert_eq!(third, first);
        assert!(compiled >= NOTEBOOK.len(), "{compiled}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_cell_that_runs_again_in_its_session_calls_no_compiler() {
    block_on(async {
        let watched = Watched::new();
        let mut kernel = watched.kernel(&[]).await?;
        let mut all = Vec::new();
        for cell in NOTEBOOK {
            // What is consumed or said to begin anew is said of by name.
            if !cell.contains("drop(a)") && !cell.contains("let q = p") {
                text_of(&mut kernel, cell).await?;
                all.push(cell);
            }
        }
        // The second time each replaces what the first made, and variables are there that were not.
        for cell in &all {
            text_of(&mut kernel, cell).await?;
        }
        let before = watched.compiled();
        let mut shown = Vec::new();
        for cell in &all {
            shown.push(text_of(&mut kernel, cell).await?);
        }
        assert_eq!(watched.compiled() - before, 0, "{shown:#?}");
        assert_eq!(shown[0], "2");
        // Of cells that make what they name, not even the second time.
        let cells = [
            "let w = 5;\nw + 1",
            "fn triple(x: i32) -> i32 { x * 3 }\ntriple(4)",
            "static MORE: AtomicUsize = AtomicUsize::new(10);\nMORE.fetch_add(1, Ordering::Relaxed)",
        ];
        for cell in cells {
            let first = text_of(&mut kernel, cell).await?;
            let before = watched.compiled();
            for _ in 0..3 {
                let again = text_of(&mut kernel, cell).await?;
                assert!(again.starts_with(&first), "{again}");
            }
            assert_eq!(watched.compiled() - before, 0, "{cell}");
        }
        // Nor after items that a cell has nothing to do with.
        for cell in ["fn unrelated() {}", "struct Unrelated;"] {
            text_of(&mut kernel, cell).await?;
        }
        let before = watched.compiled();
        for cell in [NOTEBOOK[0], NOTEBOOK[3], NOTEBOOK[5], cells[0], cells[1]] {
            text_of(&mut kernel, cell).await?;
        }
        assert_eq!(watched.compiled() - before, 0);
        // Statics count on from cell to cell, and begin anew in a process that is started anew.
        let mut counts = Vec::new();
        for _ in 0..3 {
            counts.push(text_of(&mut kernel, "MORE.fetch_add(1, Ordering::Relaxed)").await?);
        }
        assert_eq!(counts, ["11", "12", "13"]);
        kernel.run(":restart").await?.ok()?;
        let before = watched.compiled();
        let counts = [
            text_of(&mut kernel, "MORE.fetch_add(1, Ordering::Relaxed)").await?,
            text_of(&mut kernel, "MORE.fetch_add(1, Ordering::Relaxed)").await?,
        ];
        assert_eq!(counts, ["10", "11"]);
        // The cell that makes it after a restart is another one than any before; the next is known.
        assert!(watched.compiled() - before <= 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_a_cell_is_made_of_decides_whether_it_is_known() {
    block_on(async {
        let watched = Watched::new();
        let krate = watched.place.folder.path().join("added");
        fs::create_dir_all(krate.join("src"))?;
        fs::write(
            krate.join("Cargo.toml"),
            "[package]\nname = \"added\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        )?;
        let answer = |number: u8| {
            let text = format!("pub const fn answer() -> u8 {{ {number} }}\n");
            fs::write(krate.join("src/lib.rs"), text)
        };
        answer(42)?;
        let words = watched.place.folder.path().join("words.txt");
        fs::write(&words, "one")?;
        let depends = format!(
            ":dep added = {{ path = {:?} }}",
            krate.display().to_string()
        );
        let reads = format!("include_str!({:?}).len()", words.display().to_string());
        let cells = [
            "fn f() -> u8 { 1 }",
            "const X: u8 = f2();\nconst fn f2() -> u8 { 3 }",
            "f() + X",
            &depends,
            "const Y: u8 = added::answer();\nY",
            &reads,
            "option_env!(\"GLASSBOX_TEST_WORD\").is_some()",
        ];
        let (first, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(first[2], "4");
        assert_eq!((&*first[4], &*first[5], &*first[6]), ("42", "3", "false"));
        assert!(compiled >= 6);
        // What reads files or the environment while it compiles is compiled each time.
        let (_, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(compiled, 2);
        fs::write(&words, "three")?;
        let (second, _) = watched
            .session(&cells, &[("GLASSBOX_TEST_WORD", "there")])
            .await?;
        assert_eq!((&*second[5], &*second[6]), ("5", "true"));
        // An item that the cell reaches, however far away.
        let mut edited = cells;
        edited[1] = "const X: u8 = f2();\nconst fn f2() -> u8 { 4 }";
        let (third, compiled) = watched.session(&edited, &[]).await?;
        assert_eq!(third[2], "5");
        // The items, the cell that uses them, and those that read: not the others.
        assert_eq!(compiled, 2 + 2);
        // A crate that the cell names.
        std::thread::sleep(Duration::from_millis(1100));
        answer(43)?;
        let (fourth, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(fourth[4], "43");
        assert_eq!(compiled, 1 + 2);
        // The prelude.
        let source = watched.place.source().join("src/lib.rs");
        let text = fs::read_to_string(&source)?;
        fs::write(&source, format!("{text}\npub fn more() {{}}\n"))?;
        let (_, compiled) = watched.session(&cells[..3], &[]).await?;
        assert_eq!(compiled, 3);
        // How much cells are optimised.
        let (_, compiled) = watched.session(&["7 + 1", ":opt 2", "7 + 1"], &[]).await?;
        assert_eq!(compiled, 2);
        // What the user has to see is the compiler's word each time.
        let mut kernel = watched.kernel(&[]).await?;
        for _ in 0..2 {
            let before = watched.compiled();
            let ran = kernel.run("let wrong: u8 = \"text\";").await?;
            assert_eq!(ran.reply["ename"], "E0308", "{:#}", ran.reply);
            assert!(watched.compiled() > before);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_file_that_is_damaged_is_made_anew() {
    block_on(async {
        let watched = Watched::new();
        let cells = ["let a = 20;\na + 1", "a + 2"];
        let (first, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(
            (first, compiled),
            (vec!["21".to_owned(), "22".to_owned()], 2)
        );
        let damages: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes.truncate(bytes.len() / 2),
            |bytes| bytes.clear(),
            |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            },
            |bytes| bytes.push(0),
        ];
        for damage in damages {
            ensure!(!watched.files().is_empty());
            for file in watched.files() {
                let mut bytes = fs::read(&file)?;
                damage(&mut bytes);
                fs::write(&file, bytes)?;
            }
            let (again, compiled) = watched.session(&cells, &[]).await?;
            assert_eq!((&*again[0], &*again[1], compiled), ("21", "22", 2));
            let (_, compiled) = watched.session(&cells, &[]).await?;
            assert_eq!(compiled, 0);
        }
        // A file of one cell under the name of another is none.
        let files = watched.files();
        let last = fs::read(&files[files.len() - 1])?;
        for file in &files {
            fs::write(file, &last)?;
        }
        let (again, _) = watched.session(&cells, &[]).await?;
        assert_eq!((&*again[0], &*again[1]), ("21", "22"));
        Ok(())
    })
    .unwrap();
}

#[test]
fn two_sessions_at_once_share_what_they_compile() {
    block_on(async {
        let watched = Watched::new();
        // The prelude is built once before.
        watched.session(&[], &[]).await?;
        let (one, other) = tokio::join!(
            watched.session(&NOTEBOOK, &[]),
            watched.session(&NOTEBOOK, &[])
        );
        let (one, other) = (one?, other?);
        assert_eq!(one.0, other.0);
        let (third, compiled) = watched.session(&NOTEBOOK, &[]).await?;
        assert_eq!((third, compiled), (one.0, 0));
        let unfinished = watched.files();
        let mut names = unfinished.iter().map(|file| file.display().to_string());
        assert!(!names.any(|name| name.contains("new-")));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_folder_that_cannot_be_used_costs_the_session_nothing_but_time() {
    block_on(async {
        let watched = Watched::new();
        let cells = ["let a = 1;\na", "a + 1", "a + 1"];
        watched.session(&[], &[]).await?;
        let folder = watched.cells();
        fs::remove_dir_all(&folder)?;
        // A file in its place: even root cannot write below it.
        fs::write(&folder, "")?;
        let (shown, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(shown, ["1", "2", "2"], "nothing is said");
        assert_eq!(compiled, 2, "the session keeps what it compiled for itself");
        fs::remove_file(&folder)?;
        // What others may write to is not used, and that is said once.
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        let (shown, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(compiled, 2);
        let all = shown.concat();
        assert_eq!(
            all.matches("others may write to").count(),
            0,
            "said in the first cell, which is not among these: {all}"
        );
        assert!(watched.files().is_empty());
        let mut kernel = watched.kernel(&[]).await?;
        let said = text_of(&mut kernel, "()").await?;
        assert!(said.contains("others may write to"), "{said}");
        let said = text_of(&mut kernel, "2").await?;
        assert_eq!(said, "2");
        drop(kernel);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        watched.session(&cells, &[]).await?;
        // Nor is a file that others may write to.
        for file in watched.files() {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o622))?;
        }
        let (_, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(compiled, 2);
        Ok(())
    })
    .unwrap();
}

/// Only root can give a folder to somebody else.
#[test]
fn a_folder_of_another_user_is_not_used() {
    block_on(async {
        let watched = Watched::new();
        let cells = ["5 + 5"];
        watched.session(&cells, &[]).await?;
        let give = |path: &Path, owner: u32| std::os::unix::fs::chown(path, Some(owner), None);
        let own = fs::metadata(watched.cells())?;
        let own = std::os::unix::fs::MetadataExt::uid(&own);
        if give(&watched.cells(), 12345).is_err() {
            // Past the harness, which hides the prints of tests that pass.
            let message = "NOT TESTED: a folder of another user; only root can make one";
            writeln!(std::io::stderr(), "{message}")?;
            return Ok(());
        }
        let mut kernel = watched.kernel(&[]).await?;
        let said = text_of(&mut kernel, "()").await?;
        assert!(said.contains("belongs to another user"), "{said}");
        let before = watched.compiled();
        assert_eq!(text_of(&mut kernel, cells[0]).await?, "10");
        assert_eq!(watched.compiled() - before, 1);
        drop(kernel);
        give(&watched.cells(), own)?;
        // One file of theirs among ours.
        for file in watched.files() {
            give(&file, 12345)?;
        }
        let (_, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(compiled, 1);
        let (_, compiled) = watched.session(&cells, &[]).await?;
        assert_eq!(compiled, 0, "ours took its place");
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_limit_is_kept_and_what_was_used_last_stays() {
    block_on(async {
        let watched = Watched::new();
        let limit = [("GLASSBOX_CELL_CACHE", "1")];
        let often = "let often = 1;\noften";
        let other = |number: usize| {
            // Some ten kilobytes of data that a library holds.
            format!(
                "static DATA: [u8; 30_000] = [{}; 30_000];\nDATA[7]",
                number % 250 + 1
            )
        };
        let mut kernel = watched.kernel(&limit).await?;
        kernel.run("()").await?.ok()?;
        for number in 0..60 {
            kernel.run(&other(number)).await?.ok()?;
            kernel.run(often).await?.ok()?;
        }
        let held: u64 = watched
            .files()
            .iter()
            .map(|file| fs::metadata(file).map_or(0, |about| about.len()))
            .sum();
        assert!(held <= 1_000_000, "{held}");
        drop(kernel);
        let (_, compiled) = watched.session(&[often], &limit).await?;
        assert_eq!(compiled, 0);
        let (_, compiled) = watched.session(&[&other(0)], &limit).await?;
        assert_eq!(compiled, 1, "the oldest is gone");
        let (said, _) = watched
            .session(&[], &[("GLASSBOX_CELL_CACHE", "some")])
            .await?;
        assert!(said.is_empty());
        let mut kernel = watched.kernel(&[("GLASSBOX_CELL_CACHE", "some")]).await?;
        let said = text_of(&mut kernel, "()").await?;
        assert!(said.contains("GLASSBOX_CELL_CACHE is \"some\""), "{said}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_a_killed_session_left_unfinished_goes_and_the_doctor_says_what_is_kept() {
    block_on(async {
        let watched = Watched::new();
        watched.session(&["1 + 2"], &[]).await?;
        let left = watched.cells().join("new-left");
        fs::write(&left, "half")?;
        let file = fs::File::options().write(true).open(&left)?;
        file.set_modified(SystemTime::now() - Duration::from_secs(7200))?;
        watched.session(&["1 + 3"], &[]).await?;
        assert!(!left.exists());
        let mut doctor = watched.place.program();
        doctor.args(["doctor", "--json"]).env("PATH", &watched.path);
        let said = String::from_utf8(doctor.output()?.stdout)?;
        let report: serde_json::Value = serde_json::from_str(&said)?;
        let checks = report["checks"].as_array().cloned().unwrap_or_default();
        let cells = checks
            .iter()
            .find(|check| check["name"] == "compiled cells");
        let found = cells
            .map(|check| check["found"].to_string())
            .unwrap_or_default();
        let count = format!("{} kept", watched.files().len());
        assert!(
            found.contains(&count) && found.contains("of 256.0 MB"),
            "{said}"
        );
        let folder = watched.cells().display().to_string();
        assert!(found.contains(&folder), "{said}");
        Ok(())
    })
    .unwrap();
}
