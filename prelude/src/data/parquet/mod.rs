//! Parquet files as the Hugging Face hub keeps datasets: a column of pictures (bytes inside), a column of captions.
//!
//! `data/train-00000-of-00002.parquet` → the captions of all rows, and where the pictures' pages lie → [`Captions`]; a picture is
//! read from its page when it is asked for. A lean reader: columns of bytes and text, plain or by dictionary, packed by snappy or
//! not at all; what else there may be is refused by name.

mod file;
mod pages;
mod snappy;
mod thrift;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Split;
use super::captions::{COLUMNS, Captions, HELD_OUT};
use super::store::{Builder, Pictures};
use crate::train::PictureFile;
use crate::vision::{DecodeOptions, Image};
use crate::{Error, Result, files};

use file::{ParquetFile, Place, Unpacked};
use pages::Column;

impl Captions {
    /// Opens the Parquet files of a dataset's part below `root` or `root/data`: `train-*.parquet`, or `validation-*` and what else
    /// held-out parts are called.
    ///
    /// # Errors
    /// `Input` when there is no such file, a file is of another kind, damaged or has no pictures, or no picture is left; `Io`.
    pub fn parquet(root: impl AsRef<Path>, split: Split) -> Result<Captions> {
        let root = root.as_ref();
        let names: &[&str] = match split {
            Split::Train => &["train"],
            Split::Val => &HELD_OUT,
        };
        for name in names {
            for folder in [root.to_path_buf(), root.join("data"), root.join(name)] {
                let mut found = Vec::new();
                for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let file = entry.file_name().to_string_lossy().into_owned();
                    let of_part = file.starts_with(name)
                        && !file[name.len()..].starts_with(char::is_alphabetic);
                    if file.ends_with(".parquet") && (of_part || folder.ends_with(name)) {
                        found.push(entry.path());
                    }
                }
                found.sort();
                if !found.is_empty() {
                    return Self::parquet_files(&found, None);
                }
            }
        }
        Err(Error::Input(format!(
            "{} holds no {}-*.parquet{}: name the files with Captions::parquet_files",
            root.display(),
            names[0],
            files::looked_for_from(root)
        )))
    }

    /// Opens Parquet files. Captions stand in the column `text` or `caption` (or what else is usual) unless another is named;
    /// pictures in the first column that has bytes inside.
    ///
    /// # Errors
    /// As [`Captions::parquet`].
    pub fn parquet_files<P: AsRef<Path>>(files: &[P], column: Option<&str>) -> Result<Captions> {
        let Some(first) = files.first() else {
            return Err(Error::Input(
                "no Parquet file to open: name at least one".into(),
            ));
        };
        let source = first.as_ref().to_path_buf();
        let mut builder = Builder::default();
        let mut parts = Vec::new();
        let mut known = String::new();
        for path in files {
            let opened = Part::open(path.as_ref(), column)?;
            known = opened.file.names.join(", ");
            opened.read(&mut builder)?;
            parts.push(opened);
        }
        let pictures = Arc::new(Parts {
            parts,
            last: Mutex::new(None),
        });
        let store = builder.of_pictures("Parquet", source, pictures);
        Captions::unless_empty(store, &format!("its columns are {known}"))
    }
}

/// One file with the columns that are read of it.
struct Part {
    file: ParquetFile,
    pictures: Column,
    captions: Column,
    pages: Vec<Place>,
}

impl Part {
    fn open(path: &Path, column: Option<&str>) -> Result<Part> {
        let file = ParquetFile::open(path)?;
        let lacks = |what: &str| {
            Error::Input(format!(
                "{} has no column {what}; it has {}",
                path.display(),
                file.names.join(", ")
            ))
        };
        let caption = match column {
            Some(column) => file.columns.iter().find(|found| found.path[0] == column),
            None => COLUMNS
                .iter()
                .find_map(|name| file.columns.iter().find(|found| found.path[0] == *name)),
        };
        let captions = caption.ok_or_else(|| match column {
            Some(column) => lacks(&format!("{column:?} of text")),
            None => lacks("text or caption: name the one with the captions, as in Captions::parquet_files(&files, Some(\"label\"))"),
        })?;
        if captions.repeated > 1 {
            return Err(lacks(
                "of captions that is a list at most, not a list of lists",
            ));
        }
        let bytes_inside = |column: &&Column| {
            column.repeated == 0 && column.path.len() == 2 && column.path[1] == "bytes"
        };
        let plain = |column: &&Column| {
            column.repeated == 0
                && column.path.len() == 1
                && ["image", "img", "picture", "jpg", "png"].contains(&column.path[0].as_str())
        };
        let pictures = file
            .columns
            .iter()
            .find(bytes_inside)
            .or_else(|| file.columns.iter().find(plain));
        let pictures = pictures.ok_or_else(|| lacks("of pictures, which has bytes inside"))?;
        let (pictures, captions) = (pictures.clone(), captions.clone());
        Ok(Part {
            pages: file.places(&pictures)?,
            file,
            pictures,
            captions,
        })
    }

    /// Adds a picture for each row, with its captions.
    fn read(&self, builder: &mut Builder) -> Result<()> {
        let name = self
            .file
            .path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let first = builder.len();
        let rows = self.file.rows();
        let pages = self.pages.iter();
        let held = pages.fold(0, |all: usize, page| all.saturating_add(page.head.values));
        if held != rows {
            return Err(self
                .file
                .damaged("it has another number of rows than of pictures"));
        }
        for row in 0..rows {
            builder.picture((first + row) as u64, &format!("{name} row {row}"));
        }
        let mut row = None;
        for place in self.file.places(&self.captions)? {
            let page = self.file.unpacked(&place)?;
            let values = page
                .values(&self.captions)
                .map_err(|why| self.file.damaged(&why))?;
            for (begins, value) in values {
                let current = match (row, begins) {
                    (None, _) => 0,
                    (Some(row), true) => row + 1,
                    (Some(row), false) => row,
                };
                row = Some(current);
                if current >= rows {
                    return Err(self.file.damaged("it has more captions than rows"));
                }
                let Some(value) = value else {
                    continue; // null, or an empty list
                };
                let shown = format!("{name} row {current}");
                if std::str::from_utf8(value).is_err() {
                    builder
                        .report
                        .repair("captions with characters that are no Unicode", &shown);
                }
                let text = String::from_utf8_lossy(value);
                builder.written(first + current, &text, &shown);
            }
        }
        Ok(())
    }

    /// The page of a row's picture.
    fn page_of(&self, row: usize) -> usize {
        self.pages
            .partition_point(|page| page.first_row <= row)
            .saturating_sub(1)
    }
}

/// All files, and the page that was read last: rows that lie side by side come from one page.
struct Parts {
    parts: Vec<Part>,
    last: Mutex<Option<(usize, usize, Arc<Unpacked>)>>,
}

impl Parts {
    fn page(&self, part: usize, page: usize) -> Result<Arc<Unpacked>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known_part, known_page, unpacked)) = &*last
            && (*known_part, *known_page) == (part, page)
        {
            return Ok(Arc::clone(unpacked));
        }
        let part_of = &self.parts[part];
        let unpacked = Arc::new(part_of.file.unpacked(&part_of.pages[page])?);
        *last = Some((part, page, Arc::clone(&unpacked)));
        Ok(unpacked)
    }
}

impl Pictures for Parts {
    fn file(&self, number: usize) -> Option<PictureFile> {
        let mut row = number;
        for part in &self.parts {
            if row < part.file.rows() {
                return Some(PictureFile {
                    path: part.file.path.clone(),
                    number: row,
                });
            }
            row -= part.file.rows();
        }
        None
    }

    fn load(&self, number: usize) -> Result<Image> {
        let mut row = number;
        for (index, part) in self.parts.iter().enumerate() {
            if row >= part.file.rows() {
                row -= part.file.rows();
                continue;
            }
            let page = part.page_of(row);
            let unpacked = self.page(index, page)?;
            let values = unpacked
                .values(&part.pictures)
                .map_err(|why| part.file.damaged(&why))?;
            let name = || PathBuf::from(format!("{} row {row}", part.file.path.display()));
            let value = values
                .get(row - part.pages[page].first_row)
                .and_then(|(_, bytes)| *bytes);
            let Some(bytes) = value else {
                return Err(Error::Io {
                    path: name(),
                    source: std::io::Error::new(std::io::ErrorKind::NotFound, "it has no picture"),
                });
            };
            return Image::from_bytes(bytes, DecodeOptions::default()).map_err(
                |error| match error {
                    Error::Image { source, .. } => Error::Image {
                        what: name().display().to_string(),
                        source,
                    },
                    other => other,
                },
            );
        }
        Err(Error::Input(format!(
            "there is no picture {number} in the Parquet files"
        )))
    }
}

#[cfg(test)]
mod tests;
