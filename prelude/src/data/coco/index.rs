//! Annotations file and picture folder → the pictures that can be used, with their captions, and the report on the others.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::entry::{self, Caption};
use crate::data::file_name;
use crate::data::folder::Folder;
use crate::data::json::{self, Fault};
use crate::data::store::{Builder, Store};
use crate::{Error, Result, files};

/// Longest annotations file that is read: forty times that of COCO's training part.
const MOST_BYTES: u64 = 4 << 30;

pub(super) fn read(annotations: &Path, pictures: &Path) -> Result<Store> {
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
    let mut builder = Builder::with_capacity(raw_images.len());
    if lists.behind > 0 {
        let example = format!("{} bytes", lists.behind);
        builder.report.repair(
            "texts behind the end of the JSON, which are not read",
            &example,
        );
    }
    let folder = Folder::read(pictures)?;
    let listed = raw_images.len();
    let mut reader = Reader {
        builder,
        place_of: HashMap::with_capacity(listed),
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
    let store = reader
        .builder
        .in_folder("CocoCaptions", annotations.to_path_buf(), &folder);
    if store.len() == 0 {
        return Err(Error::Input(format!(
            "{} lists {listed} pictures, but none of them is usable with the folder {} ({}): check that the two belong \
             together",
            annotations.display(),
            pictures.display(),
            store.report
        )));
    }
    Ok(store)
}

/// Collects what the entries say.
struct Reader {
    builder: Builder,
    /// Which picture has an id; `None` for one that was left out.
    place_of: HashMap<u64, Option<usize>>,
}

impl Reader {
    fn image(&mut self, raw: &[u8], folder: &Folder) {
        let shown = String::from_utf8_lossy(&raw[..raw.len().min(200)]);
        let report = &mut self.builder.report;
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
                let place = self.builder.picture(id, &file.name);
                self.place_of.insert(id, Some(place));
            }
        }
    }

    /// Gives the captions to their pictures; `false` if no entry is a caption at all.
    fn captions(&mut self, raw_captions: &[&[u8]]) -> bool {
        let mut seen = HashSet::with_capacity(raw_captions.len());
        let mut any = raw_captions.is_empty();
        for raw in raw_captions {
            let shown = String::from_utf8_lossy(&raw[..raw.len().min(200)]);
            let report = &mut self.builder.report;
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
            self.builder.caption(place, &text);
        }
        any
    }
}

fn not_captions(path: &Path, why: &str) -> Error {
    Error::Input(format!(
        "{} is not a COCO captions file: {why}; give a file like annotations/captions_train2017.json",
        path.display()
    ))
}
