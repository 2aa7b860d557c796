//! Pictures with captions as they are kept: all text in one piece, spans into it.
//!
//! reader → [`Builder`]: pictures, then captions in any order → [`Store`]: the pictures that have a file and a caption, the
//! others counted in the report. COCO's 591,753 captions take 60 MB this way.

use std::path::PathBuf;
use std::sync::Arc;

use super::folder::Folder;
use super::report::CocoReport;
use crate::train::PictureFile;
use crate::vision::Image;
use crate::{Result, files};

/// Where pictures come from that are no files of their own.
pub(super) trait Pictures: Send + Sync {
    /// Decodes the picture that was the `number`th to be added.
    fn load(&self, number: usize) -> Result<Image>;

    /// The file that it lies in, and its place there; `None` for one that lies in no file.
    fn file(&self, number: usize) -> Option<PictureFile>;
}

/// A stretch of the text.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    length: u32,
}

struct Entry {
    id: u64,
    /// Which picture it was when it was added.
    number: u32,
    name: Span,
    /// Where its captions begin; they end where those of the next begin.
    captions: usize,
}

/// An opened dataset.
pub(super) struct Store {
    /// As it calls itself.
    pub kind: &'static str,
    /// The file or folder that was opened.
    pub source: PathBuf,
    /// Where the pictures lie.
    pub pictures: PathBuf,
    pub report: CocoReport,
    text: String,
    entries: Vec<Entry>,
    captions: Vec<Span>,
    from: Option<Arc<dyn Pictures>>,
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Id and name of a picture.
    pub(super) fn picture(&self, position: usize) -> Option<(u64, &str)> {
        let entry = self.entries.get(position)?;
        Some((entry.id, self.text(entry.name)))
    }

    /// The captions of a picture; none if there is no such picture.
    pub(super) fn captions(&self, position: usize) -> impl Iterator<Item = &str> {
        let begin = self.entries.get(position).map_or(0, |entry| entry.captions);
        let end = match self.entries.get(position + 1) {
            Some(next) => next.captions,
            None if position < self.entries.len() => self.captions.len(),
            None => begin,
        };
        self.captions[begin..end]
            .iter()
            .map(|span| self.text(*span))
    }

    /// Decodes a picture.
    pub(super) fn load(&self, position: usize) -> Result<Image> {
        let entry = &self.entries[position];
        match &self.from {
            Some(pictures) => pictures.load(entry.number as usize),
            None => Image::load(self.pictures.join(self.text(entry.name))),
        }
    }

    /// The file that a picture lies in; `None` if there is none.
    pub(super) fn file(&self, position: usize) -> Option<PictureFile> {
        let entry = self.entries.get(position)?;
        match &self.from {
            Some(pictures) => pictures.file(entry.number as usize),
            None => Some(PictureFile {
                path: self.pictures.join(self.text(entry.name)),
                number: 0,
            }),
        }
    }

    fn text(&self, span: Span) -> &str {
        &self.text[span.start..span.start + span.length as usize]
    }
}

/// Collects pictures and captions.
#[derive(Default)]
pub(super) struct Builder {
    pub report: CocoReport,
    text: String,
    pictures: Vec<(u64, Span)>,
    captions: Vec<(u32, Span)>,
}

impl Builder {
    /// Room for so many pictures.
    pub(super) fn with_capacity(pictures: usize) -> Self {
        Self {
            pictures: Vec::with_capacity(pictures),
            ..Self::default()
        }
    }

    fn keep(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span {
            start,
            length: text.len() as u32,
        }
    }

    /// Adds a picture and says which it is.
    pub(super) fn picture(&mut self, id: u64, name: &str) -> usize {
        let name = self.keep(name);
        self.pictures.push((id, name));
        self.pictures.len() - 1
    }

    /// Adds a caption of a picture, tidy and not empty.
    pub(super) fn caption(&mut self, picture: usize, caption: &str) {
        let caption = self.keep(caption);
        self.captions.push((picture as u32, caption));
    }

    /// Adds a caption of a picture as it is written; one of nothing but white space is counted as empty, with `shown` as the
    /// example.
    pub(super) fn written(&mut self, picture: usize, caption: &str, shown: &str) {
        let caption = tidy(caption);
        if caption.is_empty() {
            self.report.empty_captions += 1;
            return self.report.skip("empty captions", shown);
        }
        self.caption(picture, &caption);
    }

    /// Pictures so far.
    pub(super) fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Keeps the pictures that have a file in the folder and a caption.
    pub(super) fn in_folder(self, kind: &'static str, source: PathBuf, folder: &Folder) -> Store {
        let there = |name: &str, report: &mut CocoReport| {
            if folder.has(name) {
                return true;
            }
            match std::fs::metadata(folder.path.join(name)) {
                Ok(about) => {
                    let what = files::kind(about.file_type());
                    report.skip(&format!("pictures in whose place is {what}"), name);
                }
                Err(_) => {
                    report.missing_pictures += 1;
                    report.skip("missing pictures", name);
                }
            }
            false
        };
        self.finish(kind, (source, folder.path.clone()), None, there)
    }

    /// Keeps the pictures that have a caption; they are decoded by `pictures`.
    pub(super) fn of_pictures(
        self,
        kind: &'static str,
        source: PathBuf,
        pictures: Arc<dyn Pictures>,
    ) -> Store {
        let folder = source.clone();
        self.finish(kind, (source, folder), Some(pictures), |_, _| true)
    }

    fn finish(
        mut self,
        kind: &'static str,
        (source, pictures): (PathBuf, PathBuf),
        from: Option<Arc<dyn Pictures>>,
        there: impl Fn(&str, &mut CocoReport) -> bool,
    ) -> Store {
        self.captions.sort_by_key(|(picture, _)| *picture); // stable: in the order in which they were added
        let mut entries = Vec::with_capacity(self.pictures.len());
        let mut captions = Vec::with_capacity(self.captions.len());
        let mut rest = self.captions.as_slice();
        for (number, (id, name)) in self.pictures.into_iter().enumerate() {
            let count = rest
                .iter()
                .take_while(|(picture, _)| *picture as usize == number)
                .count();
            let (own, others) = rest.split_at(count);
            rest = others;
            let written = &self.text[name.start..name.start + name.length as usize];
            if !there(written, &mut self.report) {
                continue;
            }
            if own.is_empty() {
                self.report.without_caption += 1;
                self.report.skip("pictures without caption", written);
                continue;
            }
            entries.push(Entry {
                id,
                number: number as u32,
                name,
                captions: captions.len(),
            });
            captions.extend(own.iter().map(|(_, span)| *span));
        }
        entries.shrink_to_fit();
        captions.shrink_to_fit();
        self.text.shrink_to_fit();
        self.report.pictures = entries.len();
        self.report.captions = captions.len();
        Store {
            kind,
            source,
            pictures,
            report: self.report,
            text: self.text,
            entries,
            captions,
            from,
        }
    }
}

/// One line without space at the ends: captions come with trailing newlines and doubled spaces.
pub(super) fn tidy(caption: &str) -> String {
    caption.split_whitespace().collect::<Vec<_>>().join(" ")
}
