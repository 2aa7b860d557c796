//! Writes shapes as a COCO-captions folder.
//!
//! ```text
//! folder/train2017/000000000001.jpg …     folder/annotations/captions_train2017.json
//! folder/val2017/001000000001.jpg …       folder/annotations/captions_val2017.json
//! ```
//! Pictures first, annotations last and by rename, so that an annotations file never speaks of pictures that are not
//! there. A folder that already holds the same shapes is left alone; one that holds something else is refused.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CAPTIONS_PER_PICTURE, Shapes, file_name, image_id};
use crate::data::Split;
use crate::session::check_interrupt;
use crate::{Error, Result};

/// High enough that colours keep apart, low enough to be a real JPEG.
const JPEG_QUALITY: u8 = 92;

const DESCRIPTION: &str = "Glassbox shapes, COCO captions format";

impl Shapes {
    /// Writes `train` and `val` pictures with five captions each into `folder`, which is made when missing.
    /// Does nothing for a split that is already there with the same config and number of pictures.
    ///
    /// # Errors
    /// `Input` when the folder holds another dataset; `Io` when it cannot be written; `Interrupted`, with pictures written but no annotations.
    pub fn write_coco(&self, folder: impl AsRef<Path>, train: usize, val: usize) -> Result<()> {
        self.write_split(folder.as_ref(), Split::Train, train)?;
        self.write_split(folder.as_ref(), Split::Val, val)
    }

    fn write_split(&self, folder: &Path, split: Split, count: usize) -> Result<()> {
        let pictures = folder.join(format!("{split}2017"));
        let annotations = folder
            .join("annotations")
            .join(format!("captions_{split}2017.json"));
        let info = self.info(split, count);
        if let Some(found) = info_of(&annotations)? {
            if found == info && all_there(&pictures, split, count) {
                return Ok(());
            }
            if found.get("description").and_then(Value::as_str) != Some(DESCRIPTION) {
                return Err(Error::Input(format!(
                    "{} belongs to another dataset: choose an empty folder for the shapes",
                    annotations.display()
                )));
            }
            fs::remove_file(&annotations).map_err(io_error(&annotations))?;
        }
        fs::create_dir_all(&pictures).map_err(io_error(&pictures))?;
        fs::create_dir_all(folder.join("annotations")).map_err(io_error(folder))?;

        (0..count as u64)
            .into_par_iter()
            .try_for_each(|index| -> Result<()> {
                check_interrupt()?;
                let path = pictures.join(file_name(image_id(split, index)));
                let bytes = self
                    .draw(&self.scene(split, index))?
                    .to_jpeg(JPEG_QUALITY)?;
                fs::write(&path, bytes).map_err(io_error(&path))
            })?;

        let text = self.annotations(split, count, info).to_string();
        crate::files::write_whole(&annotations, text.as_bytes())
    }

    fn info(&self, split: Split, count: usize) -> Value {
        json!({
            "description": DESCRIPTION, "url": "", "version": "1.0", "year": 2026, "contributor": "Glassbox",
            "date_created": "2026/11/23", "split": split, "pictures": count, "config": self.config(),
        })
    }

    fn annotations(&self, split: Split, count: usize, info: Value) -> Value {
        let size = self.config().image_size;
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for index in 0..count as u64 {
            let id = image_id(split, index);
            images.push(json!({ "license": 1, "file_name": file_name(id), "height": size, "width": size, "id": id }));
            for (number, caption) in self.captions(split, index).into_iter().enumerate() {
                let annotation = (id - 1) * CAPTIONS_PER_PICTURE as u64 + number as u64 + 1;
                annotations.push(json!({ "image_id": id, "id": annotation, "caption": caption }));
            }
        }
        let licenses = json!([{ "id": 1, "name": "MIT OR Apache-2.0", "url": "" }]);
        json!({ "info": info, "licenses": licenses, "images": images, "annotations": annotations })
    }
}

/// The `info` of an annotations file, `Null` when the file is not an annotations file, `None` when there is none.
fn info_of(annotations: &Path) -> Result<Option<Value>> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        info: Value,
    }
    match crate::files::bytes(annotations) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice::<Head>(&bytes).map_or(Value::Null, |head| head.info),
        )),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            path: annotations.to_path_buf(),
            source,
        }),
    }
}

fn all_there(pictures: &Path, split: Split, count: usize) -> bool {
    let Ok(entries) = fs::read_dir(pictures) else {
        return false;
    };
    let names: HashSet<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    (0..count as u64)
        .all(|index| names.contains(std::ffi::OsStr::new(&file_name(image_id(split, index)))))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}
