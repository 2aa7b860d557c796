//! One call of rustc for a cell, and one of the linker.
//!
//! ```text
//! lib.rs ─ rustc ─▶ cell.o ─ ld -shared ─▶ cell_7.so        (cells without native libraries of their own)
//! lib.rs ─ rustc with the system's linker ─▶ cell_7.so      (cells with `#[link]`)
//! ```
//! A source that was compiled before, in whatever session, takes neither (see [`super::kept`]), but for ld where the library holds statics.
//!
//! The short way links against nothing: the process that loads the library has the prelude and everything below it
//! loaded already, and finds all symbols there. So the linker reads one small file instead of the prelude's library. A cell that names
//! crates of `:dep` names their library, which is loaded with the first such cell (see [`super::linkage`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::dependencies::Added;
use super::kept::renamed::Renamed;
use super::kept::{Found, Kept, Key, Wanted};
use super::linkage::Linkage;
use super::types::{CELL_CRATE, listed_types};
use crate::programs;
use crate::session::interrupt::PROCESS_FILE;
use crate::session::nesting;
use crate::session::place::free_bytes;
use crate::session::prelude::cache::CachedPrelude;
use crate::session::prelude::prelude_crates::PreludeCrate;
use crate::session::prelude::toolchain::Toolchain;
use crate::session::reports::{Diagnostic, GENERATED as SOURCE};

/// In the session's folder: where cells are compiled.
const FOLDER: &str = "cells";
/// In the session's folder: what a cell is compiled with, for who wants to do the same by hand.
const SETTINGS_FILE: &str = "compiler.json";

/// In that folder: where rustc says what files it read.
const READ: &str = "cell.d";
/// How large the stacks of rustc's threads are, in bytes.
const STACK_VARIABLE: &str = "RUST_MIN_STACK";

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
    /// What was compiled before.
    kept: Kept,
    /// The last answer was kept: rustc was not called.
    pub was_kept: bool,
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

/// The types of a cell's variables, which rustc lists.
#[derive(Debug)]
pub(super) enum TypeListing {
    /// It has before.
    Known(BTreeMap<String, String>),
    /// It does so now.
    Asked {
        compiler: Child,
        listing: PathBuf,
        key: Option<Key>,
    },
}

impl TypeListing {
    /// Ends the compiler, whose answer nobody waits for.
    pub(super) fn end(&mut self) {
        if let TypeListing::Asked { compiler, .. } = self {
            let _ = compiler.kill();
            let _ = compiler.wait();
        }
    }
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
            linker: programs::find("ld"),
            process_file: session.join(PROCESS_FILE),
            folder,
            crates: Added::default(),
            crates_used: false,
            opt_level: "0".to_owned(),
            libraries: 0,
            kept: Kept::open(toolchain, prelude, session),
            was_kept: false,
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

    /// A cell begins.
    pub(super) fn begin(&mut self) {
        self.kept.begin();
    }

    /// What is to be told of where compiled cells are kept, once a session.
    pub(super) fn untold(&mut self) -> Option<String> {
        self.kept.untold()
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
                self.folder.parent().and_then(Path::parent).unwrap_or(&self.folder).display()
            )),
            false => failure,
        })
    }

    fn make(&mut self, source: &str, goal: Goal, begin: Instant) -> Result<Compiled, Failure> {
        self.was_kept = false;
        let file = self.folder.join(SOURCE);
        let cannot_write = |file: &Path, error: std::io::Error| {
            Failure::Broken(format!("cannot write {}: {error}", file.display()))
        };
        let linkage = Linkage::of(source, &self.crates, &self.prelude);
        let native = names_libraries(source);
        let linker = self.linker.clone().filter(|_| !native);
        let text = format!("{source}{}", linkage.source);
        // Only the linker alone leaves an object file in which symbols can be renamed.
        let renamed = linker.is_some().then(|| Renamed::of(text.clone()));
        let renamed = renamed.filter(Renamed::any);
        let text = renamed.as_ref().map_or(&text, |renamed| &renamed.text);
        fs::write(&file, text).map_err(|error| cannot_write(&file, error))?;
        let object = self.folder.join("cell.o");
        let dependencies = self.folder.join(READ);
        let mut rustc = self.command();
        rustc.args(&linkage.arguments);
        let wanted = Wanted::Compiled {
            goal,
            direct: linker.is_some(),
        };
        // What native libraries hold is in none of the parts of a key.
        let key = match native {
            true => None,
            false => self.kept.key(&rustc, &linkage, text, wanted),
        };
        if let Some(found) = self.kept.find(key.as_ref()) {
            self.was_kept = true;
            let made = self.take_kept(found, renamed.as_ref(), linker.as_deref(), &linkage, begin);
            if let Some(made) = made {
                return made;
            }
            self.was_kept = false;
        }
        let _ = fs::remove_file(&dependencies);
        rustc.arg(joined("--emit=dep-info=", Path::new(READ)));
        let mut library = None;
        match goal {
            Goal::Check => {
                rustc.arg("--emit=metadata=cell.rmeta");
            }
            Goal::Library => {
                let path = self.next_library();
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
        match self.run(rustc) {
            Ok(()) => {}
            Err(Rejected::Said(said, errors)) => {
                if let Some(said) = said {
                    self.kept.note_said(key, &said);
                }
                return Err(Failure::Errors(errors));
            }
            Err(Rejected::Broken(reason)) => return Err(Failure::Broken(reason)),
        }
        let compiled = begin.elapsed();
        if let (Some(linker), Some(library)) = (&linker, &library) {
            let kept = renamed.as_ref().map(|_| fs::read(&object));
            if let Some(renamed) = &renamed {
                give_names(&object, renamed).map_err(|error| cannot_write(&object, error))?;
            }
            link(linker, &object, library, &linkage)?;
            if let Some(Ok(bytes)) = kept {
                self.kept.keep(key, &Found::Object(bytes), &dependencies);
            } else if let Ok(bytes) = fs::read(library) {
                self.kept.keep(key, &Found::Library(bytes), &dependencies);
            }
        } else if let Some(library) = &library {
            if let Ok(bytes) = fs::read(library) {
                self.kept.keep(key, &Found::Library(bytes), &dependencies);
            }
        } else {
            self.kept.keep(key, &Found::Fine, &dependencies);
        }
        Ok(Compiled {
            library,
            rustc: compiled,
            link: begin.elapsed() - compiled,
        })
    }

    /// What a compilation would make, from what is kept; `None` if the session's folder can't take it.
    fn take_kept(
        &mut self,
        found: Found,
        renamed: Option<&Renamed>,
        linker: Option<&Path>,
        linkage: &Linkage,
        begin: Instant,
    ) -> Option<Result<Compiled, Failure>> {
        let mut library = None;
        let mut looked = begin.elapsed();
        match found {
            Found::Said(said) => return Some(Err(Failure::Errors(diagnostics(&said)))),
            Found::Text(_) => return None,
            Found::Fine => {}
            Found::Library(bytes) => {
                let path = self.next_library();
                fs::write(&path, bytes).ok()?;
                library = Some(path);
                looked = begin.elapsed();
            }
            Found::Object(mut bytes) => {
                let object = self.folder.join("cell.o");
                renamed?.rename(&mut bytes);
                fs::write(&object, bytes).ok()?;
                looked = begin.elapsed();
                let path = self.next_library();
                if let Err(failure) = link(linker?, &object, &path, linkage) {
                    return Some(Err(failure));
                }
                library = Some(path);
            }
        }
        self.crates_used |= library.is_some() && !linkage.libraries.is_empty();
        Some(Ok(Compiled {
            library,
            rustc: looked,
            link: begin.elapsed() - looked,
        }))
    }

    /// A file for the next library. No cell runs now, so nobody needs the file of the one before: what was loaded stays.
    fn next_library(&mut self) -> PathBuf {
        let _ = fs::remove_file(self.library());
        self.libraries += 1;
        self.library()
    }

    /// The file of the library made last.
    fn library(&self) -> PathBuf {
        self.folder.join(format!("cell_{}.so", self.libraries))
    }

    /// Has rustc list the types with which the function of `source` puts variables away, in files of this name; what is kept is there at once.
    pub(super) fn listing(&mut self, source: &str, name: &str) -> std::io::Result<TypeListing> {
        let listing = self.folder.join(format!("{name}.mir"));
        let copy = listing.with_extension("rs");
        let linkage = Linkage::of(source, &self.crates, &self.prelude);
        let text = Renamed::of(format!("{source}{}", linkage.source)).text;
        let mut common = self.base(Path::new(SOURCE));
        common.args(&linkage.arguments);
        let key = self.kept.key(&common, &linkage, &text, Wanted::Types);
        if let Some(Found::Text(text)) = self.kept.find(key.as_ref())
            && let Ok(types) = serde_json::from_str(&text)
        {
            return Ok(TypeListing::Known(types));
        }
        fs::write(&copy, text)?;
        let mut rustc = self.base(&copy);
        rustc
            .args(&linkage.arguments)
            .arg(joined("--emit=mir=", &listing))
            .arg(joined("--emit=dep-info=", &listing.with_extension("d")))
            .stderr(Stdio::null());
        Ok(TypeListing::Asked {
            compiler: rustc.spawn()?,
            listing,
            key,
        })
    }

    /// The types that rustc has listed, once it is done. A compiler that fails lists none.
    pub(super) fn listed(&mut self, listing: TypeListing) -> BTreeMap<String, String> {
        match listing {
            TypeListing::Known(types) => types,
            TypeListing::Asked {
                mut compiler,
                listing,
                key,
            } => {
                let ended = compiler.wait();
                let types = listed_types(&listing);
                let dependencies = listing.with_extension("d");
                if ended.is_ok_and(|status| status.success())
                    && let Ok(text) = serde_json::to_string(&types)
                {
                    self.kept.keep(key, &Found::Text(text), &dependencies);
                }
                for file in [&listing, &listing.with_extension("rs"), &dependencies] {
                    let _ = fs::remove_file(file);
                }
                types
            }
        }
    }

    /// The types with which the function of `source` puts variables away, as rustc lists them now.
    pub(super) fn list_types(&mut self, source: &str) -> std::io::Result<BTreeMap<String, String>> {
        let listing = self.listing(source, "proof")?;
        if let TypeListing::Asked { compiler, .. } = &listing {
            // Without the note an interrupt waits for the compiler.
            let _ = fs::write(&self.process_file, compiler.id().to_string());
        }
        Ok(self.listed(listing))
    }

    /// The source with all macros expanded, each name marked with where it comes from; empty where rustc cannot make anything of it.
    pub(super) fn expand(&mut self, source: &str) -> Result<String, String> {
        let file = Path::new(SOURCE).with_file_name("calls.rs");
        let program = self.rustc.display().to_string();
        let broken = |error: std::io::Error| format!("cannot run {program}: {error}");
        let linkage = Linkage::of(source, &self.crates, &self.prelude);
        let text = format!("{source}{}", linkage.source);
        let mut common = self.base(&file);
        common.args(&linkage.arguments);
        // What macros of other crates read rustc does not say here.
        let key = match linkage.libraries.is_empty() {
            true => self.kept.key(&common, &linkage, &text, Wanted::Expanded),
            false => None,
        };
        self.was_kept = false;
        if let Some(Found::Text(text)) = self.kept.find(key.as_ref()) {
            self.was_kept = true;
            return Ok(text);
        }
        fs::write(self.folder.join(&file), &text).map_err(broken)?;
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
        let said = String::from_utf8_lossy(&output.stdout);
        // Behind the source rustc lists every expansion of every crate.
        let end = said.find("\n/*\nExpansions:").unwrap_or(said.len());
        let expanded = &said[..end];
        if output.status.success() {
            self.kept.keep_text(key, &text, expanded);
        }
        Ok(expanded.to_owned())
    }

    /// What rustc has to say of error codes.
    pub(crate) fn explain(&self, codes: &[&str]) -> Result<String, String> {
        let mut text = String::new();
        for code in codes {
            let output = programs::rust(&self.rustc)
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
        let mut rustc = programs::rust(&self.rustc);
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
        // Code that nests deep takes the compiler more than its own eight megabytes; only what is used takes memory.
        if std::env::var_os(STACK_VARIABLE).is_none() {
            rustc.env(STACK_VARIABLE, nesting::STACK.to_string());
        }
        if let Some(metadata) = &self.prelude.metadata {
            rustc
                .arg("--extern")
                .arg(joined("glassbox_prelude=", metadata));
        }
        rustc
    }

    /// Runs rustc, where an interrupt can find it.
    fn run(&self, mut rustc: Command) -> Result<(), Rejected> {
        let broken = |error: std::io::Error| {
            Rejected::Broken(format!("cannot run {}: {error}", self.rustc.display()))
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
            return Err(Rejected::Broken(match status.signal() {
                Some(signal) => crashed(signal, &said),
                None => format!("rustc failed ({status}): {}", said.trim()),
            }));
        }
        // A compiler that a signal ended has not said all.
        let all = status.code().map(|_| said);
        Err(Rejected::Said(all, errors))
    }
}

/// Why rustc made nothing.
enum Rejected {
    /// Its lines, if that is all of them, and the errors in them.
    Said(Option<String>, Vec<Diagnostic>),
    /// It did not work.
    Broken(String),
}

/// Gives the statics in an object file the names that they have in this session.
fn give_names(object: &Path, renamed: &Renamed) -> std::io::Result<()> {
    let mut bytes = fs::read(object)?;
    renamed.rename(&mut bytes);
    fs::write(object, bytes)
}

/// What is said of a compiler that a signal ended: its own words are a listing of its functions.
fn crashed(signal: i32, said: &str) -> String {
    let overflowed = said.contains("overflowed its stack");
    let why = match overflowed {
        true => "its stack overflowed, so the code nests too deep for it",
        false => "this is a fault of the compiler, or the system ended it (out of memory?)",
    };
    format!(
        "rustc was ended by signal {signal} while it compiled this cell: {why}; the cell did not run and every variable is as it was. \
         Simpler code, in parts, may pass"
    )
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
            says_so(reason) || free_bytes(folder).is_ok_and(|free| free < 4096)
        }
    }
}

/// Whether the source asks for native libraries, which only the system's linker finds.
fn names_libraries(source: &str) -> bool {
    source.contains("#[link(") || source.contains("#![link(")
}

fn link(linker: &Path, object: &Path, library: &Path, linkage: &Linkage) -> Result<(), Failure> {
    let output = programs::command(linker)
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
