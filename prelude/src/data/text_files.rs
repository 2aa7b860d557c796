//! A folder of pictures, each with a text file of the same name beside it.
//!
//! `cat.png` + `cat.txt` (or `.caption`) → a picture with captions, in folders inside too. Tux Paint's stamps are such a folder,
//! with the English text in line 1 and translations behind it; so is what fine-tuning tools for pictures write.

use std::path::{Path, PathBuf};

use super::captions::Captions;
use super::folder::Folder;
use super::store::{Builder, tidy};
use crate::{Error, Result, files};

/// Longest text that is read.
const MOST_BYTES: u64 = 1 << 20;
/// Folders inside of each other that are looked into.
const DEEPEST: usize = 16;
/// What the decoder reads, by the name's ending.
const PICTURES: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "gif", "webp"];
const TEXTS: [&str; 2] = ["txt", "caption"];

/// Which part of a text file is a caption.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("text-lines-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).ok();
/// # std::fs::write(folder.join("cat.png"), Image::filled(64, 64, [200, 30, 40])?.to_png()?).ok();
/// # std::fs::write(folder.join("cat.txt"), "a cat\nan animal").ok();
/// // A folder with cat.png and cat.txt, which has the lines "a cat" and "an animal".
/// assert_eq!(Captions::text_files(&folder)?.captions(0)?, ["a cat"]);
/// assert_eq!(Captions::text_files_with(&folder, TextLines::Each)?.captions(0)?, ["a cat", "an animal"]);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextLines {
    /// The first line.
    #[default]
    First,
    /// Each line is one.
    Each,
    /// All lines together are one.
    All,
}

impl Captions {
    /// Opens a folder of pictures with text files beside them, of which the first line is the caption.
    ///
    /// # Errors
    /// `Input` when no picture is left; `Io`.
    pub fn text_files(root: impl AsRef<Path>) -> Result<Captions> {
        Self::text_files_with(root, TextLines::First)
    }

    /// [`Captions::text_files`] with a choice of lines.
    ///
    /// # Errors
    /// As [`Captions::text_files`].
    pub fn text_files_with(root: impl AsRef<Path>, lines: TextLines) -> Result<Captions> {
        let root = root.as_ref();
        let folder = Folder::read(root)?;
        let mut builder = Builder::default();
        let mut pictures = Vec::new();
        collect(root, &mut PathBuf::new(), &mut pictures, &mut builder)?;
        pictures.sort();
        for picture in pictures {
            read(root, &picture, lines, &mut builder);
        }
        let store = builder.in_folder("TextFiles", root.to_path_buf(), &folder);
        Captions::unless_empty(store, "put a cat.txt beside cat.png")
    }
}

/// Names of pictures below `root/inside`.
fn collect(
    root: &Path,
    inside: &mut PathBuf,
    pictures: &mut Vec<PathBuf>,
    builder: &mut Builder,
) -> Result<()> {
    let path = root.join(&*inside);
    let failed = |source| Error::Io {
        path: path.clone(),
        source,
    };
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = inside.join(entry.file_name());
        let kind = entry.file_type().map_err(failed)?;
        let shown = name.display().to_string();
        if kind.is_dir() {
            if name.components().count() > DEEPEST {
                builder
                    .report
                    .skip(&format!("folders deeper than {DEEPEST}"), &shown);
                continue;
            }
            let mut below = name;
            collect(root, &mut below, pictures, builder)?;
        } else if kind.is_symlink() && entry.path().is_dir() {
            builder
                .report
                .skip("folders that are links, which may lead in a circle", &shown);
        } else if has_ending(&name, &PICTURES) {
            pictures.push(name);
        } else if has_ending(&name, &TEXTS) {
            let alone = PICTURES
                .iter()
                .all(|ending| !with_ending(&entry.path(), ending));
            if alone {
                builder.report.skip("texts without a picture", &shown);
            }
        }
    }
    Ok(())
}

fn has_ending(name: &Path, endings: &[&str]) -> bool {
    let ending = name.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        endings
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}

/// Whether there is a file of this name but with another ending.
fn with_ending(path: &Path, ending: &str) -> bool {
    path.with_extension(ending).exists() || path.with_extension(ending.to_uppercase()).exists()
}

fn read(root: &Path, picture: &Path, lines: TextLines, builder: &mut Builder) {
    let Some(name) = picture.to_str() else {
        return builder.report.skip(
            "pictures whose name is no Unicode",
            &picture.display().to_string(),
        );
    };
    let id = builder.len() as u64;
    let place = builder.picture(id, name);
    let beside = TEXTS
        .iter()
        .map(|ending| root.join(picture).with_extension(ending));
    // Nothing beside it: counted as a picture without caption.
    let Some(path) = beside.into_iter().find(|path| path.exists()) else {
        return;
    };
    let bytes = match files::read(&path, MOST_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => {
            return builder
                .report
                .skip("texts that can't be read", &error.to_string());
        }
    };
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    if std::str::from_utf8(bytes).is_err() {
        builder
            .report
            .repair("texts with bytes that are no UTF-8", name);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut written = text.lines().map(tidy).filter(|line| !line.is_empty());
    match lines {
        TextLines::First => {
            // An empty first line has no caption: those below are of another language.
            let first = tidy(text.lines().next().unwrap_or_default());
            if written.any(|line| line != first) {
                builder
                    .report
                    .repair("texts of which only line 1 is read", name);
            }
            builder.written(place, &first, name);
        }
        TextLines::Each => written.for_each(|line| builder.caption(place, &line)),
        TextLines::All => builder.written(place, &text, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Image;

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn pictures_are_read_with_the_text_beside_them() -> Outcome {
        let root = tempfile::tempdir()?;
        let png = Image::filled(2, 3, [9, 8, 7])?.to_png()?;
        std::fs::create_dir_all(root.path().join("animals/birds"))?;
        for (name, text) in [
            (
                "animals/birds/owl.png",
                Some("An owl. \nes.utf8=Un búho.\n"),
            ),
            ("animals/cat.PNG", Some("\u{feff}A cat\r\n")),
            ("empty.png", Some("\nde.utf8=Leer")),
            ("alone.png", None),
        ] {
            std::fs::write(root.path().join(name), &png)?;
            if let Some(text) = text {
                std::fs::write(root.path().join(name).with_extension("txt"), text)?;
            }
        }
        std::fs::write(root.path().join("no_picture.txt"), "x")?;
        std::fs::write(root.path().join("latin.png"), &png)?;
        std::fs::write(root.path().join("latin.caption"), b"caf\xe9")?;
        #[cfg(unix)]
        std::os::unix::fs::symlink(root.path(), root.path().join("circle"))?;
        let dataset = Captions::text_files(root.path())?;
        let captions: Vec<String> = dataset.all_captions();
        assert_eq!(captions, ["An owl.", "A cat", "caf\u{fffd}"], "{dataset:?}");
        assert_eq!(dataset.sample(0)?.file_name, "animals/birds/owl.png");
        let shown = format!("{dataset:?}");
        for words in [
            "texts without a picture (no_picture.txt)",
            "empty captions (empty.png)",
            "only line 1",
            "no UTF-8",
            "links",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        // Alone, and with an empty first line.
        assert_eq!(dataset.report().without_caption, 2);
        let all = Captions::text_files_with(root.path(), TextLines::Each)?;
        assert_eq!(all.captions(0)?.len(), 2);
        assert_eq!(
            Captions::text_files_with(root.path(), TextLines::All)?.captions(0)?,
            ["An owl. es.utf8=Un búho."]
        );
        let nothing = tempfile::tempdir()?;
        let message = Captions::text_files(nothing.path())
            .map(|_| ())
            .expect_err("empty")
            .to_string();
        assert!(message.contains("cat.txt"), "{message}");
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_a_texts_place_is_left_out() -> Outcome {
        let root = tempfile::tempdir()?;
        for name in ["1", "2"] {
            std::fs::write(
                root.path().join(name).with_extension("png"),
                Image::filled(2, 3, [9, 8, 7])?.to_png()?,
            )?;
        }
        std::fs::write(root.path().join("1.txt"), "one")?;
        let pipe = root.path().join("2.txt");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()?
                .success()
        );
        let dataset = Captions::text_files(root.path())?;
        assert_eq!(dataset.len(), 1);
        assert!(
            format!("{dataset:?}").contains("a named pipe"),
            "{dataset:?}"
        );
        Ok(())
    }
}
