//! Annotations file and picture folder → the pictures that can be used, with their captions, and the report on the others.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::entry::{self, Caption};
use super::file_name;
use super::json::{self, Fault};
use super::report::CocoReport;
use crate::{Error, Result, files};

/// Longest annotations file that is read: forty times that of COCO's training part.
const MOST_BYTES: u64 = 4 << 30;

/// An opened dataset.
pub(super) struct Index {
    pub annotations: PathBuf,
    pub pictures: PathBuf,
    pub entries: Vec<Entry>,
    pub report: CocoReport,
}

/// A picture with its captions.
pub(super) struct Entry {
    pub image_id: u64,
    pub file_name: String,
    pub captions: Vec<String>,
}

impl Index {
    pub(super) fn read(annotations: &Path, pictures: &Path) -> Result<Index> {
        let bytes = files::read(annotations, MOST_BYTES)?;
        let lists = json::lists(&bytes).map_err(|fault| match fault {
            Fault::Json(source) => Error::Json {
                path: annotations.to_path_buf(),
                source,
            },
            Fault::Kind(words) => not_captions(annotations, &words),
        })?;
        let (Some(raw_images), Some(raw_captions)) = (lists.images, lists.annotations) else {
            return Err(not_captions(
                annotations,
                "it has no \"images\" and \"annotations\" lists",
            ));
        };
        let mut report = CocoReport::default();
        if lists.behind > 0 {
            let example = format!("{} bytes", lists.behind);
            report.repair(
                "texts behind the end of the JSON, which are not read",
                &example,
            );
        }
        let folder = Folder::read(pictures)?;
        let listed = raw_images.len();
        let mut reader = Reader {
            entries: Vec::with_capacity(listed),
            place_of: HashMap::with_capacity(listed),
            report,
        };
        for raw in raw_images {
            reader.image(raw, &folder);
        }
        if !reader.captions(&raw_captions) {
            return Err(not_captions(
                annotations,
                "its annotations have no \"caption\", as in an instances file",
            ));
        }
        let (entries, report) = reader.finish(&folder);
        if entries.is_empty() {
            return Err(Error::Input(format!(
                "{} lists {listed} pictures, but none of them is usable with the folder {} ({report}): check that the \
                 two belong together",
                annotations.display(),
                pictures.display()
            )));
        }
        Ok(Index {
            annotations: annotations.to_path_buf(),
            pictures: pictures.to_path_buf(),
            entries,
            report,
        })
    }
}

/// What lies in the picture folder: its files were listed once, those of folders inside are asked for.
struct Folder {
    path: PathBuf,
    files: HashSet<OsString>,
}

impl Folder {
    fn read(path: &Path) -> Result<Folder> {
        let listed = std::fs::read_dir(path).map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })?;
        // A link is what it leads to, which is asked for when the name comes up.
        let plain = listed
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        Ok(Folder {
            path: path.to_path_buf(),
            files: plain.map(|entry| entry.file_name()).collect(),
        })
    }

    /// Whether there is a file of this name.
    fn has(&self, name: &str) -> bool {
        self.files.contains(std::ffi::OsStr::new(name)) || self.path.join(name).is_file()
    }
}

/// Collects what the entries say.
struct Reader {
    entries: Vec<Entry>,
    /// Where the picture of an id is; `None` for one that was left out.
    place_of: HashMap<u64, Option<usize>>,
    report: CocoReport,
}

impl Reader {
    fn image(&mut self, raw: &[u8], folder: &Folder) {
        let shown = String::from_utf8_lossy(&raw[..raw.len().min(200)]);
        let report = &mut self.report;
        let Some(image) = entry::image(raw) else {
            return report.skip("pictures that are no JSON object", &shown);
        };
        let (id, odd) = match image.id {
            Ok(id) => id,
            Err(kind) => return report.skip(&format!("pictures with an id {kind}"), &shown),
        };
        if let Some(Some(_)) = self.place_of.get(&id) {
            report.repeated_picture_ids += 1;
            return report.skip("repeated picture ids", &id.to_string());
        }
        self.place_of.insert(id, None);
        let raw_name = match image.file_name {
            Ok(name) => name,
            Err(kind) => {
                return report.skip(&format!("pictures with a file name {kind}"), &shown);
            }
        };
        match file_name::resolve(&raw_name, &folder.path, &|name| folder.has(name)) {
            Err(kind) => report.skip(kind, &raw_name),
            Ok(file) => {
                if let Some(kind) = odd {
                    report.repair(&format!("picture {kind}"), &shown);
                }
                if let Some(kind) = file.repaired {
                    report.repair(kind, &raw_name);
                }
                self.place_of.insert(id, Some(self.entries.len()));
                self.entries.push(Entry {
                    image_id: id,
                    file_name: file.name,
                    captions: Vec::new(),
                });
            }
        }
    }

    /// Gives the captions to their pictures; `false` if no entry is a caption at all.
    fn captions(&mut self, raw_captions: &[&[u8]]) -> bool {
        let mut seen = HashSet::with_capacity(raw_captions.len());
        let mut any = raw_captions.is_empty();
        for raw in raw_captions {
            let shown = String::from_utf8_lossy(&raw[..raw.len().min(200)]);
            let report = &mut self.report;
            let Some(caption) = entry::caption(raw) else {
                report.skip("captions that are no JSON object", &shown);
                any = true;
                continue;
            };
            any |= !matches!(caption.caption, Caption::Missing);
            if let Ok((id, _)) = caption.id
                && !seen.insert(id)
            {
                report.repeated_caption_ids += 1;
                report.skip("repeated caption ids", &id.to_string());
                continue;
            }
            let (image_id, odd) = match caption.image_id {
                Ok(id) => id,
                Err(kind) => {
                    report.skip(&format!("captions with an image_id {kind}"), &shown);
                    continue;
                }
            };
            let Some(place) = self.place_of.get(&image_id) else {
                report.orphan_captions += 1;
                report.skip("captions of unknown pictures", &shown);
                continue;
            };
            let Some(place) = *place else {
                report.skip("captions of pictures that were left out", &shown);
                continue;
            };
            let text = match caption.caption {
                Caption::Text(text, repaired) => {
                    if repaired {
                        report.repair("captions with characters that are no Unicode", &shown);
                    }
                    text
                }
                Caption::Empty => {
                    report.empty_captions += 1;
                    report.skip("empty captions", &shown);
                    continue;
                }
                Caption::Missing => {
                    report.skip("annotations without a caption", &shown);
                    continue;
                }
                Caption::Other(what) => {
                    report.skip(&format!("captions that are {what}"), &shown);
                    continue;
                }
            };
            match caption.id {
                Ok((_, Some(kind))) => report.repair(&format!("caption {kind}"), &shown),
                Err(kind) if kind != "missing" => {
                    report.repair(&format!("captions with an id of their own {kind}"), &shown);
                }
                _ => {}
            }
            if let Some(kind) = odd {
                report.repair(&format!("captions' picture {kind}"), &shown);
            }
            self.entries[place].captions.push(text);
        }
        any
    }

    /// Takes out what has no file or no caption.
    fn finish(mut self, folder: &Folder) -> (Vec<Entry>, CocoReport) {
        let report = &mut self.report;
        self.entries.retain(|entry| {
            if !folder.has(&entry.file_name) {
                let path = folder.path.join(&entry.file_name);
                match std::fs::metadata(&path) {
                    Ok(about) => {
                        let kind = files::kind(about.file_type());
                        report.skip(
                            &format!("pictures in whose place is {kind}"),
                            &entry.file_name,
                        );
                    }
                    Err(_) => {
                        report.missing_pictures += 1;
                        report.skip("missing pictures", &entry.file_name);
                    }
                }
                return false;
            }
            if entry.captions.is_empty() {
                report.without_caption += 1;
                report.skip("pictures without caption", &entry.file_name);
                return false;
            }
            true
        });
        report.pictures = self.entries.len();
        report.captions = self.entries.iter().map(|entry| entry.captions.len()).sum();
        (self.entries, self.report)
    }
}

fn not_captions(path: &Path, why: &str) -> Error {
    Error::Input(format!(
        "{} is not a COCO captions file: {why}; give a file like annotations/captions_train2017.json",
        path.display()
    ))
}
