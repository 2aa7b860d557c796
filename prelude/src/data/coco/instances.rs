//! COCO's `instances_*.json`: what is where in each picture, as boxes with the names of things.
//!
//! `{"images": [{"id", "width", "height"}], "annotations": [{"image_id", "category_id", "bbox": [x, y, w, h], "iscrowd"}],
//! "categories": [{"id", "name"}]}` → [`Instances`]: boxes by picture, in parts of its width and height.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::number;
use crate::data::Captions;
use crate::data::json::{self, Fault, Value, value};
use crate::data::report::CocoReport;
use crate::data::teacher::{NamedBox, Sheet};
use crate::display::facts::debug_by_first_line;
use crate::display::{MimeBundle, Render};
use crate::{Error, Result, files};

/// Longest file that is read: nine times that of COCO's training part.
const MOST_BYTES: u64 = 4 << 30;
/// Boxes that leave their picture by no more than this are cut at its border, in pixels.
const OVER: f64 = 1.0;

/// Boxes with names, by picture. Cheap to clone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("instances-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).ok();
/// # let file = folder.join("instances_val2017.json");
/// # let json = serde_json::json!({
/// #     "images": [{"id": 7, "width": 200, "height": 100}],
/// #     "annotations": [{"image_id": 7, "category_id": 18, "bbox": [50, 25, 100, 50], "iscrowd": 0}],
/// #     "categories": [{"id": 18, "name": "dog"}],
/// # });
/// # use glassbox_prelude::serde_json;
/// # std::fs::write(&file, json.to_string()).ok();
/// let instances = Instances::open(&file)?; // such as instances_val2017.json
/// let dog: &NamedBox = &instances.of(7)[0];
/// assert_eq!((dog.name.as_str(), dog.left, dog.right), ("dog", 0.25, 0.75));
/// assert!(instances.of(8).is_empty());
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Instances {
    source: PathBuf,
    boxes: Arc<HashMap<u64, Vec<NamedBox>>>,
    report: Arc<CocoReport>,
}

impl Instances {
    /// Reads a file like `instances_val2017.json`. Outlines are not read.
    ///
    /// # Errors
    /// `Input` for a file of another kind or without a usable box; `Json` when it is cut off or malformed; `Io`.
    pub fn open(file: impl AsRef<Path>) -> Result<Instances> {
        let source = file.as_ref();
        let bytes = files::read(source, MOST_BYTES)?;
        let lists = json::lists(&bytes).map_err(|fault| match fault {
            Fault::Json(fault) => Error::Json {
                path: source.to_path_buf(),
                source: fault,
            },
            Fault::Kind(words) => not_instances(source, &words),
        })?;
        let categories = json::raw_fields(bytes.trim_ascii(), ["categories"]);
        let categories = categories.and_then(|[raw]| json::elements(raw?));
        let (Some(images), Some(annotations), Some(categories)) =
            (lists.images, lists.annotations, categories)
        else {
            return Err(not_instances(
                source,
                "it has no lists \"images\", \"annotations\" and \"categories\"",
            ));
        };
        let mut reader = Reader::default();
        for raw in categories {
            let shown = shown(raw);
            match category(raw) {
                Ok((id, name)) => drop(reader.names.insert(id, name)),
                Err(kind) => reader.report.skip(&format!("categories {kind}"), &shown),
            }
        }
        for raw in images {
            let shown = shown(raw);
            match size(raw) {
                Ok((id, size)) => drop(reader.sizes.insert(id, size)),
                Err(kind) => reader.report.skip(&format!("pictures {kind}"), &shown),
            }
        }
        for raw in &annotations {
            let shown = shown(raw);
            if let Err(kind) = reader.annotation(raw) {
                reader.report.skip(&kind, &shown);
            }
        }
        let Reader {
            boxes, mut report, ..
        } = reader;
        report.pictures = boxes.len();
        report.captions = boxes.values().map(Vec::len).sum();
        if boxes.is_empty() {
            let why = format!(
                "none of its {} boxes can be used ({report})",
                annotations.len()
            );
            return Err(not_instances(source, &why));
        }
        Ok(Instances {
            source: source.to_path_buf(),
            boxes: Arc::new(boxes),
            report: Arc::new(report),
        })
    }

    /// What was kept, and what was left out: its `captions` are boxes.
    pub fn report(&self) -> &CocoReport {
        &self.report
    }

    /// The boxes of a picture by its id; none for a picture without.
    pub fn of(&self, image_id: u64) -> &[NamedBox] {
        self.boxes.get(&image_id).map_or(&[], Vec::as_slice)
    }

    /// A sheet for each picture of a captions set that has boxes: what a language model is told that writes about pictures without
    /// seeing them.
    ///
    /// # Errors
    /// `Input` when no picture of the set has a box.
    pub fn sheets(&self, captions: &Captions) -> Result<Vec<Sheet>> {
        let mut sheets = Vec::new();
        for position in 0..captions.len() {
            let (image_id, picture) = captions.picture(position)?;
            let boxes = self.of(image_id);
            if !boxes.is_empty() {
                sheets.push(Sheet {
                    image_id,
                    picture: picture.to_string(),
                    captions: captions.captions(position)?,
                    boxes: boxes.to_vec(),
                    scene: None,
                });
            }
        }
        match sheets.is_empty() {
            true => Err(Error::Input(format!(
                "none of the {} pictures of {captions:?} has a box in {}: give the instances file of the same split",
                captions.len(),
                self.source.display()
            ))),
            false => Ok(sheets),
        }
    }
}

#[derive(Default)]
struct Reader {
    names: HashMap<u64, String>,
    /// Width and height in pixels.
    sizes: HashMap<u64, [f64; 2]>,
    boxes: HashMap<u64, Vec<NamedBox>>,
    report: CocoReport,
}

impl Reader {
    /// The error is the kind of boxes that it is of, in the plural.
    fn annotation(&mut self, raw: &[u8]) -> Result<(), String> {
        let [image, category, edges, crowd] =
            json::raw_fields(raw, ["image_id", "category_id", "bbox", "iscrowd"])
                .ok_or("boxes that are no JSON object")?;
        let id = |field: Option<&[u8]>, what: &str| {
            let field = field.map_or(Value::Missing, value);
            number(&field).map_err(|kind| format!("boxes with {what} {kind}"))
        };
        if !matches!(
            crowd.map_or(Value::Missing, value),
            Value::Missing | Value::Number("0")
        ) {
            return Err("boxes around crowds, which do not tell how many".into());
        }
        let (image, _) = id(image, "an image_id")?;
        let (category, _) = id(category, "a category_id")?;
        let size = self.sizes.get(&image);
        let [width, height] = *size.ok_or("boxes of pictures that are not listed")?;
        let name = self.names.get(&category);
        let name = name.ok_or("boxes of a category that is not listed")?;
        let edges = edges.ok_or("boxes without a bbox")?;
        let edges = json::elements(edges).ok_or("boxes whose bbox is no list")?;
        let edges: Option<Vec<f64>> = edges.into_iter().map(float).collect();
        let Some(&[x, y, w, h]) = edges.as_deref() else {
            return Err("boxes whose bbox is not four numbers".into());
        };
        if !(w > 0.0 && h > 0.0) {
            return Err("boxes without an area".into());
        }
        let (right, bottom) = (x + w, y + h);
        if x < -OVER || y < -OVER || right > width + OVER || bottom > height + OVER {
            return Err("boxes that leave their picture".into());
        }
        let part = |at: f64, side: f64| (at / side).clamp(0.0, 1.0);
        self.boxes.entry(image).or_default().push(NamedBox {
            name: name.clone(),
            left: part(x, width),
            top: part(y, height),
            right: part(right, width),
            bottom: part(bottom, height),
        });
        Ok(())
    }
}

fn category(raw: &[u8]) -> Result<(u64, String), String> {
    let [id, name] = json::fields(raw, ["id", "name"]).ok_or("that are no JSON object")?;
    let (id, _) = number(&id).map_err(|kind| format!("with an id {kind}"))?;
    match name {
        Value::Text(name, false) if !name.trim().is_empty() => Ok((id, name.trim().to_string())),
        other => Err(format!("with a name that is {}", other.words())),
    }
}

fn size(raw: &[u8]) -> Result<(u64, [f64; 2]), String> {
    let [id, width, height] =
        json::raw_fields(raw, ["id", "width", "height"]).ok_or("that are no JSON object")?;
    let (id, _) =
        number(&id.map_or(Value::Missing, value)).map_err(|kind| format!("with an id {kind}"))?;
    match (width.and_then(float), height.and_then(float)) {
        (Some(width), Some(height)) if width > 0.0 && height > 0.0 => Ok((id, [width, height])),
        _ => Err("without a width and a height, by which boxes are measured".into()),
    }
}

fn float(raw: &[u8]) -> Option<f64> {
    match value(raw) {
        Value::Number(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(&raw[..raw.len().min(200)]).into_owned()
}

fn not_instances(path: &Path, why: &str) -> Error {
    Error::Input(format!(
        "{} is not a COCO instances file: {why}; give one like instances_train2017.json, whose annotations have \"bbox\" and \
         \"category_id\"",
        path.display()
    ))
}

impl Render for Instances {
    fn render(&self) -> MimeBundle {
        let report = self.report.to_string().replace(" captions", " boxes");
        let bundle = MimeBundle::text(format!("Instances({}: {report})", self.source.display()));
        match self.report.skipped.is_empty() {
            true => bundle,
            false => bundle.with_html(self.report.render().html().unwrap_or_default()),
        }
    }
}

debug_by_first_line!(Instances);

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    fn open(text: &str) -> std::result::Result<Result<Instances>, std::io::Error> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("instances_val2017.json");
        std::fs::write(&path, text)?;
        Ok(Instances::open(&path))
    }

    #[test]
    fn one_bad_box_costs_itself_and_is_counted_by_its_kind() -> Outcome {
        let annotations = [
            r#"{"image_id": 1, "category_id": 18, "bbox": [10, 20, 50.5, 20], "iscrowd": 0, "segmentation": [[1, 2]]}"#,
            r#"{"image_id": 1, "category_id": 18, "bbox": [0, 0, 100.5, 50], "iscrowd": 0}"#,
            r#"{"image_id": 1, "category_id": 18, "bbox": [10, 20, 50, 20], "iscrowd": 1}"#,
            r#"{"image_id": 2, "category_id": 18, "bbox": [10, 20, 50, 20]}"#,
            r#"{"image_id": 1, "category_id": 3, "bbox": [10, 20, 50, 20]}"#,
            r#"{"image_id": 1, "category_id": 18, "bbox": [10, 20, 0, 20]}"#,
            r#"{"image_id": 1, "category_id": 18, "bbox": [60, 20, 50, 20]}"#,
            r#"{"image_id": 1, "category_id": 18, "bbox": [60, 20, 50]}"#,
            r#"{"image_id": 1, "category_id": 18, "bbox": "all"}"#,
            r#"{"image_id": 1, "category_id": 18}"#,
            r#"{"image_id": null, "category_id": 18, "bbox": [1, 1, 1, 1]}"#,
            "7",
        ];
        let text = format!(
            r#"{{"images": [{{"id": 1, "width": 100, "height": 50}}, {{"id": 3}}],
              "categories": [{{"id": 18, "name": "dog"}}, {{"id": 19, "name": 5}}], "annotations": [{}]}}"#,
            annotations.join(",")
        );
        let instances = open(&text)??;
        let boxes = instances.of(1);
        assert_eq!(boxes.len(), 2, "{instances:?}");
        let first = &boxes[0];
        assert_eq!(
            (
                first.name.as_str(),
                first.left,
                first.top,
                first.right,
                first.bottom
            ),
            ("dog", 0.1, 0.4, 0.605, 0.8)
        );
        assert_eq!(boxes[1].right, 1.0, "cut at the border");
        let report = instances.report();
        assert_eq!(report.skipped_count(), 12, "{report}");
        for words in [
            "around crowds",
            "not listed",
            "without an area",
            "leave their picture",
            "not four numbers",
            "no list",
            "without a bbox",
            "image_id that is null",
            "no JSON object",
            "without a width",
            "name that is a number",
        ] {
            assert!(report.to_string().contains(words), "{words}: {report}");
        }
        Ok(())
    }

    #[test]
    fn other_files_say_what_to_give_and_captions_do_not_take_instances() -> Outcome {
        for text in [
            r#"{"images": [{"id": 1, "width": 9, "height": 9}], "annotations": [{"image_id": 1, "id": 1, "caption": "a cat"}]}"#,
            r#"{"images": [], "annotations": [], "categories": []}"#,
            "[]",
        ] {
            let error = open(text)?.map(|_| ()).expect_err(text).to_string();
            assert!(error.contains("instances_train2017.json"), "{error}");
        }
        assert!(open("{\"images\": [")?.is_err());
        Ok(())
    }
}
