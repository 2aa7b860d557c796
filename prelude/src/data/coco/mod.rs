//! Reads a COCO-captions folder, the real one and those of [`super::Shapes`].
//!
//! annotations JSON + picture folder → index of pictures with captions → [`Sample`](super::Sample), decoded when asked for.
//! What real copies of COCO hold and a trainer can't use (missing pictures, captions of unknown pictures, empty
//! captions, repeated ids, fields of another type) is left out at opening and counted by its kind in a [`CocoReport`](super::CocoReport).
//! One bad entry never costs the file.
//!
//! # Layout
//! - `entry`: what the fields of the file's entries mean; `index`: all of them together; `instances`: the file of boxes

mod entry;
mod index;
pub(crate) mod instances;

use std::path::Path;

use super::Split;
use super::captions::Captions;
use crate::{Error, Result, files};

pub(super) use entry::number;

/// Years of COCO, the more common first.
const YEARS: [&str; 2] = ["2017", "2014"];

/// Pictures with captions; COCO's is where the name is from.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("coco-captions-{}", std::process::id()));
/// # let folder = folder.as_path();
/// Shapes::new(ShapesConfig::default())?.write_coco(folder, 3, 2)?; // a folder as COCO's, with drawn pictures
/// let set = CocoCaptions::open(folder, Split::Train)?;
/// assert_eq!(set.len(), 3);
/// assert_eq!(set.captions(0)?.len(), 5);
/// assert_eq!(set.sample(0)?.captions, set.captions(0)?);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub type CocoCaptions = Captions;

impl Captions {
    /// Opens `root/annotations/captions_{train|val}{2017|2014}.json` and `root/{train|val}{2017|2014}/`.
    ///
    /// # Errors
    /// `Input` when the files are not where COCO has them, the JSON is not a captions file, or no picture is left;
    /// `Json` when it is cut off or malformed; `Io`.
    pub fn open(root: impl AsRef<Path>, split: Split) -> Result<Captions> {
        let root = root.as_ref();
        let annotations_of = |year: &str| {
            root.join("annotations")
                .join(format!("captions_{split}{year}.json"))
        };
        match YEARS
            .into_iter()
            .find(|year| annotations_of(year).is_file())
        {
            Some(year) => {
                Self::from_files(annotations_of(year), root.join(format!("{split}{year}")))
            }
            None => Err(Error::Input(format!(
                "{} is not there{}: give the folder that holds annotations/ and {split}2017/, or name the two with \
                 CocoCaptions::from_files",
                annotations_of(YEARS[0]).display(),
                files::looked_for_from(root)
            ))),
        }
    }

    /// Opens a COCO annotations file and a folder of pictures that lie anywhere.
    ///
    /// # Errors
    /// As [`Captions::open`].
    pub fn from_files(
        annotations: impl AsRef<Path>,
        pictures: impl AsRef<Path>,
    ) -> Result<Captions> {
        index::read(annotations.as_ref(), pictures.as_ref()).map(Captions::of)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::{CocoFinding, CocoReport, SceneAttributes, Shapes, ShapesConfig};
    use crate::vision::Image;
    use serde_json::{Value, json};

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    /// A folder with two tiny pictures, 1.png and 2.png, and the given annotations file.
    fn folder(
        annotations: &str,
    ) -> std::result::Result<tempfile::TempDir, Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        fs::create_dir_all(root.path().join("annotations"))?;
        fs::create_dir_all(root.path().join("val2017"))?;
        for name in ["1.png", "2.png"] {
            fs::write(
                root.path().join("val2017").join(name),
                Image::filled(2, 3, [9, 8, 7])?.to_png()?,
            )?;
        }
        fs::write(
            root.path().join("annotations/captions_val2017.json"),
            annotations,
        )?;
        Ok(root)
    }

    fn images() -> Value {
        json!([{ "id": 1, "file_name": "1.png" }, { "id": 2, "file_name": "2.png" }])
    }

    fn complaint(annotations: &str) -> std::result::Result<String, Box<dyn std::error::Error>> {
        let root = folder(annotations)?;
        match CocoCaptions::open(root.path(), Split::Val) {
            Ok(dataset) => Err(format!("opened: {dataset:?}").into()),
            Err(error) => Ok(error.to_string()),
        }
    }

    #[test]
    fn shapes_come_back_as_they_were_drawn() -> Outcome {
        let root = tempfile::tempdir()?;
        let shapes = Shapes::new(ShapesConfig {
            seed: 7,
            ..ShapesConfig::default()
        })?;
        shapes.write_coco(root.path(), 12, 5)?;
        assert!(root.path().join("train2017/000000000001.jpg").is_file());
        for (split, count) in [(Split::Train, 12), (Split::Val, 5)] {
            let dataset = CocoCaptions::open(root.path(), split)?;
            assert_eq!(
                dataset.report(),
                CocoReport {
                    pictures: count,
                    captions: count * 5,
                    ..CocoReport::default()
                }
            );
            for index in 0..count {
                let (read, drawn) = (dataset.sample(index)?, shapes.sample(split, index as u64)?);
                assert_eq!(
                    (read.image_id, &read.file_name),
                    (drawn.image_id, &drawn.file_name)
                );
                assert_eq!(read.captions, drawn.captions);
                let truth = SceneAttributes::from_scene(&shapes.scene(split, index as u64));
                assert!(
                    read.captions
                        .iter()
                        .all(|caption| SceneAttributes::from_caption(caption) == truth)
                );
                let difference: i64 = read
                    .image
                    .rgb()
                    .iter()
                    .zip(drawn.image.rgb().iter())
                    .map(|(one, other)| i64::from(one.abs_diff(*other)))
                    .sum();
                let mean = difference as f64 / drawn.image.rgb().len() as f64;
                assert!(
                    mean < 3.0,
                    "JPEG moved picture {index} by {mean} levels on average"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes_and_a_second_write_does_nothing() -> Outcome {
        let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let shapes = Shapes::new(ShapesConfig::default())?;
        for root in [&one, &other] {
            shapes.write_coco(root.path(), 3, 2)?;
        }
        for name in [
            "annotations/captions_train2017.json",
            "train2017/000000000003.jpg",
            "val2017/001000000002.jpg",
        ] {
            assert_eq!(
                fs::read(one.path().join(name))?,
                fs::read(other.path().join(name))?,
                "{name}"
            );
        }
        let picture = one.path().join("train2017/000000000001.jpg");
        let before = fs::metadata(&picture)?.modified()?;
        shapes.write_coco(one.path(), 3, 2)?;
        assert_eq!(fs::metadata(&picture)?.modified()?, before, "nothing to do");
        fs::remove_file(&picture)?;
        shapes.write_coco(one.path(), 3, 2)?;
        assert!(picture.is_file(), "a lost picture is drawn again");
        Ok(())
    }

    #[test]
    fn another_dataset_is_not_overwritten() -> Outcome {
        let root = folder("{\"info\": {\"description\": \"COCO 2017 Dataset\"}}")?;
        let message = Shapes::new(ShapesConfig::default())?
            .write_coco(root.path(), 1, 1)
            .map_err(|e| e.to_string());
        assert!(message.is_err_and(|message| message.contains("another dataset")));
        assert!(
            fs::read_to_string(root.path().join("annotations/captions_val2017.json"))?
                .contains("COCO 2017")
        );
        Ok(())
    }

    #[test]
    fn faults_of_real_copies_are_left_out_and_counted() -> Outcome {
        let annotations = json!({
            "images": [
                { "id": 1, "file_name": "1.png" }, { "id": 2, "file_name": "2.png" }, { "id": 1, "file_name": "2.png" },
                { "id": 3, "file_name": "gone.png" },
            ],
            "annotations": [
                { "id": 1, "image_id": 1, "caption": "A cat\u{a0}on  a mat.\n" },
                { "id": 2, "image_id": 1, "caption": " \n" },
                { "id": 1, "image_id": 1, "caption": "said before" },
                { "id": 3, "image_id": 99, "caption": "of nothing" },
                { "id": 4, "image_id": 3, "caption": "of a lost picture" },
                { "id": 5, "image_id": 1, "caption": "Кошка 🐈 and naïve" },
                { "id": 6, "image_id": 2, "caption": null },
            ],
        });
        let root = folder(&annotations.to_string())?;
        let dataset = CocoCaptions::open(root.path(), Split::Val)?;
        let expected = CocoReport {
            pictures: 1,
            captions: 2,
            missing_pictures: 1,
            without_caption: 1,
            repeated_picture_ids: 1,
            repeated_caption_ids: 1,
            orphan_captions: 1,
            empty_captions: 2,
            repaired: Vec::new(),
            skipped: dataset.report().skipped,
        };
        assert_eq!(dataset.report(), expected);
        assert_eq!(dataset.report().skipped_count(), 7);
        let sample = dataset.sample(0)?;
        assert_eq!(sample.captions, ["A cat on a mat.", "Кошка 🐈 and naïve"]);
        assert_eq!((sample.image.width(), sample.image.height()), (2, 3));
        assert!(
            dataset
                .sample(1)
                .map_err(|e| e.to_string())
                .is_err_and(|message| message.contains("choose 0 to 0"))
        );
        Ok(())
    }

    /// How often each kind was found.
    fn counts(findings: &[CocoFinding]) -> Vec<(&str, usize)> {
        let counts = findings.iter();
        counts
            .map(|finding| (finding.kind.as_str(), finding.count))
            .collect()
    }

    #[test]
    fn one_bad_entry_costs_itself_and_is_counted_by_its_kind() -> Outcome {
        let annotations = r#"{ "info": {"year": NaN}, "images": [
            {"id": 1, "file_name": "1.png"},
            {"id": "2", "file_name": "./2.png"},
            {"id": null, "file_name": "1.png"}, {"id": 1e30, "file_name": "1.png"}, {"file_name": "1.png"},
            {"id": 5, "file_name": "/abs/1.png"}, {"id": 6, "file_name": "../img/1.png"},
            {"id": 7, "file_name": "images\\1.png"}, {"id": 8, "file_name": 1}, {"id": 9, "file_name": ""},
            {"id": 10, "file_name": "https://x.org/1.png"}, {"id": 11}, 12, {"id": }
        ], "annotations": [
            {"id": 1, "image_id": "1", "caption": "text for a number"},
            {"id": 2.0, "image_id": 1.0, "caption": "a fraction"},
            {"id": "x", "image_id": 2, "caption": "an own id of no use"},
            {"id": NaN, "image_id": 2, "caption": "half a pair \ud83d"},
            {"id": 5, "image_id": 1, "caption": NaN},
            {"id": 6, "image_id": 1, "caption": ["a", "list"]},
            {"id": 7, "image_id": 1, "caption": 7},
            {"id": 8, "image_id": 1},
            {"id": 9, "image_id": 1, "caption": null},
            {"id": 10, "image_id": {"$oid": 1}, "caption": "of an object"},
            {"id": 11, "image_id": 1.5, "caption": "of a half"},
            {"id": 12, "image_id": 5, "caption": "of one that was left out"},
            null
        ]}"#;
        let root = folder(annotations)?;
        let dataset = CocoCaptions::open(root.path(), Split::Val)?;
        assert_eq!(
            dataset.captions(0)?,
            ["text for a number", "a fraction"],
            "{dataset:?}"
        );
        let second = dataset.sample(1)?;
        assert_eq!((second.image_id, second.file_name.as_str()), (2, "2.png"));
        assert_eq!(
            second.captions,
            ["an own id of no use", "half a pair \u{fffd}"]
        );
        let report = dataset.report();
        assert_eq!(
            counts(&report.skipped),
            [
                ("pictures with an id that is null", 1),
                ("pictures with an id that is too large", 1),
                ("pictures with an id missing", 1),
                (
                    "pictures whose file name does not stay inside the picture folder: an absolute path",
                    1
                ),
                (
                    "pictures whose file name does not stay inside the picture folder: ..",
                    1
                ),
                ("pictures with a file name that is a number", 1),
                ("pictures whose file name is empty", 1),
                ("pictures whose file name is a URL", 1),
                ("pictures with a file name missing", 1),
                ("pictures that are no JSON object", 2),
                ("captions that are NaN or infinite", 1),
                ("captions that are a list", 1),
                ("captions that are a number", 1),
                ("annotations without a caption", 1),
                ("empty captions", 1),
                ("captions with an image_id that is an object", 1),
                ("captions with an image_id that is no whole number", 1),
                ("captions of pictures that were left out", 1),
                ("captions that are no JSON object", 1),
                ("missing pictures", 1),
            ]
        );
        assert_eq!(
            counts(&report.repaired),
            [
                ("picture ids written as text", 1),
                ("file names written with ./ or doubled slashes", 1),
                ("captions' picture ids written as text", 1),
                ("caption ids written as fractions", 1),
                ("captions' picture ids written as fractions", 1),
                (
                    "captions with an id of their own that is text and no number",
                    1
                ),
                ("captions with characters that are no Unicode", 1),
                (
                    "captions with an id of their own that is NaN or infinite",
                    1
                ),
            ]
        );
        let shown = format!("{dataset:?}");
        assert!(
            shown.contains("left out:") && shown.contains("(/abs/1.png)"),
            "{shown}"
        );
        let html = crate::display::Render::render(&dataset);
        assert!(html.html().is_some_and(|html| html.contains("repaired")));
        Ok(())
    }

    #[test]
    fn what_stands_around_the_lists_costs_nothing() -> Outcome {
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        let inside = json!({ "images": images(), "annotations": [{ "id": 1, "image_id": 1, "caption": "one" }] });
        let inside = inside.to_string();
        let inside = inside.trim_start_matches('{');
        for text in [
            format!("\u{feff}{{\"info\": {deep}, {inside}"),
            format!("{{\"info\": Infinity, {inside} trailing garbage }}"),
        ] {
            let root = folder(&text)?;
            let dataset = CocoCaptions::open(root.path(), Split::Val)?;
            assert_eq!((dataset.len(), dataset.captions(0)?.len()), (1, 1));
            let garbage = dataset.report().repaired;
            assert_eq!(
                garbage.len(),
                usize::from(text.contains("garbage")),
                "{garbage:?}"
            );
        }
        assert!(complaint("[{\"image\": 1}]")?.contains("top level is a list"));
        assert!(complaint("{\"images\": {}, \"annotations\": []}")?.contains("is an object"));
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_a_pictures_place_is_left_out() -> Outcome {
        let annotations = json!({ "images": images(), "annotations": [
            { "id": 1, "image_id": 1, "caption": "one" }, { "id": 2, "image_id": 2, "caption": "two" },
        ] });
        let root = folder(&annotations.to_string())?;
        let path = root.path().join("val2017/2.png");
        fs::remove_file(&path)?;
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&path)
                .status()?
                .success()
        );
        let dataset = CocoCaptions::open(root.path(), Split::Val)?;
        assert_eq!(
            counts(&dataset.report().skipped),
            [("pictures in whose place is a named pipe", 1)]
        );
        Ok(())
    }

    #[test]
    fn files_that_are_not_captions_say_what_to_give() -> Outcome {
        let instances = json!({ "images": images(), "annotations": [{ "id": 1, "image_id": 1, "bbox": [0, 0, 1, 1] }] });
        assert!(complaint(&instances.to_string())?.contains("captions_train2017.json"));
        assert!(complaint("{}")?.contains("not a COCO captions file"));
        assert!(complaint("[1, 2")?.contains("captions_val2017.json is not valid"));
        assert!(complaint("")?.contains("captions_val2017.json is not valid"));
        let none_left = json!({ "images": images(), "annotations": [] });
        assert!(complaint(&none_left.to_string())?.contains("lists 2 pictures"));
        let outside =
            json!({ "images": [{ "id": 1, "file_name": "../secret.png" }], "annotations": [] });
        assert!(complaint(&outside.to_string())?.contains("inside the picture folder"));
        let empty = tempfile::tempdir()?;
        let message = CocoCaptions::open(empty.path(), Split::Train)
            .map(|_| ())
            .map_err(|e| e.to_string());
        assert!(
            message.is_err_and(|message| message.contains("captions_train2017.json is not there"))
        );
        Ok(())
    }

    #[test]
    fn a_broken_picture_is_named() -> Outcome {
        let annotations = json!({ "images": images(), "annotations": [{ "id": 1, "image_id": 2, "caption": "two" }] });
        let root = folder(&annotations.to_string())?;
        fs::write(
            root.path().join("val2017/2.png"),
            b"\x89PNG\r\n\x1a\n cut off",
        )?;
        let message = CocoCaptions::open(root.path(), Split::Val)?
            .sample(0)
            .map(|_| ())
            .map_err(|e| e.to_string());
        assert!(message.is_err_and(|message| message.contains("2.png")));
        Ok(())
    }

    #[test]
    fn a_shuffle_is_a_permutation_fixed_by_seed_and_epoch() -> Outcome {
        let root = tempfile::tempdir()?;
        Shapes::new(ShapesConfig {
            image_size: 16,
            ..ShapesConfig::default()
        })?
        .write_coco(root.path(), 40, 1)?;
        let dataset = CocoCaptions::open(root.path(), Split::Train)?;
        let order = dataset.order(5, 0);
        assert_eq!(order, dataset.order(5, 0));
        assert_ne!(order, dataset.order(5, 1));
        assert_ne!(order, dataset.order(6, 0));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..40).collect::<Vec<_>>());
        let ids: Vec<u64> = dataset
            .samples(5, 0)
            .map(|sample| sample.map(|sample| sample.image_id))
            .collect::<Result<_>>()?;
        assert_eq!(
            ids,
            order
                .iter()
                .map(|position| *position as u64 + 1)
                .collect::<Vec<_>>()
        );
        Ok(())
    }
}
