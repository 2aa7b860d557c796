//! Our binary in the role of a wrapper of rustc: cargo calls it for each crate that it builds for a session.
//!
//! ```text
//! cargo ─ rustc's arguments ─▶ is it in the prelude, with these features, and is all that it needs?
//!                                 ├─ yes ─▶ the prelude's metadata in place of what rustc would write
//!                                 └─ no  ─▶ rustc
//! ```
//! A crate that was taken from the prelude is marked by a file beside it. Only what is built for cells is taken: a build script
//! or a macro needs its crates whole.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::session::prelude::metadata;
use crate::session::prelude::prelude_crates::{self, PreludeCrate};

/// Names the folder of the prelude's library to the wrapper, and says that the program was started as one.
pub(crate) const VARIABLE: &str = "GLASSBOX_WRAPS_RUSTC";
/// How the names of the marks end.
pub(crate) const MARK: &str = "prelude";

/// The exit code, if this process was started as a wrapper. The first argument is rustc.
pub(crate) fn role(mut arguments: impl Iterator<Item = OsString>) -> Option<i32> {
    let prelude = PathBuf::from(std::env::var_os(VARIABLE)?);
    let rustc = arguments.next()?;
    let arguments: Vec<OsString> = arguments.collect();
    if let Some(unit) = Unit::read(&arguments) {
        // What can't be taken is built.
        if unit.take(&prelude).unwrap_or(false) {
            return Some(0);
        }
        let _ = fs::remove_file(unit.file(MARK));
    }
    let error = Command::new(&rustc).args(&arguments).exec();
    let _ = writeln!(
        std::io::stderr(),
        "error: cannot run {}: {error}",
        Path::new(&rustc).display()
    );
    Some(1)
}

/// Whether a library of cargo's is the prelude's own crate.
pub(crate) fn is_of_prelude(library: &Path) -> bool {
    library.with_extension(MARK).exists()
}

/// A library for cells that cargo wants.
struct Unit {
    name: String,
    /// The file that it begins with.
    source: String,
    folder: PathBuf,
    /// What stands behind the name in the names of its files.
    suffix: String,
    features: Vec<String>,
    /// The libraries that it needs.
    needs: Vec<PathBuf>,
}

impl Unit {
    fn read(arguments: &[OsString]) -> Option<Unit> {
        let texts: Vec<&str> = arguments
            .iter()
            .map(|argument| argument.to_str())
            .collect::<Option<_>>()?;
        // Cargo writes `--option value`, some also as `--option=value`.
        let values = |name: &'static str| {
            let texts = texts.clone();
            (0..texts.len()).filter_map(move |at| {
                let rest = texts[at].strip_prefix(name)?;
                match rest.strip_prefix('=') {
                    Some(value) => Some(value),
                    None if rest.is_empty() => texts.get(at + 1).copied(),
                    None => None,
                }
            })
        };
        values("--target").next()?;
        if !values("--crate-type").all(|kind| ["lib", "rlib"].contains(&kind)) {
            return None;
        }
        let features = values("--cfg").filter_map(|cfg| {
            let value = cfg.strip_prefix("feature=\"")?.strip_suffix('"')?;
            Some(value.to_owned())
        });
        let needs = values("--extern").filter_map(|needed| needed.split_once('='));
        Some(Unit {
            name: values("--crate-name").next()?.to_owned(),
            source: (*texts.iter().find(|text| text.ends_with(".rs"))?).to_owned(),
            folder: PathBuf::from(values("--out-dir").next()?),
            suffix: values("-C")
                .find_map(|option| option.strip_prefix("extra-filename="))?
                .to_owned(),
            features: features.collect(),
            needs: needs.map(|(_, path)| PathBuf::from(path)).collect(),
        })
    }

    /// A file that it makes.
    fn file(&self, extension: &str) -> PathBuf {
        self.folder
            .join(format!("lib{}{}.{extension}", self.name, self.suffix))
    }

    /// Takes it from the prelude, if it is there.
    fn take(&self, prelude: &Path) -> std::io::Result<bool> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let (version, folder) = (
            variable("CARGO_PKG_VERSION"),
            variable("CARGO_MANIFEST_DIR"),
        );
        let fits = |krate: &&PreludeCrate| {
            krate.name == self.name
                && krate.version == version
                && krate.folder == Path::new(&folder)
                && krate.lacks(&self.features).is_empty()
        };
        let crates = prelude_crates::read(prelude);
        let Some(krate) = crates.iter().find(fits) else {
            return Ok(false);
        };
        let macros = |library: &Path| library.extension().is_some_and(|end| end == "so");
        if !self
            .needs
            .iter()
            .all(|library| macros(library) || is_of_prelude(library))
        {
            return Ok(false);
        }
        let from = prelude
            .join(crate::session::prelude::cache::DEPENDENCIES)
            .join(&krate.file);
        let (metadata, library) = (self.file("rmeta"), self.file("rlib"));
        // Other sessions may use the files that were there: they stay as they are under other names.
        for old in [&metadata, &library] {
            let _ = fs::remove_file(old);
        }
        fs::copy(&from, &metadata)?;
        metadata::wrap(&from, &library)?;
        let list = self.folder.join(format!("{}{}.d", self.name, self.suffix));
        fs::write(
            &list,
            format!(
                "{}: {source}\n\n{source}:\n",
                metadata.display(),
                source = self.source
            ),
        )?;
        fs::write(self.file(MARK), &krate.file)?;
        for (path, kind) in [(metadata, "metadata"), (library, "link")] {
            let message = serde_json::json!({
                "$message_type": "artifact", "artifact": path, "emit": kind,
            });
            writeln!(std::io::stderr(), "{message}")?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_rustc_is_read_as_cargo_writes_it() {
        let line = "--crate-name libc --edition=2021 /r/libc-0.2/src/lib.rs --crate-type lib --emit=dep-info,metadata,link \
                    --cfg feature=\"std\" --cfg other -C metadata=1 -C extra-filename=-12 --out-dir /t/deps --target x \
                    --extern a=/t/deps/liba-1.rmeta --extern noprelude:b=/t/deps/libb-2.so";
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let unit = Unit::read(&arguments).unwrap();
        assert_eq!(
            (unit.name.as_str(), unit.source.as_str()),
            ("libc", "/r/libc-0.2/src/lib.rs")
        );
        assert_eq!(unit.features, ["std"]);
        assert_eq!(unit.file("rmeta"), Path::new("/t/deps/liblibc-12.rmeta"));
        assert_eq!(
            unit.needs,
            [
                Path::new("/t/deps/liba-1.rmeta"),
                Path::new("/t/deps/libb-2.so")
            ]
        );
        let host = line.replace("--target x", "");
        let arguments: Vec<OsString> = host.split_whitespace().map(OsString::from).collect();
        assert!(Unit::read(&arguments).is_none());
    }
}
