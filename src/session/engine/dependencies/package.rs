//! The package that cargo is given: it needs the crates that a session added, and its library re-exports them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::cargo::{self, Said, Stopped};
use super::library::{Extern, Library};
use super::wrapper;
use crate::programs;
use crate::session::prelude::cache::CachedPrelude;
use crate::session::prelude::prelude_crates::{self, PreludeCrate};
use crate::session::prelude::toolchain::Toolchain;

/// Its name.
pub(crate) const PACKAGE: &str = "glassbox_extra";
/// The crate with the session's one runtime of `tokio`, on which cells with `.await` run.
pub(crate) const RUNTIME: &str = "glassbox_runtime";
const RUNTIME_MANIFEST: &str = "[package]\nname = \"glassbox_runtime\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
    [dependencies]\ntokio = { version = \"1\", features = [\"rt-multi-thread\"] }\n";
const RUNTIME_SOURCE: &str = include_str!("runtime.rs");
/// What cargo says where there is no network.
const NO_NETWORK: [&str; 4] = [
    "failed to download",
    "Could not resolve host",
    "spurious network error",
    "failed to fetch",
];
/// Folders of a local crate that are not looked at for changes.
const ASIDE: [&str; 2] = ["target", ".git"];

/// The package in its folder.
pub(crate) struct Package {
    pub dir: PathBuf,
}

/// What cargo says of the crates that it will build.
pub(crate) struct Resolved {
    /// The names that the root's code can use, with the ids of their packages.
    names: Vec<(String, String)>,
    /// The folders of crates on this machine, and what their files look like.
    pub locals: BTreeMap<PathBuf, String>,
    /// How many packages there are.
    pub packages: usize,
    /// `tokio` is among them.
    tokio: bool,
    lines: String,
}

impl Package {
    pub(crate) fn new(dir: PathBuf) -> Package {
        Package { dir }
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.dir.join("Cargo.lock")
    }

    fn manifest(&self) -> PathBuf {
        self.dir.join("Cargo.toml")
    }

    fn write_manifest(&self, lines: &str, library: &str) -> std::io::Result<()> {
        let text = format!(
            "[package]\nname = \"{PACKAGE}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [lib]\nname = \"{library}\"\ncrate-type = [\"dylib\"]\n\n[workspace]\n\n[dependencies]\n{lines}"
        );
        fs::write(self.manifest(), text)
    }

    /// Writes it; `lock` says which versions are wanted.
    pub(crate) fn write(&self, lines: &str, lock: &Path) -> std::io::Result<()> {
        fs::create_dir_all(self.dir.join("src"))?;
        fs::write(self.dir.join("src/lib.rs"), "")?;
        self.write_manifest(lines, PACKAGE)?;
        // Without it cargo chooses the newest versions.
        if lock.is_file() {
            fs::copy(lock, self.lock_file())?;
        }
        Ok(())
    }

    /// Adds the runtime, a package of its own in `folder`.
    pub(crate) fn write_with_runtime(&self, lines: &str, folder: &Path) -> std::io::Result<()> {
        let dir = folder.join("runtime");
        let files = [
            ("Cargo.toml", RUNTIME_MANIFEST),
            ("src/lib.rs", RUNTIME_SOURCE),
        ];
        fs::create_dir_all(dir.join("src"))?;
        for (name, text) in files {
            let file = dir.join(name);
            // A file with a new time would be compiled again.
            if fs::read_to_string(&file).ok().as_deref() != Some(text) {
                fs::write(&file, text)?;
            }
        }
        let path = Value::from(dir.to_string_lossy().into_owned());
        self.write_manifest(
            &format!("{lines}{RUNTIME} = {{ path = {path} }}\n"),
            PACKAGE,
        )
    }

    /// Gives the library its name, and its source what it re-exports and what it is linked to.
    pub(crate) fn name(
        &self,
        name: &str,
        resolved: &Resolved,
        chain: &[Arc<Library>],
    ) -> std::io::Result<()> {
        self.write_manifest(&resolved.lines, name)?;
        let mut source = "extern crate glassbox_prelude as _;\n".to_owned();
        for library in chain {
            source += &format!("extern crate {} as _;\n", library.name);
        }
        for (name, _) in &resolved.names {
            source += &format!("pub extern crate {name};\n");
        }
        fs::write(self.dir.join("src/lib.rs"), source)
    }

    /// Has cargo choose and fetch the crates; without a network, from those that were fetched before.
    pub(crate) fn resolve(
        &self,
        toolchain: &Toolchain,
        interrupted: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Resolved, Stopped> {
        match self.ask(toolchain, &[], interrupted, tell) {
            Err(Stopped::Failed(words)) if NO_NETWORK.iter().any(|no| words.contains(no)) => self
                .ask(toolchain, &["--offline"], interrupted, tell)
                .map_err(|stopped| match stopped {
                    Stopped::Failed(_) => Stopped::Failed(words),
                    Stopped::Interrupted => Stopped::Interrupted,
                }),
            answered => answered,
        }
    }

    fn ask(
        &self,
        toolchain: &Toolchain,
        how: &[&str],
        interrupted: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Resolved, Stopped> {
        let mut text = String::new();
        let mut command = programs::cargo(&toolchain.cargo);
        command
            .args([
                "metadata",
                "--format-version=1",
                "--filter-platform",
                toolchain.host(),
            ])
            .args(how)
            .arg("--manifest-path")
            .arg(self.manifest())
            .env("RUSTC", &toolchain.rustc);
        cargo::run(&mut command, interrupted, &mut |said| match said {
            Said::Json(line) => text.push_str(line),
            Said::Words(words) => tell(words.trim()),
            Said::Nothing => tell(""),
        })?;
        let manifest = fs::read_to_string(self.manifest()).unwrap_or_default();
        let lines = manifest
            .split_once("\n[dependencies]\n")
            .map_or("", |(_, lines)| lines);
        serde_json::from_str(&text)
            .ok()
            .and_then(|metadata| Resolved::read(&metadata, lines))
            .ok_or_else(|| Stopped::Failed("cargo's answer cannot be read".to_owned()))
    }

    /// The call of cargo that builds the library; what is added goes to rustc, for the library alone.
    pub(crate) fn build(&self, toolchain: &Toolchain, target: &Path) -> Command {
        let mut command = programs::cargo(&toolchain.cargo);
        command
            // Everything was fetched when it was chosen.
            .args(["rustc", "--release", "--lib", "--offline"])
            .args(["--message-format=json-render-diagnostics"])
            .args(["--target", toolchain.host()])
            .arg("--manifest-path")
            .arg(self.manifest())
            .arg("--")
            .env("CARGO_TARGET_DIR", target)
            .env("RUSTC", &toolchain.rustc);
        command
    }
}

impl Resolved {
    fn read(metadata: &Value, lines: &str) -> Option<Resolved> {
        let resolve = &metadata["resolve"];
        let nodes = resolve["nodes"].as_array()?;
        let root = nodes.iter().find(|node| node["id"] == resolve["root"])?;
        let mut names = Vec::new();
        for needed in root["deps"].as_array()? {
            let name = needed["name"].as_str().unwrap_or_default();
            // Without a name it has no library.
            if !name.is_empty() {
                names.push((name.to_owned(), needed["pkg"].as_str()?.to_owned()));
            }
        }
        let built: BTreeSet<&str> = nodes
            .iter()
            .filter_map(|node| node["id"].as_str())
            .collect();
        let mut locals = BTreeMap::new();
        let mut tokio = false;
        for package in metadata["packages"].as_array()? {
            if !built.contains(package["id"].as_str()?) || package["id"] == resolve["root"] {
                continue;
            }
            let version = package["version"].as_str().unwrap_or_default();
            tokio |= package["name"] == "tokio" && version.starts_with("1.");
            if package["source"].is_null() && package["name"] != RUNTIME {
                let dir = Path::new(package["manifest_path"].as_str()?).parent()?;
                locals.insert(dir.to_owned(), state_of(dir));
            }
        }
        Some(Resolved {
            names,
            locals,
            packages: nodes.len().saturating_sub(1),
            tokio,
            lines: lines.to_owned(),
        })
    }

    /// Whether there is `tokio` and nothing yet to run futures on it.
    pub(crate) fn wants_runtime(&self) -> bool {
        self.tokio && !self.names.iter().any(|(name, _)| name == RUNTIME)
    }
}

/// What the files below a folder look like from outside: names, lengths, times.
fn state_of(dir: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                if !ASIDE.iter().any(|aside| entry.file_name() == *aside) {
                    folders.push(entry.path());
                }
                continue;
            }
            (entry.path(), metadata.len(), metadata.modified().ok()).hash(&mut hasher);
        }
    }
    format!("{:016x}", hasher.finish())
}

/// What cargo built.
pub(crate) struct Built {
    /// The library's name.
    name: String,
    /// A part of the paths of what was built for cells.
    place: String,
    pub library: Option<PathBuf>,
    /// Crates for cells.
    pub crates: Vec<Artifact>,
    /// Macros: the ids of their packages, and their files.
    pub macros: Vec<(String, PathBuf)>,
    pub externs: BTreeMap<String, Extern>,
    /// What is to be said of crates that the prelude has too.
    pub notes: Vec<String>,
}

/// One crate that was built for cells.
pub(crate) struct Artifact {
    package: String,
    pub krate: PreludeCrate,
    /// Its metadata.
    pub file: PathBuf,
    /// The prelude's copy was taken.
    pub of_prelude: bool,
}

impl Built {
    pub(crate) fn new(name: &str, host: &str) -> Built {
        Built {
            name: name.to_owned(),
            place: format!("/{host}/release/"),
            library: None,
            crates: Vec::new(),
            macros: Vec::new(),
            externs: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// How many crates are finished.
    pub(crate) fn done(&self) -> usize {
        self.crates.len() + self.macros.len()
    }

    /// Takes one of cargo's messages.
    pub(crate) fn take(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return;
        };
        if message["reason"] != "compiler-artifact" {
            return;
        }
        let package = message["package_id"].as_str().unwrap_or_default();
        let files = message["filenames"].as_array().into_iter().flatten();
        let shared = files
            .filter_map(Value::as_str)
            .find(|file| file.ends_with(".so"));
        let mut kinds = message["target"]["kind"].as_array().into_iter().flatten();
        let is_macro = kinds.any(|kind| kind == "proc-macro");
        match shared {
            Some(file) if is_macro => self.macros.push((package.to_owned(), file.into())),
            Some(file) if message["target"]["name"] == self.name.as_str() => {
                self.library = Some(file.into());
            }
            _ => {}
        }
        let files = message["filenames"].as_array().into_iter().flatten();
        let metadata = files
            .filter_map(Value::as_str)
            .find(|file| file.ends_with(".rmeta") && file.contains(&self.place));
        if let (Some(file), Some(krate)) = (metadata, PreludeCrate::from_message(&message)) {
            self.crates.push(Artifact {
                package: package.to_owned(),
                krate,
                of_prelude: wrapper::is_of_prelude(Path::new(file)),
                file: file.into(),
            });
        }
    }

    /// Finds out where the crates are that cells can name, and what is to be said of them.
    ///
    /// # Errors
    /// If one has no library.
    pub(crate) fn finish(
        &mut self,
        resolved: &Resolved,
        wanted: &BTreeMap<String, String>,
        prelude: &CachedPrelude,
    ) -> Result<(), String> {
        let runtime = usize::from(resolved.names.iter().any(|(name, _)| name == RUNTIME));
        if resolved.names.len() < wanted.len() + runtime {
            let known = |key: &String| {
                let name = key.replace('-', "_");
                resolved.names.iter().any(|(known, _)| *known == name)
            };
            let missing: Vec<&str> = wanted
                .keys()
                .filter(|key| !known(key))
                .map(String::as_str)
                .collect();
            return Err(format!(
                "no library that cells can be linked with is in the package `{}`",
                missing.join("`, or in `")
            ));
        }
        if self.library.is_none() {
            return Err("cargo built the crates, but no library of them".to_owned());
        }
        for (name, package) in &resolved.names {
            let found = self.crates.iter().find(|krate| krate.package == *package);
            let file = match found {
                Some(found) if found.of_prelude => prelude_copy(&found.file).map(Extern::Prelude),
                Some(found) => file_name(&found.file).map(Extern::Own),
                None => {
                    let mut macros = self.macros.iter();
                    let file = macros.find(|(id, _)| id == package);
                    file.and_then(|(_, file)| file_name(file)).map(Extern::Own)
                }
            };
            let file = file.ok_or_else(|| {
                format!("the package `{name}` has no library that cells can be linked with")
            })?;
            self.externs.insert(name.clone(), file);
            if let Some(found) = found.filter(|found| !found.of_prelude) {
                self.notes
                    .extend(apart(name, &found.krate, &prelude.crates));
            }
        }
        Ok(())
    }
}

/// The file of the prelude's crate that stands at `library`.
fn prelude_copy(library: &Path) -> Option<String> {
    fs::read_to_string(library.with_extension(wrapper::MARK)).ok()
}

pub(crate) fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// What is to be said of a crate that the prelude has too, in another build.
fn apart(name: &str, krate: &PreludeCrate, prelude: &[PreludeCrate]) -> Option<String> {
    let theirs = prelude_crates::named(prelude, &krate.name)?;
    let missing = theirs.lacks(&krate.features);
    let why = if krate.version != theirs.version {
        format!("the prelude has {} {}", theirs.name, theirs.version)
    } else if krate.folder != theirs.folder {
        format!("the prelude has the {} of another place", theirs.name)
    } else if !missing.is_empty() {
        format!("the prelude's lacks the features {}", missing.join(", "))
    } else {
        "a crate below it is another one".to_owned()
    };
    Some(format!(
        "`{name}` {} is not the prelude's copy ({why}): their types, traits and statics are different ones",
        krate.version
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_s_names_and_local_crates_are_read_from_cargos_answer() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.toml"), "[package]").unwrap();
        let package = |id: &str, name: &str, source: Value| {
            serde_json::json!({"id": id, "name": name, "version": "1.2.0", "source": source,
                               "manifest_path": folder.path().join("Cargo.toml")})
        };
        let metadata = serde_json::json!({
            "packages": [package("me", PACKAGE, Value::Null), package("t", "tokio", "registry".into()),
                         package("p", "mine", Value::Null), package("w", "windows", "registry".into())],
            "resolve": {"root": "me", "nodes": [
                {"id": "me", "deps": [{"name": "renamed", "pkg": "t"}, {"name": "mine", "pkg": "p"}]},
                {"id": "t", "deps": []}, {"id": "p", "deps": []}]},
        });
        let resolved = Resolved::read(&metadata, "").unwrap();
        assert_eq!(resolved.names[0], ("renamed".to_owned(), "t".to_owned()));
        assert_eq!((resolved.packages, resolved.locals.len()), (2, 1));
        assert!(resolved.wants_runtime());
        let before = state_of(folder.path());
        fs::write(folder.path().join("lib.rs"), "").unwrap();
        assert_ne!(before, state_of(folder.path()));
    }

    #[test]
    fn why_a_crate_is_not_the_preludes_is_said() {
        let krate = |version: &str, features: &[&str]| PreludeCrate {
            name: "serde".to_owned(),
            version: version.to_owned(),
            features: features.iter().map(|text| (*text).to_owned()).collect(),
            package: "serde".to_owned(),
            folder: PathBuf::from("/r"),
            file: String::new(),
        };
        let prelude = [krate("1.2.0", &["std"])];
        let said = |krate: &PreludeCrate| apart("serde", krate, &prelude).unwrap();
        assert!(said(&krate("0.9.0", &[])).contains("the prelude has serde 1.2.0"));
        assert!(said(&krate("1.2.0", &["std", "rc"])).contains("lacks the features rc"));
        assert!(
            apart(
                "x",
                &PreludeCrate {
                    name: "x".to_owned(),
                    ..krate("1", &[])
                },
                &prelude
            )
            .is_none()
        );
    }
}
