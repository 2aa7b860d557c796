//! A page of a column: bytes → levels → values. A level says how much of a row is there, and where the next row begins.

use super::snappy;
use super::thrift::{self, Thrift};

/// How a page's bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Plain,
    Snappy,
}

/// Largest page that is read, unpacked.
const MOST_BYTES: usize = 1 << 29;

/// Most values of a page.
const MOST_VALUES: usize = 1 << 24;

/// A column of bytes or text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Names on the way to it.
    pub path: Vec<String>,
    /// Level at which its value is there.
    pub defined: u32,
    /// Lists that it is inside of.
    pub repeated: u32,
}

/// What stands in front of a page.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub dictionary: bool,
    /// Bytes as they lie in the file, and unpacked.
    pub packed: usize,
    pub unpacked: usize,
    /// Values, those that are not there counted in.
    pub values: usize,
    encoding: i64,
    /// Of a page of the second kind: bytes of the levels, which are never packed.
    levels: Option<(usize, usize)>,
    is_packed: bool,
}

/// Reads the head of a page and says how long it is; `None` where the bytes are no head, or not all of it. A page that holds no
/// values, an index, has 0 of them.
pub(super) fn head(bytes: &[u8]) -> Option<(Head, usize)> {
    let (head, length) = thrift::read(bytes)?;
    let (kind, unpacked, packed) = (head.int(1)?, head.count(2)?, head.count(3)?);
    if unpacked > MOST_BYTES || packed > MOST_BYTES {
        return None;
    }
    let of = |about: &Thrift<'_>, encoding: i16| {
        Some(Head {
            dictionary: kind == 2,
            packed,
            unpacked,
            values: about.count(1)?,
            encoding: about.int(encoding)?,
            levels: None,
            is_packed: true,
        })
    };
    Some(match kind {
        0 => (of(head.field(5)?, 2)?, length),
        2 => (of(head.field(7)?, 2)?, length),
        3 => {
            let about = head.field(8)?;
            let mut found = of(about, 4)?;
            found.levels = Some((about.count(5)?, about.count(6)?));
            found.is_packed = !matches!(about.field(7), Some(Thrift::Bool(false)));
            (found, length)
        }
        _ => (
            Head {
                dictionary: false,
                packed,
                unpacked,
                values: 0,
                encoding: 0,
                levels: None,
                is_packed: true,
            },
            length,
        ),
    })
}

/// The bytes of a page, unpacked.
pub(super) fn unpack(head: &Head, packed: &[u8], codec: Codec) -> Option<Vec<u8>> {
    if codec == Codec::Plain || !head.is_packed {
        return Some(packed.to_vec());
    }
    let plain = head
        .levels
        .map_or(0, |(defined, repeated)| defined.saturating_add(repeated));
    let mut out = packed.get(..plain)?.to_vec();
    let rest = packed.get(plain..)?;
    if !rest.is_empty() {
        out.extend(snappy::decompress(rest)?);
    }
    (out.len() == head.unpacked).then_some(out)
}

/// A value with whether a new row begins at it.
pub(super) type Value<'a> = (bool, Option<&'a [u8]>);

/// The values of a page that holds the dictionary.
pub(super) fn dictionary<'a>(head: &Head, bytes: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let mut values = Vec::new();
    let mut rest = bytes;
    // Each takes four bytes at least, so that a wrong number ends soon.
    for _ in 0..head.values {
        values.push(plain(&mut rest)?);
    }
    Some(values)
}

/// The values of a page.
///
/// # Errors
/// In words, where the page is damaged or of a kind that is not read.
pub(super) fn values<'a>(
    head: &Head,
    bytes: &'a [u8],
    column: &Column,
    dictionary: &[&'a [u8]],
) -> Result<Vec<Value<'a>>, String> {
    let damaged = || "a page is damaged".to_string();
    let count = head.values;
    // A few bytes may say of millions of values that they are not there.
    if count > MOST_VALUES {
        return Err(damaged());
    }
    let mut rest = bytes;
    let (repeated, defined) = match head.levels {
        Some((defined, repeated)) => {
            // Version 2: lengths are in the head, repetition first.
            let (repeated_bytes, after) = rest.split_at_checked(repeated).ok_or_else(damaged)?;
            let (defined_bytes, after) = after.split_at_checked(defined).ok_or_else(damaged)?;
            rest = after;
            (
                levels_of(repeated_bytes, column.repeated, count).ok_or_else(damaged)?,
                levels_of(defined_bytes, column.defined, count).ok_or_else(damaged)?,
            )
        }
        None => {
            let repeated = counted_levels(&mut rest, column.repeated, count).ok_or_else(damaged)?;
            (
                repeated,
                counted_levels(&mut rest, column.defined, count).ok_or_else(damaged)?,
            )
        }
    };
    let there = defined
        .iter()
        .filter(|level| **level == column.defined)
        .count();
    let values: Vec<&[u8]> = match head.encoding {
        0 => (0..there)
            .map(|_| plain(&mut rest))
            .collect::<Option<_>>()
            .ok_or_else(damaged)?,
        2 | 8 => {
            let (width, rest) = rest.split_first().unwrap_or((&0, &[]));
            let indices = hybrid(rest, u32::from(*width), there).ok_or_else(damaged)?;
            let found = indices
                .iter()
                .map(|index| dictionary.get(*index as usize).copied());
            found.collect::<Option<_>>().ok_or_else(damaged)?
        }
        other => {
            let name = match other {
                5 => "DELTA_BINARY_PACKED".into(),
                6 => "DELTA_LENGTH_BYTE_ARRAY".into(),
                7 => "DELTA_BYTE_ARRAY".into(),
                9 => "BYTE_STREAM_SPLIT".into(),
                other => format!("number {other}"),
            };
            return Err(format!(
                "values are encoded as {name}, which is not read: write the file again with pyarrow's defaults"
            ));
        }
    };
    let mut values = values.into_iter();
    let pairs = repeated
        .into_iter()
        .zip(defined)
        .map(|(repeated, defined)| {
            let value = (defined == column.defined).then(|| values.next()).flatten();
            (repeated == 0, value)
        });
    Ok(pairs.collect())
}

/// A value with its length in front.
fn plain<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (value, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(value)
}

/// Levels with their length in bytes in front.
fn counted_levels(rest: &mut &[u8], most: u32, count: usize) -> Option<Vec<u32>> {
    if most == 0 {
        return Some(vec![0; count]);
    }
    let bytes = plain(rest)?;
    levels_of(bytes, most, count)
}

fn levels_of(bytes: &[u8], most: u32, count: usize) -> Option<Vec<u32>> {
    match most {
        0 => Some(vec![0; count]),
        _ => hybrid(bytes, 32 - most.leading_zeros(), count),
    }
}

/// Numbers of `width` bits: runs of one number, and groups of eight packed bit by bit.
fn hybrid(bytes: &[u8], width: u32, count: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let mut out = Vec::with_capacity(count.min(1 << 20));
    let mut at = 0;
    while out.len() < count {
        let mut head = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = *bytes.get(at)?;
            at += 1;
            head |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let length = usize::try_from(head >> 1).ok()?;
        if length == 0 {
            return None;
        }
        if head & 1 == 0 {
            let size = (width as usize).div_ceil(8);
            let number = bytes
                .get(at..at + size)?
                .iter()
                .rev()
                .fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
            at += size;
            out.extend(std::iter::repeat_n(
                number as u32,
                length.min(count - out.len()),
            ));
        } else {
            let packed = bytes.get(at..)?;
            let size = length.checked_mul(width as usize)?;
            // The last group may be cut off behind the last number.
            let packed = &packed[..size.min(packed.len())];
            at += packed.len();
            let numbers = length.checked_mul(8)?.min(count - out.len());
            for index in 0..numbers {
                let mut number = 0_u64;
                for bit in 0..width as usize {
                    let place = index * width as usize + bit;
                    let byte = *packed.get(place / 8)?;
                    number |= u64::from(byte >> (place % 8) & 1) << bit;
                }
                out.push(number as u32);
            }
        }
    }
    Some(out)
}
