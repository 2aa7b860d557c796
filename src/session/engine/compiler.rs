//! One call of rustc for a cell, and one of the linker.
//!
//! ```text
//! lib.rs ─ rustc ─▶ cell.o ─ ld -shared ─▶ cell_7.so        (cells without native libraries of their own)
//! lib.rs ─ rustc with the system's linker ─▶ cell_7.so      (cells with `#[link]`)
//! ```
//! The short way links against nothing: the process that loads the library has the prelude and everything below it
//! loaded already, and finds all symbols there. So the linker reads one small file instead of the prelude's library. A cell that names
//! crates of `:dep` names their library, which is loaded with the first such cell (see [`super::linkage`]).

use std::ffi::{CString, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::dependencies::Added;
use super::linkage::Linkage;
use super::types::CELL_CRATE;
use crate::session::interrupt::PROCESS_FILE;
use crate::session::prelude::cache::CachedPrelude;
use crate::session::prelude::prelude_crates::PreludeCrate;
use crate::session::prelude::toolchain::Toolchain;
use crate::session::reports::{Diagnostic, GENERATED as SOURCE};

/// In the session's folder: where cells are compiled.
const FOLDER: &str = "cells";
/// In the session's folder: what a cell is compiled with, for who wants to do the same by hand.
const SETTINGS_FILE: &str = "compiler.json";

/// Compiles cells of one session.
#[derive(Debug)]
pub(crate) struct Compiler {
    rustc: PathBuf,
    prelude: CachedPrelude,
    /// The linker, if it can be called without a C compiler around it.
    linker: Option<PathBuf>,
    folder: PathBuf,
    /// Where it stands how cells are compiled, for who wants to compile as the session does, and what stands there.
    settings: (PathBuf, String),
    /// Where the session notes the running compiler, for the interrupt.
    process_file: PathBuf,
    /// The crates that the session added.
    pub crates: Added,
    /// A cell was linked with them.
    pub crates_used: bool,
    pub opt_level: String,
    libraries: u64,
}

/// What is wanted of a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// To know whether it compiles.
    Check,
    /// A library to load.
    Library,
}

/// What a compilation made.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The library; `None` if it was only checked.
    pub library: Option<PathBuf>,
    pub rustc: Duration,
    pub link: Duration,
}

/// Why there is no library.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The compiler's errors.
    Errors(Vec<Diagnostic>),
    /// The compiler or linker did not work.
    Broken(String),
}

impl Compiler {
    pub(crate) fn new(
        toolchain: &Toolchain,
        prelude: &CachedPrelude,
        session: &Path,
    ) -> std::io::Result<Compiler> {
        let folder = session.join(FOLDER);
        let settings = serde_json::json!({
            "rustc": toolchain.rustc, "prelude": prelude.library, "dependencies": prelude.dependencies,
        });
        let compiler = Compiler {
            settings: (session.join(SETTINGS_FILE), settings.to_string()),
            rustc: toolchain.rustc.clone(),
            prelude: prelude.clone(),
            linker: which::which("ld").ok(),
            process_file: session.join(PROCESS_FILE),
            folder,
            crates: Added::default(),
            crates_used: false,
            opt_level: "0".to_owned(),
            libraries: 0,
        };
        compiler.make_folder()?;
        Ok(compiler)
    }

    /// Makes the folder where cells are compiled, if it is not there.
    pub(crate) fn make_folder(&self) -> std::io::Result<()> {
        let source = self.folder.join(SOURCE);
        fs::create_dir_all(source.parent().unwrap_or(&self.folder))?;
        let (file, text) = &self.settings;
        fs::write(file, text)
    }

    /// The crates in the prelude.
    pub(crate) fn prelude_crates(&self) -> &[PreludeCrate] {
        &self.prelude.crates
    }

    /// Where cells are compiled.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Compiles `source`.
    pub(crate) fn compile(&mut self, source: &str, goal: Goal) -> Result<Compiled, Failure> {
        let begin = Instant::now();
        let made = self.make(source, goal, begin);
        // The compiler and the linker say each in their own words, some of them as errors of the cell, that nothing can be written.
        made.map_err(|failure| match no_room(&self.folder, &failure) {
            true => Failure::Broken(format!(
                "no space left in {}, where the session keeps its files; free some and run the cell again",
                std::env::temp_dir().display()
            )),
            false => failure,
        })
    }

    fn make(&mut self, source: &str, goal: Goal, begin: Instant) -> Result<Compiled, Failure> {
        let file = self.folder.join(SOURCE);
        let linkage = Linkage::of(source, &self.crates, &self.prelude);
        fs::write(&file, format!("{source}{}", linkage.source)).map_err(|error| {
            Failure::Broken(format!("cannot write {}: {error}", file.display()))
        })?;
        let object = self.folder.join("cell.o");
        let mut rustc = self.command();
        rustc.args(&linkage.arguments);
        let mut library = None;
        let linker = self.linker.clone().filter(|_| !names_libraries(source));
        match goal {
            Goal::Check => {
                rustc.arg("--emit=metadata=cell.rmeta");
            }
            Goal::Library => {
                // No cell runs now, so nobody needs the file of the one before: what was loaded stays.
                let _ = fs::remove_file(self.library());
                self.libraries += 1;
                let path = self.library();
                match &linker {
                    Some(_) => rustc.args(["--emit=obj=cell.o", "-Ccodegen-units=1"]),
                    None => rustc
                        .arg(joined("--emit=link=", &path))
                        .arg("-Clink-arg=-Wl,-Bsymbolic")
                        .args(linkage.run_paths("-Clink-arg=-Wl,-rpath,")),
                };
                library = Some(path);
                self.crates_used |= !linkage.libraries.is_empty();
            }
        }
        self.run(rustc)?;
        let compiled = begin.elapsed();
        if let (Some(linker), Some(library)) = (linker, &library) {
            link(&linker, &object, library, &linkage)?;
        }
        Ok(Compiled {
            library,
            rustc: compiled,
            link: begin.elapsed() - compiled,
        })
    }

    /// The file of the library made last.
    fn library(&self) -> PathBuf {
        self.folder.join(format!("cell_{}.so", self.libraries))
    }

    /// A call of rustc that lists the cell compiled last with the types in it, in `listing`.
    pub(crate) fn lister(&self, source: &str, listing: &Path) -> std::io::Result<Command> {
        let copy = listing.with_extension("rs");
        let linkage = Linkage::of(source, &self.crates, &self.prelude);
        fs::write(&copy, format!("{source}{}", linkage.source))?;
        let mut rustc = self.base(&copy);
        rustc
            .args(&linkage.arguments)
            .arg(joined("--emit=mir=", listing))
            .stderr(Stdio::null());
        Ok(rustc)
    }

    /// The source with all macros expanded, each name marked with where it comes from; empty where rustc cannot make anything of it.
    pub(super) fn expand(&self, source: &str) -> Result<String, String> {
        let file = Path::new(SOURCE).with_file_name("calls.rs");
        let broken =
            |error: std::io::Error| format!("cannot run {}: {error}", self.rustc.display());
        let linkage = Linkage::of(source, &self.crates, &self.prelude);
        let text = format!("{source}{}", linkage.source);
        fs::write(self.folder.join(&file), text).map_err(broken)?;
        let mut rustc = self.base(&file);
        // Without it the stable compiler does not print what it expanded.
        rustc
            .env("RUSTC_BOOTSTRAP", "1")
            .args(&linkage.arguments)
            .arg("-Zunpretty=expanded,hygiene")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let process = rustc.spawn().map_err(broken)?;
        // Without the note an interrupt waits for the compiler.
        let _ = fs::write(&self.process_file, process.id().to_string());
        let output = process.wait_with_output().map_err(broken)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Behind the source rustc lists every expansion of every crate.
        let end = text.find("\n/*\nExpansions:").unwrap_or(text.len());
        Ok(text[..end].to_owned())
    }

    /// What rustc has to say of error codes.
    pub(crate) fn explain(&self, codes: &[&str]) -> Result<String, String> {
        let mut text = String::new();
        for code in codes {
            let output = Command::new(&self.rustc)
                .args(["--explain", code])
                .output()
                .map_err(|error| format!("cannot run {}: {error}", self.rustc.display()))?;
            text += &String::from_utf8_lossy(&output.stdout);
        }
        if text.is_empty() {
            return Err("there is no last error to explain".to_owned());
        }
        Ok(text)
    }

    fn command(&self) -> Command {
        let mut rustc = self.base(Path::new(SOURCE));
        rustc.args(["--error-format=json", "--json=diagnostic-rendered-ansi"]);
        rustc
    }

    fn base(&self, source: &Path) -> Command {
        let mut rustc = Command::new(&self.rustc);
        rustc
            .current_dir(&self.folder)
            .args([
                "--crate-name",
                CELL_CRATE,
                "--edition=2024",
                "--crate-type=cdylib",
            ])
            .arg(source)
            .args([
                "-Cprefer-dynamic",
                "-Cdebuginfo=0",
                "-Cdebug-assertions=on",
                "-Coverflow-checks=on",
                // Symbols that say types in full, for [`super::symbols`].
                "-Csymbol-mangling-version=v0",
                "-Awarnings",
            ])
            .arg(format!("-Copt-level={}", self.opt_level))
            .arg("--extern")
            .arg(joined("glassbox_prelude=", &self.prelude.library))
            .arg("-L")
            .arg(joined("dependency=", &self.prelude.dependencies))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(metadata) = &self.prelude.metadata {
            rustc
                .arg("--extern")
                .arg(joined("glassbox_prelude=", metadata));
        }
        rustc
    }

    /// Runs rustc, where an interrupt can find it.
    fn run(&self, mut rustc: Command) -> Result<(), Failure> {
        let broken = |error: std::io::Error| {
            Failure::Broken(format!("cannot run {}: {error}", self.rustc.display()))
        };
        let mut process = rustc.stderr(Stdio::piped()).spawn().map_err(broken)?;
        // Without the note an interrupt waits for the compiler.
        let _ = fs::write(&self.process_file, process.id().to_string());
        let mut said = String::new();
        if let Some(mut stderr) = process.stderr.take() {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map_err(broken)?;
            said = String::from_utf8_lossy(&bytes).into_owned();
        }
        let status = process.wait().map_err(broken)?;
        if status.success() {
            return Ok(());
        }
        let errors = diagnostics(&said);
        if errors.is_empty() {
            return Err(Failure::Broken(format!(
                "rustc failed ({status}): {}",
                said.trim()
            )));
        }
        Err(Failure::Errors(errors))
    }
}

/// Whether a compilation failed because the disk of `folder` is full: either the failure says so, or a program that could not say
/// why it failed did so where there is no room for a page.
fn no_room(folder: &Path, failure: &Failure) -> bool {
    let says_so = |text: &str| {
        let known = ["No space left on device", "Disk quota exceeded"];
        known.iter().any(|words| text.contains(words))
    };
    match failure {
        Failure::Errors(errors) => errors
            .iter()
            .any(|error| error.primary_line().is_none() && says_so(&error.json.to_string())),
        Failure::Broken(reason) => {
            says_so(reason) || free_bytes(folder).is_some_and(|free| free < 4096)
        }
    }
}

/// The free space of the disk that a folder is on.
fn free_bytes(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: zero is valid for every field of this plain structure.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string, and both live during the call.
    let asked = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    (asked == 0).then(|| found.f_bavail * found.f_frsize)
}

/// Whether the source asks for native libraries, which only the system's linker finds.
fn names_libraries(source: &str) -> bool {
    source.contains("#[link(") || source.contains("#![link(")
}

fn link(linker: &Path, object: &Path, library: &Path, linkage: &Linkage) -> Result<(), Failure> {
    let output = Command::new(linker)
        .args([
            "-shared",
            // What a library defines it uses, whatever an earlier one calls by the same name.
            "-Bsymbolic",
            "--eh-frame-hdr",
            "--hash-style=gnu",
            "--build-id=none",
            "-znoexecstack",
            "-znow",
            // Every library stays loaded: two ranges of addresses and three pages instead of five and six.
            "-znoseparate-code",
            "-zmax-page-size=4096",
            "-znorelro",
            "-o",
        ])
        .arg(library)
        .arg(object)
        .args(linkage.libraries.iter().map(|library| library.file()))
        .args(linkage.run_paths("-rpath="))
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Failure::Broken(format!(
            "{} failed: {}",
            linker.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
        Err(error) => Err(Failure::Broken(format!(
            "cannot run {}: {error}",
            linker.display()
        ))),
    }
}

/// The errors among rustc's JSON lines, without the summary at their end.
fn diagnostics(said: &str) -> Vec<Diagnostic> {
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            message["level"]
                .as_str()
                .is_some_and(|level| level.starts_with("error"))
        })
        .filter(|message| {
            let text = message["message"].as_str().unwrap_or_default();
            !text.starts_with("aborting due to") && !text.starts_with("cannot continue")
        })
        .map(Diagnostic::from_json)
        .collect()
}

fn joined(before: &str, path: &Path) -> OsString {
    let mut text = OsString::from(before);
    text.push(path);
    text
}
