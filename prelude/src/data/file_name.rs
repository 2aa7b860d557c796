//! A picture's `file_name` → a file inside the picture folder, or the kind of name that is refused.

use std::path::{Component, Path};

/// A name that stays inside the picture folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileName {
    /// Parts joined by `/`.
    pub name: String,
    /// The oddity that it was read through.
    pub repaired: Option<&'static str>,
}

/// Resolves `raw` in the folder `pictures`, where `there` says whether a name is a file.
///
/// # Errors
/// The kind of names that this one is of, in the plural.
pub(super) fn resolve(
    raw: &str,
    pictures: &Path,
    there: &dyn Fn(&str) -> bool,
) -> Result<FileName, &'static str> {
    if raw.trim().is_empty() {
        return Err("pictures whose file name is empty");
    }
    // A backslash may stand in a name on Linux; where no such file is, it is Windows' separator.
    if raw.contains('\\') && !there(raw) {
        let file = resolve(&raw.replace('\\', "/"), pictures, there)?;
        let repaired = there(&file.name).then_some("file names with backslashes");
        return Ok(FileName { repaired, ..file });
    }
    if raw.contains("://") {
        return Err("pictures whose file name is a URL");
    }
    let bytes = raw.as_bytes();
    if bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && &bytes[1..3] == b":/" {
        return Err(
            "pictures whose file name does not stay inside the picture folder: a path of Windows",
        );
    }
    let mut repaired = None;
    let mut path = Path::new(raw);
    if path.is_absolute() {
        let folder = pictures.canonicalize().ok();
        let inside = [Some(pictures), folder.as_deref()]
            .into_iter()
            .flatten()
            .find_map(|folder| path.strip_prefix(folder).ok());
        let Some(inside) = inside else {
            return Err(
                "pictures whose file name does not stay inside the picture folder: an absolute path",
            );
        };
        path = inside;
        repaired = Some("file names with the picture folder's whole path");
    }
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => {}
            _ => {
                return Err("pictures whose file name does not stay inside the picture folder: ..");
            }
        }
    }
    if parts.is_empty() {
        return Err("pictures whose file name is empty");
    }
    let name = parts.join("/");
    if repaired.is_none() && name != raw && there(&name) {
        repaired = Some("file names written with ./ or doubled slashes");
    }
    Ok(FileName { name, repaired })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_where_only_one_file_can_be_meant() {
        let there = |name: &str| ["1.jpg", "sub/2.jpg", "odd\\3.jpg"].contains(&name);
        let found = |raw: &str| resolve(raw, Path::new("/data/train"), &there);
        for (raw, name, odd) in [
            ("1.jpg", "1.jpg", false),
            ("sub/2.jpg", "sub/2.jpg", false),
            ("odd\\3.jpg", "odd\\3.jpg", false),
            ("./1.jpg", "1.jpg", true),
            ("././sub//2.jpg", "sub/2.jpg", true),
            ("sub\\2.jpg", "sub/2.jpg", true),
            (".\\1.jpg", "1.jpg", true),
            ("/data/train/sub/2.jpg", "sub/2.jpg", true),
            ("gone.jpg", "gone.jpg", false),
        ] {
            let file = found(raw).expect(raw);
            assert_eq!(
                (file.name.as_str(), file.repaired.is_some()),
                (name, odd),
                "{raw}"
            );
        }
        for (raw, words) in [
            ("", "empty"),
            (" \n", "empty"),
            ("./", "empty"),
            ("/abs/1.jpg", "absolute"),
            ("/data/training/1.jpg", "absolute"),
            ("/data/train/../1.jpg", ".."),
            ("../img/1.jpg", ".."),
            ("sub/../1.jpg", ".."),
            ("..\\1.jpg", ".."),
            ("C:\\img\\1.jpg", "Windows"),
            ("http://images.cocodataset.org/1.jpg", "URL"),
        ] {
            let kind = found(raw).expect_err(raw);
            assert!(kind.contains(words), "{raw}: {kind}");
        }
    }
}
