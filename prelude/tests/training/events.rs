//! TensorBoard's events of a run that was killed and resumed: read back whole, every step once, with the log's figures.

use glassbox_prelude::candle_core::Device;
use glassbox_prelude::runs::Run;
use glassbox_prelude::train::{Trainer, TrainerSettings};
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{alone, folder, settings, squares};

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::Input(what.to_string())
}

/// CRC-32C by a table, shifted as record files hold it.
fn checksum(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| {
            (0..8).fold(byte, |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        })
        .collect();
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (crc >> 8) ^ table[((crc ^ u32::from(*byte)) & 0xff) as usize]
    });
    let crc = crc ^ u32::MAX;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The records of a file, and whether one was cut off behind them.
fn records(bytes: &[u8]) -> Result<(Vec<&[u8]>, bool)> {
    let number = |bytes: &[u8]| -> Result<u32> {
        let four: [u8; 4] = bytes.try_into().map_err(wrong)?;
        Ok(u32::from_le_bytes(four))
    };
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let Some((length, after)) = rest.split_at_checked(8) else {
            return Ok((found, true));
        };
        let eight: [u8; 8] = length.try_into().map_err(wrong)?;
        let size = u64::from_le_bytes(eight) as usize;
        if after.len() < 4 + size + 4 {
            return Ok((found, true));
        }
        assert_eq!(number(&after[..4])?, checksum(length));
        let event = &after[4..4 + size];
        assert_eq!(number(&after[4 + size..4 + size + 4])?, checksum(event));
        found.push(event);
        rest = &after[4 + size + 4..];
    }
    Ok((found, false))
}

/// A field of a message: its number, and its value as a number or as bytes.
type Field<'a> = (u64, u64, &'a [u8]);

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for at in 0.. {
        let (byte, rest) = bytes.split_first().ok_or_else(|| wrong("cut off"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

fn fields(mut bytes: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let size = match key & 7 {
            0 => {
                let value = varint(&mut bytes)?;
                found.push((key >> 3, value, &bytes[..0]));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes)? as usize,
            5 => 4,
            other => return Err(wrong(format!("a field of kind {other}"))),
        };
        let (value, rest) = bytes
            .split_at_checked(size)
            .ok_or_else(|| wrong("cut off"))?;
        found.push((key >> 3, 0, value));
        bytes = rest;
    }
    Ok(found)
}

/// By tag, step and value.
type Scalars = BTreeMap<String, Vec<(u64, f32)>>;

/// What TensorBoard shows of a folder: by tag, step and value in the order of reading. The files are read by their names; where a
/// session begins at a step, what was read of that step and later ones is forgotten.
fn shown(folder: &Path) -> Result<(Scalars, usize)> {
    let entries = std::fs::read_dir(folder).map_err(wrong)?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.retain(|path| path.to_string_lossy().contains("tfevents"));
    files.sort();
    let mut scalars = Scalars::new();
    let mut cut = 0;
    for file in files {
        let bytes = std::fs::read(&file).map_err(wrong)?;
        let (events, unfinished) = records(&bytes)?;
        cut += usize::from(unfinished);
        for event in events {
            let event = fields(event)?;
            let step = event
                .iter()
                .find(|field| field.0 == 2)
                .map_or(0, |field| field.1);
            for (number, _, value) in event {
                if number == 7 {
                    scalars
                        .values_mut()
                        .for_each(|list| list.retain(|point| point.0 < step));
                }
                if number != 5 {
                    continue;
                }
                for (_, _, entry) in fields(value)? {
                    let entry = fields(entry)?;
                    let field = |number| entry.iter().find(|field| field.0 == number);
                    let (Some(tag), Some(value)) = (field(1), field(2)) else {
                        continue; // a text
                    };
                    let tag = String::from_utf8_lossy(tag.2).into_owned();
                    let four: [u8; 4] = value.2.try_into().map_err(wrong)?;
                    scalars
                        .entry(tag)
                        .or_default()
                        .push((step, f32::from_le_bytes(four)));
                }
            }
        }
    }
    Ok((scalars, cut))
}

#[test]
fn the_events_of_a_killed_and_resumed_run_have_each_step_once() -> Result<()> {
    let _alone = alone();
    let at = folder()?;
    let (run, saved) = (at.path().join("run"), at.path().join("saved"));
    let set = squares(6)?;
    let with = |steps| TrainerSettings {
        run: Some(run.clone()),
        validate_every: 2,
        quiet: true,
        ..settings(steps)
    };
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut trainer = Trainer::new(with(4))?;
    trainer.fit(&vlm, &set, &set)?;
    trainer.save(&saved, &vlm)?;
    let (before, cut) = shown(&run)?;
    let steps = |list: &[(u64, f32)]| -> Vec<u64> { list.iter().map(|point| point.0).collect() };
    assert_eq!(
        (steps(&before["loss/training"]), cut),
        (vec![1, 2, 3, 4], 0)
    );
    // Files are told apart by the second in which they begin.
    let second = || std::thread::sleep(std::time::Duration::from_millis(1100));
    second();
    // It goes on to step 7, and is killed while it writes.
    trainer.extend(3);
    trainer.fit(&vlm, &set, &set)?;
    let entries = std::fs::read_dir(&run).map_err(wrong)?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.retain(|path| path.to_string_lossy().contains("tfevents"));
    files.sort();
    let last = files.last().ok_or_else(|| wrong("no events"))?;
    let bytes = std::fs::read(last).map_err(wrong)?;
    std::fs::write(last, &bytes[..bytes.len() - 9]).map_err(wrong)?;
    second();
    // Resumed from the checkpoint of step 4.
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let mut again = Trainer::new(with(9))?;
    again.load_changed(&saved, &vlm)?;
    again.fit(&vlm, &set, &set)?;
    let (after, cut) = shown(&run)?;
    assert_eq!(cut, 1, "the record that was being written");
    let log = Run::open(&run)?;
    assert_eq!(log.records().len(), 9);
    for (tag, list) in &after {
        let wanted: Vec<u64> = match tag.as_str() {
            "loss/validation" => vec![0, 2, 4, 6, 8, 9],
            _ => (1..=9).collect(),
        };
        let found = steps(list);
        match tag.starts_with("figures/") {
            true => assert!(
                found.windows(2).all(|pair| pair[0] < pair[1]),
                "{tag}: {found:?}"
            ),
            false => assert_eq!(found, wanted, "{tag}"),
        }
    }
    for (record, (step, loss)) in log.records().iter().zip(&after["loss/training"]) {
        assert_eq!((record.step as u64, record.loss as f32), (*step, *loss));
    }
    for tag in ["rate", "gradient/all", "tokens"] {
        assert!(
            after.contains_key(tag),
            "{tag} is not in {:?}",
            after.keys()
        );
    }
    Ok(())
}
