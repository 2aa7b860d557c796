//! The head of a safetensors file: which tensors lie where. Says of a file that is none what it is instead.
//!
//! ```text
//! 8 bytes: length ─ that many bytes of JSON: name → dtype, shape, data_offsets ─ the values, without gaps
//! ```

use super::error::{HubError, HubResult};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// A header larger than this is refused, as the `safetensors` crate does.
const LARGEST: u64 = 100_000_000;
/// Text about the file, which nothing depends on.
const METADATA: &str = "__metadata__";

/// A tensor's place in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub name: String,
    /// As it is written: `F32`, `BF16`, …
    pub dtype: String,
    pub shape: Vec<usize>,
    /// From the file's first byte on.
    pub start: usize,
    pub end: usize,
}

/// The tensors of a file, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub tensors: Vec<Stored>,
    pub notes: Vec<String>,
}

impl Header {
    /// Reads the head of a file, and nothing of the values.
    pub fn of_file(path: &Path) -> HubResult<Self> {
        let not = |error: std::io::Error| wrong(path, error.to_string());
        let mut file = crate::files::open(path).map_err(not)?;
        let size = file.metadata().map_err(not)?.len();
        let mut head = Vec::new();
        // Enough to see what else it may be.
        (&mut file).take(64).read_to_end(&mut head).map_err(not)?;
        let length = length(path, &head, size)?;
        (&mut file)
            .take((8 + length).saturating_sub(head.len() as u64))
            .read_to_end(&mut head)
            .map_err(not)?;
        Self::parse(path, &head, size)
    }

    /// Parses the head, of which `bytes` holds at least as much as the file has; the file is `size` bytes long. `path` appears in
    /// messages.
    pub fn parse(path: &Path, bytes: &[u8], size: u64) -> HubResult<Self> {
        let length = length(path, bytes, size)? as usize;
        let json = bytes.get(8..8 + length).ok_or(HubError::Truncated {
            path: path.into(),
            expected: 8 + length as u64,
            found: bytes.len() as u64,
        })?;
        let entries: Entries = serde_json::from_slice(json).map_err(|error| {
            wrong(
                path,
                format!("its header is not the JSON that it should be: {error}"),
            )
        })?;
        let mut header = Self::default();
        for (name, value) in entries.0 {
            if name == METADATA {
                header.note_metadata(path, &value);
            } else {
                let tensor = stored(path, name, &value, 8 + length)?;
                header.tensors.push(tensor);
            }
        }
        header.check_places(path, 8 + length, size)?;
        Ok(header)
    }

    /// Values of the metadata that are no text are left out: nothing depends on them.
    fn note_metadata(&mut self, path: &Path, metadata: &Value) {
        let Some(map) = metadata.as_object() else {
            if !metadata.is_null() {
                self.notes.push(format!(
                    "{}: {METADATA} is no object and was left out",
                    path.display()
                ));
            }
            return;
        };
        let left_out: Vec<&str> = map
            .iter()
            .filter(|(_, value)| !value.is_string())
            .map(|(key, _)| key.as_str())
            .collect();
        if !left_out.is_empty() {
            self.notes.push(format!(
                "{}: {} of {} entries of {METADATA} are no text and were left out: {}",
                path.display(),
                left_out.len(),
                map.len(),
                some(&left_out)
            ));
        }
    }

    /// The tensors must fill the file, each byte once.
    fn check_places(&self, path: &Path, start: usize, size: u64) -> HubResult<()> {
        let mut places: Vec<&Stored> = self.tensors.iter().collect();
        places.sort_by_key(|tensor| (tensor.start, tensor.end));
        let end = places
            .iter()
            .map(|tensor| tensor.end)
            .max()
            .unwrap_or(start);
        if end as u64 > size {
            return Err(HubError::Truncated {
                path: path.into(),
                expected: end as u64,
                found: size,
            });
        }
        let mut last: Option<&Stored> = None;
        for tensor in places {
            let free = last.map_or(start, |last| last.end);
            if tensor.start < free {
                return Err(wrong(
                    path,
                    format!(
                        "its header puts tensor {} over tensor {}",
                        tensor.name,
                        last.map_or("the header", |last| &last.name)
                    ),
                ));
            }
            if tensor.start > free {
                return Err(wrong(
                    path,
                    format!(
                        "{} bytes before tensor {} belong to none",
                        tensor.start - free,
                        tensor.name
                    ),
                ));
            }
            last = Some(tensor);
        }
        if size > end as u64 {
            let more = size - end as u64;
            return Err(wrong(
                path,
                format!(
                    "{more} bytes behind its last tensor belong to none: two files were joined, or it was written over a longer one; fetch it again"
                ),
            ));
        }
        Ok(())
    }
}

/// The length of the JSON, checked against the file's.
fn length(path: &Path, bytes: &[u8], size: u64) -> HubResult<u64> {
    if let Some(what) = other_format(bytes) {
        return Err(wrong(path, what.to_owned()));
    }
    let Some(length) = bytes.first_chunk::<8>() else {
        return Err(HubError::Truncated {
            path: path.into(),
            expected: 8,
            found: size,
        });
    };
    let length = u64::from_le_bytes(*length);
    if length > LARGEST {
        return Err(wrong(
            path,
            format!("its first eight bytes give a header of {length} bytes"),
        ));
    }
    if size < 8 + length {
        return Err(HubError::Truncated {
            path: path.into(),
            expected: 8 + length,
            found: size,
        });
    }
    Ok(length)
}

/// What a file is by its first bytes, if it is something else that people have in this place.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let text = |what: &str| {
        let start = bytes.trim_ascii_start();
        start.len() >= what.len() && start[..what.len()].eq_ignore_ascii_case(what.as_bytes())
    };
    let kinds: [(bool, &'static str); 8] = [
        (
            bytes.starts_with(b"version https://git-lfs"),
            "it is a git-lfs pointer; run `git lfs pull` in the repository it came from",
        ),
        (
            text("<!doctype") || text("<html") || text("<?xml"),
            "it is a web page: the address of the page was fetched, not that of the file (on the hub the file is behind `resolve`, the page behind `blob`)",
        ),
        (
            text("{\"error")
                || text("Repository not found")
                || text("Entry not found")
                || text("Invalid username"),
            "it is a server's error message: fetch the file again, with access to the repository",
        ),
        (
            bytes.starts_with(b"GGUF"),
            "it is a GGUF file, llama.cpp's format: take the model's safetensors",
        ),
        (
            bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02"),
            "it is a pickle of PyTorch, which runs code when it is read: convert it in Python with `safetensors.torch.save_file(torch.load(FILE, weights_only=True), …)`",
        ),
        (
            bytes.starts_with(b"\x89HDF"),
            "it is an HDF5 file, Keras' format: take the model's safetensors",
        ),
        (
            bytes.starts_with(b"\x1f\x8b"),
            "it is packed by gzip: unpack it first",
        ),
        (
            bytes.starts_with(b"\x28\xb5\x2f\xfd"),
            "it is packed by zstd: unpack it first",
        ),
    ];
    kinds.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
}

/// One entry of the header.
fn stored(path: &Path, name: String, value: &Value, start: usize) -> HubResult<Stored> {
    let bad = |what: String| wrong(path, format!("its header says of tensor {name} {what}"));
    let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    let list =
        |key: &str| -> Option<Vec<usize>> { value[key].as_array()?.iter().map(number).collect() };
    let dtype = value["dtype"]
        .as_str()
        .ok_or_else(|| bad(format!("dtype {}, which is no text", value["dtype"])))?;
    let shape = list("shape").ok_or_else(|| {
        bad(format!(
            "shape {}, which is no list of sizes",
            value["shape"]
        ))
    })?;
    let offsets = list("data_offsets");
    let Some([from, to]) = offsets.as_deref() else {
        return Err(bad(format!(
            "data_offsets {}, which are not two places",
            value["data_offsets"]
        )));
    };
    let places = start.checked_add(*from).zip(start.checked_add(*to));
    let Some((start, end)) = places.filter(|(start, end)| start <= end) else {
        return Err(bad(format!(
            "data_offsets {}, which end before they begin",
            value["data_offsets"]
        )));
    };
    let count = shape
        .iter()
        .try_fold(1usize, |count, size| count.checked_mul(*size));
    if let Some(bits) = bits(dtype) {
        let bytes = count
            .and_then(|count| count.checked_mul(bits))
            .map(|bits| bits.div_ceil(8));
        if bytes != Some(end - start) {
            return Err(bad(format!(
                "{dtype} {shape:?}, which are {} bytes, and data_offsets of {}",
                bytes.map_or("too many".to_string(), |bytes| bytes.to_string()),
                end - start
            )));
        }
    }
    Ok(Stored {
        dtype: dtype.to_string(),
        shape,
        start,
        end,
        name,
    })
}

/// Bits of a value; `None` for a dtype that is not known, which is told to whoever wants that tensor.
fn bits(dtype: &str) -> Option<usize> {
    match dtype {
        "F4" | "I4" | "U4" => Some(4),
        "F6_E2M3" | "F6_E3M2" => Some(6),
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => Some(8),
        "I16" | "U16" | "F16" | "BF16" => Some(16),
        "I32" | "U32" | "F32" => Some(32),
        "I64" | "U64" | "F64" | "C64" => Some(64),
        _ => None,
    }
}

fn wrong(path: &Path, what: String) -> HubError {
    HubError::NotSafetensors {
        path: path.to_path_buf(),
        what,
    }
}

/// The first few of many names.
pub(crate) fn some(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The header's entries in their order; a name that comes twice is an error, where a map would keep one of them.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut entries, mut names) = (Vec::new(), BTreeSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if name != METADATA && !names.insert(name.clone()) {
                        map.next_value::<IgnoredAny>()?;
                        let what = format!("tensor {name} is there twice");
                        return Err(serde::de::Error::custom(what));
                    }
                    entries.push((name, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 1);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Header, String> {
        Header::parse(Path::new("m.safetensors"), bytes, bytes.len() as u64)
            .map_err(|e| e.to_string())
    }

    const W: &str = r#""w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;

    #[test]
    fn metadata_that_is_no_text_is_left_out_and_named() {
        let header =
            format!(r#"{{"__metadata__":{{"format":"pt","step":7,"args":{{"lr":1}}}},{W}}}"#);
        let header = parse(&file(&header, 8)).expect("it is read");
        assert_eq!(header.tensors.len(), 1);
        assert!(
            header.notes[0].ends_with(
                "2 of 3 entries of __metadata__ are no text and were left out: step, args"
            )
        );
        for metadata in ["7", "[1]", "\"x\""] {
            let header = parse(&file(&format!(r#"{{"__metadata__":{metadata},{W}}}"#), 8));
            assert_eq!(header.expect("it is read").notes.len(), 1, "{metadata}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_files_name() {
        let v = |offsets: &str| {
            format!(r#"{{{W},"v":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#)
        };
        for (bytes, what) in [
            (Vec::new(), "is empty"),
            (b"abc".to_vec(), "truncated"),
            (file("{", 0), "not the JSON"),
            (file("[]", 0), "not the JSON"),
            (file("\u{fffd}", 0), "not the JSON"),
            (file(&format!("{{{W},{W}}}"), 8), "tensor w is there twice"),
            (file(&format!("{{{W}}}"), 7), "truncated"),
            (
                file(&format!("{{{W}}}"), 9),
                "1 bytes behind its last tensor",
            ),
            (file(&v("[4,12]"), 12), "puts tensor v over tensor w"),
            (file(&v("[12,20]"), 20), "4 bytes before tensor v"),
            (
                file(&v("[8,100]"), 100),
                "[2], which are 8 bytes, and data_offsets of 92",
            ),
            (file(&v("[16,8]"), 16), "end before they begin"),
            (file(&v("[8]"), 16), "not two places"),
            (file(&v("[-8,0]"), 16), "not two places"),
            (
                file(
                    r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
                    8,
                ),
                "too many bytes",
            ),
            (
                file(r#"{"w":{"dtype":7,"shape":[2],"data_offsets":[0,8]}}"#, 8),
                "dtype 7",
            ),
            (file(r#"{"w":[]}"#, 0), "dtype null"),
            (
                u64::MAX.to_le_bytes().to_vec(),
                "header of 18446744073709551615 bytes",
            ),
            (
                b"version https://git-lfs.github.com/spec/v1\noid".to_vec(),
                "git lfs pull",
            ),
            (b"\n<!DOCTYPE html><html>".to_vec(), "web page"),
            (b"GGUF\x03\0\0\0\0\0".to_vec(), "GGUF"),
            (b"PK\x03\x04\0\0\0\0\0\0".to_vec(), "pickle"),
            (
                b"{\"error\":\"Repository not found\"}".to_vec(),
                "error message",
            ),
        ] {
            let message = parse(&bytes).err().unwrap_or_else(|| "read".into());
            assert!(
                message.contains(what) && message.starts_with("m.safetensors"),
                "{what}: {message}"
            );
        }
    }

    #[test]
    fn dtypes_that_are_not_known_are_left_to_whoever_wants_the_tensor() {
        for (dtype, bytes) in [("F8_E4M3", 2), ("I4", 1), ("F4", 1), ("NF4", 33)] {
            let header =
                format!(r#"{{"w":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{bytes}]}}}}"#);
            let header = parse(&file(&header, bytes)).expect("it is read");
            assert_eq!(header.tensors[0].dtype, dtype);
        }
    }
}
