//! A set that is written in a cell: pictures and captions that are values already.

use std::sync::Arc;

use super::captions::Captions;
use super::store::{Builder, Pictures};
use crate::Result;
use crate::train::PictureFile;
use crate::vision::Image;

struct Images(Vec<Image>);

impl Pictures for Images {
    fn load(&self, number: usize) -> Result<Image> {
        Ok(self.0[number].clone())
    }

    fn file(&self, _: usize) -> Option<PictureFile> {
        None
    }
}

impl Captions {
    /// Pictures with their captions, for training, evaluation and everything else that takes a COCO folder.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let set = Captions::of_images([
    ///     (Image::filled(64, 64, [214, 40, 40])?, vec!["all red", "a red picture"]),
    ///     (Image::filled(64, 64, [38, 84, 205])?, vec!["all blue"]),
    /// ])?;
    /// assert_eq!(set.sample(1)?.captions, ["all blue"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` when no picture has a caption.
    pub fn of_images<S: AsRef<str>>(
        samples: impl IntoIterator<Item = (Image, Vec<S>)>,
    ) -> Result<Captions> {
        let mut builder = Builder::default();
        let mut images = Vec::new();
        for (number, (image, captions)) in samples.into_iter().enumerate() {
            let name = format!("picture {number}");
            let place = builder.picture(number as u64, &name);
            images.push(image);
            for caption in captions {
                builder.written(place, caption.as_ref(), &name);
            }
        }
        let store = builder.of_pictures("Captions", "memory".into(), Arc::new(Images(images)));
        Captions::unless_empty(
            store,
            "give pictures with captions, as in Captions::of_images([(image, vec![\"a cat\"])])",
        )
    }
}
