//! What an analyst is called by that was built from these files: the two build scripts, of the analyst and of the program that starts it,
//! both work it out, so that a program of another version is told from its own.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// What of the package's folder enters it.
pub const PARTS: [&str; 6] = [
    "Cargo.toml",
    "build.rs",
    "key.rs",
    "src",
    "wire/Cargo.toml",
    "wire/src",
];

/// The files, in order.
pub fn files(package: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for part in PARTS {
        list(&package.join(part), &mut found)?;
    }
    Ok(found)
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    entries
        .iter()
        .try_for_each(|entry| list(&entry.path(), files))
}

/// The key: FNV-1a over names and contents. It tells versions apart, and nothing that somebody else wrote.
pub fn key(package: &Path) -> io::Result<String> {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().copied().chain([0]) {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for file in files(package)? {
        let name = file.strip_prefix(package).unwrap_or(&file);
        add(name.as_os_str().as_encoded_bytes());
        add(&fs::read(&file)?);
    }
    Ok(format!("{sum:016x}"))
}
