//! Hugging Face's imagefolder: pictures beside a `metadata.jsonl` or `metadata.csv` that has a line for each.
//!
//! `{"file_name": "0001.png", "text": "a cat"}` → a picture with a caption; a list of texts is several captions. A dataset with
//! parts has a folder for each (`train`, `validation`, `test`), with a metadata file in each or one above them.

mod csv;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::Split;
use super::captions::{COLUMNS, Captions, HELD_OUT};
use super::file_name;
use super::folder::Folder;
use super::json::{self, Value, value};
use super::report::CocoReport;
use super::store::Builder;
use crate::{Error, Result, files};

/// Longest metadata file that is read.
const MOST_BYTES: u64 = 4 << 30;
const NAMES: [&str; 2] = ["metadata.jsonl", "metadata.csv"];
/// Other names for the column with the picture's name.
const FILES: [&str; 2] = ["file_name", "image"];

impl Captions {
    /// Opens the part of an imagefolder that trains or is held out: the folder `root/train` or `root/validation` (or what else it
    /// is called), or, where there are no such folders, all of `root`, for training only.
    ///
    /// # Errors
    /// `Input` when there is no metadata file or no picture is left; `Io`.
    pub fn image_folder(root: impl AsRef<Path>, split: Split) -> Result<Captions> {
        let root = root.as_ref();
        let names: &[&str] = match split {
            Split::Train => &["train", "training"],
            Split::Val => &HELD_OUT,
        };
        let bases = [root.to_path_buf(), root.join("data")];
        let part = names
            .iter()
            .flat_map(|name| bases.iter().map(move |base| base.join(name)))
            .find(|path| path.is_dir());
        match (part, split) {
            (Some(part), _) if metadata(&part).is_some() => Self::image_folder_at(part, None),
            // One file above the parts: those of its lines that name this part.
            (Some(part), _) if metadata(root).is_some() => {
                read(root, metadata(root), None, Some(&part))
            }
            (None, Split::Train) => Self::image_folder_at(root, None),
            (part, _) => Err(Error::Input(format!(
                "{} has no {} with a metadata.jsonl or metadata.csv{}: name the folder with Captions::image_folder_at",
                root.display(),
                part.map_or(format!("folder {}", names.join(", ")), |part| part
                    .display()
                    .to_string()),
                files::looked_for_from(root)
            ))),
        }
    }

    /// Opens one folder of pictures with its metadata file. Captions stand in the column `text` or `caption` (or what else is
    /// usual) unless another is named.
    ///
    /// # Errors
    /// As [`Captions::image_folder`].
    pub fn image_folder_at(folder: impl AsRef<Path>, column: Option<&str>) -> Result<Captions> {
        let folder = folder.as_ref();
        read(folder, metadata(folder), column, None)
    }
}

fn metadata(folder: &Path) -> Option<PathBuf> {
    NAMES
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

fn read(
    root: &Path,
    metadata: Option<PathBuf>,
    column: Option<&str>,
    part: Option<&Path>,
) -> Result<Captions> {
    let Some(path) = metadata else {
        return Err(Error::Input(format!(
            "{} holds neither metadata.jsonl nor metadata.csv{}: each picture needs a line like {{\"file_name\": \"0001.png\", \
             \"text\": \"a cat\"}}",
            root.display(),
            files::looked_for_from(root)
        )));
    };
    let bytes = files::read(&path, MOST_BYTES)?;
    let folder = Folder::read(root)?;
    let mut lines = Lines {
        path: &path,
        column,
        part: part.and_then(|part| part.strip_prefix(root).ok()),
        folder,
        builder: Builder::default(),
        seen: Default::default(),
        columns: Vec::new(),
    };
    if path.extension().is_some_and(|ending| ending == "csv") {
        lines.csv(&bytes)?;
    } else {
        lines.jsonl(&bytes)?;
    }
    let columns = lines.columns.join(", ");
    let store = lines
        .builder
        .in_folder("ImageFolder", path.clone(), &lines.folder);
    let what_to_do = format!(
        "its columns are {columns}; captions are taken from {}",
        column.unwrap_or("text or caption")
    );
    Captions::unless_empty(store, &what_to_do)
}

/// Collects what the lines say.
struct Lines<'a> {
    path: &'a Path,
    column: Option<&'a str>,
    /// Only pictures below this folder.
    part: Option<&'a Path>,
    folder: Folder,
    builder: Builder,
    seen: std::collections::HashSet<String>,
    /// Names of the columns, as the first line has them.
    columns: Vec<String>,
}

impl Lines<'_> {
    /// The column with the captions and the one with the file names.
    fn choose(&self) -> Result<(String, String)> {
        let has = |name: &&&str| self.columns.iter().any(|column| column == **name);
        let wrong = |what: &str| {
            Error::Input(format!(
                "{} has no column {what}; it has {}",
                self.path.display(),
                self.columns.join(", ")
            ))
        };
        let file = FILES.iter().find(has).ok_or_else(|| wrong("file_name"))?;
        let caption = match self.column {
            Some(column) if has(&&column) => column,
            Some(column) => return Err(wrong(&format!("{column:?}"))),
            None => COLUMNS.iter().find(has).ok_or_else(|| {
                wrong("text or caption: name the one with the captions, as in Captions::image_folder_at(folder, Some(\"label\"))")
            })?,
        };
        Ok((caption.to_string(), file.to_string()))
    }

    fn jsonl(&mut self, bytes: &[u8]) -> Result<()> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let lines = || {
            bytes
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty())
        };
        // The first line that is an object tells the columns.
        self.columns = lines()
            .map(json::names)
            .find(|names| !names.is_empty())
            .unwrap_or_default();
        let (caption, file) = self.choose()?;
        for line in lines() {
            let shown = String::from_utf8_lossy(&line[..line.len().min(200)]);
            let Some([name, text]) = json::raw_fields(line, [file.as_str(), caption.as_str()])
            else {
                self.builder
                    .report
                    .skip("lines that are no JSON object", &shown);
                continue;
            };
            match name.map_or(Value::Missing, value) {
                Value::Text(name, _) => {
                    if let Some(place) = self.picture(&name) {
                        self.captions(place, text, &shown);
                    }
                }
                name => {
                    let kind = format!("lines with a {file} that is {}", name.words());
                    self.builder.report.skip(&kind, &shown);
                }
            }
        }
        Ok(())
    }

    fn captions(&mut self, place: usize, raw: Option<&[u8]>, shown: &str) {
        let texts = match raw.map_or(Value::Missing, value) {
            Value::List => json::elements(raw.unwrap_or_default())
                .unwrap_or_default()
                .into_iter()
                .map(value)
                .collect(),
            one => vec![one],
        };
        for text in texts {
            match text {
                Value::Text(text, repaired) => {
                    if repaired {
                        self.builder
                            .report
                            .repair("captions with characters that are no Unicode", shown);
                    }
                    self.builder.written(place, &text, shown);
                }
                Value::Null => self.builder.written(place, "", shown),
                other => self
                    .builder
                    .report
                    .skip(&format!("captions that are {}", other.words()), shown),
            }
        }
    }

    fn csv(&mut self, bytes: &[u8]) -> Result<()> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
        if matches!(text, Cow::Owned(_)) {
            self.builder.report.repair(
                "files with bytes that are no UTF-8",
                &self.path.display().to_string(),
            );
        }
        let mut rows = csv::rows(&text).into_iter();
        self.columns = rows
            .next()
            .unwrap_or_default()
            .iter()
            .map(|name| name.trim().to_string())
            .collect();
        let (caption, file) = self.choose()?;
        let at = |name: &str| {
            self.columns
                .iter()
                .position(|column| column == name)
                .unwrap_or(0)
        };
        let (caption, file, columns) = (at(&caption), at(&file), self.columns.len());
        for row in rows {
            let shown = row.join(",");
            match (row.get(file), row.get(caption)) {
                (Some(name), Some(text)) if row.len() == columns => {
                    if let Some(place) = self.picture(name) {
                        self.builder.written(place, text, &shown);
                    }
                }
                _ => self.builder.report.skip(
                    "lines with another number of fields than the heading",
                    &shown,
                ),
            }
        }
        Ok(())
    }

    /// Adds the picture of a name, unless it is to be left out.
    fn picture(&mut self, raw: &str) -> Option<usize> {
        let report: &mut CocoReport = &mut self.builder.report;
        let file = match file_name::resolve(raw, &self.folder.path, &|name| self.folder.has(name)) {
            Ok(file) => file,
            Err(kind) => {
                report.skip(kind, raw);
                return None;
            }
        };
        if self
            .part
            .is_some_and(|part| !Path::new(&file.name).starts_with(part))
        {
            return None; // of another part
        }
        if let Some(kind) = file.repaired {
            report.repair(kind, raw);
        }
        if !self.seen.insert(file.name.clone()) {
            report.skip("repeated file names", raw);
            return None;
        }
        let id = self.builder.len() as u64;
        Some(self.builder.picture(id, &file.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Image;

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    fn folder(
        pictures: &[&str],
    ) -> std::result::Result<tempfile::TempDir, Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        for name in pictures {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().ok_or("a folder")?)?;
            std::fs::write(path, Image::filled(2, 3, [9, 8, 7])?.to_png()?)?;
        }
        Ok(root)
    }

    fn complaint(result: Result<Captions>) -> String {
        match result {
            Ok(dataset) => format!("opened {dataset:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn json_lines_with_one_or_several_captions() -> Outcome {
        let root = folder(&["train/1.png", "train/sub/2.png", "validation/3.png"])?;
        let lines = r#"{"file_name": "1.png", "text": "one ", "other": 3}
{"file_name": "sub/2.png", "text": ["two", "", "zwei", 5]}

{"file_name": "1.png", "text": "again"}
{"file_name": "../validation/3.png", "text": "out"}
{"file_name": "gone.png", "text": "gone"}
{"file_name": 7, "text": "seven"}
not json
"#;
        std::fs::write(root.path().join("train/metadata.jsonl"), lines)?;
        std::fs::write(
            root.path().join("validation/metadata.jsonl"),
            "{\"file_name\": \"3.png\", \"caption\": \"three\"}",
        )?;
        let train = Captions::image_folder(root.path(), Split::Train)?;
        assert_eq!(train.all_captions(), ["one", "two", "zwei"], "{train:?}");
        let shown = format!("{train:?}");
        for words in [
            "repeated file names",
            "does not stay inside",
            "missing pictures",
            "file_name that is a number",
            "no JSON object",
            "captions that are a number",
            "empty captions",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        let val = Captions::image_folder(root.path(), Split::Val)?;
        assert_eq!(val.sample(0)?.captions, ["three"]);
        Ok(())
    }

    #[test]
    fn csv_and_one_file_above_the_parts() -> Outcome {
        let root = folder(&["train/1.png", "test/2.png"])?;
        let text = "file_name,text,label\ntrain/1.png,\"one, uno\",0\ntest/2.png,two,1\ntest/2.png,short\n";
        std::fs::write(root.path().join("metadata.csv"), text)?;
        let train = Captions::image_folder(root.path(), Split::Train)?;
        assert_eq!(
            (train.len(), train.captions(0)?),
            (1, vec!["one, uno".to_string()])
        );
        let val = Captions::image_folder(root.path(), Split::Val)?;
        assert_eq!(val.all_captions(), ["two"]);
        assert!(format!("{val:?}").contains("another number of fields"));
        let labels = Captions::image_folder_at(root.path(), Some("label"))?;
        assert_eq!(labels.all_captions(), ["0", "1"]);
        let message = complaint(Captions::image_folder_at(root.path(), Some("title")));
        assert!(
            message.contains("no column \"title\"") && message.contains("file_name, text, label"),
            "{message}"
        );
        Ok(())
    }

    #[test]
    fn a_folder_that_is_none_says_what_it_lacks() -> Outcome {
        let root = folder(&["1.png"])?;
        assert!(
            complaint(Captions::image_folder(root.path(), Split::Train))
                .contains("neither metadata.jsonl")
        );
        assert!(
            complaint(Captions::image_folder(root.path(), Split::Val))
                .contains("no folder validation")
        );
        std::fs::write(
            root.path().join("metadata.jsonl"),
            "{\"file_name\": \"1.png\", \"kind\": \"cat\"}\n",
        )?;
        let message = complaint(Captions::image_folder(root.path(), Split::Train));
        assert!(
            message.contains("Some(\"label\")") && message.contains("file_name, kind"),
            "{message}"
        );
        Ok(())
    }
}
