//! The head of a GGUF file: metadata, and where each tensor lies. Nothing is allocated because a file announces it: every
//! length is held against what is left of the file first.
//!
//! ```text
//! "GGUF", version, number of tensors, number of keys ─ keys ─ tensors: name, sizes, type, offset ─ padding ─ the values
//! ```

use super::metadata::{Metadata, Value};
use candle_core::quantized::GgmlDType;
use std::collections::BTreeSet;
use std::io::Read;

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub name: String,
    /// As a tensor has it: the longest stride first.
    pub shape: Vec<usize>,
    pub dtype: GgmlDType,
    /// From the file's first byte on.
    pub start: u64,
    pub bytes: usize,
}

impl Stored {
    /// The type's name, such as `Q4_K`.
    pub fn kind(&self) -> &'static str {
        let known = TYPES.iter().find(|(_, _, dtype)| *dtype == self.dtype);
        known.map_or("?", |(_, name, _)| name)
    }
}

/// The types that can be read: number in the file, name, candle's.
pub(super) const TYPES: [(u32, &str, GgmlDType); 13] = [
    (0, "F32", GgmlDType::F32),
    (1, "F16", GgmlDType::F16),
    (2, "Q4_0", GgmlDType::Q4_0),
    (3, "Q4_1", GgmlDType::Q4_1),
    (6, "Q5_0", GgmlDType::Q5_0),
    (7, "Q5_1", GgmlDType::Q5_1),
    (8, "Q8_0", GgmlDType::Q8_0),
    (10, "Q2_K", GgmlDType::Q2K),
    (11, "Q3_K", GgmlDType::Q3K),
    (12, "Q4_K", GgmlDType::Q4K),
    (13, "Q5_K", GgmlDType::Q5K),
    (14, "Q6_K", GgmlDType::Q6K),
    (30, "BF16", GgmlDType::BF16),
];
/// Others that files have.
const OTHER_TYPES: [(u32, &str); 18] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// More entries than any vocabulary or list of merges has.
const MOST_ENTRIES: u64 = 4_000_000;
/// Lists in lists in lists.
const DEEPEST: usize = 3;

type Fallible<T> = Result<T, String>;

/// Reads the head of a file of `size` bytes. The message says what is wrong.
pub(super) fn read(from: &mut impl Read, size: u64) -> Fallible<(Metadata, Vec<Stored>)> {
    let mut head = Head {
        from,
        left: size,
        size,
    };
    let magic = head.take::<4>("the magic number")?;
    if magic != *b"GGUF" {
        return Err(match &magic {
            b"ggml" | b"lmgg" | b"ggjt" | b"tjgg" | b"ggla" | b"algg" | b"fmgg" => {
                "it is a file of llama.cpp from before GGUF: convert it anew".into()
            }
            _ => "it is no GGUF file: it does not begin with GGUF".into(),
        });
    }
    match head.u32("the version")? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err("it is a GGUF file of a big-endian machine, which is not read".into());
        }
        version => {
            return Err(format!(
                "it is GGUF version {version}, versions 2 and 3 can be read"
            ));
        }
    }
    let tensors = head.u64("the number of tensors")?;
    let keys = head.u64("the number of keys")?;
    // A name's length, a number of dimensions, a type and an offset; a key's length, its type and a byte.
    head.room(tensors, 24, "tensors")?;
    head.room(keys, 13, "keys")?;
    let mut metadata = Metadata::default();
    for _ in 0..keys {
        let key = head.text("a key")?;
        let kind = head.u32(&key)?;
        let value = head.value(kind, &key, 0)?;
        metadata.add(key, value)?;
    }
    let mut stored = Vec::new();
    for _ in 0..tensors {
        stored.push(head.tensor()?);
    }
    let align = metadata.alignment()?;
    let start = (size - head.left)
        .checked_next_multiple_of(align)
        .ok_or("its alignment overflows")?;
    place(&mut stored, start, align, size)?;
    Ok((metadata, stored))
}

/// Offsets from the file's first byte on; tensors must lie in the file, and not over each other.
fn place(stored: &mut [Stored], start: u64, align: u64, size: u64) -> Fallible<()> {
    let mut names = BTreeSet::new();
    let mut places = Vec::with_capacity(stored.len());
    for tensor in stored {
        let name = &tensor.name;
        if !names.insert(name.clone()) {
            return Err(format!("tensor {name} is there twice"));
        }
        if !tensor.start.is_multiple_of(align) {
            return Err(format!(
                "tensor {name} lies at {}, which is no multiple of the alignment {align}",
                tensor.start
            ));
        }
        let begin = tensor.start.checked_add(start);
        let end = begin.and_then(|begin| begin.checked_add(tensor.bytes as u64));
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(format!("tensor {name} lies beyond all files"));
        };
        if end > size {
            return Err(format!(
                "it is truncated: tensor {name} ends at byte {end}, the file has {size}; fetch or copy it again"
            ));
        }
        tensor.start = begin;
        places.push((begin, end, name.clone()));
    }
    places.sort();
    for pair in places.windows(2) {
        if let [(_, end, first), (begin, _, second)] = pair
            && begin < end
        {
            return Err(format!("tensor {second} lies over tensor {first}"));
        }
    }
    Ok(())
}

struct Head<'a, R> {
    from: &'a mut R,
    left: u64,
    size: u64,
}

impl<R: Read> Head<'_, R> {
    fn take<const N: usize>(&mut self, what: &str) -> Fallible<[u8; N]> {
        let mut bytes = [0; N];
        self.room(1, N as u64, what)?;
        let read = self.from.read_exact(&mut bytes);
        read.map_err(|error| format!("{what} cannot be read: {error}"))?;
        self.left -= N as u64;
        Ok(bytes)
    }

    /// There must be so many more bytes.
    fn room(&self, count: u64, each: u64, what: &str) -> Fallible<()> {
        match count.checked_mul(each) {
            Some(needed) if needed <= self.left => Ok(()),
            _ => Err(format!(
                "it is truncated or damaged: {what} would take more than the {} of {} bytes that are left",
                self.left, self.size
            )),
        }
    }

    fn u32(&mut self, what: &str) -> Fallible<u32> {
        Ok(u32::from_le_bytes(self.take(what)?))
    }

    fn u64(&mut self, what: &str) -> Fallible<u64> {
        Ok(u64::from_le_bytes(self.take(what)?))
    }

    fn text(&mut self, what: &str) -> Fallible<String> {
        let length = self.u64(what)?;
        self.room(length, 1, what)?;
        let mut bytes = vec![0; length as usize];
        let read = self.from.read_exact(&mut bytes);
        read.map_err(|error| format!("{what} cannot be read: {error}"))?;
        self.left -= length;
        String::from_utf8(bytes).map_err(|_| format!("{what} is no UTF-8 text"))
    }

    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Fallible<Value> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.take(key)?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.take(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.take(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.take(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.take(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.take(key)?).into()),
            7 => match self.take::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(format!("{key} is {other}, which is not true or false")),
            },
            8 => Value::Text(self.text(key)?),
            9 => {
                let kind = self.u32(key)?;
                let count = self.u64(key)?;
                let each = match kind {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    8 | 10..=12 => 8,
                    _ => 12,
                };
                self.room(count, each, key)?;
                if count > MOST_ENTRIES || depth >= DEEPEST {
                    return Err(format!(
                        "{key} is a list of {count} entries, {depth} lists deep: that is no model's"
                    ));
                }
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(kind, key, depth + 1)?);
                }
                Value::List(list)
            }
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.take(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.take(key)?)),
            other => return Err(format!("{key} is of type {other}, which is not known")),
        })
    }

    fn tensor(&mut self) -> Fallible<Stored> {
        let name = self.text("a tensor's name")?;
        let dims = self.u32(&name)?;
        if dims == 0 || dims > 4 {
            return Err(format!(
                "tensor {name} has {dims} dimensions, 1 to 4 are known"
            ));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let size = self.u64(&name)?;
            shape.push(usize::try_from(size).map_err(|_| format!("tensor {name} is too large"))?);
        }
        let number = self.u32(&name)?;
        let Some((_, kind, dtype)) = TYPES.iter().find(|(n, ..)| *n == number) else {
            let named = OTHER_TYPES.iter().find(|(n, _)| *n == number);
            let named =
                named.map_or_else(|| format!("number {number}"), |(_, name)| name.to_string());
            return Err(format!(
                "tensor {name} is stored as {named}, which cannot be read; there are {}",
                TYPES.map(|(_, name, _)| name).join(", ")
            ));
        };
        let start = self.u64(&name)?;
        let row = shape.first().copied().unwrap_or_default();
        if !row.is_multiple_of(dtype.block_size()) {
            return Err(format!(
                "tensor {name} has rows of {row}, {kind} has blocks of {}",
                dtype.block_size()
            ));
        }
        let values = shape
            .iter()
            .try_fold(1usize, |n, size| n.checked_mul(*size));
        let blocks = values.map(|values| values / dtype.block_size());
        let bytes = blocks.and_then(|blocks| blocks.checked_mul(dtype.type_size()));
        let Some(bytes) = bytes.filter(|bytes| *bytes as u64 <= self.size) else {
            return Err(format!(
                "it is truncated or damaged: tensor {name} of {shape:?} is larger than the file"
            ));
        };
        shape.reverse();
        Ok(Stored {
            name,
            shape,
            dtype: *dtype,
            start,
            bytes,
        })
    }
}
