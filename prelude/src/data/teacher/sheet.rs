//! What a teacher that sees no picture is told of it: captions, and boxes with names, as text.

use crate::data::Split;
use crate::data::shapes::{Scene, Shapes, file_name, image_id};
use crate::display::{Facts, facts::shown_by_facts};

/// Something in a picture, in parts of its width and height from the top left.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let sheet = Shapes::new(ShapesConfig::default())?.sheet(Split::Train, 0);
/// let first: &NamedBox = &sheet.boxes[0];
/// assert!(first.name.split(' ').count() == 3); // size, colour, shape
/// assert!(0.0 <= first.left && first.left < first.right && first.right <= 1.0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct NamedBox {
    /// `dog`, `small red circle`.
    pub name: String,
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

/// A picture as text.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let sheet: Sheet = Shapes::new(ShapesConfig::default())?.sheet(Split::Train, 0);
/// println!("{}", sheet.text()); // all that a teacher gets to know of the picture
/// assert_eq!(sheet.captions.len(), 5);
/// assert_eq!(sheet.objects().split(", ").count(), sheet.boxes.len());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Sheet {
    /// The dataset's number for the picture.
    pub image_id: u64,
    /// Its file name inside the dataset's folder.
    pub picture: String,
    /// What people say of it.
    pub captions: Vec<String>,
    /// What is where.
    pub boxes: Vec<NamedBox>,
    /// The whole truth, where it is known: what is written of the picture is judged by it.
    pub scene: Option<Scene>,
}

impl Sheet {
    /// As LLaVA's teacher is told: a caption a line, then a box a line.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let sheet = Shapes::new(ShapesConfig::default())?.sheet(Split::Train, 0);
    /// println!("{}", sheet.text());
    /// assert_eq!(sheet.text().lines().count(), sheet.captions.len() + 1 + sheet.boxes.len());
    /// # Ok(()) }
    /// ```
    pub fn text(&self) -> String {
        let mut lines = self.captions.clone();
        lines.push(String::new());
        lines.extend(self.boxes.iter().map(|of| {
            format!(
                "{}: [{:.3}, {:.3}, {:.3}, {:.3}]",
                of.name, of.left, of.top, of.right, of.bottom
            )
        }));
        lines.join("\n")
    }

    /// The names alone: "small red circle, large blue square".
    pub fn objects(&self) -> String {
        let names: Vec<&str> = self.boxes.iter().map(|of| of.name.as_str()).collect();
        names.join(", ")
    }

    fn facts(&self) -> Facts {
        Facts::new(format!("Sheet of picture {}", self.image_id))
            .fact("picture", &self.picture)
            .fact("text", self.text())
            .fact(
                "can be judged",
                if self.scene.is_some() { "yes" } else { "no" },
            )
    }
}

shown_by_facts!(Sheet);

impl Shapes {
    /// The scene with this number as a teacher is told of it. The picture's name is that of [`Shapes::write_coco`].
    pub fn sheet(&self, split: Split, index: u64) -> Sheet {
        let scene = self.scene(split, index);
        let image_id = image_id(split, index);
        let boxes = scene.objects.iter().map(|object| {
            let (size, colour, shape) = (object.size, object.colour, object.shape);
            let at = |middle: f32, half: f32| f64::from(middle + half).clamp(0.0, 1.0);
            NamedBox {
                name: format!("{} {} {}", size.name(), colour.name(), shape.name()),
                left: at(object.x, -object.half),
                top: at(object.y, -object.half),
                right: at(object.x, object.half),
                bottom: at(object.y, object.half),
            }
        });
        Sheet {
            image_id,
            picture: file_name(image_id),
            captions: self.captions(split, index),
            boxes: boxes.collect(),
            scene: Some(scene),
        }
    }
}
