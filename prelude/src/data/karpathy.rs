//! Karpathy's splits of COCO 2014: `dataset_coco.json`, which papers on captions report on.
//!
//! One file names every picture's folder (`train2014`, `val2014`), its split (`train`, `restval`, `val`, `test`) and its
//! sentences. The pictures lie as COCO 2014 has them.

use std::collections::BTreeMap;
use std::path::Path;

use super::captions::Captions;
use super::coco::number;
use super::file_name;
use super::folder::Folder;
use super::json::{self, Fault, Value};
use super::store::Builder;
use crate::{Error, Result, files};

/// Longest file that is read: ten times that of COCO.
const MOST_BYTES: u64 = 2 << 30;

impl Captions {
    /// Opens Karpathy's split file over the folder that holds `train2014/` and `val2014/`. Splits are `train`, `restval`, `val`
    /// and `test`; papers train on `train+restval`.
    ///
    /// # Errors
    /// `Input` for a split that the file does not have, naming those that it has, or when no picture is left; `Json`; `Io`.
    pub fn karpathy(
        split_file: impl AsRef<Path>,
        pictures: impl AsRef<Path>,
        splits: &str,
    ) -> Result<Captions> {
        let (path, pictures) = (split_file.as_ref(), pictures.as_ref());
        let bytes = files::read(path, MOST_BYTES)?;
        let lists = json::lists(&bytes).map_err(|fault| match fault {
            Fault::Json(source) => Error::Json {
                path: path.to_path_buf(),
                source,
            },
            Fault::Kind(words) => not_a_split_file(path, &words),
        })?;
        if lists.annotations.is_some() {
            return Err(not_a_split_file(
                path,
                "it has \"annotations\", as a file of COCO: open it with CocoCaptions::open",
            ));
        }
        let images = lists
            .images
            .ok_or_else(|| not_a_split_file(path, "it has no \"images\""))?;
        let wanted: Vec<&str> = splits
            .split('+')
            .map(str::trim)
            .filter(|split| !split.is_empty())
            .collect();
        let folder = Folder::read(pictures)?;
        let mut reader = Reader {
            builder: Builder::with_capacity(images.len()),
            found: BTreeMap::new(),
            seen: Default::default(),
        };
        for raw in &images {
            reader.image(raw, &wanted, &folder);
        }
        let found = &reader.found;
        if let Some(unknown) = wanted
            .iter()
            .find(|split| !found.contains_key(**split))
            .or(wanted.is_empty().then_some(&""))
        {
            let known: Vec<String> = found
                .iter()
                .map(|(name, count)| format!("{name} ({count})"))
                .collect();
            return Err(match known.is_empty() {
                true => not_a_split_file(path, "its pictures have no \"split\" and \"sentences\""),
                false => Error::Input(format!(
                    "{} has no split {unknown:?}; it has {}; several are joined as in \"train+restval\"",
                    path.display(),
                    known.join(", ")
                )),
            });
        }
        let store = reader
            .builder
            .in_folder("Karpathy", path.to_path_buf(), &folder);
        Captions::unless_empty(
            store,
            "give the folder that holds train2014/ and val2014/ beside the split file",
        )
    }
}

struct Reader {
    builder: Builder,
    /// How many pictures each split has.
    found: BTreeMap<String, usize>,
    seen: std::collections::HashSet<u64>,
}

impl Reader {
    fn image(&mut self, raw: &[u8], wanted: &[&str], folder: &Folder) {
        let shown = String::from_utf8_lossy(&raw[..raw.len().min(200)]);
        let report = &mut self.builder.report;
        let Some([split, name, subfolder, cocoid, imgid]) =
            json::fields(raw, ["split", "filename", "filepath", "cocoid", "imgid"])
        else {
            return report.skip("pictures that are no JSON object", &shown);
        };
        let Value::Text(split, _) = split else {
            return report.skip(
                &format!("pictures with a split that is {}", split.words()),
                &shown,
            );
        };
        *self.found.entry(split.to_string()).or_default() += 1;
        if !wanted.contains(&&*split) {
            return;
        }
        // Flickr8k and Flickr30k have no cocoid.
        let id = match cocoid {
            Value::Missing => number(&imgid),
            _ => number(&cocoid),
        };
        let (id, odd) = match id {
            Ok(id) => id,
            Err(kind) => return report.skip(&format!("pictures with an id {kind}"), &shown),
        };
        if !self.seen.insert(id) {
            report.repeated_picture_ids += 1;
            return report.skip("repeated picture ids", &id.to_string());
        }
        let Value::Text(name, _) = name else {
            return report.skip(
                &format!("pictures with a file name that is {}", name.words()),
                &shown,
            );
        };
        let name = match &subfolder {
            Value::Text(subfolder, _) if !subfolder.is_empty() => format!("{subfolder}/{name}"),
            _ => name.into_owned(),
        };
        let file = match file_name::resolve(&name, &folder.path, &|name| folder.has(name)) {
            Ok(file) => file,
            Err(kind) => return report.skip(kind, &name),
        };
        if let Some(kind) = odd {
            report.repair(&format!("picture {kind}"), &shown);
        }
        if let Some(kind) = file.repaired {
            report.repair(kind, &name);
        }
        let picture = self.builder.picture(id, &file.name);
        self.sentences(raw, picture, &shown);
    }

    fn sentences(&mut self, raw: &[u8], picture: usize, shown: &str) {
        let sentences =
            json::raw_fields(raw, ["sentences"]).and_then(|[list]| json::elements(list?));
        let Some(sentences) = sentences else {
            return self
                .builder
                .report
                .skip("pictures whose sentences are no list", shown);
        };
        for raw in sentences {
            let shown = String::from_utf8_lossy(&raw[..raw.len().min(200)]);
            match json::fields(raw, ["raw"]) {
                Some([Value::Text(text, repaired)]) => {
                    if repaired {
                        self.builder
                            .report
                            .repair("captions with characters that are no Unicode", &shown);
                    }
                    self.builder.written(picture, &text, &shown);
                }
                Some([other]) => {
                    let kind = format!("sentences whose \"raw\" is {}", other.words());
                    self.builder.report.skip(&kind, &shown);
                }
                None => self
                    .builder
                    .report
                    .skip("sentences that are no JSON object", &shown),
            }
        }
    }
}

fn not_a_split_file(path: &Path, why: &str) -> Error {
    Error::Input(format!(
        "{} is not a file of Karpathy's splits: {why}; give a file like dataset_coco.json",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Image;

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    fn folder(images: &str) -> std::result::Result<tempfile::TempDir, Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        for part in ["train2014", "val2014"] {
            std::fs::create_dir(root.path().join(part))?;
            std::fs::write(
                root.path().join(part).join("1.png"),
                Image::filled(2, 3, [9, 8, 7])?.to_png()?,
            )?;
        }
        std::fs::write(root.path().join("dataset_coco.json"), images)?;
        Ok(root)
    }

    fn open(root: &Path, splits: &str) -> Result<Captions> {
        Captions::karpathy(root.join("dataset_coco.json"), root, splits)
    }

    #[test]
    fn pictures_of_two_folders_come_by_split() -> Outcome {
        let root = folder(
            r#"{"images": [
            {"filepath": "train2014", "filename": "1.png", "cocoid": 7, "imgid": 0, "split": "train", "sentids": [1],
             "sentences": [{"tokens": ["a", "cat"], "raw": "A cat. ", "imgid": 0, "sentid": 1}, {"raw": ""}, {"raw": 5}, 3]},
            {"filepath": "val2014", "filename": "1.png", "cocoid": "8", "split": "restval", "sentences": [{"raw": "B"}]},
            {"filepath": "val2014", "filename": "2.png", "cocoid": 9, "split": "test", "sentences": [{"raw": "gone"}]},
            {"filepath": "val2014", "filename": "1.png", "cocoid": 11, "split": "val", "sentences": [{"raw": "C"}]},
            {"filepath": "../val2014", "filename": "1.png", "cocoid": 10, "split": "val", "sentences": [{"raw": "out"}]},
            {"filepath": "val2014", "filename": "1.png", "cocoid": 12, "split": "val", "sentences": 4}
            ], "dataset": "coco"}"#,
        )?;
        let train = open(root.path(), "train")?;
        assert_eq!(
            (train.len(), train.captions(0)?),
            (1, vec!["A cat.".to_string()])
        );
        assert_eq!(train.report().skipped_count(), 3, "{train:?}");
        let both = open(root.path(), "train + restval")?;
        assert_eq!((both.len(), both.sample(1)?.image_id), (2, 8));
        assert!(both.picture_path(1)?.ends_with("val2014/1.png"));
        let val = open(root.path(), "val")?;
        assert_eq!(val.len(), 1);
        assert!(
            format!("{val:?}").contains("does not stay inside")
                && format!("{val:?}").contains("no list"),
            "{val:?}"
        );
        let message = open(root.path(), "test")
            .map(|_| ())
            .expect_err("its picture is gone")
            .to_string();
        assert!(
            message.contains("missing pictures") && message.contains("train2014/"),
            "{message}"
        );
        for wrong in ["dev", "", "train+dev"] {
            let message = open(root.path(), wrong)
                .map(|_| ())
                .expect_err(wrong)
                .to_string();
            assert!(message.contains("restval (1)"), "{message}");
        }
        Ok(())
    }

    #[test]
    fn other_files_of_coco_say_what_they_are() -> Outcome {
        for (text, words) in [
            (r#"{"images": [], "annotations": []}"#, "CocoCaptions::open"),
            (
                r#"{"images": [{"id": 1, "file_name": "1.png"}]}"#,
                "no \"split\"",
            ),
            ("[]", "top level is a list"),
            ("{", "not valid"),
        ] {
            let root = folder(text)?;
            let message = open(root.path(), "train")
                .map(|_| ())
                .expect_err(text)
                .to_string();
            assert!(message.contains(words), "{text}: {message}");
        }
        Ok(())
    }
}
