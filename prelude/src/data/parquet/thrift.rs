//! Thrift's compact protocol, in which Parquet writes its own headers: bytes → a tree of numbers, bytes, lists and structs.

/// Structs and lists inside of each other.
const DEEPEST: usize = 24;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Thrift<'a> {
    Bool(bool),
    Int(i64),
    Double,
    Bytes(&'a [u8]),
    List(Vec<Thrift<'a>>),
    /// Field numbers and values.
    Struct(Vec<(i16, Thrift<'a>)>),
    Map,
}

impl<'a> Thrift<'a> {
    /// A field of a struct.
    pub(super) fn field(&self, number: i16) -> Option<&Thrift<'a>> {
        match self {
            Thrift::Struct(fields) => fields
                .iter()
                .find(|(field, _)| *field == number)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn int(&self, number: i16) -> Option<i64> {
        match self.field(number)? {
            Thrift::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A number that counts something.
    pub(super) fn count(&self, number: i16) -> Option<usize> {
        usize::try_from(self.int(number)?).ok()
    }

    pub(super) fn text(&self, number: i16) -> Option<String> {
        match self.field(number)? {
            Thrift::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    pub(super) fn list(&self, number: i16) -> Option<&[Thrift<'a>]> {
        match self.field(number)? {
            Thrift::List(values) => Some(values),
            _ => None,
        }
    }
}

/// Reads a struct at the beginning of `bytes`, and how long it is; `None` if it is damaged or goes on behind the end.
pub(super) fn read(bytes: &[u8]) -> Option<(Thrift<'_>, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.structure(0)?;
    Some((value, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn structure(&mut self, depth: usize) -> Option<Thrift<'a>> {
        if depth > DEEPEST {
            return None;
        }
        let mut fields = Vec::new();
        let mut number = 0_i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(Thrift::Struct(fields));
            }
            number = match head >> 4 {
                0 => i16::try_from(self.zigzag()?).ok()?,
                more => number.checked_add(i16::from(more))?,
            };
            let value = match head & 0xf {
                1 => Thrift::Bool(true),
                2 => Thrift::Bool(false),
                kind => self.value(kind, depth)?,
            };
            fields.push((number, value));
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Option<Thrift<'a>> {
        if depth > DEEPEST {
            return None;
        }
        Some(match kind {
            1 | 2 => Thrift::Bool(self.byte()? == 1),
            3 => Thrift::Int(i64::from(self.byte()? as i8)),
            4..=6 => Thrift::Int(self.zigzag()?),
            7 => self.take(8).map(|_| Thrift::Double)?,
            8 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Thrift::Bytes(self.take(length)?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => usize::try_from(self.varint()?).ok()?,
                    count => usize::from(count),
                };
                // Each element has a byte at least.
                if count > self.bytes.len() - self.at {
                    return None;
                }
                let elements = (0..count).map(|_| self.value(head & 0xf, depth + 1));
                Thrift::List(elements.collect::<Option<_>>()?)
            }
            11 => {
                let count = self.varint()?;
                if count > 0 {
                    let kinds = self.byte()?;
                    for _ in 0..count {
                        self.value(kinds >> 4, depth + 1)?;
                        self.value(kinds & 0xf, depth + 1)?;
                    }
                }
                Thrift::Map
            }
            12 => self.structure(depth + 1)?,
            _ => return None,
        })
    }
}
