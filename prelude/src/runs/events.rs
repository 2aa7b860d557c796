//! TensorBoard's event files: (tag, step, value) → records that `tensorboard --logdir runs` shows.
//!
//! A file is a sequence of records, each an `Event` message of protocol buffers between its length and two checksums:
//!
//! ```text
//! length u64 │ crc of the length u32 │ Event │ crc of the Event u32          all little-endian; crc: CRC-32C, rotated and shifted
//! ```
//! The formats are those of tensorflow's `record_writer.cc`, `event.proto` and `summary.proto`. The crate that there is
//! (tensorboard-rs 0.5.9) brings a second `image` and 30 more crates; these are fewer than 200 lines.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::clock;
use crate::{Error, Result};

/// An open event file.
#[derive(Debug)]
pub(crate) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a new file in `folder` for steps from `step` on; what earlier files of the folder say of these steps is to be
    /// forgotten by TensorBoard.
    ///
    /// # Errors
    /// `Io` when it can't be written.
    pub fn begin(folder: &Path, step: usize) -> Result<Events> {
        let seconds = clock::seconds();
        let name = format!(
            "events.out.tfevents.{:010}.glassbox.{}.{step}",
            seconds as u64,
            std::process::id()
        );
        let path = folder.join(name);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let mut events = Events { path, file };
        let mut first = Message::default();
        first.double(1, seconds);
        first.text(3, "brain.Event:2");
        events.write(&first)?;
        let mut start = Message::default();
        start.integer(1, 1); // SessionLog.START
        let mut event = Message::default();
        event.double(1, seconds);
        event.integer(2, step as u64);
        event.message(7, &start);
        events.write(&event)?;
        Ok(events)
    }

    /// Values after step `step`, by tag, such as `loss/training`.
    ///
    /// # Errors
    /// `Io` when the file can't be written.
    pub fn scalars<'a>(
        &mut self,
        step: usize,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut entry = Message::default();
            entry.text(1, tag);
            entry.float(2, value as f32);
            summary.message(1, &entry);
        }
        self.summary(step, &summary)
    }

    /// A text (Markdown) after step `step`.
    ///
    /// # Errors
    /// `Io` when the file can't be written.
    pub fn text(&mut self, step: usize, tag: &str, text: &str) -> Result<()> {
        let mut plugin = Message::default();
        plugin.text(1, "text");
        let mut metadata = Message::default();
        metadata.message(1, &plugin);
        metadata.integer(4, 2); // DATA_CLASS_TENSOR
        let mut dimension = Message::default();
        dimension.integer(1, 1);
        let mut shape = Message::default();
        shape.message(2, &dimension);
        let mut tensor = Message::default();
        tensor.integer(1, 7); // DT_STRING
        tensor.message(2, &shape);
        tensor.text(8, text);
        let mut entry = Message::default();
        entry.text(1, tag);
        entry.message(8, &tensor);
        entry.message(9, &metadata);
        let mut summary = Message::default();
        summary.message(1, &entry);
        self.summary(step, &summary)
    }

    fn summary(&mut self, step: usize, summary: &Message) -> Result<()> {
        let mut event = Message::default();
        event.double(1, clock::seconds());
        event.integer(2, step as u64);
        event.message(5, summary);
        self.write(&event)
    }

    fn write(&mut self, event: &Message) -> Result<()> {
        let length = (event.0.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(event.0.len() + 16);
        record.extend(length);
        record.extend(masked(crc32c(&length)).to_le_bytes());
        record.extend(&event.0);
        record.extend(masked(crc32c(&event.0)).to_le_bytes());
        self.file.write_all(&record).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// A message of protocol buffers as it is written: fields, each a number and a kind, then the value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }
}

/// The checksum of Castagnoli, bit by bit: a record is some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = match crc & 1 {
                1 => crc >> 1 ^ 0x82f6_3b78,
                _ => crc >> 1,
            };
        }
    }
    !crc
}

/// As record files hold checksums, so that those of data which holds checksums stay good.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn records_are_whole_and_carry_their_checksums() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut events = Events::begin(folder.path(), 7)?;
        events.scalars(8, [("loss/training", 1.5), ("rate", f64::NAN)])?;
        events.text(8, "captions/a", "a red star")?;
        let bytes = std::fs::read(&events.path).expect("written");
        let (mut rest, mut records) = (bytes.as_slice(), 0);
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let length: [u8; 8] = length.try_into().expect("eight");
            let (crc, after) = after.split_at(4);
            assert_eq!(crc, masked(crc32c(&length)).to_le_bytes());
            let (event, after) = after.split_at(u64::from_le_bytes(length) as usize);
            let (crc, after) = after.split_at(4);
            assert_eq!(crc, masked(crc32c(event)).to_le_bytes());
            rest = after;
            records += 1;
        }
        assert_eq!(records, 4, "version, start, values, text");
        Ok(())
    }
}
