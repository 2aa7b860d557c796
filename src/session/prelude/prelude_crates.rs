//! The crates inside the prelude's library. Cells name them without `:dep`, and crates of `:dep` are linked to these copies where
//! they fit, so that traits are the same and statics single.
//!
//! ```text
//! cargo's messages ─ those that the library's metadata names ─▶ crates.json beside the library ─▶ compiler, dependencies
//! ```

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The file beside the library.
pub(crate) const FILE: &str = "crates.json";
/// How many hexadecimal digits tell one build of a crate from another in the names of its files.
const DIGITS: usize = 16;

/// One crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PreludeCrate {
    /// Its name in code.
    pub name: String,
    /// The name of its package.
    pub package: String,
    pub version: String,
    pub features: Vec<String>,
    /// The folder of its package: a package with this name and version in another place is another one.
    pub folder: PathBuf,
    /// The name of the file with its metadata.
    pub file: String,
}

impl PreludeCrate {
    /// From cargo's message about a library that it built.
    pub(crate) fn from_message(message: &Value) -> Option<PreludeCrate> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let id = message["package_id"].as_str()?;
        let files = message["filenames"].as_array()?.iter();
        let metadata = files
            .filter_map(Value::as_str)
            .find(|file| file.ends_with(".rmeta"))?;
        Some(PreludeCrate {
            name: text(&message["target"]["name"])?.replace('-', "_"),
            package: match id.rsplit_once('#')?.1.split_once('@') {
                Some((package, _)) => package.to_owned(),
                None => text(&message["target"]["name"])?,
            },
            version: id.rsplit(['#', '@']).next()?.to_owned(),
            features: message["features"]
                .as_array()?
                .iter()
                .filter_map(text)
                .collect(),
            folder: Path::new(message["manifest_path"].as_str()?)
                .parent()?
                .to_owned(),
            file: Path::new(metadata).file_name()?.to_str()?.to_owned(),
        })
    }
}

impl PreludeCrate {
    /// The features among those wanted that it was built without. `default` only stands for others, which are listed too.
    pub(crate) fn lacks<'a>(&self, wanted: &'a [String]) -> Vec<&'a str> {
        let wanted = wanted.iter().map(String::as_str);
        wanted
            .filter(|feature| {
                *feature != "default" && !self.features.iter().any(|own| own == feature)
            })
            .collect()
    }
}

/// Writes those of `built` that are in the library with this metadata to `dir`; returns the size of the file.
///
/// The metadata names each crate with the digits of its file. What else was built ran only in the compiler.
pub(crate) fn write(dir: &Path, metadata: &Path, built: &[PreludeCrate]) -> Result<u64> {
    let metadata = fs::read(metadata)?;
    let named: HashSet<&[u8]> = metadata
        .windows(DIGITS + 1)
        .filter(|bytes| bytes[0] == b'-' && bytes[1..].iter().all(u8::is_ascii_hexdigit))
        .map(|bytes| &bytes[1..])
        .collect();
    let inside = built.iter().filter(|krate| {
        let digits = krate.file.trim_end_matches(".rmeta").rsplit('-').next();
        digits.is_some_and(|digits| named.contains(digits.as_bytes()))
    });
    let text = serde_json::to_vec(&inside.collect::<Vec<_>>())?;
    fs::write(dir.join(FILE), &text)?;
    Ok(text.len() as u64)
}

/// The crates in the library of `dir`; none if that is not known.
pub(crate) fn read(dir: &Path) -> Vec<PreludeCrate> {
    let text = fs::read(dir.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The crate that a cell means by a name: of several versions the newest.
pub(crate) fn named<'a>(crates: &'a [PreludeCrate], name: &str) -> Option<&'a PreludeCrate> {
    let number = |krate: &&PreludeCrate| -> Vec<u64> {
        let parts = krate.version.split(['.', '-', '+']);
        parts.map(|part| part.parse().unwrap_or(0)).collect()
    };
    crates
        .iter()
        .filter(|krate| krate.name == name)
        .max_by_key(number)
}

/// The lines of a manifest for those crates of the prelude that `source` names.
pub(crate) fn manifest_lines(crates: &[PreludeCrate], source: &str) -> Vec<(String, String)> {
    let names: BTreeSet<&str> = crates.iter().map(|krate| krate.name.as_str()).collect();
    let used = |name: &&str| {
        let path = format!("{name}::");
        let paths = source.match_indices(&path).any(|(at, _)| {
            let before = source[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        });
        paths || source.contains(&format!("use {name}"))
    };
    let found = names.into_iter().filter(used);
    found
        .filter_map(|name| {
            let krate = named(crates, name)?;
            // Strings and lists of strings of JSON are those of TOML.
            let line = format!(
                "{name} = {{ package = {:?}, version = \"={}\", default-features = false, features = {} }}",
                krate.package,
                krate.version,
                Value::from(krate.features.clone())
            );
            Some((name.to_owned(), line))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_holds_is_told_from_what_ran_in_the_compiler() {
        let folder = tempfile::tempdir().unwrap();
        let message = |name: &str, digits: &str| {
            let message = serde_json::json!({
                "package_id": format!("registry+https://example.org/index#{name}@1.2.3"),
                "manifest_path": format!("/registry/{name}-1.2.3/Cargo.toml"),
                "target": {"name": name}, "features": ["std"],
                "filenames": [format!("/t/deps/lib{name}-{digits}.rlib"), format!("/t/deps/lib{name}-{digits}.rmeta")],
            });
            PreludeCrate::from_message(&message).unwrap()
        };
        let built = [
            message("serde", "0123456789abcdef"),
            message("syn", "fedcba9876543210"),
        ];
        let metadata = folder.path().join("meta");
        fs::write(&metadata, b"\x05serde\x11-0123456789abcdef\xc1rest").unwrap();
        write(folder.path(), &metadata, &built).unwrap();
        assert_eq!(read(folder.path()), built[..1]);
        assert_eq!(
            (built[0].version.as_str(), built[0].folder.to_str()),
            ("1.2.3", Some("/registry/serde-1.2.3"))
        );
    }

    #[test]
    fn of_several_versions_the_newest_is_meant() {
        let krate = |version: &str| PreludeCrate {
            name: "a".to_owned(),
            version: version.to_owned(),
            package: "a".to_owned(),
            features: Vec::new(),
            folder: PathBuf::new(),
            file: String::new(),
        };
        let crates = [krate("0.9.1"), krate("0.10.0"), krate("0.6.4")];
        let lines = manifest_lines(&crates, "use a::b; xa::c");
        assert_eq!(
            lines[0].1,
            r#"a = { package = "a", version = "=0.10.0", default-features = false, features = [] }"#
        );
        assert!(manifest_lines(&crates, "xa::c x::a::d").is_empty());
        let found = named(&crates, "a").map(|krate| krate.version.as_str());
        assert_eq!((found, named(&crates, "b")), (Some("0.10.0"), None));
    }
}
