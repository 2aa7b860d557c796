//! The metadata of the prelude's library as a file of its own.
//!
//! A shared library holds its metadata compressed, and rustc unpacks all of it for every cell. Beside the shared library
//! cargo also makes a static one, whose metadata stands in it as it is. So its metadata alone is kept: an archive with
//! this one member is a library that rustc reads without unpacking anything, and that it never links.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Name, time, owner, group, mode and size of a member, in fixed columns.
const HEADER: usize = 60;
const NAME: std::ops::Range<usize> = 0..16;
const SIZE: std::ops::Range<usize> = 48..58;
const MEMBER: &[u8] = b"lib.rmeta/";

/// Writes an archive to `to` that holds the metadata in `library` and nothing else; returns its size.
///
/// # Errors
/// If a file can't be read or written, or `library` is no static library of rustc.
pub(crate) fn extract(library: &Path, to: &Path) -> Result<u64> {
    let mut from = File::open(library)?;
    let mut magic = [0; 8];
    from.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(Error::new(ErrorKind::InvalidData, "it is no archive"));
    }
    loop {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let size = std::str::from_utf8(&header[SIZE])
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, "a member has no size"))?;
        let padding = size % 2;
        if header[NAME].starts_with(MEMBER) {
            let mut out = File::create(to)?;
            out.write_all(MAGIC)?;
            out.write_all(&header)?;
            let copied = std::io::copy(&mut from.take(size), &mut out)?;
            if copied != size {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            out.write_all(&b"\n"[..usize::from(padding == 1)])?;
            return Ok((MAGIC.len() + HEADER) as u64 + size + padding);
        }
        let skipped = i64::try_from(size + padding)
            .map_err(|_| Error::new(ErrorKind::InvalidData, "a member is too long"))?;
        from.seek(SeekFrom::Current(skipped))?;
    }
}

/// Writes an archive to `to` that holds the metadata in the file `metadata`, as [`extract`] makes it.
///
/// # Errors
/// If a file can't be read or written.
pub(crate) fn wrap(metadata: &Path, to: &Path) -> Result<()> {
    let mut from = File::open(metadata)?;
    let size = from.metadata()?.len();
    let name = std::str::from_utf8(MEMBER).unwrap_or_default();
    let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644);
    let mut out = File::create(to)?;
    out.write_all(MAGIC)?;
    out.write_all(header.as_bytes())?;
    std::io::copy(&mut from, &mut out)?;
    out.write_all(&b"\n"[..usize::from(size % 2 == 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            644,
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        if body.len() % 2 == 1 {
            bytes.push(b'\n');
        }
        bytes
    }

    #[test]
    fn only_the_metadata_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (
            folder.path().join("lib.rlib"),
            folder.path().join("meta.rlib"),
        );
        let metadata = member("lib.rmeta/", b"odd");
        std::fs::write(
            &from,
            [
                &MAGIC[..],
                &member("a.o/", b"12345"),
                &metadata,
                &member("b.o/", b"x"),
            ]
            .concat(),
        )
        .unwrap();
        let size = extract(&from, &to).unwrap();
        assert_eq!(
            std::fs::read(&to).unwrap(),
            [&MAGIC[..], &metadata].concat()
        );
        assert_eq!(size, std::fs::metadata(&to).unwrap().len());
        let (bare, wrapped) = (
            folder.path().join("lib.rmeta"),
            folder.path().join("wrapped.rlib"),
        );
        std::fs::write(&bare, b"odd").unwrap();
        wrap(&bare, &wrapped).unwrap();
        assert_eq!(
            std::fs::read(&wrapped).unwrap(),
            std::fs::read(&to).unwrap()
        );
        std::fs::write(&from, b"no archive at all").unwrap();
        assert!(extract(&from, &to).is_err());
        std::fs::write(&from, MAGIC).unwrap();
        assert!(extract(&from, &to).is_err());
    }
}
