//! A Parquet file: its footer → columns and where their pages lie → values of a column, row by row.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::pages::{self, Codec, Column, Head};
use super::thrift::{self, Thrift};
use crate::{Error, Result, files};

/// Largest footer that is read.
const MOST_FOOTER: u64 = 256 << 20;
/// Bytes in which the head of a page mostly fits, and in which it must.
const HEAD: usize = 4096;
const MOST_HEAD: usize = 1 << 20;

/// An opened file.
pub(super) struct ParquetFile {
    pub path: PathBuf,
    file: Mutex<File>,
    length: u64,
    /// Columns of bytes or text.
    pub columns: Vec<Column>,
    /// Names of all columns at the top.
    pub names: Vec<String>,
    /// For each group of rows: its number of rows, and where the parts of the columns lie.
    groups: Vec<(usize, Vec<Chunk>)>,
}

/// The part of a column in a group of rows.
struct Chunk {
    path: Vec<String>,
    codec: i64,
    start: u64,
    /// Values in it.
    values: usize,
    length: u64,
}

/// Where a page lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Behind its head.
    start: u64,
    pub head: Head,
    codec: Codec,
    /// The page with its dictionary.
    dictionary: Option<Arc<Place>>,
    /// Number of its first row in the file, for columns that are in no list.
    pub first_row: usize,
}

impl ParquetFile {
    pub(super) fn open(path: &Path) -> Result<ParquetFile> {
        let file = files::open(path).map_err(|source| failed(path, source))?;
        let about = file.metadata().map_err(|source| failed(path, source))?;
        let mut opened = ParquetFile {
            path: path.to_path_buf(),
            file: Mutex::new(file),
            length: about.len(),
            columns: Vec::new(),
            names: Vec::new(),
            groups: Vec::new(),
        };
        let footer = opened.footer()?;
        let (footer, _) =
            thrift::read(&footer).ok_or_else(|| opened.damaged("its footer can't be read"))?;
        opened.schema(&footer)?;
        opened.row_groups(&footer)?;
        Ok(opened)
    }

    pub(super) fn damaged(&self, why: &str) -> Error {
        Error::Input(format!(
            "{} is no Parquet file that can be read: {why}",
            self.path.display()
        ))
    }

    fn footer(&self) -> Result<Vec<u8>> {
        let short = "it is not a whole Parquet file (was the download cut off?)";
        if self.length < 12 {
            return Err(self.damaged(short));
        }
        let end = self.bytes(self.length - 8, 8)?;
        if !end.ends_with(b"PAR1") {
            return Err(self.damaged(if end.ends_with(b"PARE") {
                "it is encrypted"
            } else {
                short
            }));
        }
        let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
        if length > MOST_FOOTER || length + 8 > self.length {
            return Err(self.damaged("its footer can't be read"));
        }
        self.bytes(self.length - 8 - length, length as usize)
    }

    /// Columns by their names, with how deep they lie.
    fn schema(&mut self, footer: &Thrift<'_>) -> Result<()> {
        let elements = footer.list(2).unwrap_or_default();
        let mut at = 1;
        let mut columns = Vec::new();
        let mut names = Vec::new();
        let top = elements.first().and_then(|root| root.count(5)).unwrap_or(0);
        for _ in 0..top {
            names.extend(elements.get(at).and_then(|element| element.text(4)));
            let root = Column {
                path: Vec::new(),
                defined: 0,
                repeated: 0,
            };
            if walk(elements, &mut at, &root, &mut columns, 0).is_none() {
                return Err(self.damaged("its schema can't be read"));
            }
        }
        self.columns = columns;
        self.names = names;
        Ok(())
    }

    fn row_groups(&mut self, footer: &Thrift<'_>) -> Result<()> {
        let mut groups = Vec::new();
        for group in footer.list(4).unwrap_or_default() {
            let rows = group
                .count(3)
                .ok_or_else(|| self.damaged("a group has no number of rows"))?;
            let chunks = group.list(1).unwrap_or_default().iter().map(|chunk| {
                let about = chunk.field(3)?;
                let path = about.list(3)?.iter().map(|name| match name {
                    Thrift::Bytes(name) => Some(String::from_utf8_lossy(name).into_owned()),
                    _ => None,
                });
                let data = u64::try_from(about.int(9)?).ok()?;
                let dictionary = about
                    .int(11)
                    .and_then(|at| u64::try_from(at).ok())
                    .filter(|at| *at > 0);
                Some(Chunk {
                    path: path.collect::<Option<_>>()?,
                    codec: about.int(4)?,
                    start: dictionary.map_or(data, |at| at.min(data)),
                    values: about.count(5)?,
                    length: u64::try_from(about.int(7)?).ok()?,
                })
            });
            let chunks = chunks
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| self.damaged("a group of rows can't be read"))?;
            groups.push((rows, chunks));
        }
        self.groups = groups;
        // Room is made for each row: a small file may say that it has any number.
        if self.rows() as u64 > self.length {
            return Err(self.damaged("it says that it has more rows than bytes"));
        }
        Ok(())
    }

    /// Rows of all groups.
    pub(super) fn rows(&self) -> usize {
        self.groups
            .iter()
            .fold(0, |all: usize, (rows, _)| all.saturating_add(*rows))
    }

    /// Where the pages of a column lie; reads their heads only.
    pub(super) fn places(&self, column: &Column) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let mut first_row = 0;
        for (rows, chunks) in &self.groups {
            let chunk = chunks.iter().find(|chunk| chunk.path == column.path);
            let chunk = chunk.ok_or_else(|| self.damaged("a group of rows lacks a column"))?;
            let codec = match chunk.codec {
                0 => Codec::Plain,
                1 => Codec::Snappy,
                other => {
                    let name = match other {
                        2 => "gzip",
                        4 => "brotli",
                        5 | 7 => "lz4",
                        6 => "zstd",
                        _ => "an unknown method",
                    };
                    return Err(self.damaged(&format!(
                        "its pages are packed by {name}; snappy and none are read: write it again, as with \
                         pyarrow.parquet.write_table(table, path, compression=\"snappy\")"
                    )));
                }
            };
            let (mut at, end) = (
                chunk.start,
                chunk.start.saturating_add(chunk.length).min(self.length),
            );
            let (mut seen, mut dictionary) = (0, None);
            while seen < chunk.values {
                let (head, length) = self.head(at, end)?;
                let place = Place {
                    start: at + length as u64,
                    codec,
                    dictionary: dictionary.clone(),
                    first_row: seen.saturating_add(first_row),
                    head,
                };
                at = place.start + place.head.packed as u64;
                if at > end {
                    return Err(self.damaged("a page goes on behind its column"));
                }
                if place.head.dictionary {
                    dictionary = Some(Arc::new(place));
                } else {
                    seen += place.head.values;
                    // An index has none.
                    if place.head.values > 0 {
                        places.push(place);
                    }
                }
            }
            first_row = rows.saturating_add(first_row);
        }
        Ok(places)
    }

    fn head(&self, at: u64, end: u64) -> Result<(Head, usize)> {
        let mut size = HEAD;
        loop {
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let bytes = self.bytes(at, size.min(left))?;
            if let Some(found) = pages::head(&bytes) {
                return Ok(found);
            }
            if size >= left || size >= MOST_HEAD {
                return Err(self.damaged("the head of a page can't be read"));
            }
            size *= 16;
        }
    }

    /// The unpacked bytes of a page, and those of its dictionary.
    pub(super) fn unpacked(&self, place: &Place) -> Result<Unpacked> {
        let of = |place: &Place| -> Result<Vec<u8>> {
            let packed = self.bytes(place.start, place.head.packed)?;
            pages::unpack(&place.head, &packed, place.codec)
                .ok_or_else(|| self.damaged("a page can't be unpacked"))
        };
        let dictionary = match &place.dictionary {
            Some(dictionary) => Some((dictionary.head.clone(), of(dictionary)?)),
            None => None,
        };
        Ok(Unpacked {
            head: place.head.clone(),
            bytes: of(place)?,
            dictionary,
        })
    }

    fn bytes(&self, at: u64, count: usize) -> Result<Vec<u8>> {
        if at.saturating_add(count as u64) > self.length {
            return Err(self.damaged("a part of it lies behind its end"));
        }
        let mut bytes = vec![0; count];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| failed(&self.path, source))?;
        Ok(bytes)
    }
}

/// A page ready to be read.
pub(super) struct Unpacked {
    head: Head,
    bytes: Vec<u8>,
    dictionary: Option<(Head, Vec<u8>)>,
}

impl Unpacked {
    /// Its values.
    ///
    /// # Errors
    /// In words, where it is damaged or of a kind that is not read.
    pub(super) fn values(&self, column: &Column) -> Result<Vec<pages::Value<'_>>, String> {
        let dictionary = match &self.dictionary {
            Some((head, bytes)) => pages::dictionary(head, bytes)
                .ok_or_else(|| "a dictionary is damaged".to_string())?,
            None => Vec::new(),
        };
        pages::values(&self.head, &self.bytes, column, &dictionary)
    }
}

/// Goes through an element of the schema and what is below it; `None` if it is damaged.
fn walk(
    elements: &[Thrift<'_>],
    at: &mut usize,
    above: &Column,
    columns: &mut Vec<Column>,
    depth: usize,
) -> Option<()> {
    let element = elements.get(*at)?;
    *at += 1;
    if depth > 32 {
        return None;
    }
    let mut own = above.clone();
    own.path.push(element.text(4)?);
    match element.int(3) {
        Some(1) => own.defined += 1,
        Some(2) => {
            own.defined += 1;
            own.repeated += 1;
        }
        _ => {}
    }
    let children = element.count(5).unwrap_or(0);
    for _ in 0..children {
        walk(elements, at, &own, columns, depth + 1)?;
    }
    // Type 6: bytes of any length.
    if children == 0 && element.int(1) == Some(6) {
        columns.push(own);
    }
    Some(())
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_path_buf(),
        source,
    }
}
